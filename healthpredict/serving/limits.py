"""Limits of requests, so that one caller cannot block the others."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt


class Limits(BaseModel):
    """The limits of a service.

    Attributes:
        body_bytes: body of one encounter, which takes about 1,100 bytes.
        batch_body_bytes: body of a batch. 10,000 encounters take 11 million bytes.
        outcomes_body_bytes: body with outcomes. 10,000 outcomes take half a million bytes.
        hook_body_bytes: body of a CDS Hooks call. A stay with 300 resources takes 300,000 bytes.
        batch_rows: encounters in a batch, and outcomes in a request.
        requests: requests in flight. Each takes well under a millisecond, so more would only wait.
        batches: batches in flight. Each holds its whole body in memory.
        hooks: CDS Hooks calls in flight. Further calls wait with their bodies unread.
        head_seconds: time for the head of a request, and for a client to read its response.
        body_seconds: time from the head of a request to the end of its body. A body that is too long may take as long again.
        batch_seconds: time from the body of a batch to its response. A batch that takes longer fails after its current step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes: PositiveInt = 64 * 1024
    batch_body_bytes: PositiveInt = 32 * 1024 * 1024
    outcomes_body_bytes: PositiveInt = 2 * 1024 * 1024
    hook_body_bytes: PositiveInt = 16 * 1024 * 1024
    batch_rows: PositiveInt = 10_000
    requests: PositiveInt = 512
    batches: PositiveInt = 2
    hooks: PositiveInt = 16
    head_seconds: PositiveFloat = 10.0
    body_seconds: PositiveFloat = 10.0
    batch_seconds: PositiveFloat = 30.0
