"""Tensors that other tools saved: safetensors, NumPy archives and, where it was allowed, pickles of weights.

What a file holds is known before any of it is read: names, shapes and sizes come from headers, and every tensor that is
taken has exactly the shape that was asked for and finite numbers.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from hooke.dictionaries.formats.pickles import pickled
from hooke.errors import HookeError
from hooke.files import open_file, read_json, tensor_header
from hooke.model.budget import budget

MOST = 64 * 2**30  # bytes of one file
LONGEST = 2**16  # characters of the header of one array in an archive
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
PICKLED = (".pt", ".pth")


@dataclass
class Stored:
    """The tensors of one open file. shapes: by name, of all that it holds."""

    where: str
    shapes: dict[str, tuple[int, ...]]
    fetch: Callable[[str], Tensor]

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def any_of(self, *names: str) -> str:
        """The first of several names that the file has. Raises HookeError if it has none of them."""
        for name in names:
            if name in self.shapes:
                return name
        held = ", ".join(sorted(self.shapes)[:12])
        raise HookeError(f"{self.where} has no tensor {' or '.join(names)}; it holds {held or 'none'}")

    def size(self, name: str, axis: int, ndim: int) -> int:
        """How long an axis of a tensor is that must have so many. Raises HookeError for another shape, and for none."""
        shape = self.shapes[self.any_of(name)]
        if len(shape) != ndim or not all(shape):
            raise HookeError(f"{self.where}: {name} has the shape {shape}; {ndim} axes that are not empty are needed")
        return shape[axis]

    def take(self, name: str, *shape: int, negative: bool = True) -> Tensor:
        """One tensor as single precision (double where it was saved so), of just this shape.

        Raises HookeError if it is not there, has another shape, or holds numbers that are not finite, or negative ones
        where there can be none.
        """
        found = self.shapes[self.any_of(name)]
        if found != shape:
            raise HookeError(f"{self.where}: {name} has the shape {found}, and the rest of it needs {shape}")
        x = self.fetch(name)
        x = x if x.dtype == torch.float64 else x.to(torch.float32)
        if not bool(torch.isfinite(x).all()):
            raise HookeError(f"{self.where}: {name} holds numbers that are not finite; its training diverged, or the "
                             "file is damaged")  # fmt: skip
        if not negative and bool((x < 0).any()):
            raise HookeError(f"{self.where}: {name} holds negative numbers, which it cannot in a dictionary")
        return x

    def none_but(self, *names: str) -> None:
        """Raises HookeError if the file holds a tensor that is none of these: it would be left out silently."""
        odd = sorted(set(self.shapes) - set(names))
        if odd:
            raise HookeError(
                f"{self.where} holds {odd[0][:80]!r}, which Hooke has no use for; leaving it out would be a guess"
            )


@contextmanager
def opened(path: Path, allow_pickle: bool = False) -> Iterator[Stored]:
    """A file of tensors, whatever it was saved as: .safetensors, .npz, .pt or .pth.

    Raises HookeError for what is not whole, for names of another kind, for more than fits into memory, and for pickles
    unless they are allowed.
    """
    kind = path.suffix.lower()
    if kind in PICKLED and not allow_pickle:
        raise HookeError(
            f"{path.name} is a pickle, and pickles can run code. Hooke reads its numbers alone if you say so: "
            "allow_pickle=True, on the command line --allow-pickle"
        )
    if kind not in (*PICKLED, ".safetensors", ".npz"):
        raise HookeError(f"{path.name} is no file of tensors that Hooke reads (.safetensors, .npz, .pt or .pth)")
    with open_file(path, MOST, folder=home(path)) as file:
        if kind == ".safetensors":
            yield _fits(_safe(path, file))
        elif kind == ".npz":
            with _archive(path, file) as archive:
                yield _fits(_arrays(path, archive))
        else:
            _room(path.name, os.fstat(file.fileno()).st_size)
            found = pickled(path.name, file)
            yield Stored(path.name, {name: tuple(x.shape) for name, x in found.items()}, found.__getitem__)


def _fits(stored: Stored) -> Stored:
    _room(stored.where, 4 * sum(math.prod(shape) for shape in stored.shapes.values()))
    return stored


def _room(where: str, need: int) -> None:
    free = budget(torch.device("cpu")).free
    if need > free:
        raise HookeError(f"{where} takes {need >> 20} MB of memory, and {free >> 20} MB are free for it")


def home(path: Path) -> Path:
    """The folder that a file may not lead out of: its own, or the whole snapshot in the hub's cache."""
    for parent in path.parents:
        if parent.parent.name == "snapshots":
            return parent
    return path.parent


def names_in(folder: Path) -> list[str]:
    """What lies in a folder. Raises HookeError where that is not to be seen."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise HookeError(f"cannot read the folder {folder.name}: {error.strerror}") from None


def config_of(path: Path) -> Any:
    """A config file, of a megabyte at most. Raises HookeError for what is no JSON object."""
    found = read_json(path, 2**20, folder=home(path), infinite=True)
    if not isinstance(found, dict):
        raise HookeError(f"{path.name} is no JSON object, so it is no config")
    return found


def _safe(path: Path, file: BinaryIO) -> Stored:
    _, header = tensor_header(path, file)
    start = file.tell()

    def fetch(name: str) -> Tensor:
        entry = header[name]
        dtype = FLOATS.get(entry["dtype"])
        if dtype is None:
            raise HookeError(f"{path.name}: {name} is of type {str(entry['dtype'])[:20]}; weights are floating-point")
        first, end = entry["data_offsets"]
        file.seek(start + first)
        data = bytearray(end - first)
        if file.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise HookeError(f"{path.name} is cut short or damaged")
        return torch.frombuffer(data, dtype=dtype).view(entry["shape"]) if data else torch.zeros(entry["shape"])

    return Stored(path.name, {name: tuple(entry["shape"]) for name, entry in header.items()}, fetch)


@contextmanager
def _archive(path: Path, file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # whatever a damaged file makes of the library
        raise HookeError(f"{path.name} is no whole archive of arrays: {str(error)[:200]}; copy it again") from None
    with archive:
        yield archive


def _arrays(path: Path, archive: zipfile.ZipFile) -> Stored:
    """Arrays of an archive, of which only headers are read before they are taken."""
    heads: dict[str, tuple[zipfile.ZipInfo, tuple[int, ...], bool, Any]] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        with _reading(path, name), archive.open(info) as entry:
            shape, fortran, dtype = _head(entry)
            if dtype.hasobject or info.file_size - entry.tell() != math.prod(shape) * dtype.itemsize:
                raise HookeError(f"{path.name}: {name} is no plain array of the size that it says it has")
        if name in heads:
            raise HookeError(f"{path.name} holds {name[:80]!r} twice")
        heads[name] = (info, shape, fortran, dtype)

    def fetch(name: str) -> Tensor:
        info, shape, fortran, dtype = heads[name]
        if dtype.kind != "f":
            raise HookeError(f"{path.name}: {name} is of type {dtype}; weights are floating-point")
        size = math.prod(shape) * dtype.itemsize
        with _reading(path, name), archive.open(info) as entry:
            _head(entry)
            data = bytearray(entry.read(size))
        if len(data) != size:
            raise HookeError(f"{path.name}: {name} is cut short")
        found = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
        return torch.from_numpy(found.astype(dtype.newbyteorder("="), copy=False))

    return Stored(path.name, {name: head[1] for name, head in heads.items()}, fetch)


def _head(entry: Any) -> tuple[tuple[int, ...], bool, Any]:
    """Shape, whether columns come first, and type of an array in an archive; the file is left where its data begins."""
    version = np.lib.format.read_magic(entry)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(entry, max_header_size=LONGEST)


@contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except HookeError:
        raise
    except Exception as error:  # whatever a damaged file makes of the libraries
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HookeError(f"{path.name}: {name[:80]!r} is no whole array: {first[:200]}; copy the file again") from None
