"""Keep the resources of many persons in temporary files, one for each group of persons, so that one group fits into memory."""

from __future__ import annotations

import gc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from healthpredict.fhir.resources import AnyResource

_BUFFER: Final = 1 << 18
_LENGTH: Final = 4
"""Bytes before each resource, which hold its length."""
_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(AnyResource).decode


class Groups:
    """The files of the groups, each written in large pieces."""

    def __init__(self, folder: Path, number: int) -> None:
        self._paths = [_path(folder, group) for group in range(number)]
        self._buffers = [bytearray() for _ in range(number)]

    def __enter__(self) -> Groups:
        return self

    def __exit__(self, *_: object) -> None:
        for group in range(len(self._buffers)):
            self._flush(group)

    def add(self, person: str, resource: AnyResource) -> None:
        """Write a resource to the group of its person."""
        group = zlib.crc32(person.encode()) % len(self._buffers)
        packed = _pack(resource)
        buffer = self._buffers[group]
        buffer += len(packed).to_bytes(_LENGTH)
        buffer += packed
        if len(buffer) > _BUFFER:
            self._flush(group)

    def _flush(self, group: int) -> None:
        with self._paths[group].open("ab") as file:
            file.write(self._buffers[group])
        self._buffers[group].clear()


def _path(folder: Path, group: int) -> Path:
    return folder / f"{group:03d}.msgpack"


def group_bytes(folder: Path, group: int) -> bytes:
    """Return the resources of a group of persons, as they are stored."""
    return _path(folder, group).read_bytes()


def unpack_group(group: bytes) -> Iterator[AnyResource]:
    """Yield the resources of a stored group."""
    data = memoryview(group)
    position = 0
    while position < len(data):
        end = position + _LENGTH + int.from_bytes(data[position : position + _LENGTH])
        yield _unpack(data[position + _LENGTH : end])
        position = end


@contextmanager
def no_cycle_collection() -> Iterator[None]:
    """Pause the collector of reference cycles. Resources form none, and it would traverse those of a group again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
