"""Decode what a caller sent into structs: plain JSON objects, JSON text, structs, and Bundles of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from healthpredict.fhir.resources import NOT_READ, TYPES, AnyResource, Bundle

Sent = Mapping[str, Any] | AnyResource | Bundle | bytes | msgspec.Raw
_DEEPEST: Final = 16
_URN: Final = "urn:uuid:"
_read_typed: Final = msgspec.json.Decoder(AnyResource | Bundle).decode


def structs_of(resources: Iterable[Sent], left_out: Counter[str], depth: int = 0) -> list[AnyResource]:
    """Return every resource that is needed, also those of Bundles.

    Args:
        resources: what was sent.
        left_out: counts the others as `Type: reason`.
        depth: number of Bundles around them.
    """
    found: list[AnyResource] = []
    for sent in resources:
        resource = _decode(sent, left_out) if isinstance(sent, bytes | msgspec.Raw) else sent
        if isinstance(resource, Bundle):
            found += _entries(resource)
        elif isinstance(resource, Struct):
            found.append(resource)
        elif resource is not None:
            found += _structs_of_object(resource, left_out, depth)
    return found


def _structs_of_object(resource: Mapping[str, Any], left_out: Counter[str], depth: int) -> list[AnyResource]:
    """Convert a plain JSON object, which may be a Bundle."""
    kind = resource.get("resourceType")
    if kind == "Bundle":
        if depth >= _DEEPEST:
            left_out["Bundle: is nested too deeply"] += 1
            return []
        entries = resource.get("entry")
        inner = (
            _named(entry) for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, Mapping)
        )
        return structs_of([item for item in inner if item is not None], left_out, depth + 1)
    struct = TYPES.get(kind) if isinstance(kind, str) else None
    if struct is None:
        left_out[f"{kind if isinstance(kind, str) else 'no resourceType'}: {NOT_READ}"] += 1
        return []
    try:
        return [msgspec.convert(resource, struct)]
    except msgspec.ValidationError as error:
        left_out[f"{kind}: malformed ({error})"] += 1
        return []


def _decode(sent: bytes | msgspec.Raw, left_out: Counter[str]) -> AnyResource | Bundle | Mapping[str, Any] | None:
    """Decode JSON into structs, or into plain values if a resource is malformed or of a type that is not needed."""
    try:
        try:
            typed: AnyResource | Bundle = _read_typed(sent)
            return typed
        except msgspec.ValidationError:
            plain = msgspec.json.decode(sent)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        left_out["no resource: the JSON is malformed"] += 1
        return None
    if isinstance(plain, dict):
        found: Mapping[str, Any] = plain
        return found
    if plain is not None:
        left_out["no resource: the JSON is no object"] += 1
    return None


def _entries(bundle: Bundle) -> list[AnyResource]:
    """Return the resources of a Bundle, with the ids by which other entries refer to them."""
    found = []
    for entry in bundle.entry:
        resource, url = entry.resource, entry.full_url
        if resource is None:
            continue
        if url is not None and (name := _id_in(url)) is not None and resource.id != name:
            resource = msgspec.structs.replace(resource, id=name)
        found.append(resource)
    return found


def _named(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the resource of an entry of a Bundle, with the id by which other entries refer to it."""
    resource, url = entry.get("resource"), entry.get("fullUrl")
    if not isinstance(resource, Mapping):
        return None
    if isinstance(url, str) and (name := _id_in(url)) is not None and resource.get("id") != name:
        return {**resource, "id": name}
    return resource


def _id_in(url: str) -> str | None:
    """Return the id by which other entries refer to an entry with this `fullUrl`, or None if they use that of its resource."""
    return url[len(_URN) :] if url.startswith(_URN) else None
