# %% [markdown]
# # The data, its faults, and a simple model
#
# Run as a script (`.venv/bin/python notebooks/01_eda_baseline.py DATA`) or cell by cell in Jupyter. Without DATA, the data set is
# downloaded from the UCI archive. Plots go to `notebooks/plots/`.

# %%
from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from healthpredict.config import Settings, quiet_vendors
from healthpredict.data.contract import COLUMNS, Kind
from healthpredict.data.split import Side, side_of
from healthpredict.evaluation.metrics import auroc, evaluate
from healthpredict.features.frame import encode_frame
from healthpredict.operations.accept_batch import accept_batch
from healthpredict.operations.accept_outcomes import accept_outcomes
from healthpredict.operations.arrivals import find_batch
from healthpredict.operations.dataset import LABEL, arrived_batches
from healthpredict.operations.installation import Installation
from healthpredict.operations.prepare import prepare
from healthpredict.operations.read_labelled import read_labelled
from healthpredict.training.fit import cross_fitted

quiet_vendors()
given = [argument for argument in sys.argv[1:] if Path(argument).is_file()]
source = given[0] if given else os.environ.get("HEALTHPREDICT_TEST_DATA")
plots = Path(
    os.environ.get("HEALTHPREDICT_PLOTS", Path(__file__).parent / "plots" if "__file__" in globals() else "plots")
)
plots.mkdir(exist_ok=True, parents=True)


def show(figure: Figure, name: str) -> None:
    """Save a plot."""
    figure.savefig(plots / f"{name}.png", dpi=80)
    print(f"plot: {name}.png")


# %% [markdown]
# ## The encounters
# Encounters that ended in death or hospice are excluded: these patients cannot be readmitted. Encounter ids are in order of time.

# %%
with tempfile.TemporaryDirectory() as folder:
    installation = Installation(Settings(data_uri=f"{folder}/data", state_path=Path(folder)))
    prepared = prepare(installation, source)
    names = arrived_batches(installation)
    for name in names:
        accept_batch(installation, find_batch(installation, name))
    accept_outcomes(installation)
    parts = {name: read_labelled(installation, [name]).frame for name in names}
encounters = pd.concat(parts.values(), ignore_index=True)
batch = np.repeat(names, [len(part) for part in parts.values()])
print(f"{prepared.encounters:,} encounters of {prepared.patients:,} patients; {len(encounters):,} in the cohort")
print(f"readmitted within 30 days: {encounters[LABEL].mean():.2%}; bad rows: {prepared.quarantined}")

# %% [markdown]
# ## Missing values

# %%
features = [column.field for column in COLUMNS if column.kind in (Kind.COUNT, Kind.CATEGORY, Kind.CODE)]
missing = encounters[features].isna().mean().sort_values(ascending=False)
print(missing[missing > 0].map("{:.1%}".format).to_string())
constant = [name for name in features if len(encounters[name].unique()) == 1]
print(f"never varies: {', '.join(constant)}")

# %% [markdown]
# ## Drift of the real data over time

# %%
figure = Figure(figsize=(9, 5), layout="constrained")
axes = figure.subplots(2, 2)
by_batch = encounters.groupby(batch, sort=False)
series = {
    "readmitted within 30 days": by_batch[LABEL].mean(),
    "payer not entered": encounters["payer_code"].isna().groupby(batch, sort=False).mean(),
    "earlier inpatient visits, mean": by_batch["number_inpatient"].mean(),
    "diagnoses entered, mean": by_batch["number_diagnoses"].mean(),
}
for ax, (title, values) in zip(axes.ravel(), series.items(), strict=True):
    ax.plot([name.removeprefix("batch-") for name in values.index], values.to_numpy(), marker="o")
    ax.set_title(title, fontsize=10)
    ax.set_ylim(bottom=0)
    ax.tick_params(axis="x", labelrotation=45)
show(figure, "drift")

# %% [markdown]
# ## The tail that is out of order
# From about 290e6 on, the ids of a patient's encounters are not in order of time: the numbers of earlier visits do not grow along
# them. So no feature may use a patient's other encounters.

# %%
ordered = encounters.sort_values(["patient_id", "encounter_id"])
again = ordered["patient_id"].eq(ordered["patient_id"].shift())
# A repeat encounter has at least one inpatient visit in the year before, unless the visits are far apart or out of order.
no_visit_before = again & ordered["number_inpatient"].eq(0)
tail = ordered["encounter_id"] >= 290_000_000
for label, part in (("before 290e6", ~tail), ("the tail", tail)):
    share = no_visit_before[part & again].mean()
    print(
        f"{label}: {part.mean():.0%} of encounters; repeat encounters without an earlier inpatient visit: {share:.0%}"
    )

# %% [markdown]
# ## Leaks, and the AUROC that they would reach
# Each column alone, on the test side. For this problem, an AUROC above .72 is too good to be true.

# %%
test = side_of(encounters["patient_id"].to_numpy()) == Side.TEST
label = encounters[LABEL].to_numpy(dtype=np.bool_)
leaks = {
    "earlier inpatient visits (no leak)": encounters["number_inpatient"],
    "encounters of the patient in the whole file": encounters.groupby("patient_id")["encounter_id"].transform("size"),
    "the patient's later encounters": ordered.groupby("patient_id").cumcount(ascending=False).reindex(encounters.index),
}
for name, values in leaks.items():
    print(f"{name}: AUROC {auroc(label[test], values[test].to_numpy(dtype=np.float64)):.3f}")

# %% [markdown]
# ## Baseline: logistic regression
# Fitted on the training and validation sides, evaluated on the test side.

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

known, unseen = encounters[~test], encounters[test]
encoder, examples = cross_fitted(known, label[~test])
scaler = StandardScaler().fit(examples.features)
model = LogisticRegression(C=0.01, max_iter=500).fit(scaler.transform(examples.features), examples.label)
risk = model.predict_proba(scaler.transform(encode_frame(encoder, unseen)))[:, 1]
baseline = evaluate(label[test], risk, unseen["patient_id"].to_numpy())
print(f"logistic regression: AUROC {baseline.auroc}, AUPRC {baseline.auprc}, calibration error {baseline.ece:.3f}")
visits = unseen["number_inpatient"].to_numpy(dtype=np.float64)
print(f"inpatient visits alone: AUROC {auroc(label[test], visits):.3f}")
