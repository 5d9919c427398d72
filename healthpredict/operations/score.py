"""Batch scoring of a file with the champion, in bounded memory."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.model import Bundle
from healthpredict.config import Settings
from healthpredict.data.chunks import read_chunks
from healthpredict.errors import RegistryError
from healthpredict.operations.context import open_registry
from healthpredict.operations.score_chunk import ScoredChunk, score_chunk
from healthpredict.storage.uris import local_copy, write_file

_CHUNK_ROWS = 100_000


class Scored(BaseModel):
    """What became of the rows of a file.

    Attributes:
        source_uri: what was read.
        result_uri: Parquet of `encounter_id`, `readmission_risk`, `high_risk`.
        rejected_uri: Parquet of the rows that could not be predicted, in raw form, with `reason`.
        rows: read.
        predicted: rows of the result.
        rejected: rows of the side file.
        model_version: that predicted.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    source_uri: str
    result_uri: str
    rejected_uri: str
    rows: int
    predicted: int
    rejected: int
    model_version: int


def score(
    settings: Settings, source_uri: str, result_uri: str, progress: Callable[[int], None] = lambda _: None
) -> Scored:
    """Predict every encounter of a file.

    Args:
        settings: where the champion is; with a Ray address the cluster scores.
        source_uri: csv or Parquet with the raw file's columns.
        result_uri: Parquet to write; `<result_uri>.rejected.parquet` is written beside it.
        progress: told the rows done so far.

    Raises:
        BatchRefused: the file is not one of encounters; nothing was written.
        RegistryError: there is no champion, or MLflow failed.
        StorageError: something cannot be read or written; neither file is partial.
    """
    registry = open_registry(settings)
    champion = registry.by_alias("champion")
    if champion is None:
        raise RegistryError(f"{settings.model_name} has no champion. Train one first: `healthpredict drift-loop`.")
    bundle = registry.fetch_bundle(champion)
    return score_with(bundle, source_uri, result_uri, progress, ray_address=settings.ray_address)


def score_with(
    bundle: Bundle,
    source_uri: str,
    result_uri: str,
    progress: Callable[[int], None] = lambda _: None,
    *,
    ray_address: str | None = None,
) -> Scored:
    """Predict every encounter of a file with a bundle; arguments and errors as `score`."""
    rejected_uri = f"{result_uri.removesuffix('.parquet')}.rejected.parquet"
    with local_copy(source_uri) as source, tempfile.TemporaryDirectory() as folder:
        results, rejects = Path(folder) / "results.parquet", Path(folder) / "rejected.parquet"
        with contextlib.ExitStack() as files:
            result_file, rejected_file = (files.enter_context(_TableWriter(path)) for path in (results, rejects))
            for chunk in _chunks(bundle, source, source_uri, ray_address):
                result_file.write(chunk.predicted)
                rejected_file.write(chunk.rejected)
                progress(result_file.rows + rejected_file.rows)
        write_file(rejected_uri, rejects)
        write_file(result_uri, results)
    return Scored(
        source_uri=source_uri,
        result_uri=result_uri,
        rejected_uri=rejected_uri,
        rows=result_file.rows + rejected_file.rows,
        predicted=result_file.rows,
        rejected=rejected_file.rows,
        model_version=bundle.manifest.model_version,
    )


def _chunks(bundle: Bundle, source: Path, name: str, ray_address: str | None) -> Iterator[ScoredChunk]:
    if ray_address is not None:
        from healthpredict.operations.score_on_ray import score_on_ray

        return score_on_ray(bundle, source, _CHUNK_ROWS, ray_address)
    return (score_chunk(bundle, raw, name) for raw in read_chunks(source, _CHUNK_ROWS))


class _TableWriter:
    """A Parquet file that tables of the same columns are appended to, for the time of a `with` block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Append rows; the first table, which may be empty, says the columns."""
        if self._writer is None:
            # Ids and risks are all distinct: a dictionary of them would be made in vain.
            texts = [field.name for field in table.schema if not pa.types.is_primitive(field.type)]
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd", use_dictionary=texts)
        self._writer.write_table(table)
        self.rows += table.num_rows
