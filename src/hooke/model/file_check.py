"""What lies in the weight files against the parameters that transformers made of it.

A model that is compared with itself cannot show what a loader dropped, filled at random or put elsewhere. So each
tensor of the files must have its parameter and each parameter its tensor, with equal numbers in a sample of rows, and
all of them finite.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from hooke.errors import HookeError, visible
from hooke.files import read_json
from hooke.model.store import weight_files

if TYPE_CHECKING:
    from torch import Tensor, nn

# of older formats: buffers that follow from the configuration, and never a parameter's name
_BUFFER = re.compile(r"(^|\.)(rotary_emb\.inv_freq|position_ids|masked_bias|attn\.bias|attention\.bias)$")
_SAMPLE, _BLOCKS = 1 << 16, 8


def check_files(hf: nn.Module, folder: Path, *, dropped: str | None = None) -> None:
    """Raise HookeError, naming the tensor, where a model on the CPU is not what the files of its folder hold.

    dropped: a regular expression for tensors that belong to parts which were left out on purpose.
    """
    files = weight_files(folder)
    check_index(folder)
    state = dict(hf.state_dict())
    seen: dict[str, str] = {}
    for file in files:
        with safe_open(file, "pt") as data:
            for key in data.keys():  # noqa: SIM118, it is no mapping
                if dropped is not None and re.match(dropped, key):
                    continue
                name = _place(key, state, hf)
                if name is None:
                    if _BUFFER.search(key) and len(data.get_slice(key).get_shape()) != 1:
                        continue
                    if key.endswith("inv_freq"):
                        _compare_frequencies(data.get_slice(key), hf, key, file)
                        continue
                    raise HookeError(
                        f"{file} holds {visible(key)[:120]}, which a {type(hf).__name__} with this config.json has no "
                        "place for: it would be left out"
                    )
                if name in seen and seen[name] != key:
                    raise HookeError(
                        f"{file} holds {visible(key)[:120]} and {visible(seen[name])[:120]}, one weight twice"
                    )
                seen[name] = key
                _compare(data.get_slice(key), state[name], key, file)
    tied = _tied(hf, state)
    for name in state:
        if name not in seen and tied.get(name) not in seen:
            raise HookeError(f"{folder} lacks {name}, which its config.json needs: copy the model again")
    if getattr(hf.config, "tie_word_embeddings", False):
        for name, other in tied.items():
            if name in seen and other in seen and state[name].data_ptr() != state[other].data_ptr():
                raise HookeError(
                    f"{folder} holds {name} and {other} with other numbers, and its config.json says that they are one "
                    "(tie_word_embeddings): set it to false if the output has its own"
                )


def check_index(folder: Path) -> None:
    """Raise HookeError where the index of sharded weights and the shards disagree."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists() or not index.exists():
        return
    listed = read_json(index, folder=folder)["weight_map"]
    found: dict[str, str] = {}
    for file in weight_files(folder):
        with safe_open(file, "pt") as data:
            for key in data.keys():  # noqa: SIM118
                if key in found:
                    raise HookeError(f"{folder}: {visible(key)[:120]} is in {found[key]} and in {file.name}")
                found[key] = file.name
    for key, name in listed.items():
        if found.get(key) != name:
            raise HookeError(f"{index} places {visible(key)[:120]} in {visible(str(name))[:80]}, where it is not")
    for key, name in found.items():
        if key not in listed:
            raise HookeError(f"{folder / name} holds {visible(key)[:120]}, which {index.name} does not list")
    beside = sorted(path.name for path in folder.glob("model-*-of-*.safetensors") if path.name not in listed.values())
    if beside:
        raise HookeError(f"{folder} holds {visible(beside[0])[:80]}, which {index.name} does not list")


def _place(key: str, state: dict[str, Tensor], hf: Any) -> str | None:
    """The parameter that a tensor of a file becomes, by the names that transformers takes for one."""
    prefix = f"{hf.base_model_prefix}."
    text = re.sub(r"^(model\.)?language_model\.", "", key)
    for name in (key, prefix + key, key.removeprefix(prefix), text, prefix + text):
        for each in (name, re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))):
            if each in state:
                return each
            each = each.replace("embed_out.", "lm_head.")  # GPT-NeoX before it was renamed
            if each in state:
                return each
    return None


def _tied(hf: Any, state: dict[str, Tensor]) -> dict[str, str]:
    """The names that are one weight by the configuration, each with the other's."""
    found: dict[str, str] = {}
    if getattr(hf.config, "tie_word_embeddings", False):
        for name, other in (getattr(hf, "_tied_weights_keys", None) or {}).items():
            if name in state and other in state:
                found |= {name: other, other: name}
    return found


def _compare(stored: Any, parameter: Tensor, key: str, file: Path) -> None:
    import torch

    if stored.get_dtype() not in ("F64", "F32", "F16", "BF16"):
        raise HookeError(
            f"{file} holds {visible(key)[:120]} as {stored.get_dtype()}, quantised: "
            "take the unquantised model, or its GGUF file"
        )
    shape = tuple(stored.get_shape())
    if shape != tuple(parameter.shape):
        made = tuple(parameter.shape)
        raise HookeError(f"{file} holds {visible(key)[:120]} of the shape {shape}, and its config.json makes {made}")
    for rows in _rows(shape):
        there = stored[rows] if shape else stored[...]
        here = parameter[rows] if shape else parameter
        cast = there.to(parameter.dtype)
        if not torch.equal(cast, here.cpu()) and bool(torch.isfinite(cast).all()):
            raise HookeError(f"{visible(key)[:120]} came out of {file} with other numbers than it holds")


def _compare_frequencies(stored: Any, hf: Any, key: str, file: Path) -> None:
    """Raise HookeError for rotary frequencies, kept by older formats, that are not those of the configuration."""
    import torch

    there = stored[...].float().reshape(-1)
    rope = getattr(hf.config, "rope_parameters", None) or {}
    made = [value.float().cpu() for name, value in hf.named_buffers() if name.endswith("inv_freq")]
    if isinstance(theta := rope.get("rope_theta"), (int, float)) and len(there):  # before any scaling
        made.append(float(theta) ** -(torch.arange(len(there)) / len(there)))
    # half precision rounds them
    if not any(x.shape == there.shape and torch.allclose(there, x, rtol=1e-2, atol=1e-6) for x in made):
        raise HookeError(
            f"{file} holds {visible(key)[:120]}, other rotary frequencies than its config.json gives (rope_theta, "
            "rope_scaling): they would be left out"
        )


def _rows(shape: tuple[int, ...]) -> Iterator[slice]:
    """The rows to compare: all of a small tensor, else eight runs of them, with the first and the last."""
    count, width = (shape[0], 1) if shape else (1, 1)
    for n in shape[1:]:
        width *= n
    run = max(1, _SAMPLE // _BLOCKS // max(1, width))
    if count <= run * _BLOCKS:
        yield slice(0, count)
        return
    for i in range(_BLOCKS):
        start = i * (count - run) // (_BLOCKS - 1)
        yield slice(start, start + run)


def check_rotated(hf: nn.Module, where: Path) -> None:
    """Raise HookeError if a model rotates more or fewer dimensions of a head than its configuration says."""
    config: Any = hf.config
    rope = getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict) or any(isinstance(each, dict) for each in rope.values()):
        return  # without rotary positions, or a kind a layer type: those rotate all
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    share = rope.get("partial_rotary_factor") or 1.0
    for name, value in hf.named_buffers():
        if name.endswith("rotary_emb.inv_freq") and value.numel() != int(head_dim * share) // 2:
            raise HookeError(
                f"{where} sets partial_rotary_factor to {share:g}, and transformers' {type(hf).__name__} rotates "
                f"{2 * value.numel()} of {head_dim} dimensions"
            )


def check_finite(hf: nn.Module, name: str, *, cast: bool = False) -> None:
    """Raise HookeError naming the first weight that holds a NaN or an infinity.

    cast: the weights were just converted to another dtype, which may be why.
    """
    import torch

    for key, value in hf.state_dict().items():
        if value.device.type == "meta" or not value.is_floating_point():
            continue
        if bool(torch.isfinite(value.detach().sum(dtype=torch.float32))):  # one NaN or infinity makes the sum one
            continue
        bad = ~torch.isfinite(value)
        if count := int(bad.sum()):
            kind = "NaN" if bool(torch.isnan(value).any()) else "infinite"
            dtype = str(value.dtype).removeprefix("torch.")
            hint = (
                f"; if they are finite in the file, {dtype} cannot hold them: load with --dtype float32" if cast else ""
            )
            raise HookeError(f"{name} was refused: {key} holds {count:,} numbers that are {kind}{hint}")
