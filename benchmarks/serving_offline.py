"""What the serving benchmark measures without HTTP: files and explanations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.results import Stopwatch
from benchmarks.serving_models import as_pipeline_input
from healthpredict.bundle.model import Bundle
from healthpredict.data.synthetic import synthesize_to_parquet
from healthpredict.features.frame import encode_frame
from healthpredict.training.candidates import Candidate
from healthpredict.training.explain import explainer_of
from healthpredict.training.families import FAMILIES
from healthpredict.training.fit import fit_uncalibrated

SCORED_ROWS = (100_000, 1_000_000, 10_000_000)
PEER_ROWS = SCORED_ROWS[0]
EXPLAINED_ROWS = 200

# Each in its own process, because peak memory belongs to a process. CPU is counted after imports and loading of the model.
_MEASURED = """
import json, sys, time
from benchmarks.memory import peak_rss_mb
from healthpredict.config import quiet_vendors
quiet_vendors()
{prepare}
cpu = time.process_time()
{work}
print(json.dumps({{"cpu_s": time.process_time() - cpu, "peak_rss_mb": peak_rss_mb()}}))
"""
_OURS = _MEASURED.format(
    prepare="""
from pathlib import Path
from healthpredict.bundle.model import load_bundle
from healthpredict.data.schema import build_schema
from healthpredict.operations.score import score_with
build_schema()
bundle = load_bundle(Path(sys.argv[1]))""",
    work="score_with(bundle, sys.argv[2], sys.argv[3])",
)
_PYFUNC = """
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])"""
_PARQUET = _MEASURED.format(
    prepare=_PYFUNC,
    work="pd.DataFrame(model.predict(pd.read_parquet(sys.argv[2]))).to_parquet(sys.argv[3])",
)
# As `mlflow models predict` and MLflow's server read a file: JSON is what they take besides csv.
_JSON = _MEASURED.format(
    prepare=_PYFUNC + "\nfrom mlflow.pyfunc.scoring_server import infer_and_parse_data, predictions_to_json",
    work="""
with open(sys.argv[2]) as source, open(sys.argv[3], "w") as result:
    predictions_to_json(model.predict(infer_and_parse_data(json.load(source))), result)""",
)


def batch(folder: Path, bundle: Bundle) -> dict[str, Any]:
    """Score files of three sizes, and the smallest with MLflow's pyfunc as well."""
    files = {rows: folder / f"{rows}.parquet" for rows in SCORED_ROWS}
    for rows, path in files.items():
        synthesize_to_parquet(path, rows, seed=7)
    plain = as_pipeline_input(pd.read_parquet(files[PEER_ROWS]))
    plain.to_parquet(folder / "plain.parquet")
    frame = plain.to_dict("split")
    (folder / "plain.json").write_text(
        json.dumps({"dataframe_split": {"columns": frame["columns"], "data": frame["data"]}})
    )
    risks, pipeline = folder / "risks.parquet", folder / "pipeline"
    # In turn, because the speed of the machine changes; the minimum, because other work only adds to a short run.
    rounds = [
        (
            _run(_OURS, bundle.path, files[PEER_ROWS], risks),
            _run(_PARQUET, pipeline, folder / "plain.parquet", folder / "p.parquet"),
            _run(_JSON, pipeline, folder / "plain.json", folder / "p.json"),
        )
        for _ in range(5)
    ]
    ours, from_parquet, from_json = (min(runs, key=lambda run: run["cpu_s"]) for runs in zip(*rounds, strict=True))
    larger = {str(rows): _run(_OURS, bundle.path, path, risks) for rows, path in files.items() if rows != PEER_ROWS}
    return {
        "ours": {str(PEER_ROWS): ours} | larger,
        "pyfunc_parquet": from_parquet,
        "pyfunc_json": from_json,
    }


def explain(encounters: pd.DataFrame) -> dict[str, Any]:
    """Our contributions and SHAP's for the same rows of the same models, one row at a time."""
    import shap

    label = encounters["readmitted_within_30_days"].to_numpy()
    found = {}
    for family in ("lightgbm", "catboost"):
        candidate = Candidate(family=family, params=dict(FAMILIES[family].first), validation_auroc=0.5, steps=1)
        encoder, model = fit_uncalibrated(candidate, encounters, label, 0)
        rows = encode_frame(encoder, encounters.head(EXPLAINED_ROWS))
        ours = explainer_of(family, model, rows[:1])
        peer = shap.TreeExplainer(model)
        ours.log_odds(rows[0]), peer.shap_values(rows[:1])
        watch = Stopwatch()
        mine = np.array([ours.log_odds(row)[1] for row in rows])
        mine_cpu = watch.cpu
        watch = Stopwatch()
        theirs = np.array([np.asarray(peer.shap_values(row[None]))[..., :].reshape(-1) for row in rows])
        found[family] = {
            "cpu_ms": mine_cpu / len(rows) * 1e3,
            "shap_cpu_ms": watch.cpu / len(rows) * 1e3,
            "largest_difference": float(np.abs(mine - theirs).max()),
        }
    return found


def _run(program: str, *arguments: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
