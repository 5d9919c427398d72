"""Outcomes that the champion was not trained on. Only they show how good it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.bundle.model import Bundle
from healthpredict.evaluation.interval import Floats, Outcomes
from healthpredict.operations.dataset import newest_batches
from healthpredict.operations.read_labelled import Labelled, outcomes_of, with_outcome
from healthpredict.operations.risks import risks_of


@dataclass(frozen=True)
class UnseenOutcomes:
    """Encounters that the champion was not trained on, whose outcomes without intervention are known or estimated.

    Attributes:
        names: of the batches, in order; at least one. A batch may have no encounters here, because it cannot be judged.
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
        return outcomes_of(self.labelled)

    @property
    def patient_id(self) -> NDArray[np.int64]:
        """Shape (n_encounters,)."""
        return self.labelled["patient_id"].to_numpy(dtype=np.int64)

    @property
    def newest(self) -> NDArray[np.bool_]:
        """The encounters of the newest batch, shape (n_encounters,)."""
        return np.asarray(self.batch == len(self.names) - 1)

    @property
    def _rows(self) -> NDArray[np.intp]:
        return np.bincount(self.batch, minlength=len(self.names))

    def since(self, name: str, rows: int) -> NDArray[np.bool_]:
        """Select the encounters of the newest batches: as many batches as hold `rows` encounters, but only those after `name`.

        Args:
            name: of a batch. If it is not one of `names`, all of `names` are after it.
            rows: at least 1.

        Returns:
            Whether each encounter is selected, shape (n_encounters,).
        """
        after = self.names.index(name) + 1 if name in self.names else 0
        return np.asarray(self.batch >= max(after, newest_batches(self._rows.tolist(), rows)))


def unseen_outcomes(bundle: Bundle, matured: Labelled) -> UnseenOutcomes | None:
    """Select the outcomes that the champion was not trained on.

    Args:
        bundle: the champion.
        matured: all batches that have matured.

    Returns:
        None if the champion was trained on all of them, or if none can be judged.
    """
    new = {name: with_outcome(part) for name, part in matured.by_name.items() if name not in bundle.manifest.trained_on}
    rows = [len(part) for part in new.values()]
    if not sum(rows):
        return None
    labelled = pd.concat(new.values(), ignore_index=True)
    return UnseenOutcomes(list(new), labelled, risks_of(bundle, labelled), np.repeat(np.arange(len(rows)), rows))
