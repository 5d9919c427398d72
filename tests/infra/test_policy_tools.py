"""Parliament accepts the policies, and checkov the whole program. Every exception has a reason in one file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from as_terraform import as_terraform
from engine import INFRA, Stack, run_program
from policy_tools import assert_every_finding_has_a_reason, run_checkov, run_tool


def findings(policy: str) -> list[str]:
    """Parliament's findings on a policy."""
    return [json.loads(line)["issue"] for line in run_tool("parliament", "--string", policy, "--json").splitlines()]


def test_parliament_finds_a_wrong_policy() -> None:
    wrong = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObjekt"], "Resource": "arn:aws:s3:::bucket/*"}
    assert findings(json.dumps({"Version": "2012-10-17", "Statement": [wrong]})) != []


def test_parliament_finds_nothing_in_the_policies(stack: Stack) -> None:
    # Real ids and names: the rules look at the form of an ARN.
    named = {
        r"arn:aws:s3:[^\"]*?Bucket/[\w-]+": "arn:aws:s3:::health-predict-test-data-1a2b3c4",
        r"arn:aws:ecr:[^\"]*?Repository/[\w-]+": "arn:aws:ecr:us-east-1:123456789012:repository/health-predict-test",
        r"arn:aws:ec2:[^\"]*?Instance/[\w-]+": "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0",
        r"arn:aws:iam:[^\"]*?Role/[\w-]+": "arn:aws:iam::123456789012:role/health-predict-test-containers",
    }
    found = {}
    for policy in stack.all("RolePolicy"):
        text = policy.inputs["policy"]
        for pattern, arn in named.items():
            text = re.sub(pattern, arn, text)
        if issues := findings(text):
            found[policy.name] = issues
    assert found == {}


def test_parliament_finds_only_accepted_issues_in_the_policy_of_the_deployer() -> None:
    # New networks and hosts have no name yet, and who deploys also writes the policy of the bucket (docs/aws.md).
    accepted = {"RESOURCE_STAR", "RESOURCE_POLICY_PRIVILEGE_ESCALATION"}
    assert set(findings((INFRA / "deployer-policy.json").read_text())) == accepted


@pytest.fixture(scope="module")
def reports(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Checkov's reports on two stacks, with the default settings and with all optional resources."""
    more = {"sshCidr": "203.0.113.7/32", "sshPublicKey": "ssh-ed25519 AAAA", "spot": "true", "keepData": "true"}
    folder = tmp_path_factory.mktemp("terraform")
    for name, described in {"default": stack, "ssh-and-spot": run_program(**more)}.items():
        (folder / name).mkdir()
        (folder / name / "main.tf").write_text(as_terraform(described))
    return run_checkov(folder, "terraform")


def test_checkov_read_every_resource_of_both_stacks(reports: list[dict[str, Any]]) -> None:
    (report,) = reports
    assert report["summary"]["resource_count"] >= 100
    assert report["summary"]["passed"] > 200


def test_every_finding_has_a_reason(reports: list[dict[str, Any]]) -> None:
    assert_every_finding_has_a_reason(reports, Path(__file__).with_name("checkov_exceptions.yaml"))
