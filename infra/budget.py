"""A budget and alarms, which send mails."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws
from policy import Statement, deny_without_tls, document
from settings import StackSettings

PERCENTS = (50, 80, 100)
# CPU credits. A t3.large earns 36 an hour, stores up to 864, and at full speed spends 120 an hour: 60 last for 43 minutes.
LOW_CREDITS = 60


class Budget(pulumi.ComponentResource):
    """The monthly budget of the whole account: AWS counts a stack separately only after its tags are activated for billing."""

    def __init__(self, settings: StackSettings) -> None:
        super().__init__("health-predict:aws:Budget", settings.prefix)
        mails = [(percent, "ACTUAL") for percent in PERCENTS] + [(100, "FORECASTED")]
        aws.budgets.Budget(
            settings.prefix,
            name=settings.prefix,
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=f"{settings.budget_usd:g}",
            limit_unit="USD",
            notifications=[
                aws.budgets.BudgetNotificationArgs(
                    comparison_operator="GREATER_THAN",
                    threshold=percent,
                    threshold_type="PERCENTAGE",
                    notification_type=kind,
                    subscriber_email_addresses=[settings.alert_mail],
                )
                for percent, kind in mails
            ],
            tags=settings.tags("budget"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


class Alarms(pulumi.ComponentResource):
    """Alarms that send mails. If the host does not work, they also recover or reboot it."""

    def __init__(
        self, settings: StackSettings, account: str, instance: aws.ec2.Instance, spot: pulumi.Output[bool]
    ) -> None:
        """Args: settings of the stack; account; instance, the host; spot, whether it is a spot instance."""
        super().__init__("health-predict:aws:Alarms", settings.prefix)
        self._child = pulumi.ResourceOptions(parent=self)
        self._settings = settings
        self._instance = instance
        self._topic = self._make_topic(account)
        automate = f"arn:aws:automate:{settings.region}:ec2"
        self._alarm(
            "system",
            "StatusCheckFailed_System",
            description="The hardware under the host failed",
            minutes=2,
            # AWS has no recovery for spot instances.
            repair=spot.apply(lambda is_spot: None if is_spot else f"{automate}:recover"),
        )
        self._alarm(
            "instance",
            "StatusCheckFailed_Instance",
            description="The host's operating system does not respond",
            minutes=3,
            repair=f"{automate}:reboot",
        )
        if settings.cpu_credits == "unlimited":
            self._alarm(
                "credits",
                "CPUSurplusCreditsCharged",
                description="AWS charges for surplus CPU credits",
                minutes=5,
            )
        else:
            self._alarm(
                "credits",
                "CPUCreditBalance",
                description="CPU credits run out, so the host slows down",
                minutes=10,
                below=LOW_CREDITS,
            )
        self.register_outputs({})

    def _make_topic(self, account: str) -> aws.sns.Topic:
        name = f"{self._settings.prefix}-alarms"
        topic = aws.sns.Topic(name, name=name, tags=self._settings.tags("alarms"), opts=self._child)
        aws.sns.TopicPolicy(
            name, arn=topic.arn, policy=topic.arn.apply(lambda arn: _publishers(arn, account)), opts=self._child
        )
        aws.sns.TopicSubscription(
            name, topic=topic.arn, protocol="email", endpoint=self._settings.alert_mail, opts=self._child
        )
        return topic

    def _alarm(
        self,
        key: str,
        metric: str,
        *,
        description: str,
        minutes: int,
        repair: pulumi.Input[str | None] = None,
        below: float | None = None,
    ) -> None:
        """Create an alarm that is raised when a metric is above 0 for some minutes or, if `below` is given, under that limit."""
        name = f"{self._settings.prefix}-{key}"
        # EC2 measures status every minute and credits every five.
        period = 60 if metric.startswith("StatusCheck") else 300
        aws.cloudwatch.MetricAlarm(
            name,
            name=name,
            alarm_description=description,
            namespace="AWS/EC2",
            metric_name=metric,
            dimensions={"InstanceId": self._instance.id},
            statistic="Maximum" if below is None else "Minimum",
            period=period,
            evaluation_periods=minutes * 60 // period,
            threshold=below or 0,
            comparison_operator="GreaterThanThreshold" if below is None else "LessThanThreshold",
            # A host that is stopped for the night has no data.
            treat_missing_data="notBreaching",
            alarm_actions=pulumi.Output.all(repair, self._topic.arn).apply(
                lambda actions: [action for action in actions if action]
            ),
            tags=self._settings.tags(key),
            opts=self._child,
        )


def _publishers(topic: str, account: str) -> str:
    """The policy of the topic: only alarms of this account may publish, and only over TLS."""
    own: Statement = {
        "Sid": "Alarms",
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": topic,
        "Condition": {"StringEquals": {"aws:SourceAccount": account}},
    }
    return document([own, deny_without_tls("sns:Publish", topic)])
