"""Build a model card from records."""

from __future__ import annotations

from healthpredict.reporting.model_card import sentences
from healthpredict.reporting.model_card.attributes import source_attributes
from healthpredict.reporting.model_card.card import ModelCard, TrainingData
from healthpredict.reporting.model_card.facts import CardFacts
from healthpredict.reporting.model_card.tripod import tripod_items


def build_card(facts: CardFacts) -> ModelCard:
    """Build the model card. Its figures are those of the records; free text is that of governance.yaml."""
    manifest = facts.manifest
    return ModelCard(
        created_at=facts.created_at,
        name=manifest.model_name,
        version=manifest.model_version,
        trained_version=manifest.trained_version,
        bundle_digest=facts.bundle_digest,
        summary=f"Predicts {facts.outcome} for patients with diabetes, at discharge. {sentences.output(facts)}",
        outcome=manifest.outcome,
        family=manifest.family,
        trained_at=manifest.created_at,
        trained_on=manifest.trained_on,
        data_digest=manifest.data_digest,
        git_commit=manifest.git_commit,
        run_id=manifest.run_id,
        recalibration=manifest.recalibration,
        threshold=manifest.threshold,
        promised_alert_rate=facts.promised_alert_rate,
        code_systems=manifest.code_systems,
        data=TrainingData(
            rows=facts.training_rows,
            groups=facts.training_groups,
            columns=facts.columns,
            prepared=facts.prepared,
        ),
        test=manifest.test,
        history=facts.history,
        monitoring=facts.monitoring,
        methods=sentences.methods(facts),
        maintenance=sentences.maintenance(facts),
        limits=sentences.limits(facts),
        governance=facts.governance,
        missing=facts.governance.missing,
        attributes=source_attributes(facts),
        tripod=tripod_items(facts),
    )
