"""The encoder learns the same statistics as scikit-learn, nothing from a row's own outcome, and nothing about few people."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from labelled import LABEL, label_and_fold
from sklearn.preprocessing import TargetEncoder

from healthpredict.data.contract import FEATURE_COLUMNS, Kind
from healthpredict.features.encoder import Encoder
from healthpredict.features.frame import MIN_ROWS, N_FOLDS, SMOOTHING, encode_frame, fit_encoder
from healthpredict.features.record import RecordEncoder
from healthpredict.features.sources import COUNTS, DERIVED_NUMBERS, LEVEL_SOURCES
from healthpredict.training.fit import divisions

HALF_STEP = 0.5 / 1024 + 1e-12
N_NUMBERS = len(COUNTS) + len(DERIVED_NUMBERS)
BY_NAME = {source.name: source for source in LEVEL_SOURCES}


def levels_of(training: pd.DataFrame, name: str) -> pd.Series:
    """The level of each encounter by a source, NaN if missing."""
    source = BY_NAME[name]
    values = training[source.column].astype(object)
    return values.map(source.derive, na_action="ignore") if source.derive else values


def log_odds_of_target_encoder(levels: pd.Series, label: np.ndarray) -> dict[str, float]:
    """Level to the log-odds of scikit-learn's smoothed rate, for levels with enough rows."""
    rows = levels.value_counts()
    reference = TargetEncoder(smooth=SMOOTHING, target_type="binary").fit(levels.fillna("missing").to_frame(), label)
    rate = dict(zip(reference.categories_[0], reference.encodings_[0], strict=True))
    return {str(level): np.log(rate[level] / (1 - rate[level])) for level in rows[rows >= MIN_ROWS].index}


@pytest.mark.parametrize("name", BY_NAME)
def test_statistics_are_those_of_scikit_learn(encoder: Encoder, training: pd.DataFrame, name: str) -> None:
    """TargetEncoder with the same smoothing, as log-odds on the 1/1024 grid, for every level with enough rows."""
    expected = log_odds_of_target_encoder(levels_of(training, name), training[LABEL].to_numpy())
    if len(expected) < 2:
        assert name not in encoder.levels, "a column with one level says nothing"
        return
    assert encoder.levels[name] == tuple(sorted(expected))
    found = [encoder.statistics[name][0][encoder.positions[name][level]] for level in encoder.levels[name]]
    assert found == pytest.approx([expected[level] for level in encoder.levels[name]], abs=HALF_STEP)


def test_statistics_of_pairs_are_those_of_scikit_learn(encoder: Encoder, training: pd.DataFrame) -> None:
    """The same for two levels together, where both are known."""
    compared = 0
    for (a, b), table in encoder.pair_statistics.items():
        together = levels_of(training, a) + " and " + levels_of(training, b)
        expected = log_odds_of_target_encoder(together, training[LABEL].to_numpy())
        for i, first in enumerate(encoder.levels[a]):
            for j, second in enumerate(encoder.levels[b]):
                if (level := f"{first} and {second}") in expected:
                    cell = (i + 1) * encoder.size(b) + j + 1
                    assert table[0][cell] == pytest.approx(expected[level], abs=HALF_STEP), (a, b)
                    compared += 1
    assert compared > 100


def test_rows_are_the_logarithm_of_how_many_encounters_have_a_level(encoder: Encoder, training: pd.DataFrame) -> None:
    """Fewer than 10 encounters count as one, so that the encoder does not tell how few they are."""
    rows = levels_of(training, "medical_specialty").value_counts()
    table = encoder.statistics["medical_specialty"][1]
    expected = [np.log(rows[level]) for level in encoder.levels["medical_specialty"]]
    assert table[1:-1] == pytest.approx(expected, abs=HALF_STEP)
    assert table[0] == pytest.approx(np.log(training["medical_specialty"].isna().sum()), abs=HALF_STEP)
    of_pairs = {value for pair in encoder.pair_statistics.values() for value in pair[1]}
    assert 0 in of_pairs
    assert min(of_pairs - {0}) >= np.log(MIN_ROWS) - HALF_STEP


def test_a_level_or_a_pair_of_few_rows_gets_the_mean(encoder: Encoder, training: pd.DataFrame) -> None:
    """What was not seen, or in fewer than 10 encounters, says as much as no value at all."""
    rate = training[LABEL].mean()
    mean = pytest.approx(np.log(rate / (1 - rate)), abs=HALF_STEP)
    for name, table in encoder.statistics.items():
        other = levels_of(training, name)
        if (~other.isin(encoder.levels[name]) & other.notna()).sum() < MIN_ROWS:
            assert table[0][-1] == mean, name
    a, b = "diag_1.group", "diag_2.group"
    rows = (levels_of(training, a) + "|" + levels_of(training, b)).value_counts()
    for pair in rows[rows < MIN_ROWS].index:
        first, second = pair.split("|")
        if first in encoder.positions[a] and second in encoder.positions[b]:
            cell = encoder.positions[a][first] * encoder.size(b) + encoder.positions[b][second]
            assert encoder.pair_statistics[a, b][0][cell] == mean


def test_each_division_into_folds_gives_the_training_data_once_more(training: pd.DataFrame) -> None:
    """Encoded like with that division alone; the encoder is the same."""
    training = training.head(1500)
    label, first = label_and_fold(training)
    second = divisions(training["patient_id"].to_numpy(), 2)[1]
    encoder, both = fit_encoder(training, label, np.stack([first, second]))
    alone = [fit_encoder(training, label, fold) for fold in (first, second)]
    assert [one for one, _ in alone] == [encoder, encoder]
    assert both.tobytes() == np.concatenate([matrix for _, matrix in alone]).tobytes()
    assert (alone[0][1] != alone[1][1]).any(axis=1).all()


@pytest.mark.parametrize("own", range(N_FOLDS))
def test_no_row_sees_an_outcome_of_its_own_fold(training: pd.DataFrame, own: int) -> None:
    """If all outcomes of one fold are inverted, its own features stay the same and those of all other folds change."""
    training = training.head(1500)
    label, fold = label_and_fold(training)
    _, before = fit_encoder(training, label, fold)
    encoder, after = fit_encoder(training, label ^ (fold == own), fold)
    assert before[fold == own].tobytes() == after[fold == own].tobytes()
    assert (before[fold != own] != after[fold != own]).any(axis=1).all()
    assert (encode_frame(encoder, training) != after)[fold == own].any(), "the finished encoder does know them"


def test_no_encounter_sees_another_outcome_of_its_patient(training: pd.DataFrame) -> None:
    """All encounters of a patient are in one fold, so their outcomes do not change that patient's features."""
    training = training.head(1500)
    label, fold = label_and_fold(training)
    patient = training["patient_id"].mode()[0]
    own = (training["patient_id"] == patient).to_numpy()
    assert own.sum() > 2
    assert len(set(fold[own])) == 1
    _, before = fit_encoder(training, label, fold)
    _, after = fit_encoder(training, label ^ own, fold)
    assert before[own].tobytes() == after[own].tobytes()


def test_fitting_twice_gives_the_same(training: pd.DataFrame, fitted: tuple[Encoder, np.ndarray]) -> None:
    again, matrix = fit_encoder(training, *label_and_fold(training))
    assert again == fitted[0]
    assert matrix.tobytes() == fitted[1].tobytes()


def test_nothing_is_kept_of_fewer_than_ten_encounters(training: pd.DataFrame) -> None:
    """A code of nine encounters is nowhere in the stored encoder; of ten it is."""
    training = training.copy()
    training["payer_code"] = "MC"
    training.loc[training.index[:9], "payer_code"] = "QQ"
    training.loc[training.index[9:19], "payer_code"] = "RR"
    training["diag_1"] = "428"
    # Ten codes of one category: the category is kept, the codes are not.
    training.loc[training.index[:10], "diag_1"] = [f"250.{i}1" for i in range(10)]
    encoder, _ = fit_encoder(training, *label_and_fold(training))
    assert encoder.levels["payer_code"] == ("MC", "RR")
    assert encoder.levels["diag_1.category"] == ("250", "428")
    assert "diag_1" not in encoder.levels
    stored = json.dumps(encoder.to_json())
    assert '"QQ"' not in stored
    assert '"250.91"' not in stored


def test_missing_is_a_level_of_its_own(training: pd.DataFrame) -> None:
    """A missing value has its own rate, not that of rare values; a missing number is replaced by the median."""
    training = training.copy()
    label, fold = label_and_fold(training)
    training.loc[label, "diag_1"] = np.nan
    encoder, _ = fit_encoder(training, label, fold)
    log_odds = encoder.statistics["diag_1"][0]
    assert log_odds[0] > 1
    assert max(log_odds[1:]) < 0
    record = RecordEncoder.of(encoder).encode({"number_inpatient": 2, "number_emergency": 1, "number_outpatient": 4})
    of = dict(zip(encoder.feature_names, record.tolist(), strict=True))
    assert of["time_in_hospital"] == training["time_in_hospital"].median()
    assert of["prior_visits"] == 7
    assert of["medications_given"] == of["medications_changed"] == 0


def test_derived_numbers_count_what_they_say(encoder: Encoder) -> None:
    """Midpoint of the age band, drugs given, and drugs whose dose went up or down."""
    record = RecordEncoder.of(encoder).encode(
        {"age": "[70-80)", "insulin": "Up", "metformin": "Down", "glipizide": "Steady"}
    )
    of = dict(zip(encoder.feature_names, record.tolist(), strict=True))
    assert (of["age_years"], of["medications_given"], of["medications_changed"]) == (75, 3, 2)


def test_features_are_made_from_feature_columns_alone(training: pd.DataFrame, encoder: Encoder) -> None:
    """Identifiers and outcomes are not needed and have no influence."""
    features = training[[column.field for column in FEATURE_COLUMNS]]
    other = training.assign(encounter_id=0, patient_id=7, **{LABEL: False})
    assert encode_frame(encoder, features).tobytes() == encode_frame(encoder, other).tobytes()
    assert {source.column for source in LEVEL_SOURCES} | set(COUNTS) == {column.field for column in FEATURE_COLUMNS}
    assert all(column.kind not in (Kind.ID, Kind.OUTCOME) for column in FEATURE_COLUMNS)


def test_statistics_stay_finite_when_one_fold_holds_every_readmission(training: pd.DataFrame) -> None:
    """The other folds then have none. A rate of zero has infinite log-odds, which some families reject."""
    training = training.head(200)
    _, fold = label_and_fold(training)
    label = (fold == 0) & (np.arange(200) % 2 == 0)
    encoder, crossed = fit_encoder(training, label, fold)
    assert np.isfinite(crossed).all()
    assert np.isfinite(encode_frame(encoder, training)).all()
