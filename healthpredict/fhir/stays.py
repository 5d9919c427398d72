"""Find inpatient stays: encounters that overlap or follow each other are one stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from healthpredict.fhir.dates import Moment, read_moment
from healthpredict.fhir.references import target
from healthpredict.fhir.resources import NO_PERIOD, Coding, Encounter
from healthpredict.fhir.rules import ACUTE, INPATIENT, SKILLED_NURSING


@dataclass(frozen=True, slots=True)
class Stay:
    """An inpatient stay.

    Attributes:
        encounters: its encounters in the order of their start; the last one is that of the discharge.
        start: admission.
        end: discharge, or None if it is not known.
        acute: whether it is acute care.
        ids: the ids of its encounters.
    """

    encounters: tuple[Encounter, ...]
    start: Moment
    end: Moment | None
    acute: bool
    ids: frozenset[str]

    @property
    def last(self) -> Encounter:
        """The encounter of the discharge."""
        return self.encounters[-1]


def class_of(encounter: Encounter) -> str | None:
    """Return the code of an encounter's class, or None if it has none."""
    return encounter.class_.code if isinstance(encounter.class_, Coding) else None


def is_acute(encounter: Encounter) -> bool:
    """Return whether an inpatient encounter is acute care."""
    kinds = (code.code for concept in encounter.type for code in concept.coding)
    return class_of(encounter) in ACUTE and not any(kind in SKILLED_NURSING for kind in kinds)


def find_stays(encounters: Iterable[Encounter], transfer_hours: float | None) -> list[Stay]:
    """Return all inpatient stays in the order of their start.

    Args:
        encounters: of one person. Those of other classes, and those whose start names no day, are ignored.
        transfer_hours: an acute encounter that overlaps a stay, is part of it, or starts at most so many hours after its end
            belongs to it. With None, every encounter is a stay of its own.
    """
    dated = []
    for encounter in encounters:
        if class_of(encounter) in INPATIENT:
            period = encounter.period or NO_PERIOD
            start = read_moment(period.start)
            if start is not None:
                dated.append((start, read_moment(period.end), encounter))
    dated.sort(key=lambda item: (item[0].time, (item[1] or item[0]).time, item[2].id or ""))
    groups: list[list[tuple[Moment, Moment | None, Encounter]]] = []
    current: list[tuple[Moment, Moment | None, Encounter]] = []
    for item in dated:
        if not is_acute(item[2]):
            groups.append([item])
        elif current and transfer_hours is not None and _belongs(item, current, transfer_hours):
            current.append(item)
        else:
            current = [item]
            groups.append(current)
    return [_stay(group) for group in groups]


def _belongs(
    item: tuple[Moment, Moment | None, Encounter],
    group: list[tuple[Moment, Moment | None, Encounter]],
    transfer_hours: float,
) -> bool:
    end = max((end or start).time for start, end, _ in group)
    if item[0].time <= end + timedelta(hours=transfer_hours):
        return True
    parent = target(item[2].part_of)
    return parent is not None and any(encounter.id == parent for _, _, encounter in group)


def _stay(group: list[tuple[Moment, Moment | None, Encounter]]) -> Stay:
    """Order encounters so that the one that ends last is the last."""
    ended = sorted(group, key=lambda item: (item[1] is None, (item[1] or item[0]).time))
    encounters = tuple(encounter for _, _, encounter in ended)
    ids = frozenset(encounter.id for encounter in encounters if encounter.id)
    return Stay(encounters, group[0][0], ended[-1][1], is_acute(group[0][2]), ids)
