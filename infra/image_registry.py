"""The image registry: one repository for the images of the API."""

from __future__ import annotations

import json

import pulumi
import pulumi_aws as aws
from adopt import adopted
from settings import StackSettings

IMAGES_KEPT = 10


class ImageRegistry(pulumi.ComponentResource):
    """A private repository with immutable tags. Images are scanned on push."""

    def __init__(self, settings: StackSettings) -> None:
        super().__init__("health-predict:aws:Registry", settings.prefix)
        child = pulumi.ResourceOptions(parent=self, retain_on_delete=settings.data_outlives_stack)
        name = settings.prefix
        self.repository = aws.ecr.Repository(
            f"{name}-images",
            name=name,
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration=aws.ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
            encryption_configurations=[aws.ecr.RepositoryEncryptionConfigurationArgs(encryption_type="AES256")],
            force_delete=not settings.data_outlives_stack,
            tags=settings.tags("images"),
            opts=pulumi.ResourceOptions.merge(child, adopted(name, settings)),
        )
        keep = {
            "rulePriority": 1,
            "description": f"Keep the newest {IMAGES_KEPT}",
            "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": IMAGES_KEPT},
            "action": {"type": "expire"},
        }
        aws.ecr.LifecyclePolicy(
            f"{name}-images-kept",
            repository=self.repository.name,
            policy=json.dumps({"rules": [keep]}),
            opts=child,
        )
        self.register_outputs({"repository_url": self.repository.repository_url})
