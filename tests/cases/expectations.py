"""Compare what was observed with what a case expects. The README beside the cases explains the fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_USED = ("accepted", "rejected_rows")


@dataclass
class Observed:
    """What running a case led to.

    Attributes:
        exit: exit code or HTTP status.
        text: all messages: the output and the response body.
        output: what the command printed.
        reasons: of the rejected rows.
        rows, predicted, rejected, at_risk: numbers of rows; None if the command does not report them.
        nothing_left: whether nothing was written.
        facts: field of `expect` that this module does not check itself -> whether it holds.
        ids: identifiers in the input, which no message may contain.
        file: name of the delivered file, which a refusal must contain; None if it need not.
    """

    exit: int
    text: str
    output: str
    reasons: list[str] = field(default_factory=list)
    rows: int | None = None
    predicted: int | None = None
    rejected: int | None = None
    at_risk: int | None = None
    nothing_left: bool = True
    facts: dict[str, bool] = field(default_factory=dict)
    ids: frozenset[str] = frozenset()
    file: str | None = None


def differences(expect: dict[str, Any], seen: Observed, *, http: bool = False) -> list[str]:
    """Return the differences from the expectation, in sentences; none if the case passes."""
    return [*_always(seen), *_outcome(expect, seen, http=http), *_numbers(expect, seen), *_words(expect, seen)]


def _always(seen: Observed) -> Iterator[str]:
    if "Traceback" in seen.output:
        yield "there is a traceback"
    if seen.ids & set(re.findall(r"[0-9]{7,}", seen.output)):
        yield "a message contains an identifier of the input"


def _outcome(expect: dict[str, Any], seen: Observed, *, http: bool) -> Iterator[str]:
    outcomes = expect.get("outcome", [])
    outcomes = [outcomes] if isinstance(outcomes, str) else outcomes
    wanted = expect.get("status" if http else "exit")
    used = 200 if http else 0
    problems = []
    for outcome in outcomes or ["accepted"]:
        codes = wanted if isinstance(wanted, list) else [wanted]
        if outcome in _USED:
            fits = seen.exit in (codes if wanted is not None else [used])
            problems.append(None if fits else f"ended with {seen.exit}")
        else:
            fits = seen.exit in codes if wanted is not None else seen.exit not in (0, 1, 124, 200, 500)
            left = "" if seen.nothing_left else ", and something was written"
            named = "" if seen.file is None or seen.file in seen.output else f", and {seen.file} is not named"
            problems.append(None if fits and not left and not named else f"ended with {seen.exit}{left}{named}")
    if all(problems):
        yield " or ".join(str(problem) for problem in problems)


def _numbers(expect: dict[str, Any], seen: Observed) -> Iterator[str]:
    for name in ("rows", "predicted", "rejected", "at_risk"):
        if name in expect and expect[name] != getattr(seen, name):
            yield f"{name} is {getattr(seen, name)}"
    if None not in (seen.rows, seen.predicted, seen.rejected) and seen.rows != seen.predicted + seen.rejected:
        yield f"{seen.rows} rows, but {seen.predicted} predicted and {seen.rejected} rejected"
    if expect.get("no_result") and not seen.nothing_left:
        yield "a result or a side file is left"
    for name in set(expect) & set(_FACTS):
        if not seen.facts.get(name, False):
            yield f"{name} does not hold"


_FACTS = (
    "same_as", "source_unchanged", "still", "result_format", "unique_ids", "logged_as", "problems", "plants", "more_of",
    "one_word",
)  # fmt: skip


def _words(expect: dict[str, Any], seen: Observed) -> Iterator[str]:
    reasons = " ".join(seen.reasons)
    text = f"{seen.text} {reasons}" if expect.get("outcome") == "rejected_rows" else seen.text
    yield from (f"no message names {entry}" for entry in missing_words(expect.get("message_names", []), text))
    yield from (f"no reason names {entry}" for entry in missing_words(expect.get("reason_names", []), reasons))


def missing_words(entries: list[Any], text: str) -> list[str]:
    """Return the entries that the text does not contain. Of an inner list, the text must contain one."""
    return [
        str(entry)
        for entry in entries
        if not any(_names(text, str(word)) for word in (entry if isinstance(entry, list) else [entry]))
    ]


def _names(text: str, word: str) -> bool:
    if word.isdigit():
        return re.search(rf"(?<![0-9.]){word}(?![0-9])", text) is not None
    return word.lower() in text.lower()
