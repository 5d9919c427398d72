"""Accepts a batch by its name."""

from __future__ import annotations

from healthpredict.config import Settings
from healthpredict.operations.accept_batch import AcceptedBatch, accept_batch
from healthpredict.operations.arrivals import find_batch
from healthpredict.operations.installation import Installation


def accept(settings: Settings, name: str) -> AcceptedBatch:
    installation = Installation(settings)
    return accept_batch(installation, find_batch(installation, name))
