"""Compare what was observed with what a case expects. The README beside the cases explains the fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.cases.files import identifiers_in

_USED = ("accepted", "rejected_rows")
_FACTS = frozenset(
    (
        "same_as",
        "source_unchanged",
        "still",
        "result_format",
        "unique_ids",
        "logged_as",
        "problems",
        "plants",
        "more_of",
        "one_word",
    )
)
_EXPECT = _FACTS | frozenset(
    (
        "outcome",
        "exit",
        "status",
        "rows",
        "predicted",
        "rejected",
        "at_risk",
        "by_position",
        "message_names",
        "reason_names",
        "no_result",
    )
)
_DELIVER = frozenset({"deliver", "as", "settled", "marker"})
_RUN = frozenset({"run", "meanwhile", "exit", "batches", "order", "outcomes", "message_names"})
_BATCH = frozenset({"state", "at_risk"})


@dataclass
class Observed:
    """What running a case led to.

    Attributes:
        exit: exit code or HTTP status.
        text: all messages: the output and the response body.
        output: what the command printed.
        reasons: of the rejected rows.
        rows, predicted, rejected, at_risk: numbers of rows; None if the command does not report them.
        unusable: number of rows that were rejected for another reason than that nobody is at risk; None if not reported.
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
    unusable: int | None = None
    nothing_left: bool = True
    facts: dict[str, bool] = field(default_factory=dict)
    ids: frozenset[str] = frozenset()
    file: str | None = None


def unknown_keys(case: dict[str, Any]) -> list[str]:
    """Return a sentence for each key in `expect` and `steps` that does not exist: a misspelt one would check nothing."""
    places = [("expect", case.get("expect", {}), _EXPECT)]
    for number, step in enumerate(case.get("steps", []), start=1):
        places.append((f"step {number}", step, _DELIVER if "deliver" in step else _RUN))
        places.append((f"step {number}, meanwhile", step.get("meanwhile", {}), _DELIVER))
        places += [(f"step {number}, {name}", wanted, _BATCH) for name, wanted in step.get("batches", {}).items()]
    return [f"{place} has the unknown key {key!r}" for place, keys, known in places for key in keys if key not in known]


def differences(expect: dict[str, Any], seen: Observed, *, http: bool = False) -> list[str]:
    """Return the differences from the expectation, in sentences; none if the case passes."""
    return [*_always(seen), *_outcome(expect, seen, http=http), *_numbers(expect, seen), *_words(expect, seen)]


def _always(seen: Observed) -> Iterator[str]:
    if "Traceback" in seen.output:
        yield "there is a traceback"
    if seen.ids & identifiers_in(" ".join([seen.output, *seen.reasons])):
        yield "a message contains an identifier of the input"


def _outcome(expect: dict[str, Any], seen: Observed, *, http: bool) -> Iterator[str]:
    outcomes = _outcomes(expect)
    wanted = expect.get("status" if http else "exit")
    used = 200 if http else 0
    problems = []
    for outcome in outcomes or ["accepted"]:
        codes = wanted if isinstance(wanted, list) else [wanted]
        if outcome in _USED:
            fits = seen.exit in (codes if wanted is not None else [used])
            problems.append(_wrong_rows(outcome, expect, seen) if fits else f"ended with {seen.exit}")
        else:
            fits = seen.exit in codes if wanted is not None else seen.exit not in (0, 1, 124, 200, 500)
            left = "" if seen.nothing_left else ", and something was written"
            named = "" if seen.file is None or seen.file in seen.output else f", and {seen.file} is not named"
            problems.append(None if fits and not left and not named else f"ended with {seen.exit}{left}{named}")
    if all(problems):
        yield " or ".join(str(problem) for problem in problems)


def _outcomes(expect: dict[str, Any]) -> list[str]:
    """The possible outcomes. Raises: ValueError, one of them does not exist."""
    given = expect.get("outcome", [])
    outcomes = [given] if isinstance(given, str) else given
    if unknown := set(outcomes) - {*_USED, "refused"}:
        raise ValueError(f"there is no outcome {', '.join(sorted(unknown))}")
    return list(outcomes)


def _wrong_rows(outcome: str, expect: dict[str, Any], seen: Observed) -> str | None:
    """Compare the number of unusable rows with the outcome. Returns: the difference; None if there is none."""
    if seen.unusable is None:
        return None
    # If the case gives the number of rejected rows, `_numbers` compares it. Those that are not at risk may be among them.
    if outcome == "rejected_rows" and not seen.unusable and not expect.get("rejected"):
        return "no row was rejected"
    if outcome == "accepted" and seen.unusable > expect.get("rejected", 0):
        return f"{seen.unusable} rows were rejected"
    return None


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


def _words(expect: dict[str, Any], seen: Observed) -> Iterator[str]:
    reasons = " ".join(seen.reasons)
    text = f"{seen.text} {reasons}" if "rejected_rows" in _outcomes(expect) else seen.text
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
