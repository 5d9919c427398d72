"""Hold back a small random share of the flags just above the threshold, so that their effect can be known.

docs/hold-out.md says what a review board will ask.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from healthpredict.features.encoder import Value

_PURPOSE: Final = b"health-predict: hold-out of encounter "
"""Never change it, nor the digest: which flags are held back follows from them, also in the middle of a hold-out."""
_RANGE: Final = 2**64


@dataclass(frozen=True)
class HoldOut:
    """Which flags are held back.

    Attributes:
        share: probability (0-1) that a flag within `width` is held back.
        width: only risks less than this above the threshold are held back.
        below: no risk from here on is held back, for example one that a hospital calls critical.
        key: secret of the installation. With it, an encounter has the same answer in every process, and nobody can predict it.
    """

    share: float
    width: float
    key: bytes
    below: float = 1.0

    def probability(self, risk: float, threshold: float, encounter_id: Value) -> float | None:
        """Return the probability with which the flag of an encounter is held back, or None if it never is.

        Args:
            risk: of the encounter (0-1).
            threshold: of the model version.
            encounter_id: if it is None, the outcome could not be matched, so nothing is held back.
        """
        within = threshold <= risk < min(threshold + self.width, self.below)
        return self.share if within and encounter_id is not None else None

    def holds_back(self, risk: float, threshold: float, encounter_id: Value) -> bool:
        """Return whether the flag of an encounter is held back. The arguments are those of `probability`."""
        if self.probability(risk, threshold, encounter_id) is None:
            return False
        digest = hmac.new(self.key, _PURPOSE + str(encounter_id).encode(), hashlib.sha256).digest()
        return int.from_bytes(digest[:8]) / _RANGE < self.share
