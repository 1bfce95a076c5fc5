"""A GGUF file as keys and tensors, read by its format, and the refusals that name one of them.

The reader of the package gguf makes an object of every token and score, 690 bytes each; this one keeps what a model
needs and skips the rest.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hooke.errors import HookeError, visible
from hooke.files import open_file

if TYPE_CHECKING:
    import numpy as np

# GGUF's scalar value types: number -> struct code. 8 is a string and 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# sizes that no model has without a tensor as long
_WIDTHS = (
    ".vocab_size", ".embedding_length", ".feed_forward_length", ".attention.head_count", ".attention.head_count_kv",
    ".attention.key_length", ".attention.value_length", ".rope.dimension_count",
)  # fmt: skip
_KEPT, _LONGEST = 4096, 4_000_000  # numbers of an array that are kept, and that may be there (a vocabulary's 260,000)


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies: its shape as the model has it (out, in), its type's number, its bytes in the file."""

    shape: tuple[int, ...]
    kind: int
    offset: int
    size: int


@dataclass(frozen=True)
class GgufFile:
    """What a file says: the keys of its architecture without their prefix, all other keys, and its tensors by name.

    For a long array, and for one of texts, there is a range of its length.
    """

    path: Path
    arch: str
    keys: dict[str, Any]
    other: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @property
    def parameters(self) -> int:
        """How many weights it holds."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    def number(self, key: str, default: Any = None) -> Any:
        """A key's number; of a list with one value a layer, that value. Raises HookeError if it is none."""
        value = self.keys.get(key, default)
        if isinstance(value, list) and value and all(each == value[0] for each in value):
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            if value is None:
                raise missing(self, f"{self.arch}.{key}", "the model cannot be built without it")
            raise unsupported(self, key, f"the value {str(value)[:60]}, where one number is needed")
        return value

    def raw(self, name: str) -> bytes:
        """A tensor's bytes."""
        tensor = self.tensors[name]
        with open_file(self.path) as file:
            file.seek(tensor.offset)
            return file.read(tensor.size)

    def values(self, name: str) -> np.ndarray:
        """A tensor's numbers in fp32, dequantised, in the model's shape."""
        import numpy as np
        from gguf import GGMLQuantizationType, dequantize

        tensor = self.tensors[name]
        kind = GGMLQuantizationType(tensor.kind)
        plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(kind)
        data = np.frombuffer(self.raw(name), plain or np.uint8)
        rows = tensor.shape if plain else (*tensor.shape[:-1], tensor.size // max(1, math.prod(tensor.shape[:-1])))
        try:
            # a copy, not a view of what was read, which could not be written to
            return np.array(dequantize(data.reshape(rows), kind), dtype=np.float32).reshape(tensor.shape)
        except NotImplementedError:
            raise HookeError(
                f"{self.path} holds {visible(name)[:80]} as {kind.name}, which cannot be dequantised: "
                "use a file of another type, or the model's safetensors folder"
            ) from None


def read_file(path: Path) -> GgufFile:
    """Read a file's header and check that all of its tensors are there; no tensor is read.

    Raises HookeError for a file that is not GGUF, is cut short or damaged, or is one of several.
    """
    try:
        with open_file(path) as file:
            if file.read(4) != b"GGUF":
                raise HookeError(f"{path} is not a GGUF file: give the .gguf file itself, or a folder with safetensors")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                found, tensors, end = _Header(path, data).read()
                size = len(data)
    except (struct.error, ValueError, LookupError, OverflowError):
        raise HookeError(f"{path} is damaged or cut short inside its header: download it again") from None
    except OSError as error:
        raise HookeError(f"cannot read {path} ({error.strerror or error}): check the path") from None
    if size < end:
        raise HookeError(f"{path} is cut short ({size:,} bytes of at least {end:,}): download it again")
    parts = found.get("split.count", 1)
    if not isinstance(parts, int) or parts < 0:
        raise HookeError(
            f"{path} says split.count is {visible(str(parts))[:40]}, which is no number: download it again"
        )
    if parts > 1:
        raise HookeError(f"{path} is one part of several: join them first with `llama-gguf-split --merge`")
    _bound(path, found, tensors)
    arch = str(found.get("general.architecture", ""))
    prefix = f"{arch}."
    keys = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    other = {name: value for name, value in found.items() if not name.startswith(prefix)}
    return GgufFile(path, arch, keys, other, tensors)


def _bound(path: Path, found: dict[str, Any], tensors: dict[str, GgufTensor]) -> None:
    """Raise HookeError for a small file that asks for a large model."""
    longest = max((width for tensor in tensors.values() for width in tensor.shape), default=1)
    for key, value in found.items():
        most = len(tensors) if key.endswith(".block_count") else longest if key.endswith(_WIDTHS) else None
        for each in value if isinstance(value, list) else [value]:
            if most is not None and not (isinstance(each, int) and 0 <= each <= most):
                asked = f"{visible(key)[:80]} is {visible(str(each))[:40]}"
                raise HookeError(f"{path} says {asked}, and its tensors allow at most {most:,}: download it again")


class _Header:
    """A cursor over a file's header."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 4

    def take(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def text(self) -> str:
        length = self.take("Q")
        if self.at + length > len(self.data):
            raise ValueError("text past the end")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")

    def array(self) -> Any:
        """The numbers of a short array; a range of the length of a long one, or of one of texts."""
        kind, count = self.take("I"), self.take("Q")
        if count > _LONGEST:
            raise HookeError(f"{self.path} has an array of {count:,} values in its header, more than any vocabulary")
        if kind == _STRING:
            for _ in range(count):
                (length,) = struct.unpack_from("<Q", self.data, self.at)
                self.at += 8 + length
            return range(count)
        start, width = self.at, struct.calcsize("<" + _SCALARS[kind])
        self.at += count * width
        if self.at > len(self.data):
            raise ValueError("array past the end")
        return (
            list(struct.unpack_from(f"<{count}{_SCALARS[kind]}", self.data, start)) if count <= _KEPT else range(count)
        )

    def value(self, kind: int) -> Any:
        if kind == _ARRAY:
            return self.array()
        return self.text() if kind == _STRING else self.take(_SCALARS[kind])

    def read(self) -> tuple[dict[str, Any], dict[str, GgufTensor], int]:
        """All keys, all tensors, and where the last of them ends."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        version = self.take("I")
        if version & 0xFFFF == 0:  # 2 or 3 the other way round
            raise HookeError(
                f"{self.path} is written for machines of the other byte order (big-endian): take the little-endian file"
            )
        if version not in (2, 3):
            raise HookeError(
                f"{self.path} has GGUF version {version}, Hooke reads 2 and 3: convert it with a current llama.cpp"
            )
        count, keys = self.take("Q"), self.take("Q")
        found: dict[str, Any] = {}
        for _ in range(keys):
            key = self.text()
            if key in found:
                raise HookeError(f"{self.path} says {visible(key)[:80]} twice: convert the model again")
            found[key] = self.value(self.take("I"))
        listed: list[tuple[str, GgufTensor]] = []
        for _ in range(count):
            name, dimensions = self.text(), self.take("I")
            if dimensions > 8:
                raise ValueError(f"{dimensions} dimensions")
            shape = tuple(self.take("Q") for _ in range(dimensions))[::-1]
            kind, offset = self.take("I"), self.take("Q")
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
            if shape and shape[-1] % block:
                raise ValueError("rows that are no whole blocks")
            listed.append((name, GgufTensor(shape, kind, offset, math.prod(shape) // block * size)))
        align = int(found.get("general.alignment", 32)) or 32
        start = (self.at + align - 1) // align * align
        tensors: dict[str, GgufTensor] = {}
        for name, tensor in listed:
            if name in tensors:
                raise HookeError(f"{self.path} holds {visible(name)[:80]} twice: convert the model again")
            tensors[name] = GgufTensor(tensor.shape, tensor.kind, start + tensor.offset, tensor.size)
        return found, tensors, max((t.offset + t.size for t in tensors.values()), default=start)


def unsupported(file: GgufFile, key: str, what: str) -> HookeError:
    """The refusal of a key or tensor that would change the numbers."""
    name = f"{file.arch}.{key}" if key in file.keys else key
    return HookeError(
        f"{file.path} has {visible(name)[:120]}: {visible(what)[:200]}, which cannot be read exactly; "
        "use the model's safetensors folder"
    )


def missing(file: GgufFile, key: str, why: str) -> HookeError:
    """The refusal of a file that does not say what is needed."""
    return HookeError(f"{file.path} lacks {key} ({why}): convert the model again, or use its safetensors folder")
