"""Spot requests, which Pulumi does not cancel."""

from __future__ import annotations

from typing import Final

from healthpredict.cloud.account import Stack, client, describe_instances, translated

_OPEN_REQUESTS: Final = ["open", "active", "disabled"]


def spot_requests(stack: Stack) -> list[str]:
    """List the ids of spot requests with which EC2 would start a host of the stack again."""
    hosts = {each["InstanceId"] for each in describe_instances(stack)}
    with translated("look for spot requests"):
        pages = (
            client(stack, "ec2")
            .get_paginator("describe_spot_instance_requests")
            .paginate(Filters=[{"Name": "state", "Values": _OPEN_REQUESTS}])
        )
        requests = [each for page in pages for each in page["SpotInstanceRequests"]]
    return [each["SpotInstanceRequestId"] for each in requests if each.get("InstanceId") in hosts]


def cancel_spot_requests(stack: Stack) -> list[str]:
    """Cancel the spot requests that `spot_requests` lists. The host keeps running. Returns: their ids."""
    found = spot_requests(stack)
    if found:
        with translated("cancel the spot request"):
            client(stack, "ec2").cancel_spot_instance_requests(SpotInstanceRequestIds=found)
    return found
