"""The drift loop: process every batch that is not done yet; recalibrate or retrain, and roll out, if that is the decision.

A batch is predicted after the update that it leads to, so its predictions use everything that was known when it arrived. A live
batch keeps the predictions that the API made.

The ledger records which batches are done. The event of a batch is appended last, after any training and rollout. So a loop that was
killed repeats its last batch. The steps are idempotent (see `search`, `register`, `roll_out`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from healthpredict.config import BatchSource
from healthpredict.data.batches import INITIAL, natural_key
from healthpredict.errors import (
    AlreadyRunning,
    BatchRefused,
    HealthPredictError,
    NoChampion,
    NothingToPredict,
    Removed,
    StillArriving,
)
from healthpredict.operations.accept_batch import AcceptedBatch, accept_batch
from healthpredict.operations.accept_interventions import accept_interventions, pending_interventions
from healthpredict.operations.accept_outcomes import accept_outcomes, pending_outcomes
from healthpredict.operations.arrivals import (
    DeliveredFile,
    Fingerprint,
    delivered_interventions,
    delivered_outcomes,
    fingerprint,
)
from healthpredict.operations.check_ledger import check_ledger
from healthpredict.operations.collect_live import collect_live
from healthpredict.operations.detect_drift import DriftCheck, detect_drift
from healthpredict.operations.gate import read_decision
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import Pending, batch_events, find_pending
from healthpredict.operations.predict_batch import PredictedBatch, predict_batch
from healthpredict.operations.promote import promote
from healthpredict.operations.recalibrate import Recalibrated, recalibrate
from healthpredict.operations.roll_out import repair_rollout
from healthpredict.operations.search import TrainingRequest
from healthpredict.operations.ship_log import ship_log
from healthpredict.operations.train import train
from healthpredict.storage.lease import Lease
from healthpredict.storage.lock import exclusive
from healthpredict.training.gate import GateDecision

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Steps:
    """What the loop does with each batch. The Prefect flow passes tasks and flows that do the same.

    After a kill, the loop calls a step again with the same arguments, so a step must continue where it stopped. The loop ignores
    what `train` and `promote` return, and reads from the ledger what they did.

    Attributes:
        accept: check the file of a batch and store its cohort. Raises `BatchRefused` if the batch cannot be used, or
            `StillArriving` if the file changed while it was read.
        detect: compare the accepted batch of this name with the champion, and decide.
        train: train and gate a challenger. Appends the events `training` and `gate`.
        promote: put this version into service. Raises an error if the version does not serve.
        recalibrate: register a recalibration of the champion, as the check of this batch found it. Appends the event
            `recalibration`. Returns None if another version has become the champion since the check.
        predict: predict the batch of this name with the champion, or keep the predictions of the API if it is a live batch.
    """

    accept: Callable[[Installation, DeliveredFile], AcceptedBatch] = accept_batch
    detect: Callable[[Installation, str], DriftCheck] = detect_drift
    train: Callable[[Installation, TrainingRequest], object] = train
    recalibrate: Callable[[Installation, str], Recalibrated | None] = recalibrate
    promote: Callable[[Installation, int], object] = promote
    predict: Callable[[Installation, str], PredictedBatch] = predict_batch


class LoopRun(BaseModel):
    """What one run of the loop did.

    Attributes:
        done: names of the batches that it processed, in order, including refused ones.
        notices: what the operator should know about the batches and outcomes of this run.
        open_points: sentences on files that are pending, changed or ignored at the end of the run.
        needs_rerun: whether a file of a batch or of outcomes may still be incomplete, so that another run is needed soon.
    """

    model_config = ConfigDict(frozen=True)

    done: list[str]
    notices: list[str]
    open_points: list[str]
    needs_rerun: bool

    @property
    def sentences(self) -> list[str]:
        """Everything that the operator should know, without repetitions."""
        return list(dict.fromkeys([*self.notices, *self.open_points]))

    def followed_by(self, later: LoopRun) -> LoopRun:
        """Return the result of both runs together."""
        return LoopRun(
            done=[*self.done, *later.done],
            notices=[*self.notices, *later.notices],
            open_points=later.open_points,
            needs_rerun=later.needs_rerun,
        )


def drift_loop(installation: Installation, steps: Steps | None = None, source: BatchSource = "batches") -> LoopRun:
    """Process every batch that has arrived and is not in the ledger, in order, including those that arrive during the run.

    If a batch cannot be used, its event records the reason, and the loop continues with the next one.

    Args:
        installation: where data, models and API are.
        steps: what is done with each batch.
        source: "live" first cuts batches from the predictions of the API, see `collect_live`.

    Raises:
        AlreadyRunning: another loop, perhaps on another host, uses the same state or the same data.
        NoChampion: the first model did not pass the gate; no batch was processed.
        HealthPredictError: a step failed, and the batch is not done. It may already have led to a promotion. The next run
            determines what serves, and repeats the batch.
    """
    with (
        exclusive(installation.settings.state_path / "drift-loop.lock", "The drift loop"),
        installation.hold_lease("drift-loop", "The drift loop") as lease,
    ):
        if source == "live":
            _collect(installation)
        loop = _Loop(installation, steps or Steps(), lease)
        loop.prepare()
        while (ready := loop.next()) is not None:
            loop.process(*ready)
        return loop.finish()


def _collect(installation: Installation) -> None:
    log_path = installation.settings.prediction_log_path
    if log_path.exists():
        # The local API writes this log. Elsewhere, a process beside the API ships its log.
        with contextlib.suppress(AlreadyRunning):
            ship_log(installation, log_path)
    collected = collect_live(installation)
    _logger.info(
        "New batches: %s; %d predictions are in no batch yet", ", ".join(collected.batches) or "none", collected.waiting
    )


@dataclass
class _Loop:
    """One run of the loop.

    Attributes:
        done, notices: see `LoopRun`.
        tried: fingerprints of the files that this run has processed, so that each is processed once.
    """

    installation: Installation
    steps: Steps
    lease: Lease
    done: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    tried: set[Fingerprint] = field(default_factory=set)

    def prepare(self) -> None:
        """Accept what was reported, repair what an interrupted rollout left, and train the first model if there is none."""
        self._accept_reports()
        if (problem := repair_rollout(self.installation)) is not None:
            self.notices.append(problem)
        # Ask the ledger and not the alias, because a rollout may be killed after it moved the alias and before it is recorded.
        if self.installation.ledger.last("promotion") is None:
            ready = find_pending(self.installation).ready
            training = TrainingRequest(trigger=INITIAL, arriving=ready[0] if ready else INITIAL)
            version, decision = self._train_and_promote(training)
            if not decision.promote:
                raise NoChampion(version, decision.reasons)

    def next(self) -> tuple[DeliveredFile, Fingerprint] | None:
        """Return the next batch that is ready and that this run has not processed yet, or None."""
        pending = find_pending(self.installation)
        for name in pending.ready:
            file = pending.files[name]
            try:
                content = fingerprint(file)
            except Removed as error:
                self._report(str(error))
                continue
            if content not in self.tried:
                return file, content
        return None

    def process(self, file: DeliveredFile, content: Fingerprint) -> None:
        """Process one batch and append its event."""
        self.lease.check()
        self.installation.ledger.refresh()  # a person may have set the decision on this batch
        self.tried.add(content)
        try:
            self._process(file, content)
            self.done.append(file.name)
        except StillArriving as error:
            self._report(str(error))
        self._accept_reports()

    def finish(self) -> LoopRun:
        """Check the ledger, and report what is pending."""
        check_ledger(self.installation)
        pending = find_pending(self.installation)
        self._record_changes(pending)
        reports = (delivered_outcomes(self.installation), delivered_interventions(self.installation))
        files = [*pending.files.values(), *(file for folder in reports for file in folder.files.values())]
        return LoopRun(
            done=self.done,
            notices=self.notices,
            open_points=[
                *pending.sentences,
                *pending_outcomes(self.installation),
                *pending_interventions(self.installation),
            ],
            needs_rerun=any(file.will_be_complete for file in files),
        )

    def _process(self, file: DeliveredFile, content: Fingerprint) -> None:
        name, ledger = file.name, self.installation.ledger
        key = f"batch {name} {content.sha256}"
        notices = self._notices_of_order(name)
        try:
            accepted = self.steps.accept(self.installation, file)
        except BatchRefused as error:
            decision = "empty" if isinstance(error, NothingToPredict) else "refused"
            facts = {"decision": decision, "reasons": [str(error)], "notices": notices}
            self.lease.check()
            ledger.append("batch", key=key, batch=name, **facts, **content.model_dump())
            self.notices += notices
            self._report(str(error))
            return
        notices += accepted.sentences
        check = self.steps.detect(self.installation, name)
        challenger, promoted, recalibrated = None, False, None
        if check.decision.state == "retrain":
            challenger, gate = self._train_and_promote(TrainingRequest(trigger=name, arriving=name))
            promoted = gate.promote
        if check.recalibrate and not promoted:
            recalibrated = self._recalibrate_and_promote(name)
        predicted = self.steps.predict(self.installation, name)
        self.lease.check()
        ledger.append(
            "batch",
            key=key,
            batch=name,
            rows=check.rows,
            decision=check.decision.state,
            reasons=list(check.decision.reasons),
            notices=notices,
            drifted_share=check.data.drifted_share,
            drifted_columns=list(check.decision.columns),
            unknown_diagnoses=check.unknown_diagnoses,
            alarms=[alarm.model_dump() for alarm in check.alarms],
            jumps={name: round(change.jump.size, 3) for name, change in check.changes.items()},
            override=check.override,
            champion_before=check.champion,
            champion=predicted.version,
            live=predicted.live,
            silent=predicted.silent,
            expected_auroc=predicted.expected_auroc,
            challenger=challenger,
            recalibrated=recalibrated,
            alert_rate=check.alert_rate and check.alert_rate.flagged.value,
            trained_version=check.trained_version,
            newest_matured=check.newest_matured,
            gain=check.gain and check.gain.model_dump(),
            shadow_gain=check.shadow_gain and check.shadow_gain.model_dump(),
            seconds=accepted.seconds | check.seconds,
            read_as=accepted.read_as,
            **(accepted.delivered or content).model_dump(),
        )
        self.notices += notices

    def _train_and_promote(self, training: TrainingRequest) -> tuple[int, GateDecision]:
        """Train a challenger, and promote it if it passes the gate. Returns: its version, and the gate's decision."""
        ledger = self.installation.ledger
        self.steps.train(self.installation, training)
        ledger.refresh()  # another process may have trained
        # Not by `arriving`, because an interrupted training may have begun when another batch was arriving.
        trained = ledger.last("training", trigger=training.trigger)
        decision = trained and read_decision(self.installation, trained["version"], training.arriving)
        if not trained or not decision:
            raise HealthPredictError(
                f"The training for {training.arriving} left nothing in the ledger {ledger.uri}. Start again."
            )
        version = int(trained["version"])
        if decision.promote:
            self._promote(version)
        return version, decision

    def _recalibrate_and_promote(self, name: str) -> int | None:
        """Promote a recalibration of the champion. Returns: its version, or None if the champion changed since the check."""
        recalibrated = self.steps.recalibrate(self.installation, name)
        if recalibrated is None:
            return None
        self._promote(recalibrated.version)
        return recalibrated.version

    def _promote(self, version: int) -> None:
        self.lease.check()
        self.steps.promote(self.installation, version)
        self.installation.ledger.refresh()

    def _accept_reports(self) -> None:
        # Interventions first, so that those which came before the outcomes are not taken for later ones.
        self.notices += accept_interventions(self.installation).notices
        self.notices += accept_outcomes(self.installation).notices

    def _notices_of_order(self, name: str) -> list[str]:
        """Return a notice if a batch sorts before one that is done."""
        later = [other for other in batch_events(self.installation) if natural_key(other) > natural_key(name)]
        if not later:
            return []
        notice = (
            f"{name} sorts before {later[-1]}, which is done. Batches are processed in the order of their names: give a late batch "
            "a name that sorts after those that are done."
        )
        _logger.warning("%s", notice)
        return [notice]

    def _record_changes(self, pending: Pending) -> None:
        """Append one event for each new content of a file that changed after it was accepted."""
        for name, how in pending.changed.items():
            try:
                sha256 = fingerprint(pending.files[name]).sha256 if name in pending.files else None
            except Removed:
                continue  # the next run records that it was removed
            key = f"changed {name} {sha256}"
            self.installation.ledger.append("changed", key=key, batch=name, sha256=sha256, problem=how)
            _logger.warning("%s changed: %s.", name, how)

    def _report(self, sentence: str) -> None:
        """Log a warning and add it to the notices."""
        _logger.warning("%s", sentence)
        self.notices.append(sentence)
