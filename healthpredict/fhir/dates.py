"""Read FHIR dates and times."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final, NamedTuple

_DAY: Final = len("2024-05-07")
_YEARS: Final = range(1800, 9000)
"""Other years, such as 0001 and 9999, stand for a time that is not known or has no end."""


class Moment(NamedTuple):
    """A FHIR dateTime that names at least a day.

    Attributes:
        time: with time zone. That of a day without a time is its midnight in UTC.
        day: the day as it is written, in the local time of the hospital.
        exact: whether it has a time of day.
    """

    time: datetime
    day: date
    exact: bool

    def within(self, start: Moment, end: Moment) -> bool:
        """Whether it is between two moments, inclusive. Without a time of day on either side, days are compared."""
        after = start.time <= self.time if self.exact and start.exact else start.day <= self.day
        return after and (self.time <= end.time if self.exact and end.exact else self.day <= end.day)


@lru_cache(maxsize=16384)  # the times of a stay repeat
def read_moment(text: str | None) -> Moment | None:
    """Read a FHIR date, dateTime or instant.

    Returns:
        None if it is missing, malformed, only a year or month (FHIR allows both), or before 1800 or after 8999.
    """
    if text is None or len(text) < _DAY:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.year not in _YEARS:
        return None
    day, exact = time.date(), len(text) > _DAY
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return Moment(time, day, exact)


def first_moment(*texts: str | None) -> Moment | None:
    """Return the first of some FHIR dates that names a day, or None."""
    return next((moment for text in texts if text is not None and (moment := read_moment(text)) is not None), None)


def age_range(birth: str | None, day: date) -> tuple[int, int] | None:
    """Return the lowest and highest possible age in completed years on a day.

    Args:
        birth: a FHIR date; a year or a month leaves a range.
        day: when.

    Returns:
        None if the birth date is missing, malformed or in the future.
    """
    if birth is None:
        return None
    parts = birth.split("T")[0].split("-")
    try:
        numbers = [int(part) for part in parts]
        born = date(*[*numbers, 1, 1][:3])
    except (ValueError, TypeError):
        return None
    turned = (day.year - born.year) - ((day.month, day.day) < (born.month, born.day))
    if turned < 0 or len(numbers) > 3:
        return None
    if len(numbers) == 3:
        return turned, turned
    last = (12, 31) if len(numbers) == 1 else (born.month, 31)
    lowest = (day.year - born.year) - ((day.month, day.day) < last)
    return max(0, lowest), turned
