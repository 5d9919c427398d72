"""Prefect blocks: the webhook for notifications, and the S3 bucket for results of flows."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from prefect.blocks.webhook import Webhook

from healthpredict.config import Settings

BLOCK_NAME: Final = "health-predict"
"""Prefect stores blocks under this name. Never rename it."""


def set_up_webhook(settings: Settings) -> UUID | None:
    """Save the webhook for notifications. Returns: the id of its block, or None if the settings have no webhook."""
    if not settings.webhook_url:
        return None
    saved = Webhook(method="POST", url=settings.webhook_url).save(BLOCK_NAME, overwrite=True)
    assert isinstance(saved, UUID)  # awaitable in asynchronous code only
    return saved


def set_up_s3(settings: Settings) -> None:
    """Save the bucket for results of flows, if the reports are in a bucket.

    The block contains no credentials. The default credential chain of AWS finds them; on a host, they are those of its role.
    """
    if not settings.reports_uri.startswith("s3://"):
        return
    from prefect_aws import AwsCredentials, S3Bucket

    bucket, _, prefix = settings.reports_uri.removeprefix("s3://").partition("/")
    AwsCredentials().save(BLOCK_NAME, overwrite=True)
    # Below the reports, because the host's role has write access there.
    folder = "/".join(filter(None, (prefix, "results")))
    S3Bucket(bucket_name=bucket, bucket_folder=folder, credentials=AwsCredentials.load(BLOCK_NAME)).save(
        BLOCK_NAME, overwrite=True
    )
