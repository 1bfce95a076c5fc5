"""Arrays beside a result: safetensors with the numbers that numpy has, read without trusting a byte of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hooke.errors import HookeError
from hooke.files import open_file, tensor_header

MAX_TENSOR_BYTES = 2**30
_TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4", "I32": "<i4",
    "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip


def read_tensors(
    path: Path, *, folder: Path | None = None, result: str | None = None, most: int = MAX_TENSOR_BYTES
) -> dict[str, np.ndarray] | None:
    """The arrays of a file, in one block of memory that is no larger than the file. most: bytes
    that the file may have. folder: where it has to lie.

    result: the id that its metadata must name, else None is returned and no array is read.
    Raises HookeError for what is no bounded regular file, or not whole, and for types that results do not have.
    """
    with open_file(path, most, folder=folder) as file:
        about, header = tensor_header(path, file)
        if result is not None and about.get("result") != result:
            return None
        foreign = sorted({entry["dtype"] for entry in header.values()} - set(_TYPES))
        if foreign:
            raise HookeError(f"{path} holds numbers of type {foreign[0]}, which results do not have")
        size = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        data = np.empty(size, np.uint8)
        if file.readinto(data.data) != size:  # type: ignore[attr-defined]
            raise HookeError(f"{path} was cut short while it was read")
        found = {}
        for name, entry in header.items():
            low, high = entry["data_offsets"]
            try:
                found[name] = data[low:high].view(np.dtype(_TYPES[entry["dtype"]])).reshape(entry["shape"])
            except (ValueError, TypeError) as error:  # not aligned, or with more dimensions than numpy has
                raise HookeError(f"{path}: {name[:80]!r} is no array: {error}") from None
        return found
