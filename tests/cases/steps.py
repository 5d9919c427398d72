"""Run the cases of the drift loop: deliver files and run the loop, step by step."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from tests.cases.expectations import missing_words
from tests.cases.files import identifiers, identifiers_in
from tests.cases.system import Ran, System, finish

_HOUR = 3600
_MEANWHILE_SECONDS = 120
Step = dict[str, Any]


def run_steps(steps: list[Step], folder: Path, system: System) -> list[str]:
    """Run the steps and return the differences from the expectation, in sentences."""
    problems: list[str] = []
    delivered: list[Path] = []
    for number, step in enumerate(steps, start=1):
        if "deliver" in step:
            delivered.append(_deliver(step, folder, system))
        else:
            if "meanwhile" in step:
                delivered.append(folder / step["meanwhile"]["deliver"])
            ids = frozenset[str]().union(*map(identifiers, delivered))
            problems += [f"step {number}: {problem}" for problem in _run(step, folder, system, ids)]
    return problems


def _deliver(step: Step, folder: Path, system: System) -> Path:
    source, target = folder / step["deliver"], system.data / step["as"]
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
        return next(path for path in source.rglob("*") if path.is_file())
    shutil.copyfile(source, target)
    if step.get("settled", True):
        then = time.time() - _HOUR
        os.utime(target, (then, then))
    if step.get("marker"):
        target.with_name(f"{target.name}.done").touch()
    return source


def _run(step: Step, folder: Path, system: System, ids: frozenset[str]) -> list[str]:
    before = _events(system)
    if step["run"] == "flow-drift-loop":
        ran = system.flow()
    elif "meanwhile" in step:
        ran = _run_with_delivery(step, folder, system)
    else:
        ran = system.run([step["run"]])
    new = _events(system)[len(before) :]
    text = ran.output + json.dumps(new)
    problems = []
    if ran.exit != step.get("exit", 0):
        problems.append(f"ended with {ran.exit}: {ran.output.strip()[-200:]}")
    if "Traceback" in ran.output and step["run"] != "flow-drift-loop":
        problems.append("there is a traceback")
    if ids & identifiers_in(text):
        problems.append("a message contains an identifier of the input")
    problems += [f"no message names {entry}" for entry in missing_words(step.get("message_names", []), text)]
    if "batches" in step or "outcomes" in step:
        problems += _states(step, system, ran)
    if "order" in step:
        order = [event["batch"] for event in new if event["kind"] == "batch"]
        if order != step["order"]:
            problems.append(f"the order is {order}")
    return problems


def _run_with_delivery(step: Step, folder: Path, system: System) -> Ran:
    """Run the loop, and deliver a file as soon as it has accepted its first batch."""
    accepted = system.data / "processed"
    known = set(accepted.glob("*.json"))
    process = system.start([step["run"]])
    deadline = time.monotonic() + _MEANWHILE_SECONDS
    while set(accepted.glob("*.json")) == known and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    _deliver(step["meanwhile"], folder, system)
    return finish(process)


def _states(step: Step, system: System, ran: Ran) -> list[str]:
    status = system.run(["status", "--json"])
    if status.exit != 0:
        return [f"status ended with {status.exit}: {status.output.strip()[-200:]}"]
    shown = json.loads(status.stdout)
    latest = {event["batch"]: event for event in _events(system) if event["kind"] == "batch"}
    problems = []
    for name, wanted in step.get("batches", {}).items():
        event = latest.get(name, {})
        state = _state(name, event, shown["pending"])
        holds = {
            "written-down": bool(event.get("reasons")) and bool("".join(event["reasons"]).strip()),
            "done-or-named": state == "done" or name in ran.output,
        }.get(wanted["state"], state == wanted["state"])
        if not holds:
            problems.append(f"{name} is {state}, not {wanted['state']}")
        if "at_risk" in wanted and event.get("rows") != wanted["at_risk"]:
            problems.append(f"{name} has {event.get('rows')} at risk, not {wanted['at_risk']}")
    for name, known in step.get("outcomes", {}).items():
        if shown["known_outcomes"].get(name) != known:
            problems.append(f"{name} has {shown['known_outcomes'].get(name)} known outcomes, not {known}")
    return problems


def _state(name: str, event: dict[str, Any], pending: list[str]) -> str:
    if name in pending:
        return "pending"
    if not event:
        return "absent"
    return "refused" if event["decision"] in ("refused", "empty") else "done"


def _events(system: System) -> list[dict[str, Any]]:
    """The events of the ledger, read from its files."""
    files = sorted((system.data / "ledger").glob("[0-9]*.json"))
    return [json.loads(path.read_bytes()) for path in files]
