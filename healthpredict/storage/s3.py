"""Objects in S3, or in a store with the same API. Only `healthpredict.storage.uris` uses this module.

boto3 reads credentials, region and endpoint from the environment (`AWS_ENDPOINT_URL` and so on).
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import boto3
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from healthpredict.errors import AlreadyExists, ConfigurationError, NotFound, StorageError
from healthpredict.storage.stored import Listing, Stored

_ADVICE: Final = {
    "NoSuchBucket": "Create the bucket (aws s3 mb s3://{Bucket}), or choose another one",
    "AccessDenied": "Give this role access to that bucket and prefix",
}


def exists(uri: str) -> bool:
    """Whether an object exists."""
    try:
        with _translated("read", uri):
            client().head_object(**_address(uri))
    except NotFound:
        return False
    return True


def read_bytes(uri: str) -> bytes:
    """Read a whole object."""
    with _translated("read", uri):
        body: bytes = client().get_object(**_address(uri))["Body"].read()
        return body


def write_bytes(uri: str, data: bytes, *, exclusive: bool) -> None:
    """Write a whole object with one PUT, which is atomic."""
    condition = {"IfNoneMatch": "*"} if exclusive else {}
    with _translated("write", uri):
        client().put_object(**_address(uri), Body=data, **condition)


def replace_bytes(uri: str, data: bytes, expected: bytes) -> None:
    """Replace an object with one PUT, if it has the expected content."""
    with _translated("write", uri):
        found = client().get_object(**_address(uri))
        if found["Body"].read() != expected:
            raise AlreadyExists(f"Cannot write {uri}: another writer has changed it.")
        client().put_object(**_address(uri), Body=data, IfMatch=found["ETag"])


def write_file(uri: str, source: Path) -> None:
    """Upload a file, in parts if it is large. The object appears when all parts are complete."""
    address = _address(uri)
    with _translated("write", uri):
        client().upload_file(str(source), address["Bucket"], address["Key"])


def is_plain(_uri: str) -> bool:
    """Always true: S3 has only objects."""
    return True


def is_same(uri: str, other: str) -> bool:
    """Whether two URIs have the same bucket and key."""
    return _address(uri) == _address(other)


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A temporary file with the object's content."""
    address = _address(uri)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        with _translated("read", uri):
            client().download_file(address["Bucket"], address["Key"], str(path))
        yield path


def list_uris(prefix_uri: str, suffix: str) -> list[str]:
    """List the objects one level below a prefix."""
    bucket, prefix = _address(prefix_uri.rstrip("/") + "/").values()
    with _translated("list", prefix_uri):
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return sorted(f"s3://{bucket}/{key}" for key in keys if key.endswith(suffix) and key != prefix)


def list_folder(folder_uri: str) -> Listing:
    """List the objects one level below a prefix, and the longer prefixes."""
    bucket, prefix = _address(folder_uri.rstrip("/") + "/").values()
    objects, folders = [], []
    with _translated("list", folder_uri):
        for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            folders += [found["Prefix"].removeprefix(prefix).rstrip("/") for found in page.get("CommonPrefixes", ())]
            for item in page.get("Contents", ()):
                if item["Key"] != prefix:
                    age = (now - item["LastModified"]).total_seconds()
                    objects.append(Stored(f"s3://{bucket}/{item['Key']}", item["Size"], age, item["ETag"]))
    return Listing(tuple(sorted(objects, key=lambda stored: stored.uri)), tuple(folders))


def delete(uri: str) -> None:
    """Delete an object, if it exists."""
    with _translated("delete", uri):
        client().delete_object(**_address(uri))


@functools.cache
def client() -> Any:
    """The S3 client of this process. It is safe for threads."""
    return boto3.client("s3")


def _address(uri: str) -> dict[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise ConfigurationError(f"{uri!r} names no bucket. Write s3://bucket/prefix.")
    return {"Bucket": bucket, "Key": key}


@contextmanager
def _translated(verb: str, uri: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        # The response to HEAD has no body, so the code is the status.
        if code in ("NoSuchKey", "404"):
            raise NotFound(f"Cannot {verb} {uri}: there is no such object.") from error
        if code in ("PreconditionFailed", "ConditionalRequestConflict"):
            raise AlreadyExists(f"Cannot {verb} {uri}: it exists already.") from error
        advice = _ADVICE.get(code, "Check bucket, region and permissions, then start again").format(**_address(uri))
        raise StorageError(f"Cannot {verb} {uri}: {code}. {advice}.") from error
    except (BotoCoreError, Boto3Error) as error:
        advice = "Check AWS_ENDPOINT_URL, the region and the credentials, then start again"
        raise StorageError(f"Cannot {verb} {uri}: {error}. {advice}.") from error
