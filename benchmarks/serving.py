"""`make bench-serving`: CPU per prediction beside MLflow's server and the web framework alone, into `results/serving.json`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psutil

from benchmarks.results import FOLDER, Target, at_least, at_most, conditions, write
from benchmarks.serving_load import CONNECTIONS, http, load
from benchmarks.serving_log import log_cost
from benchmarks.serving_models import (
    as_pipeline_input,
    build_served_bundle,
    log_pipeline,
    mlflow_body,
)
from benchmarks.serving_offline import SCORED_ROWS, batch, explain
from healthpredict.bundle.model import Bundle
from healthpredict.config import quiet_vendors
from healthpredict.data.contract import FEATURE_COLUMNS
from healthpredict.features.frame import as_records
from healthpredict.prediction_log.patient_key import make_patient_key
from healthpredict.rollout.ports import free_port
from healthpredict.serving.encounter import as_sent
from healthpredict.storage.key_file import add_key
from tests.labelled import labelled_encounters

KEYS, PATIENT_KEY = "keys.json", "patient-key"
CPU, RPS = f"cpu_ms_{CONNECTIONS}", f"rps_{CONNECTIONS}"


@dataclass
class Service:
    """A running service, the request that it gets, and its measurements."""

    name: str
    process: psutil.Process
    port: int
    request: bytes
    start_cpu_s: float = 0.0
    measured: dict[str, list[float]] = field(default_factory=dict)

    def cpu(self) -> float:
        """Return the CPU seconds of the process and its children so far."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(p.cpu_times().user + p.cpu_times().system for p in family)

    def pss_mb(self) -> float:
        """Return the proportional set size, which divides shared memory among the processes."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(p.memory_full_info().pss for p in family) / 1e6


def measure(service: Service, connections: int, seconds: float) -> None:
    """Put load on a service, and store its CPU, latency and throughput."""
    import uvloop

    cpu = service.cpu()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        waits = runner.run(load(service.port, service.request, connections, seconds))
    spent = service.cpu() - cpu
    for name, value in (
        (f"cpu_ms_{connections}", spent / len(waits) * 1e3),
        (f"p50_ms_{connections}", statistics.median(waits) * 1e3),
        (f"rps_{connections}", len(waits) / seconds),
    ):
        service.measured.setdefault(name, []).append(value)


def start(stack: ExitStack, name: str, command: list[str], port: int, request: bytes) -> Service:
    """Start a service and wait until it answers the request."""
    # MLflow starts uvicorn by its name.
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PATH": programs}
    )
    stack.callback(end, child)
    service = Service(name, psutil.Process(child.pid), port, request)
    deadline = time.monotonic() + 180
    while True:
        try:
            asyncio.run(load(port, request, 1, 0.001))
            break
        except (OSError, RuntimeError) as error:
            if time.monotonic() > deadline or child.poll() is not None:
                raise RuntimeError(f"{name} does not answer: {error}") from error
            time.sleep(0.1)
    service.start_cpu_s = service.cpu()
    return service


def end(child: subprocess.Popen[bytes]) -> None:
    """End a service and its workers, if they still run."""
    if child.poll() is None:
        for process in (*psutil.Process(child.pid).children(recursive=True), child):
            process.terminate()
        child.wait()


def start_all(stack: ExitStack, folder: Path, bundle: Bundle) -> list[Service]:
    """Start every service."""
    row = labelled_encounters(100, 0).head(1)  # the same for all services
    (record,) = as_records(row[[column.field for column in FEATURE_COLUMNS]])
    ours = json.dumps({"encounter_id": 4711, "patient_nbr": 815, **as_sent(record)}).encode()
    plain = as_pipeline_input(row).to_dict("records")[0]
    key = f"Authorization: Bearer {add_key(folder / KEYS, 'benchmark')}"
    make_patient_key(folder / PATIENT_KEY)
    python, pipeline = sys.executable, str(folder / "pipeline")
    mlflow = str(Path(python).with_name("mlflow"))
    services = []
    for name, request in (
        ("ours", http("/predict", ours, key)),
        ("no_model", http("/predict", ours)),
        ("http_server", http("/predict", ours)),
        ("dataframe", http("/predict", json.dumps(plain).encode())),
        ("mlflow", http("/invocations", mlflow_body(row))),
    ):
        port = free_port()
        command = {
            "ours": [python, "-m", "healthpredict.serving", *our_params(folder, bundle, port)],
            "mlflow": [mlflow, "models", "serve", "-m", pipeline, "-p", str(port), "--env-manager", "local"],
        }.get(name, [python, "-m", "benchmarks.serving_peers", name, str(port), pipeline])
        services.append(start(stack, name, command, port, request))
    ours_service = services[0]
    batch = json.dumps({"encounters": [as_sent(record)] * 10_000}).encode()
    for name, request in (("batch", http("/predict/batch", batch, key)), ("explain", http("/explain", ours, key))):
        services.append(Service(name, ours_service.process, ours_service.port, request))
    return services


def our_params(folder: Path, bundle: Bundle, port: int) -> list[str]:
    """Return the arguments of the API, with keys, metrics and log."""
    return [
        str(bundle.path),
        f"--port={port}",
        f"--keys={folder / KEYS}",
        f"--log={folder / 'log'}",
        f"--patient-key={folder / PATIENT_KEY}",
    ]


def of_log(folder: Path, bundle: Bundle, logged: bytes) -> dict[str, Any]:
    """Return the cost of the prediction log, by the number of connections. Args: logged, a request to `/predict`."""
    logged, unlogged = (
        logged.replace(b"POST /predict ", b"POST /%s/predict " % kind) for kind in (b"logged", b"unlogged")
    )
    with ExitStack() as stack:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.serving_log", *our_params(folder, bundle, port)]
        service = start(stack, "log", command, port, logged)
        return {str(n): log_cost(service.process.pid, port, logged, unlogged, n) for n in (1, CONNECTIONS)}


def measure_in_turn(
    services: Sequence[Service], options: argparse.Namespace, at_once: Collection[Service] = ()
) -> dict[str, Any]:
    """Measure all services at one connection in turn, several times. Returns: the median of the rounds, by service and figure.

    Args:
        services: running.
        options: as from `parse_options`.
        at_once: those that are measured with many connections, too.
    """
    for service in services:
        measure(service, 1, 1.0)  # warm
        service.measured.clear()
    for _ in range(options.rounds):
        for service in services:
            measure(service, 1, options.seconds)
            if service in at_once:
                measure(service, CONNECTIONS, options.seconds)
    return {s.name: {name: statistics.median(values) for name, values in s.measured.items()} for s in services}


def run(folder: Path, bundle: Bundle, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all services."""
    with ExitStack() as stack:
        services = start_all(stack, folder, bundle)
        on_their_own = services[:-2]  # the others are different requests to the API
        memory = {service.name: service.pss_mb() for service in on_their_own}
        found = measure_in_turn(services, options, on_their_own)
    log = of_log(folder, bundle, services[0].request)
    for service in on_their_own:
        of = found[service.name]
        of |= {"cpu_ms": of[CPU], "p50_ms": of["p50_ms_1"]}
        of |= {"start_cpu_s": service.start_cpu_s, "pss_mb": memory[service.name]}
    return found | {"log": log}


def targets(found: dict[str, Any]) -> list[Target]:
    """Return the targets."""
    ours, mlflow, limit, batch = (found[name] for name in ("ours", "mlflow", "no_model", "batch"))
    small, middle, large = (batch["ours"][str(rows)] for rows in SCORED_ROWS)
    explained = found["explain"]
    return [
        at_least("CPU a request, mlflow / ours", mlflow["cpu_ms"] / ours["cpu_ms"], 100),
        at_most("CPU a request, ours / no model", ours["cpu_ms"] / limit["cpu_ms"], 1.1),
        at_least("p50 at 1 connection, mlflow / ours", mlflow["p50_ms"] / ours["p50_ms"], 60),
        at_least("requests a second at 32, ours / mlflow", ours[RPS] / mlflow[RPS], 80),
        at_most("memory of ours, PSS MB", ours["pss_mb"], 90),
        at_most("CPU to the first answer, s", ours["start_cpu_s"], 1.5),
        *(
            at_most(f"prediction log, share of the CPU of a request at {n} connections", of["share"], 0.1)
            for n, of in found["log"].items()
        ),
        *(
            at_most(f"explaining {family}, CPU of ours / SHAP", of["cpu_ms"] / of["shap_cpu_ms"], 1, 0.2)
            for family, of in explained.items()
            if isinstance(of, dict)
        ),
        at_most(
            "explanations, largest difference to SHAP",
            max(of["largest_difference"] for of in explained.values() if isinstance(of, dict)),
            1e-4,
        ),
        at_least(
            "100,000 rows, CPU of pyfunc from Parquet / ours", batch["pyfunc_parquet"]["cpu_s"] / small["cpu_s"], 8
        ),
        at_least("100,000 rows, CPU of pyfunc from JSON / ours", batch["pyfunc_json"]["cpu_s"] / small["cpu_s"], 8),
        at_most(
            "memory at 10,000,000 rows, times that at 1,000,000", large["peak_rss_mb"] / middle["peak_rss_mb"], 1.2
        ),
        at_most("CPU a row at 10,000,000 rows, times that at 1,000,000", large["cpu_s"] / middle["cpu_s"] / 10, 1.2),
    ]


def parse_options(description: str | None) -> argparse.Namespace:
    """Return `seconds` of each load and `rounds`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def write_section(
    section: str, measured: dict[str, Any], targets: list[Target], options: argparse.Namespace
) -> NoReturn:
    """Write a section of the results, and exit with 1 if a target is missed."""
    about = conditions(**vars(options), model="lightgbm, 400 trees, synthetic data")
    sys.exit(not write(FOLDER / "serving.json", section, measured, targets, about))


def main() -> None:
    options = parse_options(__doc__)
    quiet_vendors()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        encounters = labelled_encounters(20_000, 0)
        bundle = build_served_bundle(folder / "bundle", encounters)
        log_pipeline(folder / "pipeline", encounters)
        measured = run(folder, bundle, options)
        measured["explain"] |= explain(encounters)
        measured["batch"] |= batch(folder, bundle)
    write_section("serving", measured, targets(measured), options)


if __name__ == "__main__":
    main()
