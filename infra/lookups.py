"""What the program reads from AWS before it declares a resource, so that a wrong answer stops it before anything changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pulumi
import pulumi_aws as aws
from settings import PROJECT, ConfigError, StackSettings
from tenacity import retry, retry_if_exception_message, stop_after_attempt, wait_exponential

CANONICAL = "099720109477"
UBUNTU = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Lookups:
    """Answers of AWS.

    Attributes:
        account: number of the account.
        zone: the first availability zone that offers the instance type.
        image: id of Canonical's newest image of Ubuntu 24.04 for x86_64.
    """

    account: str
    zone: str
    image: str


def look_up(settings: StackSettings) -> Lookups:
    """Ask AWS.

    Raises:
        ConfigError: the stack is in another region, AWS refuses, or the region does not offer what the settings name.
    """
    _refuse_another_region(settings)
    account = _ask("the account", aws.get_caller_identity).account_id
    return Lookups(account=account, zone=_zone(settings), image=_image(settings))


def _refuse_another_region(settings: StackSettings) -> None:
    """Refuse a change of the region, which would replace every resource, with all data."""
    before = _own_outputs(settings).get("region", settings.region)
    if before != settings.region:
        raise ConfigError(
            f"aws:region is {settings.region!r}, but this stack is in {before!r}. Nothing moves to another region: it would all be "
            f"deleted, with its data. Set aws:region back, or create another stack there: pulumi stack select --create NAME"
        )


@retry(
    retry=retry_if_exception_message(match=".*failed to load checkpoint"),
    wait=wait_exponential(multiplier=0.1),
    stop=stop_after_attempt(5),
    reraise=True,
)
def _own_outputs(settings: StackSettings) -> dict[str, Any]:
    """Return the outputs of the last update of this stack.

    They are read again if the file of the stack is incomplete: the engine writes it while this program starts, and a local backend
    does so in place.
    """
    own = f"{pulumi.get_organization()}/{PROJECT}/{settings.stack}"
    # `pulumi.StackReference` calls the same function of the engine, but answers only while resources are declared.
    return dict(pulumi.runtime.invoke("pulumi:pulumi:readStackOutputs", {"name": own}).value["outputs"])


def _zone(settings: StackSettings) -> str:
    filters = [aws.ec2.GetInstanceTypeOfferingsFilterArgs(name="instance-type", values=[settings.instance_type])]
    offers = _ask(
        "the instance types",
        lambda: aws.ec2.get_instance_type_offerings(location_type="availability-zone", filters=filters),
    )
    if not offers.locations:
        raise ConfigError(
            f"instanceType is {settings.instance_type!r}, which {settings.region} does not offer. Choose another type. "
            f"To list them, run: aws ec2 describe-instance-type-offerings --region {settings.region}"
        )
    return min(offers.locations)


def _image(settings: StackSettings) -> str:
    filters = [
        aws.ec2.GetAmiFilterArgs(name="name", values=[UBUNTU]),
        aws.ec2.GetAmiFilterArgs(name="architecture", values=["x86_64"]),
    ]
    return _ask(
        f"Ubuntu's image in {settings.region}",
        lambda: aws.ec2.get_ami(most_recent=True, owners=[CANONICAL], filters=filters),
    ).id


def _ask(what: str, question: Callable[[], Answer]) -> Answer:
    try:
        return question()
    # The SDK raises nothing more specific.
    except Exception as error:
        raise ConfigError(
            f"AWS did not return {what}: {error}. Check the credentials (AWS_PROFILE) and aws:region."
        ) from error
