"""The records that a model card is built from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from healthpredict.bundle.manifest import Manifest
from healthpredict.data.prepared import PreparedData
from healthpredict.evaluation.report import TestReport
from healthpredict.monitoring.params import DriftPolicy
from healthpredict.monitoring.profile import ColumnProfile, ReferenceProfile
from healthpredict.reporting.model_card.card import History, Monitoring
from healthpredict.reporting.model_card.governance import Governance
from healthpredict.training.params import PromotionPolicy

GROUP_COLUMNS = ("gender", "race", "age")
"""Columns whose groups the card shows."""


@dataclass(frozen=True)
class CardFacts:
    """The records that a model card is built from.

    Attributes:
        created_at: in UTC.
        manifest: of the bundle.
        bundle_digest: None while the bundle is being built.
        columns: columns of the contract that the model uses, in the contract's order.
        profile: the reference profile of the bundle, or None if it has none.
        prepared: the data set, or None if nothing was prepared here.
        governance: what the hospital states.
        promised_alert_rate: share of encounters (0-1) that the threshold is to flag.
        drift: limits of monitoring.
        promotion: limits of the gate.
        label_delay: batches after which outcomes are known.
        history: what the ledger records.
        monitoring: None while the bundle is being built.
    """

    created_at: datetime
    manifest: Manifest
    bundle_digest: str | None
    columns: tuple[str, ...]
    profile: ReferenceProfile | None
    prepared: PreparedData | None
    governance: Governance
    promised_alert_rate: float
    drift: DriftPolicy
    promotion: PromotionPolicy
    label_delay: int
    history: History
    monitoring: Monitoring | None = None

    @property
    def test(self) -> TestReport:
        """The evaluation on patients that the model was not trained on."""
        return self.manifest.test

    @property
    def outcome(self) -> str:
        """What is predicted, for sentences."""
        return {
            "within_30_days": "readmission within 30 days of discharge",
            "any": "any later readmission",
        }.get(self.manifest.outcome, self.manifest.outcome)

    @property
    def training_rows(self) -> int | None:
        """Number of training encounters, or None without a profile."""
        return next((column.rows for column in self.profile.columns.values()), None) if self.profile else None

    @property
    def training_groups(self) -> dict[str, dict[str, float]]:
        """Column of `GROUP_COLUMNS` -> value -> share (0-1) of the training encounters; empty without a profile."""
        found = {name: self.profile.columns.get(name) for name in GROUP_COLUMNS} if self.profile else {}
        return {name: _shares(name, column) for name, column in found.items() if column is not None}


def _shares(name: str, column: ColumnProfile) -> dict[str, float]:
    """Return value -> share, ages from the youngest, other values from the most frequent."""
    counts = sorted(column.counts.items()) if name == "age" else Counter(column.counts).most_common()
    return {value: count / column.rows for value, count in counts if count}
