"""EventBridge schedules that stop the host every evening and start it on working days. They may change only this instance."""

from __future__ import annotations

import json

import pulumi
import pulumi_aws as aws
from policy import document, trust
from settings import StackSettings

RETRY_SECONDS = 3600


class Schedule(pulumi.ComponentResource):
    """A schedule group with its role, a daily stop, and a start on the chosen days."""

    def __init__(self, settings: StackSettings, account: str, instance: aws.ec2.Instance) -> None:
        super().__init__("health-predict:aws:Schedule", settings.prefix)
        child = pulumi.ResourceOptions(parent=self)
        name = settings.prefix
        group = aws.scheduler.ScheduleGroup(name, name=name, tags=settings.tags("schedules"), opts=child)
        role = aws.iam.Role(
            f"{name}-schedule",
            description="Starts and stops the Health Predict host",
            assume_role_policy=group.arn.apply(
                lambda arn: trust(
                    {"Service": "scheduler.amazonaws.com"},
                    {"StringEquals": {"aws:SourceAccount": account, "aws:SourceArn": arn}},
                )
            ),
            tags=settings.tags("schedule"),
            opts=child,
        )
        aws.iam.RolePolicy(
            f"{name}-schedule",
            name="start-and-stop",
            role=role.name,
            policy=instance.arn.apply(_start_and_stop),
            opts=child,
        )
        hours = {"stop": _cron(settings.stop_time, "*")}
        if settings.start_time:
            hours["start"] = _cron(settings.start_time, ",".join(settings.start_days))
        for verb, cron in hours.items():
            aws.scheduler.Schedule(
                f"{name}-{verb}",
                name=f"{name}-{verb}",
                group_name=group.name,
                description=f"{verb} the Health Predict host",
                schedule_expression=cron,
                schedule_expression_timezone=settings.timezone,
                flexible_time_window=aws.scheduler.ScheduleFlexibleTimeWindowArgs(mode="OFF"),
                target=aws.scheduler.ScheduleTargetArgs(
                    arn=f"arn:aws:scheduler:::aws-sdk:ec2:{verb}Instances",
                    role_arn=role.arn,
                    input=instance.id.apply(lambda id_: json.dumps({"InstanceIds": [id_]})),
                    retry_policy=aws.scheduler.ScheduleTargetRetryPolicyArgs(
                        maximum_event_age_in_seconds=RETRY_SECONDS, maximum_retry_attempts=10
                    ),
                ),
                opts=child,
            )
        self.register_outputs({"group": group.name})


def _start_and_stop(instance: str) -> str:
    actions = ["ec2:StartInstances", "ec2:StopInstances"]
    return document([{"Sid": "OneHost", "Effect": "Allow", "Action": actions, "Resource": instance}])


def _cron(time: str, days: str) -> str:
    hours, minutes = time.split(":")
    return f"cron({int(minutes)} {int(hours)} ? * {days} *)"
