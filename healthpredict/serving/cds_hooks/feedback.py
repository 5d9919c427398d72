"""Feedback on cards (CDS Hooks 2.0, "Feedback")."""

from __future__ import annotations

import re
import time
import uuid
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from healthpredict.cds_hooks_params import CdsHooksParams
from healthpredict.data.contract import INTERVENTION_WORD
from healthpredict.prediction_log.lines import FeedbackLine
from healthpredict.serving.cds_hooks.card import suggestion_id
from healthpredict.serving.problems import ProblemError

_MAX_COMMENT: Final = 1000
"""Characters of a comment that are kept."""


class _Accepted(msgspec.Struct):
    id: str


class _Coding(msgspec.Struct):
    code: str
    system: str | None = None


class _OverrideReason(msgspec.Struct, rename="camel"):
    reason: _Coding | None = None
    user_comment: str | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    card: str
    outcome: str
    outcome_timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    accepted_suggestions: list[_Accepted] = []
    override_reason: _OverrideReason | None = None


class FeedbackBody(msgspec.Struct):
    """The body of a request."""

    feedback: list[_Feedback]


NOT_LISTED: Final = "not-listed"
"""Logged for a suggestion that is not in the parameters (any more), and for a reason that is no code."""
_is_code: Final = re.compile(INTERVENTION_WORD).fullmatch
_decoder: Final = msgspec.json.Decoder(FeedbackBody)


def read_feedback(body: bytes, params: CdsHooksParams) -> list[FeedbackLine]:
    """Decode a request with feedback.

    Args:
        body: of the HTTP request.
        params: with the suggestions of the cards.

    Raises:
        ProblemError: it is not JSON (400) or not feedback (422). The message repeats no value.
    """
    try:
        sent = _decoder.decode(body).feedback
    except msgspec.ValidationError as error:
        raise ProblemError(422, f"The body is not CDS Hooks feedback: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ProblemError(400, "The body is not JSON.") from None
    return [_line(f"feedback[{i}]", each, params) for i, each in enumerate(sent)]


def _line(place: str, feedback: _Feedback, params: CdsHooksParams) -> FeedbackLine:
    try:
        card = uuid.UUID(feedback.card)
    except ValueError:
        raise ProblemError(422, f"{place}.card is not the uuid of a card.") from None
    if feedback.outcome not in ("accepted", "overridden"):
        raise ProblemError(422, f"{place}.outcome is neither accepted nor overridden.")
    if feedback.outcome == "accepted" and not feedback.accepted_suggestions:
        raise ProblemError(422, f"{place}.acceptedSuggestions is missing. Name the suggestions that were accepted.")
    try:
        acted_at = feedback.outcome_timestamp.astimezone(UTC)
    except OverflowError:
        raise ProblemError(422, f"{place}.outcomeTimestamp is not in the years 1 to 9999 of UTC.") from None
    codes = {suggestion_id(card, suggestion): suggestion.code for suggestion in params.suggestions}
    override = feedback.override_reason or _OverrideReason()
    return FeedbackLine(
        time=time.time_ns() // 1000,
        request_id=card.hex,
        outcome=feedback.outcome,
        acted_at=int(acted_at.timestamp() * 1e6),
        # Never a text that the EHR made up, because it may name a patient.
        accepted=[codes.get(accepted.id, NOT_LISTED) for accepted in feedback.accepted_suggestions],
        reason=None
        if override.reason is None
        else override.reason.code
        if _is_code(override.reason.code)
        else NOT_LISTED,
        reason_system=override.reason.system if override.reason else None,
        comment=override.user_comment[:_MAX_COMMENT] if override.user_comment else None,
    )
