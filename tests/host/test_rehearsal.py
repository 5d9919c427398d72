"""The chapters of a host's life, in order: each test goes on from the state in which the one before left it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.host.machine import Machine, Repository

pytestmark = [pytest.mark.host, pytest.mark.timeout(2400)]
CREDENTIALS = "health-predict-credentials.service"
OK = r"ok \S+ prefect=ok mlflow=ok api=ok disk=\d+"
WITHOUT_MINIKUBE = r"degraded \S+ prefect=ok mlflow=ok api=down disk=\d+ failed=minikube"
SECRET = "/run/health-predict/secrets/jupyter-token"


def test_the_first_boot_leads_to_a_healthy_report(machine: Machine) -> None:
    machine.wait_for_report(OK, "first boot", machine.start())
    assert "status: done" in machine.run("cloud-init", "status", "--wait")
    deployments = machine.prefect("deployment", "ls")
    assert all(f"{name}/" in deployments for name in ("prepare", "train", "deploy", "drift-loop", "score"))
    machine.run("docker", "exec", "health-predict-deploy-worker-1", "grep", "192.168.49.2:8443", "/run/kubeconfig")
    machine.prefect("variable", "set", "kept", "from-the-first-boot")


def test_after_a_reboot_everything_is_there_without_another_build(machine: Machine) -> None:
    built = machine.run("stat", "--format=%Y", "/var/lib/health-predict/built")
    machine.run("systemctl", "reboot", check=False)
    machine.wait_until_off()
    machine.wait_for_report(OK, "reboot", machine.start())
    assert machine.run("stat", "--format=%Y", "/var/lib/health-predict/built") == built
    assert_limit(machine, hours=12)
    assert "from-the-first-boot" in machine.prefect("variable", "get", "kept")


def test_the_morning_after_has_the_data_and_the_changed_parameters(machine: Machine) -> None:
    machine.program.up(maxHours="3")
    machine.program.client("ssm").put_parameter(
        Name="/health-predict/test/secret/jupyter-token", Value="rotated-by-hand", Overwrite=True
    )
    machine.stop()
    machine.wait_for_report(OK, "morning", machine.start())
    assert machine.postgres_was_stopped_cleanly()
    assert "from-the-first-boot" in machine.prefect("variable", "get", "kept")
    assert machine.run("cat", SECRET) == "rotated-by-hand"
    assert_limit(machine, hours=3)


def assert_limit(machine: Machine, hours: int) -> None:
    """Assert that the host will shut down some hours after its start, which was some minutes ago."""
    due = machine.shutdown_due()
    assert due is not None
    assert timedelta(hours=hours, minutes=-15) < due - datetime.now(UTC) < timedelta(hours=hours)


def test_a_failed_renewal_of_credentials_is_repeated_and_does_not_touch_the_services(machine: Machine) -> None:
    started = machine.started()
    with machine.without_aws():
        machine.run("systemctl", "start", "health-predict-credentials.service", check=False)
        assert machine.show(CREDENTIALS, "Result") == "exit-code"
    machine.wait_until(lambda: machine.show(CREDENTIALS, "Result") == "success", "credentials")
    assert machine.started() == started


def test_without_minikube_the_stack_runs_and_rollouts_work_as_soon_as_it_is_there(machine: Machine) -> None:
    # As on a host whose Minikube has never started.
    machine.run("rm", "/var/lib/health-predict/deployer-kubeconfig")
    machine.run("docker", "rm", "--force", "minikube")
    machine.run("docker", "container", "rm", "--force", "health-predict-deploy-worker-1")
    machine.run("touch", "/etc/minikube-fails")
    machine.stop()
    machine.wait_for_report(WITHOUT_MINIKUBE, "no Minikube", machine.start())
    started = machine.started()
    machine.run("rm", "/etc/minikube-fails")
    machine.wait_for_new_report(OK)
    machine.run("docker", "exec", "health-predict-deploy-worker-1", "grep", "192.168.49.2:8443", "/run/kubeconfig")
    assert machine.started() == started


def test_a_new_commit_runs_after_the_next_start(machine: Machine, repository: Repository) -> None:
    commit = repository.add_commit()
    machine.program.up(sourceCommit=commit)
    machine.stop()
    machine.wait_for_report(OK, "new commit", machine.start())
    for service in ("prefect-worker", "deploy-worker", "prefect-server"):
        environment = machine.run("docker", "exec", f"health-predict-{service}-1", "env")
        assert f"HEALTHPREDICT_GIT_COMMIT={commit}" in environment
    assert "from-the-first-boot" in machine.prefect("variable", "get", "kept")


def test_a_full_disk_is_reported_and_loses_nothing(machine: Machine) -> None:
    machine.shell("fallocate --length $(df --output=avail --block-size=1 / | tail -n 1) /full || true")
    report = machine.new_report()
    assert report.startswith("degraded") and int(report.partition("disk=")[2][:3]) > 90
    machine.run("rm", "/full")
    machine.wait_for_new_report(OK)
    assert "from-the-first-boot" in machine.prefect("variable", "get", "kept")
    machine.prefect("variable", "set", "after", "the-full-disk")


def test_the_shutdown_that_the_limit_schedules_stops_the_host(machine: Machine) -> None:
    machine.run("shutdown", "-c")
    assert machine.shutdown_due() is None
    # What limit-hours runs, with a minute in place of hours.
    machine.run("shutdown", "-h", "+1")
    machine.wait_until_off()
    machine.wait_for_report(OK, "next morning", machine.start())
    assert machine.postgres_was_stopped_cleanly()
