"""The cost of a month: an estimate from the configuration, and what AWS has counted."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from healthpredict.cloud.account import Stack, client, translated
from healthpredict.errors import ConfigurationError


class Line(BaseModel):
    """One line of the estimate, in USD a month."""

    what: str
    amount: str
    usd: float


class Estimate(BaseModel):
    """The estimated cost of a month, in USD, from the configuration and `infra/prices.yaml`.

    Attributes:
        always_on: the total if the host is never stopped.
        worst: the total with the most CPU credits that AWS can charge for.
        as_of: date of the prices.
    """

    lines: list[Line]
    total: float
    always_on: float
    worst: float
    budget: float
    as_of: str


class Actual(BaseModel):
    """The cost of this month so far, as counted by AWS.

    Attributes:
        usd: cost of the resources with the stack's tag; 0 until the tag is activated for billing.
        until: last day that is included, UTC.
    """

    usd: float
    until: str


def estimate(stack: Stack) -> Estimate:
    """Estimate a month by running `estimate.py` of the Pulumi program.

    Raises:
        ConfigurationError: the program or the stack's configuration is missing or wrong.
    """
    program = stack.folder / "estimate.py"
    if not program.exists():
        raise ConfigurationError(f"There is no {program}. Give the folder of the Pulumi program with --infra.")
    command = [sys.executable, str(program), stack.name, "--folder", str(stack.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = done.stderr.strip().splitlines()
        raise ConfigurationError(errors[-1] if errors else f"{program} failed with exit code {done.returncode}.")
    return Estimate.model_validate_json(done.stdout)


def read_actual(stack: Stack, now: datetime | None = None) -> Actual:
    """Read the stack's cost since the first of the month from the Cost Explorer. Each request costs 0.01 USD.

    Args:
        stack: whose cost.
        now: None for the current time.

    Raises:
        CloudError: the Cost Explorer is not activated or not permitted.
    """
    today = (now or datetime.now(UTC)).date()
    explorer = client(stack, "ce")
    with translated("ask the Cost Explorer"):
        answer = explorer.get_cost_and_usage(
            # The end is exclusive and must be after the start.
            TimePeriod={"Start": today.replace(day=1).isoformat(), "End": (today + timedelta(days=1)).isoformat()},
            Granularity="MONTHLY",
            Metrics=["UnblendedCost"],
            Filter={"Tags": {"Key": "Stack", "Values": [stack.name], "MatchOptions": ["EQUALS"]}},
        )
    amounts = [float(each["Total"]["UnblendedCost"]["Amount"]) for each in answer["ResultsByTime"] if each["Total"]]
    return Actual(usd=round(sum(amounts), 2), until=today.isoformat())
