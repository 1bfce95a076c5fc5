"""circuit-tracer: a folder with `config.yaml` and one file a layer; of a cross-layer transcoder two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats.fold import Weights, coder_of, named
from hooke.dictionaries.formats.said import Said, plain_yaml
from hooke.dictionaries.formats.tensors import Stored, home, opened
from hooke.errors import HookeError
from hooke.files import is_file, read_text
from hooke.model import Model

CONFIG = "config.yaml"
KINDS = ("transcoder_set", "cross_layer_transcoder")
MANY = 1000  # layers


def read_circuit_tracer(folder: Path, model: Model | None = None) -> tuple[Coder, ...]:
    """All layers of a set, one block each, from layer 0 on. A block of a cross-layer transcoder writes its own layer
    and all above it, and its `b_dec` is what all blocks together add at that layer.

    The first position, which circuit-tracer leaves out when it encodes, is encoded like all others. Raises HookeError
    for files that are missing, for a config that only names files elsewhere, and for what does not fit the model.
    """
    where = named(folder)
    said = read_config(folder)
    kind = said.one_of("model_kind", KINDS)
    hooks = said.text("feature_input_hook"), said.text("feature_output_hook")
    made: dict[str, Any] = {"by": "circuit-tracer", "reads": hooks[0], "writes": hooks[1]}
    made |= {key: said.text(key) for key in ("model_name", "scan") if isinstance(said.values.get(key), str)}
    first = "layer_{}.safetensors" if kind == KINDS[0] else "W_enc_{}.safetensors"
    layers = next(layer for layer in range(MANY + 1) if not is_file(folder / first.format(layer)))
    if not layers:
        far = "; it names files elsewhere: fetch those, and read them one by one" if "transcoders" in said else ""
        raise HookeError(f"{where} has no {first.format(0)}{far}")
    left = [file.name for file in folder.glob(first.format("*")) if not _below(file, first, layers)]
    if left:
        raise HookeError(f"{where} has {left[0]} and not {first.format(layers)}; fetch the whole set")
    blocks = []
    for layer in range(layers):
        file = folder / first.format(layer)
        with opened(file) as stored:
            if kind == KINDS[0]:
                weights = _per_layer(said, stored, *(f"blocks.{layer}.{hook}" for hook in hooks))
            else:
                with opened(folder / f"W_dec_{layer}.safetensors") as decoders:
                    weights = _cross_layer(stored, decoders, layer, layers, hooks)
        blocks.append(coder_of(weights, model, f"{where}/{file.name}", made))
    sizes = {block.n_features for block in blocks}
    if len(sizes) > 1:
        raise HookeError(f"{where}: layers have {min(sizes)} to {max(sizes)} features; a set has one number for all")
    return tuple(blocks)


def read_config(folder: Path) -> Said:
    """What `config.yaml` says. Raises HookeError if it is not there, or no flat list of keys."""
    path, where = folder / CONFIG, f"{named(folder)}/{CONFIG}"
    return Said(plain_yaml(read_text(path, 2**20, folder=home(path)), where), where)


def _below(file: Path, pattern: str, layers: int) -> bool:
    head, tail = pattern.split("{}")
    number = file.name.removeprefix(head).removesuffix(tail)
    return not number.isdecimal() or int(number) < layers


def _per_layer(said: Said, stored: Stored, read: str, write: str) -> Weights:
    n, width, out = stored.size("W_enc", 0, 2), stored.size("W_enc", 1, 2), stored.size("b_dec", 0, 1)
    level, k, gate = "activation_function.threshold", None, "relu"
    threshold = stored.take(level, n, negative=False) if level in stored else None
    if said.one_of("activation", ("relu", "topk", "jump_relu", "jumprelu"), "relu") == "topk":
        gate, k = "topk", int(stored.fetch("k")) if "k" in stored else said.whole("k")
    elif threshold is not None:
        gate = "jumprelu"
    threshold = threshold if gate == "jumprelu" else None
    skip = {write: stored.take("W_skip", out, width)} if "W_skip" in stored else {}
    stored.none_but("W_enc", "W_dec", "b_enc", "b_dec", level, "W_skip", "k")
    return Weights(
        {read: stored.take("W_enc", n, width)}, stored.take("b_enc", n), {write: stored.take("W_dec", n, out)},
        {write: stored.take("b_dec", out)}, gate=gate, threshold=threshold, k=k, skip=skip,
    )  # fmt: skip


def _cross_layer(stored: Stored, decoders: Stored, layer: int, layers: int, hooks: tuple[str, str]) -> Weights:
    """What a layer's features read, and what they write at it and above."""
    names = {name: f"{name}_{layer}" for name in ("W_enc", "b_enc", "b_dec", "threshold", "W_dec")}
    n, width, out = (stored.size(names["W_enc"], axis, 2) for axis in (0, 1, 1))
    decoder = decoders.take(names["W_dec"], n, layers - layer, out)
    threshold = stored.take(names["threshold"], n, negative=False) if names["threshold"] in stored else None
    stored.none_but(*names.values())
    decoders.none_but(names["W_dec"])
    writes = [f"blocks.{to}.{hooks[1]}" for to in range(layer, layers)]
    offset = stored.take(names["b_dec"], out)
    return Weights(
        {f"blocks.{layer}.{hooks[0]}": stored.take(names["W_enc"], n, width)}, stored.take(names["b_enc"], n),
        {write: decoder[:, i] for i, write in enumerate(writes)},
        {write: offset if i == 0 else torch.zeros_like(offset) for i, write in enumerate(writes)},
        gate="relu" if threshold is None else "jumprelu", threshold=threshold,
    )  # fmt: skip
