"""The encoding of a text file, as far as its first bytes show it."""

from __future__ import annotations

import codecs
from typing import Final

from healthpredict.data.unpack import Opener
from healthpredict.errors import BatchRefused

_BYTE_ORDER_MARKS: Final = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""In this order: the mark of UTF-32 begins with that of UTF-16."""
_START_BYTES: Final = 4096


def detect_encoding(opener: Opener, name: str) -> str:
    """Detect the encoding from a byte order mark or from zero bytes; UTF-8 if there are none.

    Args:
        opener: of the plain content.
        name: of the file, for messages.

    Raises:
        BatchRefused: the file is empty or binary.
    """
    with opener() as file:
        start = file.read(_START_BYTES)
    if not start:
        raise BatchRefused(name, "it is empty (0 bytes); deliver it again")
    marked = next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    if marked is not None:
        return marked
    # In UTF-16, every second byte of plain text is zero.
    if b"\0" in start:
        even, odd = start[::2].count(0), start[1::2].count(0)
        if max(even, odd) < len(start) // 4:
            raise BatchRefused(name, "it is a binary file, neither csv nor Parquet; deliver it as csv")
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8"
