"""Tensors in a safetensors file, written straight from memory and read back one by one, each with its own sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.files import open_file, tensor_header

TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in TYPES.items()}


class Written(NamedTuple):
    """What a file holds: its bytes, the sha256 of all of it, and that of each tensor."""

    size: int
    sha256: str
    tensors: dict[str, str]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> Written:
    """Write tensors and words about them to a new file; nothing is copied that lies in memory as it will in the file.

    The bytes are a function of the arguments alone. OSError if there is no room.
    """
    ordered = sorted(tensors.items(), key=lambda pair: (-pair[1].element_size(), pair[0]))  # so that all are aligned
    entries: dict[str, Any] = {"__metadata__": dict(sorted(about.items()))}
    end = 0
    for name, x in ordered:
        size = x.numel() * x.element_size()
        entries[name] = {"dtype": _NAMES[x.dtype], "shape": list(x.shape), "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    whole, digests = hashlib.sha256(), {}
    with path.open("xb") as file:
        for data in (len(header).to_bytes(8, "little"), header):
            file.write(data)
            whole.update(data)
        for name, x in ordered:
            bytes_ = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            file.write(bytes_)
            whole.update(bytes_)
            digests[name] = hashlib.sha256(bytes_).hexdigest()
        return Written(file.tell(), whole.hexdigest(), digests)


def read_tensors(
    path: Path, most: int, wanted: Iterable[str] | None = None, *, folder: Path | None = None
) -> tuple[dict[str, str], dict[str, Tensor], dict[str, str]]:
    """(words, tensors, sha256 of each) of a file of at most `most` bytes. wanted: read only these. folder: where the
    file has to lie. Raises HookeError for a file that is not whole, lacks one of them, or holds other numbers."""
    with open_file(path, most, folder=folder) as file:
        about, header = tensor_header(path, file)
        begin = file.tell()
        found: dict[str, Tensor] = {}
        digests: dict[str, str] = {}
        for name in header if wanted is None else wanted:
            if name not in header or header[name]["dtype"] not in TYPES:
                raise HookeError(f"{path} holds no tensor {name!r} that can be read; make it again")
            start, stop = header[name]["data_offsets"]
            data = np.empty(stop - start, np.uint8)
            file.seek(begin + start)
            if file.readinto(data.data) != stop - start:  # type: ignore[attr-defined]
                raise HookeError(f"{path} was cut short while it was read")
            digests[name] = hashlib.sha256(data.data).hexdigest()
            found[name] = torch.from_numpy(data).view(TYPES[header[name]["dtype"]]).reshape(header[name]["shape"])
        return about, found, digests
