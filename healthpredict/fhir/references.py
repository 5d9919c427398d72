"""Read references between resources."""

from __future__ import annotations

from functools import lru_cache

from healthpredict.fhir.resources import Reference


@lru_cache(maxsize=16384)  # resources of one patient name the same few others
def target(reference: Reference | None) -> str | None:
    """Return the key of what a reference leads to, or None if it names nothing.

    The key is the id of the resource, whatever server or type is named before it, or `system|value` of its identifier.
    """
    if reference is None:
        return None
    if reference.reference:
        return _key(reference.reference)
    identifier = reference.identifier
    return f"{identifier.system or ''}|{identifier.value}" if identifier and identifier.value else None


def _key(text: str) -> str:
    """Read `Patient/7`, `https://server/fhir/Patient/7/_history/2`, `urn:uuid:7`, `#7` or `Patient?identifier=system|7`."""
    head, search, identifier = text.partition("?identifier=")
    if search:
        return identifier
    if text.startswith("urn:"):
        return text.rpartition(":")[2]
    return head.split("/_history/")[0].rpartition("/")[2].lstrip("#")
