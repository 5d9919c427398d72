"""What a month costs: by the configuration, and by AWS's own count."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from healthpredict.cloud.account import Stack, client, translated
from healthpredict.errors import ConfigurationError


class Line(BaseModel):
    """One line of the estimate; USD a month."""

    what: str
    amount: str
    usd: float


class Estimate(BaseModel):
    """A month by the configuration and the prices of `infra/prices.yaml`; all in USD.

    Attributes:
        always_on: were the host never stopped.
        worst: with all the processor time that may be charged beside the price.
        as_of: date of the prices.
    """

    lines: list[Line]
    total: float
    always_on: float
    worst: float
    budget: float
    as_of: str


class Actual(BaseModel):
    """What AWS counted this month.

    Attributes:
        usd: of what carries the stack's tag; 0 until the tag is activated for billing.
        until: last day that is counted, UTC.
    """

    usd: float
    until: str


def estimate(stack: Stack) -> Estimate:
    """Estimate a month. The Pulumi program itself counts, so that there is one table and one way to count.

    Raises:
        ConfigurationError: the program or the stack's configuration is not there or wrong.
    """
    program = stack.folder / "estimate.py"
    if not program.exists():
        raise ConfigurationError(f"There is no {program}. Give the folder of the Pulumi program with --infra.")
    command = [sys.executable, str(program), stack.name, "--folder", str(stack.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ConfigurationError(said[-1] if said else f"{program} ended with {done.returncode}.")
    return Estimate.model_validate_json(done.stdout)


def read_actual(stack: Stack, now: datetime | None = None) -> Actual:
    """Ask the Cost Explorer for the stack's cost since the first of the month. Every question costs 0.01 USD.

    Args:
        stack: whose tag.
        now: None for now.

    Raises:
        CloudError: the Cost Explorer is off, or may not be asked.
    """
    today = (now or datetime.now(UTC)).date()
    explorer = client(stack, "ce")
    with translated("ask the Cost Explorer"):
        answer = explorer.get_cost_and_usage(
            # The end is exclusive, and on the first of a month it may not be the start.
            TimePeriod={"Start": today.replace(day=1).isoformat(), "End": (today + timedelta(days=1)).isoformat()},
            Granularity="MONTHLY",
            Metrics=["UnblendedCost"],
            Filter={"Tags": {"Key": "Stack", "Values": [stack.name], "MatchOptions": ["EQUALS"]}},
        )
    amounts = [float(each["Total"]["UnblendedCost"]["Amount"]) for each in answer["ResultsByTime"] if each["Total"]]
    return Actual(usd=round(sum(amounts), 2), until=today.isoformat())
