"""Plant known drift in real encounters, to test whether it is detected."""

from __future__ import annotations

from math import isfinite
from typing import Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from healthpredict.data.contract import COLUMNS, Column, Kind
from healthpredict.errors import ConfigurationError

_BY_NAME = {column.name: column for column in COLUMNS}


class Shift(BaseModel):
    """One change.

    Attributes:
        kind: "set" columns to `value`, null for missing (a habit, a new code, values no longer entered); "add" `value` to numbers;
            "scale" them by `value` (another unit); "more_of" replaces encounters by others whose first column is `value` (another
            mix of patients, or of outcomes if the column is `readmitted`); "exchange" the columns between encounters (each column
            on its own keeps its distribution; `readmitted` alone is pure concept drift).
        columns: names as in the raw file.
        value: see `kind`. A float for "add" and "scale"; else text as in the raw file (428 is "428"), or None for missing.
        strength: share (0-1) of the encounters that are changed.
        start: share (0-1) of the encounters, in order of time, before the change begins.
        full: share at which `strength` is reached, growing linearly from `start`. None means that it is reached at `start`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["set", "add", "scale", "more_of", "exchange"]
    columns: tuple[str, ...] = Field(min_length=1)
    value: str | int | float | None = None
    strength: float = Field(0.25, ge=0, le=1)
    start: float = Field(0, ge=0, le=1)
    full: float | None = Field(None, ge=0, le=1)

    @field_validator("value", mode="before")
    @classmethod
    def _as_written(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool):
            raise ValueError(f"{value} is not a value. Write {'Yes' if value else 'No'} in quotes")
        if info.data.get("kind") in ("add", "scale"):
            try:
                return float(value) if isinstance(value, str | int) else value
            except ValueError:
                raise ValueError("it is not a number") from None
        if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
            return str(int(value))
        return str(value) if isinstance(value, str | float) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = [name for name in self.columns if name not in _BY_NAME or _BY_NAME[name].kind is Kind.ID]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not a column that can be changed")
        counts = all(_BY_NAME[name].kind is Kind.COUNT for name in self.columns)
        if self.kind in ("add", "scale") and not (counts and isinstance(self.value, float) and isfinite(self.value)):
            raise ValueError(f"{self.kind} takes columns that are counts, and a number")
        if self.kind in ("set", "more_of"):
            for name in self.columns if self.kind == "set" else self.columns[:1]:
                problem = _problem(_BY_NAME[name], self.value)
                if problem:
                    raise ValueError(f"{name}: {self.value} {problem}. Allowed: {_BY_NAME[name].values}")  # noqa: PD011
        if self.full is not None and self.full <= self.start:
            raise ValueError(f"full ({self.full}) must come after start ({self.start})")
        return self

    def shares(self, rows: int) -> NDArray[np.float64]:
        """Return the probability that each encounter, in order of time, is changed, shape (rows,)."""
        place = np.arange(rows) / max(rows, 1)
        if self.full is None:
            return np.where(place >= self.start, self.strength, 0.0)
        return np.interp(place, [self.start, self.full], [0.0, self.strength])


def _problem(column: Column, value: str | float | None) -> str | None:
    """Describe why a value cannot be planted. Returns: None if it can."""
    if not isinstance(value, str):
        return column.problem(None)
    if column.is_missing(value):
        return "means missing. Write null"
    if column.kind is not Kind.COUNT:
        return column.problem(value)
    return column.problem(int(value)) if value.isascii() and value.isdigit() else "is not a whole number"


class ShiftPlan(BaseModel):
    """Changes that are applied one after the other.

    Attributes:
        seed: of the draws.
        shifts: the changes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    shifts: tuple[Shift, ...] = Field(min_length=1)


def read_plan(data: object, name: str) -> ShiftPlan:
    """Build a plan from plain data.

    Raises:
        ConfigurationError: the data is not a plan, or a value breaks the contract of its column.
    """
    try:
        return ShiftPlan.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"{name} is not a valid drift plan: {problems}.") from error


def plant(frame: pd.DataFrame, plan: ShiftPlan) -> pd.DataFrame:
    """Apply a plan.

    Args:
        frame: raw or encounters frame in order of time, shape (n_encounters, ...).
        plan: what to change.

    Returns:
        The changed encounters; number of rows, identifiers and dtypes stay the same.
    """
    rng = np.random.default_rng(plan.seed)
    for shift in plan.shifts:
        frame = apply_shift(frame, shift, rng)
    return frame


def apply_shift(frame: pd.DataFrame, shift: Shift, rng: np.random.Generator) -> pd.DataFrame:
    """Apply one change. Arguments and result as `plant`."""
    chosen = rng.random(len(frame)) < shift.shares(len(frame))
    match shift.kind:
        case "set":
            return frame.assign(
                **{name: frame[name].mask(chosen, shift.value).astype(frame[name].dtype) for name in shift.columns}
            )
        case "add" | "scale":
            return frame.assign(**{name: _moved(frame[name], shift, chosen) for name in shift.columns})
        case "more_of":
            first = frame[shift.columns[0]]
            # In an encounters frame, counts are numbers.
            text = first.astype("str") if pd.api.types.is_numeric_dtype(first.dtype) else first
            source = np.flatnonzero(first.isna() if shift.value is None else text == shift.value)
            if not len(source):
                raise ConfigurationError(
                    f"No encounter has {shift.value} in {first.name}, so more_of is impossible. Choose another value."
                )
            rows = np.where(chosen, rng.choice(source, len(frame)), np.arange(len(frame)))
            taken = frame.iloc[rows].set_axis(frame.index)
            ids = [column for column in ("encounter_id", "patient_nbr", "patient_id") if column in frame]
            return taken.assign(**{name: frame[name] for name in ids})
        case "exchange":
            rows = np.flatnonzero(chosen)
            order = np.arange(len(frame))
            order[rows] = rng.permutation(rows)
            return frame.assign(**{name: frame[name].array[order] for name in shift.columns})


def _moved(column: pd.Series, shift: Shift, chosen: NDArray[np.bool_]) -> pd.Series:
    contract = _BY_NAME[str(column.name)]
    assert isinstance(shift.value, float)
    numbers = pd.to_numeric(column, errors="coerce")
    moved = numbers + shift.value if shift.kind == "add" else (numbers * shift.value).round()
    moved = moved.clip(contract.minimum, contract.maximum)
    known = chosen & numbers.notna().to_numpy()
    if pd.api.types.is_numeric_dtype(column.dtype):
        return moved.where(known, numbers).astype(column.dtype)
    # Bad values stay as they are: the contract check reports them.
    return column.mask(known, moved.where(known, 0).astype(np.int64).astype("str"))
