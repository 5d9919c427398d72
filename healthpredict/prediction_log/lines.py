"""The lines of the prediction log, as the API writes them and as `ship-log` reads them.

A prediction is an array of values without names, which makes its line a third as long. So the order of the fields of
`PredictionLine`, `_Answer` and `RECORD_COLUMNS` is the file format: after a change, files that wait to be shipped cannot be read.
The same is true of the names of the fields of `OutcomeLine` and `FeedbackLine`.
Pseudonyms are computed for many patients at once, so they are in a separate line before the predictions to which they belong.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypedDict

import msgspec

from healthpredict.data.contract import FEATURE_COLUMNS, Kind
from healthpredict.prediction_log.pseudonym import pseudonyms

_FEATURE_FIELDS: Final = tuple(column.field for column in FEATURE_COLUMNS)
_FORMAT: Final = zlib.crc32(",".join(_FEATURE_FIELDS).encode())
_TYPES: Final = tuple(int if column.kind is Kind.COUNT else str | None for column in FEATURE_COLUMNS)
_encoder: Final = msgspec.json.Encoder()


class LogEntry(NamedTuple):
    """A prediction to log.

    Attributes:
        time_ns: nanoseconds since 1970.
        endpoint: see `PredictionLine`.
        dry_run: see `PredictionLine`.
        answer: fields of the response. The log keeps only those of `_Answer`.
        encounter: values of `RECORD_COLUMNS`, in this order.
        hold_out_probability: see `PredictionLine`.
    """

    time_ns: int
    endpoint: str
    dry_run: bool
    answer: Mapping[str, Any]
    encounter: Iterable[Any]
    hold_out_probability: float | None = None


class _Answer(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    request_id: str
    model_version: int
    bundle_digest: str
    readmission_risk: float
    high_risk: bool | None


_answer_values: Final = itemgetter(*_Answer.__struct_fields__)


class PredictionLine(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One prediction in a file.

    Attributes:
        time: microseconds since 1970.
        endpoint: path of the request.
        dry_run: whether the caller said that the encounter is not a real one.
        answer: fields of the response; `high_risk` is null if the service was silent. All predictions of a batch have the same
            request id.
        encounter_id: null if the request has none.
        features: values of `FEATURE_COLUMNS`.
        hold_out_probability: probability with which the flag was to be held back; null if it never is. Lines of earlier versions of
            this system have none.
    """

    time: int
    endpoint: str
    dry_run: bool
    answer: _Answer
    encounter_id: int | None
    features: tuple[_TYPES]  # type: ignore[valid-type]
    hold_out_probability: float | None = None


class PatientsLine(TypedDict):
    """The patients of the predictions that follow in a file.

    Attributes:
        format: checksum of the names of the features, which may differ between versions of this system.
        patients: one pseudonym for each prediction that follows. Fewer follow only if the process was killed while it wrote them.
    """

    format: int
    patients: list[int | None]


class OutcomeLine(msgspec.Struct, forbid_unknown_fields=True):
    """The outcome of one encounter, reported at a time in microseconds since 1970."""

    time: int
    encounter_id: int
    readmitted: str


class FeedbackLine(msgspec.Struct, forbid_unknown_fields=True):
    """What a clinician did with a card.

    Attributes:
        time: microseconds since 1970 when it was reported.
        request_id: of the prediction that the card shows.
        outcome: accepted or overridden.
        acted_at: microseconds since 1970 when the clinician acted.
        accepted: codes of the suggestions that were accepted.
        reason: code of the reason for overriding the card; null if none was given.
        reason_system: URI of its code system; null if none was given.
        comment: text of the clinician; null if there is none. It may name a patient, so only the log and its objects contain it.
    """

    time: int
    request_id: str
    outcome: str
    acted_at: int
    accepted: list[str]
    reason: str | None
    reason_system: str | None
    comment: str | None


def prediction_text(entry: LogEntry) -> tuple[int | None, bytes]:
    """Return the patient, or None if the request names none, and the line of the prediction."""
    time_ns, endpoint, dry_run, answer, (encounter_id, patient_id, *features), probability = entry
    return patient_id, _encoder.encode_lines(
        [(time_ns // 1000, endpoint, dry_run, _answer_values(answer), encounter_id, features, probability)]
    )


def patients_text(patient_ids: Sequence[int | None], patient_key: bytes) -> bytes:
    """Return the line that precedes the predictions of these patients."""
    known = iter(pseudonyms(patient_key, [patient_id for patient_id in patient_ids if patient_id is not None]))
    patients = [None if patient_id is None else next(known) for patient_id in patient_ids]
    return _encoder.encode_lines([PatientsLine(format=_FORMAT, patients=patients)])


def lines_text(lines: Sequence[OutcomeLine] | Sequence[FeedbackLine]) -> bytes:
    """Return the lines of outcomes or of feedback."""
    return _encoder.encode_lines(lines)


def read_predictions(text: bytes) -> dict[str, Sequence[Any]]:
    """Return the values of all predictions of a file, by field; the fields of the encounter are among them.

    Raises:
        ValueError: the text is empty, not lines of predictions, or was written by another version.
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
        name: [getattr(line, name) for line in lines]
        for name in ("time", "endpoint", "dry_run", "encounter_id", "hold_out_probability")
    }
    columns |= {name: [getattr(line.answer, name) for line in lines] for name in _Answer.__struct_fields__}
    features = zip(*(line.features for line in lines), strict=True)
    return {**columns, "patient_id": patients[: len(lines)], **dict(zip(_FEATURE_FIELDS, features, strict=True))}


def read_outcomes(text: bytes) -> dict[str, Sequence[Any]]:
    """Return the values of all outcomes of a file, by field.

    Raises:
        ValueError: the text is empty, or not lines of outcomes.
    """
    return _columns(text, OutcomeLine)


def read_feedback(text: bytes) -> dict[str, Sequence[Any]]:
    """Return the values of all feedback of a file, by field.

    Raises:
        ValueError: the text is empty, or not lines of feedback.
    """
    return _columns(text, FeedbackLine)


def _columns(text: bytes, kind: type[OutcomeLine | FeedbackLine]) -> dict[str, Sequence[Any]]:
    lines = _read(text, kind)
    return {name: [getattr(line, name) for line in lines] for name in kind.__struct_fields__}


def _read(text: bytes, kind: Any) -> list[Any]:
    try:
        lines: list[Any] = msgspec.json.Decoder(kind).decode_lines(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ValueError("not lines of the log") from None  # the cause contains values
    if not lines:
        raise ValueError("it is empty")
    return lines
