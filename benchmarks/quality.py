"""`make bench-quality`: the quality of the models and of the gate on the real data.

Seven sections of `benchmarks/results/quality.json`: `served` (ten batches, as the loop delivers them), `prequential` (ten batches,
retraining at each), `grouped` (five folds of patients), `gate` (operating characteristics), `families` (each with its first
parameters, on one split), `codes` (notations and code systems of the diagnoses) and `own_effect` (outcomes that flags change).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.codes import codes
from benchmarks.gate import gate
from benchmarks.own_effect import own_effect
from benchmarks.results import FOLDER, Stopwatch, Target, at_least, at_most, conditions, write
from healthpredict.config import Settings, quiet_vendors
from healthpredict.data.split import Side, splitmix64
from healthpredict.evaluation.bootstrap import bootstrap_weights
from healthpredict.evaluation.metrics import auroc, evaluate
from healthpredict.features.frame import encode_frame
from healthpredict.operations.accept_batch import accept_batch
from healthpredict.operations.accept_outcomes import accept_outcomes
from healthpredict.operations.arrivals import find_batch
from healthpredict.operations.dataset import LABEL, arrived_batches, sides
from healthpredict.operations.drift_loop import drift_loop
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare
from healthpredict.operations.read_labelled import read_labelled, read_matured
from healthpredict.operations.register import register
from healthpredict.operations.risks import risks_of
from healthpredict.operations.search import TrainingRequest, search
from healthpredict.operations.summarise import summarise
from healthpredict.storage.tables import read_frame
from healthpredict.training.export import export_onnx
from healthpredict.training.families import FAMILIES, Examples, probability
from healthpredict.training.fit import cross_fitted, fit_best, folds
from healthpredict.training.leak import check_auroc
from healthpredict.training.ray_cluster import ray_runtime
from healthpredict.training.search import search_models

LAST_CHRONOLOGICAL_ID = 290_000_000
"""Above it (the last 12 %), `encounter_id` is not in order of time within a patient."""
N_BOOTSTRAP = 500
METRICS = ("auroc", "auprc", "ece")
Measured = tuple[dict[str, Any], list[Target]]


def served(settings: Settings) -> Measured:
    """The drift loop with all its decisions, without an API. Batch 1 is left out, as in the other sections."""
    with tempfile.TemporaryDirectory() as folder:
        # In a folder of its own, because the other sections register versions, too.
        rollout = settings.rollout.model_copy(update={"target": "none"})
        own = {"data_uri": f"{folder}/data", "reports_uri": f"{folder}/reports", "state_path": Path(folder)}
        installation = Installation(settings.model_copy(update={**own, "rollout": rollout}))
        shutil.copytree(settings.data_uri, own["data_uri"])
        with ray_runtime(settings.ray_address):
            drift_loop(installation)
        summary = summarise(installation, read_matured(installation))
    shown = ("name", "decision", "champion_before", "champion", "auroc", "auprc", "ece", "offset", "alert_rate")
    batches = [batch.model_dump(include=set(shown)) for batch in summary.batches]
    later = pd.DataFrame(batches[1:])
    offset, alert_error = later["offset"].abs(), (later["alert_rate"] - settings.model.alert_rate).abs()
    mean = {metric: float(later[metric].mean()) for metric in METRICS}
    measured = {
        **mean,
        "absolute_offset": float(offset.mean()),
        "worst_offset": float(offset.max()),
        "alert_rate_error": float(alert_error.mean()),
        "highest_alert_rate": float(later["alert_rate"].max()),
        "batches": batches,
    }
    return measured, [
        at_least("served auroc", mean["auroc"], 0.675, stretch=0.677),
        at_least("served auprc", mean["auprc"], 0.235),
        at_most("served ece", mean["ece"], 0.0105),
        at_most("mean absolute offset", measured["absolute_offset"], 0.006),
        at_most("worst absolute offset", measured["worst_offset"], 0.013),
        at_most("mean error of the alert rate", measured["alert_rate_error"], 0.02),
        at_most("highest alert rate", measured["highest_alert_rate"], 0.25),
    ]


def prequential(settings: Settings) -> Measured:
    """Each batch is predicted before its outcomes are known, by a model that was trained on all matured data, and then evaluated.

    Production code only, without rollout and gate: every challenger becomes the champion, so that the next search starts from
    it. `frozen` is the first of them. `delayed` is the model before the newest retraining, as in a system that predicts a batch
    first and retrains afterwards.
    """
    installation = Installation(settings)
    registry, batches, predicted, bundles = installation.registry, [], [], []
    with ray_runtime(settings.ray_address):
        for name in arrived_batches(installation)[1:]:
            accept_batch(installation, find_batch(installation, name))
            accept_outcomes(installation)
            found = search(installation, TrainingRequest(trigger=name, arriving=name))
            challenger = register(installation, found)
            registry.make_champion(challenger.version)
            bundles.append(registry.fetch_bundle(registry.version(challenger.version)))
            arrived = read_frame(installation.layout.processed(name))
            models = {"current": bundles[-1], "delayed": bundles[-2:][0], "frozen": bundles[0]}
            risks = {key: risks_of(bundle, arrived) for key, bundle in models.items()}
            # Only now the outcomes.
            labelled = arrived[["encounter_id", "patient_id"]].assign(batch=name, **risks)
            labelled = labelled.merge(
                read_labelled(installation, [name]).frame[["encounter_id", LABEL]], on="encounter_id"
            )
            predicted.append(labelled)
            batches.append(
                {
                    "name": name,
                    "rows": len(labelled),
                    "family": challenger.family,
                    "trials": found.result.trials,
                    **_by_model(labelled),
                }
            )
            print(batches[-1], flush=True)
            best = max(v for key, v in batches[-1].items() if key.startswith("auroc"))
            check_auroc(f"Batch {name}", best, settings.model)
    later = batches[1:]  # the first is predicted by the first model: nothing to compare
    mean = {key: float(np.mean([batch[key] for batch in later])) for key in batches[0] if key.startswith(METRICS)}
    draws = _gains(pd.concat(predicted[1:], ignore_index=True))
    low, high = np.quantile(draws, (0.025, 0.975))
    gain = mean["auroc"] - mean["auroc_frozen"]
    measured = {**mean, "gain": gain, "gain_low": float(low), "gain_high": float(high), "batches": batches}
    return measured, [
        at_least("prequential auroc", mean["auroc"], 0.675, stretch=0.677),
        at_least("prequential auprc", mean["auprc"], 0.235),
        at_most("prequential ece", mean["ece"], 0.015),
        at_least("gain over the frozen first model", gain, 0.012),
        at_least("its lower end", measured["gain_low"], 0.0),
    ]


def _by_model(labelled: pd.DataFrame) -> dict[str, float]:
    found = {}
    for model in ("current", "delayed", "frozen"):
        suffix = "" if model == "current" else f"_{model}"
        measured = evaluate(
            labelled[LABEL].to_numpy(), labelled[model].to_numpy(), labelled["patient_id"].to_numpy(), n_bootstrap=1
        )
        found |= {
            f"auroc{suffix}": measured.auroc.value,
            f"auprc{suffix}": measured.auprc.value,
            f"ece{suffix}": measured.ece,
        }
    return found


def _gains(predicted: pd.DataFrame) -> NDArray[np.float64]:
    """Return the mean AUROC gain over the batches in each resample of patients, shape (N_BOOTSTRAP,).

    Patients are resampled over all batches together, because a patient can occur in several.
    """
    rows = list(predicted.groupby("batch").indices.values())
    label, current, frozen = (predicted[name].to_numpy() for name in (LABEL, "current", "frozen"))
    gains = []
    for chunk in bootstrap_weights(predicted["patient_id"].to_numpy(), N_BOOTSTRAP, seed=0):
        for weights in chunk:
            each = [
                roc_auc_score(label[i], current[i], sample_weight=weights[i])
                - roc_auc_score(label[i], frozen[i], sample_weight=weights[i])
                for i in rows
            ]
            gains.append(np.mean(each))
    return np.array(gains)


def grouped(settings: Settings) -> Measured:
    """Run search and fit in five folds of patients. The search uses an inner split of the other patients."""
    encounters = _everything(settings)
    encounters = encounters[encounters["encounter_id"] < LAST_CHRONOLOGICAL_ID].reset_index(drop=True)
    label, patient_id = encounters[LABEL].to_numpy(), encounters["patient_id"].to_numpy()
    # Hashed once more than the inner folds of `fit_model`, which must be independent of these.
    fold = folds(splitmix64(patient_id).astype(np.int64))
    risk, found = np.empty(len(encounters)), []
    with ray_runtime(settings.ray_address), tempfile.TemporaryDirectory() as folder:
        for left_out in range(fold.max() + 1):
            training, outside = encounters[fold != left_out], fold == left_out
            inner = sides(training) == Side.VALIDATION
            train, validation = training[~inner], training[inner]
            encoder, examples = cross_fitted(train, train[LABEL].to_numpy())
            result = search_models(
                examples,
                Examples(encode_frame(encoder, validation), validation[LABEL].to_numpy()),
                settings.search,
                Path(folder) / f"fold-{left_out}",
            )
            fitted = fit_best(result.finalists, training, training[LABEL].to_numpy(), settings.search.seed)
            risk[outside] = fitted.risks(encounters[outside])
            found.append(
                {
                    "family": fitted.candidate.family,
                    "trials": result.trials,
                    "params": fitted.candidate.params,
                    "validation_auroc": fitted.candidate.validation_auroc,
                    "auroc": auroc(label[outside], risk[outside]),
                }
            )
            print(found[-1], flush=True)
    measured = evaluate(label, risk, patient_id, n_bootstrap=N_BOOTSTRAP)
    check_auroc("The model of grouped patients", measured.auroc.value, settings.model)
    return {**measured.model_dump(), "folds": found}, [
        at_least("grouped auroc", measured.auroc.value, 0.683, stretch=0.690),
        at_least("grouped auprc", measured.auprc.value, 0.243),
        at_most("grouped ece", measured.ece, 0.010),
    ]


def families(settings: Settings) -> Measured:
    """Fit each family with its first parameters on training and validation side, and evaluate it on the test side."""
    encounters = _everything(settings)
    on_test = sides(encounters) == Side.TEST
    training, test = encounters[~on_test], encounters[on_test]
    encoder, examples = cross_fitted(training, training[LABEL].to_numpy())
    test_features = encode_frame(encoder, test)
    measured: dict[str, Any] = {}
    for name, family in FAMILIES.items():
        watch = Stopwatch()
        model = family.fit(family.first, examples, None, settings.search.seed)
        seconds = watch.cpu
        evaluation = evaluate(
            test[LABEL].to_numpy(), probability(model, test_features), test["patient_id"].to_numpy(), n_bootstrap=200
        )
        measured[name] = {
            "auroc": evaluation.auroc.model_dump(),
            "auprc": evaluation.auprc.model_dump(),
            "fit_cpu_s": seconds,
            "onnx_bytes": len(export_onnx(name, model, examples.features.shape[1])),
        }
        print(name, measured[name], flush=True)
    return {"training_rows": len(training), "test_rows": len(test), "by_family": measured}, []


def _everything(settings: Settings) -> pd.DataFrame:
    return pd.concat(_batches(settings), ignore_index=True)


def _batches(settings: Settings) -> list[pd.DataFrame]:
    """Accept all batches and outcomes. Returns: the labelled encounters of each batch, in order."""
    installation = Installation(settings)
    names = arrived_batches(installation)
    for name in names:
        accept_batch(installation, find_batch(installation, name))
    accept_outcomes(installation)
    return [read_labelled(installation, [name]).frame for name in names]


SECTIONS: dict[str, Callable[[Settings], Measured]] = {
    "served": served,
    "prequential": prequential,
    "grouped": grouped,
    "gate": lambda settings: gate(_batches(settings), settings),
    "families": families,
    "codes": lambda settings: codes(_everything(settings), settings),
    "own_effect": lambda settings: own_effect(settings, _batches(settings)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("HEALTHPREDICT_TEST_DATA"), help="default: the UCI archive")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--result", type=Path, default=FOLDER / "quality.json")
    options = parser.parse_args()
    quiet_vendors()
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_uri=f"{folder}/data", reports_uri=f"{folder}/reports", state_path=Path(folder))
        prepared = prepare(Installation(settings), options.data)
        about = conditions(
            source=Path(prepared.source).name,
            sha256=prepared.sha256,
            seed=settings.search.seed,
            search=settings.search.model_dump(),
            outcome=settings.outcome,
        )
        for name in options.sections:
            watch = Stopwatch()
            measured, targets = SECTIONS[name](settings)
            passed &= write(options.result, name, measured, targets, about | {"wall_seconds": round(watch.wall)})
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
