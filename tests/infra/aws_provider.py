"""The stand-in AWS provider beside Pulumi's engine, with the caller's credentials and with `import`. Prints its port.

The folder with the engine and the provider is in HEALTHPREDICT_TEST_PULUMI.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2

_FOLDER = Path(os.environ["HEALTHPREDICT_TEST_PULUMI"]) / "pulumi-aws"
_PROVIDER = runpy.run_path(str(_FOLDER / "pulumi-resource-aws"))
kinds: Any = sys.modules["kinds"]


def _repository(name: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "arn": found["repositoryArn"],
        "repositoryUrl": found["repositoryUri"],
        "registryId": found["registryId"],
        "imageTagMutability": found["imageTagMutability"],
        "imageScanningConfiguration": found["imageScanningConfiguration"],
        "encryptionConfigurations": [found["encryptionConfiguration"]],
        "forceDelete": False,
    }


# What an import reads, by kind, from the id and the answer of AWS.
_IMPORTED: dict[str, Callable[[str, dict[str, Any]], dict[str, Any]]] = {
    "aws:s3/bucket:Bucket": lambda id_, found: {"bucket": id_, "arn": f"arn:aws:s3:::{id_}", "forceDestroy": False},
    "aws:ecr/repository:Repository": _repository,
}


def _client(clients: Any, service: str) -> Any:
    with clients._lock:
        if service not in clients._made:
            clients._made[service] = boto3.client(service.replace("_", "-"), region_name=clients.region)
        return clients._made[service]


class Provider(_PROVIDER["Provider"]):  # type: ignore[misc]
    """The stand-in reads only what its state has already. Here it also reads a resource that it does not know yet."""

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.properties.fields:
            return super().Read(request, context)
        kind = self._kind(request)
        try:
            answer = kind.read(request.id, kinds.Bag())
        except ClientError as error:
            if kinds.missing(error):
                return provider_pb2.ReadResponse()
            raise
        found = _IMPORTED[kind.token](request.id, answer)
        found["tags"] = kinds.read_tags(kind.tags, kinds.Bag(found, id=request.id))
        inputs = {key: value for key, value in found.items() if key in kind.arguments}
        dump = _PROVIDER["dump"]
        return provider_pb2.ReadResponse(id=request.id, properties=dump(found), inputs=dump(inputs))


if __name__ == "__main__":
    kinds.Clients.__getattr__ = _client
    main = _PROVIDER["main"]
    main.__globals__["Provider"] = Provider
    main()
