"""Made-up parts of a report's summary."""

from __future__ import annotations

from healthpredict.data.prepared import PreparedData

DATA = PreparedData(
    source="made up",
    sha256="0" * 64,
    synthetic=True,
    encounters=10,
    quarantined=0,
    patients=9,
    cohort=10,
    readmitted_share=0.1,
    batches=["initial"],
    settings={},
)
