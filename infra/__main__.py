"""The Pulumi program: read the configuration, look up what AWS offers, create the components, export the outputs."""

from __future__ import annotations

import sys
from dataclasses import asdict

import pulumi
from budget import Alarms, Budget
from estimate import Estimate, estimate
from host import Host
from identity import Identity
from image_registry import ImageRegistry
from lookups import look_up
from network import Network
from parameters import Parameters
from pulumi.runtime import get_config_env
from schedule import Schedule
from settings import PROJECT, ConfigError, StackSettings, read_settings
from storage import Storage

# With this exit code, Pulumi adds neither a traceback nor "an unhandled error occurred" (pulumi-language-python-exec).
ERROR_SHOWN = 32


def main() -> None:
    """Declare the resources of the stack."""
    try:
        settings = _read_settings()
        found = look_up(settings)
    except ConfigError as error:
        pulumi.log.error(str(error))
        sys.exit(ERROR_SHOWN)
    cost = _estimate(settings)

    Budget(settings)
    network = Network(settings, found.zone)
    images = ImageRegistry(settings)
    storage = Storage(settings, images.repository)
    identity = Identity(settings, found.account, storage.bucket, images.repository)
    Parameters(settings, _host_config(settings, storage, images, identity))
    host = Host(settings, found.image, network.subnet, network.group, identity.profile)
    identity.allow_health_tag(host.instance)
    Schedule(settings, found.account, host.instance)
    Alarms(settings, found.account, host.instance, host.spot)

    pulumi.export("instance_id", host.instance.id)
    pulumi.export("region", settings.region)
    pulumi.export("bucket", storage.bucket.id)
    pulumi.export("repository_uri", images.repository.repository_url)
    pulumi.export("tunnel", f"healthpredict cloud tunnel --stack {settings.stack} --region {settings.region}")
    pulumi.export("tunnel_without_healthpredict", host.instance.id.apply(lambda id_: _tunnels(id_, settings.region)))
    # The lines are in `healthpredict cloud cost`.
    pulumi.export("estimate", {key: value for key, value in asdict(cost).items() if key != "lines"} if cost else None)


def _read_settings() -> StackSettings:
    # All keys, not only the known ones, so that a misspelt setting is refused.
    own = f"{PROJECT}:"
    values = {key.removeprefix(own): value for key, value in get_config_env().items() if key.startswith(own)}
    region = pulumi.Config("aws").get("region") or ""
    return read_settings(pulumi.get_stack(), region, values)


def _estimate(settings: StackSettings) -> Estimate | None:
    """Estimate a month. Warn if it is above the budget. Returns: None, after a warning, if a price is unknown."""
    try:
        cost = estimate(settings)
    except ConfigError as error:
        pulumi.log.warn(f"The cost of a month cannot be estimated. {error}")
        return None
    if cost.worst > settings.budget_usd:
        pulumi.log.warn(
            f"The estimate of {cost.worst:.2f} USD a month is above the budget of {settings.budget_usd:g} USD "
            f"(prices of {cost.as_of}). Stop the host earlier, choose a smaller or a spot instance, or raise budgetUsd."
        )
    return cost


def _host_config(
    settings: StackSettings, storage: Storage, images: ImageRegistry, identity: Identity
) -> dict[str, pulumi.Input[str]]:
    bucket = storage.bucket.id
    return {
        "data-uri": pulumi.Output.format("s3://{0}", bucket),
        "reports-uri": pulumi.Output.format("s3://{0}/reports", bucket),
        "artifacts-uri": pulumi.Output.format("s3://{0}/mlflow", bucket),
        "backup-uri": pulumi.Output.format("s3://{0}/backups", bucket),
        "containers-role": identity.containers.arn,
        "image-repository": images.repository.repository_url,
        "source-repository": settings.source_repository,
        "source-commit": settings.source_commit,
        "source-archive": settings.source_archive,
        "source-sha256": settings.source_sha256,
        "max-hours": str(settings.max_hours),
        "silent": "true" if settings.silent else "",
    }


def _tunnels(instance: str, region: str) -> dict[str, str]:
    """Commands of the AWS CLI for the tunnels."""
    start = f"aws ssm start-session --region {region} --target {instance} --document-name"

    def own(port: int) -> str:
        return f"{start} AWS-StartPortForwardingSession --parameters portNumber={port},localPortNumber={port}"

    remote = "AWS-StartPortForwardingSessionToRemoteHost --parameters host=192.168.49.2,portNumber=30080"
    return {"prefect": own(4200), "mlflow": own(5000), "api": f"{start} {remote},localPortNumber=8000"}


main()
