"""Act as a role on the moto server, which then enforces the role's policies."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from botocore.exceptions import ClientError
from engine import ACCOUNT, REGION

OWNER = {"AWS_ACCESS_KEY_ID": "root", "AWS_SECRET_ACCESS_KEY": "root"}
"""The credentials of the account's owner, as variables."""
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}


@functools.cache
def owner(endpoint: str, service: str) -> Any:
    """A client with the rights of the account's owner."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        **{name.lower(): value for name, value in OWNER.items()},
    )


class Role:
    """Clients with the credentials of a role."""

    def __init__(self, endpoint: str, role: str) -> None:
        self._endpoint = endpoint
        arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
        given = owner(endpoint, "sts").assume_role(RoleArn=arn, RoleSessionName="tests")
        self._clients: dict[str, Any] = {}
        self.session = boto3.Session(
            aws_access_key_id=given["Credentials"]["AccessKeyId"],
            aws_secret_access_key=given["Credentials"]["SecretAccessKey"],
            aws_session_token=given["Credentials"]["SessionToken"],
            region_name=REGION,
        )

    def client(self, service: str) -> Any:
        """A client for a service."""
        if service not in self._clients:
            self._clients[service] = self.session.client(service, endpoint_url=self._endpoint)
        return self._clients[service]


@contextmanager
def permissions_enforced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let moto check every request against the policies of its sender and the resource that it names.

    Moto knows the resource of a request to S3. For the other services it takes `*`, which no statement with a resource
    matches: here it learns to read the resource from the request. It also learns that a session of a role is that role, as a trust
    policy means it, and that some permissions have other names than their actions.
    """
    from moto.budgets.responses import BudgetsResponse
    from moto.cloudwatch.responses import CloudWatchResponse
    from moto.core.authorization import enable_iam_authentication
    from moto.ec2.responses import EC2Response
    from moto.ecr.responses import ECRResponse
    from moto.iam.access_control import AssumedRoleAccessKey, IAMRequestBase
    from moto.iam.responses import IamResponse
    from moto.scheduler.responses import EventBridgeSchedulerResponse
    from moto.sns.responses import SNSResponse
    from moto.ssm.responses import SimpleSystemManagerResponse

    check = IAMRequestBase.check_action_permitted

    def check_permission(request: Any, resource: str) -> None:
        request._action = _permission(request._action)
        check(request, resource)

    with monkeypatch.context() as patched:
        for response, read in (
            (BudgetsResponse, _budget),
            (CloudWatchResponse, _alarm),
            (EC2Response, _instance),
            (ECRResponse, _repository),
            (EventBridgeSchedulerResponse, _schedule),
            (IamResponse, _role_or_profile),
            (SNSResponse, _topic),
            (SimpleSystemManagerResponse, _parameter),
        ):
            patched.setattr(response, "_determine_resource", read, raising=False)
        patched.setattr(AssumedRoleAccessKey, "arn", property(_role))
        patched.setattr(IAMRequestBase, "check_action_permitted", check_permission)
        # Moto computes another signature than boto3 for some requests with a query.
        patched.setattr(IAMRequestBase, "check_signature", lambda request: None)
        with enable_iam_authentication():
            yield


def assert_denied(call: Any, **arguments: Any) -> None:
    """Assert that a call fails because it is not permitted, and for no other reason."""
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    assert raised.value.response["Error"]["Code"] in DENIED, raised.value


def _permission(action: str) -> str:
    """The permission that AWS requires for an action."""
    service, name = action.split(":")
    if service == "budgets":
        return f"budgets:{'ViewBudget' if name.startswith('Describe') else 'ModifyBudget'}"
    if service == "monitoring":
        return f"cloudwatch:{name}"
    return {"s3:HeadBucket": "s3:ListBucket", "s3:ListBuckets": "s3:ListAllMyBuckets"}.get(action, action)


def _repository(request: Any) -> str:
    names = request._get_param("repositoryNames") or [request._get_param("repositoryName")]
    if arn := request._get_param("resourceArn"):
        return str(arn)
    return f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{names[0]}" if names[0] else "*"


def _role_or_profile(request: Any) -> str:
    for parameter, kind in (("InstanceProfileName", "instance-profile"), ("RoleName", "role")):
        if name := request._get_param(parameter):
            return f"arn:aws:iam::{ACCOUNT}:{kind}/{name}"
    return "*"


def _topic(request: Any) -> str:
    if name := request._get_param("Name"):
        return f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}"
    return next(filter(None, map(request._get_param, ("TopicArn", "ResourceArn", "SubscriptionArn"))), "*")


def _alarm(request: Any) -> str:
    if arn := request._get_param("ResourceARN"):
        return str(arn)
    # DescribeAlarms is permitted for all alarms or none.
    names = request._get_param("AlarmNames") if request._get_action() == "DeleteAlarms" else None
    name = names[0] if names else request._get_param("AlarmName")
    return f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}" if name else "*"


def _budget(request: Any) -> str:
    name = request._get_param("BudgetName") or request._get_param("Budget")["BudgetName"]
    return f"arn:aws:budgets::{ACCOUNT}:budget/{name}"


def _schedule(request: Any) -> str:
    kind, name = re.fullmatch(r"/(schedules|schedule-groups|tags)/(.+)", unquote(request.path)).groups()
    if kind == "tags":
        return str(name)
    group = request._get_param("groupName") or request._get_param("GroupName")
    path = f"schedule/{group}/{name}" if kind == "schedules" else f"schedule-group/{name}"
    return f"arn:aws:scheduler:{REGION}:{ACCOUNT}:{path}"


def _parameter(request: Any) -> str:
    if (name := request._get_param("ResourceId")) and name.startswith("/"):
        return f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}"
    names = request._get_param("Names") or [request._get_param("Name") or request._get_param("Path")]
    return f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{names[0]}" if names[0] else "*"


def _role(session: Any) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{session._owner_role_name}"


def _instance(request: Any) -> str:
    id_ = request.querystring.get("ResourceId.1") or request.querystring.get("InstanceId.1")
    return f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{id_[0]}" if id_ else "*"
