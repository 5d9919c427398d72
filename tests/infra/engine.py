"""Run the Pulumi program with mocks in place of the engine."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import runpy
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pulumi
import yaml
from pulumi.runtime import mocks as runtime_mocks
from pulumi.runtime import rpc
from pulumi.runtime.settings import set_root_resource
from pulumi.runtime.stack import run_in_stack
from pulumi.runtime.sync_await import _sync_await

INFRA = Path(__file__).resolve().parents[2] / "infra"
PROJECT, STACK, REGION, ACCOUNT = "health-predict", "test", "us-east-1", "123456789012"
MAIL = "someone@example.org"
CONFIG = {
    "alertMail": MAIL,
    "sourceRepository": "https://example.org/health-predict.git",
    "sourceCommit": "0123456789abcdef0123456789abcdef01234567",
}
PREFIXES = (
    "raw",
    "batches",
    "outcomes",
    "interventions",
    "processed",
    "excluded",
    "known",
    "quarantine",
    "predictions",
    "out_of_fold",
    "reports",
    "ledger",
    "leases",
    "mlflow",
    "backups",
)
"""The prefixes of the bucket."""
_SECRET = {rpc._special_sig_key: rpc._special_secret_sig}


@dataclass
class Resource:
    """A resource that the program declared. Its inputs are in camelCase, with readable secrets and a list of their names."""

    type: str
    name: str
    inputs: dict[str, Any]
    id: str = ""
    secret: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()
    retained: bool = False

    @property
    def kind(self) -> str:
        """The last part of the type, such as Instance."""
        return self.type.rpartition(":")[2]


@dataclass
class Stack:
    """The result of a run of the program."""

    resources: list[Resource] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    def all(self, kind: str) -> list[Resource]:
        """The AWS resources of a kind, without the program's components, some of which have the same names."""
        return [each for each in self.resources if each.kind == kind and each.type.startswith("aws:")]

    def one(self, kind: str, name: str = "") -> Resource:
        """The only resource of a kind whose name has this ending."""
        (found,) = [resource for resource in self.all(kind) if resource.name.endswith(name)]
        return found

    def named(self, kind: str, name: str) -> Resource:
        """The resource of a kind with the parameter `name`."""
        (found,) = [resource for resource in self.all(kind) if resource.inputs["name"].endswith(name)]
        return found


class _Refused(grpc.RpcError):
    """An error of the engine."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        return str(self)


class Recorder(pulumi.runtime.Mocks):
    """Records each resource, with an invented id and ARN."""

    def __init__(self) -> None:
        self.stack = Stack()
        self.locations = ["us-east-1b", "us-east-1a"]
        self.outputs: dict[str, Any] = {}
        """Those of the last run, which the program reads."""
        self.incomplete_reads = 0
        """How often it cannot read them, because the engine is writing them."""

    def call(self, args: runtime_mocks.MockCallArgs) -> Any:
        if args.token == "pulumi:pulumi:readStackOutputs" and self.incomplete_reads:
            self.incomplete_reads -= 1
            raise _Refused("failed to load checkpoint: EOF")
        answers: dict[str, dict[str, Any]] = {
            "pulumi:pulumi:readStackOutputs": {"outputs": self.outputs},
            "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": ACCOUNT},
            "aws:ec2/getAmi:getAmi": {"id": "ami-1", "args": args.args},
            "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings": {"locations": self.locations},
        }
        self.stack.resources.append(Resource(args.token, "call", args.args))
        return answers[args.token]

    def new_resource(self, args: runtime_mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        opened = {key: _open(value) for key, value in args.inputs.items()}
        secret = frozenset(key for key, value in args.inputs.items() if _is_secret(value))
        resource = Resource(args.typ, args.name, opened, secret=secret)
        self.stack.resources.append(resource)
        if not args.custom:
            return "", args.inputs
        resource.id, state = self.create(resource)
        return resource.id, {**state, **args.inputs}

    def create(self, resource: Resource) -> tuple[str, dict[str, Any]]:
        """Invent the id and the outputs of a resource."""
        service = resource.type.split(":")[1].partition("/")[0]
        id_ = f"{resource.kind}-{resource.name}"
        return id_, {
            "arn": f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource.kind}/{resource.name}",
            # The ids of IAM are names.
            "name": id_,
            "keyName": resource.name,
            "repositoryUrl": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{resource.name}",
        }


class Exited(Exception):
    """The program ended with an exit code, after it reported an error."""


class _Monitor(runtime_mocks.MockMonitor):
    """The mocked engine. It also records the options of resources, which Pulumi's own mocks drop."""

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        response = super().RegisterResource(request)
        for resource in self.mocks.stack.resources:  # type: ignore[attr-defined]
            if (resource.type, resource.name) == (request.type, request.name):
                resource.ignored = tuple(request.ignoreChanges)
                resource.retained = request.retainOnDelete
        return response

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        if request.urn.split("::")[2] == "pulumi:pulumi:Stack":
            self.mocks.stack.outputs = rpc.deserialize_properties(request.outputs)  # type: ignore[attr-defined]
        return super().RegisterResourceOutputs(request)


class _Log:
    """The log of the engine."""

    def __init__(self, stack: Stack) -> None:
        self.debug = self.info = lambda message: None
        self.warning = stack.warnings.append
        self.error = stack.errors.append


def run_program(mocks: Recorder | None = None, *, stack: str = STACK, **changes: str | None) -> Stack:
    """Run `infra/` with the tests' settings and these changes. None removes a setting.

    In a thread of its own: Pulumi notes the whole call stack with every resource, and pytest's is deep.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_run, mocks or Recorder(), stack, changes).result()


def _run(mocks: Recorder, stack: str, changes: dict[str, str | None]) -> Stack:
    asyncio.set_event_loop(asyncio.new_event_loop())  # Pulumi uses the event loop of the thread
    values = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    runtime_mocks.set_mocks(
        mocks,
        PROJECT,
        stack,
        preview=False,
        monitor=_Monitor(mocks),
        logger=_Log(mocks.stack),  # type: ignore[arg-type]
    )
    # The program reads its configuration from here.
    os.environ["PULUMI_CONFIG"] = json.dumps(
        {"aws:region": REGION, **{f"{PROJECT}:{key}": value for key, value in values.items()}}
    )
    # set_mocks creates a root stack, which would not record the program's outputs.
    set_root_resource(None)  # type: ignore[arg-type]
    sys.path.insert(0, str(INFRA))
    try:
        with warnings.catch_warnings():
            # The import of deprecated names causes warnings even if they are not used.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="pulumi_aws")
            _sync_await(run_in_stack(_run_main))
    finally:
        sys.path.remove(str(INFRA))
        del os.environ["PULUMI_CONFIG"]
    return mocks.stack


def _run_main() -> None:
    try:
        runpy.run_path(str(INFRA), run_name="__main__")
    except SystemExit as end:
        # The event loop passes a SystemExit on to everything that waits.
        raise Exited(end.code) from end


def read_written_files(user_data: str) -> dict[str, str]:
    """The files that cloud-init writes, by path."""
    entries = yaml.safe_load(user_data)["write_files"]
    return {each["path"]: _unpack(each["content"]) if "encoding" in each else each["content"] for each in entries}


def _unpack(content: str) -> str:
    return gzip.decompress(base64.b64decode(content)).decode()


def _is_secret(value: Any) -> bool:
    return isinstance(value, dict) and _SECRET.items() <= value.items()


def _open(value: Any) -> Any:
    """Unwrap secrets, and turn whole numbers into integers, because the engine has only floats."""
    if _is_secret(value):
        return _open(value["value"])
    if isinstance(value, dict):
        return {key: _open(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_open(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
