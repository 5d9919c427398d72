"""What describing a stay gives: a record of the contract, and what is not known about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from healthpredict.data.contract import BY_FIELD
from healthpredict.fhir.terminology import Diagnosis

Value = str | int | None


@dataclass(slots=True)
class Description:
    """A stay as a record.

    Attributes:
        record: `Column.field` -> value, for every column but the outcome.
        unknown: field -> why its value cannot be known. The record then has what `rules.RULES` says.
        limited: field -> why its value was limited to the contract's range.
        unknown_codes: `system|code` -> number of times that the stay uses a code that is not known.
        obstacles: why there is no prediction, in sentences. The record is then incomplete.
        own_diagnosis: whether any diagnosis was recorded for the stay itself.
        principal: the first diagnosis, or None.
    """

    record: dict[str, Value] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    limited: dict[str, str] = field(default_factory=dict)
    unknown_codes: Counter[str] = field(default_factory=Counter)
    obstacles: list[str] = field(default_factory=list)
    own_diagnosis: bool = False
    principal: Diagnosis | None = None

    def set_value(self, name: str, value: str | None, reason: str, if_unknown: str | None = None) -> None:
        """Set a value. If it is None, `if_unknown` stands for it, and the field is listed as unknown for `reason`."""
        self.record[name] = if_unknown if value is None else value
        if value is None:
            self.unknown[name] = reason

    def set_count(self, name: str, number: int, not_delivered: str | None = None) -> None:
        """Set a count, limited to the contract's range. Args: not_delivered, what is missing so that it is not known, or None."""
        column = BY_FIELD[name]
        assert column.minimum is not None and column.maximum is not None
        limited = min(max(number, column.minimum), column.maximum)
        if limited != number:
            self.limited[name] = f"outside {column.minimum} to {column.maximum}, limited to this range"
        self.record[name] = limited
        if not_delivered is not None:
            self.unknown[name] = f"no {not_delivered} was delivered"
