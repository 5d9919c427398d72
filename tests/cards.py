"""Records that a model card is built from: made up, small, and different in every figure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from summaries import DATA

from healthpredict.bundle.manifest import Calibrator, CodeSystem, Manifest
from healthpredict.data.diagnosis import Coding
from healthpredict.evaluation.decision_curve import decision_curve
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.metrics import evaluate
from healthpredict.evaluation.report import Subgroup, TestReport
from healthpredict.evaluation.subgroups import GroupMetric
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.subgroups import SubgroupDrift
from healthpredict.reporting.model_card.build import build_card
from healthpredict.reporting.model_card.card import BatchPerformance, History, ModelCard, Monitoring
from healthpredict.reporting.model_card.facts import CardFacts
from healthpredict.reporting.model_card.governance import Governance
from healthpredict.reporting.summary import DeliveredPerformance
from healthpredict.training.gate import GateDecision
from healthpredict.training.params import PromotionPolicy

TIME = datetime(2026, 11, 2, 8, 30, tzinfo=UTC)


def interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.02, high=value + 0.02)


def report() -> TestReport:
    rng = np.random.default_rng(3)
    risk = rng.beta(2, 14, 2000)
    label = rng.random(2000) < risk
    patient = np.arange(2000)
    return TestReport(
        evaluation=evaluate(label, risk, patient, n_bootstrap=20),
        baseline_auroc=interval(0.6123),
        threshold=0.1875,
        alert_rate=0.2034,
        sensitivity=0.4321,
        subgroups=(
            Subgroup(column="gender", value="Female", rows=1107, auroc=interval(0.7012), calibration_in_the_large=interval(0.001)),
            Subgroup(column="age", value="[80-90)", rows=893, auroc=interval(0.5113), calibration_in_the_large=interval(0.0431)),
            Subgroup(column="payer_code", value="<b>MC", rows=911, auroc=interval(0.6604), calibration_in_the_large=interval(0.0)),
        ),
        decision_curve=decision_curve(
            label, risk, rng.poisson(1, 2000) * 1.0, patient, threshold=0.1875, n_bootstrap=20
        ),
    )  # fmt: skip


MANIFEST = Manifest(
    model_name="readmission",
    model_version=7,
    family="lightgbm",
    outcome="within_30_days",
    trigger="batch-03",
    trained_on=("initial", "batch-01"),
    data_digest="d" * 64,
    git_commit="c" * 40,
    run_id="run-of-7",
    created_at=datetime(2026, 11, 1, tzinfo=UTC),
    threshold=0.1875,
    calibrator=Calibrator(slope=0.987, intercept=-0.123),
    test=report(),
    code_systems=(
        CodeSystem(name=Coding.ICD9, source="the training data"),
        CodeSystem(name=Coding.ICD10, source="CMS", date="2016"),
    ),
    files={},
)
MEASURED = GroupMetric(value=interval(0.3777), gap=interval(-0.13), p_value=0.005)
MONITORING = Monitoring(
    batches=(
        BatchPerformance(
            name="batch-04",
            time="2026-11-02T00:00:00Z",
            rows=8123,
            decision="stable",
            auroc=0.6543,
            offset=0.0087,
            alert_rate=0.2111,
            unknown_diagnoses={"diag_1": 41, "diag_2": 2},
        ),
    ),
    delivered=DeliveredPerformance(
        batches=1,
        auroc=0.6543,
        auroc_frozen=0.64,
        absolute_offset=0.0087,
        worst_offset=0.0087,
        alert_rate_error=0.01,
        highest_alert_rate=0.2111,
    ),
    checked="batch-05",
    subgroups=(
        SubgroupDrift(
            column="age",
            value="[90-100)",
            rows=900,
            risk=0.1,
            reference_risk=0.1,
            known_rows=800,
            metrics={"sensitivity": MEASURED},
            alarm="the sensitivity is low",
        ),
    ),
    alarms=("For age [90-100), the sensitivity is low.",),
)
HISTORY = History(
    gate=GateDecision(
        promote=True, reasons=("It is better.",), rows=5432, auroc=0.66, champion_auroc=0.65, difference=interval(0.01)
    ),
    promoted_at=("2026-11-01T12:00:00Z",),
    in_service=True,
)


def stated(text: str = "A statement about {}.") -> Governance:
    """A governance.yaml in which every text is stated."""
    parts: dict[str, Any] = {
        part: {name: text.format(f"{part}.{name}") for name in field.annotation.model_fields}  # type: ignore[union-attr]
        for part, field in Governance.model_fields.items()
    }
    return Governance.model_validate(parts)


def facts(**changed: Any) -> CardFacts:
    values: dict[str, Any] = {
        "created_at": TIME,
        "manifest": MANIFEST,
        "bundle_digest": "b" * 64,
        "columns": ("race", "gender", "age", "number_inpatient"),
        "profile": None,
        "prepared": DATA,
        "governance": Governance(),
        "promised_alert_rate": 0.2,
        "drift": DriftPolicy(),
        "promotion": PromotionPolicy(),
        "label_delay": 1,
        "history": HISTORY,
        "monitoring": MONITORING,
    }
    return CardFacts(**(values | changed))


def card(**changed: Any) -> ModelCard:
    return build_card(facts(**changed))
