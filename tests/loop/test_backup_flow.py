"""The daily backup tells Prefect, and a real Prefect server warns when none follows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client

from flows.automations import set_up_automations
from flows.backup import backup
from flows.events import BACKUP_MADE
from flows.notifications import expect_backup
from healthpredict.config import Settings
from healthpredict.operations.installation import Installation

pytestmark = pytest.mark.slow
PATIENCE = 90.0
# Prefect takes no less than 10 s.
MAX_AGE = timedelta(seconds=12)


@pytest.fixture
def warnings() -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a webhook, and what it was sent."""
    sent: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    server.server_close()


def test_a_backup_is_made_and_the_team_is_warned_when_no_other_follows(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: tuple[str, list[bytes]]
) -> None:
    monkeypatch.setenv("HEALTHPREDICT_DATA_URI", str(tmp_path / "data"))
    monkeypatch.setenv("HEALTHPREDICT_STATE_PATH", str(tmp_path / "state"))
    url, sent = warnings
    webhook = Webhook(method="POST", url=url, allow_private_urls=True).save("told", overwrite=True)
    with get_client(sync_client=True) as client:
        set_up_automations(client, webhook, timedelta(minutes=3), MAX_AGE)
        expect_backup(client)
        # Within its time, so that nothing is warned of until this one is old as well.
        made = backup()
        told = {"event": {"name": [BACKUP_MADE]}}
        started = time.monotonic()
        while not client.request("POST", "/events/filter", json={"filter": told}).json()["events"]:
            assert time.monotonic() < started + PATIENCE, "Prefect was not told of the backup"
            time.sleep(0.5)
        while not sent:
            assert time.monotonic() < started + PATIENCE, "nobody was warned"
            time.sleep(0.5)
    assert b"backup is older than" in sent[0]
    assert Path(made.uri).is_file()
    assert [event["uri"] for event in Installation(Settings()).ledger.events("backup")] == [made.uri]


def test_it_runs_every_day_where_the_passwords_are() -> None:
    deployments = yaml.safe_load(Path("prefect.yaml").read_text())["deployments"]
    (one,) = [deployment for deployment in deployments if deployment["name"] == "backup"]
    assert one["entrypoint"] == "flows/backup.py:backup"
    assert [schedule["cron"].split()[2:] for schedule in one["schedules"]] == [["*", "*", "*"]]
    compose = yaml.safe_load(Path("docker-compose/compose.yaml").read_text())
    assert f"--pool {one['work_pool']['name']}" in Path("docker-compose/deploy-worker").read_text()
    with_passwords = {
        name
        for name, service in compose["services"].items()
        if "mlflow-database-password" in service.get("secrets", ())
    }
    assert with_passwords == {"postgres", "mlflow", "deploy-worker", "restore"}
