"""SAELens: a folder with `cfg.json` and `sae_weights.safetensors`, as versions before and since 6 write it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats.fold import Weights, coder_of, gated, lengths_of, named
from hooke.dictionaries.formats.hooks import BRANCH
from hooke.dictionaries.formats.said import Said
from hooke.dictionaries.formats.tensors import Stored, config_of, opened
from hooke.errors import HookeError
from hooke.files import is_file
from hooke.model import Model

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SCALER, WHITENING = "activation_scaler.json", "activation_whitening.safetensors"
AUTOENCODERS = ("standard", "gated", "jumprelu", "topk", "abstopk", "batchtopk", "matryoshka_batchtopk")
TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
BATCHED = ("batchtopk", "matryoshka_batchtopk")  # of training alone: at the end a threshold takes the place of k
COUNTED = ("topk", "abstopk", *BATCHED)
NORMS = ("none", "expected_average_only_in", "layer_norm", "constant_norm_rescale", "covariance_whitening")
HELD = {"layer_norm": "layer", "constant_norm_rescale": "length"}
RENAMED = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
ABOUT = (
    "model_name",
    "dataset_path",
    "context_size",
    "prepend_bos",
    "sae_lens_version",
    "model_from_pretrained_kwargs",
)


def read_saelens(folder: Path, model: Model | None = None) -> tuple[Coder, ...]:
    """The dictionary of a folder, as one block.

    Codes are SAELens's own: of `rescale_acts_by_decoder_norm` in units of decoder lengths. Scales and whitening of
    training are folded in, norms of single tokens are held (`Coder.norm`). Raises HookeError for kinds that are no one
    linear read behind a gate, for scales that no file gives, and for what does not fit its config or the model.
    """
    where = named(folder)
    said = _current(Said(config_of(folder / CONFIG), f"{where}/{CONFIG}"))
    kind = said.text("architecture", "standard")
    if kind not in (*AUTOENCODERS, *TRANSCODERS):
        known = ", ".join((*AUTOENCODERS, *TRANSCODERS))
        raise HookeError(f"{where} is of the kind {kind[:40]!r}, which is no one read behind a gate; those are {known}")
    about = said.part("metadata")
    if about.values.get("hook_head_index") is not None or about.values.get("hook_head_index_out") is not None:
        raise HookeError(f"{where} reads one head alone, where Hooke has no site")
    read = _hook(about, "hook_name", "hf_hook_name")
    write = _hook(about, "hook_name_out", "hf_hook_name_out") if kind in TRANSCODERS else read
    if said.one_of("reshape_activations", ("none", "hook_z"), "none") == "hook_z" and not read.endswith("_z"):
        raise HookeError(f"{where} reads heads side by side, and {read[:80]!r} has no heads")
    with opened(folder / WEIGHTS) as stored:
        weights = _weights(said, kind, read, write, stored)
    norm = said.one_of("normalize_activations", NORMS, "none")
    weights = _unscaled(folder, where, norm, weights)
    made = {"by": "SAELens", "architecture": kind, "reads": read, "writes": write, "norm": norm}
    made |= {key: about.values[key] for key in ABOUT if about.values.get(key) is not None}
    return (coder_of(weights, model, where, made),)


def _current(said: Said) -> Said:
    """The config as version 6 has it: before, it is flat, and booleans, defaults and names are others."""
    version = said.values.get("sae_lens_version") or said.part("metadata").values.get("sae_lens_version")
    if str(version or "0").partition(".")[0].isdecimal() and int(str(version or "0").partition(".")[0]) >= 6:
        return said
    flat = {RENAMED.get(key, key): value for key, value in said.values.items()}
    found: dict[str, Any] = {"architecture": "standard", "apply_b_dec_to_input": True} | flat
    options = Said(flat, said.where).part("activation_fn_kwargs")
    if flat.get("activation_fn") == "topk" and "k" in options:
        found |= {"architecture": "topk", "k": options.values["k"]}
    elif flat.get("activation_fn") not in (None, "relu", "topk"):
        raise HookeError(f"{said.where}: the activation is {str(flat['activation_fn'])[:40]!r}, not relu or topk")
    norm = flat.get("normalize_activations")
    if norm is None or isinstance(norm, bool):
        found["normalize_activations"] = "expected_average_only_in" if norm else "none"
    if flat.get("reshape_activations") is None:
        found["reshape_activations"] = "hook_z" if str(flat.get("hook_name", "")).endswith("hook_z") else "none"
    found["metadata"] = {**flat, **said.part("metadata").values}
    return Said(found, said.where)


def _hook(about: Said, key: str, module: str) -> str:
    """The foreign name of where it reads or writes: the module's where the hook's own means two things."""
    if module in about and (key not in about or about.text(key).endswith(BRANCH)):
        return about.text(module)
    return about.text(key)


def _weights(said: Said, kind: str, read: str, write: str, stored: Stored) -> Weights:
    n, width = said.whole("d_sae"), said.whole("d_in")
    out = said.whole("d_out") if kind in TRANSCODERS else width
    encoder = stored.take("W_enc", width, n).T
    decoder, offset = stored.take("W_dec", n, out), stored.take("b_dec", out)
    expected = ["W_enc", "W_dec", "b_dec", "scaling_factor"]
    if "scaling_factor" in stored:
        decoder = decoder * _fine_tuned(said, stored.take("scaling_factor", n))[:, None]
    threshold: Tensor | None = None
    if kind == "gated":
        gate, magnitude, rate = (stored.take(name, n) for name in ("b_gate", "b_mag", "r_mag"))
        encoder, bias, threshold = encoder * rate.exp()[:, None], magnitude, gated(gate, magnitude, rate)
        expected += ["b_gate", "b_mag", "r_mag"]
    else:
        bias = stored.take("b_enc", n)
        expected += ["b_enc"]
    if kind.startswith("jumprelu"):
        name = stored.any_of("threshold", "log_threshold")
        threshold = stored.take(name, n)
        threshold = threshold.exp() if name == "log_threshold" else threshold
        expected += [name]
    skip = {}
    if kind.endswith("skip_transcoder"):
        skip, expected = {write: stored.take("W_skip", out, width)}, [*expected, "W_skip"]
    found = Weights({read: encoder}, bias, {write: decoder}, {write: offset}, skip=skip)
    if kind in COUNTED and said.flag("rescale_acts_by_decoder_norm", False):
        found = found.measured(lengths_of(decoder))
    gate_name, k = "relu" if threshold is None else "jumprelu", None
    if kind in BATCHED:
        level, gate_name = stored.take("topk_threshold"), "jumprelu"
        threshold, expected = level.to(bias.dtype).expand(n).clone(), [*expected, "topk_threshold"]
    elif kind in COUNTED:
        gate_name, k = kind, said.whole("k")
    stored.none_but(*expected)
    found = replace(found, gate=gate_name, threshold=threshold, k=k)
    subtracts = kind in AUTOENCODERS and said.flag("apply_b_dec_to_input", True)
    return found.less(offset) if subtracts else found


def _fine_tuned(said: Said, scale: Tensor) -> Tensor:
    if bool((scale - 1).abs().max() > 1e-5) and not said.flag("finetuning_scaling_factor", False):
        raise HookeError(f"{said.where} says that nothing was fine-tuned, and the weights hold scales that are not 1")
    return scale


def _unscaled(folder: Path, where: str, norm: str, weights: Weights) -> Weights:
    """With what training did to activations folded in, or held."""
    if norm in HELD:
        return replace(weights, norm=HELD[norm])
    if norm == "none":
        return weights
    scaler = Said(config_of(folder / SCALER), f"{where}/{SCALER}") if is_file(folder / SCALER) else Said({}, "")
    if norm == "expected_average_only_in":
        if "scaling_factor" not in scaler:
            raise HookeError(
                f"{where} was trained on scaled activations and no file says by how much; put {SCALER} beside it with "
                '{"scaling_factor": …}, or "normalize_activations": "none" in cfg.json if the scale is folded in'
            )
        scale = scaler.number("scaling_factor")
        if scale <= 0:
            raise HookeError(f"{where}/{SCALER}: activations cannot be scaled by {scale:g}")
        return weights.times(scale)
    if not is_file(folder / WHITENING):
        raise HookeError(f"{where} was trained on whitened activations, and {WHITENING}, which says how, is not there")
    width = next(iter(weights.encoders.values())).shape[1]
    with opened(folder / WHITENING) as stored:
        names = ("matrix", "inverse_matrix")
        mean, parts = stored.take("mean", width), [stored.take(name, width, width) for name in names]
    return weights.whitened(mean, *parts)
