"""Antidiabetic drugs in RxNorm: which of the contract's 23 columns a coded or named drug belongs to.

Sources: RxNorm (NLM), ingredient concepts (term types IN and MIN) and the naming convention of clinical drugs, which lists
ingredients with " / " between them. Antidiabetics that the data set of 1999 to 2008 has no column for are `OTHER`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from healthpredict.data.contract import MEDICATIONS
from healthpredict.fhir.resources import Drug

RXNORM: Final = "http://www.nlm.nih.gov/research/umls/rxnorm"
OTHER: Final = "other"
"""An antidiabetic without a column, such as sitagliptin."""

RXNORM_INGREDIENTS: Final = {
    "173": "acetohexamide",
    "2404": "chlorpropamide",
    "4815": "glyburide",
    "4821": "glipizide",
    "6809": "metformin",
    "10633": "tolazamide",
    "10635": "tolbutamide",
    "16681": "acarbose",
    "25789": "glimepiride",
    "30009": "miglitol",
    "33738": "pioglitazone",
    "72610": "troglitazone",
    "73044": "repaglinide",
    "84108": "rosiglitazone",
    "274332": "nateglinide",
    # Insulins.
    "5856": "insulin",
    "51428": "insulin",  # aspart
    "86009": "insulin",  # lispro
    "139825": "insulin",  # detemir
    "253182": "insulin",  # regular, human
    "274783": "insulin",  # glargine
    "400008": "insulin",  # glulisine
    "1670007": "insulin",  # degludec
    # Without a column.
    "60548": OTHER,  # exenatide
    "475968": OTHER,  # liraglutide
    "593411": OTHER,  # sitagliptin
    "857974": OTHER,  # saxagliptin
    "1100699": OTHER,  # linagliptin
    "1368001": OTHER,  # alogliptin
    "1373458": OTHER,  # canagliflozin
    "1488564": OTHER,  # dapagliflozin
    "1545653": OTHER,  # empagliflozin
    "1551291": OTHER,  # dulaglutide
    "1991302": OTHER,  # semaglutide
    "2601723": OTHER,  # tirzepatide
}
"""Ingredient (RxCUI) -> column, or `OTHER`."""

RXNORM_DRUGS: Final = {
    "106892": ("insulin",),  # isophane 70 / regular 30
    "311034": ("insulin",),  # regular
    "865098": ("insulin",),  # lispro
    "860975": ("metformin",),  # 24 HR extended release 500 MG
}
"""Clinical drugs (RxCUI) of the Synthea export -> columns. All other clinical drugs are read by name."""

NAMES: Final = {
    **{name: name for name in MEDICATIONS if "-" not in name},
    "glibenclamide": "glyburide",
    "isophane": "insulin",
    "humulin": "insulin",
    "novolin": "insulin",
    "humalog": "insulin",
    "novolog": "insulin",
    "lantus": "insulin",
    "levemir": "insulin",
    "toujeo": "insulin",
    "tresiba": "insulin",
    "glucophage": "metformin",
    **dict.fromkeys(
        (
            "albiglutide",
            "alogliptin",
            "bexagliflozin",
            "canagliflozin",
            "dapagliflozin",
            "dulaglutide",
            "empagliflozin",
            "ertugliflozin",
            "exenatide",
            "linagliptin",
            "liraglutide",
            "lixisenatide",
            "pramlintide",
            "saxagliptin",
            "semaglutide",
            "sitagliptin",
            "sotagliflozin",
            "tirzepatide",
        ),
        OTHER,
    ),
}
"""Words in the name of a drug -> column, or `OTHER`. Brands are those under which insulin and metformin are ordered without a
generic name. Two names of the data set, `examide` and `citoglipton`, are no drugs (every value is `No`)."""

COMBINATIONS: Final = {frozenset(name.split("-")): name for name in MEDICATIONS if "-" in name}
"""Set of ingredients -> column of the combination drug."""
_WORD: Final = re.compile(r"[a-z]+")


@lru_cache(maxsize=16384)  # a hospital's formulary has some thousand drugs
def antidiabetics(drug: Drug) -> tuple[str, ...]:
    """Return the columns that a drug belongs to: by its RxNorm code, else by its name.

    A combination belongs to its own column if there is one, otherwise to the columns of its ingredients.

    Returns:
        Names of the contract and `OTHER`, or nothing if the drug is no antidiabetic.
    """
    found: set[str] = set()
    for coding in drug.coding:
        if coding.system == RXNORM and coding.code is not None:
            if coding.code in RXNORM_DRUGS:
                return RXNORM_DRUGS[coding.code]
            if coding.code in RXNORM_INGREDIENTS:
                found.add(RXNORM_INGREDIENTS[coding.code])
    if not found:
        names = [name for name in (*(coding.display for coding in drug.coding), drug.text) if name]
        found = {NAMES[word] for name in names for word in _WORD.findall(name.lower()) if word in NAMES}
    combination = COMBINATIONS.get(frozenset(found))
    return (combination,) if combination else tuple(sorted(found))


@lru_cache(maxsize=16384)
def drug_key(drug: Drug) -> str | None:
    """Return what distinguishes a drug from others: its RxNorm code, else another code, else its name; None if it has none."""
    codes = [coding for coding in drug.coding if coding.code]
    chosen = next((coding for coding in codes if coding.system == RXNORM), codes[0] if codes else None)
    if chosen is not None:
        return f"{chosen.system or ''}|{chosen.code}"
    return (drug.text or "").strip().casefold() or None
