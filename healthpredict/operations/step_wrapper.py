"""What wraps an operation, for instance into a Prefect task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

Operation = TypeVar("Operation", bound=Callable[..., Any])


class StepWrapper(Protocol):
    """Wraps an operation without changing its signature."""

    def __call__(self, operation: Operation, /) -> Operation:
        """Return the wrapped operation."""


def unwrapped(operation: Operation) -> Operation:
    """Return the operation itself."""
    return operation
