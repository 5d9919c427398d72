"""Small trees as lookup tables, evaluated with numpy alone.

A tree compares features with bounds. If it makes at most eight different comparisons (questions), their results (answers) are the
bits of a byte, and a table maps the byte to the value of the leaf. All questions are evaluated, which is more than a walk down the
tree needs, but there are no branches to mispredict and no nodes to fetch. Compared with ONNX Runtime, many encounters take about an
eighth of the time and one encounter about half. (QuickScorer uses bits in this way, Lucchese et al. 2015,
doi 10.1145/2766462.2767733.) A larger tree is split: each group of its leaves becomes a table that is zero for all other leaves, so
that the tables add up to the tree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from healthpredict.bundle.explainer import Explainer, Trees

_QUESTIONS: Final = 8
"""The bits of a byte."""
_ROWS: Final = 32_768
"""Approximate number of encounters per part. Smaller parts need more calls of numpy; the columns of larger ones do not fit into the
CPU's cache."""
_ANSWERS: Final = np.unpackbits(np.arange(2**_QUESTIONS, dtype=np.uint8)[:, None], axis=1).astype(np.float32)
"""The answers to all questions, by byte, shape (256, 8)."""
_Question = tuple[int, float]
"""Index of the feature, and the bound. The answer is whether the feature is above it."""


@dataclass(frozen=True)
class DecisionTables:
    """The trees of a model whose leaves add up to log-odds.

    Attributes:
        feature: of each question, shape (n_tables, 8). If a table has fewer questions, fillers come first.
        bound: of each question, same shape; infinite for a filler.
        first: index of the first question that is not a filler, shape (n_tables,).
        value: log-odds by answers, with the last question in the lowest bit, shape (n_tables, 2 ** largest number of questions).
        start: log-odds to which the trees are added.
    """

    feature: NDArray[np.intp]
    bound: NDArray[np.float32]
    first: NDArray[np.intp]
    value: NDArray[np.float64]
    start: float

    @classmethod
    def of(cls, explainer: Explainer) -> Self | None:
        """Build the tables from the trees of an explainer.

        Returns:
            The tables, or None if the model has no trees, adds up probabilities, or has a path with more than eight questions.
        """
        if not isinstance(explainer.model, Trees) or explainer.scale != "log_odds":
            return None
        trees = explainer.model
        groups = _groups(trees)
        if groups is None:
            return None
        shape = (len(groups), _QUESTIONS)
        feature, bound = np.zeros(shape, dtype=np.intp), np.full(shape, np.inf, dtype=np.float32)
        most = max((len(questions) for _, questions in groups), default=0)
        first, value = np.zeros(len(groups), dtype=np.intp), np.zeros((len(groups), 2**most))
        for i, (leaves, questions) in enumerate(groups):
            first[i] = _QUESTIONS - len(questions)
            for j, question in enumerate(questions, start=first[i]):
                feature[i, j], bound[i, j] = question
            value[i] = _values(trees, leaves, feature[i], bound[i])[: 2**most]  # the rest belongs to fillers
        return cls(feature, bound, first, value, explainer.expected - trees.expected)

    def many(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities, shape (n,), of encoded encounters, shape (n, n_features)."""
        log_odds = np.full(len(features), self.start)
        parts = max(1, round(len(features) / _ROWS))
        for rows, added in zip(np.array_split(features, parts), np.array_split(log_odds, parts), strict=True):
            self._add(np.ascontiguousarray(rows.T), added)
        return np.asarray(1 / (1 + np.exp(-log_odds)))

    def one(self, features: NDArray[np.float32]) -> float:
        """Return the probability of one encoded encounter, shape (n_features,)."""
        answers = np.packbits(features.take(self.feature) > self.bound)
        added = np.add.reduce(self.value.take(self._row_starts + answers))
        return 1 / (1 + math.exp(-self.start - float(added)))

    @cached_property
    def _row_starts(self) -> NDArray[np.intp]:
        return np.arange(self.value.size, step=self.value.shape[1])

    @cached_property
    def _distinct_questions(self) -> tuple[list[_Question], list[list[int]]]:
        """The distinct questions of all tables (many occur in several trees), and the indices of each table's questions."""
        questions: dict[_Question, int] = {}
        asked = []
        for features, bounds, first in zip(
            self.feature.tolist(), self.bound.tolist(), self.first.tolist(), strict=True
        ):
            of_table = list(zip(features, bounds, strict=True))[first:]
            asked.append([questions.setdefault(question, len(questions)) for question in of_table])
        return list(questions), asked

    def _add(self, columns: NDArray[np.float32], log_odds: NDArray[np.float64]) -> None:
        """Add the values of all tables to `log_odds`, shape (n,), in place. `columns` has the shape (n_features, n)."""
        rows = columns.shape[1]
        questions, tables = self._distinct_questions
        answer = np.empty((len(questions), rows), dtype=np.uint8)
        for (feature, bound), yes in zip(questions, answer.view(np.bool_), strict=True):
            np.greater(columns[feature], np.float32(bound), out=yes)
        answers, position, added = np.empty(rows, dtype=np.uint8), np.empty(rows, dtype=np.intp), np.empty(rows)
        for asked, value in zip(tables, self.value, strict=True):
            answers[:] = answer[asked[0]] if asked else 0
            for question in asked[1:]:
                np.add(answers, answers, out=answers)
                np.bitwise_or(answers, answer[question], out=answers)
            position[:] = answers
            log_odds += value.take(position, out=added, mode="clip")  # this mode writes to `out` without a copy


def _groups(trees: Trees) -> list[tuple[list[int], list[_Question]]] | None:
    """Group adjacent leaves of a tree, as many as fit into a table. Returns: leaves and questions; None if a path is too long."""
    groups: list[tuple[list[int], list[_Question]]] = []
    last_tree = None
    # Lists, because Python iterates over them ten times as fast.
    paths = zip(trees.tree.tolist(), *(part.T.tolist() for part in (trees.feature, trees.low, trees.high)), strict=True)
    for leaf, (tree, features, lows, highs) in enumerate(paths):
        bounds = (*zip(features, lows, strict=True), *zip(features, highs, strict=True))
        asked = dict.fromkeys(question for question in bounds if math.isfinite(question[1]))
        if len(asked) > _QUESTIONS:
            return None
        leaves, questions = groups[-1] if tree == last_tree else ([], [])
        more = [question for question in asked if question not in questions]
        if leaves and len(questions) + len(more) <= _QUESTIONS:
            leaves.append(leaf)
            questions += more
        else:
            groups.append(([leaf], list(asked)))
        last_tree = tree
    return groups


def _values(
    trees: Trees, leaves: list[int], feature: NDArray[np.intp], bound: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the values of a table by answers, shape (256,). Values of contradictory answers are never read."""
    # Whether each question (first axis) is a step of each path, and with which answer. Shapes (8, longest path, n_leaves).
    same = (trees.feature[:, leaves] == feature[:, None, None]) & np.isfinite(bound)[:, None, None]
    yes = (same & (trees.low[:, leaves] == bound[:, None, None])).any(axis=1)
    no = (same & (trees.high[:, leaves] == bound[:, None, None])).any(axis=1)
    contradictions = (1 - _ANSWERS) @ yes.astype(np.float32) + _ANSWERS @ no.astype(np.float32)
    return np.asarray((contradictions == 0) @ trees.value[leaves])
