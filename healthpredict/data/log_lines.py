"""The lines of the log that the API keeps, as it writes them and as `ship-log` reads them.

An encounter is a list of values without names: a line is a third as long with them left out, and every request pays for its line.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from healthpredict.data.contract import RECORD_COLUMNS, Kind
from healthpredict.data.pseudonym import pseudonyms

_FIELDS_OF_RECORD: Final = [column.field for column in RECORD_COLUMNS]
_PATIENT: Final = _FIELDS_OF_RECORD.index("patient_id")
ENCOUNTER_FIELDS: Final = tuple(field for field in _FIELDS_OF_RECORD if field != "patient_id")
"""What the values of an encounter are in a line. The patient is beside them."""
_FORMAT: Final = zlib.crc32(",".join(ENCOUNTER_FIELDS).encode())
_TYPES: Final = tuple(
    int | None if column.kind in (Kind.ID, Kind.COUNT) else str | None
    for column in RECORD_COLUMNS
    if column.field in ENCOUNTER_FIELDS
)
_encoder: Final = msgspec.json.Encoder()
Noted = tuple[int, str, bool, Mapping[str, Any], list[Any]]
"""A prediction that waits to be written: `time`, `endpoint` and `dry_run` of its `PredictionLine`; the answer, with more fields or
not; the values of `RECORD_COLUMNS`, in this order. To look each of them up, or to name these five, would cost a request more."""


class PredictionLine(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One prediction, in a file.

    Attributes:
        time: microseconds since 1970.
        request_id: of the answer; a batch has one for all its rows.
        endpoint: path that was asked.
        dry_run: whether the caller said that the encounter is not a real one.
        model_version: in the registry.
        bundle_digest: of what the answer was made with.
        readmission_risk: the answer, 0-1.
        high_risk: the answer.
        patient_id: the pseudonym.
        encounter: values of `ENCOUNTER_FIELDS`.
        format: says which fields these are, should another version have others.
    """

    time: int
    request_id: str
    endpoint: str
    dry_run: bool
    model_version: int
    bundle_digest: str
    readmission_risk: float
    high_risk: bool
    patient_id: int | None
    encounter: tuple[_TYPES]  # type: ignore[valid-type]
    format: int = _FORMAT


_FIELDS: Final = tuple(name for name in PredictionLine.__struct_fields__ if name not in ("encounter", "format"))


class OutcomeLine(msgspec.Struct, forbid_unknown_fields=True):
    """What became of one encounter, reported at a time in microseconds since 1970."""

    time: int
    encounter_id: int
    readmitted: str


def prediction_text(noted: Sequence[Noted], patient_key: bytes) -> bytes:
    """Lines as they stand in a file, with the pseudonyms of their patients; these are taken out of `noted`, so it is done once."""
    patients = [encounter.pop(_PATIENT) for *_, encounter in noted]
    replaced = iter(pseudonyms(patient_key, [patient_id for patient_id in patients if patient_id is not None]))
    lines = [
        (
            time,
            answer["request_id"],
            endpoint,
            dry_run,
            answer["model_version"],
            answer["bundle_digest"],
            answer["readmission_risk"],
            answer["high_risk"],
            None if patient_id is None else next(replaced),
            encounter,
            _FORMAT,
        )
        for (time, endpoint, dry_run, answer, encounter), patient_id in zip(noted, patients, strict=True)
    ]
    return _encoder.encode_lines(lines)


def outcome_text(lines: Sequence[OutcomeLine]) -> bytes:
    """Lines as they stand in a file."""
    return _encoder.encode_lines(lines)


def read_predictions(text: bytes) -> dict[str, Sequence[Any]]:
    """Read lines: values by field, those of the encounter among them.

    Raises:
        ValueError: there are none, or others, or of another version.
    """
    lines = _read(text, PredictionLine)
    if any(line.format != _FORMAT for line in lines):
        raise ValueError("another version wrote it")
    columns = {name: [getattr(line, name) for line in lines] for name in _FIELDS}
    return columns | dict(zip(ENCOUNTER_FIELDS, zip(*(line.encounter for line in lines), strict=True), strict=True))


def read_outcomes(text: bytes) -> dict[str, Sequence[Any]]:
    """Read lines: values by field.

    Raises:
        ValueError: there are none, or others.
    """
    lines = _read(text, OutcomeLine)
    return {name: [getattr(line, name) for line in lines] for name in OutcomeLine.__struct_fields__}


def _read(text: bytes, kind: type[Any]) -> list[Any]:
    try:
        lines: list[Any] = msgspec.json.Decoder(kind).decode_lines(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ValueError("not lines of the log") from None  # the cause holds values
    if not lines:
        raise ValueError("it is empty")
    return lines
