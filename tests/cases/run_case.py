"""Run one case: hand in its file by the command or endpoint that it names, and compare the result with the expectation."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from healthpredict.data.raw import read_encounters
from healthpredict.prediction_log.lines import read_predictions
from healthpredict.prediction_log.rolled_file import PREDICTIONS, closed_files
from tests.cases.expectations import Observed, differences, unknown_keys
from tests.cases.files import Results, identifiers, read_results
from tests.cases.steps import run_steps
from tests.cases.system import System

_PROJECT = Path(__file__).parents[2]
Case = dict[str, Any]


def run_case(case: Case, folder: Path, base: str, system: System) -> list[str]:
    """Run a case and return its differences from the expectation, in sentences.

    Args:
        case: an entry of `cases.yaml`.
        folder: of that file.
        base: name of the file with plain encounters, in that folder.
        system: after `System.reset`.
    """
    if problems := unknown_keys(case):
        return problems
    try:
        return _RUNNERS[case["given_to"]](case, folder, base, system)
    except (Exception, SystemExit) as error:  # one case that cannot be run must not lose the others
        return [f"the runner stopped at {type(error).__name__}: {error}"]


def require_distinct_risks(system: System, folder: Path) -> None:
    """End the run if the champion gives two different encounters the same risk: `same_as` would then prove nothing."""
    plain = folder / "predict" / "plain.json"
    if not plain.exists():
        return
    encounter = json.loads(plain.read_bytes())
    other = json.dumps({**encounter, "number_inpatient": 9}).encode()
    responses, _ = system.ask("/predict", [(plain.read_bytes(), {}), (other, {})])
    risks = {response.json()["readmission_risk"] for response in responses}
    if len(risks) != 2:
        raise SystemExit("The champion gives different encounters the same risk, so the cases would prove nothing.")


def _score(case: Case, folder: Path, _base: str, system: System) -> list[str]:
    source = _hand_in(case, folder, system)
    before = source.read_bytes()
    result = {"SAME": source, "FIFO": system.inputs / "fifo.parquet", "LINK": system.inputs / "link.parquet"}.get(
        case.get("result", ""), system.inputs / case.get("result", "out.parquet")
    )
    target = system.inputs / "target.bin"
    match case.get("result"):
        case "FIFO":
            os.mkfifo(result)
        case "LINK":
            target.write_bytes(b"target")
            result.symlink_to(target)
    present = set(system.inputs.rglob("*"))
    ran = system.run(["score", str(source), str(result)])
    seen = Observed(
        ran.exit, ran.output, ran.output, ids=identifiers(source), file=source.name if ran.exit == 4 else None
    )
    new = {path for path in set(system.inputs.rglob("*")) - present if not path.is_dir()}
    seen.nothing_left = not new
    seen.facts["source_unchanged"] = source.read_bytes() == before
    seen.facts["still"] = {
        "fifo": result.is_fifo(),
        "link": result.is_symlink() and target.exists() and target.read_bytes() == b"target",
    }.get(case["expect"].get("still"), False)
    if ran.exit == 0:
        results = read_results(result, [path for path in new if path != result])
        seen.predicted, seen.rejected = len(results.risks), len(results.reasons)
        seen.rows, seen.reasons = _number(ran.output, "rows"), results.reasons
        seen.unusable = sum("not at risk" not in reason for reason in results.reasons)
        seen.facts["result_format"] = results.kind == case["expect"].get("result_format")
        seen.facts["unique_ids"] = len(set(results.ids)) == len(results.ids)
        if same := case["expect"].get("same_as"):
            other = _scored(system, folder / same)
            seen.facts["same_as"] = results.equals(other, by_position=bool(case["expect"].get("by_position")))
    return differences(case["expect"], seen)


def _scored(system: System, file: Path) -> Results:
    result = system.inputs / "same_as.parquet"
    ran = system.run(["score", str(file), str(result)])
    assert ran.exit == 0, ran.output
    return read_results(result, [])


def _prepare(case: Case, folder: Path, base: str, system: System) -> list[str]:
    plan = case["given_to"] == "plan"
    # The encounters with outcomes stand beside the plain ones.
    history = (folder / base).with_name(f"{Path(base).stem}_with_outcome{Path(base).suffix}")
    handed_in = _hand_in(case, folder, system)
    source = handed_in
    if plan:
        source = Path(shutil.copy(history, system.inputs))
    data = system.inputs / "data"
    environment = system.environment(DATA_URI=str(data), N_BATCHES="0")
    arguments = ["prepare", "--source", str(source), *(["--plant", str(handed_in)] if plan else []), "--json"]
    ran = system.run(arguments, environment)
    seen = Observed(ran.exit, ran.output, ran.output, ids=identifiers(source), file=handed_in.name)
    seen.nothing_left = not data.exists() or not any(path.is_file() for path in data.rglob("*"))
    if ran.exit == 0:
        prepared = json.loads(ran.stdout)
        seen.rows, seen.rejected, seen.at_risk = (prepared[name] for name in ("encounters", "quarantined", "cohort"))
        seen.unusable = prepared["quarantined"] + _unusable_outcomes(prepared["problems"])
        if plan:
            seen.facts |= _planted(case["expect"], folder / base, data / "batches" / "initial.csv")
    return differences(case["expect"], seen)


def _unusable_outcomes(problems: list[str]) -> int:
    """Add up the numbers at the beginning of sentences. Those about rows in quarantine do not count."""
    counted = [sentence for sentence in problems if re.match("[0-9]+ ", sentence) and "in quarantine" not in sentence]
    return sum(int(sentence.partition(" ")[0]) for sentence in counted)


def _planted(expect: dict[str, Any], source: Path, planted: Path) -> dict[str, bool]:
    """Whether `plants` (the only new value of a column) and `more_of` (a value that became more frequent) hold."""
    before = read_encounters(source, source.name).frame
    after = read_encounters(planted, planted.name).frame.set_index("encounter_id")
    after = after.loc[before["encounter_id"]].reset_index()
    new_values = {name: set(after.loc[after[name].ne(before[name]), name]) for name in expect.get("plants", {})}
    return {
        "plants": all(new_values[name] == {value} for name, value in expect.get("plants", {}).items()),
        "more_of": all(
            (after[name] == value).sum() > (before[name] == value).sum()
            for name, value in expect.get("more_of", {}).items()
        ),
    }


def _predict(case: Case, folder: Path, _base: str, system: System) -> list[str]:
    path = "/predict" if case["given_to"] == "predict" else "/predict/batch"
    source = folder / case["file"]
    body = source.read_bytes()
    headers = case.get("headers", {})
    (response,), output = system.ask(path, [(body, headers)])
    logged = [flag for file in closed_files(system.logs, PREDICTIONS) for flag in _dry_runs(file)]
    used = response.status_code == 200
    seen = Observed(
        response.status_code,
        response.text,
        response.text + output,
        nothing_left=not logged,
        ids=identifiers(source),
    )
    seen.facts["logged_as"] = bool(logged) and {*logged} == {case["expect"].get("logged_as") == "dry-run"}
    if used:
        answer = response.json()
        results = answer.get("results", [{**answer, "problem": None}])
        problems = {number: result["problem"] for number, result in enumerate(results) if result["problem"]}
        seen.rows, seen.rejected = len(results), len(problems)
        seen.predicted, seen.unusable = seen.rows - seen.rejected, seen.rejected
        seen.facts["problems"] = problems.keys() == case["expect"].get("problems", {}).keys() and all(
            named in json.dumps(problems[number]) for number, named in case["expect"].get("problems", {}).items()
        )
        if same := case["expect"].get("same_as"):
            (other,), _ = system.ask("/predict", [((folder / same).read_bytes(), {"x-dry-run": "true"})])
            risk = other.json()["readmission_risk"]
            seen.facts["same_as"] = all(
                abs(result["readmission_risk"] - risk) < 1e-9 for result in results if not result["problem"]
            )
    return differences(case["expect"], seen, http=True)


def _dry_runs(file: Path) -> list[bool]:
    return cast("list[bool]", list(read_predictions(file.read_bytes())["dry_run"]))


def _command(case: Case, folder: Path, _base: str, system: System) -> list[str]:
    environment = {**system.environment(), **case.get("env", {})}
    ran = system.run(case["args"], environment, folder)
    files = [folder / argument for argument in case["args"] if argument and (folder / argument).is_file()]
    ids = frozenset[str]().union(*map(identifiers, files))
    return differences(case["expect"], Observed(ran.exit, ran.output, ran.output, ids=ids))


def _make(case: Case, _folder: Path, _base: str, _system: System) -> list[str]:
    made = subprocess.run(
        ["make", "-n", "--no-print-directory", *case["args"]], cwd=_PROJECT, capture_output=True, text=True, check=False
    )
    text = made.stdout + made.stderr
    words = [word for line in made.stdout.splitlines() for word in _shell_words(line)]
    seen = Observed(made.returncode, text, text, facts={"one_word": case["expect"].get("one_word") in words})
    return differences(case["expect"], seen)


def _shell_words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _steps(case: Case, folder: Path, _base: str, system: System) -> list[str]:
    return run_steps(case["steps"], folder, system)


def _hand_in(case: Case, folder: Path, system: System) -> Path:
    if script := case.get("generate"):
        program, base, out = script
        subprocess.run(
            [sys.executable, str(folder / program), str(folder / base), str(system.inputs / out)], check=True
        )
        return system.inputs / case["file"]
    return Path(shutil.copy(folder / case["file"], system.inputs))


def _number(output: str, name: str) -> int | None:
    values = [line.partition(": ")[2] for line in output.splitlines() if line.startswith(f"{name}: ")]
    return int(values[0]) if values else None


_RUNNERS: dict[str, Callable[[Case, Path, str, System], list[str]]] = {
    "score": _score,
    "prepare": _prepare,
    "plan": _prepare,
    "predict": _predict,
    "predict-batch": _predict,
    "drift-loop": _steps,
    "outcomes": _steps,
    "command": _command,
    "make": _make,
}
