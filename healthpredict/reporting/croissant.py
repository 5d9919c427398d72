"""The data set as Croissant 1.0 metadata (http://mlcommons.org/croissant/1.0), from the contract and what `prepare` recorded."""

from __future__ import annotations

from typing import Any, Final

from healthpredict.data.contract import COLUMNS, MISSING, Column, Kind
from healthpredict.data.prepared import PreparedData

_TERMS: Final = (
    "citeAs",
    "column",
    "equivalentProperty",
    "extract",
    "field",
    "fileObject",
    "fileProperty",
    "fileSet",
    "format",
    "includes",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
)
_CONTEXT: Final[dict[str, Any]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}
_FILE: Final = "encounters-file"
_RECORDS: Final = "encounters"


def as_croissant(prepared: PreparedData, file: str) -> dict[str, Any]:
    """Describe a prepared data set.

    Args:
        prepared: what `prepare` recorded.
        file: the csv, relative to the place of the description.

    Returns:
        JSON-LD as plain data. It contains no value of a patient.
    """
    kind = "Synthetic encounters" if prepared.synthetic else "Encounters"
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "diabetes-encounters",
        "description": (
            f"{kind} of patients with diabetes, from {prepared.source}: {prepared.encounters} rows, of which "
            f"{prepared.quarantined} break the contract; "
            f"{prepared.patients} patients. {prepared.cohort} encounters are at risk of readmission, and "
            f"{prepared.readmitted_share:.4f} of them are readmitted. A missing value is written {MISSING}."
        ),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": _FILE,
                "name": _FILE,
                "description": "One encounter a row, as it was fetched.",
                "contentUrl": file,
                "encodingFormat": "text/csv",
                "sha256": prepared.sha256,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": _RECORDS,
                "name": _RECORDS,
                "description": "One encounter a record; `encounter_id` is unique.",
                "key": {"@id": f"{_RECORDS}/encounter_id"},
                "field": [_field(column) for column in COLUMNS],
            }
        ],
    }


def _field(column: Column) -> dict[str, Any]:
    missing = " May be missing." if column.nullable else ""
    return {
        "@type": "cr:Field",
        "@id": f"{_RECORDS}/{column.name}",
        "name": column.name,
        "description": f"{column.description}. {column.values}.{missing}",
        "dataType": "sc:Integer" if column.kind in (Kind.ID, Kind.COUNT) else "sc:Text",
        "source": {"fileObject": {"@id": _FILE}, "extract": {"column": column.name}},
    }
