"""A GGUF file as keys and tensors, and the refusals that name one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hooke.errors import HookeError, visible
from hooke.files import check_file

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class GgufFile:
    """What a file says: the keys of its architecture without their prefix, all other keys, and its tensors by name."""

    path: Path
    arch: str
    keys: dict[str, Any]
    other: dict[str, Any]
    tensors: dict[str, Any]

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

    def values(self, name: str) -> np.ndarray:
        """A tensor's numbers in fp32, dequantised, with the axes of the model: (out, in)."""
        import numpy as np
        from gguf import dequantize

        tensor = self.tensors[name]
        try:
            return np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)  # not a view of the file
        except NotImplementedError:
            raise HookeError(
                f"{self.path} holds {visible(name)[:80]} as {tensor.tensor_type.name}, which cannot be dequantised: "
                "use a file of another type, or the model's safetensors folder"
            ) from None


def read_file(path: Path) -> GgufFile:
    """Read a file's keys (lists of text are counted only) and where its tensors are; no numbers yet."""
    from gguf import GGUFReader, GGUFValueType

    try:
        check_file(path)
        reader = GGUFReader(path)
    except HookeError:
        raise
    except Exception as error:  # in as many ways as a header can be wrong
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise HookeError(f"{path} is damaged ({visible(reason[0])[:200]}): download it again") from None
    found = {}
    for name, field in reader.fields.items():
        texts = len(field.types) > 1 and field.types[-1] == GGUFValueType.STRING
        found[name] = [""] * len(field.data) if texts else field.contents()
    arch = str(found.get("general.architecture", ""))
    prefix = f"{arch}."
    keys = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    other = {name: value for name, value in found.items() if not name.startswith((prefix, "GGUF."))}
    return GgufFile(path, arch, keys, other, {tensor.name: tensor for tensor in reader.tensors})


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
