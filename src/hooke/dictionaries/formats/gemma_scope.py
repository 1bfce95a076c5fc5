"""Gemma Scope: version 1 as NumPy archives below folders that say what they are of, version 2 as safetensors with a
config; JumpReLU throughout, and a cross-layer transcoder as one file a layer."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats.fold import Weights, coder_of, named
from hooke.dictionaries.formats.said import Said
from hooke.dictionaries.formats.tensors import Stored, config_of, names_in, opened
from hooke.errors import HookeError
from hooke.files import is_dir, is_file
from hooke.model import Model

PARAMS, ARCHIVE, CONFIG = "params.safetensors", "params.npz", "config.json"
FIRST = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
BEFORE, AFTER = ".pre_feedforward_layernorm.output", ".post_feedforward_layernorm.output"
SECOND = {
    "resid_post": (".output", ".output"),
    "attn_out": (".self_attn.o_proj.input", ".self_attn.o_proj.input"),
    "mlp_out": (AFTER, AFTER),
    "transcoder": (BEFORE, AFTER),
}
LAYERED = re.compile(r"layer_(\d{1,4})(?=\D|$)")
ROWS = {"W_enc": ("W_enc", "w_enc"), "W_dec": ("W_dec", "w_dec")}


def read_gemma_scope(path: Path, model: Model | None = None) -> tuple[Coder, ...]:
    """Version 1: `params.npz`, or the folder it lies in, as one block.

    What it is of is said by the folders above it: `gemma-scope-2b-pt-res/layer_5/width_16k/…`, `-mlp`, `-att` and
    `-transcoders`, which read before a norm's gain and so need the model; below `embedding/` it is of the embedded
    tokens. Raises HookeError where they do not say it, and for what does not fit the model.
    """
    path = path / ARCHIVE if is_dir(path) else path
    where, parts = named(path), path.absolute().parts
    read, write = _places(parts, where)
    with opened(path) as stored:
        weights = _weights(stored, read, write, *(stored.any_of(*ROWS[name]) for name in ("W_enc", "W_dec")))
    if "embedding" in parts:  # trained on the embedding itself, and the stream is that times √width
        width = next(iter(weights.encoders.values())).shape[1]
        weights = weights.times(width**-0.5)
    return (coder_of(weights, model, where, {"by": "Gemma Scope", "reads": read, "writes": write}),)


def _places(parts: tuple[str, ...], where: str) -> tuple[str, str]:
    kind = next(
        (found[1] for part in parts if (found := re.search(r"gemma-scope-.*-(res|mlp|att|transcoders)$", part))), ""
    )
    layers = [int(found[1]) for part in parts if (found := re.fullmatch(r"layer_(\d{1,4})", part))]
    if kind == "res" and "embedding" in parts:
        return "hook_embed", "hook_embed"
    if not kind or not layers:
        raise HookeError(
            f"{where} does not say what it is of; keep the folders' names, as in "
            "gemma-scope-2b-pt-res/layer_5/width_16k/average_l0_68"
        )
    if kind == "transcoders":
        return f"blocks.{layers[-1]}.ln2.hook_normalized", f"blocks.{layers[-1]}.hook_mlp_out"
    return f"blocks.{layers[-1]}.{FIRST[kind]}", f"blocks.{layers[-1]}.{FIRST[kind]}"


def _weights(stored: Stored, read: str, write: str, encoder: str = "w_enc", decoder: str = "w_dec") -> Weights:
    width, n, out = stored.size(encoder, 0, 2), stored.size("b_enc", 0, 1), stored.size("b_dec", 0, 1)
    skip = {}
    if "affine_skip_connection" in stored:
        skip = {write: stored.take("affine_skip_connection", width, out).T}
    if "scaling_factor" in stored and not bool((stored.take("scaling_factor", n) - 1).abs().max() < 1e-5):
        raise HookeError(f"{stored.where} scales its features, and no version of its format says how")
    stored.none_but(encoder, decoder, "b_enc", "b_dec", "threshold", "affine_skip_connection", "scaling_factor")
    return Weights(
        {read: stored.take(encoder, width, n).T}, stored.take("b_enc", n), {write: stored.take(decoder, n, out)},
        {write: stored.take("b_dec", out)}, gate="jumprelu", threshold=stored.take("threshold", n), skip=skip,
    )  # fmt: skip


# ---- version 2 ---------------------------------------------------------------------------------


def read_gemma_scope_2(path: Path, model: Model | None = None) -> tuple[Coder, ...]:
    """Version 2: the folder of one dictionary (`params.safetensors`, `config.json`) as one block, or the folder of a
    cross-layer transcoder (one file for each layer that it reads) as one block a layer.

    A block of a cross-layer transcoder writes its own layer and all above it; what a file holds for layers below is not
    used. Its `b_dec` is what all blocks together add at that layer. Raises HookeError for files of layers that are
    missing, and for what does not fit the model.
    """
    path = path.parent if path.name in (PARAMS, CONFIG) else path
    where = named(path)
    said = Said(config_of(path / CONFIG) if is_file(path / CONFIG) else {}, f"{where}/{CONFIG}")
    if said.text("architecture", "jump_relu") != "jump_relu":
        raise HookeError(f"{said.where}: the architecture is {said.text('architecture')!r}; it has to be jump_relu")
    made = {"by": "Gemma Scope 2"} | ({"model_name": said.text("model_name")} if "model_name" in said else {})
    if not is_file(path / PARAMS):
        return _cross_layer(path, where, model, made)
    if "hf_hook_point_in" in said:
        read = said.text("hf_hook_point_in")
        write = said.text("hf_hook_point_out", read)
    else:
        read, write = _by_folders(path, where)
    with opened(path / PARAMS) as stored:
        weights = _weights(stored, read, write)
    if bool(weights.skip) != said.flag("affine_connection", bool(weights.skip)):
        raise HookeError(f"{said.where} and the weights do not agree whether there is an affine connection")
    return (coder_of(weights, model, where, made | {"reads": read, "writes": write}),)


def _by_folders(path: Path, where: str) -> tuple[str, str]:
    """Where a dictionary without a config reads and writes, by the names of its folders, as in resid_post/layer_12_…"""
    parts, layer = path.absolute().parts, LAYERED.search(path.name)
    for kind, modules in SECOND.items():
        if layer is not None and any(part == kind or part.startswith(f"{kind}_") for part in parts[:-1]):
            read, write = (f"model.layers.{int(layer[1])}{module}" for module in modules)
            return read, write
    raise HookeError(f"{where} does not say what it is of; copy its {CONFIG} too, or keep the names of its folders")


def _cross_layer(path: Path, where: str, model: Model | None, made: dict[str, str]) -> tuple[Coder, ...]:
    files = {}
    for file in (path / name for name in names_in(path)):
        found = LAYERED.search(file.name) if file.suffix == ".safetensors" else None
        if found is not None:
            files[int(found[1])] = file
    if not files or set(files) != set(range(len(files))):
        there = ", ".join(map(str, sorted(files))) or "none"
        raise HookeError(f"{where} has neither {PARAMS} nor a file of every layer from 0 on; there are layers {there}")
    blocks, layers = [], len(files)
    for layer, file in sorted(files.items()):
        with opened(file) as stored:
            weights = _cross_block(stored, layer, layers)
        blocks.append(coder_of(weights, model, f"{where}/{file.name}", made))
    return tuple(blocks)


def _cross_block(stored: Stored, layer: int, layers: int) -> Weights:
    read = f"model.layers.{layer}{BEFORE}"
    writes = [f"model.layers.{to}{AFTER}" for to in range(layer, layers)]
    width, n, out = stored.size("w_enc", 0, 2), stored.size("b_enc", 0, 1), stored.size("b_dec", 0, 1)
    decoder = stored.take("w_dec", n, layers, out)
    skip = {}
    if "affine_skip_connection" in stored:
        skip = {writes[0]: stored.take("affine_skip_connection", width, out).T}
    stored.none_but("w_enc", "w_dec", "b_enc", "b_dec", "threshold", "affine_skip_connection")
    offset = stored.take("b_dec", out)
    return Weights(
        {read: stored.take("w_enc", width, n).T}, stored.take("b_enc", n),
        {write: decoder[:, layer + i] for i, write in enumerate(writes)},
        {write: offset if i == 0 else torch.zeros_like(offset) for i, write in enumerate(writes)},
        gate="jumprelu", threshold=stored.take("threshold", n), skip=skip,
    )  # fmt: skip
