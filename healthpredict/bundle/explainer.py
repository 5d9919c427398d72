"""Explain a risk: exact Shapley values of the model, with numpy alone.

For trees, the values are those of path-dependent TreeSHAP (Lundberg et al. 2020, doi 10.1038/s42256-019-0138-9): at a split on an
unknown feature, both branches are followed, weighted by their shares of the training data. In this game, the worth of a leaf is its
value times one factor for each feature on its path. The factor of a known feature is 1 if it leads to the leaf and otherwise 0;
that of an unknown feature is the share of its branch.

A Shapley value is the integral over t from 0 to 1 of the derivative of the game's multilinear extension (Owen 1972,
doi 10.1287/mnsc.18.5.64). For a product, this is a polynomial in t, which Gauss-Legendre quadrature integrates exactly. So all
leaves of all trees are evaluated at once, without a library for trees.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from healthpredict.evaluation.logistic import SMALLEST_RISK

Scale = Literal["log_odds", "probability"]
"""What the contributions of a model add up to."""
_SMALLEST_SHARE = 1e-30
"""Of the training data at a branch, so small that it changes no contribution."""
_SMALLEST_SUM = 1e-9
"""Of contributions. To divide by a smaller one would amplify rounding errors."""


@dataclass(frozen=True)
class Trees:
    """The leaves of all trees. Column l of each matrix holds the distinct features on the path to leaf l, then fillers.

    Attributes:
        feature: index of the feature, shape (longest path, n_leaves). A filler has an arbitrary feature, no bounds and share 1.
        low: lower bound of the feature on this path, exclusive, float32, same shape.
        high: upper bound of the feature on this path, inclusive, float32, same shape.
        share: share of the training data that follows the path at the splits on this feature, same shape.
        value: of the leaf, shape (n_leaves,).
        tree: number of the leaf's tree, shape (n_leaves,). Leaves of a tree are adjacent.
    """

    feature: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    share: NDArray[np.float64]
    value: NDArray[np.float64]
    tree: NDArray[np.int32]

    def contributions(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Shapley values of an encounter's features; both shapes (n_features,)."""
        value = features[self.feature]
        difference = ((value > self.low) & (value <= self.high)) - self._share
        total = np.zeros_like(difference)
        for point, weight in zip(*self._quadrature, strict=True):
            factors = self._share + point * difference
            total += factors.prod(axis=0) * (weight * self.value) / factors
        by_feature: NDArray[np.float64] = np.bincount(  # type: ignore[assignment]  # integers only without weights
            self._flat_feature, weights=(total * difference).ravel(), minlength=len(features)
        )
        return by_feature

    @property
    def expected(self) -> float:
        """The sum of the trees if no feature is known."""
        return float((self.share.prod(axis=0) * self.value).sum())

    @cached_property
    def _share(self) -> NDArray[np.float64]:
        """`share`, but never 0, because `contributions` divides by it. A leaf that no training data reach stays worth 0."""
        return np.maximum(self.share, _SMALLEST_SHARE)

    @cached_property
    def _flat_feature(self) -> NDArray[np.intp]:
        """`feature` as numpy's `bincount` needs it."""
        return self.feature.ravel().astype(np.intp)

    @cached_property
    def _quadrature(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points and weights on [0, 1]. n points are exact up to degree 2n - 1, which must reach the longest path minus 1."""
        points, weights = np.polynomial.legendre.leggauss(max(1, (len(self.feature) + 1) // 2))
        return (points + 1) / 2, weights / 2


@dataclass(frozen=True)
class Linear:
    """A linear model. Features are taken as independent, and an unknown feature as its mean in the training data.

    Attributes:
        coefficient: shape (n_features,).
        mean: shape (n_features,).
    """

    coefficient: NDArray[np.float64]
    mean: NDArray[np.float64]

    def contributions(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Shapley values of an encounter's features; both shapes (n_features,)."""
        return np.asarray(self.coefficient * (features - self.mean))


@dataclass(frozen=True)
class Explainer:
    """A model in a form that can be explained.

    Attributes:
        model: the part that depends on features.
        expected: the prediction if no feature is known, on the scale of the model.
        scale: of `expected` and of the model's contributions.
    """

    model: Trees | Linear
    expected: float
    scale: Scale

    def log_odds(self, features: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
        """Explain one encounter.

        Args:
            features: encoded, shape (n_features,).

        Returns:
            The log-odds if no feature is known, and the contribution of each feature, shape (n_features,). They add up to the
            model's log-odds. A model that adds up probabilities (a forest) is explained on that scale; its contributions are
            then multiplied by a common factor, which keeps their order and proportions.
        """
        contributions = self.model.contributions(features)
        if self.scale == "log_odds":
            return self.expected, contributions
        total = float(contributions.sum())
        start, end = _log_odds(self.expected), _log_odds(self.expected + total)
        if abs(total) < _SMALLEST_SUM:
            return start, contributions / (self.expected * (1 - self.expected))  # the factor in the limit
        return start, contributions * ((end - start) / total)

    def to_bytes(self) -> bytes:
        """Return the explainer as a file, for `from_bytes`."""
        file = io.BytesIO()
        parts = {part.name: getattr(self.model, part.name) for part in fields(self.model)}
        np.savez_compressed(file, allow_pickle=False, expected=self.expected, scale=self.scale, **parts)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read an explainer from `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as parts:
            names = set(parts) - {"expected", "scale"}
            kind = Linear if "coefficient" in names else Trees
            model = kind(**{name: parts[name] for name in names})
            return cls(
                model, float(parts["expected"]), "log_odds" if str(parts["scale"]) == "log_odds" else "probability"
            )


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, SMALLEST_RISK), 1 - SMALLEST_RISK)
    return float(np.log(bounded / (1 - bounded)))
