"""What the program reads from AWS before it declares a resource, so that a wrong answer stops it before anything changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pulumi_aws as aws
from settings import ConfigError, StackSettings

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
        ConfigError: AWS refuses, or the region does not offer what the settings name.
    """
    account = _ask("the account", aws.get_caller_identity).account_id
    return Lookups(account=account, zone=_zone(settings), image=_image(settings))


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
