"""Why a risk is what it is: exact Shapley values of the model, with numpy alone.

For trees the values are those of path-dependent TreeSHAP (Lundberg et al. 2020, doi 10.1038/s42256-019-0138-9): a feature
that is not known goes both ways, in the proportion of the training data. In this game a leaf is worth its value times one
factor for each feature on its path: 1 or 0 where the feature is known (it leads to the leaf or not), else the share that
goes that way. A Shapley value is the integral over t from 0 to 1 of the derivative of the game's multilinear extension (Owen
1972, doi 10.1287/mnsc.18.5.64). Of a product that is a polynomial in t, which Gauss-Legendre quadrature integrates exactly. So
all leaves of all trees are done at once, and no library of trees is needed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

Scale = Literal["log_odds", "probability"]
"""What the contributions of a model add up to."""


@dataclass(frozen=True)
class Trees:
    """The leaves of all trees; column l of each matrix holds the distinct features on the path to leaf l, then fillers.

    Attributes:
        feature: index of the feature, shape (longest path, n_leaves). A filler has any feature, no bounds and share 1.
        low: the path is taken where the feature is above this bound, float32, same shape.
        high: and not above this one, float32, same shape.
        share: of the training data at these splits that goes the way of the path, same shape.
        value: of the leaf, shape (n_leaves,).
        tree: number of the leaf's tree, shape (n_leaves,). Leaves of one tree stand together.
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
        difference = ((value > self.low) & (value <= self.high)) - self.share
        total = np.zeros_like(difference)
        for point, weight in zip(*self._quadrature, strict=True):
            factors = self.share + point * difference
            worth = factors.prod(axis=0) * self.value * weight
            # A factor is 0 only where nothing of the training data went, nor this encounter: then the leaf is worth nothing.
            total += np.divide(worth, factors, out=np.zeros_like(factors), where=factors != 0)
        by_feature: NDArray[np.float64] = np.bincount(  # type: ignore[assignment]  # integers only without weights
            self.feature.ravel(), weights=(total * difference).ravel(), minlength=len(features)
        )
        return by_feature

    @property
    def expected(self) -> float:
        """The sum of the trees where no feature is known."""
        return float((self.share.prod(axis=0) * self.value).sum())

    @cached_property
    def _quadrature(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points and weights on 0 to 1: n points are exact up to degree 2n - 1, and the degree is the longest path less 1."""
        points, weights = np.polynomial.legendre.leggauss(max(1, (len(self.feature) + 1) // 2))
        return (points + 1) / 2, weights / 2


@dataclass(frozen=True)
class Linear:
    """A linear model. Features count as independent; one that is not known has its mean of the training data.

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
    """A model, arranged to be explained.

    Attributes:
        model: its parts that depend on features.
        expected: what it says where no feature is known, on its scale.
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
            The model's log-odds where no feature is known, and what each feature adds, shape (n_features,). They sum to the
            model's log-odds. A model that adds up probabilities (a forest) is explained exactly on that scale, and its
            contributions are then stretched by one common factor, which keeps their order and proportions.
        """
        contributions = self.model.contributions(features)
        if self.scale == "log_odds":
            return self.expected, contributions
        total = float(contributions.sum())
        start, end = _log_odds(self.expected), _log_odds(self.expected + total)
        if abs(total) < _SMALLEST:
            return start, contributions / (self.expected * (1 - self.expected))  # the factor in the limit
        return start, contributions * ((end - start) / total)

    def to_bytes(self) -> bytes:
        """As a file, for `from_bytes`."""
        file = io.BytesIO()
        parts = {name: value for name, value in vars(self.model).items() if isinstance(value, np.ndarray)}
        np.savez_compressed(file, allow_pickle=False, expected=self.expected, scale=self.scale, **parts)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read it back."""
        with np.load(io.BytesIO(data), allow_pickle=False) as parts:
            names = set(parts) - {"expected", "scale"}
            kind = Linear if "coefficient" in names else Trees
            model = kind(**{name: parts[name] for name in names})
            return cls(
                model, float(parts["expected"]), "log_odds" if str(parts["scale"]) == "log_odds" else "probability"
            )


_SMALLEST = 1e-9


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, _SMALLEST), 1 - _SMALLEST)
    return float(np.log(bounded / (1 - bounded)))
