"""The settings and secrets that the host reads at every start."""

from __future__ import annotations

import secrets

import pulumi
import pulumi_aws as aws
from settings import StackSettings

SECRETS = (
    "postgres-password",
    "prefect-database-password",
    "mlflow-database-password",
    "prefect-auth-password",
    "mlflow-admin-password",
    "jupyter-token",
    "api-key",
)
SECRET_BYTES = 32


class Parameters(pulumi.ComponentResource):
    """Parameters below `/health-predict/<stack>/`: `config/` as plain text, `secret/` encrypted."""

    def __init__(self, settings: StackSettings, config: dict[str, pulumi.Input[str]]) -> None:
        """Args: settings of the stack; config, the values of `HEALTHPREDICT_<NAME>` on the host. Empty values are left out."""
        super().__init__("health-predict:aws:Parameters", settings.prefix)
        for key, value in config.items():
            if value == "":
                continue
            aws.ssm.Parameter(
                f"{settings.prefix}-{key}",
                name=f"{settings.parameters}/config/{key}",
                type="String",
                value=value,
                tags=settings.tags(key),
                opts=pulumi.ResourceOptions(parent=self),
            )
        for key in SECRETS:
            aws.ssm.Parameter(
                f"{settings.prefix}-{key}",
                name=f"{settings.parameters}/secret/{key}",
                type="SecureString",
                value=pulumi.Output.secret(secrets.token_urlsafe(SECRET_BYTES)),
                tags=settings.tags(key),
                # The first `up` creates the value. A value that is rotated in AWS stays.
                opts=pulumi.ResourceOptions(parent=self, ignore_changes=["value"]),
            )
        self.register_outputs({})
