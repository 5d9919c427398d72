"""The contract's ids of encounters and patients. `rules.RULES` has the rules."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final

from healthpredict.data.contract import LARGEST_ID
from healthpredict.fhir.dates import read_moment
from healthpredict.fhir.resources import NO_PERIOD, Encounter, Identifier, Patient
from healthpredict.fhir.rules import LOCAL

_EPOCH: Final = datetime(1900, 1, 1, tzinfo=UTC)
_HASH_BITS: Final = 35
_MINUTE_BITS: Final = 28
"""An id that an import gave must stay the same in every later import, so these three never change."""


def encounter_id_of(encounter: Encounter) -> int:
    """Return `encounter_id`."""
    known = _local_identifier(encounter.identifier, "encounter_id")
    if known is not None:
        return known
    start = read_moment((encounter.period or NO_PERIOD).start)
    minutes = int((start.time - _EPOCH).total_seconds() // 60) if start else 0
    within = max(0, min(minutes, (1 << _MINUTE_BITS) - 1))
    return (within << _HASH_BITS | _digest(encounter.id or "") >> (63 - _HASH_BITS)) or 1


def patient_id_of(patient: Patient) -> int:
    """Return `patient_id`."""
    known = _local_identifier(patient.identifier, "patient_id")
    return known if known is not None else _digest(patient.id or "") or 1


def _local_identifier(identifiers: tuple[Identifier, ...], name: str) -> int | None:
    for identifier in identifiers:
        text = identifier.value
        if identifier.system == f"{LOCAL}{name}" and text and text.isascii() and text.isdigit():
            number = int(text)
            return number if 0 < number <= LARGEST_ID else None
    return None


def _digest(text: str) -> int:
    """Return 63 bits of the SHA-256 of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
