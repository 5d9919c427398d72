"""Where the card reports the items of TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378, doi 10.1136/bmj-2023-078378)."""

from __future__ import annotations

from healthpredict.reporting.model_card.card import TripodItem
from healthpredict.reporting.model_card.facts import CardFacts

_SECTIONS = (
    (2, "Title and abstract"),
    (4, "Introduction"),
    (17, "Methods"),
    (18, "Open science"),
    (19, "Patient and public involvement"),
    (24, "Results"),
    (27, "Discussion"),
)
"""The last item of each section, and its heading."""
_NOT_STATED = "the hospital has not stated it in governance.yaml: "
_IN_USE = "no outcomes of encounters that this version predicted are known yet"


def tripod_items(facts: CardFacts) -> tuple[TripodItem, ...]:
    """Return every item, with the part of the card that reports it, or the reason why none does."""
    return tuple(
        TripodItem(number=number, section=_section(number), topic=topic, where=where, why=None if where else why)
        for number, topic, where, why in _items(facts)
    )


def _section(number: str) -> str:
    item = int(number.rstrip("abcdefg"))
    return next(heading for last, heading in _SECTIONS if item <= last)


def _items(facts: CardFacts) -> list[tuple[str, str, str | None, str]]:
    """Return number, topic, where it is reported, and why not, in the order of the checklist."""
    stated, study = facts.governance, facts.governance.study
    registry = "the system has no record of it"
    known = facts.monitoring is not None and facts.monitoring.delivered is not None

    def said(text: str, field: str, where: str | None = None) -> tuple[str | None, str]:
        return (where or f"governance: {field}") if text else None, _NOT_STATED + field

    def always(where: str) -> tuple[str, str]:
        return where, ""

    return [
        ("1", "Title: model, population and outcome", *always("Heading")),
        ("2", "Abstract", *always("Summary and key figures")),
        ("3a", "Healthcare context and rationale", *said(stated.use.intended_use, "use.intended_use", "Intended use")),
        ("3b", "Target population, purpose and users", *said(stated.use.patients, "use.patients", "Intended use")),
        ("3c", "Known health inequalities", *said(stated.fairness.inequalities, "fairness.inequalities")),
        ("4", "Objectives: development, evaluation or both", *always("Summary (development and evaluation)")),
        ("5a", "Sources of data", *said(stated.data.setting, "data.setting", "Data")),
        ("5b", "Dates of the data", *said(stated.data.dates, "data.dates", "Data")),
        ("6a", "Setting", *said(stated.data.setting, "data.setting", "Data")),
        ("6b", "Eligibility criteria", *always("HTI-1 attribute 11")),
        ("6c", "Treatments", *said(stated.data.treatments, "data.treatments")),
        ("7", "Data preparation and quality checks", *always("Data; HTI-1 attribute 11")),
        ("8a", "Outcome and time horizon", *always("Summary")),
        ("8b", "Assessors of a subjective outcome", None, "readmission is recorded by administration and not judged"),
        ("8c", "Blinded assessment of the outcome", None, "readmission is recorded by administration and not judged"),
        (
            "9a",
            "Choice of initial predictors",
            *always("Data: all columns of the contract that are known at discharge"),
        ),
        ("9b", "Definition of predictors", *always("Data; `healthpredict columns` prints the contract")),
        (
            "9c",
            "Assessors of subjective predictors",
            None,
            "predictors are routine records; who made them is not recorded",
        ),
        ("10", "Sample size", *always("Data; Performance: number of encounters")),
        ("11", "Missing data", *always("Methods")),
        ("12a", "Use and partition of the data", *always("Methods")),
        ("12b", "Handling of predictors", *always("Methods")),
        ("12c", "Model, building steps, tuning, internal validation", *always("Methods")),
        ("12d", "Heterogeneity between hospitals", None, "the data contract has no column for the hospital"),
        ("12e", "Measures of performance", *always("Performance")),
        ("12f", "Model updating", *always("Monitoring and updates")),
        ("12g", "How predictions are calculated", *always("Methods: the bundle with the digest at the top")),
        ("13", "Class imbalance", *always("Methods: none was corrected, so that risks stay calibrated")),
        ("14", "Approaches to fairness", *said(stated.fairness.approach, "fairness.approach", "HTI-1 attribute 15")),
        ("15", "Output and threshold", *always("Summary; HTI-1 attribute 3")),
        ("16", "Differences between training and evaluation data", *always("Performance: other patients, same source")),
        ("17", "Ethical approval", *said(study.ethics_approval, "study.ethics_approval")),
        ("18a", "Funding", *said(stated.developer.funding, "developer.funding", "HTI-1 attribute 2")),
        ("18b", "Conflicts of interest", *said(study.conflicts, "study.conflicts")),
        ("18c", "Protocol", *said(study.protocol, "study.protocol")),
        ("18d", "Registration", *said(study.registration, "study.registration")),
        ("18e", "Data sharing", *said(study.data_sharing, "study.data_sharing")),
        ("18f", "Code sharing", *said(study.code_sharing, "study.code_sharing")),
        ("19", "Patient and public involvement", *said(study.stakeholders, "study.stakeholders")),
        ("20a", "Flow of participants", "Data" if facts.prepared else None, registry),
        ("20b", "Characteristics of participants", "Data" if facts.profile else None, registry),
        (
            "20c",
            "Comparison with the development data",
            "Monitoring and updates" if facts.monitoring else None,
            _IN_USE,
        ),
        ("21", "Participants and events of each analysis", *always("Performance")),
        ("22", "Full model", *always("The bundle: model in ONNX, encoder and calibrator as data")),
        ("23a", "Performance with intervals, also in subgroups", *always("Performance; Groups of patients")),
        (
            "23b",
            "Heterogeneity of performance between hospitals",
            None,
            "the data contract has no column for the hospital",
        ),
        ("24", "Results of updating", "Monitoring and updates" if known else None, _IN_USE),
        ("25", "Interpretation, also of fairness", *always("Known limits")),
        ("26", "Limitations", *always("Known limits")),
        ("27a", "Poor or missing input data in use", *always("Methods: missing data")),
        ("27b", "Interaction and expertise of users", *said(stated.use.how_to_use, "use.how_to_use", "Intended use")),
        ("27c", "Next steps", *said(study.next_steps, "study.next_steps")),
    ]
