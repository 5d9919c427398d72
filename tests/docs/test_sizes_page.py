"""The figures of "Sizes" and "Decisions" are those of the benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HOUR = 3600


def results(name: str) -> Any:
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())


LOOP, FHIR, SERVING, SCALE = (results(name) for name in ("loop", "fhir", "serving", "scale"))
IMPORT, OURS = FHIR["given"], SERVING["serving"]["ours"]
SCORE = SCALE["score"]
ONE, MAPPED, RAY_DATA = (SCORE[way] for way in ("one process", "our map", "ray.data"))


def memory_of_services() -> float:
    """In GB: the limits of the services that run without a profile."""
    services = yaml.safe_load((ROOT / "docker-compose/compose.yaml").read_text())["services"].values()
    units = {"m": 2**20, "g": 2**30}
    limits = [service["mem_limit"] for service in services if "profiles" not in service]
    return sum(float(limit[:-1]) * units[limit[-1]] for limit in limits) / 2**30


def three(cell: str) -> str:
    """A row of the table in which every size has the same cell."""
    return f"| {cell} | {cell} | {cell} |"


SCORED = f"{HOUR * SCORE['rows'] / ONE['cpu_s'] / 1e6:.0f} million"
IMPORTED = f"{HOUR * IMPORT['bytes'] / IMPORT['import_seconds'] / 1e9:.0f}"
ADMISSIONS = f"{HOUR * IMPORT['index_admissions'] / IMPORT['import_seconds'] / 1e3:.0f} thousand"
CLAIMS = {
    "sizes.md": (
        f"may use up to {memory_of_services():.1f} GB |",
        f"trained on | | {LOOP['parts']['encoder_rows']:,} |",
        f"| | {LOOP['seconds']['total']:.0f} | not measured |",
        f"one process {three(SCORED)}",
        f"imported in an hour {three(IMPORTED)}",
        f"| index admissions in them {three(ADMISSIONS)}",
        f"one process of the API {three(format(OURS['rps_32'], ',.0f'))}",
        f"CPU seconds of {SCORE['rows'] / 1e6:.0f} million rows, so for a core that does nothing else. "
        f"It uses one core and {ONE['peak_rss_mb']:.0f} MB",
        f"an export with {IMPORT['index_admissions']:,} index admissions ({IMPORT['resources']:,} resources, "
        f"{IMPORT['bytes'] / 1e9:.2f} GB) took {IMPORT['import_seconds']:.0f} s and {IMPORT['import_peak_mb']:.0f} MB",
        f"needs {OURS['cpu_ms_32']:.2f} ms of CPU per request".replace("0.", "."),
    ),
    "decisions.md": (
        f"For {SCORE['rows'] / 1e6:.0f} million rows on 2 cores",
        f"one process needed {ONE['cpu_s']:.0f} s of CPU and {ONE['seconds']:.0f} s in all",
        f"our map over a local cluster {MAPPED['cpu_s']:.0f} and {MAPPED['seconds']:.0f} s",
        f"`ray.data` {RAY_DATA['cpu_s']:.0f} and {RAY_DATA['seconds']:.0f} s",
        f"(load average {SCALE['conditions']['score']['load_average']:.0f})",
        f"{ONE['peak_rss_mb'] / 1e3:.1f}, {MAPPED['peak_rss_mb'] / 1e3:.1f} and {RAY_DATA['peak_rss_mb'] / 1e3:.1f} GB",
    ),
}


@pytest.mark.parametrize(("page", "claim"), [(page, claim) for page, claims in CLAIMS.items() for claim in claims])
def test_a_figure_is_that_of_the_benchmark(page: str, claim: str) -> None:
    assert claim in " ".join((ROOT / "docs" / page).read_text().split())
