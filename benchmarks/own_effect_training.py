"""Ways to train on outcomes that flags have changed; `own_effect` of `make bench-quality` compares them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from numpy.typing import NDArray

from healthpredict.evaluation.interval import Floats
from healthpredict.evaluation.metrics import auroc
from healthpredict.evaluation.untreated import untreated_outcomes
from healthpredict.features.frame import encode_frame
from healthpredict.operations.dataset import LABEL
from healthpredict.training.candidates import first_candidate
from healthpredict.training.fit import N_DIVISIONS, cross_fitted

if TYPE_CHECKING:
    from benchmarks.own_effect import Cell, Population

WAYS: Final = ("all encounters", "without the treated", "weighted", "intervention as a variable")


def train_ways(population: Population, earlier: Sequence[pd.DataFrame], cells: Sequence[Cell]) -> dict[str, Any]:
    """Fit LightGBM in each way to all batches but the last, and compare its risks for the last batch with the truth.

    Args:
        population: predicted batches; all but the last have interventions.
        earlier: labelled batches without interventions.
        cells: what is planted.

    Returns:
        cell -> way -> AUROC, and mean risk minus readmitted share of the fifth with the highest risks.
    """
    last = population.batch == population.batch.max()
    known = pd.concat([*earlier, population.encounters[~last]], ignore_index=True)
    test, truth = population.encounters[last], population.readmitted[last]
    n_earlier = sum(map(len, earlier))
    found: dict[str, Any] = {}
    for cell in cells:
        rng = np.random.default_rng(0)
        flagged = population.flagged[~last]
        treated = flagged & (rng.random(len(flagged)) < population.probability_of_acceptance(cell)[~last])
        prevented = treated & (rng.random(len(flagged)) < cell.effect)
        readmitted = population.readmitted[~last] & ~prevented
        weight = untreated_outcomes(
            readmitted, population.treatment(treated, ~last), population.variables[~last], population.patient_id[~last]
        ).weight
        label = np.concatenate([known[LABEL].to_numpy(dtype=np.bool_)[:n_earlier], readmitted])
        treated, weight = np.concatenate([np.zeros(n_earlier, dtype=bool), treated]), np.r_[np.ones(n_earlier), weight]
        found[cell.name] = {}
        for way in WAYS:
            risk = _fit_and_predict(way, known.assign(**{LABEL: label}), treated, weight, test)
            highest = risk >= np.quantile(risk, 0.8)
            found[cell.name][way] = {
                "auroc": auroc(truth, risk),
                "offset_of_highest": float((risk - truth)[highest].mean()),
            }
        print(cell.name, found[cell.name], flush=True)
    return found


def _fit_and_predict(
    way: str, known: pd.DataFrame, treated: NDArray[np.bool_], weight: Floats, test: pd.DataFrame
) -> Floats:
    rows = ~treated if way in ("without the treated", "weighted") else np.ones(len(known), dtype=bool)
    encoder, examples = cross_fitted(known[rows], known.loc[rows, LABEL].to_numpy(dtype=np.bool_))
    features, test_features = examples.features, encode_frame(encoder, test)
    if way == "intervention as a variable":
        features = np.column_stack([features, np.tile(treated, N_DIVISIONS)])
        test_features = np.column_stack([test_features, np.zeros(len(test))])
    params = first_candidate("lightgbm").params
    model = LGBMClassifier(**params, subsample_freq=1, n_jobs=1, random_state=0, deterministic=True, verbose=-1)
    model.fit(
        features, examples.classes, sample_weight=np.tile(weight[rows], N_DIVISIONS) if way == "weighted" else None
    )
    return np.asarray(model.predict_proba(test_features)[:, 1])
