"""`write_dictionary`: blocks as SAELens, sparsify and circuit-tracer read them, with the same codes there as here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats import circuit_tracer, saelens, sparsify
from hooke.dictionaries.formats.fold import only
from hooke.dictionaries.formats.hooks import lens_name, module_name, products
from hooke.errors import HookeError
from hooke.files import path_of, write_atomic
from hooke.sites import Site

SPOKEN = "6.0.0"  # the version of SAELens whose form is written


def write_dictionary(blocks: Sequence[Coder], folder: str | Path, format: str) -> Path:
    """Write blocks in another tool's form: "saelens" or "sparsify" (one folder a block, by the name of its place, or
    the folder itself for one block of SAELens), or "circuit-tracer" (per-layer transcoders from layer 0 on, or a
    cross-layer transcoder). Returns the folder.

    Raises HookeError for what the form cannot hold, before anything is written, and where the folder cannot be written.
    """
    if format not in WRITERS:
        raise HookeError(f"no format called {str(format)[:80]!r} is written; there are {', '.join(WRITERS)}")
    if not blocks:
        raise HookeError("no dictionary to write")
    if any(block.refine for block in blocks):
        raise HookeError("a dictionary that refines its codes by a step is Hooke's own; no other form holds it")
    folder, found = path_of(folder), WRITERS[format](list(blocks))
    for name, content in found.items():  # configs come last, so that a folder that was not finished is not read
        write_atomic(folder / name, content)
    return folder


def _bytes(tensors: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return save({name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()})


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=1) + "\n").encode()


def _model_name(block: Coder) -> str | None:
    found = (block.about.get("belongs_to") or {}).get("model") or (block.about.get("made") or {}).get("model_name")
    return None if found is None else str(found)


# ---- SAELens -----------------------------------------------------------------------------------


def _saelens(blocks: list[Coder]) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for block in blocks:
        inside = "" if len(blocks) == 1 else f"{lens_name(block.writes[0])}/"
        config, tensors = _saelens_block(block)
        if inside + saelens.CONFIG in made:
            raise HookeError(f"two of these dictionaries write {block.writes[0]}; write each into a folder of its own")
        made |= {inside + saelens.WEIGHTS: _bytes(tensors), inside + saelens.CONFIG: _json(config)}
    return made


def _saelens_block(block: Coder) -> tuple[dict[str, Any], dict[str, Tensor]]:
    (read, encoder), (write, decoder) = only(block.encoders, "read"), only(block.decoders, "write")
    transcodes = read != write
    if block.gate == "groupmax" or (transcodes and block.gate not in ("relu", "jumprelu")):
        what = "a transcoder" if transcodes else "an autoencoder"
        raise HookeError(f"SAELens has no {what.removeprefix('a ').removeprefix('an ')} with the gate {block.gate}")
    if block.skip and not transcodes:
        raise HookeError("SAELens has no autoencoder with a skip connection")
    names = {"relu": "standard", "jumprelu": "jumprelu", "topk": "topk", "abstopk": "abstopk"}
    kind = names[block.gate]
    if transcodes:
        kind = f"{'jumprelu_' if block.gate == 'jumprelu' else ''}{'skip_' if block.skip else ''}transcoder"
    norms = {held: said for said, held in saelens.HELD.items()} | {"": "none"}
    about = {"hook_name": lens_name(read), "hook_head_index": None, "sae_lens_version": SPOKEN, "prepend_bos": True}
    about |= {"model_name": _model_name(block)} | ({"hook_name_out": lens_name(write)} if transcodes else {})
    config = {
        "architecture": kind, "d_in": encoder.shape[1], "d_sae": block.n_features, "dtype": _dtype(block),
        "device": "cpu", "apply_b_dec_to_input": False, "normalize_activations": norms[block.norm],
        "reshape_activations": "hook_z" if read.point == "z" else "none", "metadata": about,
    }  # fmt: skip
    config |= {"d_out": decoder.shape[1]} if transcodes else {}
    config |= {"k": block.k, "rescale_acts_by_decoder_norm": block.scaled} if block.k else {}
    tensors = {"W_enc": encoder.T, "b_enc": block.bias, "W_dec": decoder, "b_dec": block.offsets[write]}
    if block.threshold is not None:
        tensors["threshold"] = block.threshold
    if block.skip:
        tensors["W_skip"] = block.skip[write]
    return config, tensors


def _dtype(block: Coder) -> str:
    return str(next(iter(block.encoders.values())).dtype).removeprefix("torch.")


# ---- sparsify ----------------------------------------------------------------------------------


def _sparsify(blocks: list[Coder]) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for block in blocks:
        (read, encoder), (write, decoder) = only(block.encoders, "read"), only(block.decoders, "write")
        if block.gate not in sparsify.GATES or block.scaled or block.norm:
            raise HookeError(f"sparsify has topk and groupmax of plain values, and this dictionary {_gate(block)}")
        if encoder.shape[1] != decoder.shape[1]:
            raise HookeError("sparsify's coders write as many numbers as they read, and this one does not")
        name, transcodes = module_name(write, "output"), read != write
        if transcodes and module_name(read, "input") != name:
            raise HookeError(
                f"sparsify's transcoders read what a module takes and write what it gives, not {read} to {write}"
            )
        bias, offset = block.bias, block.offsets[write]
        tensors = {"encoder.weight": encoder, "W_dec": decoder, "b_dec": offset}
        tensors["encoder.bias"] = bias if transcodes else bias + products(encoder, offset)
        if block.skip:
            tensors["W_skip"] = block.skip[write]
        config = {
            "activation": block.gate, "expansion_factor": 1, "normalize_decoder": False, "multi_topk": False,
            "num_latents": block.n_features, "k": block.k, "skip_connection": bool(block.skip),
            "transcode": transcodes, "d_in": encoder.shape[1],
        }  # fmt: skip
        if f"{name}/{sparsify.CONFIG}" in made:
            raise HookeError(f"two of these dictionaries are of {name}; write each into a folder of its own")
        made |= {f"{name}/{sparsify.WEIGHTS}": _bytes(tensors), f"{name}/{sparsify.CONFIG}": _json(config)}
    return made


def _gate(block: Coder) -> str:
    held = f"takes what it reads over a scale ({block.norm})" if block.norm else f"has the gate {block.gate}"
    return "goes by a feature times the length of what it writes" if block.scaled else held


# ---- circuit-tracer ----------------------------------------------------------------------------


def _circuit_tracer(blocks: list[Coder]) -> dict[str, bytes]:
    """Per-layer transcoders, or a cross-layer one where a block writes above the layer that it reads."""
    blocks = sorted(blocks, key=lambda block: block.reads[0])
    reads = [only(block.encoders, "read")[0] for block in blocks]
    writes = {site for block in blocks for site in block.writes}
    if [site.layer for site in reads] != list(range(len(blocks))) or len({site.point for site in reads}) > 1:
        raise HookeError("circuit-tracer needs one block for every layer from 0 on, all reading the same point")
    if len({site.point for site in writes}) > 1:
        raise HookeError("circuit-tracer needs all blocks to write the same point, each at its layer")
    if len({block.n_features for block in blocks}) > 1:
        raise HookeError("circuit-tracer needs as many features in every layer")
    for block in blocks:
        if block.gate not in ("relu", "jumprelu") or block.norm or block.gate != blocks[0].gate:
            raise HookeError(
                f"circuit-tracer has relu and jumprelu, one for all layers, and this dictionary {_gate(block)}"
            )
        if block.threshold is not None and bool((block.threshold < 0).any()):
            raise HookeError("circuit-tracer lets values below zero through thresholds below zero, and Hooke does not")
    across = any(set(block.writes) != {Site(block.writes[0].point, read.layer)} for block, read in zip(blocks, reads))
    made = _cross_layer(blocks, reads, next(iter(writes)).point) if across else _per_layer(blocks)
    hooks = (lens_name(site).split(".", 2)[2] for site in (reads[0], next(iter(writes))))
    config = dict(zip(("feature_input_hook", "feature_output_hook"), hooks))
    config |= {"model_kind": circuit_tracer.KINDS[across], "model_name": _model_name(blocks[0]) or "unknown"}
    config |= {"scan": "hooke"}
    made[circuit_tracer.CONFIG] = "".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items()).encode()
    return made


def _per_layer(blocks: list[Coder]) -> dict[str, bytes]:
    made = {}
    for layer, block in enumerate(blocks):
        (_, encoder), (write, decoder) = only(block.encoders, "read"), only(block.decoders, "write")
        tensors = {"W_enc": encoder, "W_dec": decoder, "b_enc": block.bias, "b_dec": block.offsets[write]}
        if block.threshold is not None:
            tensors["activation_function.threshold"] = block.threshold
        if block.skip:
            tensors["W_skip"] = block.skip[write]
        made[f"layer_{layer}.safetensors"] = _bytes(tensors)
    return made


def _cross_layer(blocks: list[Coder], reads: list[Site], point: str) -> dict[str, bytes]:
    if any(block.skip for block in blocks):
        raise HookeError("circuit-tracer writes no cross-layer transcoder with a skip connection")
    made, sites = {}, [Site(point, layer) for layer in range(len(blocks))]
    for layer, (block, read) in enumerate(zip(blocks, reads)):
        if not set(block.writes) <= set(sites[layer:]):
            raise HookeError(
                f"a block that reads {read} writes {block.writes[0]}; circuit-tracer has layers from its own on"
            )
        encoder, width = block.encoders[read], next(iter(block.decoders.values())).shape[1]
        none = torch.zeros(block.n_features, width, dtype=encoder.dtype, device=encoder.device)
        decoder = torch.stack([block.decoders.get(site, none) for site in sites[layer:]], 1)
        offset = sum(
            (one.offsets[sites[layer]] for one in blocks if sites[layer] in one.offsets), torch.zeros_like(none[0])
        )
        tensors = {f"W_enc_{layer}": encoder, f"b_enc_{layer}": block.bias, f"b_dec_{layer}": offset}
        if block.threshold is not None:
            tensors[f"threshold_{layer}"] = block.threshold
        made[f"W_enc_{layer}.safetensors"] = _bytes(tensors)
        made[f"W_dec_{layer}.safetensors"] = _bytes({f"W_dec_{layer}": decoder})
    return made


WRITERS: dict[str, Callable[[list[Coder]], dict[str, bytes]]] = {
    "saelens": _saelens,
    "sparsify": _sparsify,
    "circuit-tracer": _circuit_tracer,
}
