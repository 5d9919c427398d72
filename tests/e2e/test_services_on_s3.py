"""The stack with `compose.aws.yaml`: data, ledger, models, reports and results on S3, which here is a moto server."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize
from tests.e2e.stack import REPORTS, SETTINGS, Stack, needs_docker
from tests.loop.installation import SMALL

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1800),
    needs_docker,
]
FILES = ("docker-compose/compose.yaml", "docker-compose/compose.aws.yaml", "tests/e2e/compose.moto.yaml")
BUCKET = "health-predict-e2e"
VARIABLES = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": "http://moto:9000",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "never-in-a-block",
    "HEALTHPREDICT_DATA_URI": f"s3://{BUCKET}",
    "HEALTHPREDICT_REPORTS_URI": f"s3://{BUCKET}/reports",
    "HEALTHPREDICT_BACKUP_URI": f"s3://{BUCKET}/backups",
    "HEALTHPREDICT_ARTIFACTS_URI": f"s3://{BUCKET}/mlflow",
    "MOTO_PACKAGES": sysconfig.get_paths()["purelib"],
}
KEYS = f"""
import boto3, json
pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket="{BUCKET}")
print(json.dumps([item["Key"] for page in pages for item in page.get("Contents", ())]))
"""


@pytest.fixture(scope="module")
def built() -> Iterator[Stack]:
    """Images and S3, without the bucket. No other service runs."""
    stack = Stack(f"hp-e2e-s3-{os.getpid()}", FILES, **VARIABLES)
    try:
        stack.build()
        stack.compose("up", "--detach", "moto")
        run_once(stack, "import boto3; boto3.client('s3').list_buckets()")
        yield stack
    finally:
        (REPORTS / "services-on-s3.log").write_text(stack.compose("logs", "--no-color"))
        stack.destroy()


@pytest.fixture(scope="module")
def stack(built: Stack) -> Stack:
    run_once(built, f"import boto3; boto3.client('s3').create_bucket(Bucket='{BUCKET}')")
    built.make("up")
    return built


def run_once(stack: Stack, program: str) -> None:
    """Run Python in a container of its own. Its client of S3 waits until the server responds."""
    run = ("run", "--rm", "--no-deps", "-T", "--env", "AWS_MAX_ATTEMPTS=10")
    stack.compose(*run, "deploy-worker", "python", "-c", program)


def keys(stack: Stack) -> list[str]:
    found: list[str] = json.loads(stack.inside("prefect-worker", "python", "-c", KEYS))
    return found


def test_make_up_reports_a_missing_bucket_before_anything_starts(built: Stack) -> None:
    started = time.monotonic()
    with pytest.raises(AssertionError) as error:
        built.make("up")
    print(f"make up reported the bucket after {time.monotonic() - started:.1f} s")  # noqa: T201
    said = str(error.value)
    for name in ("DATA", "REPORTS", "BACKUP", "ARTIFACTS"):
        assert f"HEALTHPREDICT_{name}_URI: Cannot write s3://{BUCKET}/" in said
    assert f"NoSuchBucket. Create the bucket (aws s3 mb s3://{BUCKET}), or choose another one." in said
    assert "Error 16" in said
    assert built.compose("ps", "--all", "--services").split() == ["moto"]


def test_the_loop_keeps_everything_on_s3(stack: Stack, tmp_path: Path) -> None:
    source = tmp_path / "encounters.csv"
    source.write_bytes(format_raw(synthesize(7000, 3)))
    values = {f"HEALTHPREDICT_{name}": value for name, value in (SMALL | {"N_BATCHES": "1"}).items()}
    stack.cli("variable", "set", "--overwrite", SETTINGS, json.dumps(values))
    stack.compose("cp", str(source), "prefect-worker:/data/incoming.csv")
    stack.complete("prepare", "prepare", source="/data/incoming.csv")
    loop = stack.complete("drift-loop", "on-s3")
    assert {child["flow"] for child in stack.children(loop)} == {"train", "deploy"}
    assert [event["batch"] for event in stack.ledger("batch")] == ["batch-01"]
    found = keys(stack)
    for prefix in ("batches/", "outcomes/", "processed/", "predictions/", "ledger/", "reports/index.html", "mlflow/"):
        assert any(key.startswith(prefix) for key in found), f"nothing below {prefix}"
    assert any(key.startswith("reports/results/") for key in found), "no flow kept its result through the block"
    left = stack.inside("prefect-worker", "find", "/data", "-type", "f").split()
    assert left == ["/data/incoming.csv"], "something was written to the volume"
    assert stack.served() == stack.ledger("promotion")[-1]["version"]


def test_blocks_name_the_bucket_and_hold_no_key(stack: Stack) -> None:
    blocks = stack.ask("block_documents/filter", {"include_secrets": True})
    by_type = {block["block_type"]["slug"]: block for block in blocks}
    assert by_type["s3-bucket"]["data"]["bucket_name"] == BUCKET
    assert by_type["s3-bucket"]["data"]["bucket_folder"] == "reports/results"
    assert by_type["aws-credentials"]["data"]["aws_secret_access_key"] is None
    assert "never-in-a-block" not in json.dumps(blocks)


def test_a_backup_goes_to_the_bucket_and_comes_back_into_an_empty_stack(stack: Stack) -> None:
    ledger, runs, champion = stack.ledger("promotion"), stack.ids_of_runs(), stack.champion()
    assert stack.make("backup", f"TO=s3://{BUCKET}/elsewhere").splitlines()[-1].startswith(f"s3://{BUCKET}/elsewhere/")
    stack.complete("backup", "nightly")
    uri = stack.ledger("backup")[-1]["uri"]
    assert uri.startswith(f"s3://{BUCKET}/backups/")
    assert uri.removeprefix(f"s3://{BUCKET}/") in keys(stack)
    # The host's disk is gone, the bucket is not.
    stack.compose("rm", "--stop", "--force", "prefect-worker", "deploy-worker", "prefect-server", "mlflow", "postgres")
    volumes = [f"{stack.name}_{volume}" for volume in ("postgres", "server", "data", "state", "artifacts")]
    subprocess.run(["docker", "volume", "rm", *volumes], check=True, capture_output=True)
    stack.make("restore")
    stack.make("up")
    assert stack.ledger("promotion") == ledger
    assert runs <= stack.ids_of_runs()
    assert stack.champion() == champion
    assert stack.served() == int(champion["version"])
