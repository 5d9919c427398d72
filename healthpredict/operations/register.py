"""Register a challenger: fit and calibrate the finalists, evaluate the best, and build and verify its bundle."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from scipy.special import expit, logit

from healthpredict.bundle.model import Bundle
from healthpredict.data.split import Side
from healthpredict.evaluation.decision_curve import DecisionCurve
from healthpredict.evaluation.interval import Interval
from healthpredict.evaluation.metrics import threshold_for
from healthpredict.evaluation.report import TestReport, report_on
from healthpredict.monitoring.calibration import fit_intercept
from healthpredict.monitoring.profile import RISK
from healthpredict.operations.assemble import assemble
from healthpredict.operations.built_card import log_card
from healthpredict.operations.dataset import LABEL, newest_batches, sides
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import FOR_TRAINING, UNTREATED, outcomes_of, read_labelled, with_outcome
from healthpredict.operations.search import CANDIDATES_TAG, SEARCHED_ROWS_TAG, Search, TrainingRequest
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.registry.models import ModelVersion, Registry
from healthpredict.reporting.plots import calibration_plot, decision_plot, roc_plot
from healthpredict.storage.tables import read_frame, write_frame
from healthpredict.storage.uris import exists
from healthpredict.training.export import export_onnx
from healthpredict.training.fit import FittedModel, fit_best, fit_each_uncalibrated
from healthpredict.training.leak import check_for_leak


class Challenger(BaseModel):
    """A registered challenger. The ledger contains most fields: never rename one.

    Attributes:
        version: in the registry.
        training: why and when it was trained.
        family: model family.
        run_id: the MLflow run.
        run_url: page of the run, or None if MLflow has no server.
        bundle_digest: of its bundle.
        test: the evaluation on test-side patients.
        seconds: wall time by stage, search included.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    training: TrainingRequest
    family: str
    run_id: str
    run_url: str | None
    bundle_digest: str
    test: TestReport
    seconds: Seconds


def register(installation: Installation, search: Search) -> Challenger:
    """Fit the finalists of a search, and register the best of them. A second call returns the version of the first.

    Args:
        installation: where data and models are.
        search: a complete search.

    Raises:
        LeakSuspected: see `check_for_leak`; nothing was registered.
        BundleError: the bundle does not reproduce the training pipeline; nothing was registered.
        RegistryError: MLflow failed.
    """
    registry = installation.registry
    known = next((v for v in registry.versions() if search.identity.items() <= v.tags.items()), None)
    if known is not None:
        registry.close_run(known.run_id)  # an earlier call may have been killed before it did
        return _record(installation, _challenger(registry, known, registry.fetch_bundle(known), search, search.seconds))

    seconds = dict(search.seconds)
    with timed(seconds, "load"):
        parts = read_labelled(installation, search.trained_on).parts
        labelled = pd.concat(parts, ignore_index=True)
    is_test = sides(labelled) == Side.TEST
    training, test = labelled[~is_test], with_outcome(labelled[is_test])
    fits, seed = training[FOR_TRAINING].to_numpy(), installation.settings.search.seed
    with timed(seconds, "fit"):
        fitted = fit_best(search.result.finalists, training, training[LABEL].to_numpy(), seed, fits)
    fitted, threshold = _fit_to_newest(installation, fitted, search, parts)
    search = search.model_copy(update={"result": search.result.led_by(fitted.candidate)})
    with timed(seconds, "evaluate"):
        report, plots = _evaluate(installation, fitted, training, test, threshold)
    with timed(seconds, "register"):
        registry.log(search.run_id, params=_params(search, int(fits.sum())), metrics=_metrics(report))
        registry.log_files(search.run_id, "plots", plots)
        bundle = assemble(installation, search, fitted, training=training, test=test, report=report)
        log_card(registry, search.run_id, bundle)
        write_frame(
            installation.layout.out_of_fold(bundle.manifest.model_version),
            pd.DataFrame({"encounter_id": training["encounter_id"].to_numpy(), RISK: fitted.out_of_fold_risk}),
        )
    with timed(seconds, "log_families"):
        others = search.result.candidates[1:] if search.result.trials else ()
        fitted_to = training[fits]
        models = fit_each_uncalibrated(others, fitted_to, fitted_to[LABEL].to_numpy(), seed)
        for other, (encoder, model) in zip(others, models, strict=True):
            onnx = export_onnx(other.family, model, len(encoder.feature_names))
            registry.log_onnx(search.run_id, other.family, onnx)
    with timed(seconds, "register"):
        version = registry.complete_version(search.run_id, bundle, _facts(installation, search))
        registry.close_run(search.run_id)
    challenger = _challenger(registry, version, bundle, search, seconds)
    took = sum(seconds.values()) - sum(search.seconds.values())
    result = f"version {challenger.version}: {challenger.family}, AUROC {report.evaluation.auroc} on the test side"
    log_step(search.training.trigger, "fit", took, result)
    return _record(installation, challenger)


def _record(installation: Installation, challenger: Challenger) -> Challenger:
    """Append the training to the ledger, if it is not there yet."""
    ledger = installation.ledger
    if ledger.last("training", version=challenger.version) is None:
        facts = challenger.model_dump(mode="json", exclude={"test", "training"})
        ledger.append("training", **challenger.training.model_dump(), **facts)
    return challenger


def _fit_to_newest(
    installation: Installation, fitted: FittedModel, search: Search, parts: Sequence[pd.DataFrame]
) -> tuple[FittedModel, float]:
    """Fit the calibrator's intercept to the newest outcomes, and the threshold to the newest risks.

    The share of readmissions changes over time. The mean over all training data may not hold for the next batch.

    Args:
        installation: where the arriving batch is, if it was accepted.
        fitted: the model, calibrated on all training encounters.
        search: the search that found it.
        parts: the labelled encounters of each batch of the search, in order.
    """
    settings, labelled = installation.settings, pd.concat(parts, ignore_index=True)
    test = sides(labelled) == Side.TEST
    risk = np.empty(len(labelled))
    risk[~test], risk[test] = fitted.out_of_fold_risk, fitted.risks(labelled[test])
    known = labelled[UNTREATED].notna().to_numpy()
    sizes = [len(with_outcome(part)) for part in parts]
    rows = sum(sizes[newest_batches(sizes, settings.drift.calibration_rows) :])
    newest = risk[known][-rows:]
    # What is fitted to the test side cannot be evaluated there.
    usable = ~test[known][-rows:]
    label = outcomes_of(labelled[known])[-rows:][usable]
    if min(label.sum(), len(label) - label.sum()) >= settings.drift.min_readmissions:
        shift = fit_intercept(label, logit(newest[usable]))
        fitted, newest = fitted.shifted(shift), expit(logit(newest) + shift)
    arriving = installation.layout.processed(search.training.arriving)
    arrived = fitted.risks(read_frame(arriving)) if exists(arriving) else newest
    recent = arrived if len(arrived) >= settings.drift.min_rows else newest
    return fitted, threshold_for(recent, settings.model.alert_rate)


def _evaluate(
    installation: Installation,
    fitted: FittedModel,
    training: pd.DataFrame,
    test: pd.DataFrame,
    threshold: float,
) -> tuple[TestReport, dict[str, bytes]]:
    params = installation.settings.model
    label, risk = outcomes_of(test), fitted.risks(test)
    report = report_on(
        test,
        label,
        risk,
        threshold=threshold,
        min_subgroup_rows=params.min_subgroup_rows,
        n_bootstrap=params.n_bootstrap,
    )
    known = training[UNTREATED].notna().to_numpy()
    check_for_leak(fitted, outcomes_of(training[known]), fitted.out_of_fold_risk[known], report.evaluation, params)
    title = f"{fitted.candidate.family}, {len(test):,} encounters of the test side"
    plots = {"roc.png": roc_plot(label, risk, title), "calibration.png": calibration_plot(label, risk, title)}
    if report.decision_curve is not None:
        plots["decision_curve.png"] = decision_plot({"model": report.decision_curve}, title)
    return report, plots


def _params(search: Search, training_rows: int) -> dict[str, str | int | float]:
    best = search.result.best
    return {"family": best.family, "training_rows": training_rows, "trials": search.result.trials, **best.params}


def _metrics(report: TestReport) -> dict[str, float]:
    measured: dict[str, float] = {}
    for name in ("auroc", "auprc", "brier", "calibration_in_the_large", "calibration_slope"):
        interval = getattr(report.evaluation, name)
        measured |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    if report.decision_curve is not None:
        measured |= _usefulness(report.decision_curve)
    for group in report.subgroups:
        # MLflow allows no brackets in a name.
        value = re.sub(r"[^A-Za-z0-9-]", "", group.value)
        measured[f"auroc_{group.column}/{value}"] = group.auroc.value
    return measured | {
        "ece": report.evaluation.ece,
        "baseline_auroc": report.baseline_auroc.value,
        "alert_rate": report.alert_rate,
    }


def _usefulness(curve: DecisionCurve) -> dict[str, float]:
    """Metrics at the model's own threshold, and net benefits at some others."""
    own = curve.at_threshold
    measured: dict[str, float] = {}
    for name in ("sensitivity", "ppv", "number_needed_to_evaluate", "net_benefit"):
        interval: Interval | None = getattr(own, name)
        if interval is not None:
            measured |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    for point in curve.selected:
        for name in ("net_benefit", "treat_all", "baseline", "advantage"):
            measured[f"{name}/{point.threshold:.2f}"] = getattr(point, name).value
    return measured


def _facts(installation: Installation, search: Search) -> dict[str, str]:
    return {
        **search.identity,
        "family": search.result.best.family,
        "trained_on": json.dumps(search.trained_on),
        "git_commit": installation.git_commit or "unknown",
        CANDIDATES_TAG: json.dumps([c.model_dump() for c in search.result.candidates]),
        SEARCHED_ROWS_TAG: str(search.searched_rows),
    }


def _challenger(
    registry: Registry, version: ModelVersion, bundle: Bundle, search: Search, seconds: Seconds
) -> Challenger:
    return Challenger(
        version=version.version,
        training=search.training,
        family=bundle.manifest.family,
        run_id=version.run_id,
        run_url=registry.run_url(version.run_id),
        bundle_digest=version.bundle_digest,
        test=bundle.manifest.test,
        seconds=seconds,
    )
