"""Pickles of weights, read without running what they say: the one place where `torch.load` stands.

A pickle is a program. This reader takes none of its calls but those by which a plain tensor is put together, of these
none but on storages that lie in the file whole, and gives back nothing but floating-point tensors and whole numbers.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

from hooke.errors import HookeError

MOST = 16 * 2**20  # bytes of the program itself
ALLOWED = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(
        f"torch {kind}Storage"
        for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Byte", "Bool")
    ),
}
NAMED = {"GLOBAL"}  # operations that name something outside the file
REFUSED = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}  # other ways to name it, which weights do not need


def pickled(where: str, file: BinaryIO) -> dict[str, Tensor]:
    """The tensors of a pickled state dict, by name; those of a dict inside it as `outer.inner`.

    Raises HookeError for anything but the zip form of torch 1.6 and newer, for whatever names something that weights do
    not need, and for tensors that are larger than what the file holds of them.
    """
    _check(where, file)
    file.seek(0)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of it
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise HookeError(f"{where} is no whole pickle of weights: {first[0][:200]}") from None
    return dict(_tensors(where, found))


def _check(where: str, file: BinaryIO) -> None:
    """What the pickle names, and whether its parts lie in it as they are."""
    try:
        archive = zipfile.ZipFile(file)
        parts = archive.infolist()
        programs = [part for part in parts if part.filename.rsplit("/", 1)[-1] == "data.pkl"]
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or len(programs) != 1:
            raise HookeError(f"{where} is no pickle as torch writes it")
        if programs[0].file_size > MOST:
            raise HookeError(f"{where} is no pickle of weights: its program alone has {programs[0].file_size:,} bytes")
        named = sorted(_named(where, archive.read(programs[0])) - ALLOWED)
    except HookeError:
        raise
    except Exception as error:  # whatever a damaged file makes of the libraries
        raise HookeError(
            f"{where} is no pickle that Hooke reads ({str(error)[:120]}): only the zip form of torch since 1.6, whole"
        ) from None
    if named:
        raise HookeError(f"{where} names {named[0][:80]!r}, which weights do not need and which may run code; not read")


def _named(where: str, program: bytes) -> set[str]:
    found = set()
    for operation, argument, _ in pickletools.genops(program):
        if operation.name in REFUSED:
            raise HookeError(f"{where} uses {operation.name}, which weights do not need and may run code; not read")
        if operation.name in NAMED:
            found.add(str(argument))
    return found


def _tensors(where: str, found: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(found, Mapping) and depth < 4:
        for key, value in found.items():
            yield from _tensors(where, value, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(found, Tensor):
        x = found.detach()
        lies = x.layout == torch.strided and x.device.type == "cpu" and not x.is_quantized and not x.is_complex()
        if not lies or x.numel() * x.element_size() > x.untyped_storage().nbytes():
            raise HookeError(f"{where}: {name[:80]!r} is no plain tensor of the size that it says it has")
        yield name, x
    elif isinstance(found, int) and not isinstance(found, bool) and abs(found) < 2**40:
        yield name, torch.tensor(found)
    elif not name:
        raise HookeError(f"{where} holds {type(found).__name__} in place of named tensors")
