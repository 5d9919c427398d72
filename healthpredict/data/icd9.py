"""Groups of ICD-9-CM diagnosis codes.

The groups are those of Strack et al. 2014, table 2 (doi 10.1155/2014/781670): the chapters of ICD-9-CM, with diabetes
separated from the endocrine chapter, and symptoms of one organ system (785 to 788, 782) moved to that system. The
paper pools the rare chapters in "other"; here they keep their own group.

This module imports only the standard library, so that the API can use it without pandas.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import Final

OTHER: Final = "other"

_RANGES: Final = (
    (1, "infections"),
    (140, "neoplasms"),
    (240, "endocrine"),
    (250, "diabetes"),
    (251, "endocrine"),
    (280, "blood"),
    (290, "mental"),
    (320, "nervous"),
    (390, "circulatory"),
    (460, "respiratory"),
    (520, "digestive"),
    (580, "genitourinary"),
    (630, "pregnancy"),
    (680, "skin"),
    (710, "musculoskeletal"),
    (740, "congenital"),
    # 760 to 779 are conditions of the newborn, which the paper's table does not name.
    (760, OTHER),
    (780, "symptoms"),
    (782, "skin"),
    (783, "symptoms"),
    (785, "circulatory"),
    (786, "respiratory"),
    (787, "digestive"),
    (788, "genitourinary"),
    (789, "symptoms"),
    (800, "injury"),
)
"""The first category (the digits before the point) of each range. A range ends before the next one, the last at 999."""

_FIRSTS: Final = tuple(first for first, _ in _RANGES)

DIAGNOSIS_GROUPS: Final = (*dict.fromkeys(group for _, group in _RANGES if group != OTHER), "V", "E", OTHER)
"""Every group that `diagnosis_group` can return."""


@lru_cache(maxsize=4096)  # more than the codes in the data set; the API looks up three per encounter
def diagnosis_group(code: str) -> str:
    """Return the group of an ICD-9-CM code written as in the data set: `428`, `250.83`, `8` (for 008), `V58`, `E909`.

    A group belongs to itself, any other text to the group "other".
    """
    if code in DIAGNOSIS_GROUPS:
        return code
    if code[:1] in ("V", "E"):
        return code[0]
    category = code.partition(".")[0]
    # `isdecimal` alone accepts digits of other scripts.
    if not (category.isascii() and category.isdecimal() and 1 <= int(category) <= 999):
        return OTHER
    return _RANGES[bisect_right(_FIRSTS, int(category)) - 1][1]
