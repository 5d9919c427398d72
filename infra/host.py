"""The host: one EC2 instance that cloud-init sets up, and that keeps its data when it is stopped."""

from __future__ import annotations

import base64
import gzip
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
import yaml
from identity import HEALTH_TAG
from settings import ConfigError, StackSettings

HERE = Path(__file__).resolve().parent / "host"
USER_DATA_LIMIT = 16_384  # bytes, a limit of EC2
# With a hop limit of 1, neither containers nor pods reach the metadata service, so they cannot use the host's role. Services that
# need S3 or ECR get credentials of another role (host/root/usr/local/lib/health-predict/pass-credentials).
METADATA_HOPS = 1
MADE_WITH_TAG = "HealthPredictMadeWith"
FIXED = (
    # A newer image or user data takes effect with the next host.
    "ami",
    "user_data",
    # AWS returns other values after a stop or a health report, or they cannot be changed on an existing host. The provider would
    # then replace the host, and with it the disk of Postgres (issue 33775 of Terraform's AWS provider).
    "associate_public_ip_address",
    "key_name",
    "instance_market_options",
    f"tags.{HEALTH_TAG}",
    # This tag describes the existing host, not the configuration.
    f"tags.{MADE_WITH_TAG}",
)
"""Properties whose changes Pulumi ignores, so that they never replace a host."""


class Host(pulumi.ComponentResource):
    """The EC2 instance with its SSH key.

    Attributes:
        spot: whether the existing host is a spot instance. The setting may differ until the next generation.
    """

    def __init__(
        self,
        settings: StackSettings,
        image: str,
        subnet: aws.ec2.Subnet,
        group: aws.ec2.SecurityGroup,
        profile: aws.iam.InstanceProfile,
    ) -> None:
        super().__init__("health-predict:aws:Host", settings.prefix)
        self.instance = aws.ec2.Instance(
            # A new generation is a new resource, which replaces the host with the newest image.
            f"{settings.prefix}-host-{settings.host_generation}",
            ami=image,
            instance_type=settings.instance_type,
            subnet_id=subnet.id,
            vpc_security_group_ids=[group.id],
            associate_public_ip_address=True,
            iam_instance_profile=profile.name,
            key_name=self._key(settings),
            user_data=render_user_data(settings),
            metadata_options=aws.ec2.InstanceMetadataOptionsArgs(
                http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=METADATA_HOPS
            ),
            root_block_device=aws.ec2.InstanceRootBlockDeviceArgs(
                volume_type="gp3",
                volume_size=settings.disk_gb,
                encrypted=True,
                delete_on_termination=True,
                tags=settings.tags("disk"),
            ),
            ebs_optimized=True,
            credit_specification=aws.ec2.InstanceCreditSpecificationArgs(cpu_credits=settings.cpu_credits),
            maintenance_options=aws.ec2.InstanceMaintenanceOptionsArgs(auto_recovery="default"),
            # The host shuts itself down after maxHours. This must stop the instance, not terminate it.
            instance_initiated_shutdown_behavior="stop",
            instance_market_options=_spot() if settings.spot else None,
            tags=settings.tags("host") | {MADE_WITH_TAG: MadeWith.of(settings).tag},
            opts=pulumi.ResourceOptions(
                parent=self,
                ignore_changes=list(FIXED),
                hooks=pulumi.ResourceHookBinding(before_update=[_keep_disk(settings.disk_gb)]),
            ),
        )
        made_with = self.instance.tags.apply(lambda tags: MadeWith.read((tags or {}).get(MADE_WITH_TAG, "")))
        self.spot = made_with.apply(lambda made: settings.spot if made is None else made.spot)
        self.spot.apply(_warn_of_spot)
        made_with.apply(lambda made: _warn_of_pending_settings(settings, made))
        self.register_outputs({"instance_id": self.instance.id})

    def _key(self, settings: StackSettings) -> pulumi.Output[str] | None:
        if settings.ssh_public_key is None:
            return None
        key = aws.ec2.KeyPair(
            f"{settings.prefix}-ssh",
            public_key=settings.ssh_public_key,
            tags=settings.tags("ssh"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return key.key_name


@dataclass(frozen=True)
class MadeWith:
    """The settings that take effect only on a new host. A tag of the host holds those with which it was created."""

    spot: bool
    ssh: bool

    @classmethod
    def of(cls, settings: StackSettings) -> MadeWith:
        """Those of the configuration."""
        return cls(spot=settings.spot, ssh=settings.ssh_public_key is not None)

    @classmethod
    def read(cls, tag: str) -> MadeWith | None:
        """Those of a tag, or None for a host of a release that had no such tag."""
        found = re.fullmatch("spot=(true|false) ssh=(true|false)", tag)
        return cls(*(value == "true" for value in found.groups())) if found else None

    @property
    def tag(self) -> str:
        """The value of the tag."""
        return f"spot={self.spot} ssh={self.ssh}".lower()

    def __str__(self) -> str:
        return f"{'an' if self.ssh else 'no'} sshPublicKey, spot {str(self.spot).lower()}"


def _warn_of_pending_settings(settings: StackSettings, made_with: MadeWith | None) -> None:
    """Warn of settings that take effect only with the next generation."""
    configured = MadeWith.of(settings)
    if made_with != configured:
        pulumi.log.warn(
            f"This host has {made_with or 'settings of an older release'}. "
            f"The settings ({configured}) take effect only with hostGeneration "
            f"{settings.host_generation + 1}, which replaces the host and its disk. Make a backup first."
        )


def _warn_of_spot(spot: bool) -> None:
    if spot:
        pulumi.log.warn(
            "To destroy a spot host, use `healthpredict cloud down`: `pulumi destroy` alone can leave its spot request, "
            "which starts the host again."
        )


def _keep_disk(size: int) -> pulumi.ResourceHook:
    """A hook that rejects a smaller disk, already in the preview. AWS would reject it in the middle of `pulumi up`."""

    def check(change: pulumi.ResourceHookArgs) -> None:
        old = (change.old_inputs or {}).get("rootBlockDevice", {}).get("volumeSize", 0)
        if size < old:
            raise ConfigError(
                f"diskGb is {size}, but the disk of the host has {old:g} GB, and AWS cannot shrink it. "
                f"Set diskGb to {old:g} or more, or also increase hostGeneration, which replaces the host and its disk."
            )

    return pulumi.ResourceHook("keep-disk", check, pulumi.ResourceHookOptions(on_dry_run=True))


def render_user_data(settings: StackSettings) -> str:
    """Render the host's cloud-init configuration: `host/cloud-init.yaml` with the files below `host/root`.

    It contains no secret and no settings, only the path of the parameters, so other settings do not change it.

    Raises:
        ValueError: it is above EC2's limit.
    """
    config = yaml.safe_load((HERE / "cloud-init.yaml").read_text())
    config["write_files"] = [*_files(), _host_environment(settings)]
    text: str = "#cloud-config\n" + yaml.dump(config, Dumper=_Dumper, sort_keys=False, width=10_000)
    size = len(text.encode())
    if size > USER_DATA_LIMIT:
        raise ValueError(
            f"The user data has {size:,} bytes, but EC2 accepts only {USER_DATA_LIMIT:,}. Shorten infra/host."
        )
    return text


def _files() -> list[dict[str, Any]]:
    root = HERE / "root"
    files = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        entry: dict[str, Any] = {"path": f"/{path.relative_to(root).as_posix()}", "content": path.read_text()}
        if "lib" in path.relative_to(root).parts and path.suffix == "":
            # Compressed, because the plain text would exceed EC2's limit.
            packed = base64.b64encode(gzip.compress(path.read_bytes(), mtime=0)).decode()
            entry |= {"permissions": "0755", "encoding": "gz+b64", "content": packed}
        files.append(entry)
    return files


def _host_environment(settings: StackSettings) -> dict[str, Any]:
    lines = {"AWS_DEFAULT_REGION": settings.region, "HEALTHPREDICT_PARAMETERS": settings.parameters}
    content = "".join(f"{key}={value}\n" for key, value in lines.items())
    return {"path": "/etc/health-predict/host.env", "content": content}


def _spot() -> aws.ec2.InstanceInstanceMarketOptionsArgs:
    # Only a persistent request can be stopped at night and started in the morning.
    return aws.ec2.InstanceInstanceMarketOptionsArgs(
        market_type="spot",
        spot_options=aws.ec2.InstanceInstanceMarketOptionsSpotOptionsArgs(
            spot_instance_type="persistent", instance_interruption_behavior="stop"
        ),
    )


class _Dumper(yaml.SafeDumper):
    """Writes multi-line strings as blocks, which are short and readable."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
