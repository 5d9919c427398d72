"""The stack on a moto server: its host and containers may do their work and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from as_role import Role, assert_denied, owner, permissions_enforced
from engine import ACCOUNT, PREFIXES, STACK, Stack

from healthpredict.storage.layout import Layout

REPOSITORY = f"health-predict-{STACK}"
PARAMETERS = f"/health-predict/{STACK}"


@pytest.fixture(scope="module")
def others(deployed: Stack, moto_endpoint: str) -> None:
    """Other resources in the account, which the host must not reach."""
    owner(moto_endpoint, "s3").create_bucket(Bucket="somebody-elses")
    owner(moto_endpoint, "s3").put_object(Bucket="somebody-elses", Key="raw/secret.csv", Body=b"1")
    owner(moto_endpoint, "s3").put_object(Bucket=deployed.one("Bucket").id, Key="private/secret.csv", Body=b"1")
    owner(moto_endpoint, "ecr").create_repository(repositoryName="somebody-elses")
    for name in ("/somebody/elses", f"{PARAMETERS}2/secret/api-key", f"{PARAMETERS}/other"):
        owner(moto_endpoint, "ssm").put_parameter(Name=name, Value="theirs", Type="SecureString")


@pytest.fixture(scope="module")
def roles(others: None, deployed: Stack, moto_endpoint: str) -> dict[str, Role]:
    """The roles of the host (from its instance profile), its containers and the schedules."""
    profile = owner(moto_endpoint, "iam").get_instance_profile(
        InstanceProfileName=deployed.one("Instance").inputs["iamInstanceProfile"]
    )
    (role,) = profile["InstanceProfile"]["Roles"]
    return {
        "host": Role(moto_endpoint, role["RoleName"]),
        "containers": Role(moto_endpoint, deployed.one("Role", "-containers").id),
        "scheduler": Role(moto_endpoint, deployed.one("Role", "-schedule").id),
    }


@pytest.fixture
def host(roles: dict[str, Role], monkeypatch: pytest.MonkeyPatch) -> Iterator[Role]:
    """Act as the host, with permissions enforced."""
    with permissions_enforced(monkeypatch):
        yield roles["host"]


@pytest.fixture
def containers(roles: dict[str, Role], monkeypatch: pytest.MonkeyPatch) -> Iterator[Role]:
    """Act as the containers, with permissions enforced."""
    with permissions_enforced(monkeypatch):
        yield roles["containers"]


@pytest.fixture
def scheduler(roles: dict[str, Role], monkeypatch: pytest.MonkeyPatch) -> Iterator[Role]:
    """Act as the schedules, with permissions enforced."""
    with permissions_enforced(monkeypatch):
        yield roles["scheduler"]


# What the program made


def test_the_host_runs_with_its_role_group_disk_and_tags(deployed: Stack, moto_endpoint: str) -> None:
    ec2 = owner(moto_endpoint, "ec2")
    tags = [{"Name": "tag:Stack", "Values": [STACK]}]
    ((instance,),) = [each["Instances"] for each in ec2.describe_instances(Filters=tags)["Reservations"]]
    assert instance["InstanceId"] == deployed.outputs["instance_id"]
    assert instance["State"]["Name"] == "running"
    (interface,) = instance["NetworkInterfaces"]
    assert [group["GroupId"] for group in interface["Groups"]] == [deployed.one("SecurityGroup").id]
    assert instance["PublicIpAddress"]
    (volume,) = ec2.describe_volumes(Filters=tags)["Volumes"]
    assert (volume["Encrypted"], volume["Size"]) == (True, 40)


def test_the_security_group_has_no_inbound_rule_and_two_outbound_ports(deployed: Stack, moto_endpoint: str) -> None:
    (group,) = owner(moto_endpoint, "ec2").describe_security_groups(GroupIds=[deployed.one("SecurityGroup").id])[
        "SecurityGroups"
    ]
    assert group["IpPermissions"] == []
    assert sorted(rule["FromPort"] for rule in group["IpPermissionsEgress"]) == [80, 443]


def test_the_subnet_routes_through_the_gateway(deployed: Stack, moto_endpoint: str) -> None:
    (table,) = owner(moto_endpoint, "ec2").describe_route_tables(
        Filters=[{"Name": "association.subnet-id", "Values": [deployed.one("Subnet").id]}]
    )["RouteTables"]
    ways = {
        route["DestinationCidrBlock"]: route.get("GatewayId")
        for route in table["Routes"]
        if "DestinationCidrBlock" in route
    }
    assert ways["0.0.0.0/0"] == deployed.one("InternetGateway").id


def test_the_schedules_name_the_id_of_the_host(deployed: Stack, moto_endpoint: str) -> None:
    client = owner(moto_endpoint, "scheduler")
    for verb in ("start", "stop"):
        schedule = client.get_schedule(GroupName=REPOSITORY, Name=f"{REPOSITORY}-{verb}")
        assert json.loads(schedule["Target"]["Input"]) == {"InstanceIds": [deployed.outputs["instance_id"]]}
        assert schedule["Target"]["RoleArn"].endswith(f"role/{deployed.one('Role', '-schedule').id}")


# What the host may do


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_containers_read_write_and_list_their_prefixes(containers: Role, deployed: Stack, prefix: str) -> None:
    s3, bucket, key = containers.client("s3"), deployed.one("Bucket").id, f"{prefix}/some/file.parquet"
    s3.put_object(Bucket=bucket, Key=key, Body=b"rows")
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"rows"
    assert s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/")["KeyCount"] == 1
    # In parts, as large files are written; given up once, and done once.
    started = s3.create_multipart_upload(Bucket=bucket, Key=key)
    s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=started["UploadId"])


@pytest.mark.parametrize("prefix", sorted(set(PREFIXES) - {"ledger", "backups"}))
def test_the_containers_delete_below_the_prefixes_that_allow_it(containers: Role, deployed: Stack, prefix: str) -> None:
    s3, bucket = containers.client("s3"), deployed.one("Bucket").id
    s3.put_object(Bucket=bucket, Key=f"{prefix}/gone", Body=b"")
    s3.delete_object(Bucket=bucket, Key=f"{prefix}/gone")


def test_the_containers_push_and_pull_images_of_their_repository(containers: Role) -> None:
    ecr = containers.client("ecr")
    ecr.get_authorization_token()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": 2,
            "digest": "sha256:" + "a" * 64,
        },
        "layers": [],
    }
    ecr.put_image(repositoryName=REPOSITORY, imageManifest=json.dumps(manifest), imageTag="1")
    assert ecr.batch_get_image(repositoryName=REPOSITORY, imageIds=[{"imageTag": "1"}])["images"]
    assert ecr.describe_images(repositoryName=REPOSITORY)["imageDetails"]


def test_the_host_reads_its_settings_and_secrets(host: Role) -> None:
    ssm = host.client("ssm")
    for kind in ("config", "secret"):
        found = ssm.get_parameters_by_path(Path=f"{PARAMETERS}/{kind}", WithDecryption=True)["Parameters"]
        assert found
    one = ssm.get_parameter(Name=f"{PARAMETERS}/secret/api-key", WithDecryption=True)["Parameter"]
    assert len(one["Value"]) >= 40


def test_the_host_assumes_the_role_of_its_containers(host: Role, deployed: Stack) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/{deployed.one('Role', '-containers').id}"
    assert host.client("sts").assume_role(RoleArn=arn, RoleSessionName="tests")["Credentials"]["SessionToken"]


def test_the_host_reports_its_health_in_its_tag(host: Role, deployed: Stack) -> None:
    host.client("ec2").create_tags(
        Resources=[deployed.outputs["instance_id"]], Tags=[{"Key": "HealthPredictHealth", "Value": "ok"}]
    )


# What it may not


@pytest.mark.parametrize("prefix", ["ledger", "backups"])
def test_the_containers_cannot_delete_history_or_backups(containers: Role, deployed: Stack, prefix: str) -> None:
    s3, bucket = containers.client("s3"), deployed.one("Bucket").id
    s3.put_object(Bucket=bucket, Key=f"{prefix}/kept", Body=b"")
    assert_denied(s3.delete_object, Bucket=bucket, Key=f"{prefix}/kept")


def test_the_containers_cannot_use_other_prefixes_of_their_bucket(containers: Role, deployed: Stack) -> None:
    s3, bucket = containers.client("s3"), deployed.one("Bucket").id
    assert_denied(s3.get_object, Bucket=bucket, Key="private/secret.csv")
    assert_denied(s3.put_object, Bucket=bucket, Key="elsewhere/file", Body=b"")
    assert_denied(s3.put_object, Bucket=bucket, Key="rawer/file", Body=b"")
    assert_denied(s3.delete_object, Bucket=bucket, Key="private/secret.csv")


def test_the_containers_cannot_use_other_buckets(containers: Role) -> None:
    s3 = containers.client("s3")
    assert_denied(s3.list_buckets)
    assert_denied(s3.list_objects_v2, Bucket="somebody-elses")
    assert_denied(s3.get_object, Bucket="somebody-elses", Key="raw/secret.csv")
    assert_denied(s3.put_object, Bucket="somebody-elses", Key="raw/file", Body=b"")


@pytest.mark.parametrize(
    ("call", "more"),
    [
        ("delete_bucket", {}),
        ("put_bucket_policy", {"Policy": "{}"}),
        ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Suspended"}}),
        ("put_bucket_acl", {"ACL": "public-read"}),
        ("put_public_access_block", {"PublicAccessBlockConfiguration": {"BlockPublicAcls": False}}),
        ("put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": []}}),
        ("delete_bucket_encryption", {}),
        ("put_object_acl", {"Key": "raw/some/file.parquet", "ACL": "public-read"}),
    ],
)
def test_the_containers_cannot_change_the_bucket(
    containers: Role, deployed: Stack, call: str, more: dict[str, Any]
) -> None:
    assert_denied(getattr(containers.client("s3"), call), Bucket=deployed.one("Bucket").id, **more)


def test_the_containers_cannot_use_other_repositories_or_change_the_rules_of_their_own(containers: Role) -> None:
    ecr = containers.client("ecr")
    assert_denied(ecr.describe_images, repositoryName="somebody-elses")
    assert_denied(ecr.put_image, repositoryName="somebody-elses", imageManifest="{}", imageTag="1")
    assert_denied(ecr.batch_delete_image, repositoryName=REPOSITORY, imageIds=[{"imageTag": "1"}])
    assert_denied(ecr.delete_repository, repositoryName=REPOSITORY, force=True)
    assert_denied(ecr.put_image_tag_mutability, repositoryName=REPOSITORY, imageTagMutability="MUTABLE")
    assert_denied(
        ecr.put_lifecycle_policy, repositoryName=REPOSITORY, lifecyclePolicyText=json.dumps({"rules": []}).ljust(100)
    )
    assert_denied(ecr.create_repository, repositoryName="new")


def test_the_containers_read_no_parameter_and_cannot_act_on_the_host(containers: Role, deployed: Stack) -> None:
    ssm, name = containers.client("ssm"), f"{PARAMETERS}/secret/api-key"
    assert_denied(ssm.get_parameter, Name=name, WithDecryption=True)
    assert_denied(ssm.get_parameters, Names=[name], WithDecryption=True)
    assert_denied(ssm.get_parameters_by_path, Path=f"{PARAMETERS}/secret", WithDecryption=True)
    assert_denied(ssm.get_parameters_by_path, Path=f"{PARAMETERS}/config")
    own = deployed.outputs["instance_id"]
    assert_denied(
        containers.client("ec2").create_tags, Resources=[own], Tags=[{"Key": "HealthPredictHealth", "Value": "ok"}]
    )
    host = f"arn:aws:iam::{ACCOUNT}:role/{deployed.one('Role', '-host').id}"
    assert_denied(containers.client("sts").assume_role, RoleArn=host, RoleSessionName="tests")


def test_the_host_itself_reads_no_data_and_no_images(host: Role, deployed: Stack) -> None:
    assert_denied(host.client("s3").list_objects_v2, Bucket=deployed.one("Bucket").id)
    assert_denied(host.client("s3").get_object, Bucket=deployed.one("Bucket").id, Key="raw/some/file.parquet")
    assert_denied(host.client("ecr").get_authorization_token)


@pytest.mark.parametrize("name", ["/somebody/elses", f"{PARAMETERS}2/secret/api-key", f"{PARAMETERS}/other"])
def test_the_host_cannot_read_other_parameters(host: Role, name: str) -> None:
    ssm = host.client("ssm")
    assert_denied(ssm.get_parameter, Name=name)
    assert_denied(ssm.get_parameters, Names=[name])
    assert_denied(ssm.get_parameters_by_path, Path=name.rpartition("/")[0] or "/", Recursive=True)


def test_the_host_cannot_change_its_parameters_or_send_commands(host: Role, deployed: Stack) -> None:
    ssm, name = host.client("ssm"), f"{PARAMETERS}/config/source-commit"
    assert_denied(ssm.put_parameter, Name=name, Value="b" * 40, Type="String", Overwrite=True)
    assert_denied(ssm.delete_parameter, Name=name)
    assert_denied(ssm.send_command, InstanceIds=[deployed.outputs["instance_id"]], DocumentName="AWS-RunShellScript")


def test_the_host_cannot_start_tag_or_terminate_instances(host: Role, deployed: Stack, moto_endpoint: str) -> None:
    ec2, own = host.client("ec2"), deployed.outputs["instance_id"]
    assert_denied(
        ec2.create_tags, Resources=["i-0123456789abcdef0"], Tags=[{"Key": "HealthPredictHealth", "Value": "ok"}]
    )
    assert_denied(ec2.run_instances, ImageId="ami-1", MinCount=1, MaxCount=1)
    assert_denied(ec2.terminate_instances, InstanceIds=[own])
    assert_denied(ec2.stop_instances, InstanceIds=[own])
    assert_denied(ec2.modify_instance_attribute, InstanceId=own, InstanceType={"Value": "m7i.48xlarge"})
    assert_denied(ec2.authorize_security_group_ingress, GroupId=deployed.one("SecurityGroup").id, CidrIp="0.0.0.0/0")
    assert_denied(ec2.describe_instances)


def test_the_host_cannot_extend_its_permissions(host: Role, deployed: Stack) -> None:
    iam, role = host.client("iam"), deployed.one("Role", "-host").id
    everything = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    )
    assert_denied(iam.put_role_policy, RoleName=role, PolicyName="more", PolicyDocument=everything)
    assert_denied(iam.attach_role_policy, RoleName=role, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    assert_denied(iam.create_user, UserName="me")
    assert_denied(iam.list_roles)
    other = f"arn:aws:iam::{ACCOUNT}:role/{deployed.one('Role', '-schedule').id}"
    assert_denied(host.client("sts").assume_role, RoleArn=other, RoleSessionName="me")
    assert_denied(host.client("budgets").delete_budget, AccountId=ACCOUNT, BudgetName=REPOSITORY)
    assert_denied(host.client("scheduler").delete_schedule, GroupName=REPOSITORY, Name=f"{REPOSITORY}-stop")


def test_the_schedules_stop_and_start_the_host_and_no_other(scheduler: Role, deployed: Stack) -> None:
    ec2, own = scheduler.client("ec2"), deployed.outputs["instance_id"]
    ec2.stop_instances(InstanceIds=[own])
    ec2.start_instances(InstanceIds=[own])
    assert_denied(ec2.stop_instances, InstanceIds=["i-0123456789abcdef0"])
    assert_denied(ec2.terminate_instances, InstanceIds=[own])
    assert_denied(scheduler.client("s3").list_objects_v2, Bucket=deployed.one("Bucket").id)


def test_the_containers_may_write_every_folder_of_the_layout() -> None:
    layout = Layout("s3://bucket")
    parts = [getattr(layout, name) for name in dir(Layout) if not name.startswith("_") and name != "root"]
    places = [part("name") if callable(part) else part for part in parts]
    uris = [uri for place in places for uri in ([place] if isinstance(place, str) else place)]
    assert len(uris) > 15
    assert {uri.removeprefix("s3://bucket/").partition("/")[0] for uri in uris} <= {*PREFIXES}
