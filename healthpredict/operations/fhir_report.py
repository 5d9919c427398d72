"""What an import used and left out, and what cannot be known from the export."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

_FEW_READMISSIONS: Final = 100
"""Fewer than this are too few to train on or to judge a model by."""
_MANY_UNKNOWN: Final = 5
"""Columns that are unknown in most stays."""
_SHOWN: Final = 20


class LeftOut(BaseModel):
    """Resources that were left out for a reason."""

    model_config = ConfigDict(frozen=True)

    kind: str
    reason: str
    number: int


class ImportedExport(BaseModel):
    """The result of an import. It contains counts and codes, and no values of patients.

    Attributes:
        source: folder of the export.
        until: day until which the export reports encounters.
        notices: what was unusual about its files.
        resources: type -> number of resources that were read.
        used: type -> number of resources that at least one index stay used.
        left_out: the others, by type and reason.
        broken_lines: number of lines that are not usable resources; they are in `quarantine/fhir-lines.ndjson`.
        broken: file, line and problem of the first of them.
        persons: number of persons.
        stays: number of index admissions, each a row of a batch.
        stays_left_out: why other stays are none -> number.
        outcomes: outcome -> number of index admissions.
        no_outcome: why an outcome is not known yet -> number of index admissions.
        planned: index admissions that a planned readmission followed, which was not counted.
        unknown: column -> reason why it cannot be known -> number of index admissions.
        limited: column -> number of values that were limited to the contract's range.
        unknown_codes: `system|code` -> number of times that index admissions use a code that is not known.
        batches: the batches that were written, or all batches of the data URI after the first import.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    until: str | None
    notices: tuple[str, ...]
    resources: dict[str, int]
    used: dict[str, int]
    left_out: tuple[LeftOut, ...]
    broken_lines: int
    broken: tuple[str, ...]
    persons: int
    stays: int
    stays_left_out: dict[str, int]
    outcomes: dict[str, int]
    no_outcome: dict[str, int]
    planned: int
    unknown: dict[str, dict[str, int]]
    limited: dict[str, int]
    unknown_codes: dict[str, int]
    batches: list[str] = []

    @property
    def why_left_out(self) -> str:
        """Why stays are no index admissions, in words."""
        return "; ".join(f"{reason} ({number} stays)" for reason, number in self.stays_left_out.items())

    @property
    def mostly_unknown(self) -> list[str]:
        """The columns that are unknown in more than half of the index admissions."""
        return [name for name, reasons in self.unknown.items() if sum(reasons.values()) > self.stays / 2]

    @property
    def unfit_to_train(self) -> list[str]:
        """Sentences on why this is not training data; empty if nothing speaks against it."""
        found = []
        readmitted = self.outcomes.get("<30", 0)
        if readmitted < _FEW_READMISSIONS:
            found.append(f"only {readmitted} of {self.stays} stays have a readmission within 30 days")
        if len(self.mostly_unknown) >= _MANY_UNKNOWN:
            found.append(f"{len(self.mostly_unknown)} columns are unknown in most stays")
        return found

    @property
    def sentences(self) -> list[str]:
        """The result for people."""
        batches = "1 batch" if len(self.batches) == 1 else f"{len(self.batches)} batches"
        read, used = sum(self.resources.values()), sum(self.used.values())
        lines = [
            f"{read:,} resources of {self.persons:,} persons: {used:,} used, {read - used:,} left out.",
            f"{self.stays:,} index admissions in {batches}; "
            + ", ".join(f"{number:,} {outcome}" for outcome, number in sorted(self.outcomes.items()))
            + f", {sum(self.no_outcome.values()):,} not known yet; {self.planned:,} planned readmissions do not count.",
        ]
        if self.stays_left_out:
            lines.append(f"Other stays: {self.why_left_out}.")
        same: dict[str, list[str]] = {}
        for name, reasons in self.unknown.items():
            same.setdefault(_words(reasons), []).append(name)
        lines += [f"Not known: {', '.join(names)}: {words}." for words, names in same.items()]
        lines += [f"{name} was limited to the contract's range in {n:,} stays." for name, n in self.limited.items()]
        if self.unknown_codes:
            shown = ", ".join(f"{code} ({number:,})" for code, number in [*self.unknown_codes.items()][:_SHOWN])
            more = len(self.unknown_codes) - _SHOWN
            lines.append(f"Codes that are not known: {shown}{f' and {more} more' if more > 0 else ''}.")
        if self.broken_lines:
            lines.append(
                f"{self.broken_lines:,} lines are in quarantine/fhir-lines.ndjson: {'; '.join(self.broken[:_SHOWN])}."
            )
        lines += self.notices
        if self.unfit_to_train:
            lines.append(f"This is not training data: {', and '.join(self.unfit_to_train)}.")
        return lines


def _words(reasons: dict[str, int]) -> str:
    return "; ".join(f"{reason} ({number:,} stays)" for reason, number in reasons.items())
