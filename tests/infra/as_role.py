"""Act as a role on the moto server, which then enforces the role's policies."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from engine import ACCOUNT, REGION

DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}


@functools.cache
def owner(endpoint: str, service: str) -> Any:
    """A client with the rights of the account's owner."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="root",
        aws_secret_access_key="root",
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
    policy means it.
    """
    from moto.core.authorization import enable_iam_authentication
    from moto.ec2.responses import EC2Response
    from moto.ecr.responses import ECRResponse
    from moto.iam.access_control import AssumedRoleAccessKey
    from moto.ssm.responses import SimpleSystemManagerResponse

    with monkeypatch.context() as patched:
        for response, read in (
            (ECRResponse, _repository),
            (SimpleSystemManagerResponse, _parameter),
            (EC2Response, _instance),
        ):
            patched.setattr(response, "_determine_resource", read, raising=False)
        patched.setattr(AssumedRoleAccessKey, "arn", property(_role))
        with enable_iam_authentication():
            yield


def assert_denied(call: Any, **arguments: Any) -> None:
    """Assert that a call fails because it is not permitted, and for no other reason."""
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    assert raised.value.response["Error"]["Code"] in DENIED, raised.value


def _repository(request: Any) -> str:
    name = request._get_param("repositoryName")
    return f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{name}" if name else "*"


def _parameter(request: Any) -> str:
    names = request._get_param("Names") or [request._get_param("Name") or request._get_param("Path")]
    return f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{names[0]}" if names[0] else "*"


def _role(session: Any) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{session._owner_role_name}"


def _instance(request: Any) -> str:
    id_ = request.querystring.get("ResourceId.1") or request.querystring.get("InstanceId.1")
    return f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{id_[0]}" if id_ else "*"
