"""The two tables of a catalogue: a row for each side of each feature, and its examples. Files that DuckDB reads.

Numbers of tokens are those of the plan beside them (`harvest`): an example is a token of it, and what stands around.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hooke.files import replacing

FEATURES, EXAMPLES = "features.parquet", "examples.parquet"
ROWS = 4096  # of a group: what one look-up reads

_INTS, _REALS = pa.list_(pa.int32()), pa.list_(pa.float32())
COLUMNS = pa.schema(
    [
        ("id", pa.int32()),  # its place, from 0
        ("layer", pa.int16()),
        ("feature", pa.int32()),
        ("sign", pa.int8()),  # 1 or -1
        ("density", pa.float32()),  # share of tokens on which it fires
        ("largest", pa.float32()),  # activation
        ("mean", pa.float32()),  # activation over the tokens of its side
        ("effect", pa.float32()),  # mean |a · dL/da| over all tokens, nats
        ("histogram", _INTS),  # of tokens in bins of its side, half octaves
        ("promotes", _INTS),  # token ids
        ("suppresses", _INTS),
        ("reads", _INTS),  # token ids whose embedding alone it fires on
        ("read", _REALS),  # with which activation
        ("beside", _INTS),  # ids of rows that fire on the same windows
        ("correlation", _REALS),
        ("kind", pa.string()),  # input, output, both, obscure
        ("label", pa.string()),  # null where none holds
        ("fires_on", pa.string()),  # the description by what it fires on, whether it holds or not
        ("writes", pa.string()),  # the one by what it makes likelier
        ("rule", pa.string()),  # of the first, as JSON
        ("score", pa.float32()),  # of the label
        ("control", pa.float32()),  # the bar it is above
        ("input_score", pa.float32()),
        ("input_control", pa.float32()),
        ("detection", pa.float32()),
        ("fuzzing", pa.float32()),
        ("levels", _REALS),
        ("levels_control", _REALS),
        ("responds", pa.float32()),
        ("pure", pa.float32()),
        ("output_score", pa.float32()),
        ("output_control", pa.float32()),
        ("made", pa.int16()),  # windows it was made from
        ("scored", pa.int16()),  # windows it was scored on
    ]
)
EXAMPLE_COLUMNS = pa.schema(
    [
        ("id", pa.int32()),
        ("at", _INTS),  # tokens of the plan, strongest first
        ("value", _REALS),
        ("level", pa.list_(pa.int8())),
        ("held_out", pa.list_(pa.bool_())),
        ("near", pa.binary()),  # activations around each, in 255ths of the example's own
    ]
)


def write_table(path: Path, rows: dict[str, Any] | pa.Table, schema: pa.Schema) -> None:
    """Write columns by name, whole or not at all."""
    table = rows if isinstance(rows, pa.Table) else pa.table(rows, schema=schema)
    with replacing(path) as temp:
        pq.write_table(table, temp, compression="zstd", row_group_size=ROWS)


def table_hash(table: pa.Table) -> str:
    """sha256 of what a table holds, however it is cut into pieces and packed."""
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        digest.update(f"{name} {column.type} {len(column)}".encode())
        _update(digest, column)
    return digest.hexdigest()


def _update(digest: Any, column: pa.Array) -> None:
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column
    digest.update(np.packbits(column.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    kind = column.type
    if pa.types.is_list(kind):
        digest.update(column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64).tobytes())
        _update(digest, column.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        for value in column.to_pylist():
            data = b"" if value is None else value if isinstance(value, bytes) else value.encode()
            digest.update(len(data).to_bytes(8, "little") + data)
    else:
        digest.update(np.ascontiguousarray(column.fill_null(False if pa.types.is_boolean(kind) else 0)).tobytes())
