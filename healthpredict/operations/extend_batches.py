"""Add the new stays of a later export as a batch, and the outcomes that have become known since the last one."""

from __future__ import annotations

from typing import Final, NamedTuple

import pandas as pd

from healthpredict.data.batches import INITIAL, batch_names
from healthpredict.data.columns import OUTCOME_COLUMN, OUTCOMES_COLUMNS
from healthpredict.data.raw import format_raw, read_encounters, read_outcomes
from healthpredict.operations.arrivals import delivered_batches, open_delivered, write_with_marker
from healthpredict.operations.installation import Installation
from healthpredict.storage.uris import exists, read_bytes

_ID: Final = "encounter_id"


class Extended(NamedTuple):
    """What was new in a data set.

    Attributes:
        batches: the batch with the new encounters, or nothing if there is none.
        absent: number of encounters of earlier batches that are not in the data set.
    """

    batches: list[str]
    absent: int


def extend_batches(installation: Installation, raw: pd.DataFrame) -> Extended:
    """Write what is new in a data set. Outcomes that it does not have stay as they are.

    Args:
        installation: with batches that an earlier import wrote.
        raw: a raw frame with `readmitted`, which may be missing, in the order of `encounter_id`.
    """
    layout = installation.layout
    known: set[str] = set()
    existing = delivered_batches(installation).files
    for name, delivered in existing.items():
        with open_delivered(delivered) as path:
            ids = set(read_encounters(path, delivered.file).frame[_ID])
        known |= ids
        _write_outcomes(installation, name, raw[raw[_ID].isin(ids)])
    new = raw[~raw[_ID].isin(known)].reset_index(drop=True)
    absent = len(known.difference(raw[_ID]))
    if new.empty:
        return Extended([], absent)
    number = 1 + max((int(name.rpartition("-")[2]) for name in existing if _is_numbered(name)), default=0)
    name = batch_names(max(number, 99))[number]
    write_with_marker(layout.batch(name), format_raw(new.drop(columns=OUTCOME_COLUMN)), exclusive=True)
    _write_outcomes(installation, name, new)
    return Extended([name], absent)


def _is_numbered(name: str) -> bool:
    return name != INITIAL and name.startswith("batch-") and name.rpartition("-")[2].isdigit()


def _write_outcomes(installation: Installation, name: str, rows: pd.DataFrame) -> None:
    """Write the known outcomes of a batch, and keep those that are known from before and not in the data set."""
    outcomes = rows.loc[rows[OUTCOME_COLUMN].notna(), list(OUTCOMES_COLUMNS)]
    if outcomes.empty:
        return
    uri = installation.layout.outcomes(name)
    before = read_bytes(uri) if exists(uri) else None
    if before is not None:
        earlier = read_outcomes(before, uri).frame[list(OUTCOMES_COLUMNS)]
        outcomes = pd.concat([earlier[~earlier[_ID].isin(rows[_ID])], outcomes], ignore_index=True)
        outcomes = outcomes.sort_values(_ID, key=lambda ids: pd.to_numeric(ids, errors="coerce"), kind="stable")
    data = format_raw(outcomes)
    if data != before:
        write_with_marker(uri, data)
