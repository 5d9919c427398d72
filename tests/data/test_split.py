"""The split of patients never changes, and has the stated shares."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from healthpredict.data.split import Side, side_of, splitmix64

ids = st.integers(min_value=1, max_value=2**63 - 1)


def test_hash_is_splitmix64() -> None:
    """The first outputs for two seeds, as other implementations give them."""
    assert splitmix64(np.array([1234567, 0])).tolist() == [6457827717110365317, 0xE220A8397B1DCDAF]


def test_side_of_a_patient_never_changes() -> None:
    """Literal values: if this fails, patients crossed sides and no model can be compared with an earlier one."""
    sides = {
        8222157: "train",
        55629189: "test",
        86047875: "train",
        82442376: "test",
        42519267: "train",
        4: "train",
        5: "train",
        6: "validation",
        7: "train",
        8: "train",
        9223372036854775807: "train",
    }
    assert side_of(np.array(list(sides))).tolist() == list(sides.values())


@given(st.lists(ids, min_size=1, max_size=20))
def test_side_depends_on_the_id_alone(patients: list[int]) -> None:
    """A patient's side does not depend on the order or on other patients."""
    together = side_of(np.array(patients))
    alone = [side_of(np.array([patient]))[0] for patient in patients]
    assert together.tolist() == alone
    assert set(alone) <= set(Side)


def test_shares_are_70_15_15() -> None:
    """This also holds for consecutive ids, which hospitals assign."""
    sides = side_of(np.arange(1, 200_001))
    for side, share in ((Side.TRAIN, 0.70), (Side.VALIDATION, 0.15), (Side.TEST, 0.15)):
        assert abs(np.mean(sides == side) - share) < 0.005


def test_no_patients_have_no_sides() -> None:
    """An empty batch is not a special case."""
    assert side_of(np.array([], dtype=np.int64)).shape == (0,)
