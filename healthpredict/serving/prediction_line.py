"""The lines of the prediction log: JSON, with pseudonyms for patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from healthpredict.data.pseudonym import pseudonyms
from healthpredict.features.encoder import Value

_encoder: Final = msgspec.json.Encoder()
Noted = tuple[int | None, bytes]
"""An encounter: the patient, and JSON of everything else. A third of the memory of a record."""


class Line(msgspec.Struct, gc=False):
    """One prediction; `ship-log` knows the fields by their names.

    Attributes:
        time: microseconds since 1970.
        request_id: of the answer; a batch has one for all its rows.
        endpoint: path that was asked.
        dry_run: whether the caller said that the encounter is not a real one.
        model_version: in the registry.
        bundle_digest: of what the answer was made with.
        readmission_risk: the answer, 0-1.
        high_risk: the answer.
        patient_id: in a file, the pseudonym.
        encounter: everything else, by `Column.field`.
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
    encounter: msgspec.Raw


def note(record: Mapping[str, Value]) -> Noted:
    """An encounter, by `Column.field`, as it waits to be written."""
    others = dict(record)
    patient_id = others.pop("patient_id", None)
    assert patient_id is None or isinstance(patient_id, int)
    return patient_id, _encoder.encode(others)


def text_of(lines: Sequence[Line], patient_key: bytes) -> bytes:
    """The lines as they stand in a file; they get their pseudonyms, which nothing may be given twice."""
    known = [line for line in lines if line.patient_id is not None]
    replaced = pseudonyms(patient_key, [line.patient_id or 0 for line in known])
    for line, pseudonym in zip(known, replaced, strict=True):
        line.patient_id = pseudonym
    return _encoder.encode_lines(lines)
