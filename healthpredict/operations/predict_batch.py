"""Predict an accepted batch with the champion. These predictions are evaluated once outcomes are known."""

from __future__ import annotations

import pandas as pd
from pydantic import BaseModel, ConfigDict

from healthpredict.evaluation.metrics import expected_auroc
from healthpredict.monitoring.profile import RISK
from healthpredict.operations.installation import Installation
from healthpredict.operations.risks import risks_of
from healthpredict.storage.tables import read_frame, write_frame
from healthpredict.storage.uris import exists


class PredictedBatch(BaseModel):
    """The predictions of a batch.

    Attributes:
        version: the version that predicted it. For a live batch, the highest version among its predictions.
        live: whether the API made the predictions, at discharge.
        expected_auroc: estimated from the risks alone, before outcomes are known.
        silent: whether no flag was issued for any of them.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    live: bool
    expected_auroc: float
    silent: bool = False


def predict_batch(installation: Installation, name: str) -> PredictedBatch:
    """Write the predictions of a batch to `predictions/`: `encounter_id`, `readmission_risk`, `high_risk`, `model_version`.

    For a live batch, these are the predictions of the API, with `first_predicted`, and the champion predicts nothing. In silence,
    `high_risk` is null.

    Args:
        installation: where data and models are.
        name: an accepted batch.

    Raises:
        RegistryError: there is no champion, or MLflow failed.
        StorageError: something cannot be read or written.
    """
    layout = installation.layout
    encounters = read_frame(layout.processed(name))
    live = exists(layout.live_predictions(name))
    if live:
        logged = read_frame(layout.live_predictions(name))
        predicted = encounters[["encounter_id"]].merge(logged, on="encounter_id", validate="one_to_one")
    else:
        registry = installation.registry
        champion = registry.champion()
        bundle = registry.fetch_bundle(champion)
        risk = risks_of(bundle, encounters)
        predicted = pd.DataFrame({"encounter_id": encounters["encounter_id"], RISK: risk})
        predicted = predicted.assign(high_risk=risk >= bundle.manifest.threshold, model_version=champion.version)
        if installation.settings.silent:
            predicted["high_risk"] = None
    write_frame(layout.predictions(name), predicted)
    expected = expected_auroc(predicted[RISK].to_numpy())
    return PredictedBatch(
        version=int(predicted["model_version"].max()),
        live=live,
        # Live batches of earlier versions of this system have no flags.
        silent="high_risk" in predicted and bool(predicted["high_risk"].isna().all()),
        expected_auroc=expected,
    )
