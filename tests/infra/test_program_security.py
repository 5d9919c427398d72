"""Each test is one promise about access and permissions."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pulumi_aws as aws
import pytest
from engine import ACCOUNT, PREFIXES, REGION, STACK, Resource, Stack, read_written_files, run_program

ADDRESS = "203.0.113.7/32"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJlRtA6Y6PbBWdRFPtWVbcIXwSlWx9jMQUGLhyDIPsx5 me"


def statements(resource: Resource, key: str = "policy") -> dict[str, dict[str, Any]]:
    """The statements of a policy, by Sid."""
    return {each.get("Sid", "trust"): each for each in json.loads(resource.inputs[key])["Statement"]}


def as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def policies(stack: Stack) -> list[dict[str, Any]]:
    return [each for policy in stack.all("RolePolicy") for each in statements(policy).values()]


# Network


def test_by_default_there_is_no_inbound_rule(stack: Stack) -> None:
    assert stack.all("SecurityGroupIngressRule") == []
    assert "ingress" not in stack.one("SecurityGroup").inputs
    assert "keyName" not in stack.one("Instance").inputs


def test_the_host_has_only_its_own_security_group(stack: Stack) -> None:
    assert stack.one("Instance").inputs["vpcSecurityGroupIds"] == [stack.one("SecurityGroup").id]


def test_ssh_is_open_to_the_one_configured_address_only() -> None:
    stack = run_program(sshCidr=ADDRESS, sshPublicKey=KEY)
    rule = stack.one("SecurityGroupIngressRule").inputs
    assert (rule["cidrIpv4"], rule["ipProtocol"], rule["fromPort"], rule["toPort"]) == (ADDRESS, "tcp", 22, 22)
    assert "cidrIpv6" not in rule
    assert stack.one("KeyPair").inputs["publicKey"] == KEY
    assert stack.one("Instance").inputs["keyName"] == stack.one("KeyPair").name


def test_the_only_outbound_rules_are_http_and_https(stack: Stack) -> None:
    rules = [rule.inputs for rule in stack.all("SecurityGroupEgressRule")]
    assert sorted((rule["ipProtocol"], rule["fromPort"], rule["toPort"]) for rule in rules) == [
        ("tcp", 80, 80),
        ("tcp", 443, 443),
    ]
    assert "egress" not in stack.one("SecurityGroup").inputs


def test_the_default_security_group_has_no_rules(stack: Stack) -> None:
    group = stack.one("DefaultSecurityGroup").inputs
    assert group["vpcId"] == stack.one("Vpc").id
    assert group.get("ingress", []) == group.get("egress", []) == []


def test_the_subnet_assigns_no_public_addresses(stack: Stack) -> None:
    assert stack.one("Subnet").inputs["mapPublicIpOnLaunch"] is False


def test_s3_is_reached_without_the_internet(stack: Stack) -> None:
    endpoint = stack.one("VpcEndpoint").inputs
    assert endpoint["serviceName"] == f"com.amazonaws.{REGION}.s3"
    assert endpoint["vpcEndpointType"] == "Gateway"
    assert endpoint["routeTableIds"] == [stack.one("RouteTable").id]


# Storage


def test_the_bucket_can_never_be_public(stack: Stack) -> None:
    block = stack.one("BucketPublicAccessBlock").inputs
    flags = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    assert [block[flag] for flag in flags] == [True] * 4
    assert block["bucket"] == stack.one("Bucket").id
    assert stack.one("BucketOwnershipControls").inputs["rule"] == {"objectOwnership": "BucketOwnerEnforced"}


def test_the_bucket_requires_tls(stack: Stack) -> None:
    (statement,) = statements(stack.one("BucketPolicy")).values()
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    arn = statement["Resource"][0]
    assert statement["Resource"] == [arn, f"{arn}/*"]


def test_objects_are_encrypted_and_versioned(stack: Stack) -> None:
    (rule,) = stack.one("BucketServerSideEncryptionConfiguration").inputs["rules"]
    assert rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"] == "AES256"
    assert stack.one("BucketVersioning").inputs["versioningConfiguration"] == {"status": "Enabled"}
    (everything,) = [rule for rule in lifecycle(stack) if rule["filter"]["prefix"] == ""]
    assert everything["noncurrentVersionExpiration"]["noncurrentDays"] >= 30


def lifecycle(stack: Stack) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = stack.one("BucketLifecycleConfiguration").inputs["rules"]
    assert {rule["status"] for rule in rules} == {"Enabled"}
    return rules


def test_the_ledger_and_the_data_never_expire_and_the_rest_does(stack: Stack) -> None:
    expiring = {rule["filter"]["prefix"] for rule in lifecycle(stack) if "expiration" in rule}
    assert expiring == {"interventions/", "quarantine/", "predictions/", "reports/", "backups/"}


def test_image_tags_never_move_and_images_are_scanned(stack: Stack) -> None:
    repository = stack.one("Repository").inputs
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}


# Identity


def test_only_ec2_can_assume_the_role_of_the_host(stack: Stack) -> None:
    (statement,) = statements(stack.one("Role", "-host"), "assumeRolePolicy").values()
    assert statement == {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}


def test_only_the_host_can_assume_the_role_of_its_containers(stack: Stack) -> None:
    (statement,) = statements(stack.one("Role", "-containers"), "assumeRolePolicy").values()
    host = f"arn:aws:iam:{REGION}:{ACCOUNT}:Role/{stack.one('Role', '-host').name}"
    assert statement == {"Effect": "Allow", "Principal": {"AWS": host}, "Action": "sts:AssumeRole"}
    passed_on = statements(stack.one("RolePolicy", "-containers"))["PassOn"]
    assert passed_on["Resource"] == f"arn:aws:iam:{REGION}:{ACCOUNT}:Role/{stack.one('Role', '-containers').name}"


def test_the_containers_use_bucket_and_images_and_only_the_host_reads_parameters(stack: Stack) -> None:
    roles = {each.id: each.name.rpartition("-")[2] for each in stack.all("Role")}
    holders: dict[str, set[str]] = {}
    for policy in stack.all("RolePolicy"):
        for statement in statements(policy).values():
            services = {action.partition(":")[0] for action in as_list(statement["Action"])}
            holders.setdefault(roles[policy.inputs["role"]], set()).update(services)
    assert holders["containers"] == {"s3", "ecr"}
    assert holders["host"] == {"ssm", "ssmmessages", "ec2messages", "ec2", "sts"}


def test_only_schedules_of_this_stack_can_start_and_stop_the_host(stack: Stack) -> None:
    (statement,) = statements(stack.one("Role", "-schedule"), "assumeRolePolicy").values()
    assert statement["Principal"] == {"Service": "scheduler.amazonaws.com"}
    condition = statement["Condition"]["StringEquals"]
    assert condition["aws:SourceAccount"] == ACCOUNT
    assert condition["aws:SourceArn"].endswith(f"ScheduleGroup/health-predict-{STACK}")


def test_roles_have_no_managed_policies(stack: Stack) -> None:
    assert {"RolePolicyAttachment", "PolicyAttachment", "Policy"}.isdisjoint({each.kind for each in stack.resources})
    assert all("managedPolicyArns" not in role.inputs for role in stack.all("Role"))


def test_no_statement_allows_a_whole_service_or_uses_a_wildcard_action(stack: Stack) -> None:
    for statement in policies(stack):
        assert statement["Effect"] == "Allow"
        assert not [action for action in as_list(statement["Action"]) if "*" in action]


def test_only_actions_without_resource_level_permissions_are_allowed_on_all_resources(stack: Stack) -> None:
    everywhere = {
        action.partition(":")[0] if action != "ecr:GetAuthorizationToken" else action
        for statement in policies(stack)
        if "*" in as_list(statement["Resource"])
        for action in as_list(statement["Action"])
    }
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsessionmanagermessagegatewayservice.html
    assert everywhere == {"ecr:GetAuthorizationToken", "ssmmessages", "ec2messages"}


def test_the_containers_may_never_delete_from_ledger_or_backups(stack: Stack) -> None:
    data = statements(stack.one("RolePolicy", "-data"))
    arn = data["List"]["Resource"]

    def prefixes(name: str) -> set[str]:
        return {resource.removeprefix(f"{arn}/") for resource in data[name]["Resource"]}

    assert prefixes("ReadAndWrite") == {f"{name}/*" for name in PREFIXES}
    assert prefixes("Delete") == {f"{name}/*" for name in {*PREFIXES} - {"ledger", "backups"}}


def test_the_host_may_write_only_its_health_tag(stack: Stack) -> None:
    statement = statements(stack.one("RolePolicy", "-health"))["ReportHealth"]
    assert statement["Action"] == "ec2:CreateTags"
    assert statement["Resource"].endswith(f"Instance/{stack.one('Instance').name}")
    assert statement["Condition"] == {
        "ForAllValues:StringEquals": {"aws:TagKeys": ["HealthPredictHealth"]},
        # An empty set of keys would satisfy the line above.
        "Null": {"aws:TagKeys": "false"},
    }


def test_only_alarms_of_this_account_may_publish_to_the_topic(stack: Stack) -> None:
    policy = statements(stack.one("TopicPolicy"))
    assert policy["Alarms"]["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert policy["Alarms"]["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert policy["TlsOnly"]["Effect"] == "Deny"


# The host


def test_the_metadata_service_requires_a_token_and_is_out_of_reach_of_containers_and_pods(stack: Stack) -> None:
    assert stack.one("Instance").inputs["metadataOptions"] == {
        "httpEndpoint": "enabled",
        "httpTokens": "required",
        "httpPutResponseHopLimit": 1,
    }


def test_the_disk_is_encrypted(stack: Stack) -> None:
    assert stack.one("Instance").inputs["rootBlockDevice"]["encrypted"] is True


def test_the_image_is_from_canonical(stack: Stack) -> None:
    lookup = stack.one("getAmi").inputs
    assert lookup["owners"] == ["099720109477"]
    assert lookup["mostRecent"] is True
    assert any("ubuntu-noble-24.04-amd64" in value for each in lookup["filters"] for value in each["values"])


def test_a_new_image_or_new_user_data_does_not_replace_the_host(stack: Stack) -> None:
    assert {"ami", "userData"} <= set(stack.one("Instance").ignored)
    assert "availabilityZone" in stack.one("Subnet").ignored
    assert stack.one("Instance").inputs.get("userDataReplaceOnChange", False) is False


def test_a_tag_of_the_host_holds_the_settings_that_it_was_made_with() -> None:
    tag = run_program(spot="true").one("Instance").inputs["tags"]["HealthPredictMadeWith"]
    assert tag == "spot=true ssh=false"


def test_another_generation_replaces_the_host() -> None:
    assert run_program(hostGeneration="2").one("Instance").name.endswith("-host-2")


def test_two_stacks_in_one_account_share_no_name() -> None:
    names = [
        {each.name for each in run.resources} | {each.inputs["name"] for each in run.resources if "name" in each.inputs}
        for run in (run_program(stack="test"), run_program(stack="test2"))
    ]
    policies_within_a_role = {
        "data",
        "images",
        "containers",
        "parameters",
        "session",
        "health",
        "start-and-stop",
        "call",
    }
    assert names[0] & names[1] == policies_within_a_role


# Secrets


def test_every_secret_is_stored_encrypted_and_marked_secret_in_the_state(stack: Stack) -> None:
    secrets = [each for each in stack.all("Parameter") if "/secret/" in each.inputs["name"]]
    assert len(secrets) >= 5
    for parameter in secrets:
        assert parameter.inputs["type"] == "SecureString"
        assert "value" in parameter.secret
        assert len(parameter.inputs["value"]) >= 40


def test_secrets_are_created_once_and_are_all_different(stack: Stack) -> None:
    other = run_program()
    values = [
        each.inputs["value"]
        for run in (stack, other)
        for each in run.all("Parameter")
        if "/secret/" in each.inputs["name"]
    ]
    assert len(set(values)) == len(values)
    assert all("value" in each.ignored for each in stack.all("Parameter") if "/secret/" in each.inputs["name"])


def test_no_secret_is_in_the_user_data_or_in_the_outputs(stack: Stack) -> None:
    user_data = stack.one("Instance").inputs["userData"]
    public = user_data + json.dumps([read_written_files(user_data), stack.outputs])
    for parameter in stack.all("Parameter"):
        if "/secret/" in parameter.inputs["name"]:
            assert parameter.inputs["value"] not in public


# Tags


def test_every_resource_that_supports_tags_names_its_stack(stack: Stack) -> None:
    untagged = []
    for resource in stack.resources:
        if resource.type.startswith("aws:") and resource.name != "call" and takes_tags(resource):
            tags = resource.inputs.get("tags", {})
            if (tags.get("Project"), tags.get("Stack")) != ("health-predict", STACK):
                untagged.append(resource.name)
    assert untagged == []
    assert stack.one("Instance").inputs["rootBlockDevice"]["tags"]["Stack"] == STACK


def takes_tags(resource: Resource) -> bool:
    module = getattr(aws, resource.type.split(":")[1].partition("/")[0])
    return "tags" in inspect.signature(getattr(module, resource.kind)._internal_init).parameters


@pytest.mark.parametrize(("keep", "force"), [("false", True), ("true", False)])
def test_destroy_deletes_data_and_images_unless_keepdata_is_set(keep: str, force: bool) -> None:
    stack = run_program(keepData=keep)
    assert stack.one("Bucket").inputs["forceDestroy"] is force
    assert stack.one("Repository").inputs["forceDelete"] is force
    kept = {each.kind for each in stack.resources if each.retained}
    assert kept == (
        set()
        if force
        else {each.kind for each in stack.resources if each.kind.startswith("Bucket")}
        | {"Repository", "LifecyclePolicy"}
    )
    assert stack.one("Instance").inputs["rootBlockDevice"]["deleteOnTermination"] is True
