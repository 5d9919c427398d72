"""The lines of the log that the API keeps, as it writes them and as `ship-log` reads them.

Values have no names: a line is a third as long without. Pseudonyms are made for many patients at once, so they come in a line of
their own, before the lines that they belong to.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypedDict

import msgspec

from healthpredict.data.contract import FEATURE_COLUMNS, Kind
from healthpredict.prediction_log.pseudonym import pseudonyms

_FEATURE_FIELDS: Final = tuple(column.field for column in FEATURE_COLUMNS)
_FORMAT: Final = zlib.crc32(",".join(_FEATURE_FIELDS).encode())
_TYPES: Final = tuple(int if column.kind is Kind.COUNT else str | None for column in FEATURE_COLUMNS)
_encoder: Final = msgspec.json.Encoder()
LogEntry = tuple[int, str, bool, Mapping[str, Any], Sequence[Any]]
"""Nanoseconds since 1970; `endpoint` and `dry_run` of its `PredictionLine`; the response, which may have more fields; the values of
`RECORD_COLUMNS`, in this order."""


class _Answer(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    request_id: str
    model_version: int
    bundle_digest: str
    readmission_risk: float
    high_risk: bool


_of_answer: Final = itemgetter(*_Answer.__struct_fields__)


class PredictionLine(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One prediction, in a file.

    Attributes:
        time: microseconds since 1970.
        endpoint: path that was asked.
        dry_run: whether the caller said that the encounter is not a real one.
        answer: what was answered; a batch has one request id for all its rows.
        encounter_id: null where it was not given.
        features: values of `FEATURE_COLUMNS`.
    """

    time: int
    endpoint: str
    dry_run: bool
    answer: _Answer
    encounter_id: int | None
    features: tuple[_TYPES]  # type: ignore[valid-type]


class PatientsLine(TypedDict):
    """What belongs to the predictions that follow, in a file.

    Attributes:
        format: which features these are, should another version have others.
        patients: one pseudonym for each prediction that follows. Fewer follow only if the process was killed while it wrote them.
    """

    format: int
    patients: list[int | None]


class OutcomeLine(msgspec.Struct, forbid_unknown_fields=True):
    """What became of one encounter, reported at a time in microseconds since 1970."""

    time: int
    encounter_id: int
    readmitted: str


def prediction_text(entry: LogEntry) -> tuple[int | None, bytes]:
    """Return the patient, and the line as it stands in a file."""
    time, endpoint, dry_run, answer, (encounter_id, patient_id, *features) = entry
    return patient_id, _encoder.encode_lines(
        [(time // 1000, endpoint, dry_run, _of_answer(answer), encounter_id, features)]
    )


def patients_text(patient_ids: Sequence[int | None], patient_key: bytes) -> bytes:
    """Return the line before those of these patients."""
    replaced = iter(pseudonyms(patient_key, [patient_id for patient_id in patient_ids if patient_id is not None]))
    patients = [None if patient_id is None else next(replaced) for patient_id in patient_ids]
    return _encoder.encode_lines([PatientsLine(format=_FORMAT, patients=patients)])


def outcome_text(lines: Sequence[OutcomeLine]) -> bytes:
    """Return lines as they stand in a file."""
    return _encoder.encode_lines(lines)


def read_predictions(text: bytes) -> dict[str, Sequence[Any]]:
    """Read lines: values by field, those of the encounter among them.

    Raises:
        ValueError: there are none, or others, or of another version.
    """
    lines: list[PredictionLine] = []
    patients: list[int | None] = []
    for line in _read(text, PredictionLine | PatientsLine):
        if isinstance(line, PredictionLine):
            lines.append(line)
        elif line["format"] != _FORMAT:
            raise ValueError("another version wrote it")
        else:
            patients += line["patients"]
    if not lines or len(patients) < len(lines):
        raise ValueError("not lines of the log")
    columns = {
        name: [getattr(line, name) for line in lines] for name in ("time", "endpoint", "dry_run", "encounter_id")
    }
    columns |= {name: [getattr(line.answer, name) for line in lines] for name in _Answer.__struct_fields__}
    features = zip(*(line.features for line in lines), strict=True)
    return {**columns, "patient_id": patients[: len(lines)], **dict(zip(_FEATURE_FIELDS, features, strict=True))}


def read_outcomes(text: bytes) -> dict[str, Sequence[Any]]:
    """Read lines: values by field.

    Raises:
        ValueError: there are none, or others.
    """
    lines = _read(text, OutcomeLine)
    return {name: [getattr(line, name) for line in lines] for name in OutcomeLine.__struct_fields__}


def _read(text: bytes, kind: Any) -> list[Any]:
    try:
        lines: list[Any] = msgspec.json.Decoder(kind).decode_lines(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ValueError("not lines of the log") from None  # the cause holds values
    if not lines:
        raise ValueError("it is empty")
    return lines
