"""How much one caller may ask for, so that the others are still answered."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt


class Limits(BaseModel):
    """The limits of a service.

    Attributes:
        body_bytes: of one encounter, which takes about 1,100.
        batch_body_bytes: of a batch; 10,000 encounters take 11 million.
        outcomes_body_bytes: of outcomes; 10,000 take half a million.
        batch_rows: encounters in a batch, and outcomes in a request.
        requests: answered at the same time. Each takes well under a millisecond, so more would only wait.
        batches: answered at the same time. Each holds its whole body in memory.
        head_seconds: for the head of a request, and for a response that the client does not read.
        body_seconds: from the headers of a request to the end of its body. A body that is too long may take as long again.
        batch_seconds: from the body of a batch to its response. A batch that takes longer fails at the end of its current step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes: PositiveInt = 64 * 1024
    batch_body_bytes: PositiveInt = 32 * 1024 * 1024
    outcomes_body_bytes: PositiveInt = 2 * 1024 * 1024
    batch_rows: PositiveInt = 10_000
    requests: PositiveInt = 512
    batches: PositiveInt = 2
    head_seconds: PositiveFloat = 10.0
    body_seconds: PositiveFloat = 10.0
    batch_seconds: PositiveFloat = 30.0
