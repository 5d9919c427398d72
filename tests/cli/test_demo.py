"""What `healthpredict demo` prints, on a small made-up hospital and into a file."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize

pytestmark = pytest.mark.slow
SETTINGS = {
    "INITIAL_SHARE": "0.7",
    "N_BATCHES": "1",
    "SEARCH__FAMILIES": "logistic_regression",
    "SEARCH__N_TRIALS": "1",
    "MODEL__N_BOOTSTRAP": "20",
    "PROMOTION__MAX_OFFSET": "0.3",
    "PROMOTION__MIN_SLOPE": "0",
    "PROMOTION__MAX_SLOPE": "9",
}
OF_AN_INSTALLATION = {
    "HEALTHPREDICT_API_KEY_PATH": "absent.key",
    "HEALTHPREDICT_DATA_URI": "s3://hospital/data",
    "HEALTHPREDICT_REPORTS_URI": "s3://hospital/reports",
    "HEALTHPREDICT_ROLLOUT__TARGET": "kubernetes",
    "HEALTHPREDICT_TRACKING_URI": "http://127.0.0.1:9",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    "PREFECT_API_AUTH_STRING": "admin:password",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://prefect@127.0.0.1:9/prefect",
    "http_proxy": "http://127.0.0.1:9",
}
"""Where nothing answers: a demo that used one of them would fail."""
STEP = re.compile(r"(?P<subject>\S+(?: \d+)?) +(?P<step>[a-z]+) +\d+\.\d s  \S.*")
STEPS = [
    "services start",
    "initial accept",
    "data prepare",
    "initial search",
    "initial fit",
    "version 1 gate",
    "version 1 rollout",
    "batch-01 accept",
    "batch-01 drift",
    "report write",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def printed(folder: Path) -> subprocess.CompletedProcess[str]:
    return run_demo(folder, "demo")


def run_demo(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a demo on a small made-up hospital, in a folder."""
    source = folder / "encounters.csv"
    source.write_bytes(format_raw(synthesize(5000, 3)))
    environment = {f"HEALTHPREDICT_{name}": value for name, value in SETTINGS.items()}
    # Without --keep it stops what it started.
    return subprocess.run(
        [Path(sys.executable).with_name("healthpredict"), *command, "--source", source, "--state", "state"],
        cwd=folder,
        env={**os.environ, **environment, **OF_AN_INSTALLATION},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_each_step_is_one_line_with_its_time_and_result(printed: subprocess.CompletedProcess[str]) -> None:
    assert printed.returncode == 0, printed.stdout + printed.stderr
    steps, _, _ = printed.stdout.partition("\nData: ")
    warning, *lines = sorted(steps.splitlines(), key=lambda line: STEP.fullmatch(line) is not None)
    assert "is not the published data set" in warning
    found = [STEP.fullmatch(line) for line in lines]
    assert [f"{line['subject']} {line['step']}" for line in found if line] == STEPS
    assert re.search(r"^batch-01 +drift +\d+\.\d s  stable: 0 of 47 features differ", steps, re.MULTILINE)


def test_the_card_of_the_champion_is_beside_the_report_and_in_its_bundle(
    printed: subprocess.CompletedProcess[str], folder: Path
) -> None:
    summary = json.loads((folder / "reports" / "summary.json").read_text())
    champion = [model["version"] for model in summary["models"] if model["promoted"]][-1]
    shown = (folder / "reports" / summary["card"]).read_text()
    assert f"<h1>Model card: readmission, version {champion}</h1>" in shown
    assert "champion, in service" in shown
    assert "Incomplete." not in shown, "the demonstration has a governance.yaml"
    (stored,) = (folder / "state" / "artifacts").glob("*/artifacts/bundle/card.json")
    card = json.loads(stored.read_text())
    assert (card["version"], card["monitoring"], card["missing"]) == (champion, None, [])
    assert card["data"]["groups"]["gender"]["Female"] > 0
    assert (stored.parents[1] / "model_card" / "card.json").read_bytes() == stored.read_bytes()


def test_table_and_the_lines_below_it_hold_what_the_report_says(
    printed: subprocess.CompletedProcess[str], folder: Path
) -> None:
    summary = json.loads((folder / "reports" / "summary.json").read_text())
    (batch,), delivered = summary["batches"], summary["delivered"]
    (row,) = [line for line in printed.stdout.splitlines() if re.match(r"\W*batch-01\W", line) and " stable " in line]
    assert re.findall(r"[^\s│]+", row) == [
        "batch-01",
        "stable",
        "1",
        *(f"{batch[name]:.3f}" for name in ("auroc", "auroc_frozen")),
        f"{batch['offset']:+.3f}",
        f"{batch['alert_rate']:.3f}",
    ]
    assert (
        f"{delivered['offset']:.3f} on average, up or down, at most {delivered['worst_offset']:.3f}." in printed.stdout
    )
    error, highest = delivered["alert_rate_error"], delivered["highest_alert_rate"]
    assert f"the promised one by {error:.3f} on average, and is at most {highest:.3f}." in printed.stdout


def test_nothing_comes_from_vendors_or_is_meant_for_a_terminal(printed: subprocess.CompletedProcess[str]) -> None:
    assert printed.stderr == ""
    assert "\x1b" not in printed.stdout
    assert not re.search("prefect|mlflow\\.|optuna|flow run|Finished in state|Warning", printed.stdout)


def test_libraries_log_nothing_into_the_file_either(printed: subprocess.CompletedProcess[str], folder: Path) -> None:
    """Their lines are not moved there: they are silent at their source."""
    lines = (folder / "state" / "services" / "demo.log").read_text().splitlines()
    assert [line for line in lines if " healthpredict." not in line] == []


def test_request_that_it_shows_posts_a_file(printed: subprocess.CompletedProcess[str], folder: Path) -> None:
    (shown,) = [line for line in printed.stdout.splitlines() if line.startswith("$ ")]
    assert len(shown) < 120
    command = shlex.split(shown.removeprefix("$ "))
    assert "Content-Type: application/json" in command
    assert json.loads((folder / command[command.index("-d") + 1].removeprefix("@")).read_text())
    answer = json.loads(printed.stdout.splitlines()[printed.stdout.splitlines().index(shown) + 1])
    assert 0 < answer["readmission_risk"] < 1
