"""Parquet files that Hugging Face `datasets` reads with their types; the only module that imports pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.cache.format import PIECE_OF_ROWS
from tmkt_data.errors import CacheError, SpecError
from tmkt_data.export.parts import Part, Sample
from tmkt_data.files import atomic_write

_GROUP_ROWS = 128


def require_pyarrow() -> None:
    """Check that pyarrow is there.

    Raises:
        SpecError: It is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise SpecError("export to Parquet needs pyarrow; pip install 'tmkt[parquet]'") from None


def write_file(path: Path, samples: Iterable[Sample], part: Part, class_names: tuple[str, ...]) -> None:
    """Write samples as columns `id`, `label` and `frames` (recordings) or `intensity` (images).

    Raises:
        CacheError: The file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = column_of(part.side)
    nested = pa.from_numpy_dtype(part.dtype)
    for _ in part.shape:
        nested = pa.list_(nested)
    features = features_of(part, class_names)
    # How `datasets` marks an array of a fixed shape; readers that do not know it see lists.
    mark = {
        "ARROW:extension:name": f"datasets.features.features.Array{len(part.shape)}DExtensionType",
        "ARROW:extension:metadata": json.dumps([part.shape, part.dtype.name]),
    }
    schema = pa.schema(
        [("id", pa.string()), ("label", pa.int64()), pa.field(column, nested, metadata=mark)],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    remaining = iter(samples)
    with atomic_write(path, error=CacheError) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(remaining, part.rows_within(PIECE_OF_ROWS, _GROUP_ROWS))):
            arrays = _nested(np.stack([sample.array for sample in group]))
            ids, labels = [sample.id for sample in group], [sample.label for sample in group]
            writer.write_table(pa.table([ids, labels, arrays], schema=schema))


def _nested(values: NDArray[Any]) -> Any:
    """Return an array of shape (N, ...) as lists of lists, without a Python object for each value."""
    import pyarrow as pa

    nested: Any = pa.array(values.reshape(-1))
    for size in values.shape[:0:-1]:
        starts = np.arange(0, len(nested) + 1, size, dtype=np.int32)
        nested = pa.ListArray.from_arrays(pa.array(starts), nested)
    return nested


def column_of(side: str) -> str:
    """Return the column that holds the arrays of a side."""
    return {"events": "frames", "images": "intensity"}[side]


def features_of(part: Part, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Return the features of a part, as `datasets` stores them."""
    array = {"shape": list(part.shape), "dtype": part.dtype.name, "_type": f"Array{len(part.shape)}D"}
    return {
        "id": {"dtype": "string", "_type": "Value"},
        "label": {"names": list(class_names), "_type": "ClassLabel"},
        column_of(part.side): array,
    }
