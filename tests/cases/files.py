"""Read inputs and results without the project's own reader."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_LARGE = 5_000_000


@dataclass(frozen=True)
class Results:
    """A result of scoring.

    Attributes:
        ids: of the encounters with a risk, in the order of the file.
        risks: of the same encounters.
        reasons: of the rejected rows.
        kind: `csv`, `csv.gz` or `parquet`, detected from the content.
    """

    ids: list[int]
    risks: list[float]
    reasons: list[str]
    kind: str

    def equals(self, other: Results, *, by_position: bool) -> bool:
        """Whether every risk equals that of the same encounter, by id or by position."""
        if by_position:
            pairs = list(zip(self.risks, other.risks, strict=False))
        else:
            known = dict(zip(other.ids, other.risks, strict=True))
            if not set(self.ids) <= known.keys():
                return False
            pairs = [(risk, known[number]) for number, risk in zip(self.ids, self.risks, strict=True)]
        return bool(pairs) and all(abs(one - two) < 1e-9 for one, two in pairs)


def read_results(result: Path, beside: list[Path]) -> Results:
    """Read a result and its side file. Args: result; beside, the side file, or nothing to leave out the reasons."""
    frame, kind = _read(result)
    reasons = [reason for path in beside for reason in _read(path)[0]["reason"].tolist()]
    if any(_read(path)[1] != kind for path in beside):
        kind = f"{kind}, with a side file of another format"
    return Results(frame["encounter_id"].astype(int).tolist(), frame["readmission_risk"].tolist(), reasons, kind)


def _read(path: Path) -> tuple[pd.DataFrame, str]:
    start = path.read_bytes()[:4]
    if start == _PARQUET:
        return pq.read_table(path).to_pandas(), "parquet"
    kind = "csv.gz" if start[:2] == _GZIP else "csv"
    compression = "gzip" if kind == "csv.gz" else None
    return pd.read_csv(path, keep_default_na=False, compression=compression), kind


def identifiers(source: Path) -> frozenset[str]:
    """Numbers with seven digits or more in a file that is plain text."""
    data = source.read_bytes()[:_LARGE]
    return frozenset(number.decode() for number in re.findall(rb"(?<![0-9])[0-9]{7,}(?![0-9])", data))
