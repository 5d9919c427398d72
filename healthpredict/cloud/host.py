"""Find, start and stop the host, and read its status."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from healthpredict.cloud.account import HEALTH_TAG, Stack, client, describe_instances, translated
from healthpredict.cloud.errors import CloudError

_GONE: Final = {"shutting-down", "terminated"}


class CloudHost(BaseModel):
    """The EC2 instance.

    Attributes:
        started: time of the last start, UTC, ISO 8601.
        address: public IP address, which changes with every start; None while the host is stopped.
        health: the host's last report on itself; None before the first one.
    """

    instance: str
    state: str
    instance_type: str
    started: str
    address: str | None
    health: str | None


class StackStatus(BaseModel):
    """The status of a stack.

    Attributes:
        session: whether the Session Manager reaches the host; None if it cannot be determined, for lack of permissions for example.
        schedules: cron expressions of starts and stops, by name.
    """

    stack: str
    host: CloudHost
    session: bool | None
    schedules: dict[str, str]


def find_host(stack: Stack) -> CloudHost:
    """Find the stack's instance by its tags.

    Raises:
        CloudError: there is none, or more than one.
    """
    alive = [each for each in describe_instances(stack) if each["State"]["Name"] not in _GONE]
    if not alive:
        region = client(stack, "ec2").meta.region_name
        raise CloudError(
            f"Stack {stack.name!r} has no host in {region}. `healthpredict cloud up` creates it; --region names another region."
        )
    if len(alive) > 1:
        names = ", ".join(each["InstanceId"] for each in alive)
        raise CloudError(
            f"Stack {stack.name!r} has more than one host: {names}. If `pulumi up` is replacing the host, wait. If it was "
            "interrupted, keep the host that `pulumi stack output instance_id` shows and terminate the others "
            "(aws ec2 terminate-instances)."
        )
    return _host(alive[0])


def start_host(stack: Stack) -> CloudHost:
    """Start the host and wait until EC2 reports that it runs. Its services need some minutes more.

    Raises:
        CloudError: it cannot be started.
    """
    return _change(stack, "start")


def stop_host(stack: Stack) -> CloudHost:
    """Stop the host and wait until it has stopped. Disk, data and models stay.

    Raises:
        CloudError: it cannot be stopped.
    """
    return _change(stack, "stop")


def read_status(stack: Stack) -> StackStatus:
    """Read the status of the host from AWS, without a connection to it.

    Raises:
        CloudError: there is no host, or AWS refuses.
    """
    host = find_host(stack)
    return StackStatus(stack=stack.name, host=host, session=_session(stack, host), schedules=_schedules(stack))


def _change(stack: Stack, verb: str) -> CloudHost:
    host = find_host(stack)
    ec2 = client(stack, "ec2")
    with translated(f"{verb} {host.instance}"):
        getattr(ec2, f"{verb}_instances")(InstanceIds=[host.instance])
        reached = {"start": "instance_running", "stop": "instance_stopped"}[verb]
        ec2.get_waiter(reached).wait(InstanceIds=[host.instance], WaiterConfig={"Delay": 5, "MaxAttempts": 120})
    return find_host(stack)


def _host(described: dict[str, Any]) -> CloudHost:
    tags = {tag["Key"]: tag["Value"] for tag in described.get("Tags", ())}
    return CloudHost(
        instance=described["InstanceId"],
        state=described["State"]["Name"],
        instance_type=described["InstanceType"],
        started=described["LaunchTime"].isoformat(timespec="minutes"),
        address=described.get("PublicIpAddress"),
        health=tags.get(HEALTH_TAG),
    )


def _session(stack: Stack, host: CloudHost) -> bool | None:
    if host.state != "running":
        return False
    filters = [{"Key": "InstanceIds", "Values": [host.instance]}]
    try:
        with translated("ask the Session Manager"):
            answer = client(stack, "ssm").describe_instance_information(Filters=filters)
    except CloudError:
        return None
    return any(each["PingStatus"] == "Online" for each in answer["InstanceInformationList"])


def _schedules(stack: Stack) -> dict[str, str]:
    scheduler = client(stack, "scheduler")
    with translated("read the schedules"):
        pages = scheduler.get_paginator("list_schedules").paginate(GroupName=stack.prefix)
        names = [each["Name"] for page in pages for each in page["Schedules"]]
        details = [scheduler.get_schedule(GroupName=stack.prefix, Name=name) for name in names]
    return {
        each["Name"].removeprefix(f"{stack.prefix}-"): (
            f"{each['ScheduleExpression']} {each['ScheduleExpressionTimezone']}"
            + ("" if each["State"] == "ENABLED" else " (disabled)")
        )
        for each in details
    }
