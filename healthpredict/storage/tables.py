"""Frames as Parquet and small results as JSON, by URI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from healthpredict.errors import StorageError
from healthpredict.storage.uris import read_bytes, write_bytes

if TYPE_CHECKING:
    # Imported where they are used: they take a second, and most commands read only JSON.
    import pandas as pd

_CATEGORIES = b"healthpredict.categories"
"""Metadata with all categories of each column. Parquet itself keeps only those that occur."""


def read_frame(uri: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a frame, or some of its columns, with its original dtypes and categories.

    Raises:
        NotFound: the object does not exist.
        StorageError: it cannot be read, or is not Parquet with these columns.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = read_bytes(uri)
    try:
        table = pq.read_table(BytesIO(data), columns=None if columns is None else list(columns))
        absent = set(columns or ()) - set(table.column_names)
        frame: pd.DataFrame = table.to_pandas()
        for name, values in json.loads((table.schema.metadata or {}).get(_CATEGORIES, b"{}")).items():
            if name in frame:
                frame[name] = frame[name].astype(pd.CategoricalDtype(values))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StorageError(f"{uri} is not a readable table ({error}). Delete it and create it again.") from error
    if absent:
        raise StorageError(f"{uri} has no columns {', '.join(sorted(absent))}. Delete it and create it again.")
    return frame


def write_frame(uri: str, frame: pd.DataFrame) -> None:
    """Write a frame as Parquet, without its index.

    Raises:
        StorageError: it cannot be written. Nothing partial is left.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    categorical = frame.select_dtypes("category")
    categories = {str(name): column.cat.categories.tolist() for name, column in categorical.items()}
    metadata = {**(table.schema.metadata or {}), _CATEGORIES: json.dumps(categories).encode()}
    buffer = BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer, compression="zstd")
    write_bytes(uri, buffer.getvalue())


def read_json(uri: str) -> Any:
    """Read a JSON document.

    Raises:
        NotFound: the object does not exist.
        StorageError: it cannot be read, or is not JSON.
    """
    data = read_bytes(uri)
    try:
        return json.loads(data)
    except ValueError as error:
        raise StorageError(f"{uri} is not JSON ({error}). Delete it and create it again.") from error


def write_json(uri: str, content: Any, *, exclusive: bool = False) -> None:
    """Write a JSON document, indented.

    Args:
        uri: of the object.
        content: dicts, lists, text, finite numbers, booleans and None.
        exclusive: see `write_bytes`.

    Raises:
        AlreadyExists: `exclusive` is set, and another object is stored.
        StorageError: it cannot be written or is not JSON. Nothing partial is left.
    """
    write_bytes(uri, json_bytes(uri, content), exclusive=exclusive)


def json_bytes(uri: str, content: Any) -> bytes:
    """Return the bytes that `write_json` would store.

    Raises:
        StorageError: the content is not JSON.
    """
    try:
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise StorageError(f"Cannot write {uri}: its content is not JSON ({error}). Convert it first.") from error
    return f"{text}\n".encode()
