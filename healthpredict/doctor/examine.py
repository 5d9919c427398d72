"""Which checks belong together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from healthpredict.doctor.databases import database_checks
from healthpredict.doctor.engine import engine_problem, machine_checks
from healthpredict.doctor.env_file import env_checks, names_in
from healthpredict.doctor.files import file_checks
from healthpredict.doctor.kubernetes import kubernetes_checks
from healthpredict.doctor.networks import network_checks
from healthpredict.doctor.ports import port_checks
from healthpredict.doctor.problem import DEADLINE_SECONDS, Check, Problem, run_checks
from healthpredict.doctor.project import DEPLOY_WORKER, ENV_FILE, ComposeProject, default_project, last_line
from healthpredict.doctor.servers import server_checks
from healthpredict.doctor.stores import store_checks
from healthpredict.operations.installation import Installation


def examine_host(project: ComposeProject) -> list[Problem]:
    """Check what the services need on this host, before they start."""
    # Without an engine, nothing else can be asked; nor without a description of the services.
    found = run_checks([Check("the Docker engine", engine_problem)])
    found = found or run_checks([Check("the compose files", partial(_read_model, project))])
    return found or run_checks(list(_host_checks(project)))


def _read_model(project: ComposeProject) -> None:
    _ = project.model


def _host_checks(project: ComposeProject) -> Iterator[Check]:
    yield from env_checks(project)
    yield from file_checks(project)
    yield from port_checks(project)
    yield from network_checks(project)
    yield from machine_checks(project)


def examine_all(installation: Installation, *, servers: bool = True) -> list[Problem]:
    """Check the installation and, where `make up` has been run, this host and the deploy worker as well.

    Args:
        installation: its settings are checked.
        servers: whether MLflow and Prefect have to respond.
    """
    found = examine_installation(installation, servers=servers)
    if not ENV_FILE.exists():
        return found
    # Docker compose reads variables of this shell and of the file.
    named = names_in(ENV_FILE)
    on_s3 = installation.settings.artifacts_uri is not None or "HEALTHPREDICT_ARTIFACTS_URI" in named
    own_postgres = bool(installation.settings.external_databases) or "HEALTHPREDICT_PREFECT_DATABASE_URL" in named
    project = default_project(on_s3=on_s3, own_postgres=own_postgres)
    return [*found, *examine_host(project), *examine_worker(project)]


def examine_worker(project: ComposeProject) -> list[Problem]:
    """Run the same command in the deploy worker. Nothing is found if it does not run."""
    if not project.is_running(DEPLOY_WORKER):
        return []
    command = ("exec", "-T", DEPLOY_WORKER, "healthpredict", "doctor", "--json")
    done = project.run(*command, seconds=2 * DEADLINE_SECONDS)
    try:
        found = [Problem(**each) for each in json.loads(done.stdout)]
    except ValueError:
        return [Problem(f"healthpredict doctor failed in the deploy worker: {last_line(done.stderr)}.")]
    return [Problem(f"In the deploy worker: {problem.sentence}", problem.fix) for problem in found]


def examine_installation(installation: Installation, *, servers: bool = True) -> list[Problem]:
    """Check what the settings name, as this process sees it: on the host, or in a container.

    Args:
        installation: its settings are checked.
        servers: whether MLflow and Prefect have to respond.
    """
    databases = database_checks(installation.settings)
    checks = [*store_checks(installation), *databases, *kubernetes_checks(installation)]
    return run_checks([*checks, *(server_checks(installation.settings) if servers else ())])
