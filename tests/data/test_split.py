"""The split of patients never changes, and has the stated shares."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from healthpredict.data.split import Side, ids_on_side, side_index, side_of, splitmix64, splitmix64_seed

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


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_hash_is_a_permutation(seeds: list[int]) -> None:
    assert splitmix64_seed(splitmix64(np.array(seeds, dtype=np.uint64))).tolist() == seeds


@given(st.sampled_from(range(len(Side))), st.lists(st.integers(0, 2**64 - 1), min_size=1))
def test_ids_made_on_a_side_are_on_it(side: int, bits: list[int]) -> None:
    ids = ids_on_side(np.array([side]), np.array([0, 2**64 - 1, *bits], dtype=np.uint64))
    assert set(side_index(ids.view(np.int64))) == {side}


def test_ids_made_on_a_side_are_anywhere_on_it() -> None:
    """They are as evenly spread as random ids."""
    bits = np.random.default_rng(0).integers(2**64, size=100_000, dtype=np.uint64)
    for side, (low, high) in enumerate(((0, 0.7), (0.7, 0.85), (0.85, 1))):
        hashes = splitmix64(ids_on_side(np.array([side]), bits))
        found, _ = np.histogram(hashes, bins=np.linspace(low, high, 11) * 2.0**64)
        assert np.abs(found / len(bits) - 0.1).max() < 0.005


def test_no_patients_have_no_sides() -> None:
    """An empty batch is not a special case."""
    assert side_of(np.array([], dtype=np.int64)).shape == (0,)
