"""The card as an Applied Model Card of the Coalition for Health AI, version 0.2 of its XML schema (https://mc.chai.org)."""

from __future__ import annotations

import json
import re
from typing import Final
from xml.etree import ElementTree as ET

from healthpredict.evaluation.interval import Interval
from healthpredict.reporting.model_card.card import ModelCard

NAMESPACE: Final = "https://mc.chai.org/v0.2/schema.xsd"
_NOT_STATED: Final = "Not stated in governance.yaml."
_NOT_IN_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow."""
Results = list[tuple[str, object]]
"""Label and value of each result."""


def as_chai_xml(card: ModelCard) -> bytes:
    """Render the card as an Applied Model Card, in UTF-8. The schema prescribes the order of the elements."""
    root = ET.Element(_tag("AppliedModelCard"))
    stated, release = card.governance, card.governance.release
    _add(
        root,
        "BasicInfo",
        ModelName=f"{card.name} (version {card.version})",
        ModelDeveloper=stated.developer.name,
        DeveloperContact=stated.developer.contact,
    )
    info = _add(
        root,
        "ReleaseInfo",
        ReleaseStage=release.stage or card.status,
        ReleaseDate=f"{card.trained_at:%Y-%m-%d}",
        ReleaseVersion=str(card.version),
        GlobalAvailability=release.availability,
    )
    if release.ehr:
        _add(info, "EHRCompatibility", EHR=release.ehr)
    _optional(info, RegulatoryApproval=release.regulatory)
    summary = _add(root, "ModelSummary", Summary=card.summary)
    keywords = _add(summary, "Keywords")
    for word in ("hospital readmission", "diabetes", "risk prediction", card.family.replace("_", " ")):
        _text(keywords, "Keyword", word)
    _add(
        root,
        "UsesAndDirections",
        IntendedUseAndWorkflow=stated.use.intended_use,
        PrimaryIntendedUsers=stated.use.users,
        HowToUse=_joined(stated.use.how_to_use, stated.use.decision_role),
        TargetedPatientPopulation=stated.use.patients,
        CautionedOutOfScopeSettings=stated.use.out_of_scope,
    )
    _add(
        root,
        "Warnings",
        KnownRisksAndLimitations=_joined(stated.risks.known_risks, *card.limits),
        KnownBiasesOrEthicalConsiderations=_joined(stated.risks.ethics, stated.fairness.inequalities),
        ClinicalRiskLevel=stated.risks.clinical_risk_level,
    )
    trust = _add(root, "TrustIngredients")
    answers = {one.number: one.text for one in card.attributes}  # by number of the HTI-1 attribute
    system = _add(
        trust,
        "AISystemFacts",
        OutcomesAndOutputs=card.summary,
        ModelType=card.methods[0],
        InputDataSource=_joined(stated.data.setting, stated.data.dates),
        OutputAndInputDataTypes=f"{answers[3]} Inputs: {', '.join(card.data.columns)}.",
        DevelopmentDataCharacterization=_joined(answers[11], answers[13], answers[14]),
        BiasMitigationApproaches=_joined(stated.fairness.approach, stated.fairness.bias_management),
        OngoingMaintenance=_joined(*card.maintenance, stated.maintenance.review),
    )
    _optional(system, Security=release.security, Transparency=_provenance(card))
    transparency = _add(trust, "TransparencyInformation", FundingSource=stated.developer.funding)
    _optional(transparency, ThirdPartyInformation=release.third_parties)
    _text(transparency, "StakeholdersConsulted", stated.study.stakeholders)
    metrics = _add(root, "KeyMetrics")
    _metric(
        metrics,
        card,
        "UsefulnessUsabilityEfficacy",
        goal="Find the patients who return",
        results=_usefulness(card),
        interpretation=answers[21],
    )
    _metric(
        metrics,
        card,
        "FairnessEquity",
        goal="Serve all groups of patients equally well",
        results=_fairness(card),
        interpretation=answers[22],
    )
    _metric(
        metrics,
        card,
        "SafetyReliability",
        goal="Give risks that agree with outcomes",
        results=_safety(card),
        interpretation=answers[27],
    )
    resources = _add(root, "Resources")
    _optional(
        resources,
        EvaluationReferences=stated.external_validation.outcome_studies,
        ClinicalTrial=release.clinical_trial,
    )
    _text(resources, "PeerReviewedPublications", release.publications)
    _optional(resources, ReimbursementStatus=release.reimbursement)
    _text(resources, "PatientConsentOrDisclosure", release.patient_disclosure)
    source = card.data.prepared.source if card.data.prepared else ""
    _text(root, "Bibliography", _joined(f"Data: {source}." if source else "", release.publications))
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True, default_namespace=NAMESPACE))


def _metric(
    parent: ET.Element, card: ModelCard, name: str, *, goal: str, results: Results, interpretation: str
) -> None:
    found = card.test.evaluation
    metric = _add(parent, name, MetricGoal=goal)
    listed = _add(metric, "Results")
    for label, value in results:
        _add(listed, "MetricResult", Label=label, ValueJson=json.dumps(value))
    _text(metric, "Interpretation", interpretation)
    _text(metric, "TestType", "Internal evaluation on patients that no training has seen")
    data = f"{found.rows:,} encounters of {found.patients:,} patients of the same source as the training data"
    _text(metric, "TestingDataDescription", data)
    _text(metric, "ValidationProcessAndJustification", card.methods[-1])


def _usefulness(card: ModelCard) -> Results:
    test, found = card.test, card.test.evaluation
    results: Results = [
        ("AUROC", _value(found.auroc)),
        ("Average precision", _value(found.auprc)),
        ("AUROC of the number of inpatient visits alone", _value(test.baseline_auroc)),
        ("Share flagged", test.alert_rate),
        ("Sensitivity", test.sensitivity),
    ]
    if test.decision_curve is not None:
        own = test.decision_curve.at_threshold
        results.append(("Net benefit at the threshold", _value(own.net_benefit)))
        if own.ppv is not None:
            results.append(("Positive predictive value", _value(own.ppv)))
    return results


def _fairness(card: ModelCard) -> Results:
    results: Results = []
    for group in card.test.subgroups:
        name = f"{group.column} {group.value}"
        results.append((f"AUROC, {name}", _value(group.auroc)))
        results.append((f"Mean risk minus readmitted share, {name}", _value(group.calibration_in_the_large)))
    return results or [("Groups with enough encounters to be evaluated", 0)]


def _safety(card: ModelCard) -> Results:
    found = card.test.evaluation
    results: Results = [
        ("Mean risk minus readmitted share", _value(found.calibration_in_the_large)),
        ("Calibration slope", _value(found.calibration_slope)),
        ("Expected calibration error", found.ece),
        ("Brier score", _value(found.brier)),
    ]
    if card.monitoring is not None and card.monitoring.delivered is not None:
        used = card.monitoring.delivered
        results.append(("In use: batches with known outcomes", used.batches))
        results.append(("In use: mean AUROC", used.auroc))
        results.append(("In use: mean absolute difference of mean risk and readmitted share", used.absolute_offset))
    return results


def _value(interval: Interval) -> dict[str, float]:
    return interval.model_dump()


def _provenance(card: ModelCard) -> str:
    commit = f" Code: commit {card.git_commit}." if card.git_commit else ""
    digest = f" Bundle: sha256 {card.bundle_digest}." if card.bundle_digest else ""
    return f"MLflow run {card.run_id}. Training data: sha256 {card.data_digest}.{commit}{digest}"


def _add(parent: ET.Element, name: str, **texts: str) -> ET.Element:
    """Add an element with children that contain text. An empty text becomes a statement that it is missing."""
    element = ET.SubElement(parent, _tag(name))
    for child, text in texts.items():
        _text(element, child, text)
    return element


def _optional(parent: ET.Element, **texts: str) -> None:
    """Add children that contain text, except those without text."""
    for name, text in texts.items():
        if text:
            _text(parent, name, text)


def _text(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, _tag(name)).text = _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text) or _NOT_STATED


def _joined(*texts: str) -> str:
    return "\n".join(text for text in texts if text)


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"
