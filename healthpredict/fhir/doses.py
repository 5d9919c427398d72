"""Daily doses of orders, and whether they went up or down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from healthpredict.fhir.dates import Moment
from healthpredict.fhir.resources import Dosage, MedicationRequest

_DAYS: Final = {"h": 1 / 24, "d": 1.0, "wk": 7.0}


class Order(NamedTuple):
    """An order for an antidiabetic.

    Attributes:
        request: the resource.
        columns: see `antidiabetics`.
        time: when it was written, or None if it is not known to the day.
    """

    request: MedicationRequest
    columns: tuple[str, ...]
    time: Moment | None

    @property
    def dose(self) -> tuple[float, str] | None:
        """Dose per day and its unit, or None if it is not given."""
        instructions = self.request.dosage_instruction
        return _daily(instructions[0]) if instructions else None


def _daily(dosage: Dosage) -> tuple[float, str] | None:
    quantity = next((given.dose_quantity for given in dosage.dose_and_rate if given.dose_quantity is not None), None)
    if quantity is None or quantity.value is None:
        return None
    repeat = dosage.timing.repeat if dosage.timing else None
    times = 1.0
    if repeat is not None and repeat.frequency and repeat.period and repeat.period_unit in _DAYS:
        times = repeat.frequency / (repeat.period * _DAYS[repeat.period_unit])
    return quantity.value * times, (quantity.code or quantity.unit or "").casefold()


def dose_change(doses: Sequence[tuple[float, str] | None]) -> str | None:
    """Compare the first and the last dose of a drug.

    Args:
        doses: of its orders, by time.

    Returns:
        `Up`, `Down` or `Steady`, or None if it cannot be known: a dose is missing, or their units differ. One order is steady if
        its dose is given.
    """
    if not doses or any(dose is None for dose in doses):
        return None
    known = [dose for dose in doses if dose is not None]
    if len({unit for _, unit in known}) > 1:
        return None
    first, last = known[0][0], known[-1][0]
    return "Steady" if first == last else "Up" if last > first else "Down"
