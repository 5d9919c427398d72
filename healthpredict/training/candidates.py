"""Candidates of a search, and what a search found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from healthpredict.training.families import FAMILIES
from healthpredict.training.params import FamilyName, SearchParams


class Candidate(BaseModel):
    """A family with its parameters, and its AUROC on the validation side. The registry contains it: never rename a field.

    Attributes:
        family: model family.
        params: for `Family.fit`.
        validation_auroc: of the last report.
        steps: number of reports; fewer than `families.STEPS` if the trial was stopped early, 0 if there was no time for it.
    """

    model_config = ConfigDict(frozen=True)

    family: FamilyName
    params: dict[str, Any]
    validation_auroc: float
    steps: int

    @property
    def as_point(self) -> dict[str, Any]:
        """The candidate as a point of the search space."""
        return {"family": self.family} | {f"{self.family}.{key}": value for key, value in self.params.items()}


class SearchResult(BaseModel):
    """What a search found.

    Attributes:
        candidates: the best of each family, best first.
        finalists: what `fit_best` compares on all training patients: the preferred family's first parameters; the champion's, in a
            retraining; and the best candidate, if it is better than these on the validation side by more than chance. Parameters
            whose trial failed are left out.
        trials: number of trials that reported at least once.
        stopped_early: number of trials that ASHA stopped.
    """

    model_config = ConfigDict(frozen=True)

    candidates: tuple[Candidate, ...]
    finalists: tuple[Candidate, ...]
    trials: int
    stopped_early: int

    @property
    def best(self) -> Candidate:
        """The best candidate."""
        return self.candidates[0]

    def led_by(self, chosen: Candidate) -> SearchResult:
        """Return the same result with this candidate first, as the only one of its family."""
        others = (c for c in self.candidates if c.family != chosen.family)
        return self.model_copy(update={"candidates": (chosen, *others)})


def without_search(known: Sequence[Candidate], params: SearchParams) -> SearchResult:
    """Return what a retraining fits without a search: the preferred family's first parameters and the champion's.

    Args:
        known: candidates of the champion's search, best first; at least one.
        params: with the preferred family.
    """
    finalists = tuple(incumbents_of(known, params))
    return SearchResult(candidates=tuple(known), finalists=finalists, trials=0, stopped_early=0)


def incumbents_of(known: Sequence[Candidate], params: SearchParams) -> list[Candidate]:
    """Return what a search must beat: the preferred family's first parameters, and the champion's if there is one."""
    first = first_candidate(params.families[0])
    return [first, *(c.model_copy(update={"steps": 0}) for c in known[:1] if c.as_point != first.as_point)]


def first_candidate(family: FamilyName) -> Candidate:
    """Return a family's first parameters."""
    return Candidate(family=family, params=dict(FAMILIES[family].first), validation_auroc=0, steps=0)
