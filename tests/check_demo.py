"""Check what a demo on the real data set wrote: `python -m tests.check_demo reports/summary.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ENCOUNTERS, COHORT, PATIENTS = 101_766, 99_343, 71_518
"""Of the published data set; cohort without death and hospice."""
LEAK = 0.72


def main(path: str) -> None:
    summary = json.loads(Path(path).read_bytes())
    data, models, batches = summary["data"], summary["models"], summary["batches"]
    assert (data["encounters"], data["cohort"], data["patients"]) == (ENCOUNTERS, COHORT, PATIENTS), data
    assert not data["synthetic"]
    assert len(batches) == 10, [batch["name"] for batch in batches]
    assert all(batch["rows"] > 7000 and batch["reasons"] for batch in batches)
    assert sum(batch["rows"] for batch in batches) < COHORT
    assert all(0.6 < batch["auroc"] < LEAK for batch in batches), [batch["auroc"] for batch in batches]
    promoted = [model for model in models if model["promoted"]]
    assert len(promoted) > 1, "no retrained model took over"
    assert batches[-1]["champion"] == promoted[-1]["version"]
    later = batches[3:]
    gain = sum(batch["auroc"] - batch["auroc_frozen"] for batch in later) / len(later)
    assert gain > 0, f"retraining made it worse by {-gain:.4f}"
    assert {"search", "fit", "drift", "orchestration", "total"} <= summary["seconds"].keys()
    print(f"The demo is as it should be: {len(promoted)} champions, AUROC {gain:+.4f} over the first model")


if __name__ == "__main__":
    main(sys.argv[1])
