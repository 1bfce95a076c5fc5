"""dictionary_learning: `ae.pt`, a pickle of weights, and `config.json` beside it."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats.fold import Weights, coder_of, gated, named
from hooke.dictionaries.formats.said import Said
from hooke.dictionaries.formats.tensors import Stored, config_of, opened
from hooke.errors import HookeError
from hooke.model import Model

CONFIG, WEIGHTS = "config.json", "ae.pt"
BATCHED = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")
KINDS = ("AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "AutoEncoderTopK", "JumpReluAutoEncoder", *BATCHED)
UNCENTRED = ("AutoEncoderNew", "JumpReluAutoEncoder")  # those that do not subtract what they add
WEIGHED = ("W_enc", "W_dec", "b_enc", "b_dec", "encoder.weight", "decoder.weight", "encoder.bias", "decoder.bias")
KNOWN = (*WEIGHED, "bias", "decoder_bias", "gate_bias", "mag_bias", "r_mag", "threshold", "k", "group_sizes")
SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


def read_dictionary_learning(folder: Path, model: Model | None = None, allow_pickle: bool = False) -> tuple[Coder, ...]:
    """The autoencoder of a trainer's folder, as one block; where its config names no place, it is the stream after the
    layer.

    BatchTopK kinds keep what is above their stored threshold, `AutoEncoderTopK` the k largest. Raises HookeError unless
    pickles are allowed, for other classes, and for what does not fit its config or the model.
    """
    where = named(folder)
    said = Said(config_of(folder / CONFIG), f"{where}/{CONFIG}").part("trainer")
    kind = said.one_of("dict_class", KINDS)
    hook = _hook(said)
    with opened(folder / WEIGHTS, allow_pickle) as stored:
        weights = _weights(said, kind, hook, stored)
    made = {"by": "dictionary_learning", "class": kind, "reads": hook}
    made |= {key: said.values[key] for key in ("lm_name", "steps", "lr", "seed") if said.values.get(key) is not None}
    return (coder_of(weights, model, where, made),)


def _hook(said: Said) -> str:
    layer, name = said.whole("layer", low=0), said.values.get("submodule_name")
    if name is None:
        return f"blocks.{layer}.hook_resid_post"
    text = said.text("submodule_name").lower()
    for site in SITES:
        if text.startswith(site):
            return f"blocks.{layer}.hook_{site}"
    return said.text("submodule_name")


def _weights(said: Said, kind: str, hook: str, stored: Stored) -> Weights:
    n, width = said.whole("dict_size"), said.whole("activation_dim")
    rowed = "W_enc" in stored
    encoder = stored.take("W_enc", width, n).T if rowed else stored.take("encoder.weight", n, width)
    decoder = stored.take("W_dec", n, width) if rowed else stored.take("decoder.weight", width, n).T
    offset = stored.take(stored.any_of("b_dec", "bias", "decoder_bias", "decoder.bias"), width)
    threshold: Tensor | None = None
    if kind == "GatedAutoEncoder":
        gate, bias, rate = (stored.take(name, n) for name in ("gate_bias", "mag_bias", "r_mag"))
        encoder, threshold = encoder * rate.exp()[:, None], gated(gate, bias, rate)
    else:
        bias = stored.take(stored.any_of("b_enc", "encoder.bias"), n)
    if kind == "JumpReluAutoEncoder":
        threshold = stored.take("threshold", n)
    elif kind in BATCHED:
        threshold = stored.take("threshold").to(bias.dtype).expand(n).clone()

    stored.none_but(*KNOWN)
    k = said.whole("k") if kind == "AutoEncoderTopK" else None
    if k is not None and "k" in stored and int(stored.fetch("k")) != k:
        raise HookeError(f"{said.where} says k = {k}, and the weights {int(stored.fetch('k'))}; one of them is wrong")
    gate_name = "topk" if k else "relu" if threshold is None else "jumprelu"
    weights = Weights({hook: encoder}, bias, {hook: decoder}, {hook: offset}, gate=gate_name, threshold=threshold, k=k)
    return weights if kind in UNCENTRED else weights.less(offset)
