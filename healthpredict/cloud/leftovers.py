"""Find resources of a stack that are still in the account. After `cloud down` there should be none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from pydantic import BaseModel

from healthpredict.cloud.account import PROJECT, Stack, client, describe_instances, translated
from healthpredict.cloud.spot import spot_requests

_MISSING: Final = {
    "NotFoundException",
    "RepositoryNotFoundException",
    "ResourceNotFoundException",
    "NotFound",
    "NoSuchEntity",
}


class Leftover(BaseModel):
    """A resource that still exists."""

    kind: str
    name: str


def find_leftovers(stack: Stack, kinds: Collection[str] | None = None) -> list[Leftover]:
    """Search each service for resources of the stack. Resources without a name and a price, such as routes, are not searched for.

    AWS's tagging service is not used, because it still lists deleted resources.

    Args:
        stack: whose resources.
        kinds: to search for, such as bucket; None for all.

    Raises:
        CloudError: a service refuses the request.
    """
    wanted = _SEARCHES if kinds is None else kinds
    return [Leftover(kind=kind, name=name) for kind in wanted for name in _SEARCHES[kind](stack)]


def _tagged(operation: str, items: str, key: str) -> Callable[[Stack], Iterator[str]]:
    """Build a search for resources of EC2 by tag."""

    def search(stack: Stack) -> Iterator[str]:
        ec2 = client(stack, "ec2")
        with translated(f"list {items}"):
            for each in getattr(ec2, operation)(Filters=stack.tag_filters)[items]:
                yield each[key]

    return search


def _instances(stack: Stack) -> Iterator[str]:
    yield from (each["InstanceId"] for each in describe_instances(stack) if each["State"]["Name"] != "terminated")


def _named(service: str, operation: str, items: str, key: str) -> Callable[[Stack], Iterator[str]]:
    """Build a search by the start of the name, for services that can only list all resources."""

    def search(stack: Stack) -> Iterator[str]:
        with translated(f"list {items}"):
            for page in client(stack, service).get_paginator(operation).paginate():
                for each in page[items]:
                    name = each[key].rpartition(":")[2]
                    if name == stack.prefix or name.startswith(f"{stack.prefix}-"):
                        yield name

    return search


def _parameters(stack: Stack) -> Iterator[str]:
    filters = [{"Key": "Path", "Option": "Recursive", "Values": [f"/{PROJECT}/{stack.name}"]}]
    with translated("list parameters"):
        for page in client(stack, "ssm").get_paginator("describe_parameters").paginate(ParameterFilters=filters):
            yield from (each["Name"] for each in page["Parameters"])


def _single(
    service: str, operation: str, arguments: Callable[[Stack], dict[str, Any]]
) -> Callable[[Stack], Iterator[str]]:
    """Build a search for one resource with a known name."""

    def search(stack: Stack) -> Iterator[str]:
        from botocore.exceptions import ClientError

        with translated(f"look for {stack.prefix} in {service}"):
            try:
                getattr(client(stack, service), operation)(**arguments(stack))
            except ClientError as error:
                if error.response["Error"]["Code"] in _MISSING:
                    return
                raise
        yield stack.prefix

    return search


def _budget(stack: Stack) -> dict[str, Any]:
    return {"AccountId": client(stack, "sts").get_caller_identity()["Account"], "BudgetName": stack.prefix}


_SEARCHES: Final[dict[str, Callable[[Stack], Any]]] = {
    "instance": _instances,
    "spot request": spot_requests,
    "disk": _tagged("describe_volumes", "Volumes", "VolumeId"),
    "network": _tagged("describe_vpcs", "Vpcs", "VpcId"),
    "security group": _tagged("describe_security_groups", "SecurityGroups", "GroupId"),
    "key pair": _tagged("describe_key_pairs", "KeyPairs", "KeyName"),
    "bucket": _named("s3", "list_buckets", "Buckets", "Name"),
    "repository": _single("ecr", "describe_repositories", lambda stack: {"repositoryNames": [stack.prefix]}),
    "role": _named("iam", "list_roles", "Roles", "RoleName"),
    "instance profile": _named("iam", "list_instance_profiles", "InstanceProfiles", "InstanceProfileName"),
    "parameter": _parameters,
    "schedules": _single("scheduler", "get_schedule_group", lambda stack: {"Name": stack.prefix}),
    "alarm": _named("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    "topic": _named("sns", "list_topics", "Topics", "TopicArn"),
    "budget": _single("budgets", "describe_budget", _budget),
}
