"""IAM policies as JSON."""

from __future__ import annotations

import json
from typing import Any

Statement = dict[str, Any]


def document(statements: list[Statement]) -> str:
    """The JSON of a policy with these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def trust(principal: dict[str, str], condition: Statement | None = None) -> str:
    """The trust policy that lets a principal assume a role."""
    statement: Statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return document([statement | ({"Condition": condition} if condition else {})])


def deny_without_tls(action: str, resources: str | list[str]) -> Statement:
    """The statement that denies everybody an action without TLS."""
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": resources,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
