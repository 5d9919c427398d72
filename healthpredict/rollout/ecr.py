"""The login for AWS's container registry."""

from __future__ import annotations

import base64
import re
from typing import Final

from healthpredict.errors import RolloutError

_ECR: Final = re.compile(r"\d{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")


def ecr_login(repository: str) -> dict[str, str] | None:
    """Log in to ECR for 12 hours.

    Returns:
        `username` and `password`, or None for any other registry: Docker's own configuration has its login.

    Raises:
        RolloutError: AWS refused the login or did not respond.
    """
    match = _ECR.fullmatch(repository.partition("/")[0])
    if match is None:
        return None
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        ecr = boto3.client("ecr", region_name=match["region"])
        token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    except (BotoCoreError, ClientError) as error:
        raise RolloutError(
            f"No login for {repository}: {error}. Check the AWS credentials and their right to ecr:GetAuthorizationToken."
        ) from error
    username, _, password = base64.b64decode(token).decode().partition(":")
    return {"username": username, "password": password}
