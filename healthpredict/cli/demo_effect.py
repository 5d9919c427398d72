"""The demo with an effect: batches arrive one after the other, and interventions prevent a share of the readmissions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from healthpredict.data.prepared import PreparedData
from healthpredict.errors import ConfigurationError
from healthpredict.operations.arrivals import MARKER
from healthpredict.operations.installation import Installation
from healthpredict.operations.plant_interventions import plant_interventions
from healthpredict.storage.tables import read_json, write_json

_WITHHELD: Final = "withheld"
"""The folder of encounters and outcomes that have not arrived, in folders as below the data URI."""
_RECORD: Final = "effect.json"
"""In the same folder. Written once every batch is withheld, so no batch has arrived before it exists."""


class _Stream(BaseModel):
    """What a demo with an effect began with."""

    model_config = ConfigDict(frozen=True)

    effect: float
    prepared: PreparedData


def check_effect(effect: float | None) -> None:
    """Check the option.

    Raises:
        ConfigurationError: it is not between 0 and 1.
    """
    if effect is not None and not 0 <= effect <= 1:
        raise ConfigurationError(
            f"{effect} is no effect. Give the share of readmissions that interventions prevent, from 0 to 1, such as --effect 0.3."
        )


def check_continued(state: Path, installation: Installation, effect: float | None) -> None:
    """Check that a demo continues as it began.

    Raises:
        ConfigurationError: the demo in the folder has another effect, or none.
    """
    stream = _read_stream(state)
    if stream is not None:
        before, same = f"--effect {stream.effect:g}", stream.effect == effect
    elif (state / _WITHHELD).exists():  # interrupted before any batch arrived, so the effect may still change
        before, same = "--effect", effect is not None
    else:
        before, same = "no --effect", effect is None or not installation.ledger.events()
    if not same:
        now = "no --effect" if effect is None else f"--effect {effect:g}"
        raise ConfigurationError(
            f"{state} has a demo that began with {before}, so it cannot continue with {now}. Add --fresh (or run `make "
            "demo-clean`) to start again, or choose another folder for --state."
        )


def run_with_effect(
    state: Path, installation: Installation, prepared: PreparedData, effect: float, run_loop: Callable[[], None]
) -> None:
    """Let the batches arrive one after the other, and plant interventions into each once the loop has predicted it.

    An interrupted call can be repeated: it continues with the batch that was not done.

    Args:
        state: folder of the demo.
        installation: the data is below its data URI, a local folder in the same file system as `state`.
        prepared: the data, of which no batch was processed without interventions.
        effect: share (0-1) of the readmissions of treated patients that is prevented.
        run_loop: processes what has arrived.

    Raises:
        HealthPredictError: a step failed.
    """
    data, withheld = Path(installation.settings.data_uri), state / _WITHHELD
    names = prepared.batches[1:]
    stream = _Stream(effect=effect, prepared=prepared)
    if _read_stream(state) != stream:
        for name in names:
            for folder in ("batches", "outcomes"):
                _move(data / folder, withheld / folder, name)
        write_json(str(withheld / _RECORD), stream.model_dump(mode="json"))
    for name in names:
        outcomes = withheld / "outcomes" / f"{name}.csv"
        if (withheld / "batches" / f"{name}.csv").exists() or outcomes.exists():
            _move(withheld / "batches", data / "batches", name)
            run_loop()
            if outcomes.exists():
                installation.ledger.refresh()
                plant_interventions(installation, name, outcomes.read_bytes(), effect)
                outcomes.unlink()
    run_loop()  # for the outcomes of the last batch


def _read_stream(state: Path) -> _Stream | None:
    record = state / _WITHHELD / _RECORD
    return _Stream.model_validate(read_json(str(record))) if record.exists() else None


def _move(source: Path, target: Path, name: str) -> None:
    """Move the file of a batch after its marker, so that the file is complete as soon as it is there."""
    target.mkdir(parents=True, exist_ok=True)
    for file in (f"{name}.csv{MARKER}", f"{name}.csv"):
        if (source / file).exists():
            (source / file).replace(target / file)
