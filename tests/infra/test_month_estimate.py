"""The estimate of a month is computed from one table of prices."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from engine import CONFIG, INFRA, REGION, STACK
from estimate import Estimate, estimate, read_stack
from settings import ConfigError, read_settings

PRICES: dict[str, Any] = {
    "as_of": "2001-01-01",
    "regions": {
        REGION: {
            "instance_hour": {"t3.large": 0.1},
            "spot_hour": {"t3.large": 0.04},
            "gp3_gb_month": 0.05,
            "s3_gb_month": 0.02,
        }
    },
    "everywhere": {"public_ipv4_hour": 0.01, "ecr_gb_month": 0.1, "alarm_month": 0.1, "surplus_credit_vcpu_hour": 0.05},
    "assumed": {"s3_gb": 10, "ecr_gb": 2, "alarms": 3, "surplus_vcpus": 1.0},
}


def estimated(**changes: str) -> Estimate:
    return estimate(read_settings(STACK, REGION, {**CONFIG, **changes}), PRICES)


def test_the_total_is_the_sum_of_hours_disk_and_small_things() -> None:
    # 8 h on 22 days = 176 h; 40 GB of disk; .2 for S3, .2 for ECR, .3 for the alarms.
    assert estimated().total == pytest.approx(176 * 0.1 + 176 * 0.01 + 40 * 0.05 + 0.7)
    assert sum(line.usd for line in estimated().lines) == pytest.approx(estimated().total)


def test_stopped_hours_cost_the_disk_only() -> None:
    hour = 0.1 + 0.01
    assert estimated().always_on - estimated().total == pytest.approx((730 - 176) * hour)


def test_spot_has_its_own_price() -> None:
    assert estimated().total - estimated(spot="true").total == pytest.approx(176 * 0.06)


def test_unlimited_credits_are_in_the_worst_case_and_not_in_the_total() -> None:
    unlimited = estimated(cpuCredits="unlimited")
    assert unlimited.total == estimated().total == estimated().worst
    assert unlimited.worst == pytest.approx(unlimited.total + 176 * 0.05)


@pytest.mark.parametrize(
    ("changes", "hours"),
    [
        ({}, 176),
        ({"startDays": "MON-SUN"}, 8 * 31),
        ({"startDays": "WED"}, 8 * 5),
        ({"startTime": "22:00", "stopTime": "02:30"}, 4.5 * 22),
        ({"startTime": "none"}, 176),
    ],
)
def test_hours_follow_the_schedule(changes: dict[str, str], hours: float) -> None:
    assert read_settings(STACK, REGION, {**CONFIG, **changes}).hours_per_month == hours


def test_the_table_has_every_price_for_every_region_and_a_date() -> None:
    table = yaml.safe_load((INFRA / "prices.yaml").read_text())
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", str(table["as_of"]))
    for region in table["regions"]:
        for spot in ("true", "false"):
            for kind in table["regions"]["us-east-1"]["instance_hour"]:
                settings = read_settings(STACK, region, {**CONFIG, "spot": spot, "instanceType": kind})
                assert estimate(settings).total > 0


def test_a_region_without_prices_is_reported() -> None:
    with pytest.raises(ConfigError, match="mars-1"):
        estimate(read_settings(STACK, "mars-1", CONFIG))


def test_the_example_is_a_configuration_once_its_first_lines_are_filled_in(tmp_path: Path) -> None:
    example = (INFRA / "Pulumi.example.yaml").read_text()
    (tmp_path / "Pulumi.mine.yaml").write_text(example.replace("OWNER", "someone"))
    settings = read_stack("mine", tmp_path)
    # The example says what the defaults are: it may not lie.
    plain = read_settings("mine", "us-east-1", {**CONFIG, "alertMail": settings.alert_mail})
    assert {**vars(settings), "source_repository": "", "source_commit": ""} == {
        **vars(plain),
        "source_repository": "",
        "source_commit": "",
    }


def test_the_example_names_every_setting() -> None:
    from settings import _DEFAULTS

    named = set(re.findall(r"health-predict:(\w+)", (INFRA / "Pulumi.example.yaml").read_text()))
    assert named == set(_DEFAULTS)


def test_the_script_prints_json(tmp_path: Path) -> None:
    shutil.copy(INFRA / "Pulumi.example.yaml", tmp_path / "Pulumi.mine.yaml")
    command = [sys.executable, str(INFRA / "estimate.py"), "mine", "--folder", str(tmp_path)]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert shown["total"] < 20
    assert len(shown["lines"]) == 6


def test_without_a_configuration_the_message_names_the_file_to_write(tmp_path: Path) -> None:
    command = [sys.executable, str(INFRA / "estimate.py"), "mine", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Pulumi.mine.yaml" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("column", [0, 1])
def test_the_table_in_the_readme_is_up_to_date(column: int) -> None:
    rows = re.findall(r"^\| ([^|]+?) +\| ([\d.]+) \| ([\d.]+) \|$", (INFRA / "README.md").read_text(), re.MULTILINE)
    written = {what: float(numbers[column]) for what, *numbers in rows}

    def counted(**changes: str) -> Estimate:
        spot = "true" if column else "false"
        return estimate(read_settings(STACK, "us-east-1", {**CONFIG, "spot": spot, **changes}))

    assert written == {
        "8 hours on 22 days (default)": counted().total,
        "12 hours on 22 days": counted(stopTime="21:00").total,
        "never stopped": counted().always_on,
        "always stopped": pytest.approx(sum(line.usd for line in counted().lines[2:])),
    }
