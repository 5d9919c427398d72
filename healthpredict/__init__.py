"""Predicts 30-day readmission of patients with diabetes and keeps that prediction good by itself.

`load_bundle`, `predict` and `explain` are a library for your own programs: see `healthpredict.library`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from healthpredict.library import explain, load_bundle, predict

__all__ = ["explain", "load_bundle", "predict"]


def __getattr__(name: str) -> Any:
    """Import the library when it is first used: commands and the API do without it."""
    if name not in __all__:
        raise AttributeError(f"module 'healthpredict' has no attribute {name!r}")
    from healthpredict import library

    return getattr(library, name)
