"""What others' rules say of the program: parliament of the policies, checkov of everything.

Both live in an environment of their own (`make test-infra` makes it), because checkov pins other versions of what we use.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from as_terraform import as_terraform
from engine import INFRA, Stack, run_program

TOOLS = Path(os.environ.get("HEALTHPREDICT_INFRA_TOOLS", INFRA.parent / ".venv-infra" / "bin"))
HERE = Path(__file__).parent
NOT_THERE = f"{{0}} is not in {TOOLS.name}: `make test-infra` installs it into an environment of its own"


def tool(name: str) -> str:
    path = TOOLS / name
    if not path.exists():
        pytest.skip(NOT_THERE.format(name))
    return str(path)


def run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def findings(policy: str) -> list[str]:
    """The names of parliament's findings of a policy."""
    out = run(tool("parliament"), "--string", policy, "--json")
    return [json.loads(line)["issue"] for line in out.splitlines()]


def test_parliament_would_find_a_policy_that_is_wrong() -> None:
    wrong = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObjekt"], "Resource": "arn:aws:s3:::bucket/*"}
    assert findings(json.dumps({"Version": "2012-10-17", "Statement": [wrong]})) != []


def test_parliament_finds_nothing_in_the_policies(stack: Stack) -> None:
    # Real ids and names: the rules look at the form of an ARN.
    named = {
        r"arn:aws:s3:[^\"]*?Bucket/[\w-]+": "arn:aws:s3:::health-predict-test-data-1a2b3c4",
        r"arn:aws:ecr:[^\"]*?Repository/[\w-]+": "arn:aws:ecr:us-east-1:123456789012:repository/health-predict-test",
        r"arn:aws:ec2:[^\"]*?Instance/[\w-]+": "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0",
    }
    found = {}
    for policy in stack.all("RolePolicy"):
        text = policy.inputs["policy"]
        for pattern, arn in named.items():
            text = re.sub(pattern, arn, text)
        if issues := findings(text):
            found[policy.name] = issues
    assert found == {}


@pytest.fixture(scope="module", params=["default", "with ssh and spot"])
def checked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Checkov's report of the stack."""
    checkov = tool("checkov")
    more = {"sshCidr": "203.0.113.7/32", "sshPublicKey": "ssh-ed25519 AAAA", "spot": "true", "keepData": "true"}
    folder = tmp_path_factory.mktemp("terraform")
    (folder / "main.tf").write_text(as_terraform(run_program(**(more if request.param != "default" else {}))))
    options = ["--framework", "terraform", "--compact", "--quiet", "--skip-download", "--output", "json"]
    report: dict[str, Any] = json.loads(run(checkov, "--directory", str(folder), *options))
    return report


def test_checkov_read_every_resource(checked: dict[str, Any]) -> None:
    assert checked["summary"]["parsing_errors"] == 0
    assert checked["summary"]["resource_count"] >= 50
    assert checked["summary"]["passed"] > 100


def test_checkov_finds_what_has_a_reason_and_nothing_else(checked: dict[str, Any]) -> None:
    exceptions = yaml.safe_load((HERE / "checkov_exceptions.yaml").read_text())
    unexplained, used = [], set()
    for failed in checked["results"]["failed_checks"]:
        exception = exceptions.get(failed["check_id"])
        if exception and re.fullmatch(exception["resources"], failed["resource"]):
            used.add(failed["check_id"])
        else:
            unexplained.append((failed["check_id"], failed["resource"], failed["check_name"]))
    assert unexplained == []
    assert used == set(exceptions), "an exception is no longer needed"
    assert all(len(each["reason"]) > 30 for each in exceptions.values())
