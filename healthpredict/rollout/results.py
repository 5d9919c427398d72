"""What a rollout, or a look at what serves, came to. Only `healthpredict.operations.record_rollout` acts on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InService:
    """A version serves, verified.

    Attributes:
        version: of the registry.
        image: by digest; None where there is none.
        bundle_digest: of its bundle.
        url: where it answers; None where nothing serves and only the alias names a version.
        problem: always None.
    """

    version: int
    image: str | None
    bundle_digest: str
    url: str | None
    problem: None = None


@dataclass(frozen=True, slots=True)
class PutBack:
    """The version that was asked for does not serve; what served before does again, verified.

    Attributes:
        version: that serves; None if nothing served before either.
        image: of it, by digest; None where there is none.
        bundle_digest: of its bundle; None if nothing serves.
        url: where it answers; None if nothing does.
        problem: why the other version does not serve.
    """

    version: int | None
    image: str | None
    bundle_digest: str | None
    url: str | None
    problem: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It could not be determined what serves.

    Attributes:
        version: that was asked for, or None if nobody asked for one.
        image: that was asked for, by digest; None where there is none.
        problem: why it cannot be determined.
    """

    version: int | None
    image: str | None
    problem: str


RolloutResult = InService | PutBack | Unknown
