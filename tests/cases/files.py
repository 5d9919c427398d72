"""Read inputs and results without the project's own reader."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_ZIP = b"PK\x03\x04"
_COMPRESSIONS = {_GZIP: "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_LARGE = 5_000_000
# Neither the digits of a digest nor those after a decimal point.
_NUMBER = re.compile(r"(?<![\w.])[0-9]{7,}(?!\w)")


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
    """Return what `identifiers_in` finds in a file: text in any encoding, or Parquet, perhaps compressed."""
    try:
        return identifiers_in(_as_text(_unpacked(source.read_bytes())))
    except (OSError, EOFError, zipfile.BadZipFile, pa.ArrowException):  # a damaged file: nothing can be read from it
        return frozenset()


def identifiers_in(text: str) -> frozenset[str]:
    """Return the whole numbers of seven digits or more in a text, without leading zeros."""
    return frozenset(number.lstrip("0") for number in _NUMBER.findall(text))


def _unpacked(data: bytes) -> bytes:
    if data.startswith(_ZIP):
        with zipfile.ZipFile(BytesIO(data)) as archive:
            return b"\n".join(archive.open(name).read(_LARGE) for name in archive.namelist())
    compression = next((name for magic, name in _COMPRESSIONS.items() if data.startswith(magic)), None)
    return data if compression is None else pa.input_stream(BytesIO(data), compression).read(_LARGE)


def _as_text(data: bytes) -> str:
    if data.startswith(_PARQUET):
        return pq.read_table(BytesIO(data)).to_pandas().to_csv(index=False)
    # In UTF-16, a digit is its ASCII byte and a zero byte.
    return data[:_LARGE].replace(b"\0", b"").decode("latin-1")
