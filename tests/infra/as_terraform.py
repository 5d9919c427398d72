"""Translate the program's resources to Terraform, which checkov reads. Pulumi's AWS provider is generated from Terraform's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from engine import ACCOUNT, REGION, Resource, Stack

# Exceptions to the rule that Terraform names a resource after its service and kind, or after its kind.
_NAMES = {
    "MetricAlarm": "aws_cloudwatch_metric_alarm",
    "Repository": "aws_ecr_repository",
    "LifecyclePolicy": "aws_ecr_lifecycle_policy",
    "Budget": "aws_budgets_budget",
    "Schedule": "aws_scheduler_schedule",
    "ScheduleGroup": "aws_scheduler_schedule_group",
    "SecurityGroupEgressRule": "aws_vpc_security_group_egress_rule",
    "SecurityGroupIngressRule": "aws_vpc_security_group_ingress_rule",
}
_PREFIXES = {"ec2": "aws_", "s3": "aws_s3_", "iam": "aws_iam_", "ssm": "aws_ssm_", "sns": "aws_sns_"}
# Terraform names repeatable blocks in the singular.
_SINGULAR = {"rules": "rule", "notifications": "notification", "encryption_configurations": "encryption_configuration"}


# Objects that are values. All others are blocks.
_MAPS = {"tags", "dimensions"}


def as_terraform(stack: Stack) -> str:
    """The resources of a stack, with references in place of the recorded ids and ARNs."""
    made = [each for each in stack.resources if each.type.startswith("aws:") and each.name != "call"]
    references = {}
    for each in made:
        service = each.type.split(":")[1].partition("/")[0]
        references[each.id] = f"${{{_type(each)}.{each.name}.id}}"
        references[f"arn:aws:{service}:{REGION}:{ACCOUNT}:{each.kind}/{each.name}"] = (
            f"${{{_type(each)}.{each.name}.arn}}"
        )
    lines = []
    for each in made:
        lines += [f'resource "{_type(each)}" "{each.name}" {{', *_body(each.inputs, references), "}", ""]
    return "\n".join(lines)


def _body(given: dict[str, Any], references: dict[str, str]) -> Iterator[str]:
    for key, value in given.items():
        name = _snake(key)
        name = _SINGULAR.get(name, name)
        blocks = value if isinstance(value, list) else [value]
        if name not in _MAPS and blocks and all(isinstance(each, dict) for each in blocks):
            for block in blocks:
                yield f"{name} {{"
                yield from _body(block, references)
                yield "}"
        else:
            yield f"{name} = {_value(value, references)}"


def _value(value: Any, references: dict[str, str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(item, references) for item in value)}]"
    if isinstance(value, str) and value in references:
        return f'"{references[value]}"'
    return json.dumps(value).replace("${", "$${").replace("%{", "%%{")


def _type(resource: Resource) -> str:
    service = resource.type.split(":")[1].partition("/")[0]
    return _NAMES.get(resource.kind) or _PREFIXES[service] + _snake(resource.kind)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
