"""The demo for hospitals with FHIR: exports are imported, the loop learns from them, and an EHR's request gets its card."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from healthpredict.cli.demo import Demo, ask_api, demo_in, print_text, show_summary
from healthpredict.cli.discharge_requests import discharge_requests
from healthpredict.data.import_params import ImportParams
from healthpredict.errors import ConfigurationError, NothingToPredict
from healthpredict.operations.export_fhir import export_fhir
from healthpredict.operations.fetch import fetch
from healthpredict.operations.import_fhir import import_fhir
from healthpredict.operations.report import write_report
from healthpredict.operations.timing import log_step, timed
from healthpredict.serving.cds_hooks.endpoints import PATH

_EXCLUSIONS: Final = [name for name in ImportParams.model_fields if name.startswith("exclude_")]
"""The demo switches all exclusions off: an EHR asks about every patient, so the model must have learned from every kind of stay."""


def run_demo_fhir(state: Path, export: str | None, source: str | None, *, keep: bool, fresh: bool) -> None:
    """Run the demo. If it was interrupted, the next call continues it.

    The data set is written as a FHIR export and imported, and the loop runs on it. Then the hospital's export is imported as one
    more batch, and the loop runs again. At the end, a patient of the export is discharged.

    Args:
        state: folder of the demo's data, databases and logs.
        export: folder of a hospital's FHIR export, or None for the data set alone.
        source: see `run_demo`. The model is trained on it.
        keep: see `run_demo`.
        fresh: see `run_demo`.

    Raises:
        HealthPredictError: a step failed.
    """
    os.environ.setdefault("HEALTHPREDICT_FHIR", json.dumps(dict.fromkeys(_EXCLUSIONS, False)))
    with demo_in(state, keep=keep, fresh=fresh) as demo:
        with demo.steps():
            history = _write_history(demo, source)
            _import(demo, history)
            demo.run_loop()
            if export is not None:
                sentences = _import(demo, export)
                demo.run_loop()
        if export is not None:
            print_text("\n".join(("", *sentences)))
        # Before the summary, because this writes the report, to which the summary adds the demo's own times.
        _discharge(demo, export or history)
        show_summary(demo)


def _write_history(demo: Demo, source: str | None) -> str:
    """Write the data set as an export, unless an earlier run did. Returns: its folder.

    Raises:
        ConfigurationError: the earlier run wrote another data set.
    """
    folder = demo.state / "export"
    # The manifest is written last.
    written = (folder / "manifest.json").exists()
    if written and source is None:
        return str(folder)
    with timed(demo.seconds, "export"):
        fetched = fetch(demo.installation.layout, source, allow_synthetic=source is None)
        path = demo.state / fetched.file
        if written:
            if not path.exists() or path.read_bytes() != fetched.data:
                raise ConfigurationError(
                    f"{demo.state} has a demo of another data set than {fetched.name}. Add --fresh (or run `make demo-clean`) to "
                    "start again, or choose another folder for --state."
                )
            return str(folder)
        if folder.exists():
            shutil.rmtree(folder)
        path.write_bytes(fetched.data)
        exported = export_fhir(demo.installation, str(path), str(folder))
    resources = sum(exported.resources.values())
    result = f"{exported.encounters:,} encounters of {fetched.name} as {resources:,} FHIR resources"
    log_step("data", "export", demo.seconds["export"], result)
    return str(folder)


def _import(demo: Demo, folder: str) -> list[str]:
    """Import an export. Returns: the sentences of its report."""
    with timed(demo.seconds, "import"):
        report = import_fhir(demo.installation, folder)
    result = f"{report.stays:,} index admissions of {report.persons:,} persons from {folder}"
    log_step("data", "import", demo.seconds["import"], result)
    return report.sentences


class _Answer(Struct):
    """The part of the API's answer that is read. That of an error has no cards."""

    cards: list[dict[str, Any]] = []


def _discharge(demo: Demo, export: str) -> None:
    """Discharge a patient: send the request, print the card, and add it to the page."""
    for request in discharge_requests(export):
        answer = ask_api(demo, "hook.json", request, PATH)
        cards = _cards(answer)
        if not cards:
            print_text(answer)
            continue
        card = cards[0]
        print_text(f"\n{card['summary']}\n\n{card['detail']}\n\n{card['source']['label']}\n")
        write_report(demo.installation, card)
        return
    raise NothingToPredict(export, "none of its newest stays gets a card")


def _cards(answer: str) -> list[dict[str, Any]]:
    try:
        return msgspec.json.decode(answer, type=_Answer).cards
    except msgspec.DecodeError:
        return []
