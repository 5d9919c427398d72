"""Batches that are read while they are still copied, or whose copy was cut off."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from healthpredict.config import Settings
from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize
from healthpredict.errors import BatchRefused, StillArriving
from healthpredict.operations.accept_batch import AcceptedBatch, accept_batch
from healthpredict.operations.arrivals import MARKER, find_batch
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import find_pending

_ROWS = 300
_SEED = 17


def run(cuts: int = 100) -> dict[str, int]:
    """Cut a batch at random bytes, try to accept it, then complete it and accept it.

    A batch that is cut inside a line must also be refused when its time is up, because the copy may have been killed.

    Returns:
        `cuts`, and the number of times that each kind of error occurred.
    """
    whole = format_raw(synthesize(_ROWS, seed=_SEED).drop(columns="readmitted"))
    draw = random.Random(_SEED)
    wrong = ("accepted_while_copied", "accepted_with_half_a_line", "lost_rows", "not_accepted_when_whole")
    counts = {"cuts": cuts, **dict.fromkeys(wrong, 0)}
    for _ in range(cuts):
        cut = draw.randrange(len(whole))
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(data_uri=f"{folder}/data", state_path=Path(folder) / "state")
            file = Path(settings.data_uri) / "batches" / "batch-01.csv"
            file.parent.mkdir(parents=True)
            file.write_bytes(whole[:cut])
            pending = find_pending(Installation(settings))
            if pending.ready or not pending.waiting or _accepts(settings):
                counts["accepted_while_copied"] += 1
            if b"\n" not in (whole[cut - 1 : cut], whole[cut : cut + 1]):
                counts["accepted_with_half_a_line"] += _accepts(settings.model_copy(update={"arrival_seconds": 0}))
            file.write_bytes(whole)
            file.with_name(file.name + MARKER).touch()
            if find_pending(Installation(settings)).ready != ["batch-01"]:
                counts["not_accepted_when_whole"] += 1
            else:
                counts["lost_rows"] += _ROWS - _accept(settings).rows
    return counts


def _accept(settings: Settings) -> AcceptedBatch:
    installation = Installation(settings)
    return accept_batch(installation, find_batch(installation, "batch-01"))


def _accepts(settings: Settings) -> bool:
    try:
        _accept(settings)
    except (BatchRefused, StillArriving):
        return False
    return True
