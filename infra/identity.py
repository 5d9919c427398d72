"""The roles of the host and its containers, with the permissions that the system uses and no others.

The host reads parameters and reports its health. The containers use the bucket and the image repository. They get credentials of
their own role from the host, so no container can read a parameter.
"""

from __future__ import annotations

import pulumi
import pulumi_aws as aws
from policy import Statement, document, trust
from settings import StackSettings
from storage import PREFIXES

HEALTH_TAG = "HealthPredictHealth"
"""Tag of the instance in which the host reports its health."""


class Identity(pulumi.ComponentResource):
    """Role and instance profile of the host, and the role of its containers."""

    def __init__(
        self, settings: StackSettings, account: str, bucket: aws.s3.Bucket, repository: aws.ecr.Repository
    ) -> None:
        super().__init__("health-predict:aws:Identity", settings.prefix)
        child = pulumi.ResourceOptions(parent=self)
        name = settings.prefix
        self._settings = settings
        self.role = aws.iam.Role(
            f"{name}-host",
            description="The Health Predict host",
            assume_role_policy=trust({"Service": "ec2.amazonaws.com"}),
            tags=settings.tags("host"),
            opts=child,
        )
        self.containers = aws.iam.Role(
            f"{name}-containers",
            description="The containers of the Health Predict host",
            assume_role_policy=self.role.arn.apply(lambda arn: trust({"AWS": arn})),
            tags=settings.tags("containers"),
            opts=child,
        )
        here = f"{settings.region}:{account}"
        policies: dict[str, tuple[aws.iam.Role, pulumi.Input[str]]] = {
            "data": (self.containers, bucket.arn.apply(_data)),
            "images": (self.containers, repository.arn.apply(_images)),
            "containers": (self.role, self.containers.arn.apply(_pass_on)),
            "parameters": (self.role, document(_parameters(f"arn:aws:ssm:{here}:parameter{settings.parameters}"))),
            "session": (self.role, document(_session(f"arn:aws:ec2:{here}:instance/*"))),
        }
        for key, (role, policy) in policies.items():
            aws.iam.RolePolicy(f"{name}-{key}", name=key, role=role.name, policy=policy, opts=child)
        self.profile = aws.iam.InstanceProfile(
            f"{name}-host", role=self.role.name, tags=settings.tags("host"), opts=child
        )
        self.register_outputs({"role_arn": self.role.arn})

    def allow_health_tag(self, instance: aws.ec2.Instance) -> None:
        """Allow the host to write its health tag, and no other."""
        aws.iam.RolePolicy(
            f"{self._settings.prefix}-health",
            name="health",
            role=self.role.name,
            policy=instance.arn.apply(lambda arn: document([_health(arn)])),
            opts=pulumi.ResourceOptions(parent=self),
        )


def _pass_on(containers: str) -> str:
    return document([{"Sid": "PassOn", "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": containers}])


def _data(bucket: str) -> str:
    def objects(prefixes: list[str]) -> list[str]:
        return [f"{bucket}/{prefix}/*" for prefix in prefixes]

    return document(
        [
            # Without a condition on the prefix, because S3 would then respond 403 instead of 404 for a missing object.
            {"Sid": "List", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": bucket},
            {
                "Sid": "ReadAndWrite",
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
                "Resource": objects([prefix.name for prefix in PREFIXES]),
            },
            {
                "Sid": "Delete",
                "Effect": "Allow",
                "Action": "s3:DeleteObject",
                "Resource": objects([prefix.name for prefix in PREFIXES if prefix.deletes]),
            },
        ]
    )


def _images(repository: str) -> str:
    actions = (
        "BatchCheckLayerAvailability",
        "BatchGetImage",
        "CompleteLayerUpload",
        "DescribeImages",
        "GetDownloadUrlForLayer",
        "InitiateLayerUpload",
        "PutImage",
        "UploadLayerPart",
    )
    return document(
        [
            # This action does not support resource-level permissions.
            {"Sid": "LogIn", "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
            {
                "Sid": "PushAndPull",
                "Effect": "Allow",
                "Action": [f"ecr:{action}" for action in actions],
                "Resource": repository,
            },
        ]
    )


def _parameters(path: str) -> list[Statement]:
    # Decryption needs no permission, because they are encrypted with the account's key aws/ssm.
    return [
        {
            "Sid": "ReadParameters",
            "Effect": "Allow",
            "Action": ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"],
            "Resource": [f"{path}/config", f"{path}/config/*", f"{path}/secret", f"{path}/secret/*"],
        }
    ]


def _session(instances: str) -> list[Statement]:
    # Instead of the managed policy AmazonSSMManagedInstanceCore, which may read every parameter of the account.
    channels = ("CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel")
    messages = ("AcknowledgeMessage", "DeleteMessage", "FailMessage", "GetEndpoint", "GetMessages", "SendReply")
    return [
        {"Sid": "Register", "Effect": "Allow", "Action": "ssm:UpdateInstanceInformation", "Resource": instances},
        {
            # For sessions and the Run Command. These actions do not support resource-level permissions; they reach only the
            # caller's own messages.
            "Sid": "Talk",
            "Effect": "Allow",
            "Action": [f"ssmmessages:{c}" for c in channels] + [f"ec2messages:{m}" for m in messages],
            "Resource": "*",
        },
    ]


def _health(instance: str) -> Statement:
    return {
        "Sid": "ReportHealth",
        "Effect": "Allow",
        "Action": "ec2:CreateTags",
        "Resource": instance,
        "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": [HEALTH_TAG]}, "Null": {"aws:TagKeys": "false"}},
    }
