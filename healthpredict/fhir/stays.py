"""Find inpatient stays: encounters that overlap or follow each other are one stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

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


class _Dated(NamedTuple):
    """An inpatient encounter with its period, as moments."""

    start: Moment
    end: Moment | None
    encounter: Encounter

    @property
    def until(self) -> Moment:
        """Its end, or its start if it has none."""
        return self.end or self.start


def class_of(encounter: Encounter) -> str | None:
    """Return the code of an encounter's class, or None if it has none."""
    return encounter.class_.code if isinstance(encounter.class_, Coding) else None


def is_acute(encounter: Encounter) -> bool:
    """Return whether an inpatient encounter is acute care."""
    kinds = (code.code for concept in encounter.type for code in concept.coding)
    return class_of(encounter) in ACUTE and not any(kind in SKILLED_NURSING for kind in kinds)


def find_stays(encounters: Iterable[Encounter], transfer_days: int | None) -> list[Stay]:
    """Return all inpatient stays in the order of their start.

    Args:
        encounters: of one person. Those of other classes, and those whose start names no day, are ignored.
        transfer_days: an acute encounter that overlaps a stay, is part of it, or starts at most so many days after the day of
            its end belongs to it. With None, every encounter is a stay of its own.
    """
    dated: list[_Dated] = []
    for encounter in encounters:
        if class_of(encounter) in INPATIENT:
            period = encounter.period or NO_PERIOD
            start = read_moment(period.start)
            if start is not None:
                dated.append(_Dated(start, read_moment(period.end), encounter))
    dated.sort(key=lambda item: (item.start.time, item.until.time, item.encounter.id or ""))
    groups: list[list[_Dated]] = []
    current: list[_Dated] = []
    for item in dated:
        if not is_acute(item.encounter):
            groups.append([item])
        elif current and transfer_days is not None and _belongs(item, current, transfer_days):
            current.append(item)
        else:
            current = [item]
            groups.append(current)
    return [_stay(group) for group in groups]


def _belongs(
    item: _Dated,
    group: list[_Dated],
    transfer_days: int,
) -> bool:
    last_day = max(other.until.day for other in group)
    if item.start.day <= last_day + timedelta(days=transfer_days):
        return True
    parent = target(item.encounter.part_of)
    return parent is not None and any(other.encounter.id == parent for other in group)


def _stay(group: list[_Dated]) -> Stay:
    """Order encounters so that the one that ends last is the last."""
    ended = sorted(group, key=lambda item: (item.end is None, item.until.time))
    encounters = tuple(item.encounter for item in ended)
    ids = frozenset(encounter.id for encounter in encounters if encounter.id)
    return Stay(encounters, group[0].start, ended[-1].end, is_acute(group[0].encounter), ids)
