"""Prepare a data set: fetch it, check it, and split it into initial data and batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from healthpredict.data.batches import INITIAL, split_batches
from healthpredict.data.cohort import add_label, select_cohort
from healthpredict.data.columns import OUTCOME_COLUMN, OUTCOMES_COLUMNS
from healthpredict.data.outcomes import check_outcomes
from healthpredict.data.plant import ShiftPlan, plant
from healthpredict.data.prepared import PreparedData
from healthpredict.data.raw import format_raw, read_history
from healthpredict.data.schema import check_encounters
from healthpredict.errors import BatchRefused, ConfigurationError, NotFound
from healthpredict.operations.accept_batch import accept_batch
from healthpredict.operations.accept_outcomes import accept_outcomes
from healthpredict.operations.arrivals import find_batch, write_with_marker
from healthpredict.operations.fetch import Fetched, fetch
from healthpredict.operations.installation import Installation
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_json, write_json
from healthpredict.storage.uris import delete, exists, list_uris, write_bytes


def prepare(
    installation: Installation,
    source: str | None = None,
    *,
    allow_synthetic: bool = False,
    planted: ShiftPlan | None = None,
) -> PreparedData:
    """Fetch and check a data set and write batches, outcomes and the accepted initial data.

    A second call with the same data and settings changes nothing. With neither source nor plan, data that was
    prepared with the same settings stays, whether or not drift was planted into it.

    Args:
        installation: where the data goes.
        source: see `fetch`.
        allow_synthetic: see `fetch`.
        planted: plan of the drift to plant into the encounters, or None.

    Raises:
        SourceError: the source cannot be reached, or is not the published data set.
        BatchRefused: the source breaks the contract.
        ConfigurationError: the source is empty, or the `data_uri` contains other data that the ledger refers to.
        StorageError: something cannot be read or written. The next call starts over.
    """
    if source is not None and not source.strip():
        raise ConfigurationError("The source is empty. Give a path or URL, or leave source out for the UCI archive.")
    layout, wanted = installation.layout, _wanted(installation, planted)
    previous = PreparedData.model_validate(read_json(layout.prepared)) if exists(layout.prepared) else None
    if previous and source is None and planted is None and previous.settings | {"planted": None} == wanted:
        return previous
    fetched = fetch(layout, source, allow_synthetic=allow_synthetic)
    if previous and (previous.sha256, previous.settings) == (fetched.sha256, wanted):
        return previous
    return prepare_fetched(installation, fetched, planted)


def prepare_fetched(installation: Installation, fetched: Fetched, planted: ShiftPlan | None = None) -> PreparedData:
    """Check a data set and write batches, outcomes and the accepted initial data, instead of what was prepared before.

    Encounters without `readmitted` are in their batch and have no outcome yet. Arguments and errors as `prepare`.
    """
    layout, settings = installation.layout, installation.settings
    if list_uris(layout.ledger):
        raise ConfigurationError(
            f"{settings.data_uri} contains other data, or the same data in other batches, and its ledger refers to them. Choose "
            "another data_uri."
        )
    table = read_history(fetched.data, fetched.name)
    raw = table.frame
    if raw.empty:
        raise BatchRefused(fetched.name, "it has a header and no rows; deliver it again")
    if planted is not None:
        # Encounter ids increase with time.
        time = pd.to_numeric(raw["encounter_id"], errors="coerce")
        raw = plant(raw.iloc[np.argsort(time.to_numpy(dtype=float), kind="stable")].reset_index(drop=True), planted)
    checked = check_encounters(raw, fetched.name, settings.contract)
    outcomes = check_outcomes(raw.loc[raw[OUTCOME_COLUMN].notna(), list(OUTCOMES_COLUMNS)])
    cohort = add_label(select_cohort(checked.encounters), outcomes.usable, settings.outcome)
    batches = split_batches(raw, settings.initial_share, settings.n_batches)
    _clear(layout)
    write_bytes(layout.raw(fetched.file), fetched.data)
    for name, batch in batches.items():
        write_with_marker(layout.batch(name), format_raw(batch.drop(columns=OUTCOME_COLUMN)))
        known = batch.loc[batch[OUTCOME_COLUMN].notna(), list(OUTCOMES_COLUMNS)]
        if not known.empty or batch.empty:
            write_with_marker(layout.outcomes(name), format_raw(known))
    accept_batch(installation, find_batch(installation, INITIAL))
    accept_outcomes(installation)
    prepared = PreparedData(
        source=fetched.name,
        sha256=fetched.sha256,
        synthetic=fetched.synthetic,
        from_fhir=fetched.from_fhir,
        read_as=", ".join(filter(None, (table.read_as, fetched.compression))),
        encounters=len(raw),
        quarantined=len(checked.quarantine),
        patients=int(checked.encounters["patient_id"].nunique()),
        cohort=len(cohort),
        readmitted_share=float(cohort["readmitted_within_30_days"].mean()),
        batches=list(batches),
        problems=(
            *table.notices,
            *(f"{rows} rows are in quarantine: {reason}." for reason, rows in checked.reasons.items()),
            *outcomes.problems,
        ),
        settings=_wanted(installation, planted),
    )
    # Written last: its existence means that the other files are complete.
    write_json(layout.prepared, prepared.model_dump())
    return prepared


def _wanted(installation: Installation, planted: ShiftPlan | None) -> dict[str, Any]:
    """Return the settings that the batches depend on."""
    included = {"initial_share", "n_batches", "outcome", "contract"}
    wanted = installation.settings.model_dump(mode="json", include=included)
    wanted["planted"] = planted.model_dump(mode="json") if planted else None
    return wanted


def _clear(layout: Layout) -> None:
    # The manifest first, because without it the data counts as not prepared.
    delete(layout.prepared)
    for folder in layout.prepared_folders:
        for uri in list_uris(folder):
            delete(uri)


def read_prepared(installation: Installation) -> PreparedData:
    """Return what `prepare` recorded.

    Raises:
        ConfigurationError: nothing was prepared here.
        StorageError: it cannot be read.
    """
    layout = installation.layout
    try:
        return PreparedData.model_validate(read_json(layout.prepared))
    except NotFound as error:
        raise ConfigurationError(
            f"{installation.settings.data_uri} contains no data. Run `healthpredict prepare` first."
        ) from error
