"""Register a challenger: fit and calibrate the finalists, measure the best, and put it into a bundle that is proved equal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.model import Bundle
from healthpredict.config import Settings
from healthpredict.data.split import Side
from healthpredict.errors import LeakSuspected
from healthpredict.evaluation.plots import calibration_plot, roc_plot
from healthpredict.evaluation.report import TestReport, report_on
from healthpredict.features.encoder import Encoder
from healthpredict.operations.assemble import assemble
from healthpredict.operations.context import Seconds, git_commit, log_step, open_ledger, open_registry, timed
from healthpredict.operations.dataset import LABEL, sides
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.operations.search import CANDIDATES_TAG, Search
from healthpredict.registry.models import ModelVersion, Registry
from healthpredict.training.export import export_onnx
from healthpredict.training.fit import FittedModel, fit_each_uncalibrated, fit_finalists
from healthpredict.training.params import FamilyName


class Challenger(BaseModel):
    """A registered challenger.

    Attributes:
        version: in the registry.
        trigger: see `Search`.
        arriving: see `Search`.
        family: model family.
        run_id: the MLflow run.
        run_url: its page, where MLflow is a server.
        bundle_digest: of its bundle.
        test: measured on test-side patients.
        seconds: wall time by stage, search included.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    trigger: str
    arriving: str
    family: str
    run_id: str
    run_url: str | None
    bundle_digest: str
    test: TestReport
    seconds: Seconds


def register(settings: Settings, search: Search) -> Challenger:
    """Fit the best candidates of a search and register the best of them. A search that has its version already gets no second one.

    Args:
        settings: thresholds, seed, registry.
        search: complete.

    Raises:
        LeakSuspected: the model is better than this problem allows; nothing was registered.
        BundleError: the bundle does not reproduce the training pipeline; nothing was registered.
        RegistryError: MLflow failed.
    """
    registry = open_registry(settings)
    known = next((v for v in registry.versions() if search.identity.items() <= v.tags.items()), None)
    if known is not None:
        return _written_down(
            settings, _challenger(registry, known, registry.fetch_bundle(known), search, search.seconds)
        )

    seconds = dict(search.seconds)
    with timed(seconds, "load"):
        labelled = read_labelled(settings, search.trained_on)
    training, test = (labelled[mask] for mask in (sides(labelled) != Side.TEST, sides(labelled) == Side.TEST))
    with timed(seconds, "fit"):
        candidates = search.result.candidates[: search.finalists]
        finalists = fit_finalists(candidates, training, training[LABEL].to_numpy(), settings.search.seed)
    fitted = finalists[0]
    search = search.model_copy(update={"result": search.result.led_by([f.candidate for f in finalists])})
    with timed(seconds, "evaluate"):
        report, plots = _evaluate(settings, fitted, test)
    others = search.result.candidates[len(finalists) :]
    # A fit releases the GIL, so another core does it while this one assembles the bundle.
    with ThreadPoolExecutor(1) as pool:
        fits = pool.submit(fit_each_uncalibrated, others, training, training[LABEL].to_numpy(), settings.search.seed)
        with timed(seconds, "register"):
            registry.log(search.run_id, params=_params(search, len(training)), metrics=_metrics(report))
            registry.log_files(search.run_id, "plots", plots)
            bundle = assemble(settings, search, fitted, training=training, test=test, report=report)
        with timed(seconds, "log_families"):
            models = {f.candidate.family: (f.encoder, f.model) for f in finalists[1:]}
            models |= {other.family: model for other, model in zip(others, fits.result(), strict=True)}
            _log_families(registry, search.run_id, models)
    with timed(seconds, "register"):
        version = registry.complete_version(search.run_id, bundle, _facts(settings, search))
        registry.close_run(search.run_id)
    challenger = _challenger(registry, version, bundle, search, seconds)
    took = sum(seconds.values()) - sum(search.seconds.values())
    log_step(search.trigger, "fit", took, f"version {challenger.version}: {challenger.family}, {_auroc(report)}")
    return _written_down(settings, challenger)


def _written_down(settings: Settings, challenger: Challenger) -> Challenger:
    """Append the training to the ledger, once, also where it was killed after registering."""
    ledger = open_ledger(settings)
    if ledger.last("training", version=challenger.version) is None:
        ledger.append("training", **challenger.model_dump(mode="json", exclude={"test"}))
    return challenger


def _log_families(registry: Registry, run_id: str, models: Mapping[FamilyName, tuple[Encoder, Any]]) -> None:
    """Log the best of every other family as a model; the best of all is logged with its bundle."""
    for family, (encoder, model) in models.items():
        registry.log_onnx(run_id, family, export_onnx(family, model, len(encoder.feature_names)))


def _evaluate(settings: Settings, fitted: FittedModel, test: pd.DataFrame) -> tuple[TestReport, dict[str, bytes]]:
    params = settings.model
    label, risk = test[LABEL].to_numpy(), fitted.risks(test)
    report = report_on(
        test,
        label,
        risk,
        threshold=fitted.threshold(params.alert_rate),
        min_subgroup_rows=params.min_subgroup_rows,
        n_bootstrap=params.n_bootstrap,
    )
    # The lower end: on a small test side chance alone goes above the limit.
    if report.evaluation.auroc.low > params.leak_auroc:
        raise LeakSuspected(f"The {fitted.candidate.family} model", report.evaluation.auroc.low, params.leak_auroc)
    title = f"{fitted.candidate.family}, {len(test):,} encounters of the test side"
    plots = {"roc.png": roc_plot(label, risk, title), "calibration.png": calibration_plot(label, risk, title)}
    return report, plots


def _auroc(report: TestReport) -> str:
    auroc = report.evaluation.auroc
    return f"AUROC {auroc.value:.3f} [{auroc.low:.3f}, {auroc.high:.3f}] on the test side"


def _params(search: Search, training_rows: int) -> dict[str, str | int | float]:
    best = search.result.best
    return {"family": best.family, "training_rows": training_rows, "trials": search.result.trials, **best.params}


def _metrics(report: TestReport) -> dict[str, float]:
    measured: dict[str, float] = {}
    for name in ("auroc", "auprc", "brier", "ece", "calibration_in_the_large", "calibration_slope"):
        interval = getattr(report.evaluation, name)
        measured |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    for group in report.subgroups:
        # MLflow allows no brackets in a name.
        value = re.sub(r"[^A-Za-z0-9-]", "", group.value)
        measured[f"auroc_{group.column}/{value}"] = group.auroc.value
    return measured | {
        "baseline_auroc": report.baseline_auroc.value,
        "alert_rate": report.alert_rate,
        "sensitivity": report.sensitivity,
    }


def _facts(settings: Settings, search: Search) -> dict[str, str]:
    return {
        **search.identity,
        "family": search.result.best.family,
        "trained_on": json.dumps(search.trained_on),
        "git_commit": git_commit(settings) or "unknown",
        CANDIDATES_TAG: json.dumps([c.model_dump() for c in search.result.candidates]),
    }


def _challenger(
    registry: Registry, version: ModelVersion, bundle: Bundle, search: Search, seconds: Seconds
) -> Challenger:
    return Challenger(
        version=version.version,
        trigger=search.trigger,
        arriving=search.arriving,
        family=bundle.manifest.family,
        run_id=version.run_id,
        run_url=registry.run_url(version.run_id),
        bundle_digest=version.bundle_digest,
        test=bundle.manifest.test,
        seconds=seconds,
    )
