"""The demo: the whole system on this machine, with its own Prefect server."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from healthpredict.cli.services import LocalServices
from healthpredict.cli.step_lines import step_lines
from healthpredict.operations.installation import Installation
from healthpredict.operations.report import read_report
from healthpredict.operations.roll_out import local_target
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.reporting.summary import Summary
from healthpredict.rollout.ports import free_port
from healthpredict.storage.tables import write_json
from healthpredict.storage.uris import join
from healthpredict.training.ray_cluster import ray_runtime

_GOVERNANCE = Path(__file__).with_name("demo_governance.yaml")
_PREFERRED_PORTS = {"api": 8080, "prefect": 4200, "mlflow": 5000}

_console = Console()


@dataclass(frozen=True)
class Demo:
    """A demo in a folder.

    Attributes:
        installation: its data, registry and reports.
        state: the folder, with data, databases and logs.
        services: its servers.
        ports: their ports, by name.
        seconds: stage -> seconds so far.
    """

    installation: Installation
    state: Path
    services: LocalServices
    ports: Mapping[str, int]
    seconds: Seconds

    @contextlib.contextmanager
    def steps(self) -> Iterator[None]:
        """Start Ray and Prefect's server. Print a line for each step of the block."""
        seconds, services = self.seconds, self.services
        with step_lines(_console, services.log("demo")), timed(seconds, "total"), contextlib.ExitStack() as ray:
            with timed(seconds, "services"):
                os.environ["PREFECT_API_URL"] = prefect_api = services.start_prefect(self.ports["prefect"])
                # While Prefect's server starts, start one Ray for all searches, create MLflow's database and import the flows.
                ray.enter_context(ray_runtime(self.installation.settings.ray_address))
                self.installation.registry.versions()
                # Prefect reads its settings when it is imported.
                import flows.drift_loop
                import flows.prepare  # noqa: F401

                services.wait("prefect", f"{prefect_api}/health")
            log_step("services", "start", seconds["services"], "Ray, Prefect's server, MLflow's database")
            yield

    def run_loop(self) -> None:
        """Run the flow of the loop on the batches that have arrived."""
        from flows.drift_loop import drift_loop

        drift_loop()


def run_demo(state: Path, source: str | None, *, keep: bool, fresh: bool) -> None:
    """Run the demo. If it was interrupted, the next call continues it.

    Args:
        state: folder of the demo's data, databases and logs.
        source: path or URL of the data. None is the UCI archive, or synthetic data if the archive cannot be reached.
        keep: keep the services running.
        fresh: delete the files of an earlier demo first.

    Raises:
        HealthPredictError: a step failed.
    """
    with demo_in(state, keep=keep, fresh=fresh) as demo:
        with demo.steps():
            _prepare(demo, source)
            demo.run_loop()
        show_summary(demo)
        # Golden rows are synthetic.
        registry = demo.installation.registry
        record = registry.fetch_bundle(registry.champion()).golden[-1].record
        print_text(ask_api(demo, "encounter.json", record, "/predict"))


@contextlib.contextmanager
def demo_in(state: Path, *, keep: bool, fresh: bool) -> Iterator[Demo]:
    """Yield a demo. At the end, stop its services, or with `keep` start MLflow too and print the addresses.

    Arguments as `run_demo`.
    """
    state = state.resolve()
    if fresh:
        stop_demo(state)
        shutil.rmtree(state, ignore_errors=True)
    installation, ports = _configure(state)
    settings, services = installation.settings, LocalServices(state)
    seconds: Seconds = {}
    try:
        yield Demo(installation, state, services, ports, seconds)
        if keep:
            mlflow = services.start_mlflow(ports["mlflow"], settings.mlflow_uri)
            services.wait("mlflow", f"{mlflow}/health")
            print_text(f"\nPrefect  http://127.0.0.1:{ports['prefect']}\nMLflow   {mlflow}")
            print_text(f"API      http://{settings.api_host}:{settings.api_port}/docs\nStop     make demo-stop")
    finally:
        if not keep:
            stop_demo(state)
    report = join(settings.reports_uri, "index.html")
    print_text(f"Report   {report if '://' in report else Path(report).resolve()}")
    print_text(f"Done in {seconds['total']:.0f} s.")


def stop_demo(state: Path) -> None:
    """Stop the services of a demo."""
    state = state.resolve()
    if state.exists():
        local_target(_configure(state)[0]).stop()
        LocalServices(state).stop()


def _configure(state: Path) -> tuple[Installation, dict[str, int]]:
    """Return the demo's installation and ports. Set the environment variables that the flows read."""
    state.mkdir(parents=True, exist_ok=True)
    record = state / "ports.json"
    if not record.exists():
        record.write_text(json.dumps({name: free_port(preferred=port) for name, port in _PREFERRED_PORTS.items()}))
    ports = json.loads(record.read_text())
    os.environ["HEALTHPREDICT_DATA_URI"] = str(state / "data")
    os.environ["HEALTHPREDICT_STATE_PATH"] = str(state)
    os.environ.setdefault("HEALTHPREDICT_GOVERNANCE_PATH", str(_GOVERNANCE))
    os.environ["HEALTHPREDICT_API_PORT"] = str(ports["api"])
    # For links, which work while the demo keeps MLflow running.
    os.environ["HEALTHPREDICT_MLFLOW_UI_URL"] = f"http://127.0.0.1:{ports['mlflow']}"
    return Installation(), ports


def _prepare(demo: Demo, source: str | None) -> None:
    from flows.prepare import prepare

    with timed(demo.seconds, "prepare"):
        data = prepare(source, allow_synthetic=source is None)
    kind = "synthetic encounters, not patients" if data.synthetic else "encounters"
    result = f"{data.encounters:,} {kind}, {data.cohort:,} in the cohort, {len(data.batches) - 1} batches"
    log_step("data", "prepare", demo.seconds["prepare"], result)


def show_summary(demo: Demo) -> None:
    """Print the summary of the report, after it got the demo's own times."""
    _show(_with_seconds(demo.installation, demo.seconds))


def _with_seconds(installation: Installation, seconds: Seconds) -> Summary:
    """Add the demo's own stages to the summary. The rest of the total is orchestration."""
    summary = read_report(installation)
    stages = summary.seconds | {name: value for name, value in seconds.items() if name != "total"}
    stages |= {"orchestration": max(0.0, seconds["total"] - sum(stages.values())), "total": seconds["total"]}
    complete = summary.model_copy(update={"seconds": stages})
    write_json(join(installation.settings.reports_uri, "summary.json"), complete.model_dump(mode="json"))
    return complete


def _show(summary: Summary) -> None:
    data = summary.data
    print_text(
        f"\nData: {data.source}{' (synthetic, not patients)' if data.synthetic else ''}; {data.encounters:,} encounters, "
        f"{data.patients:,} patients, {data.cohort:,} in the cohort"
    )
    table = Table(
        title=f"{len(summary.batches)} batches, each predicted before its outcomes were known", title_justify="left"
    )
    # Two headings have two lines, so that the table fits into 80 columns.
    headings = ("batch", "decision", "champion", "AUROC", "first\nmodel", "offset", "alert\nrate", "alarms")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("batch", "decision") else "right")
    for batch in summary.batches:
        changed = batch.champion != batch.champion_before
        table.add_row(
            batch.name,
            batch.decision,
            f"{batch.champion_before} -> {batch.champion}" if changed else str(batch.champion or ""),
            "" if batch.auroc is None else f"{batch.auroc:.3f}",
            "" if batch.auroc_frozen is None else f"{batch.auroc_frozen:.3f}",
            "" if batch.offset is None else f"{batch.offset:+.3f}",
            "" if batch.alert_rate is None else f"{batch.alert_rate:.3f}",
            str(len(batch.alarms) or ""),
        )
    _console.print(table)
    for alarm in summary.alarms:
        print_text(f"Alarm    {alarm.newest_batch}: {alarm.story}")
    if summary.delivered:
        delivered = summary.delivered
        print_text(
            f"Delivered: mean AUROC {delivered.auroc:.3f} over {delivered.batches} batches with known outcomes; the first model "
            f"alone {delivered.auroc_frozen:.3f}.\n"
            f"Offset (mean risk minus share of readmissions): {delivered.absolute_offset:.3f} on average, up or down, at most "
            f"{delivered.worst_offset:.3f}."
        )
        if delivered.alert_rate_error is not None and delivered.highest_alert_rate is not None:
            print_text(
                f"Alert rate, when a batch arrives: differs from the promised one by {delivered.alert_rate_error:.3f} on average, "
                f"and is at most {delivered.highest_alert_rate:.3f}."
            )


def ask_api(demo: Demo, file: str, body: Any, path: str) -> str:
    """Send a request to the API, as its callers do, and print the command.

    Args:
        demo: its API runs.
        file: name of the file in the demo's folder that the body is written to.
        body: for JSON.
        path: of the endpoint.

    Returns:
        The body of the response.
    """
    settings, content = demo.installation.settings, json.dumps(body, indent=1)
    sent = demo.state / file
    sent.write_text(content)
    shown = sent.relative_to(Path.cwd()) if sent.is_relative_to(Path.cwd()) else sent
    url = f"http://{settings.api_host}:{settings.api_port}{path}"
    command = ["curl", "-s", "-d", f"@{shown}", "-H", "Content-Type: application/json", url]
    print_text(f"\n$ {shlex.join(command)}")
    if shutil.which("curl"):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    headers = {"Content-Type": "application/json"}
    return httpx.post(url, content=content, headers=headers, trust_env=False).text


def print_text(text: str) -> None:
    """Print text as it is, without markup, highlighting or wrapping."""
    _console.print(text, soft_wrap=True, highlight=False, markup=False)
