"""The bill of materials of an image, in CycloneDX 1.6: Debian packages, Python packages, and the model."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from email.parser import HeaderParser
from typing import Final

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement

from healthpredict.bundle.model import Bundle
from healthpredict.rollout.image import COMMIT_LABEL, LOCK, read_from_image
from healthpredict.rollout.source_tree import SourceTree

_DPKG: Final = "/var/lib/dpkg/status"
_LOCKED: Final = re.compile(r"^(?P<requirement>[A-Za-z0-9][^\\\n]*?==[^\\\n]+?)\s*\\?$", re.MULTILINE)


def bill_of_materials(reference: str, image_id: str, bundle: Bundle, source: SourceTree) -> str:
    """Write the bill of materials of an image as JSON. For the same image, only its time stamp differs.

    Args:
        reference: of the image, by digest.
        image_id: of the image in the local engine.
        bundle: in the image.
        source: that the image was built from.

    Raises:
        RolloutError: the image cannot be read.
    """
    name, _, digest = reference.partition("@")
    image = Component(
        name=name,
        version=digest,
        type=ComponentType.CONTAINER,
        bom_ref=reference,
        properties=[Property(name=COMMIT_LABEL, value=source.commit or "unknown")],
    )
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, reference))
    bom.metadata.component = image
    for component in (
        *_debian_packages(read_from_image(image_id, _DPKG).decode(errors="replace")),
        *_python_packages((source.path / LOCK).read_text(encoding="utf-8")),
        _model(bundle),
    ):
        bom.components.add(component)
    bom.register_dependency(image, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1)


def _model(bundle: Bundle) -> Component:
    manifest = bundle.manifest
    return Component(
        name=manifest.model_name,
        version=str(manifest.model_version),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{bundle.digest}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=bundle.digest)],
        properties=[Property(name="healthpredict:data-digest", value=manifest.data_digest)],
    )


def _debian_packages(status: str) -> Iterator[Component]:
    for paragraph in status.split("\n\n"):
        fields = HeaderParser().parsestr(paragraph)
        if fields["Package"] and "installed" in (fields["Status"] or "").split():
            purl = PackageURL("deb", "debian", fields["Package"], fields["Version"], {"arch": fields["Architecture"]})
            yield Component(name=fields["Package"], version=fields["Version"], purl=purl, bom_ref=str(purl))


def _python_packages(lock: str) -> Iterator[Component]:
    """The packages of a lock file whose markers match this platform."""
    for match in _LOCKED.finditer(lock):
        requirement = Requirement(match["requirement"])
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        (version,) = (specifier.version for specifier in requirement.specifier)
        purl = PackageURL("pypi", None, requirement.name, version)
        yield Component(name=requirement.name, version=version, purl=purl, bom_ref=str(purl))


def bill_name(reference: str) -> str:
    """The file name of the bill of materials of an image."""
    return f"{reference.rpartition(':')[2]}.cdx.json"
