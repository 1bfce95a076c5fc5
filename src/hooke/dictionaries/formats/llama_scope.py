"""Llama Scope and llamascopium: `hyperparams.json` with `checkpoints/final.safetensors`, and `config.json` with
`sae_weights.safetensors`.

Both may go by a feature times the length of what it writes, and be trained on activations scaled to √width on average;
both are folded in.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats.fold import Weights, coder_of, lengths_of, named
from hooke.dictionaries.formats.said import Said
from hooke.dictionaries.formats.tensors import Stored, config_of, opened
from hooke.errors import HookeError
from hooke.model import Model

HYPER, FINAL = "hyperparams.json", "checkpoints/final.safetensors"
CONFIG, WEIGHTS = "config.json", "sae_weights.safetensors"
KINDS = ("sae", "clt", "crosscoder")
GATES = ("relu", "jumprelu", "topk")
NORMS = ("dataset-wise", "inference")
LEVELS = ("activation_function.log_jumprelu_threshold", "log_jumprelu_threshold")
AVERAGE = "dataset_average_activation_norm."


def read_llama_scope(folder: Path, model: Model | None = None) -> tuple[Coder, ...]:
    """The first release: one autoencoder or transcoder with one threshold for all features, as one block.

    The threshold is of activations as the model has them, times the length of what a feature writes (unless
    `sparsity_include_decoder_norm` is false); codes are those of training. Raises HookeError for other activations, and
    for what does not fit its config or the model.
    """
    where = named(folder)
    said = Said(config_of(folder / HYPER), f"{where}/{HYPER}")
    said.one_of("act_fn", ("jumprelu",), "jumprelu")
    said.one_of("norm_activation", ("dataset-wise",), "dataset-wise")
    if said.flag("use_glu_encoder", False) or said.flag("apply_decoder_bias_to_pre_encoder", False):
        raise HookeError(f"{where} has a gated encoder, or subtracts its bias; no published file of this format does")
    width, n = said.whole("d_model"), said.whole("d_sae")
    read = said.text("hook_point_in")
    write = said.text("hook_point_out", read)
    norms, level = said.part("dataset_average_activation_norm"), said.number("jump_relu_threshold")
    scales = [math.sqrt(width) / _positive(norms, key) for key in ("in", "out")]
    with opened(folder / FINAL) as stored:
        decoder = stored.take("decoder.weight", width, n).T
        lengths = lengths_of(decoder) if said.flag("sparsity_include_decoder_norm", True) else None
        threshold = (
            torch.full((n,), level * scales[0]) if lengths is None else _over(torch.tensor(level * scales[1]), lengths)
        )
        offset = stored.take("decoder.bias", width) if "decoder.bias" in stored else torch.zeros(width)
        stored.none_but("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")
        weights = Weights(
            {read: stored.take("encoder.weight", n, width)}, stored.take("encoder.bias", n), {write: decoder},
            {write: offset}, gate="jumprelu", threshold=threshold,
        )  # fmt: skip
    made = {"by": "Llama Scope", "reads": read, "writes": write}
    return (coder_of(weights.times(*scales), model, where, made),)


def _positive(said: Said, key: str) -> float:
    value = said.number(key)
    if value <= 0:
        raise HookeError(f"{said.where}: {key} is {value:g}, and a norm is above zero")
    return value


def _over(level: Tensor, lengths: Tensor) -> Tensor:
    """Thresholds (n,) of features that go by their value times a length; one that writes nothing never fires."""
    most = torch.finfo(lengths.dtype).max / 2
    return torch.where(lengths > 0, level / lengths, most).clamp(max=most)


# ---- llamascopium ------------------------------------------------------------------------------


def read_llamascopium(folder: Path, model: Model | None = None) -> tuple[Coder, ...]:
    """An autoencoder or transcoder (`sae`), a cross-layer transcoder (`clt`, one block a layer), or a crosscoder (one
    block that reads and writes all its places, or one for each place where the gate weighs it by itself).

    Raises HookeError for other kinds (`lorsa`, `molt`), for activations that go by whole batches or layers, for scales
    that depend on the batch or the token, and for what does not fit its config or the model.
    """
    where = named(folder)
    said = Said(config_of(folder / CONFIG), f"{where}/{CONFIG}")
    kind, gate = said.one_of("sae_type", KINDS, "sae"), said.one_of("act_fn", GATES, "relu")
    norm = said.one_of("norm_activation", NORMS, "inference")
    if said.flag("use_glu_encoder", False):
        raise HookeError(f"{where} has a gated encoder, which is no linear read; Hooke does not read it")
    made = {"by": "llamascopium", "kind": kind, "norm": norm}
    with opened(folder / WEIGHTS) as stored:
        if kind == "sae":
            found = [_autoencoder(said, stored, gate)]
        elif kind == "clt":
            found = _cross_layer(said, stored, gate)
        else:
            found = _crosscoder(said, stored, gate)
        whole = [_scaled(weights, stored, norm) for weights in found]
    return tuple(coder_of(weights, model, where, made) for weights in whole)


def _sizes(said: Said) -> tuple[int, int]:
    width = said.whole("d_model")
    return width, int(width * said.number("expansion_factor"))


def _gate(said: Said, stored: Stored, gate: str, lengths: Tensor, *level: int) -> dict[str, object]:
    """Gate, thresholds and k of a block. lengths: (n,), by which features are weighed. level: a row of thresholds."""
    weighed = said.flag("sparsity_include_decoder_norm", True)
    if gate == "topk":
        return {"gate": gate, "k": said.whole("top_k"), "scaled": weighed}
    if gate == "relu":
        return {"gate": gate}
    name = stored.any_of(*LEVELS)
    shape = stored.shapes[name]
    found = stored.take(name, *shape).exp()
    found = found[level[0]] if len(shape) == 2 and level else found
    if found.ndim == 0:
        found = found.expand(len(lengths)).clone()
    return {"gate": gate, "threshold": _over(found, lengths) if weighed else found}


def _autoencoder(said: Said, stored: Stored, gate: str) -> Weights:
    width, n = _sizes(said)
    read = said.text("hook_point_in")
    write = said.text("hook_point_out", read)
    names = ("W_E", "W_D") if "W_E" in stored else ("encoder.weight", "decoder.weight")  # as R1-Distill has them
    if names[0] == "W_E":
        encoder, decoder = stored.take("W_E", width, n).T, stored.take("W_D", n, width)
    else:
        encoder, decoder = stored.take(names[0], n, width), stored.take(names[1], width, n).T
    bias = stored.take(stored.any_of("b_E", "encoder.bias"), n)
    offset = torch.zeros(width)
    if said.flag("use_decoder_bias", True):
        offset = stored.take(stored.any_of("b_D", "decoder.bias"), width)
    _only(stored, *names, "b_E", "b_D", "encoder.bias", "decoder.bias")
    rest = _gate(said, stored, gate, lengths_of(decoder))
    return Weights({read: encoder}, bias, {write: decoder}, {write: offset}, **rest)  # type: ignore[arg-type]


def _cross_layer(said: Said, stored: Stored, gate: str) -> list[Weights]:
    width, n = _sizes(said)
    reads, writes = said.texts("hook_points_in"), said.texts("hook_points_out")
    layers, found = len(reads), []
    if len(writes) != layers:
        raise HookeError(f"{said.where} reads {layers} places and writes {len(writes)}; a layer has one of each")
    encoders, biases = stored.take("W_E", layers, width, n), stored.take("b_E", layers, n)
    above = [stored.take(f"W_D.{to}", to + 1, n, width) for to in range(layers)]
    offsets = [torch.zeros(width) for _ in range(layers)]
    if said.flag("use_decoder_bias", True):
        offsets = [stored.take(f"b_D.{to}", width) for to in range(layers)]
    _only(stored, "W_E", "b_E", *(f"{name}.{to}" for name in ("W_D", "b_D") for to in range(layers)))
    for layer, read in enumerate(reads):
        decoders = {writes[to]: above[to][layer] for to in range(layer, layers)}
        own = {writes[to]: offsets[to] if to == layer else torch.zeros(width) for to in range(layer, layers)}
        lengths = torch.stack([lengths_of(x) for x in decoders.values()]).square().sum(0).sqrt()
        rest = _gate(said, stored, gate, lengths, layer)
        found.append(Weights({read: encoders[layer].T}, biases[layer], decoders, own, **rest))  # type: ignore[arg-type]
    return found


def _crosscoder(said: Said, stored: Stored, gate: str) -> list[Weights]:
    """One block that writes all places; where a gate weighs what a feature writes at each by itself, one block a place,
    which all read the same."""
    width, n = _sizes(said)
    places = said.texts("hook_points")
    heads = len(places)
    encoders, decoders = stored.take("W_E", heads, width, n), stored.take("W_D", heads, n, width)
    bias, offsets = stored.take("b_E", heads, n).sum(0), torch.zeros(heads, width)
    if said.flag("use_decoder_bias", True):
        offsets = stored.take("b_D", heads, width)
    _only(stored, "W_E", "W_D", "b_E", "b_D")
    found = []
    for group in [range(heads)] if gate == "relu" else [[i] for i in range(heads)]:
        rest = _gate(said, stored, gate, lengths_of(decoders[group[0]]))
        found.append(Weights(
            {place: encoders[i].T for i, place in enumerate(places)}, bias,
            {places[i]: decoders[i] for i in group}, {places[i]: offsets[i] for i in group},
            **rest,  # type: ignore[arg-type]
        ))  # fmt: skip
    return found


def _only(stored: Stored, *names: str) -> None:
    stored.none_but(*names, *LEVELS, *(name for name in stored.shapes if name.startswith(AVERAGE)))


def _scaled(weights: Weights, stored: Stored, norm: str) -> Weights:
    """With the average norms of training folded in, place by place. They are only set where the config says so."""
    if norm == "inference":
        return weights

    def scale(name: str) -> float:
        value = float(stored.take(AVERAGE + name))
        if value <= 0:
            raise HookeError(f"{stored.where}: the average norm at {name} is {value:g}, and a norm is above zero")
        width = next(iter(weights.encoders.values())).shape[1]
        return math.sqrt(width) / value

    reads = {name: scale(name) for name in weights.encoders}
    writes = {name: scale(name) for name in weights.decoders}
    if weights.scaled and max(writes.values()) > min(writes.values()) * (1 + 1e-6):
        raise HookeError(f"{stored.where} weighs features by what they write at places of several scales; not read")
    return Weights(
        {name: x * reads[name] for name, x in weights.encoders.items()}, weights.bias,
        {name: x / writes[name] for name, x in weights.decoders.items()},
        {name: x / writes[name] for name, x in weights.offsets.items()},
        weights.gate, weights.threshold, weights.k, weights.scaled,
    )  # fmt: skip
