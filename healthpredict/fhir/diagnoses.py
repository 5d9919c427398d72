"""The diagnoses of a stay, by rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from healthpredict.fhir.dates import Moment
from healthpredict.fhir.history import DatedCondition, History
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import Condition, Encounter, Reference
from healthpredict.fhir.rules import FIRST_USES
from healthpredict.fhir.stays import Stay
from healthpredict.fhir.terminology import Diagnosis


class Diagnoses(NamedTuple):
    """The diagnoses of a stay.

    Attributes:
        codes: canonical ICD codes by rank, None where a rank has no known code.
        first: the first of them, or None.
        ranked: whether the encounter ranks them; otherwise they follow from other elements.
        own: whether any of them was recorded for the stay itself.
        unknown: codes that are not known, as `system|code`.
        used: the conditions that were read.
    """

    codes: tuple[str | None, ...]
    first: Diagnosis | None
    ranked: bool
    own: bool
    unknown: tuple[str, ...]
    used: tuple[Condition, ...]


def read_diagnoses(history: History, stay: Stay, until: Moment) -> Diagnoses:
    """Return the diagnoses of a stay. Args: until, discharge or, if it has not ended, now."""
    ranked = list(_ranked(history, stay.encounters))
    if ranked:
        codes = tuple(diagnosis.code for diagnosis, _ in ranked)
        unknown = tuple(diagnosis.unknown for diagnosis, _ in ranked if diagnosis.unknown)
        return Diagnoses(
            codes, ranked[0][0], True, True, unknown, tuple(found for _, found in ranked if found is not None)
        )
    reasons = list(_reasons(history, stay))
    own = _own(history, stay)
    newest = not history.stays or stay.start.time >= history.stays[-1].start.time
    active = [problem for problem in history.problems if _is_active(problem, stay, until, newest=newest)]
    active.sort(key=_start, reverse=True)
    used = [problem for problem in (*(found for _, found in reasons), *own, *active) if problem is not None]
    found: dict[str, Diagnosis] = {}
    unknown_codes: dict[str, None] = {}
    for diagnosis in (*(reason for reason, _ in reasons), *(problem.diagnosis for problem in (*own, *active))):
        if diagnosis.code is not None:
            found.setdefault(diagnosis.code, diagnosis)
        elif diagnosis.unknown is not None:
            unknown_codes[diagnosis.unknown] = None
    conditions = {id(problem): problem.condition for problem in used}
    first = next(iter(found.values()), None)
    recorded = bool(reasons or own)
    return Diagnoses(tuple(found), first, False, recorded, tuple(unknown_codes), tuple(conditions.values()))


def _ranked(history: History, encounters: tuple[Encounter, ...]) -> Iterator[tuple[Diagnosis, Condition | None]]:
    """Yield Encounter.diagnosis of the last encounter that has any, by use and rank."""
    entries = next((encounter.diagnosis for encounter in reversed(encounters) if encounter.diagnosis), ())
    counted = [entry for entry in entries if _counts_first(entry.use)] or entries
    for entry in sorted(counted, key=lambda entry: (entry.rank is None, entry.rank or 0)):
        problem = history.by_id.get(_condition_key(entry.condition) or "")
        yield (problem.diagnosis, problem.condition) if problem else (history.chart.terminology.diagnosis(None), None)


def _names_condition(stay: Stay, condition_id: str | None) -> bool:
    """Return whether Encounter.diagnosis of a stay refers to a condition."""
    return any(
        condition_id is not None and _condition_key(entry.condition) == condition_id
        for encounter in stay.encounters
        for entry in encounter.diagnosis
    )


def _counts_first(use: Any) -> bool:
    """Return whether Encounter.diagnosis.use, which is a list in R5, has no code or one of `FIRST_USES`."""
    codings = use.get("coding") if isinstance(use, dict) else None
    uses = {code["code"] for code in codings or () if isinstance(code, dict) and isinstance(code.get("code"), str)}
    return not uses or not uses.isdisjoint(FIRST_USES)


def _condition_key(condition: Any) -> str | None:
    reference = condition.get("reference") if isinstance(condition, dict) else None
    return target(Reference(reference)) if isinstance(reference, str) else None


def _reasons(history: History, stay: Stay) -> Iterator[tuple[Diagnosis, DatedCondition | None]]:
    for encounter in stay.encounters:
        for reference in encounter.reason_reference:
            problem = history.by_id.get(target(reference) or "")
            if problem is not None:
                yield problem.diagnosis, problem
        for concept in encounter.reason_code:
            diagnosis = history.chart.terminology.diagnosis(concept)
            if diagnosis.code or diagnosis.unknown:
                yield diagnosis, None


def _own(history: History, stay: Stay) -> list[DatedCondition]:
    """Return the conditions that were recorded for the stay, by date."""
    own = [problem for encounter in stay.encounters for problem in history.own_problems.get(encounter.id or "", ())]
    return sorted(own, key=lambda problem: problem.recorded.timestamp() if problem.recorded else float("inf"))


def _start(problem: DatedCondition) -> float:
    return problem.start.time.timestamp() if problem.start else 0.0


def _is_active(problem: DatedCondition, stay: Stay, until: Moment, *, newest: bool) -> bool:
    """Whether a condition exists during the stay. One without any date counts for the newest stay only."""
    if problem.start is None:
        return newest and problem.end is None
    if problem.start.day > until.day:
        return False
    return problem.end is None or problem.end.day >= stay.start.day


def has_diabetes(history: History, stay: Stay) -> bool:
    """Return whether any condition of the person until the end of a stay, or a reason of the stay, is diabetes."""
    last = stay.end.day if stay.end else None
    for problem in history.problems:
        if not problem.diagnosis.is_diabetes:
            continue
        if problem.start is None or last is None or problem.start.day <= last:
            return True
        # Diagnoses of a stay are often recorded after its end.
        if target(problem.condition.encounter) in stay.ids or _names_condition(stay, problem.condition.id):
            return True
    diagnosis = history.chart.terminology.diagnosis
    return any(diagnosis(concept).is_diabetes for encounter in stay.encounters for concept in encounter.reason_code)
