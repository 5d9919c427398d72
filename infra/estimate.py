"""Estimate the cost of a month from the configuration and `prices.yaml`. Also a script: `python infra/estimate.py prod`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from settings import PROJECT, ConfigError, StackSettings, read_settings

HERE = Path(__file__).resolve().parent
HOURS_OF_MONTH = 730


@dataclass(frozen=True)
class Line:
    """One line of the estimate, in USD a month."""

    what: str
    amount: str
    usd: float


@dataclass(frozen=True)
class Estimate:
    """A month's cost.

    Attributes:
        always_on: the total if the host is never stopped.
        worst: the total with the most surplus CPU credits that `cpuCredits: unlimited` allows.
        as_of: date of the prices.
    """

    lines: tuple[Line, ...]
    total: float
    always_on: float
    worst: float
    budget: float
    as_of: str


def estimate(settings: StackSettings, prices: dict[str, Any] | None = None) -> Estimate:
    """Estimate a month.

    Args:
        settings: of the stack.
        prices: in the form of `prices.yaml`; None for that file.

    Raises:
        ConfigError: a price for the region or the instance type is missing.
    """
    table = prices or yaml.safe_load((HERE / "prices.yaml").read_text())
    lines = _lines(settings, table, settings.hours_per_month)
    total = sum(line.usd for line in lines)
    surplus = 0.0
    if settings.cpu_credits == "unlimited":
        hourly = table["everywhere"]["surplus_credit_vcpu_hour"]
        surplus = table["assumed"]["surplus_vcpus"] * hourly * settings.hours_per_month
    return Estimate(
        lines=lines,
        total=round(total, 2),
        always_on=round(sum(line.usd for line in _lines(settings, table, HOURS_OF_MONTH)), 2),
        worst=round(total + surplus, 2),
        budget=settings.budget_usd,
        as_of=str(table["as_of"]),
    )


def _lines(settings: StackSettings, table: dict[str, Any], hours: float) -> tuple[Line, ...]:
    region = table["regions"].get(settings.region)
    if region is None:
        raise ConfigError(f"infra/prices.yaml of {table['as_of']} has no prices for {settings.region}. Add the region.")
    kind = "spot_hour" if settings.spot else "instance_hour"
    hourly = region[kind].get(settings.instance_type)
    if hourly is None:
        raise ConfigError(f"infra/prices.yaml has no price for {settings.instance_type} in {settings.region}. Add it.")
    everywhere, assumed = table["everywhere"], table["assumed"]
    market = "spot" if settings.spot else "on demand"

    def line(what: str, count: float, unit: str, price: float) -> Line:
        return Line(what, f"{count:g} {unit} at {price:g}", round(count * price, 2))

    return (
        line(f"{settings.instance_type}, {market}", hours, "h", hourly),
        line("public IPv4 address, while running", hours, "h", everywhere["public_ipv4_hour"]),
        line("disk (gp3), also while stopped", settings.disk_gb, "GB", region["gp3_gb_month"]),
        line("S3", assumed["s3_gb"], "GB", region["s3_gb_month"]),
        line("images (ECR)", assumed["ecr_gb"], "GB", everywhere["ecr_gb_month"]),
        line("alarms", assumed["alarms"], "alarms", everywhere["alarm_month"]),
    )


def read_stack(stack: str, folder: Path = HERE) -> StackSettings:
    """Read `Pulumi.<stack>.yaml`.

    Raises:
        ConfigError: the file is missing, or a value in it is refused.
    """
    path = folder / f"Pulumi.{stack}.yaml"
    if not path.exists():
        raise ConfigError(f"There is no {path}. Copy Pulumi.example.yaml there and fill in its first lines.")
    # BaseLoader reads every value as text, as Pulumi does. Otherwise 17:00 would be the number 1020.
    written = yaml.load(path.read_text(), Loader=yaml.BaseLoader).get("config") or {}  # noqa: S506
    own = f"{PROJECT}:"
    values = {key.removeprefix(own): value for key, value in written.items() if key.startswith(own)}
    return read_settings(stack, written.get("aws:region", ""), values)


def main() -> int:
    """Print the estimate of a stack as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stack")
    parser.add_argument("--folder", type=Path, default=HERE, help="where Pulumi.<stack>.yaml is")
    arguments = parser.parse_args()
    try:
        result = estimate(read_stack(arguments.stack, arguments.folder))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(asdict(result), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
