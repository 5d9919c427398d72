"""Detect how a csv is written (encoding, delimiter, header, quotes) and check the form of every line.

Arrow reads the values, but its errors do not say which line opens a quote that is never closed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain
from typing import Final, Literal

from healthpredict.data.columns import breaks_contract, column_of, fitting_values, known_names
from healthpredict.data.encoding import detect_encoding
from healthpredict.data.unpack import Opener
from healthpredict.errors import BatchRefused

_DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_QUOTE: Final = '"'
_SEP_LINE: Final = re.compile(r'"?sep=(?P<delimiter>.)"?', re.IGNORECASE)
_LINE_ENDINGS: Final = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}
_LONGEST_LINE: Final = 1_000_000
"""Characters. A row of encounters has about 190."""
Extra = Literal["nothing", "a trailing delimiter", "row names"]
"""What each row has beyond the columns of the header."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a csv is written.

    Attributes:
        encoding: name of the codec.
        delimiter: one character.
        header: names of the columns.
        header_line: number of its line, from 1.
        rows: number of rows after the header, not counting blank lines.
        quoted: whether any line has a quote.
        extra: see `Extra`.
        read_as: a description for people.
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


def detect_dialect(opener: Opener, name: str, check_header: Callable[[Sequence[str]], object]) -> Dialect:
    """Detect how a csv is written, and check each of its lines.

    Args:
        opener: of the plain content.
        name: of the file, for messages.
        check_header: called with the header before any row is checked; raises if a column is missing.

    Raises:
        BatchRefused: the file is empty or not a csv, or a line cannot be read; the message contains the number of the line.
    """
    encoding = detect_encoding(opener, name)
    try:
        return _scan(opener, encoding, name, check_header)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise BatchRefused(name, f"it is not valid {encoding.upper()}; deliver it as UTF-8") from error
        return _scan(opener, "latin-1", name, check_header)


class _Lines:
    """Iterates over the lines of a text and knows the number of the last one."""

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
                self._name, f"line {self.number} has {_LONGEST_LINE:,} characters or more, so the file is not a table"
            )
        return line

    def next_filled(self) -> str | None:
        """Return the next line that is not blank, or None at the end."""
        return next((line for line in self if line.strip()), None)


def _scan(opener: Opener, encoding: str, name: str, check_header: Callable[[Sequence[str]], object]) -> Dialect:
    with TextIOWrapper(opener(), encoding=encoding) as text:  # translates CR and CRLF to LF
        lines = _Lines(text, name)
        first = lines.next_filled()
        if first is None:
            raise BatchRefused(name, "it is empty: it contains only blank lines; deliver it again")
        separator = _SEP_LINE.fullmatch(first.strip("\n"))
        line = lines.next_filled() if separator else first
        delimiters = dict.fromkeys([*(separator["delimiter"] if separator else ""), *_DELIMITERS])
        delimiter, header = _header(line or "", list(delimiters), lines.number, name)
        check_header(header)
        header_line = lines.number
        rows = _Rows(lines, delimiter, header, name)
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

    def __init__(self, lines: _Lines, delimiter: str, header: list[str], name: str) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self._name = name
        self.header = header
        self.header_is_longer = False
        self.extra: Extra = "nothing"
        self.count = 0
        self.quoted = _QUOTE in "".join(header)

    def check(self, line: str) -> None:
        """Check the row that begins with this line; further lines are read if a quoted value contains line breaks.

        Raises:
            BatchRefused: a quote is opened and not closed, or the number of values differs from the header's.
        """
        # In a tab-separated file, a line of tabs is a row of empty values; spreadsheets write such rows.
        if not line.strip() and self._delimiter not in line:
            return
        number = self._lines.number
        if _QUOTE in line:
            self.quoted = True
            values = self._quoted_values(line, number)
            found, last = len(values), values[-1]
        else:
            found, last = line.count(self._delimiter) + 1, line.rstrip("\n").rpartition(self._delimiter)[2]
        last = last.strip()
        self.count += 1
        if self.count == 1:
            self._set_extra(line, found, last)
        wanted = len(self.header) + (self.extra != "nothing")
        if found != wanted or (self.extra == "a trailing delimiter" and last):
            how_many = "1 value" if found == 1 else f"{found} values"
            raise BatchRefused(
                self._name,
                f"line {number} has {how_many} where the header has {len(self.header)} columns, as in a truncated file or "
                "under a footer; correct or remove that line",
            )

    def check_end(self, line: str) -> None:
        """Check the last line of the file.

        Raises:
            BatchRefused: the line has no line ending and its last value breaks the contract.
        """
        value = line.rpartition(self._delimiter)[2]
        if (
            self.count
            and self.extra != "a trailing delimiter"
            and not line.endswith("\n")
            and breaks_contract(self.header[-1], value.strip('"'))
        ):
            raise BatchRefused(
                self._name, f"line {self._lines.number} is cut off, as in a truncated file; deliver it again"
            )

    def _set_extra(self, line: str, found: int, last: str) -> None:
        """Compare the first row with the header: `extra` must then hold for every row."""
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
        """Split a row with quotes into its values. Raises: BatchRefused, a quote is not closed."""
        read: list[str] = []

        def read_lines() -> Iterator[str]:
            for each in chain([line], self._lines):
                read.append(each)
                yield each

        try:
            values = next(csv.reader(read_lines(), delimiter=self._delimiter, strict=True))
        except csv.Error:
            values = None
        if values is not None and (len(read) == 1 or self._may_span(values)):
            return values
        # An odd number of quotes opens or closes a quoted value. The last line that opens one is at fault.
        opened, inside = number, False
        for each_number, each in enumerate(read, start=number):
            if each.count(_QUOTE) % 2:
                inside = not inside
                opened = each_number if inside else opened
        raise BatchRefused(
            self._name,
            f"line {opened}: a quote is opened and never closed on its line (or closed inside a value); correct that line",
        )

    def _may_span(self, values: list[str]) -> bool:
        """Whether the line breaks in these values belong to free text. Otherwise an open quote has swallowed whole rows."""
        shift = self.extra == "row names"
        for position, value in enumerate(values):
            if "\n" not in value:
                continue
            column = self.header[position - shift] if 0 <= position - shift < len(self.header) else ""
            swallowed = any(part.count(self._delimiter) >= len(self.header) - 1 for part in value.splitlines())
            # Values of the contract contain no line break: a quote was not closed.
            if column_of(column) is not None or swallowed:
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
        notices.append("Each row, but not the header, has a trailing delimiter, which was left out.")
    elif extra == "row names":
        notices.append("The first value of each row has no name in the header (an index) and was left out.")
    if header_is_longer:
        notices.append("The header has a trailing delimiter, which was left out.")
    return tuple(notices)


def _delimiter_name(delimiter: str) -> str:
    return _DELIMITERS.get(delimiter, repr(delimiter))


def _label(encoding: str) -> str:
    return {"utf-8-sig": "UTF-8 with a byte order mark", "latin-1": "Latin-1"}.get(encoding, encoding.upper())
