"""The demo: the whole system on this machine, with its own Prefect server."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from healthpredict.cli.demo_effect import check_continued, check_effect, run_with_effect
from healthpredict.cli.demo_environment import demo_environment
from healthpredict.cli.services import LocalServices
from healthpredict.cli.step_lines import step_lines
from healthpredict.config import Settings, quiet_vendors
from healthpredict.data.prepared import PreparedData
from healthpredict.errors import ConfigurationError, HealthPredictError
from healthpredict.operations.installation import Installation
from healthpredict.operations.report import read_report
from healthpredict.operations.roll_out import local_target
from healthpredict.operations.timing import Seconds, log_step, timed
from healthpredict.reporting.effect import effect_sentences
from healthpredict.reporting.summary import Summary
from healthpredict.rollout.ports import free_port
from healthpredict.storage.tables import read_json, write_json
from healthpredict.storage.uris import join
from healthpredict.training.ray_cluster import ray_runtime

_PORTS = "ports.json"
"""A folder with this file was made by a demo."""
_PREFERRED_PORTS = {"api": 8080, "prefect": 4200, "mlflow": 5000}
_CLAIM = "\0health-predict-demo"
"""An abstract socket name, which Linux frees when the process ends."""

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
                prefect_api = services.start_prefect(self.ports["prefect"])
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


def run_demo(state: Path, source: str | None, *, keep: bool, fresh: bool, effect: float | None = None) -> None:
    """Run the demo. If it was interrupted, the next call continues it.

    Args:
        state: folder of the demo's data, databases and logs.
        source: path or URL of the data. None is the UCI archive, or synthetic data if the archive cannot be reached.
        keep: keep the services running.
        fresh: delete the files of an earlier demo first.
        effect: plant interventions that prevent this share (0-1) of the readmissions of treated patients. None plants none.

    Raises:
        ConfigurationError: the effect is not between 0 and 1, or the demo began with another one.
        HealthPredictError: a step failed.
    """
    check_effect(effect)
    with demo_in(state, keep=keep, fresh=fresh) as demo:
        check_continued(demo.state, demo.installation, effect)
        with demo.steps():
            prepared = _prepare(demo, source)
            if effect is None:
                demo.run_loop()
            else:
                run_with_effect(demo.state, demo.installation, prepared, effect, demo.run_loop)
        show_summary(demo)
        # Golden rows are synthetic.
        registry = demo.installation.registry
        record = registry.fetch_bundle(registry.champion()).golden[-1].record
        print_text(ask_api(demo, "encounter.json", record, "/predict"))


@contextlib.contextmanager
def demo_in(state: Path, *, keep: bool, fresh: bool) -> Iterator[Demo]:
    """Yield a demo. At the end, stop its services, or with `keep` start MLflow too and print the addresses.

    Arguments as `run_demo`. If the demo fails, its services are stopped, even with `keep`.

    Raises:
        ConfigurationError: the folder has files, but no demo made it, or with `fresh` it contains an installation.
    """
    state = state.resolve()
    _check_folder(state)
    if fresh and state.exists():
        _delete(state)
    with preferred_ports() as preferred:
        installation, ports = _set_up(state, preferred)
        settings, services = installation.settings, LocalServices(state)
        seconds: Seconds = {}
        keeps_running = False
        try:
            yield Demo(installation, state, services, ports, seconds)
            if keep:
                mlflow = services.start_mlflow(ports["mlflow"], settings.mlflow_uri)
                services.wait("mlflow", f"{mlflow}/health")
                print_text(f"\nPrefect  http://127.0.0.1:{ports['prefect']}\nMLflow   {mlflow}")
                print_text(f"API      http://{settings.api_host}:{settings.api_port}/docs\nStop     make demo-stop")
                keeps_running = True
        finally:
            if not keeps_running:
                stop_demo(state)
    report = join(settings.reports_uri, "index.html")
    print_text(f"Report   {report if '://' in report else Path(report).resolve()}")
    print_text(f"Done in {seconds['total']:.0f} s.")


def stop_demo(state: Path) -> None:
    """Stop the services of a demo, if there is one in the folder."""
    state = state.resolve()
    if (state / _PORTS).exists():
        local_target(_configure(state, _read_ports(state))).stop()
        LocalServices(state).stop()


def _check_folder(state: Path) -> None:
    """Refuse a folder that may belong to somebody else, such as that of an installation."""
    if state.exists() and not (state / _PORTS).exists() and any(state.iterdir()):
        raise ConfigurationError(f"{state} has files, and no demo made it. Choose a new or empty folder for --state.")


def _delete(state: Path) -> None:
    """Stop a demo and delete its folder."""
    settings = Settings()  # before `_configure` sets the demo's
    for place in (settings.state_path.resolve(), Path(settings.data_uri).resolve()):
        if place.is_relative_to(state):
            raise ConfigurationError(
                f"{state} is not deleted, because the settings use {place}. Choose another folder for --state, or unset "
                "HEALTHPREDICT_STATE_PATH and HEALTHPREDICT_DATA_URI."
            )
    stop_demo(state)
    shutil.rmtree(state)


@contextlib.contextmanager
def preferred_ports() -> Iterator[Mapping[str, int]]:
    """Yield the usual ports, or none while another demo runs on this machine, because it may take them."""
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(_CLAIM)
        except OSError:
            preferred = {}
        else:
            preferred = _PREFERRED_PORTS
        yield preferred


def _set_up(state: Path, preferred: Mapping[str, int]) -> tuple[Installation, dict[str, int]]:
    """Return the demo's installation and ports. A server that runs keeps its port; the others get free ones."""
    running: dict[str, int] = {}
    if (state / _PORTS).exists():
        ports, services = _read_ports(state), LocalServices(state)
        api = local_target(_configure(state, ports))
        api.recover()  # before new ports are chosen: it finds what an interrupted rollout left behind by the old one
        runs = {"api": api.listens(), **{name: services.runs(name) for name in ("prefect", "mlflow")}}
        running = {name: port for name, port in ports.items() if runs[name]}
    ports = {name: running.get(name) or free_port(preferred=preferred.get(name)) for name in _PREFERRED_PORTS}
    write_json(str(state / _PORTS), ports)
    return _configure(state, ports), ports


def _read_ports(state: Path) -> dict[str, int]:
    ports: dict[str, int] = read_json(str(state / _PORTS))
    return ports


def _configure(state: Path, ports: Mapping[str, int]) -> Installation:
    """Return the demo's installation. Set the environment variables that the flows read, and unset those of an installation."""
    environment = demo_environment(os.environ, state, ports)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    quiet_vendors()
    return Installation()


def _prepare(demo: Demo, source: str | None) -> PreparedData:
    from flows.prepare import prepare

    with timed(demo.seconds, "prepare"):
        data = prepare(source, allow_synthetic=source is None)
    kind = "synthetic encounters, not patients" if data.synthetic else "encounters"
    result = f"{data.encounters:,} {kind}, {data.cohort:,} in the cohort, {len(data.batches) - 1} batches"
    log_step("data", "prepare", demo.seconds["prepare"], result)
    return data


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
    for sentence in _both_readings(summary):
        print_text(f"Effect   {sentence}")


def _both_readings(summary: Summary) -> list[str]:
    """Return sentences on the AUROC with and without interventions and on the effect; none if no interventions were reported."""
    effect = effect_sentences(summary)
    # As `delivered`, of the batches whose outcomes without intervention are known, if there are any.
    known = [batch for batch in summary.batches if batch.auroc is not None] or summary.batches
    observed = [batch.auroc_observed for batch in known if batch.auroc_observed is not None]
    if not effect or not observed:
        return list(effect)
    without = "not known" if summary.delivered is None else f"{summary.delivered.auroc:.3f}"
    auroc = sum(observed) / len(observed)
    return [
        f"The mean AUROC is {auroc:.3f} for the outcomes as observed, and {without} without interventions.",
        *effect,
    ]


def ask_api(demo: Demo, file: str, body: Any, path: str) -> str:
    """Send a request to the API, as its callers do, and print the command.

    Args:
        demo: its API runs.
        file: name of the file in the demo's folder that the body is written to.
        body: for JSON.
        path: of the endpoint.

    Returns:
        The body of the response, whatever its status.

    Raises:
        HealthPredictError: there was no response.
    """
    settings, content = demo.installation.settings, json.dumps(body, indent=1)
    sent = demo.state / file
    sent.write_text(content)
    shown = sent.relative_to(Path.cwd()) if sent.is_relative_to(Path.cwd()) else sent
    url = f"http://{settings.api_host}:{settings.api_port}{path}"
    command = ["curl", "-sS", "--noproxy", "*", "-d", f"@{shown}", "-H", "Content-Type: application/json", url]
    print_text(f"\n$ {shlex.join(command)}")
    if shutil.which("curl"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HealthPredictError(f"The API did not respond: {done.stderr.strip()}")
        return done.stdout
    try:
        headers = {"Content-Type": "application/json"}
        return httpx.post(url, content=content, headers=headers, trust_env=False).text
    except httpx.HTTPError as error:
        raise HealthPredictError(f"The API did not respond: {error}") from error


def print_text(text: str) -> None:
    """Print text as it is, without markup, highlighting or wrapping."""
    _console.print(text, soft_wrap=True, highlight=False, markup=False)
