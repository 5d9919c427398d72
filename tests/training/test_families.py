"""Every family fits, reports its progress, and predicts the same after its export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bundles import as_records
from encoded_hospital import Hospital
from labelled import as_frame

from healthpredict.bundle.build import build_bundle
from healthpredict.bundle.decision_tables import DecisionTables
from healthpredict.bundle.explainer import Explainer
from healthpredict.bundle.manifest import Calibrator
from healthpredict.bundle.model import TOLERANCE, Bundle, GoldenRow
from healthpredict.data.contract import FEATURE_COLUMNS, Kind
from healthpredict.evaluation.metrics import auroc
from healthpredict.features.frame import encode_frame
from healthpredict.training.candidates import Candidate
from healthpredict.training.explain import explainer_of
from healthpredict.training.export import export_onnx
from healthpredict.training.families import FAMILIES, STEPS, Watch, probability
from healthpredict.training.fit import FittedModel
from healthpredict.training.golden import golden_encounters
from healthpredict.training.params import FamilyName, SearchParams

# Small, and in numbers of iterations that do not divide by the steps.
SMALL: dict[str, dict[str, Any]] = {
    "lightgbm": {"n_estimators": 23},
    "xgboost": {"n_estimators": 37},
    "catboost": {"iterations": 19},
    "random_forest": {},
    "logistic_regression": {},
}
each_family = pytest.mark.parametrize("family", FAMILIES)


def params_of(family: FamilyName) -> dict[str, Any]:
    return {**FAMILIES[family].first, **SMALL[family]}


def test_families_are_those_that_can_be_searched() -> None:
    assert set(FAMILIES) == set(SearchParams().families) == set(SMALL)
    assert all(name == family.name for name, family in FAMILIES.items())


@each_family
def test_a_fit_reports_every_step_in_order(hospital: Hospital, family: FamilyName) -> None:
    """The last report is the AUROC of the finished model, which is better than chance."""
    told: list[tuple[int, float]] = []
    watch = Watch(hospital.validation, lambda step, value: told.append((step, value)))
    model = FAMILIES[family].fit(params_of(family), hospital.train, watch, 3)
    assert [step for step, _ in told] == list(range(1, STEPS + 1))
    reached = auroc(hospital.validation.label, probability(model, hospital.validation.features))
    assert told[-1][1] == pytest.approx(reached, abs=1e-6)
    assert reached > 0.55


@each_family
def test_watching_does_not_change_the_model(hospital: Hospital, family: FamilyName) -> None:
    """A search fits with validation data, the final fit without. Parameters and seed must have the same effect in both."""
    watch = Watch(hospital.validation, lambda step, value: None)
    fitted = [FAMILIES[family].fit(params_of(family), hospital.train, w, 3) for w in (watch, None)]
    first, second = (probability(model, hospital.validation.features) for model in fitted)
    assert first == pytest.approx(second, abs=1e-9)


@each_family
def test_search_space_and_first_guess_have_the_same_parameters(family: FamilyName) -> None:
    """The first parameters must lie in the search space, as Optuna requires of points to evaluate."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trial = optuna.create_study().ask({})
    FAMILIES[family].suggest(trial)
    prefix = f"{family}."
    assert {name.removeprefix(prefix) for name in trial.params} == set(FAMILIES[family].first)
    assert all(name.startswith(prefix) for name in trial.params)
    for name, distribution in trial.distributions.items():
        guess = FAMILIES[family].first[name.removeprefix(prefix)]
        assert distribution.low <= guess <= distribution.high


IN_TABLES = ("lightgbm", "xgboost", "catboost")
"""The trees of a forest are too deep, and a linear model has none."""


def edge_cases(training: pd.DataFrame) -> pd.DataFrame:
    """Rows with nothing known, with one count at its minimum or maximum, and with each value of each list."""
    rows: list[dict[str, Any]] = [dict.fromkeys(column.field for column in FEATURE_COLUMNS)]
    usual = as_records(training[[column.field for column in FEATURE_COLUMNS]].head(1))[0]
    for column in FEATURE_COLUMNS:
        if column.kind is Kind.COUNT:
            rows += [usual | {column.field: end} for end in (column.minimum, column.maximum)]
        else:
            rows += [usual | {column.field: value} for value in (column.allowed or ("ZZ", "V99", "777.7", "250"))]
    return as_frame(rows)


def bundle_of(
    fitted: FittedModel, golden: pd.DataFrame, template: Bundle, path: Path, explainer: Explainer | None
) -> Bundle:
    records = as_records(golden)
    rows = [GoldenRow(record, float(risk)) for record, risk in zip(records, fitted.risks(golden), strict=True)]
    manifest = template.manifest.model_dump(exclude={"code_systems", "files"}) | {
        "family": fitted.candidate.family,
        "calibrator": fitted.calibrator,
    }
    onnx_model = export_onnx(fitted.candidate.family, fitted.model, len(fitted.encoder.feature_names))
    return build_bundle(
        path,
        manifest=manifest,
        encoder=fitted.encoder,
        onnx_model=onnx_model,
        reference={},
        golden=rows,
        explainer=explainer,
    )


@each_family
@pytest.mark.parametrize("runtime", ["ONNX", "tables"])
def test_a_bundle_answers_as_the_trained_model(
    hospital: Hospital, bundle: Bundle, family: FamilyName, runtime: str, tmp_path: Path
) -> None:
    """Within 1e-6, through the real bundle: golden rows, training rows, and every edge of the contract."""
    params = dict(FAMILIES[family].first)
    model = FAMILIES[family].fit(params, hospital.train, None, 3)
    candidate = Candidate(family=family, params=params, validation_auroc=0.6, steps=STEPS)
    fitted = FittedModel(candidate, hospital.encoder, model, Calibrator(slope=1.3, intercept=0.4), np.empty(0))
    golden = golden_encounters(hospital.training, 64, seed=1)
    explainer = explainer_of(family, model, hospital.train.features[:1]) if runtime == "tables" else None
    built = bundle_of(fitted, golden, bundle, tmp_path / family, explainer)
    assert isinstance(built.model, DecisionTables) == (explainer is not None and family in IN_TABLES)
    for encounters in (golden, hospital.training, edge_cases(hospital.training)):
        answers = built.risks(encode_frame(built.encoder, encounters))
        assert np.abs(answers - fitted.risks(encounters)).max() <= TOLERANCE
    assert len(set(answers.round(9))) > 5, "the model tells the edges apart"


@each_family
def test_an_exported_model_has_one_input_and_one_output(hospital: Hospital, family: FamilyName) -> None:
    """Any number of rows at once; the two probabilities of a row add up to one."""
    import onnx
    import onnxruntime

    model = FAMILIES[family].fit(params_of(family), hospital.train, None, 3)
    exported = export_onnx(family, model, hospital.train.features.shape[1])
    onnx.checker.check_model(onnx.load_from_string(exported))
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["features"]
    assert [o.name for o in session.get_outputs()] == ["probabilities"]
    for n in (1, 7):
        (both,) = session.run(["probabilities"], {"features": hospital.train.features[:n]})
        assert both.shape == (n, 2)
        assert both.sum(axis=1) == pytest.approx(np.ones(n), abs=1e-5)


@each_family
def test_a_fitted_model_keeps_no_encounters(hospital: Hospital, family: FamilyName) -> None:
    """A model that is kept or sent must not carry the data that it was watched on."""
    import pickle

    watch = Watch(hospital.validation, lambda step, value: None)
    model = FAMILIES[family].fit(params_of(family), hospital.train, watch, 3)
    assert hospital.validation.features.tobytes()[:4000] not in pickle.dumps(model)


def test_a_linear_model_is_exported_in_64_bits(hospital: Hospital) -> None:
    """With hardly any regularisation, its weights and the rounding of their sum are large."""
    from healthpredict.bundle.onnx_model import OnnxModel

    model = FAMILIES["logistic_regression"].fit({"C": 1e4}, hospital.train, None, 0)
    exported = OnnxModel(export_onnx("logistic_regression", model, hospital.train.features.shape[1]))
    features = np.concatenate([hospital.train.features, hospital.validation.features])
    np.testing.assert_allclose(exported.many(features), probability(model, features), atol=5e-7)
