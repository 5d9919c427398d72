"""How a csv is written: encoding, delimiter, header and quotes. Every line is looked at before any is read.

Arrow reads the values. It cannot say in which line a quote was opened, so this module checks the form of each line.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain
from typing import Final, Literal

from healthpredict.data.columns import fitting_values, is_cut_off, known_names
from healthpredict.data.unpack import Opener
from healthpredict.errors import BatchRefused

_DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_QUOTE: Final = '"'
_SEP_LINE: Final = re.compile(r'"?sep=(?P<delimiter>.)"?', re.IGNORECASE)
_BYTE_ORDER_MARKS: Final = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""In this order: the mark of UTF-32 begins with that of UTF-16."""
_LINE_ENDINGS: Final = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}
_LONGEST_LINE: Final = 1_000_000
"""Characters. A row of encounters has about 190."""
_START_BYTES: Final = 4096
Extra = Literal["nothing", "a trailing delimiter", "row names"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a csv is written.

    Attributes:
        encoding: name of the codec.
        delimiter: one character.
        header: names of the columns.
        header_line: number of its line, from 1.
        rows: after the header; blank lines do not count.
        quoted: whether any line has a quote.
        extra: what each row has beyond the header.
        read_as: all of it, for people.
        notices: what was unusual, in sentences.
    """

    encoding: str
    delimiter: str
    header: tuple[str, ...]
    header_line: int
    rows: int
    quoted: bool
    extra: Extra
    read_as: str
    notices: tuple[str, ...]


def detect_dialect(
    opener: Opener, name: str, used: frozenset[str], check_header: Callable[[Sequence[str]], object]
) -> Dialect:
    """Find out how a csv is written, and check each of its lines.

    Args:
        opener: of the plain content.
        name: of the file, for messages.
        used: names of columns, in small letters, whose values have no line break: one there is a quote that was not closed.
        check_header: raises if the columns are not the wanted ones, before any row is looked at.

    Raises:
        BatchRefused: it is empty or no csv, or a line cannot be read; the message has the number of the line.
    """
    encoding = _encoding(opener, name)
    try:
        return _scan(opener, encoding, name, used, check_header)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise BatchRefused(name, f"it is not valid {encoding.upper()}; deliver it as UTF-8") from error
        return _scan(opener, "latin-1", name, used, check_header)


def _encoding(opener: Opener, name: str) -> str:
    with opener() as file:
        start = file.read(_START_BYTES)
    if not start:
        raise BatchRefused(name, "it is empty (0 bytes); deliver it again")
    marked = next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    if marked is not None:
        return marked
    # In UTF-16 every second byte of plain text is zero.
    if b"\0" in start:
        even, odd = start[::2].count(0), start[1::2].count(0)
        if max(even, odd) < len(start) // 4:
            raise BatchRefused(name, "it is a binary file, neither csv nor Parquet; deliver it as csv")
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8"


class _Lines:
    """The lines of a text, with the number of the last one."""

    def __init__(self, text: TextIOWrapper, name: str) -> None:
        self._text = text
        self._name = name
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(_LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == _LONGEST_LINE:
            raise BatchRefused(
                self._name, f"line {self.number} has {_LONGEST_LINE:,} characters or more; it is no table"
            )
        return line

    def next_filled(self) -> str | None:
        """The next line that is not blank, or None."""
        return next((line for line in self if line.strip()), None)


def _scan(
    opener: Opener, encoding: str, name: str, used: frozenset[str], check_header: Callable[[Sequence[str]], object]
) -> Dialect:
    with TextIOWrapper(opener(), encoding=encoding) as text:  # reads CR, LF and CRLF as line ends
        lines = _Lines(text, name)
        first = lines.next_filled()
        if first is None:
            raise BatchRefused(name, "it is empty, there are only blank lines; deliver it again")
        separator = _SEP_LINE.fullmatch(first.strip("\r\n"))
        line = lines.next_filled() if separator else first
        delimiters = dict.fromkeys([*(separator["delimiter"] if separator else ""), *_DELIMITERS])
        delimiter, header = _header(line or "", list(delimiters), lines.number, name)
        check_header(header)
        header_line = lines.number
        rows = _Rows(lines, delimiter, header, name, used)
        for line in lines:
            rows.check(line)
        rows.check_end(line or "")
        endings = text.newlines if isinstance(text.newlines, tuple) else (text.newlines or "\n",)
    return Dialect(
        encoding=encoding,
        delimiter=delimiter,
        header=tuple(rows.header),
        header_line=header_line,
        rows=rows.count,
        quoted=rows.quoted,
        extra=rows.extra,
        read_as=_description(encoding, delimiter, [_LINE_ENDINGS[ending] for ending in endings]),
        notices=_notices(encoding, delimiter, rows.extra, rows.header_is_longer),
    )


def _header(line: str, delimiters: list[str], number: int, name: str) -> tuple[str, list[str]]:
    split = {delimiter: next(csv.reader([line], delimiter=delimiter), []) for delimiter in delimiters}
    delimiter = max(split, key=lambda d: known_names(split[d]))
    if not known_names(split[delimiter]):
        kind = "it looks like HTML; " if line.lstrip().startswith("<") else ""
        raise BatchRefused(
            name, f"{kind}line {number} names no column of the contract; deliver a csv whose first line is its header"
        )
    return delimiter, split[delimiter]


class _Rows:
    """Checks that every row has the same form, and counts them."""

    def __init__(self, lines: _Lines, delimiter: str, header: list[str], name: str, used: frozenset[str]) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self._name = name
        self._used = used
        self.header = header
        self.header_is_longer = False
        self.extra: Extra = "nothing"
        self.count = 0
        self.quoted = _QUOTE in "".join(header)

    def check(self, line: str) -> None:
        """Check the row that begins with a line; a quoted line break makes it take further lines.

        Raises:
            BatchRefused: a quote is opened and not closed, or the number of values differs from the header's.
        """
        # A line of tabs in a file of tabs is a row without values, as spreadsheets write it.
        if not line.strip() and self._delimiter not in line:
            return
        number = self._lines.number
        if _QUOTE in line:
            self.quoted = True
            values = self._quoted_values(line, number)
            found, last = len(values), values[-1]
        else:
            found, last = line.count(self._delimiter) + 1, line.rstrip("\r\n").rpartition(self._delimiter)[2]
        last = last.strip()
        self.count += 1
        if self.count == 1:
            self._decide(line, found, last)
        wanted = len(self.header) + (self.extra != "nothing")
        if found != wanted or (self.extra == "a trailing delimiter" and last):
            how_many = "1 value" if found == 1 else f"{found} values"
            raise BatchRefused(
                self._name,
                f"line {number} has {how_many} where the header has {len(self.header)} columns, as in a truncated file or "
                "under a footer; correct or remove that line",
            )

    def check_end(self, line: str) -> None:
        """Check the last line of the file. Raises: BatchRefused, it has no line end and its last value breaks the contract."""
        value = line.rpartition(self._delimiter)[2]
        if (
            self.count
            and self.extra != "a trailing delimiter"
            and not line.endswith("\n")
            and is_cut_off(self.header[-1], value.strip('"'))
        ):
            raise BatchRefused(
                self._name, f"line {self._lines.number} is cut off, as in a truncated file; deliver it again"
            )

    def _decide(self, line: str, found: int, last: str) -> None:
        """What the first row has beyond the header; every other row must have the same."""
        if found == len(self.header) - 1 and not self.header[-1].strip():
            self.header_is_longer = True
            self.header = self.header[:-1]
        elif found == len(self.header) + 1:
            values = next(csv.reader([line], delimiter=self._delimiter))
            if not last:
                self.extra = "a trailing delimiter"
            elif fitting_values(self.header, values[1:]) > fitting_values(self.header, values):
                self.extra = "row names"

    def _quoted_values(self, line: str, number: int) -> list[str]:
        """The values of a row with quotes. Raises: BatchRefused, a quote is not closed."""
        taken: list[str] = []

        def take() -> Iterator[str]:
            for further in chain([line], self._lines):
                taken.append(further)
                yield further

        try:
            values = next(csv.reader(take(), delimiter=self._delimiter, strict=True))
        except csv.Error:
            values = None
        if values is not None and (len(taken) == 1 or self._may_span(values)):
            return values
        # The last line with an odd number of quotes outside a quoted value opened the one that is not closed.
        opened, inside = number, False
        for further_number, further in enumerate(taken, start=number):
            if further.count(_QUOTE) % 2:
                inside = not inside
                opened = further_number if inside else opened
        raise BatchRefused(
            self._name,
            f"line {opened}: a quote is opened and never closed on its line (or closed inside a value); correct that line",
        )

    def _may_span(self, values: list[str]) -> bool:
        """Whether the line breaks in a row are those of free text, and not rows that a quote swallowed."""
        shift = self.extra == "row names"
        for position, value in enumerate(values):
            if "\n" not in value and "\r" not in value:
                continue
            column = self.header[position - shift] if 0 <= position - shift < len(self.header) else ""
            swallowed = any(part.count(self._delimiter) >= len(self.header) - 1 for part in value.splitlines())
            if column.strip().lower() in self._used or swallowed:
                return False
        return True


def _description(encoding: str, delimiter: str, line_endings: list[str]) -> str:
    return f"csv, {_delimiter_name(delimiter)}-separated, {_label(encoding)}, {'/'.join(line_endings)} line endings"


def _notices(encoding: str, delimiter: str, extra: Extra, header_is_longer: bool) -> tuple[str, ...]:
    notices = []
    if delimiter != ",":
        notices.append(f"Values are separated by a {_delimiter_name(delimiter)}.")
    if encoding not in ("utf-8", "utf-8-sig"):
        notices.append(f"The file was read as {_label(encoding)}.")
    if extra == "a trailing delimiter":
        notices.append("Each row, but not the header, ends with a trailing delimiter, which was left out.")
    elif extra == "row names":
        notices.append("The first value of each row, without a name in the header (an index), was left out.")
    if header_is_longer:
        notices.append("The header ends with a trailing delimiter, which was left out.")
    return tuple(notices)


def _delimiter_name(delimiter: str) -> str:
    return _DELIMITERS.get(delimiter, repr(delimiter))


def _label(encoding: str) -> str:
    return {"utf-8-sig": "UTF-8 with a byte order mark", "latin-1": "Latin-1"}.get(encoding, encoding.upper())
