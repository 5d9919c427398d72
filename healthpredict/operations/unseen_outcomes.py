"""Outcomes that the champion was not trained on. Only they show how good it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from healthpredict.bundle.model import Bundle
from healthpredict.evaluation.interval import Floats
from healthpredict.operations.dataset import LABEL, matured_batches, newest_batches
from healthpredict.operations.installation import Installation
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.operations.risks import risks_of


@dataclass(frozen=True)
class UnseenOutcomes:
    """Encounters with known outcomes that the champion was not trained on, and the champion's risks for them.

    Attributes:
        names: of their batches, in order; at least one.
        labelled: shape (n_encounters, ...).
        risk: shape (n_encounters,).
        batch: position in `names` of each encounter's batch, ascending, shape (n_encounters,).
    """

    names: list[str]
    labelled: pd.DataFrame
    risk: Floats
    batch: NDArray[np.intp]

    @property
    def label(self) -> NDArray[np.bool_]:
        """Whether the patient was readmitted, shape (n_encounters,)."""
        return self.labelled[LABEL].to_numpy(dtype=np.bool_)

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


def unseen_outcomes(installation: Installation, bundle: Bundle, arriving: str) -> UnseenOutcomes | None:
    """Read the outcomes that are known when a batch arrives. Returns: None if the champion was trained on all of them."""
    names = [n for n in matured_batches(installation, arriving) if n not in bundle.manifest.trained_on]
    if not names:
        return None
    parts = [read_labelled(installation, [name]) for name in names]
    labelled = pd.concat(parts, ignore_index=True)
    batch = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return UnseenOutcomes(names, labelled, risks_of(bundle, labelled), batch)
