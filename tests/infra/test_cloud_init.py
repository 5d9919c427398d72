"""The user data is valid and small, and the real cloud-init applies it, as far as possible without a network."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import host as program
import pytest
import yaml
from engine import CONFIG, INFRA, REGION, STACK, Stack, read_written_files
from settings import read_settings

ROOT = INFRA / "host" / "root"
UNITS = sorted(path.name for path in (ROOT / "etc/systemd/system").glob("health-predict*"))
HERE = Path(__file__).parent

needs_cloud_init = pytest.mark.skipif(
    shutil.which("cloud-init") is None, reason="cloud-init is not installed (apt install cloud-init)"
)


@pytest.fixture(scope="module")
def user_data(stack: Stack) -> str:
    data: str = stack.one("Instance").inputs["userData"]
    return data


def test_the_user_data_is_within_the_limit_of_ec2(user_data: str) -> None:
    assert len(user_data.encode()) < 16_384


def test_user_data_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "USER_DATA_LIMIT", 1000)
    with pytest.raises(ValueError, match="1,000"):
        program.render_user_data(read_settings(STACK, REGION, CONFIG))


def test_the_user_data_contains_every_file_unchanged(user_data: str) -> None:
    written = read_written_files(user_data)
    files = {f"/{path.relative_to(ROOT)}": path.read_text() for path in ROOT.rglob("*") if path.is_file()}
    assert files.items() <= written.items()
    assert set(written) - set(files) == {"/etc/health-predict/host.env"}


def test_only_scripts_are_compressed_wherever_the_source_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "lib" / "host"
    shutil.copytree(program.HERE, folder)
    (folder / "root/etc/health-predict").mkdir()
    (folder / "root/etc/health-predict/plain").write_text("text")
    monkeypatch.setattr(program, "HERE", folder)
    written = yaml.safe_load(program.render_user_data(read_settings(STACK, REGION, CONFIG)))["write_files"]
    assert {"path": "/etc/health-predict/plain", "content": "text"} in written


def test_the_user_data_has_the_path_of_the_settings_and_no_settings(user_data: str) -> None:
    other = read_settings(STACK, REGION, {**CONFIG, "sourceCommit": "f" * 40, "maxHours": "3", "budgetUsd": "11"})
    # So a new commit needs no new host.
    assert program.render_user_data(other) == user_data
    assert f"HEALTHPREDICT_PARAMETERS=/health-predict/{STACK}\n" in user_data


@needs_cloud_init
def test_the_schema_of_cloud_init_accepts_the_user_data(user_data: str, tmp_path: Path) -> None:
    (tmp_path / "user-data").write_text(user_data)
    command = ["cloud-init", "schema", "--config-file", str(tmp_path / "user-data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass
class Booted:
    """The files and users after the first run of cloud-init, and after the second."""

    first: dict[str, str]
    second: dict[str, str]
    user: str
    verify: str


@pytest.fixture(scope="module")
def booted(user_data: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    if shutil.which("cloud-init") is None or shutil.which("systemd-analyze") is None:
        pytest.skip("cloud-init and systemd are not installed (apt install cloud-init systemd)")
    isolated = ["unshare", "--mount", "--net", "--propagation", "private"]
    if os.geteuid() != 0 or subprocess.run([*isolated, "true"], check=False, capture_output=True).returncode:
        pytest.skip("running cloud-init in a copy of this machine's files needs root and its own mounts")
    folder = tmp_path_factory.mktemp("boot")
    (folder / "user-data").write_text(user_data)
    command = [*isolated, "bash", str(HERE / "run_cloud_init.sh"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    log = (folder / "cloud-init.log").read_text() if (folder / "cloud-init.log").exists() else ""
    if "mount:" in done.stderr:
        pytest.skip(f"this machine cannot lay one folder over another: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr + log
    assert "Traceback" not in log and "failed" not in log.lower(), log
    yield Booted(
        first=read_listing(folder / "after-first"),
        second=read_listing(folder / "after-second"),
        user=(folder / "user").read_text(),
        verify=(folder / "verify").read_text(),
    )


def read_listing(path: Path) -> dict[str, str]:
    """Parse a listing: name to the rest of the line."""
    lines = [re.fullmatch(r"(.+?) +((?:etc|usr|home)\S*(?: -> .*)?)", line) for line in path.read_text().splitlines()]
    return {found[2].partition(" -> ")[0]: found[0] for found in lines if found}


def test_every_file_exists_with_owner_root_and_scripts_are_executable(booted: Booted) -> None:
    for path in (path for path in ROOT.rglob("*") if path.is_file()):
        mode = "755" if "lib" in path.relative_to(ROOT).parts and "usr" in path.parts else "644"
        assert booted.first[str(path.relative_to(ROOT))].startswith(f"{mode} 0 0 ")


def test_the_user_of_the_services_has_no_shell_and_may_use_docker(booted: Booted) -> None:
    assert "(docker)" in booted.user
    assert booted.user.rstrip().endswith("/usr/sbin/nologin")


def test_target_and_timers_are_enabled_so_that_a_reboot_starts_everything(booted: Booted) -> None:
    enabled = {name.rpartition("/")[2] for name in booted.first if ".wants/" in name}
    assert enabled == {"health-predict.target", "health-predict-health.timer", "health-predict-credentials.timer"}


def test_a_second_run_of_cloud_init_changes_nothing(booted: Booted) -> None:
    assert booted.second == booted.first


def test_systemd_accepts_the_units(booted: Booted) -> None:
    assert booted.verify == ""


def read_unit(name: str) -> dict[str, list[str]]:
    """The settings of a unit, name to values."""
    settings: dict[str, list[str]] = {}
    for line in (ROOT / "etc/systemd/system" / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings.setdefault(key, []).extend(value.split())
    return settings


def test_the_target_starts_every_service() -> None:
    started = set(read_unit("health-predict.target")["Wants"])
    services = {name for name in UNITS if name.endswith(".service")}
    # The others are started by their timers.
    assert started == services - {"health-predict-health.service", "health-predict-credentials.service"}


def test_services_start_in_order() -> None:
    order = [*itertools.pairwise(["secrets", "minikube", "stack", "deployments"])]
    for before, after in [*order, ("secrets", "credentials"), ("credentials", "stack")]:
        assert f"health-predict-{before}.service" in read_unit(f"health-predict-{after}.service")["After"]


def test_failed_units_are_restarted() -> None:
    for name in ("secrets", "credentials", "tools", "minikube", "stack", "deployments"):
        unit = read_unit(f"health-predict-{name}.service")
        assert unit["Restart"] == ["on-failure"]
        assert int(unit["RestartSec"][0]) >= 15
    # And what had to wait for it too: a unit whose requirement failed is not started again by systemd itself.
    assert "health-predict.target" in read_unit("health-predict-health.service")["ExecStopPost"]


def test_health_is_reported_as_soon_as_everything_is_up() -> None:
    after = read_unit("health-predict-deployments.service")["ExecStartPost"]
    assert after[0].startswith("+") and after[-1] == "health-predict-health.service" and "--no-block" in after


def test_the_limit_of_hours_does_not_need_the_settings() -> None:
    unit = read_unit("health-predict-limit.service")
    assert unit["EnvironmentFile"] == ["-/run/health-predict/stack.env"]
    assert "Requires" not in unit


def test_containers_start_after_the_credentials_which_are_renewed_before_they_expire() -> None:
    stack = read_unit("health-predict-stack.service")
    assert "health-predict-credentials.service" in stack["After"]
    # A unit that requires one that failed is restarted with it.
    assert "health-predict-credentials.service" in stack["Wants"]
    assert "health-predict-credentials.service" not in stack["Requires"]
    # Those of a role that was taken by another role are good for an hour, and botocore renews what expires within 15 minutes.
    assert read_unit("health-predict-credentials.timer")["OnCalendar"] == ["*:0/15"]


def test_minikube_and_the_stack_do_not_run_as_root() -> None:
    for name in ("minikube", "stack", "deployments"):
        assert read_unit(f"health-predict-{name}.service")["User"] == ["healthpredict"]
