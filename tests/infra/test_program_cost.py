"""Each test is one promise about cost, schedule and alarms."""

from __future__ import annotations

import json

import pytest
from engine import MAIL, Stack, run_program


def test_a_month_of_the_defaults_is_estimated_under_twenty_dollars(stack: Stack) -> None:
    assert 5 < stack.outputs["estimate"]["total"] < 20
    assert stack.warnings == []


def test_the_default_host_is_a_t3_large_without_charges_for_cpu_credits(stack: Stack) -> None:
    host = stack.one("Instance").inputs
    assert host["instanceType"] == "t3.large"
    assert host["creditSpecification"] == {"cpuCredits": "standard"}
    assert "instanceMarketOptions" not in host


def test_the_disk_is_gp3(stack: Stack) -> None:
    disk = stack.one("Instance").inputs["rootBlockDevice"]
    assert (disk["volumeType"], disk["volumeSize"]) == ("gp3", 40)


def test_only_the_host_has_an_hourly_price(stack: Stack) -> None:
    kinds = {resource.kind for resource in stack.resources}
    assert kinds.isdisjoint({"NatGateway", "Eip", "LoadBalancer", "Key", "FlowLog", "Cluster", "TransitGateway"})
    assert all(endpoint.inputs["vpcEndpointType"] == "Gateway" for endpoint in stack.all("VpcEndpoint"))


def test_it_stops_every_day_and_starts_on_working_days(stack: Stack) -> None:
    schedules = {each.inputs["name"].rpartition("-")[2]: each.inputs for each in stack.all("Schedule")}
    assert schedules["stop"]["scheduleExpression"] == "cron(0 17 ? * * *)"
    assert schedules["start"]["scheduleExpression"] == "cron(0 9 ? * MON,TUE,WED,THU,FRI *)"
    for verb, schedule in schedules.items():
        assert schedule["target"]["arn"] == f"arn:aws:scheduler:::aws-sdk:ec2:{verb}Instances"
        assert json.loads(schedule["target"]["input"]) == {"InstanceIds": [stack.one("Instance").id]}
        assert schedule["flexibleTimeWindow"] == {"mode": "OFF"}
        assert schedule["target"]["retryPolicy"]["maximumRetryAttempts"] > 0
        assert schedule.get("state", "ENABLED") == "ENABLED"


def test_times_days_and_timezone_of_the_schedule_are_the_configured_ones() -> None:
    stack = run_program(startTime="07:30", stopTime="19:05", startDays="FRI-SUN", timezone="Europe/Berlin")
    assert stack.named("Schedule", "-start").inputs["scheduleExpression"] == "cron(30 7 ? * FRI,SAT,SUN *)"
    assert stack.named("Schedule", "-stop").inputs["scheduleExpression"] == "cron(5 19 ? * * *)"
    assert {each.inputs["scheduleExpressionTimezone"] for each in stack.all("Schedule")} == {"Europe/Berlin"}


def test_a_host_that_is_started_by_hand_stops_every_day() -> None:
    (only,) = run_program(startTime="none").all("Schedule")
    assert only.inputs["name"].endswith("-stop")


def test_the_schedule_may_start_and_stop_this_host_and_nothing_else(stack: Stack) -> None:
    (statement,) = json.loads(stack.one("RolePolicy", "-schedule").inputs["policy"])["Statement"]
    assert statement["Action"] == ["ec2:StartInstances", "ec2:StopInstances"]
    assert statement["Resource"].endswith(f"Instance/{stack.one('Instance').name}")


def test_a_shutdown_of_the_system_stops_the_host_and_does_not_terminate_it(stack: Stack) -> None:
    assert stack.one("Instance").inputs["instanceInitiatedShutdownBehavior"] == "stop"


def test_the_host_gets_its_limit_of_hours() -> None:
    parameter = run_program(maxHours="9").named("Parameter", "/config/max-hours")
    assert parameter.inputs["value"] == "9"


def test_spot_can_be_stopped_and_started() -> None:
    stack = run_program(spot="true")
    market = stack.one("Instance").inputs["instanceMarketOptions"]
    assert market["marketType"] == "spot"
    assert market["spotOptions"] == {"spotInstanceType": "persistent", "instanceInterruptionBehavior": "stop"}
    assert stack.outputs["estimate"]["total"] < 12
    assert ["cloud down" in warning for warning in stack.warnings] == [True]


def test_the_budget_is_thirty_dollars_and_mails_at_50_80_and_100_percent(stack: Stack) -> None:
    budget = stack.one("Budget").inputs
    assert (budget["limitAmount"], budget["limitUnit"], budget["timeUnit"]) == ("30", "USD", "MONTHLY")
    assert "costFilters" not in budget
    spent = [each for each in budget["notifications"] if each["notificationType"] == "ACTUAL"]
    assert [each["threshold"] for each in spent] == [50, 80, 100]
    assert {each["comparisonOperator"] for each in budget["notifications"]} == {"GREATER_THAN"}
    assert {tuple(each["subscriberEmailAddresses"]) for each in budget["notifications"]} == {(MAIL,)}


def test_a_host_whose_hardware_fails_is_recovered_and_one_that_hangs_is_rebooted(stack: Stack) -> None:
    for key, metric, action in (
        ("-system", "StatusCheckFailed_System", "recover"),
        ("-instance", "StatusCheckFailed_Instance", "reboot"),
    ):
        alarm = stack.one("MetricAlarm", key).inputs
        assert alarm["metricName"] == metric
        assert alarm["dimensions"] == {"InstanceId": stack.one("Instance").id}
        assert (alarm["comparisonOperator"], alarm["threshold"]) == ("GreaterThanThreshold", 0)
        assert any(each.endswith(f":ec2:{action}") for each in alarm["alarmActions"])


def test_every_alarm_sends_mails_and_none_fires_while_the_host_is_stopped(stack: Stack) -> None:
    topic = stack.one("Topic")
    subscription = stack.one("TopicSubscription").inputs
    assert (subscription["protocol"], subscription["endpoint"]) == ("email", MAIL)
    for alarm in stack.all("MetricAlarm"):
        assert alarm.inputs["treatMissingData"] == "notBreaching"
        assert any(topic.name in each for each in alarm.inputs["alarmActions"])


@pytest.mark.parametrize(
    ("mode", "metric", "comparison"),
    [
        ("standard", "CPUCreditBalance", "LessThanThreshold"),
        ("unlimited", "CPUSurplusCreditsCharged", "GreaterThanThreshold"),
    ],
)
def test_processor_credits_have_an_alarm(mode: str, metric: str, comparison: str) -> None:
    alarm = run_program(cpuCredits=mode).one("MetricAlarm", "-credits").inputs
    assert (alarm["metricName"], alarm["comparisonOperator"]) == (metric, comparison)


def test_no_more_than_ten_images_are_kept(stack: Stack) -> None:
    (rule,) = json.loads(stack.one("LifecyclePolicy").inputs["policy"])["rules"]
    assert rule["action"] == {"type": "expire"}
    assert rule["selection"] == {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10}


def test_old_versions_and_incomplete_uploads_are_deleted(stack: Stack) -> None:
    rules = stack.one("BucketLifecycleConfiguration").inputs["rules"]
    (everything,) = [rule for rule in rules if rule["filter"]["prefix"] == ""]
    assert everything["noncurrentVersionExpiration"]["noncurrentDays"] <= 90
    assert everything["abortIncompleteMultipartUpload"]["daysAfterInitiation"] <= 7


@pytest.mark.parametrize(
    "changes",
    [
        {"budgetUsd": "15"},
        {"startTime": "00:00", "stopTime": "23:59", "startDays": "MON-SUN"},
        # Under the budget by its price, above it with all that it may use.
        {"cpuCredits": "unlimited"},
    ],
)
def test_an_estimate_above_the_budget_is_a_warning(changes: dict[str, str]) -> None:
    (warning,) = run_program(**changes).warnings
    assert "above the budget" in warning


def test_a_host_without_a_known_price_is_a_warning_and_no_error() -> None:
    stack = run_program(instanceType="m8i.large")
    assert "m8i.large" in stack.warnings[0] and "prices.yaml" in stack.warnings[0]
    assert stack.one("Instance").inputs["instanceType"] == "m8i.large"


def test_the_outputs_have_the_commands_of_the_tunnels(stack: Stack) -> None:
    outputs = stack.outputs
    assert outputs["instance_id"] == stack.one("Instance").id
    assert outputs["bucket"] == stack.one("Bucket").id
    assert outputs["repository_uri"]
    ports = {
        name: command.rpartition("localPortNumber=")[2]
        for name, command in outputs["tunnel_without_healthpredict"].items()
    }
    assert ports == {"prefect": "4200", "mlflow": "5000", "api": "8000"}
    assert "portNumber=30080" in outputs["tunnel_without_healthpredict"]["api"]
