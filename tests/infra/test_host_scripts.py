"""The scripts of the host, run with local files for downloads, a moto server for AWS, and stand-ins for docker."""

from __future__ import annotations

import hashlib
import http.server
import ipaddress
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from engine import INFRA, STACK, Stack

SCRIPTS = INFRA / "host" / "root" / "usr" / "local" / "lib" / "health-predict"
SHELL = ("compose", "fetch-source", "install-tools", "limit-hours", "start-minikube")
PYTHON = ("pass-credentials", "read-parameters", "report-health")


def run(script: Path | str, *arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the host in a folder that is also first on the PATH."""
    path = SCRIPTS / script
    command = [sys.executable, str(path)] if path.name in PYTHON else [str(path)]
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def stand_in(folder: Path, name: str) -> Path:
    """A command that only logs its arguments."""
    log = folder / f"{name}.log"
    command = folder / name
    command.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    command.chmod(0o755)
    return log


def test_every_script_is_tested_and_executable() -> None:
    assert {path.name for path in SCRIPTS.iterdir()} == {*SHELL, *PYTHON}
    assert all(os.access(path, os.X_OK) for path in SCRIPTS.iterdir())


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed (apt install shellcheck)")
@pytest.mark.parametrize("script", SHELL)
def test_shellcheck_finds_nothing(script: str) -> None:
    done = subprocess.run(["shellcheck", str(SCRIPTS / script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", PYTHON)
def test_ruff_finds_nothing_in_the_python_scripts(script: str) -> None:
    ruff = [sys.executable, "-m", "ruff", "check", "--quiet", "--ignore", "S,INP,PLW1510", str(SCRIPTS / script)]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# read-parameters


@pytest.fixture
def settings_of_the_host(deployed: Stack, aws_environment: None, tmp_path: Path) -> dict[str, str]:
    return {"RUNTIME_DIRECTORY": str(tmp_path), "HEALTHPREDICT_PARAMETERS": f"/health-predict/{STACK}"}


def test_settings_and_secrets_are_written_in_memory_and_each_secret_to_its_own_file(
    deployed: Stack, settings_of_the_host: dict[str, str], tmp_path: Path
) -> None:
    done = run("read-parameters", folder=tmp_path, **settings_of_the_host)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split("=", 1) for line in (tmp_path / "stack.env").read_text().splitlines())
    bucket = deployed.outputs["bucket"]
    assert lines["HEALTHPREDICT_DATA_URI"] == f"s3://{bucket}"
    assert lines["HEALTHPREDICT_ARTIFACTS_URI"] == f"s3://{bucket}/mlflow"
    assert lines["HEALTHPREDICT_IMAGE_REPOSITORY"] == deployed.outputs["repository_uri"]
    assert lines["HEALTHPREDICT_SOURCE_COMMIT"] == "0123456789abcdef0123456789abcdef01234567"
    assert lines["HEALTHPREDICT_SECRETS_DIR"] == str(tmp_path / "secrets")
    assert lines["HEALTHPREDICT_AWS_DIR"] == str(tmp_path / "aws")
    wanted = {
        p.inputs["name"].rpartition("/")[2]: p.inputs["value"]
        for p in deployed.all("Parameter")
        if "/secret/" in p.inputs["name"]
    }
    found = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert found == wanted
    assert not any(value in (tmp_path / "stack.env").read_text() for value in wanted.values())
    assert stat.S_IMODE((tmp_path / "stack.env").stat().st_mode) == 0o440
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").iterdir()} == {0o444}
    assert done.stdout == done.stderr == ""


def test_a_second_run_changes_nothing_and_deletes_secrets_that_no_longer_exist(
    settings_of_the_host: dict[str, str], tmp_path: Path
) -> None:
    run("read-parameters", folder=tmp_path, **settings_of_the_host)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "secrets" / "old-key").write_text("1")
    assert run("read-parameters", folder=tmp_path, **settings_of_the_host).returncode == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_without_parameters_the_message_names_the_path(settings_of_the_host: dict[str, str], tmp_path: Path) -> None:
    done = run("read-parameters", folder=tmp_path, **{**settings_of_the_host, "HEALTHPREDICT_PARAMETERS": "/nothing"})
    assert done.returncode != 0
    assert "/nothing/config" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "stack.env").exists()


def test_a_setting_that_systemd_and_compose_would_read_differently_is_refused(
    settings_of_the_host: dict[str, str], tmp_path: Path
) -> None:
    ssm = boto3.client("ssm")
    for name, value in (("config/data-uri", "s3://$(reboot)"), ("secret/key", "x")):
        ssm.put_parameter(Name=f"/odd/{name}", Value=value, Type="String", Overwrite=True)
    done = run("read-parameters", folder=tmp_path, **{**settings_of_the_host, "HEALTHPREDICT_PARAMETERS": "/odd"})
    assert done.returncode != 0
    assert "HEALTHPREDICT_DATA_URI" in done.stderr and "reboot" not in done.stderr


def test_compose_is_complete_with_these_settings_and_publishes_on_loopback_only(
    settings_of_the_host: dict[str, str], tmp_path: Path
) -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], check=False).returncode:
        pytest.skip("docker compose is not installed")
    assert run("read-parameters", folder=tmp_path, **settings_of_the_host).returncode == 0
    lines = dict(line.split("=", 1) for line in (tmp_path / "stack.env").read_text().splitlines())
    files = [f"--file={INFRA.parent / 'docker-compose' / name}" for name in ("compose.yaml", "compose.aws.yaml")]
    done = subprocess.run(
        ["docker", "compose", f"--env-file={tmp_path / 'stack.env'}", *files, "config", "--format", "json"],
        # Nothing of this shell's, and no profile but the host's.
        env={"PATH": os.environ["PATH"], "COMPOSE_PROFILES": lines["COMPOSE_PROFILES"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "variable is not set" not in done.stderr
    composed = json.loads(done.stdout)
    assert {"postgres", "prefect-server", "prefect-worker", "deploy-worker", "mlflow", "log-shipper"} == set(
        composed["services"]
    )
    assert all(Path(secret["file"]).stat().st_size > 20 for secret in composed["secrets"].values())
    published = [port for service in composed["services"].values() for port in service.get("ports", ())]
    assert {port["published"] for port in published} == {"4200", "5000", "8080"}
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    network = composed["networks"]["kubernetes"]
    assert (network["name"], network["external"]) == ("minikube", True)
    mounts = {name: mounted_credentials(service) for name, service in composed["services"].items()}
    own = str(tmp_path / "aws")
    used = dict.fromkeys(("prefect-worker", "deploy-worker", "mlflow", "log-shipper"), own)
    assert mounts == used | {"postgres": None, "prefect-server": None}
    deployer = composed["services"]["deploy-worker"]["environment"]
    assert deployer["HEALTHPREDICT_ROLLOUT__TARGET"] == "kubernetes"
    assert deployer["HEALTHPREDICT_IMAGE_REPOSITORY"] == lines["HEALTHPREDICT_IMAGE_REPOSITORY"]


def mounted_credentials(service: dict[str, Any]) -> str | None:
    """The folder of the host that a service mounts as /run/aws, read-only."""
    found = [mount for mount in service.get("volumes", ()) if mount["target"] == "/run/aws"]
    assert all(mount["read_only"] for mount in found)
    return found[0]["source"] if found else None


# pass-credentials


@pytest.fixture
def passed_on(deployed: Stack, settings_of_the_host: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a container that uses the credentials from the host."""
    assert run("read-parameters", folder=tmp_path, **settings_of_the_host).returncode == 0
    stack = dict(line.split("=", 1) for line in (tmp_path / "stack.env").read_text().splitlines())
    done = run("pass-credentials", folder=tmp_path, **stack)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
    return stack


@pytest.mark.parametrize("folder", ["HEALTHPREDICT_AWS_DIR", "HEALTHPREDICT_AWS_READER_DIR"])
def test_boto_reads_and_renews_the_credentials_from_the_host(
    passed_on: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    place = Path(passed_on[folder])
    # Where the folder is mounted in a container.
    config = (place / "config").read_text()
    assert config.count("/run/aws/") == 1
    (tmp_path / "config").write_text(config.replace("/run/aws", str(place)))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    credentials = boto3.Session().get_credentials()
    assert credentials is not None and credentials.method == "custom-process"
    given = json.loads((place / "credentials.json").read_text())
    assert credentials.token == given["SessionToken"]
    # The next ones are taken as soon as those in use expire soon.
    for token, minutes in (("soon", 5), ("renewed", 60)):
        expiration = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
        (place / "new").write_text(json.dumps(given | {"SessionToken": token, "Expiration": expiration}))
        (place / "new").replace(place / "credentials.json")
        if token == "soon":
            credentials = boto3.Session().get_credentials()
            assert credentials is not None
    assert credentials.get_frozen_credentials().token == "renewed"


def test_credentials_are_for_their_role_and_no_other_file_of_the_host_changes(
    deployed: Stack, passed_on: dict[str, str], tmp_path: Path
) -> None:
    for folder in ("aws", "aws-reader"):
        given = json.loads((tmp_path / folder / "credentials.json").read_text())
        sts = boto3.client(
            "sts",
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
        )
        assert f":assumed-role/{deployed.one('Role', '-containers').id}/" in sts.get_caller_identity()["Arn"]
        files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / folder).iterdir()}
        assert files == {"config": 0o444, "credentials.json": 0o444}
    before = (tmp_path / "aws" / "credentials.json").stat().st_ino
    assert run("pass-credentials", folder=tmp_path, **passed_on).returncode == 0
    assert (tmp_path / "aws" / "credentials.json").stat().st_ino != before, "replaced as a whole"


def test_a_notebook_gets_credentials_that_write_nothing_and_read_no_backup() -> None:
    text = (SCRIPTS / "pass-credentials").read_text()
    (read,) = re.findall(r"READ = (.+)", text)
    (kept_out,) = re.findall(r"NOT = (.+)", text)
    assert json.loads(read)["Action"] == ["s3:GetObject", "s3:ListBucket"]
    assert json.loads(kept_out) == {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "*/backups/*"}
    assert '"Statement": [READ, NOT]' in text
    assert len(re.findall(r'"(\w+:\w+)"', text)) == 3, "nothing else is allowed"
    compose = yaml.safe_load((INFRA.parent / "docker-compose" / "compose.aws.yaml").read_text())
    assert compose["services"]["jupyter"]["volumes"] == ["${HEALTHPREDICT_AWS_READER_DIR:-/dev/null}:/run/aws:ro"]


# report-health


@pytest.fixture
def good_service() -> Iterator[str]:
    """host:port of a service that responds to every request with success."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("down", [(), ("mlflow",), ("prefect", "api")])
def test_the_health_is_reported_in_the_tag(
    deployed: Stack, aws_environment: None, good_service: str, tmp_path: Path, down: tuple[str, ...]
) -> None:
    stand_in(tmp_path, "systemctl")
    text = (SCRIPTS / "report-health").read_text()
    for name, address in {"prefect": "127.0.0.1:4200", "mlflow": "127.0.0.1:5000", "api": "192.168.49.2:30080"}.items():
        assert address in text
        # Port 9 of this machine stands for a service that is down.
        text = text.replace(address, "127.0.0.1:9" if name in down else good_service)
    # However full the disk of this machine is.
    (tmp_path / "report-health").write_text(text.replace("FULL = 90", "FULL = 101"))
    (tmp_path / "instance-id").write_text(f"{deployed.outputs['instance_id']}\n")
    done = run(tmp_path / "report-health", folder=tmp_path, INSTANCE_ID_FILE=str(tmp_path / "instance-id"))
    assert done.returncode == 0, done.stderr
    health = read_health(deployed)
    assert health.split()[0] == ("degraded" if down else "ok")
    for name in ("prefect", "mlflow", "api"):
        assert f"{name}={'down' if name in down else 'ok'}" in health
    # What EC2 takes in a tag.
    assert re.fullmatch(r"[\w +=.:/@-]{1,256}", health)


def read_health(deployed: Stack) -> str:
    filters = [{"Name": "resource-id", "Values": [deployed.outputs["instance_id"]]}]
    tags = {each["Key"]: each["Value"] for each in boto3.client("ec2").describe_tags(Filters=filters)["Tags"]}
    return tags["HealthPredictHealth"]


@pytest.mark.parametrize(
    ("listed", "health"),
    [
        ("minikube.service loaded failed failed", "degraded failed=minikube"),
        # It failed, and systemd waits before it tries again.
        ("minikube.service loaded activating auto-restart", "degraded failed=minikube"),
        ("deployments.service loaded activating start", "degraded starting=deployments"),
        ("stack.service loaded activating start-pre", "degraded starting=stack"),
        # This unit starts the report when it is done.
        ("deployments.service loaded activating start-post", "ok"),
        ("credentials.service loaded activating start", "ok"),
        ("stack.service loaded active exited", "ok"),
        ("", "degraded failed=systemctl"),
    ],
)
def test_a_unit_that_failed_or_is_starting_is_named_in_the_health(
    deployed: Stack, aws_environment: None, good_service: str, tmp_path: Path, *, listed: str, health: str
) -> None:
    command = tmp_path / "systemctl"
    answer = f"echo 'health-predict-{listed} Health Predict: a unit'" if listed else "exit 1"
    command.write_text(f"#!/bin/sh\n{answer}\n")
    command.chmod(0o755)
    text = re.sub(r"(127\.0\.0\.1:\d+|192\.168\.49\.2:30080)", good_service, (SCRIPTS / "report-health").read_text())
    (tmp_path / "report-health").write_text(text.replace("FULL = 90", "FULL = 101"))
    (tmp_path / "instance-id").write_text(deployed.outputs["instance_id"])
    run(tmp_path / "report-health", folder=tmp_path, INSTANCE_ID_FILE=str(tmp_path / "instance-id"))
    state, *named = health.split()
    reported = read_health(deployed).split()
    assert (reported[0], [part for part in reported if part.startswith(("failed=", "starting="))]) == (state, named)


# install-tools


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """Local files to download, and the folder to install into."""
    (tmp_path / "bin").mkdir()
    for name in ("kubectl", "minikube"):
        (tmp_path / f"{name}.download").write_text(f"#!/bin/sh\necho this is {name}\n")
    return {
        "BIN": str(tmp_path / "bin"),
        "KUBECTL_FROM": (tmp_path / "kubectl.download").as_uri(),
        "MINIKUBE_FROM": (tmp_path / "minikube.download").as_uri(),
    }


def pin_to_downloads(folder: Path) -> Path:
    """A copy of the script with the digests of the local files."""
    text = (SCRIPTS / "install-tools").read_text()
    for name in ("kubectl", "minikube"):
        digest = hashlib.sha256((folder / f"{name}.download").read_bytes()).hexdigest()
        text, found = re.subn(rf"(install_tool {name}) [0-9a-f]{{64}}", rf"\1 {digest}", text)
        assert found == 1
    script = folder / "install-tools"
    script.write_text(text)
    script.chmod(0o755)
    return script


def test_a_download_with_another_digest_is_refused_and_leaves_nothing(tools: dict[str, str], tmp_path: Path) -> None:
    done = run("install-tools", folder=tmp_path, **tools)
    assert done.returncode != 0
    assert "kubectl.download" in done.stderr and "sha256" in done.stderr
    assert list((tmp_path / "bin").iterdir()) == []


def test_tools_are_installed_once(tools: dict[str, str], tmp_path: Path) -> None:
    script = pin_to_downloads(tmp_path)
    assert run(script, folder=tmp_path, **tools).returncode == 0
    installed = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "bin").iterdir()}
    assert set(installed) == {"kubectl", "minikube"}
    assert all(os.access(path, os.X_OK) for path in (tmp_path / "bin").iterdir())
    # The second time there is nothing to download from.
    assert (
        run(
            script, folder=tmp_path, **{**tools, "KUBECTL_FROM": "file:///gone", "MINIKUBE_FROM": "file:///gone"}
        ).returncode
        == 0
    )
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "bin").iterdir()} == installed


def test_a_changed_tool_is_installed_again(tools: dict[str, str], tmp_path: Path) -> None:
    script = pin_to_downloads(tmp_path)
    run(script, folder=tmp_path, **tools)
    (tmp_path / "bin" / "kubectl").write_text("something else")
    run(script, folder=tmp_path, **tools)
    assert "this is kubectl" in (tmp_path / "bin" / "kubectl").read_text()


def test_addresses_of_the_tools_name_their_version() -> None:
    text = (SCRIPTS / "install-tools").read_text()
    assert len(re.findall(r"https://\S+/v\d+\.\d+\.\d+/\S+", text)) == 2
    assert "latest" not in text and "stable" not in text


def test_kubectl_and_the_cluster_have_the_same_version(tmp_path: Path) -> None:
    stand_in(tmp_path, "docker")
    log = stand_in(tmp_path, "minikube")
    assert run("start-minikube", folder=tmp_path).returncode == 0
    kubectl = re.search(r"release/(v[\d.]+)/bin", (SCRIPTS / "install-tools").read_text())
    assert kubectl and f"--kubernetes-version={kubectl[1]}" in log.read_text()


def test_services_in_the_network_of_the_cluster_never_take_its_address(tmp_path: Path) -> None:
    log = stand_in(tmp_path, "docker")
    (tmp_path / "docker").write_text((tmp_path / "docker").read_text() + 'test "$2" = create\n')
    for arguments in ((), ("network",)):
        minikube = stand_in(tmp_path, "minikube")
        assert run("start-minikube", *arguments, folder=tmp_path).returncode == 0
        assert minikube.exists() is (not arguments)
        minikube.unlink(missing_ok=True)
    created = [call for call in log.read_text().splitlines() if call.startswith("network create")]
    assert len(created) == 2
    given = re.fullmatch(r".* --ip-range (\S+) .* minikube", created[0])
    address = re.search(r"--static-ip=(\S+)", (SCRIPTS / "start-minikube").read_text())
    assert given and address and ipaddress.ip_address(address[1]) not in ipaddress.ip_network(given[1])


# fetch-source


@pytest.fixture
def repository(tmp_path: Path) -> dict[str, str]:
    """A repository with two commits, and settings that name the older one."""
    place = tmp_path / "origin"
    place.mkdir()

    def git(*words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    commits = []
    for text in ("first", "second"):
        (place / "README.md").write_text(text)
        git("add", ".")
        git("commit", "--quiet", "--message", text)
        commits.append(git("rev-parse", "HEAD"))
    # As GitHub does, it gives out any commit that it has.
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    return {
        "HEALTHPREDICT_SOURCE_REPOSITORY": place.as_uri(),
        "HEALTHPREDICT_SOURCE_COMMIT": commits[0],
        "second": commits[1],
    }


def test_the_source_is_the_named_commit_and_not_the_newest(repository: dict[str, str], tmp_path: Path) -> None:
    done = run("fetch-source", folder=tmp_path, **repository)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "source" / "README.md").read_text() == "first"


def test_the_same_source_is_not_fetched_again_and_another_replaces_it(
    repository: dict[str, str], tmp_path: Path
) -> None:
    run("fetch-source", folder=tmp_path, **repository)
    gone = {**repository, "HEALTHPREDICT_SOURCE_REPOSITORY": "file:///gone"}
    assert run("fetch-source", folder=tmp_path, **gone).returncode == 0
    run("fetch-source", folder=tmp_path, **{**repository, "HEALTHPREDICT_SOURCE_COMMIT": repository["second"]})
    assert (tmp_path / "source" / "README.md").read_text() == "second"


def test_a_missing_commit_leaves_the_source_unchanged(repository: dict[str, str], tmp_path: Path) -> None:
    run("fetch-source", folder=tmp_path, **repository)
    done = run("fetch-source", folder=tmp_path, **{**repository, "HEALTHPREDICT_SOURCE_COMMIT": "f" * 40})
    assert done.returncode != 0
    assert (tmp_path / "source" / "README.md").read_text() == "first"


def test_an_archive_with_another_digest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "health-predict-1.0").mkdir()
    (tmp_path / "health-predict-1.0" / "README.md").write_text("released")
    archive = tmp_path / "r.tar.gz"
    subprocess.run(["tar", "-czf", str(archive), "health-predict-1.0"], cwd=tmp_path, check=True)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    address = {"HEALTHPREDICT_SOURCE_ARCHIVE": archive.as_uri()}
    assert run("fetch-source", folder=tmp_path, HEALTHPREDICT_SOURCE_SHA256="0" * 64, **address).returncode != 0
    assert not (tmp_path / "source").exists()
    done = run("fetch-source", folder=tmp_path, HEALTHPREDICT_SOURCE_SHA256=digest, **address)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "source" / "README.md").read_text() == "released"


@pytest.mark.parametrize("kind", ["the download", "what is in it"])
def test_an_archive_beyond_the_limit_is_not_unpacked(tmp_path: Path, kind: str) -> None:
    content = os.urandom(300_000) if kind == "the download" else bytes(300_000)
    (tmp_path / "health-predict-1.0").mkdir()
    (tmp_path / "health-predict-1.0" / "README.md").write_bytes(content)
    archive = tmp_path / "r.tar.gz"
    subprocess.run(["tar", "-czf", str(archive), "health-predict-1.0"], cwd=tmp_path, check=True)
    environment = {
        "HEALTHPREDICT_SOURCE_ARCHIVE": archive.as_uri(),
        "HEALTHPREDICT_SOURCE_SHA256": hashlib.sha256(archive.read_bytes()).hexdigest(),
    }
    done = run("fetch-source", folder=tmp_path, LIMIT="204800", **environment)
    assert done.returncode != 0
    assert (
        "or has more than 204800 bytes" if kind == "the download" else "more than 204800 bytes unpacked"
    ) in done.stderr
    assert list((tmp_path / "source.new").iterdir()) == []
    assert not (tmp_path / "source").exists()
    assert run("fetch-source", folder=tmp_path, LIMIT="400000", **environment).returncode == 0


# compose, limit-hours


FILES = (
    "--env-file /run/health-predict/stack.env --env-file ../base-images.env "
    "-f docker-compose/compose.yaml -f docker-compose/compose.aws.yaml"
)


def make_source(folder: Path) -> Path:
    """A fetched source with the files that the script uses."""
    source = folder / "source"
    (source / "docker-compose").mkdir(parents=True)
    shutil.copy(INFRA.parent / "docker-compose" / "pin-base-images", source / "docker-compose")
    return source


def test_the_stack_is_built_once_for_a_version_and_started_every_time(tmp_path: Path) -> None:
    log = stand_in(tmp_path, "docker")
    make_source(tmp_path)
    for version in ("one", "one", "two"):
        (tmp_path / "source" / ".version").write_text(version)
        done = run("compose", "start", folder=tmp_path)
        assert done.returncode == 0, done.stderr
    calls = log.read_text().splitlines()
    assert calls.count(f"compose {FILES} build") == 2
    # Every version starts from the newest base images, by digest.
    assert calls.count("pull --quiet python:3.11-slim-bookworm") == 2
    assert (tmp_path / "base-images.env").is_file()
    assert calls.count(f"compose {FILES} up -d --wait --remove-orphans") == 3


def test_the_kubeconfig_that_a_service_mounts_is_a_file_even_if_minikube_never_started(tmp_path: Path) -> None:
    stand_in(tmp_path, "docker")
    (make_source(tmp_path) / ".version").write_text("one")
    kubeconfig = tmp_path / "deployer-kubeconfig"
    assert run("compose", "start", folder=tmp_path).returncode == 0
    assert kubeconfig.is_file()
    kubeconfig.write_text("of the cluster")
    assert run("compose", "start", folder=tmp_path).returncode == 0
    assert kubeconfig.read_text() == "of the cluster"


def test_a_failed_build_is_repeated(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    (make_source(tmp_path) / ".version").write_text("one")
    assert run("compose", "start", folder=tmp_path).returncode != 0
    log = stand_in(tmp_path, "docker")
    assert run("compose", "start", folder=tmp_path).returncode == 0
    assert f"compose {FILES} build" in log.read_text()


@pytest.mark.parametrize(("hours", "minutes"), [("9", "540"), (None, "720")])
def test_the_host_shuts_down_after_its_hours_even_without_settings(
    tmp_path: Path, hours: str | None, minutes: str
) -> None:
    log = stand_in(tmp_path, "shutdown")
    environment = {"HEALTHPREDICT_MAX_HOURS": hours} if hours else {}
    assert run("limit-hours", folder=tmp_path, **environment).returncode == 0
    assert log.read_text().split() == ["-h", f"+{minutes}"]


def test_zero_hours_is_no_limit(tmp_path: Path) -> None:
    log = stand_in(tmp_path, "shutdown")
    assert run("limit-hours", folder=tmp_path, HEALTHPREDICT_MAX_HOURS="0").returncode == 0
    assert not log.exists()
