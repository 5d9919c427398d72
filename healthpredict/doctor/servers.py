"""MLflow's and Prefect's servers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import httpx

from healthpredict.config import Settings
from healthpredict.doctor.problem import Check, Problem

_TIMEOUT: Final = 10.0
_NAME: Final = "healthpredict-doctor"
_VARIABLE: Final = "healthpredict_doctor"
_START: Final = "make up, or correct {name}"


def server_checks(settings: Settings) -> Iterator[Check]:
    """Checks of the servers that the settings name. A SQLite file is part of the state folder."""
    if settings.mlflow_uri.startswith("http"):
        yield Check("MLflow", partial(mlflow_problem, settings))
    if settings.prefect_api_url:
        yield Check("Prefect", partial(prefect_problem, settings))


def mlflow_problem(settings: Settings) -> Problem | None:
    """Whether MLflow responds, accepts the password, and can store a file."""
    password = settings.mlflow_password.get_secret_value() if settings.mlflow_password else ""
    login = (settings.mlflow_user or "", password) if password else None
    place = f"{settings.mlflow_uri}/api/2.0/mlflow-artifacts/artifacts/{_NAME}"
    # One request without retries: MLflow's own client would retry for minutes.
    with httpx.Client(auth=login, trust_env=False, timeout=_TIMEOUT) as client:
        try:
            written = client.put(place, content=b"")
            if written.is_success:
                client.delete(place)
        except httpx.HTTPError as error:
            return _no_response("MLflow", settings.mlflow_uri, "HEALTHPREDICT_TRACKING_URI", error)
    if written.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return Problem(
            f"MLflow at {settings.mlflow_uri} rejects the password (status {written.status_code}).",
            "set MLFLOW_TRACKING_PASSWORD to the content of docker-compose/secrets/mlflow-admin-password",
        )
    # Without the proxy for artifacts, clients write files themselves.
    if written.is_success or written.status_code in (httpx.codes.NOT_FOUND, httpx.codes.SERVICE_UNAVAILABLE):
        return None
    return Problem(
        f"MLflow at {settings.mlflow_uri} cannot store a model's files (status {written.status_code}).",
        "run `make logs SERVICE=mlflow`: its bucket or folder is missing, or not writable",
    )


def prefect_problem(settings: Settings) -> Problem | None:
    """Whether Prefect responds, accepts the password, and can store a variable."""
    login = settings.prefect_login.get_secret_value() if settings.prefect_login else ""
    user, _, password = login.partition(":")
    url = str(settings.prefect_api_url)
    with httpx.Client(auth=(user, password) if login else None, trust_env=False, timeout=_TIMEOUT) as client:
        try:
            # The server may protect itself against forged requests (CSRF).
            token = client.get(f"{url}/csrf-token", params={"client": _NAME})
            if token.is_success:
                client.headers.update({"Prefect-Csrf-Token": token.json()["token"], "Prefect-Csrf-Client": _NAME})
            written = client.post(f"{url}/variables/", json={"name": _VARIABLE, "value": ""})
            client.delete(f"{url}/variables/name/{_VARIABLE}")
        except httpx.HTTPError as error:
            return _no_response("Prefect", url, "PREFECT_API_URL", error)
    if written.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return Problem(
            f"Prefect at {url} rejects the password (status {written.status_code}).",
            "set PREFECT_API_AUTH_STRING to admin: and the content of docker-compose/secrets/prefect-auth-password",
        )
    # A conflict: another doctor has just written it.
    if written.is_success or written.status_code == httpx.codes.CONFLICT:
        return None
    return Problem(
        f"Prefect at {url} cannot store anything (status {written.status_code}).",
        "run `make logs SERVICE=prefect-server`: its database is full or stopped",
    )


def _no_response(server: str, url: str, variable: str, error: httpx.HTTPError) -> Problem:
    return Problem(f"{server} does not respond at {url}: {error}.", _START.format(name=variable))
