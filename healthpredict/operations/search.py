"""Search for the best candidates on all matured batches.

Trigger and data identify a training. A search that was killed is resumed, and a complete one is not repeated.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from healthpredict.data.split import Side
from healthpredict.errors import NotEnoughData
from healthpredict.features.frame import encode_frame
from healthpredict.operations.accept_outcomes import accept_outcomes
from healthpredict.operations.dataset import LABEL, cohort_rows, data_digest, matured_batches, sides
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import FOR_TRAINING, read_labelled
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.registry.models import Registry
from healthpredict.registry.trials import trial_logger
from healthpredict.storage.uris import write_bytes
from healthpredict.training.candidates import Candidate, SearchResult, without_search
from healthpredict.training.families import Examples
from healthpredict.training.fit import cross_fitted
from healthpredict.training.search import METRIC, search_models

_logger = logging.getLogger(__name__)
CANDIDATES_TAG = "candidates"
SEARCHED_ROWS_TAG = "searched_rows"


class TrainingRequest(BaseModel):
    """Why and when a challenger is trained.

    Attributes:
        trigger: `initial`, the batch whose drift led to it, or a name that a person gave.
        arriving: the batch that is arriving. Only outcomes that are known by then are used.
    """

    model_config = ConfigDict(frozen=True)

    trigger: str
    arriving: str


class Search(BaseModel):
    """A complete search.

    Attributes:
        training: the training that it is part of.
        trained_on: the batches that had matured.
        data_digest: SHA-256 of their data.
        run_id: the MLflow run of the training.
        result: the best candidate of each family.
        searched_rows: number of encounters when trials last ran: now, or in an earlier training if its candidates were used again.
        seconds: wall time by stage; empty if the search was complete already.
    """

    model_config = ConfigDict(frozen=True)

    training: TrainingRequest
    trained_on: tuple[str, ...]
    data_digest: str
    run_id: str
    result: SearchResult
    searched_rows: int
    seconds: Seconds

    @property
    def identity(self) -> dict[str, str]:
        """The tags of the MLflow run that identify the training."""
        return {"trigger": self.training.trigger, "data_digest": self.data_digest}


def search(installation: Installation, training: TrainingRequest, tags: Mapping[str, str] | None = None) -> Search:
    """Search on the train and validation sides of all matured batches.

    If the encounters have hardly grown since the last search (see `SearchParams.retrain_growth`), its candidates are used again.

    Args:
        installation: where data and models are.
        training: see `TrainingRequest`.
        tags: for the MLflow run, for instance the id of the flow run.

    Raises:
        NotEnoughData: too few outcomes, or one class only.
        RegistryError: MLflow failed.
    """
    accept_outcomes(installation)
    registry, settings, trigger = installation.registry, installation.settings, training.trigger
    trained_on = tuple(matured_batches(installation, training.arriving))
    identity = {"trigger": trigger, "data_digest": data_digest(installation, trained_on)}
    saved = settings.state_path / "search" / f"{quote(trigger, safe='')[:100]}-{_digest(identity)}.json"
    complete = _read_complete(saved)
    if complete is not None:
        return complete.model_copy(update={"training": training, "seconds": {}})
    run_id = registry.open_run(f"train {trigger}", identity)
    registry.tag_run(run_id, tags or {})

    seconds: Seconds = {}
    known, searched_rows = _last_search(registry)
    rows = cohort_rows(installation, trained_on)
    if known and rows < (1 + settings.search.retrain_growth) * searched_rows:
        result = without_search(known, settings.search)
        said = f"not needed: {rows} encounters, {searched_rows} at the last one"
    else:
        with timed(seconds, "encode"):
            train, validation = _examples(installation, trained_on)
        with timed(seconds, "search"):
            result = _run_trials(installation, run_id, train, validation, known)
        searched_rows = rows
        best = f"{result.best.family}, AUROC {result.best.validation_auroc:.3f} on the validation side"
        said = f"{result.trials} trials, the best is {best}"
    found = Search(
        training=training,
        trained_on=trained_on,
        data_digest=identity["data_digest"],
        run_id=run_id,
        result=result,
        searched_rows=searched_rows,
        seconds=seconds,
    )
    write_bytes(str(saved), found.model_dump_json().encode())
    log_step(trigger, "search", sum(seconds.values()), said)
    return found


def _digest(identity: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def _read_complete(saved: Path) -> Search | None:
    """Return the saved result of a complete search, or None if there is none or it cannot be read."""
    if not saved.exists():
        return None
    try:
        return Search.model_validate_json(saved.read_bytes())
    except (ValidationError, OSError) as error:
        _logger.warning(
            "The saved result of a search in %s is damaged (%s); the search starts over.", saved, type(error).__name__
        )
        return None


def _examples(installation: Installation, trained_on: tuple[str, ...]) -> tuple[Examples, Examples]:
    labelled = read_labelled(installation, trained_on).frame
    labelled = labelled[labelled[FOR_TRAINING]]
    side = sides(labelled)
    train, validation = labelled[side == Side.TRAIN], labelled[side == Side.VALIDATION]
    for name, part in ((Side.TRAIN, train), (Side.VALIDATION, validation)):
        positives = int(part[LABEL].sum())
        if positives in (0, len(part)):
            raise NotEnoughData(
                f"The {name} side of {', '.join(trained_on)} has {len(part)} encounters with {positives} readmissions; "
                "a model needs both classes. Wait for more matured outcomes."
            )
    encoder, examples = cross_fitted(train, train[LABEL].to_numpy())
    return examples, Examples(encode_frame(encoder, validation), validation[LABEL].to_numpy())


def _last_search(registry: Registry) -> tuple[list[Candidate], int]:
    """Return the champion's candidates, best first, and its `Search.searched_rows`.

    There are no candidates if there is no champion. The number is 0 if an earlier version of this system trained the champion.
    """
    champion = registry.by_alias("champion")
    if champion is None:
        return [], 0
    candidates = [Candidate.model_validate(c) for c in json.loads(champion.tags[CANDIDATES_TAG])]
    return candidates, int(champion.tags.get(SEARCHED_ROWS_TAG, 0))


def _run_trials(
    installation: Installation, run_id: str, train: Examples, validation: Examples, known: Sequence[Candidate]
) -> SearchResult:
    registry, settings = installation.registry, installation.settings
    return search_models(
        train,
        validation,
        settings.search,
        settings.state_path / "search" / run_id,
        known=known,
        callbacks=[trial_logger(registry.tracking_uri, registry.experiment, run_id, METRIC)],
        ray_address=settings.ray_address,
    )
