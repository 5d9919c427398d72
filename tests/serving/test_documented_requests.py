"""The requests in docs/api.md and docs/connect-your-ehr.md, as they are written there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest
from test_server import start, wait_for

from healthpredict.bundle.model import Bundle
from healthpredict.prediction_log.patient_key import make_patient_key
from healthpredict.rollout.ports import free_port

ROOT = Path(__file__).parents[2]
SECTION = "\n".join((ROOT / "docs" / page).read_text() for page in ("api.md", "connect-your-ehr.md"))
COMMANDS = re.findall(r"^curl .*$", SECTION, re.MULTILINE)
SETTINGS = re.findall(r"^[A-Z]+=.*$", SECTION, re.MULTILINE)


def test_every_endpoint_for_callers_is_shown() -> None:
    for path in (
        "/cds-services ",
        "/cds-services/readmission-risk ",
        "/cds-services/readmission-risk/feedback ",
        "/predict ",
        "/explain ",
        "/predict/batch ",
        "/outcomes ",
        "/model",
        "/health/ready",
        "/metrics",
    ):
        assert any(path in f"{command} " for command in COMMANDS), path


@pytest.fixture(scope="module")
def port(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> int:
    folder = tmp_path_factory.mktemp("documented")
    make_patient_key(folder / "key")
    port = free_port()
    process = start(str(bundle.path), f"--port={port}", f"--log={folder / 'log'}", f"--patient-key={folder / 'key'}")
    wait_for(port)
    yield port
    process.terminate()
    process.communicate(timeout=30)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_answered(port: int, command: str) -> None:
    settings = "\n".join(SETTINGS).replace("8080", str(port))
    shell = f"{settings}\n{command} --fail-with-body --noproxy '*'"
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if "/metrics" not in command:
        assert isinstance(json.loads(done.stdout), dict)


def test_nothing_but_these_commands_was_counted_as_a_failure(port: int) -> None:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    assert not re.search(r'healthpredict_requests_total\{[^}]*status="[45]', text)
