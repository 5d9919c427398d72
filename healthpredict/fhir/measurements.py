"""A1C, glucose and weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from healthpredict.data.contract import NOT_MEASURED
from healthpredict.fhir.history import observed
from healthpredict.fhir.resources import Observation, Quantity
from healthpredict.fhir.rules import (
    GLUCOSE_MG_PER_MMOL,
    MG_PER_DL,
    MMOL_PER_L,
    MMOL_PER_MOL,
    NGSP,
    PERCENT,
    POUNDS,
)

_STATUS_RANK: Final = {"corrected": 2, "amended": 2, "final": 1}


class Measured(NamedTuple):
    """The value of a column that was measured.

    Attributes:
        value: the contract's.
        problem: why it cannot be known, or None if it is known.
    """

    value: str | None
    problem: str | None


def read_a1c(results: Sequence[Observation]) -> Measured:
    """Return `A1Cresult` from the A1C results of a stay: the last one."""
    readable = [(item, value) for item in results if (value := _percent(item.value_quantity)) is not None]
    if not readable:
        problem = "no A1C result has a known unit (%, mmol/mol)" if results else None
        return Measured(NOT_MEASURED, problem)
    last = max(_rank(item) for item, _ in readable)
    bands = {_a1c_band(value) for item, value in readable if _rank(item) == last}
    if len(bands) > 1:
        return Measured(NOT_MEASURED, "A1C results of the same time and status conflict")
    return Measured(bands.pop(), None)


def read_glucose(results: Sequence[Observation]) -> Measured:
    """Return `max_glu_serum` from the glucose results of a stay: the highest one."""
    values = [value for item in results if (value := _mg_per_dl(item.value_quantity)) is not None]
    if not values:
        problem = "no glucose result has a known unit (mg/dL, mmol/L)" if results else None
        return Measured(NOT_MEASURED, problem)
    highest = max(values)
    return Measured(">300" if highest > 300 else ">200" if highest > 200 else "Norm", None)


def read_weight(results: Sequence[Observation]) -> Measured:
    """Return `weight` from the weights of a stay: the band of the last one in pounds."""
    readable = [(item, value) for item in results if (value := _pounds(item.value_quantity)) is not None]
    if not readable:
        return Measured(None, "no weight has a known unit (kg, lb)" if results else "not measured")
    pounds = max(readable, key=lambda pair: _rank(pair[0]))[1]
    low = int(pounds // 25) * 25
    return Measured(">200" if pounds >= 200 else f"[{low}-{low + 25})", None)


def _rank(observation: Observation) -> tuple[float, int]:
    moment = observed(observation)
    return (moment.time.timestamp() if moment else 0.0), _STATUS_RANK.get(observation.status or "", 0)


def _a1c_band(percent: float) -> str:
    return ">8" if percent > 8 else ">7" if percent > 7 else "Norm"


def _unit(quantity: Quantity) -> tuple[str, ...]:
    return tuple(text.strip().casefold() for text in (quantity.code, quantity.unit) if text)


def _percent(quantity: Quantity | None) -> float | None:
    if quantity is None or quantity.value is None:
        return None
    units = _unit(quantity)
    if any(unit in PERCENT for unit in units):
        return quantity.value
    if any(unit in MMOL_PER_MOL for unit in units):
        slope, intercept = NGSP
        # Laboratories report % with one decimal.
        return round(slope * quantity.value + intercept, 1)
    return None


def _mg_per_dl(quantity: Quantity | None) -> float | None:
    if quantity is None or quantity.value is None:
        return None
    units = _unit(quantity)
    if any(unit in MG_PER_DL for unit in units):
        return quantity.value
    if any(unit in MMOL_PER_L for unit in units):
        return quantity.value * GLUCOSE_MG_PER_MMOL
    return None


def _pounds(quantity: Quantity | None) -> float | None:
    if quantity is None or quantity.value is None or quantity.value <= 0:
        return None
    factor = next((POUNDS[unit] for unit in _unit(quantity) if unit in POUNDS), None)
    return None if factor is None else quantity.value * factor
