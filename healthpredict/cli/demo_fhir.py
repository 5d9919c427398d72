"""The demo for hospitals with FHIR: exports are imported, the loop learns from them, and an EHR's request gets its card."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Final

from healthpredict.cli.demo import Demo, ask_api, demo_in, print_text, show_summary
from healthpredict.cli.discharge_requests import discharge_requests
from healthpredict.data.import_params import ImportParams
from healthpredict.errors import NothingToPredict
from healthpredict.operations.export_fhir import export_fhir
from healthpredict.operations.fetch import fetch
from healthpredict.operations.import_fhir import import_fhir
from healthpredict.operations.report import write_report
from healthpredict.operations.timing import log_step, timed
from healthpredict.serving.cds_hooks.endpoints import PATH

_EXCLUSIONS: Final = [name for name in ImportParams.model_fields if name.startswith("exclude_")]
"""A card is for every patient, and the data set has all stays, so the model learns from all."""


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
    """Write the data set as an export, unless an earlier run did. Returns: its folder."""
    folder = demo.state / "export"
    # The manifest is written last.
    if not (folder / "manifest.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        with timed(demo.seconds, "export"):
            fetched = fetch(demo.installation.layout, source, allow_synthetic=source is None)
            path = demo.state / fetched.file
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


def _discharge(demo: Demo, export: str) -> None:
    """Discharge a patient: send the request, print the card, and add it to the page."""
    for request in discharge_requests(export):
        response = json.loads(ask_api(demo, "hook.json", request, PATH))
        if not response["cards"]:
            print_text(json.dumps(response, indent=1))
            continue
        card = response["cards"][0]
        print_text(f"\n{card['summary']}\n\n{card['detail']}\n\n{card['source']['label']}\n")
        write_report(demo.installation, card)
        return
    raise NothingToPredict(export, "none of its newest stays gets a card")
