"""Batch scoring of a file with the champion, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict
from pyroaring import BitMap64

from healthpredict.bundle.model import Bundle
from healthpredict.data.columns import CODING_COLUMN, ENCOUNTER_COLUMNS
from healthpredict.data.params import ContractParams
from healthpredict.data.raw import raw_chunks
from healthpredict.data.schema import DUPLICATE
from healthpredict.data.table import ROWS_AT_ONCE, Table, open_table
from healthpredict.errors import BatchRefused, ConfigurationError, StorageError
from healthpredict.monitoring.profile import RISK
from healthpredict.operations.installation import Installation
from healthpredict.operations.score_chunk import ScoredChunk, score_chunk
from healthpredict.storage.table_writer import TableWriter, format_of
from healthpredict.storage.uris import delete, is_plain, is_same, local_copy, write_file


class Scored(BaseModel):
    """The result of scoring a file.

    Attributes:
        source_uri: the file.
        read_as: its format, encoding and compression, for people.
        notices: what was unusual about it, in sentences.
        result_uri: the predictions: `encounter_id`, `readmission_risk`, `high_risk`, which is null if the settings say "silent".
        rejected_uri: the side file: the raw rows that were not predicted, with a column `reason`, in the order of the file.
        rows: number of rows of the file.
        predicted: number of rows of the result.
        rejected: number of rows of the side file.
        model_version: of the champion.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    source_uri: str
    read_as: str
    notices: tuple[str, ...]
    result_uri: str
    rejected_uri: str
    rows: int
    predicted: int
    rejected: int
    model_version: int


def score(
    installation: Installation, source_uri: str, result_uri: str, progress: Callable[[int], None] = lambda _: None
) -> Scored:
    """Predict every encounter of a file.

    Args:
        installation: where the models are. If the settings have a Ray address, that cluster scores.
        source_uri: csv or Parquet with the raw file's columns, perhaps compressed.
        result_uri: ends with .parquet, .csv or .csv.gz, which determines the format. Rows that cannot be predicted go beside it,
            to `NAME.rejected.ENDING`.
        progress: called with the number of rows done so far.

    Raises:
        ConfigurationError: the result has an unknown ending, or would replace the input, a folder, a link, a pipe or a device.
            Nothing was read.
        BatchRefused: the file does not contain encounters, or a row cannot be read; nothing was written.
        RegistryError: there is no champion, or MLflow failed.
        StorageError: something cannot be read or written; neither file is left.
    """
    _rejected_uri(source_uri, result_uri)  # fail before the bundle is fetched
    registry, settings = installation.registry, installation.settings
    bundle = registry.fetch_bundle(registry.champion())
    return score_with(
        bundle,
        source_uri,
        result_uri,
        progress,
        settings.contract,
        ray_address=settings.ray_address,
        silent=settings.silent,
    )


def score_with(
    bundle: Bundle,
    source_uri: str,
    result_uri: str,
    progress: Callable[[int], None] = lambda _: None,
    contract: ContractParams = ContractParams(),  # noqa: B008 -- frozen
    *,
    ray_address: str | None = None,
    silent: bool = False,
) -> Scored:
    """Predict every encounter of a file with a bundle, if silent without flags. Other arguments and errors are those of `score`."""
    rejected_uri = _rejected_uri(source_uri, result_uri)
    with (
        local_copy(source_uri) as source,
        open_table(source, source_uri, ENCOUNTER_COLUMNS, (CODING_COLUMN,)) as table,
        tempfile.TemporaryDirectory() as folder,
    ):
        results_path, rejects_path = Path(folder) / "results", Path(folder) / "rejected"
        ending = format_of(result_uri)
        with TableWriter(results_path, ending) as results, TableWriter(rejects_path, ending) as rejects:
            seen = BitMap64()
            for raw, chunk in _chunks(bundle, table, contract, ray_address):
                _reject_repeated(chunk, seen)
                predicted = np.equal(chunk.reason, "").astype(bool)
                results.write(_predictions(chunk, predicted, None if silent else bundle.manifest.threshold))
                rejects.write(_rejected(raw, chunk, ~predicted))
                progress(results.rows + rejects.rows)
        if results.rows + rejects.rows != table.rows:
            raise BatchRefused(
                source_uri,
                f"it has {table.rows} rows, but {results.rows + rejects.rows} were scored; report this fault",
            )
        write_file(rejected_uri, rejects_path)
        try:
            write_file(result_uri, results_path)
        except StorageError:
            delete(rejected_uri)
            raise
    return Scored(
        source_uri=source_uri,
        read_as=table.read_as,
        notices=table.notices,
        result_uri=result_uri,
        rejected_uri=rejected_uri,
        rows=table.rows,
        predicted=results.rows,
        rejected=rejects.rows,
        model_version=bundle.manifest.model_version,
    )


def _rejected_uri(source_uri: str, result_uri: str) -> str:
    """Return the URI of the side file. Raises: ConfigurationError, one of the two files cannot be written."""
    ending = format_of(result_uri)
    rejected_uri = f"{result_uri[: -len(ending)]}.rejected{ending}"
    for uri in (result_uri, rejected_uri):
        if is_same(source_uri, uri):
            raise ConfigurationError(f"{uri} is the input: the result would replace it. Choose another name.")
        if not is_plain(uri):
            raise ConfigurationError(
                f"{uri} is a link, a folder, a pipe or a device, which a result never replaces. Choose another name."
            )
    return rejected_uri


def _chunks(
    bundle: Bundle, table: Table, contract: ContractParams, ray_address: str | None
) -> Iterator[tuple[pd.DataFrame, ScoredChunk]]:
    raw = raw_chunks(table, ROWS_AT_ONCE)
    if ray_address is None:
        return ((part, score_chunk(bundle, part, contract.diagnosis_coding)) for part in raw)
    from healthpredict.operations.score_on_ray import score_on_ray

    return score_on_ray(bundle, raw, contract.diagnosis_coding, ray_address)


def _reject_repeated(chunk: ScoredChunk, seen: BitMap64) -> None:
    """Reject the rows that repeat the id of an earlier valid row. Update `chunk` and `seen`, the set of ids so far."""
    valid = chunk.encounter_id > 0
    new = BitMap64(chunk.encounter_id[valid])
    repeated = valid & pd.Series(chunk.encounter_id).duplicated().to_numpy()
    if earlier := seen & new:
        repeated |= np.isin(chunk.encounter_id, np.array(earlier, dtype=np.int64))
    seen |= new
    # Replaces "not at risk": the first row with this id has the reason that counts.
    chunk.reason[repeated] = DUPLICATE


def _predictions(chunk: ScoredChunk, predicted: np.ndarray, threshold: float | None) -> pa.Table:
    risk = chunk.risk[predicted]
    flags = pa.nulls(len(risk), pa.bool_()) if threshold is None else risk >= threshold
    return pa.table({"encounter_id": chunk.encounter_id[predicted], RISK: risk, "high_risk": flags})


def _rejected(raw: pd.DataFrame, chunk: ScoredChunk, rows: np.ndarray) -> pa.Table:
    # Arrow converts the categories to text, in half the time that pandas takes.
    rejected = pa.Table.from_pandas(raw[rows].assign(reason=chunk.reason[rows]), preserve_index=False)
    return rejected.cast(pa.schema([(name, pa.string()) for name in rejected.column_names]))
