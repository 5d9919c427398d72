"""Map diagnosis codes of ICD-10-CM to ICD-9-CM, whose categories and groups the encoder has statistics of.

This module imports only the standard library, so that the API can use it without pandas. `data.equivalence` makes the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

from healthpredict.data.diagnosis import Coding, coding_of, read_diagnosis

_FALLBACK: Final = Coding.ICD9
"""In canonical form, `E878` is a code of ICD-9-CM."""


@dataclass(frozen=True)
class Icd10Map:
    """A map from ICD-10-CM to ICD-9-CM.

    Attributes:
        source: where it comes from, for people.
        date: when its source was released, for people.
        targets: the beginning of a code of ICD-10-CM, without point -> a canonical code of ICD-9-CM, or a group of
            `data.icd9.DIAGNOSIS_GROUPS` if ICD-9-CM has no such code. The longest beginning counts, so a code that is newer than
            the map, or incomplete, has the target of its category or chapter.
    """

    source: str
    date: str
    targets: dict[str, str]

    def icd9(self, code: str) -> str:
        """Return what ICD-9-CM has for a diagnosis.

        Args:
            code: of either system, in any notation that `read_diagnosis` can read without a stated system.

        Returns:
            A canonical code of ICD-9-CM, or a group, or the code itself if the map has nothing for it.
        """
        canonical = read_diagnosis(code, default=_FALLBACK)[0]
        if canonical is None or coding_of(canonical) is Coding.ICD9:
            return canonical or code
        letters = canonical.replace(".", "").rstrip("-")
        beginnings = (letters[:end] for end in range(len(letters), 0, -1))
        return next((self.targets[start] for start in beginnings if start in self.targets), canonical)

    def to_json(self) -> dict[str, Any]:
        """Return the map as plain data, for `from_json`."""
        return {"source": self.source, "date": self.date, "targets": self.targets}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild a map from `to_json`. Raises: KeyError, a part is absent."""
        return cls(data["source"], data["date"], dict(data["targets"]))
