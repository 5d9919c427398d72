"""The stack to operate on, AWS clients for it, and the translation of AWS's errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from healthpredict.cloud.errors import CloudError
from healthpredict.errors import ConfigurationError

PROJECT: Final = "health-predict"
HEALTH_TAG: Final = "HealthPredictHealth"
_NOT_A_STACK: Final = "example"
_DENIED: Final = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_EXPIRED: Final = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_WRONG_KEYS: Final = {"InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException", "AuthFailure"}


@dataclass(frozen=True)
class Stack:
    """One installation on AWS.

    Attributes:
        name: of the Pulumi stack.
        region: of AWS; None for boto3's default.
        folder: of the Pulumi program, with `Pulumi.<name>.yaml`.
    """

    name: str
    region: str | None
    folder: Path

    @property
    def prefix(self) -> str:
        """Start of the names of all resources."""
        return f"{PROJECT}-{self.name}"

    @property
    def tag_filters(self) -> list[dict[str, Any]]:
        """Filters that select the stack's resources by tag, for requests to EC2."""
        return [{"Name": "tag:Project", "Values": [PROJECT]}, {"Name": "tag:Stack", "Values": [self.name]}]


def choose_stack(name: str | None, region: str | None, folder: Path) -> Stack:
    """Choose the stack to operate on.

    Args:
        name: of the stack; None for the only one with a `Pulumi.<name>.yaml`.
        region: of AWS; None for the one in that file.
        folder: of the Pulumi program.

    Raises:
        ConfigurationError: no name is given, and there is no such file or more than one.
    """
    if name is None:
        found = sorted(path.name.split(".")[1] for path in folder.glob("Pulumi.*.yaml"))
        names = [each for each in found if each != _NOT_A_STACK]
        if len(names) != 1:
            there = f"there are {', '.join(names)}" if names else f"there is no Pulumi.<stack>.yaml in {folder}"
            raise ConfigurationError(f"Name the stack with --stack: {there}.")
        name = names[0]
    file = folder / f"Pulumi.{name}.yaml"
    if region is None and file.exists():
        written = re.search(r"^\s*['\"]?aws:region['\"]?:\s*['\"]?([a-z0-9-]+)", file.read_text(), re.MULTILINE)
        region = written[1] if written else None
    return Stack(name=name, region=region, folder=folder)


def client(stack: Stack, service: str) -> Any:
    """Return a client of a service in the stack's region.

    Raises:
        ConfigurationError: the profile or the region is missing.
    """
    import boto3

    with translated(f"use {service}"):
        return boto3.client(service, region_name=stack.region)


def region_problem() -> str | None:
    """Return what is wrong with boto3's default region: a sentence, or None. Other endpoints may have any region."""
    import boto3
    from botocore.exceptions import BotoCoreError

    session = boto3.Session()
    try:
        endpoint = session.client("s3").meta.endpoint_url
    except BotoCoreError as error:
        return f"AWS cannot be used: {error}."
    if ".amazonaws.com" not in endpoint or session.region_name is None:
        return None
    known = [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("s3", partition)
    ]
    if session.region_name in known:
        return None
    nearest = difflib.get_close_matches(session.region_name, known, n=1, cutoff=0)[0]
    return f"AWS has no region {session.region_name!r}; the nearest name is {nearest!r}."


def describe_instances(stack: Stack) -> list[dict[str, Any]]:
    """EC2's descriptions of the stack's instances. Terminated ones are listed for an hour."""
    with translated("look for the host"):
        pages = client(stack, "ec2").get_paginator("describe_instances").paginate(Filters=stack.tag_filters)
        return [each for page in pages for group in page["Reservations"] for each in group["Instances"]]


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn AWS's errors into ours. Args: doing, a verb and its object, for the message."""
    from botocore import exceptions as aws

    try:
        yield
    except (aws.NoCredentialsError, aws.PartialCredentialsError) as error:
        raise ConfigurationError(
            f"Cannot {doing}: there are no AWS credentials. Run `aws configure sso`, or set AWS_PROFILE."
        ) from error
    except (aws.SSOError, aws.TokenRetrievalError, aws.CredentialRetrievalError) as error:
        raise ConfigurationError(f"Cannot {doing}: the sign-in has expired. Run `aws sso login`. ({error})") from error
    except aws.ProfileNotFound as error:
        raise ConfigurationError(f"Cannot {doing}: {error}. `aws configure list-profiles` lists them.") from error
    except (aws.NoRegionError, aws.InvalidRegionError) as error:
        raise ConfigurationError(f"Cannot {doing}: no AWS region is set. Give --region, such as us-east-1.") from error
    except aws.ClientError as error:
        raise _translate(doing, error) from error
    except aws.BotoCoreError as error:
        raise CloudError(f"Cannot {doing}: {error}. Check the network and the region, then try again.") from error


def _translate(doing: str, error: Any) -> ConfigurationError | CloudError:
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code in _EXPIRED:
        return ConfigurationError(f"Cannot {doing}: the sign-in has expired. Run `aws sso login`, or renew the keys.")
    if code in _WRONG_KEYS:
        return ConfigurationError(f"Cannot {doing}: AWS does not know these credentials ({code}). Check AWS_PROFILE.")
    if code in _DENIED:
        return CloudError(
            f"Cannot {doing}: these credentials may not call {error.operation_name}. Use a profile of the account's administrator."
        )
    return CloudError(f"Cannot {doing}: {code}. {message}")
