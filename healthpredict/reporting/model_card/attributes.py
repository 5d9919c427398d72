"""The 31 source attributes of ONC's HTI-1 final rule for predictive decision support: 45 CFR 170.315(b)(11)(iv)(B)."""

from __future__ import annotations

from typing import Final

from healthpredict.reporting.model_card import figures, sentences
from healthpredict.reporting.model_card.card import Attribute, Source
from healthpredict.reporting.model_card.facts import CardFacts

GROUPS: Final = (
    ("Details and output", 4),
    ("Purpose", 4),
    ("Cautioned out-of-scope use", 2),
    ("Development details and input features", 4),
    ("Process used to ensure fairness in development", 2),
    ("External validation process", 4),
    ("Quantitative measures of performance", 5),
    ("Ongoing maintenance of implementation and use", 4),
    ("Update and continued validation or fairness assessment schedule", 2),
)
"""Heading of each paragraph of (iv)(B), and its number of attributes."""
_ROMAN: Final = ("i", "ii", "iii", "iv", "v")


def source_attributes(facts: CardFacts) -> tuple[Attribute, ...]:
    """Return the 31 source attributes in the order of the regulation."""
    answers = iter(_answers(facts))
    found: list[Attribute] = []
    for paragraph, (group, size) in enumerate(GROUPS, 1):
        for roman in _ROMAN[:size]:
            name, source, text = next(answers)
            found.append(
                Attribute(
                    number=len(found) + 1,
                    paragraph=f"({paragraph})({roman})",
                    group=group,
                    name=name,
                    text=text or "Not available: not stated in governance.yaml.",
                    source=source,
                    provided=bool(text),
                )
            )
    assert next(answers, None) is None
    return tuple(found)


def _answers(facts: CardFacts) -> list[tuple[str, Source, str]]:
    """Return name, source and text of each attribute, in order. The text is empty if the hospital has not stated it."""
    stated, maintenance = facts.governance, sentences.maintenance(facts)
    developer, external = stated.developer, stated.external_validation
    no_external = "" if external.source else "None: no external validation is recorded in governance.yaml."
    not_yet = "Not known yet: no outcomes of encounters that this version predicted are known."
    validity = figures.local_validity(facts.monitoring)
    no_groups = "Not known yet: no group of patients has enough known outcomes." if validity else not_yet
    return [
        ("Name and contact information of the developer", "hospital", _joined(developer.name, developer.contact)),
        ("Funding source of the technical implementation", "hospital", developer.funding),
        ("Value that is produced as output", "system", sentences.output(facts)),
        ("Type of output", "system", "Prediction: a probability, and a flag at a threshold."),
        ("Intended use", "hospital", stated.use.intended_use),
        ("Intended patient populations", "hospital", stated.use.patients),
        ("Intended users", "hospital", stated.use.users),
        ("Intended decision-making role", "hospital", stated.use.decision_role),
        ("Tasks, situations or populations to be cautious with", "hospital", stated.use.out_of_scope),
        (
            "Known risks, inappropriate settings or uses, known limitations",
            "both",
            stated.risks.known_risks and _joined(stated.risks.known_risks, *sentences.limits(facts)),
        ),
        ("Exclusion and inclusion criteria of the training data", "system", sentences.excluded()),
        (
            "Use of race, ethnicity, language, sexual orientation, gender identity, sex, date of birth, social determinants of "
            "health and health status assessments as input features",
            "system",
            sentences.sensitive_inputs(facts),
        ),
        ("Demographic representativeness of the training data", "system", figures.representation(facts)),
        (
            "Relevance of the training data to the deployed setting",
            "both",
            stated.data.relevance and _joined(stated.data.relevance, figures.training_data(facts)),
        ),
        (
            "Approach to ensure that the output is fair",
            "both",
            stated.fairness.approach and _joined(stated.fairness.approach, maintenance.replacement),
        ),
        ("Approaches to manage, reduce or eliminate bias", "hospital", stated.fairness.bias_management),
        ("Source, setting or environment of external validation", "hospital", external.source or no_external),
        ("Party that conducted the external testing", "hospital", external.party or no_external),
        ("Demographic representativeness of external data", "hospital", external.representativeness or no_external),
        ("External validation process", "hospital", external.process or no_external),
        ("Validity in test data of the same source as the training data", "system", figures.validity(facts.test)),
        ("Fairness in test data of the same source as the training data", "system", figures.fairness(facts.test)),
        ("Validity in external data", "hospital", external.validity or no_external),
        ("Fairness in external data", "hospital", external.fairness or no_external),
        (
            "Evaluations of its effect on outcomes",
            "hospital",
            external.outcome_studies or "None: no study of the effect on outcomes is recorded in governance.yaml.",
        ),
        (
            "Process and frequency of monitoring validity",
            "system",
            _joined(maintenance.comparison, maintenance.validity),
        ),
        ("Validity in local data", "system", validity or not_yet),
        ("Process and frequency of monitoring fairness", "system", maintenance.fairness),
        ("Fairness in local data", "system", figures.local_fairness(facts.monitoring) or no_groups),
        (
            "Process and frequency of updates",
            "both",
            stated.maintenance.review
            and _joined(maintenance.update, maintenance.replacement, stated.maintenance.review),
        ),
        ("Frequency of corrections of risks to validity and fairness", "hospital", stated.maintenance.correction),
    ]


def _joined(*texts: str) -> str:
    return " ".join(text for text in texts if text)
