"""Mocks that create every resource through boto3 on a moto server: real ids, references and constraints.

A resource of a kind that is not known here is an error, so that nothing goes untested by being forgotten.
"""

from __future__ import annotations

import json
import re
from typing import Any

import boto3
from engine import ACCOUNT, REGION, Recorder, Resource


class MotoEngine(Recorder):
    """Creates the resources that the program declares."""

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        session = boto3.Session(aws_access_key_id="root", aws_secret_access_key="root", region_name=REGION)
        self._clients = {
            name: session.client(name, endpoint_url=endpoint)
            for name in ("budgets", "cloudwatch", "ec2", "ecr", "iam", "s3", "scheduler", "sns", "ssm", "sts")
        }

    def __getattr__(self, name: str) -> Any:
        clients = self.__dict__.get("_clients", {})
        if name not in clients:
            raise AttributeError(name)
        return clients[name]

    def call(self, args: Any) -> Any:
        self.stack.resources.append(Resource(args.token, "call", args.args))
        match args.token.rpartition(":")[2]:
            case "getCallerIdentity":
                return {"accountId": self.sts.get_caller_identity()["Account"]}
            case "getAmi":
                # moto does not know this Ubuntu, so another image of Canonical stands in for it.
                images = self.ec2.describe_images(Owners=args.args["owners"])["Images"]
                return {"id": images[0]["ImageId"]}
            case "getInstanceTypeOfferings":
                offers = self.ec2.describe_instance_type_offerings(
                    LocationType=args.args["locationType"], Filters=_filters(args.args["filters"])
                )
                return {"locations": [offer["Location"] for offer in offers["InstanceTypeOfferings"]]}
        raise NotImplementedError(args.token)

    def create(self, resource: Resource) -> tuple[str, dict[str, Any]]:
        kind = re.sub(r"(?<!^)(?=[A-Z])", "_", resource.kind).lower()
        maker = getattr(type(self), f"_make_{kind}", None)
        if maker is None:
            raise NotImplementedError(f"tests/infra/moto_engine.py cannot make a {resource.type}")
        made = maker(self, resource.name, resource.inputs)
        return made if isinstance(made, tuple) else (made, {})

    # Network

    def _make_vpc(self, name: str, given: dict[str, Any]) -> Any:
        vpc = self.ec2.create_vpc(CidrBlock=given["cidrBlock"], TagSpecifications=_tagged("vpc", given))["Vpc"]["VpcId"]
        self.ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": given["enableDnsHostnames"]})
        return vpc

    def _make_default_security_group(self, name: str, given: dict[str, Any]) -> Any:
        filters = _filters(
            [{"name": "vpc-id", "values": [given["vpcId"]]}, {"name": "group-name", "values": ["default"]}]
        )
        (group,) = self.ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
        assert given.get("ingress", []) == given.get("egress", []) == []
        for revoke, rules in (
            (self.ec2.revoke_security_group_ingress, group["IpPermissions"]),
            (self.ec2.revoke_security_group_egress, group["IpPermissionsEgress"]),
        ):
            if rules:
                revoke(GroupId=group["GroupId"], IpPermissions=rules)
        self.ec2.create_tags(Resources=[group["GroupId"]], Tags=_tags(given))
        return group["GroupId"]

    def _make_internet_gateway(self, name: str, given: dict[str, Any]) -> Any:
        gateway = self.ec2.create_internet_gateway(TagSpecifications=_tagged("internet-gateway", given))
        id_ = gateway["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=id_, VpcId=given["vpcId"])
        return id_

    def _make_route_table(self, name: str, given: dict[str, Any]) -> Any:
        table = self.ec2.create_route_table(VpcId=given["vpcId"], TagSpecifications=_tagged("route-table", given))
        return table["RouteTable"]["RouteTableId"]

    def _make_route(self, name: str, given: dict[str, Any]) -> Any:
        self.ec2.create_route(
            RouteTableId=given["routeTableId"],
            DestinationCidrBlock=given["destinationCidrBlock"],
            GatewayId=given["gatewayId"],
        )
        return name

    def _make_subnet(self, name: str, given: dict[str, Any]) -> Any:
        subnet = self.ec2.create_subnet(
            VpcId=given["vpcId"],
            CidrBlock=given["cidrBlock"],
            AvailabilityZone=given["availabilityZone"],
            TagSpecifications=_tagged("subnet", given),
        )
        return subnet["Subnet"]["SubnetId"]

    def _make_route_table_association(self, name: str, given: dict[str, Any]) -> Any:
        made = self.ec2.associate_route_table(RouteTableId=given["routeTableId"], SubnetId=given["subnetId"])
        return made["AssociationId"]

    def _make_vpc_endpoint(self, name: str, given: dict[str, Any]) -> Any:
        made = self.ec2.create_vpc_endpoint(
            VpcId=given["vpcId"],
            ServiceName=given["serviceName"],
            VpcEndpointType=given["vpcEndpointType"],
            RouteTableIds=given["routeTableIds"],
            TagSpecifications=_tagged("vpc-endpoint", given),
        )
        return made["VpcEndpoint"]["VpcEndpointId"]

    def _make_security_group(self, name: str, given: dict[str, Any]) -> Any:
        id_ = self.ec2.create_security_group(
            GroupName=name,
            Description=given["description"],
            VpcId=given["vpcId"],
            TagSpecifications=_tagged("security-group", given),
        )["GroupId"]
        # As the provider does: delete the outbound rule that AWS adds to a new group.
        group = self.ec2.describe_security_groups(GroupIds=[id_])["SecurityGroups"][0]
        self.ec2.revoke_security_group_egress(GroupId=id_, IpPermissions=group["IpPermissionsEgress"])
        return id_

    def _make_security_group_egress_rule(self, name: str, given: dict[str, Any]) -> Any:
        self.ec2.authorize_security_group_egress(GroupId=given["securityGroupId"], IpPermissions=_permissions(given))
        return name

    def _make_security_group_ingress_rule(self, name: str, given: dict[str, Any]) -> Any:
        self.ec2.authorize_security_group_ingress(GroupId=given["securityGroupId"], IpPermissions=_permissions(given))
        return name

    # Storage and images

    def _make_bucket(self, name: str, given: dict[str, Any]) -> Any:
        bucket = f"{name}-1a2b3c4"
        self.s3.create_bucket(Bucket=bucket)
        self.s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": _tags(given)})
        return bucket, {"arn": f"arn:aws:s3:::{bucket}", "bucket": bucket}

    def _make_bucket_public_access_block(self, name: str, given: dict[str, Any]) -> Any:
        block = _aws_names({key: value for key, value in given.items() if key != "bucket"})
        self.s3.put_public_access_block(Bucket=given["bucket"], PublicAccessBlockConfiguration=block)
        return given["bucket"]

    def _make_bucket_ownership_controls(self, name: str, given: dict[str, Any]) -> Any:
        self.s3.put_bucket_ownership_controls(
            Bucket=given["bucket"], OwnershipControls={"Rules": [_aws_names(given["rule"])]}
        )
        return given["bucket"]

    def _make_bucket_server_side_encryption_configuration(self, name: str, given: dict[str, Any]) -> Any:
        (rule,) = given["rules"]
        by_default = {"SSEAlgorithm": rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"]}
        self.s3.put_bucket_encryption(
            Bucket=given["bucket"],
            ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": by_default}]},
        )
        return given["bucket"]

    def _make_bucket_versioning(self, name: str, given: dict[str, Any]) -> Any:
        self.s3.put_bucket_versioning(
            Bucket=given["bucket"], VersioningConfiguration=_aws_names(given["versioningConfiguration"])
        )
        return given["bucket"]

    def _make_bucket_lifecycle_configuration(self, name: str, given: dict[str, Any]) -> Any:
        rules = []
        for rule in given["rules"]:
            names = _aws_names(rule)
            names["ID"] = names.pop("Id")
            rules.append(names)
        self.s3.put_bucket_lifecycle_configuration(Bucket=given["bucket"], LifecycleConfiguration={"Rules": rules})
        return given["bucket"]

    def _make_bucket_policy(self, name: str, given: dict[str, Any]) -> Any:
        self.s3.put_bucket_policy(Bucket=given["bucket"], Policy=given["policy"])
        # moto ignores the condition and would deny everything.
        self.s3.delete_bucket_policy(Bucket=given["bucket"])
        return given["bucket"]

    def _make_repository(self, name: str, given: dict[str, Any]) -> Any:
        made = self.ecr.create_repository(
            repositoryName=given["name"],
            imageTagMutability=given["imageTagMutability"],
            imageScanningConfiguration=given["imageScanningConfiguration"],
            encryptionConfiguration=given["encryptionConfigurations"][0],
            tags=_tags(given),
        )["repository"]
        return given["name"], {"arn": made["repositoryArn"], "repositoryUrl": made["repositoryUri"]}

    def _make_lifecycle_policy(self, name: str, given: dict[str, Any]) -> Any:
        self.ecr.put_lifecycle_policy(repositoryName=given["repository"], lifecyclePolicyText=given["policy"])
        return name

    # Identity and parameters

    def _make_role(self, name: str, given: dict[str, Any]) -> Any:
        role = self.iam.create_role(
            RoleName=name,
            AssumeRolePolicyDocument=given["assumeRolePolicy"],
            Description=given["description"],
            Tags=_tags(given),
        )["Role"]
        return name, {"arn": role["Arn"], "name": name}

    def _make_role_policy(self, name: str, given: dict[str, Any]) -> Any:
        # moto treats a statement with a condition as denied. Another test covers the condition.
        policy = json.loads(given["policy"])
        for statement in policy["Statement"]:
            statement.pop("Condition", None)
        self.iam.put_role_policy(RoleName=given["role"], PolicyName=given["name"], PolicyDocument=json.dumps(policy))
        return name

    def _make_instance_profile(self, name: str, given: dict[str, Any]) -> Any:
        profile = self.iam.create_instance_profile(InstanceProfileName=name, Tags=_tags(given))["InstanceProfile"]
        self.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=given["role"])
        return name, {"arn": profile["Arn"], "name": name}

    def _make_parameter(self, name: str, given: dict[str, Any]) -> Any:
        self.ssm.put_parameter(Name=given["name"], Type=given["type"], Value=given["value"], Tags=_tags(given))
        return given["name"]

    # The host

    def _make_key_pair(self, name: str, given: dict[str, Any]) -> Any:
        self.ec2.import_key_pair(
            KeyName=name, PublicKeyMaterial=given["publicKey"].encode(), TagSpecifications=_tagged("key-pair", given)
        )
        return name, {"keyName": name}

    def _make_instance(self, name: str, given: dict[str, Any]) -> Any:
        disk = given["rootBlockDevice"]
        more = {"KeyName": given["keyName"]} if given.get("keyName") else {}
        if market := given.get("instanceMarketOptions"):
            more["InstanceMarketOptions"] = _aws_names(market)
        (instance,) = self.ec2.run_instances(
            ImageId=given["ami"],
            MinCount=1,
            MaxCount=1,
            InstanceType=given["instanceType"],
            NetworkInterfaces=[
                {
                    "DeviceIndex": 0,
                    "SubnetId": given["subnetId"],
                    "Groups": given["vpcSecurityGroupIds"],
                    "AssociatePublicIpAddress": given["associatePublicIpAddress"],
                }
            ],
            IamInstanceProfile={"Name": given["iamInstanceProfile"]},
            UserData=given["userData"],
            MetadataOptions=_aws_names(given["metadataOptions"]),
            BlockDeviceMappings=[
                {
                    "DeviceName": "/dev/sda1",
                    "Ebs": {
                        "VolumeType": disk["volumeType"],
                        "VolumeSize": disk["volumeSize"],
                        "Encrypted": disk["encrypted"],
                        "DeleteOnTermination": disk["deleteOnTermination"],
                    },
                }
            ],
            CreditSpecification=_aws_names(given["creditSpecification"]),
            InstanceInitiatedShutdownBehavior=given["instanceInitiatedShutdownBehavior"],
            TagSpecifications=[*_tagged("instance", given), *_tagged("volume", disk)],
            **more,
        )["Instances"]
        id_ = instance["InstanceId"]
        return id_, {"arn": f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{id_}"}

    # Schedule, budget, alarms

    def _make_schedule_group(self, name: str, given: dict[str, Any]) -> Any:
        made = self.scheduler.create_schedule_group(Name=given["name"], Tags=_tags(given))
        return given["name"], {"arn": made["ScheduleGroupArn"]}

    def _make_schedule(self, name: str, given: dict[str, Any]) -> Any:
        self.scheduler.create_schedule(
            Name=given["name"],
            GroupName=given["groupName"],
            Description=given["description"],
            ScheduleExpression=given["scheduleExpression"],
            ScheduleExpressionTimezone=given["scheduleExpressionTimezone"],
            FlexibleTimeWindow=_aws_names(given["flexibleTimeWindow"]),
            Target=_aws_names(given["target"]),
        )
        return name

    def _make_budget(self, name: str, given: dict[str, Any]) -> Any:
        notifications = []
        for wanted in given["notifications"]:
            mails = wanted.pop("subscriberEmailAddresses")
            notifications.append(
                {
                    "Notification": _aws_names(wanted),
                    "Subscribers": [{"SubscriptionType": "EMAIL", "Address": mail} for mail in mails],
                }
            )
        self.budgets.create_budget(
            AccountId=ACCOUNT,
            Budget={
                "BudgetName": given["name"],
                "BudgetType": given["budgetType"],
                "TimeUnit": given["timeUnit"],
                "BudgetLimit": {"Amount": given["limitAmount"], "Unit": given["limitUnit"]},
            },
            NotificationsWithSubscribers=notifications,
            ResourceTags=_tags(given),
        )
        return name

    def _make_topic(self, name: str, given: dict[str, Any]) -> Any:
        arn = self.sns.create_topic(Name=given["name"], Tags=_tags(given))["TopicArn"]
        return arn, {"arn": arn}

    def _make_topic_policy(self, name: str, given: dict[str, Any]) -> Any:
        self.sns.set_topic_attributes(TopicArn=given["arn"], AttributeName="Policy", AttributeValue=given["policy"])
        return name

    def _make_topic_subscription(self, name: str, given: dict[str, Any]) -> Any:
        made = self.sns.subscribe(TopicArn=given["topic"], Protocol=given["protocol"], Endpoint=given["endpoint"])
        return made["SubscriptionArn"]

    def _make_metric_alarm(self, name: str, given: dict[str, Any]) -> Any:
        self.cloudwatch.put_metric_alarm(
            AlarmName=given["name"],
            AlarmDescription=given["alarmDescription"],
            Namespace=given["namespace"],
            MetricName=given["metricName"],
            Dimensions=[{"Name": key, "Value": value} for key, value in given["dimensions"].items()],
            Statistic=given["statistic"],
            Period=given["period"],
            EvaluationPeriods=given["evaluationPeriods"],
            Threshold=given["threshold"],
            ComparisonOperator=given["comparisonOperator"],
            TreatMissingData=given["treatMissingData"],
            AlarmActions=given["alarmActions"],
            Tags=_tags(given),
        )
        return name


def _tags(given: dict[str, Any]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in given["tags"].items()]


def _tagged(resource_type: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"ResourceType": resource_type, "Tags": _tags(given)}]


def _filters(filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"Name": each["name"], "Values": each["values"]} for each in filters]


def _permissions(given: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "IpProtocol": given["ipProtocol"],
            "FromPort": given["fromPort"],
            "ToPort": given["toPort"],
            "IpRanges": [{"CidrIp": given["cidrIpv4"], "Description": given["description"]}],
        }
    ]


def _aws_names(value: Any) -> Any:
    """Turn Pulumi's names (httpTokens) into those of the API (HttpTokens)."""
    if isinstance(value, dict):
        return {key[0].upper() + key[1:]: _aws_names(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_aws_names(item) for item in value]
    return value
