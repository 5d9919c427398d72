"""The section `codes` of `make bench-quality`: what notation and code system of the diagnoses change.

The data set has categories of ICD-9-CM, and whole codes for diabetes. To write them as a hospital does, each one becomes a random
whole code of ICD-9-CM below it; to translate it, this code becomes a random one of those that CMS's mappings name for it. A random
code is harder than a usual one, because rare codes are as likely as frequent ones.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.results import Target, at_least, at_most
from healthpredict.config import Settings
from healthpredict.data.contract import DIAGNOSES
from healthpredict.data.diagnosis import Coding, coding_of, read_diagnosis
from healthpredict.data.equivalence import FROM_ICD9, icd10_map, read_mappings
from healthpredict.data.split import Side
from healthpredict.evaluation.gain import auroc_gain
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.metrics import auroc
from healthpredict.features.frame import encode_frame
from healthpredict.operations.dataset import LABEL, sides
from healthpredict.training.families import FAMILIES, probability
from healthpredict.training.fit import cross_fitted

N_NOTATION = 20_000
FAMILY = "lightgbm"


def codes(encounters: pd.DataFrame, settings: Settings) -> tuple[dict[str, Any], list[Target]]:
    """Measure on the test side, with a model in its first parameters.

    Args:
        encounters: all labelled encounters.
        settings: for the seed.
    """
    rng = np.random.default_rng(settings.search.seed)
    on_test = sides(encounters) == Side.TEST
    training, test = encounters[~on_test], encounters[on_test].reset_index(drop=True)
    label, patients = test[LABEL].to_numpy(), test["patient_id"].to_numpy()
    predict = _trained(training, settings.search.seed)
    risk = predict(test)

    sample = encounters.sample(N_NOTATION, random_state=settings.search.seed)
    as_sent = predict(sample)
    changed = {name: float((predict(_read(sample, name, rng)) != as_sent).mean()) for name in ("point", "no point")}

    translated = _translated(test, rng)
    there_and_back = predict(translated)
    cost = auroc_gain(label, there_and_back, risk, patients)
    own = _trained(_translated(training, rng), settings.search.seed)(translated)
    cost_of_own = auroc_gain(label, own, risk, patients)
    measured = {
        "test_rows": len(test),
        "auroc": auroc(label, risk),
        "changed_risks": changed,
        "auroc_icd10": auroc(label, there_and_back),
        "auroc_cost": _negative(cost),
        "auroc_icd10_trained_on_icd10": auroc(label, own),
        "auroc_cost_trained_on_icd10": _negative(cost_of_own),
        "mean_absolute_risk_change": float(np.abs(there_and_back - risk).mean()),
        "same_code": {name: _same(test[name], translated[name]) for name in DIAGNOSES},
    }
    return measured, [
        at_most("risks changed by the standard notation", max(changed.values()), 0.0),
        at_most("auroc cost of ICD-9 -> 10 -> 9", measured["auroc_cost"]["value"], 0.002),
        at_most("auroc cost if trained on ICD-10", measured["auroc_cost_trained_on_icd10"]["value"], 0.002),
        at_least("share of primary diagnoses with the same code", measured["same_code"]["diag_1"], 0.9),
    ]


def _trained(training: pd.DataFrame, seed: int) -> Any:
    encoder, examples = cross_fitted(training, training[LABEL].to_numpy())
    model = FAMILIES[FAMILY].fit(FAMILIES[FAMILY].first, examples, None, seed)
    return lambda frame: probability(model, encode_frame(encoder, frame))


def _whole_codes() -> dict[str, list[str]]:
    """Return the whole codes of ICD-9-CM, without point, by canonical form."""
    whole: dict[str, list[str]] = defaultdict(list)
    for code in dict.fromkeys(line[0] for line in read_mappings(FROM_ICD9)):
        canonical = read_diagnosis(code, Coding.ICD9)[0]
        assert canonical is not None
        whole[canonical].append(code)
    return whole


def _replaced(frame: pd.DataFrame, choices: dict[str, list[str]], rng: np.random.Generator) -> pd.DataFrame:
    """Replace each diagnosis by a random one of its choices. One without choices stays."""

    def replace(code: Any) -> Any:
        found = choices.get(code)
        return code if found is None else found[rng.integers(len(found))]

    return frame.assign(**{name: frame[name].astype(object).map(replace).astype("str") for name in DIAGNOSES})


def _read(frame: pd.DataFrame, notation: str, rng: np.random.Generator) -> pd.DataFrame:
    """Write the diagnoses as whole codes, and read them as the contract does."""
    written = _replaced(frame, _whole_codes(), rng)

    def read(code: str) -> str | None:
        category = 4 if code[0] == "E" else 3
        if notation == "point" and "." not in code and len(code) > category:
            code = f"{code[:category]}.{code[category:]}"
        return read_diagnosis(code, Coding.ICD9)[0]

    columns = {name: written[name].map(read, na_action="ignore").astype("str") for name in DIAGNOSES}
    return written.assign(**columns)


def _translated(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Translate the diagnoses to ICD-10-CM. What the mappings have nothing for stays."""
    targets: dict[str, list[str]] = defaultdict(list)
    for icd9, icd10, _, _, no_map, _, scenario, choice in read_mappings(FROM_ICD9):
        code = read_diagnosis(icd10, Coding.ICD10)[0]
        if no_map == "0" and int(scenario) <= 1 and int(choice) <= 1 and code is not None:
            targets[icd9].append(code)
    whole = {code: [icd9 for icd9 in found if icd9 in targets] for code, found in _whole_codes().items()}
    return _replaced(_replaced(frame, {code: found for code, found in whole.items() if found}, rng), targets, rng)


def _same(before: pd.Series, after: pd.Series) -> float:
    known = before.notna().to_numpy()
    back = after[known].map(icd10_map().icd9)
    assert (after[known].map(coding_of) == Coding.ICD10).mean() > 0.9
    return float((before[known].to_numpy() == back.to_numpy()).mean())


def _negative(gain: Interval) -> dict[str, float]:
    return {"value": -gain.value, "low": -gain.high, "high": -gain.low}
