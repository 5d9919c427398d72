"""Outcomes that the champion was not trained on. Only they show how good it is, and only those without intervention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.bundle.model import Bundle
from healthpredict.evaluation.interval import Floats, Outcomes
from healthpredict.evaluation.untreated import Overlap
from healthpredict.operations.dataset import matured_batches, newest_batches
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import judged, judged_outcomes, read_labelled
from healthpredict.operations.risks import risks_of


@dataclass(frozen=True)
class UnseenOutcomes:
    """Encounters that the champion was not trained on, whose outcomes without intervention are known or estimated.

    Attributes:
        names: of their batches, in order; at least one.
        labelled: shape (n_encounters, ...).
        risk: the champion's, shape (n_encounters,).
        batch: position in `names` of each encounter's batch, ascending, shape (n_encounters,).
    """

    names: list[str]
    labelled: pd.DataFrame
    risk: Floats
    batch: NDArray[np.intp]

    @property
    def label(self) -> Outcomes:
        """Outcomes without intervention, shape (n_encounters,)."""
        return judged_outcomes(self.labelled)

    @property
    def patient_id(self) -> NDArray[np.int64]:
        """Shape (n_encounters,)."""
        return self.labelled["patient_id"].to_numpy(dtype=np.int64)

    @property
    def newest(self) -> NDArray[np.bool_]:
        """The encounters of the newest batch, shape (n_encounters,)."""
        return np.asarray(self.batch == len(self.names) - 1)

    def since(self, name: str, rows: int) -> NDArray[np.bool_]:
        """Select the encounters of the newest batches: as many batches as hold `rows` encounters, but only those after `name`.

        Args:
            name: of a batch. If it is not one of `names`, all of `names` are after it.
            rows: at least 1.

        Returns:
            Whether each encounter is selected, shape (n_encounters,).
        """
        after = self.names.index(name) + 1 if name in self.names else 0
        return np.asarray(self.batch >= max(after, newest_batches(np.bincount(self.batch).tolist(), rows)))


def unseen_outcomes(
    installation: Installation, bundle: Bundle, arriving: str
) -> tuple[UnseenOutcomes | None, Overlap | None]:
    """Read the outcomes that are known when a batch arrives.

    Returns:
        The outcomes, or None if the champion was trained on all of them or if they tell nothing about it; and what is known about
        interventions in their batches, see `Labelled.overlap`.
    """
    names = [n for n in matured_batches(installation, arriving) if n not in bundle.manifest.trained_on]
    if not names:
        return None, None
    read = read_labelled(installation, names)
    known = {name: judged(part) for name, part in zip(names, read.parts, strict=True)}
    known = {name: part for name, part in known.items() if len(part)}
    if not known:
        return None, read.overlap
    labelled = pd.concat(known.values(), ignore_index=True)
    batch = np.repeat(np.arange(len(known)), [len(part) for part in known.values()])
    return UnseenOutcomes(list(known), labelled, risks_of(bundle, labelled), batch), read.overlap
