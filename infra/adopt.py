"""Adopt a bucket and a repository that `keepData` left behind, instead of creating new ones."""

from __future__ import annotations

import pulumi
from settings import StackSettings

# An import fails if the configuration differs from what exists. Differences in these are ignored until the first `up` without
# adoptBucket.
_MAY_DIFFER = ("tags", "force_destroy", "force_delete", "image_tag_mutability", "image_scanning_configuration")


def adopted(id_: str | None, settings: StackSettings) -> pulumi.ResourceOptions:
    """The options that import the resource with this id if `adoptBucket` is set.

    Pulumi imports it once. While `adoptBucket` is set, it also ignores changes of `_MAY_DIFFER`.
    """
    if settings.adopt_bucket is None:
        return pulumi.ResourceOptions()
    return pulumi.ResourceOptions(import_=id_, ignore_changes=list(_MAY_DIFFER))
