"""The bucket for data, artifacts, reports and backups, each below its own prefixes."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
from adopt import adopted
from policy import deny_without_tls, document
from settings import StackSettings

NONCURRENT_DAYS = 30
"""Days for which an overwritten or deleted object can be restored."""


@dataclass(frozen=True)
class Prefix:
    """The rules of one prefix.

    Attributes:
        deletes: whether the containers may delete objects.
        expires: days after which objects are deleted; None keeps them.
    """

    name: str
    deletes: bool = True
    expires: int | None = None


# The permissions of the containers and the lifecycle rules follow from this table.
PREFIXES = (
    Prefix("raw"),
    Prefix("batches"),
    Prefix("outcomes"),
    Prefix("interventions", expires=730),
    Prefix("processed"),
    Prefix("excluded"),
    Prefix("known"),
    Prefix("quarantine", expires=180),
    Prefix("predictions", expires=730),
    Prefix("out_of_fold"),
    Prefix("reports", expires=365),
    Prefix("ledger", deletes=False),
    Prefix("leases"),
    Prefix("mlflow"),
    Prefix("backups", deletes=False, expires=35),
)


class Storage(pulumi.ComponentResource):
    """A private, encrypted, versioned bucket, reached over TLS only."""

    def __init__(self, settings: StackSettings, repository: aws.ecr.Repository) -> None:
        super().__init__("health-predict:aws:Storage", settings.prefix)
        # keepData keeps the bucket together with the resources that protect it.
        child = pulumi.ResourceOptions(parent=self, retain_on_delete=settings.data_outlives_stack)
        name = settings.prefix
        self.bucket = aws.s3.Bucket(
            f"{name}-data",
            # Otherwise `pulumi destroy` fails if the bucket is not empty.
            force_destroy=not settings.data_outlives_stack,
            tags=settings.tags("data"),
            opts=pulumi.ResourceOptions.merge(
                pulumi.ResourceOptions.merge(child, adopted(settings.adopt_bucket, settings)),
                pulumi.ResourceOptions(
                    # An adopted bucket keeps its name after adoptBucket is removed.
                    ignore_changes=["bucket"],
                    # A kept repository stops `up` before it creates a second bucket.
                    depends_on=[repository],
                ),
            ),
        )
        bucket = self.bucket.id
        blocked = aws.s3.BucketPublicAccessBlock(
            f"{name}-data-private",
            bucket=bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=child,
        )
        aws.s3.BucketOwnershipControls(
            f"{name}-data-owner",
            bucket=bucket,
            rule=aws.s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
            opts=child,
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-data-encrypted",
            bucket=bucket,
            rules=[
                aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                    apply_server_side_encryption_by_default=(
                        aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
                            sse_algorithm="AES256"
                        )
                    )
                )
            ],
            opts=child,
        )
        versioning = aws.s3.BucketVersioning(
            f"{name}-data-versions",
            bucket=bucket,
            versioning_configuration=aws.s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
            opts=child,
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{name}-data-lifecycle",
            bucket=bucket,
            rules=_rules(),
            opts=pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[versioning])),
        )
        aws.s3.BucketPolicy(
            f"{name}-data-tls",
            bucket=bucket,
            policy=self.bucket.arn.apply(lambda arn: document([deny_without_tls("s3:*", [arn, f"{arn}/*"])])),
            opts=pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[blocked])),
        )
        self.register_outputs({"bucket": bucket})


def _rules() -> list[aws.s3.BucketLifecycleConfigurationRuleArgs]:
    everything = aws.s3.BucketLifecycleConfigurationRuleArgs(
        id="leftovers",
        status="Enabled",
        filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
        abort_incomplete_multipart_upload=(
            aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(days_after_initiation=7)
        ),
        noncurrent_version_expiration=aws.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
            noncurrent_days=NONCURRENT_DAYS
        ),
    )
    expiring = [
        aws.s3.BucketLifecycleConfigurationRuleArgs(
            id=prefix.name,
            status="Enabled",
            filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=f"{prefix.name}/"),
            expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(days=prefix.expires),
        )
        for prefix in PREFIXES
        if prefix.expires
    ]
    return [everything, *expiring]
