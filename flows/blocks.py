"""The blocks through which Prefect itself meets other systems: a webhook, and S3 with the credentials of AWS."""

from __future__ import annotations

from uuid import UUID

from prefect.blocks.webhook import Webhook

from healthpredict.config import Settings

NAME = "health-predict"


def set_up_webhook(settings: Settings) -> UUID | None:
    """Keep the address that is told of failures and drift; None where there is none."""
    if not settings.webhook_url:
        return None
    saved = Webhook(method="POST", url=settings.webhook_url).save(NAME, overwrite=True)
    assert isinstance(saved, UUID)  # awaitable in asynchronous code only
    return saved


def set_up_s3(settings: Settings) -> None:
    """Keep the bucket of the reports for the results of flows, where reports are in a bucket.

    No key is in a block: AWS's own chain finds them, which on a host is the role of its instance.
    """
    if not settings.reports_uri.startswith("s3://"):
        return
    from prefect_aws import AwsCredentials, S3Bucket

    bucket, _, prefix = settings.reports_uri.removeprefix("s3://").partition("/")
    AwsCredentials().save(NAME, overwrite=True)
    # A path of the bucket that the host's role may write, beside the reports.
    folder = "/".join(filter(None, (prefix, "results")))
    S3Bucket(bucket_name=bucket, bucket_folder=folder, credentials=AwsCredentials.load(NAME)).save(NAME, overwrite=True)
