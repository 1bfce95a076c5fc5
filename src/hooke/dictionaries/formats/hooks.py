"""Names by which other tools call places in a model, and the sites that they mean. Nothing else in Hooke knows them.

Two vocabularies: hooks as TransformerLens names them (`blocks.3.hook_mlp_out`), and modules as transformers does
(`model.layers.3.mlp`), whose values are what the module returns unless the name ends in `.input`. Where the two meet:

| TransformerLens | transformers | site |
| --- | --- | --- |
| hook_resid_pre, hook_resid_post | layers.3.input, layers.3 | resid_pre, resid_post |
| hook_resid_mid, hook_mlp_in | - | resid_mid (resid_pre in parallel blocks) |
| hook_attn_out, hook_mlp_out | self_attn, mlp, or the post-norm after them | attn_out, mlp_out |
| mlp.hook_in, mlp.hook_out | mlp.input, mlp | mlp_in, mlp_proj |
| attn.hook_z | self_attn.o_proj.input | z |
| ln1.hook_normalized, ln2.hook_normalized | - | attn_in, mlp_in before the norm's gain and bias |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.model import Model
from hooke.model.families import Norm
from hooke.sites import Site

LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "mlp.hook_in": "mlp_in",
    "mlp.hook_out": "mlp_proj",
    "mlp.hook_post": "mlp_act",
    "attn.hook_z": "z",
}
NORMALIZED = {"ln1.hook_normalized": "attn_in", "ln2.hook_normalized": "mlp_in"}
BRANCH = "hook_mlp_in"  # a copy of the stream that the MLP's branch takes, before its norm
EMBEDDED = ("hook_embed",)
BLOCKS = r"(?:model\.)?(?:language_model\.)?(?:transformer\.|gpt_neox\.)?(?:layers|h)[._](\d+)"
# modules inside a block by what they give, where that does not depend on the family
INPUTS = {"": "resid_pre", "mlp": "mlp_in", "self_attn.o_proj": "z", "attn.c_proj": "z", "attention.dense": "z"}
INPUTS |= {"mlp.down_proj": "mlp_act", "mlp.c_proj": "mlp_act", "mlp.dense_4h_to_h": "mlp_act"}
OUTPUTS = {"": "resid_post", "mlp": "mlp_proj", "mlp.down_proj": "mlp_proj", "mlp.c_proj": "mlp_proj"}
OUTPUTS |= {"mlp.dense_4h_to_h": "mlp_proj", "input_layernorm": "attn_in", "ln_1": "attn_in", "ln_2": "mlp_in"}
OUTPUTS |= {"pre_feedforward_layernorm": "mlp_in", "post_feedforward_layernorm": "mlp_out"}
ATTENTION = ("self_attn", "attn", "attention", "self_attn.o_proj", "attn.c_proj", "attention.dense")


@dataclass(frozen=True)
class Place:
    """Where a dictionary of another tool reads or writes: its value there is (x - shift) / gain, x being what stands at
    the site. gain, shift: (width,), or None for 1 and 0."""

    site: Site
    gain: Tensor | None = None
    shift: Tensor | None = None

    def read(self, encoder: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """An encoder (n, width) and its bias (n,) that take x itself."""
        encoder = encoder if self.gain is None else encoder / self.gain.to(encoder)
        return encoder, bias if self.shift is None else bias - products(encoder, self.shift)

    def write(self, decoder: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """A decoder (n, width) and its offset (width,) that give x itself."""
        if self.gain is not None:
            decoder, offset = decoder * self.gain.to(decoder), offset * self.gain.to(offset)
        return decoder, offset if self.shift is None else offset + self.shift.to(offset)


def products(rows: Tensor, vector: Tensor) -> Tensor:
    """rows (n, width) times a vector (width,), summed in double precision: (n,), in the precision of the rows."""
    exact = vector.double()
    return torch.cat([part.double() @ exact for part in rows.split(4096)]).to(rows.dtype)


def place_of(name: str, model: Model | None) -> Place:
    """The place that a foreign name means.

    Raises HookeError for names that no site has, and for names that depend on the family, or on a norm's gain, without
    a model.
    """
    text = name.strip()
    lens = re.fullmatch(r"blocks\.(\d{1,5})\.([\w.]+)", text)
    if lens is not None:
        return _lens(text, int(lens[1]), lens[2], model)
    if text in EMBEDDED:
        return Place(Site("resid_pre", 0))
    module = re.fullmatch(BLOCKS + r"(?:\.([\w.]+))?", text)
    if module is not None and len(module[1]) <= 5:
        return Place(_module(text, int(module[1]), module[2] or "", model))
    if re.fullmatch(r"(?:model\.|transformer\.|gpt_neox\.)?(?:embed_tokens|wte|embed_in)(?:\.output)?", text):
        return Place(_embedded(text, model))
    raise HookeError(f"no site of Hooke is what {name[:80]!r} means; see hooke/dictionaries/formats/hooks.py for names")


def _lens(name: str, layer: int, hook: str, model: Model | None) -> Place:
    if hook in LENS:
        return Place(Site(LENS[hook], layer))
    if hook == BRANCH:
        return Place(Site("resid_pre" if model is not None and model.parts.parallel else "resid_mid", layer))
    if hook not in NORMALIZED:
        raise HookeError(f"no site of Hooke is what {name[:80]!r} means; see hooke/dictionaries/formats/hooks.py")
    if model is None:
        raise HookeError(f"{name} is a norm's value before its gain, which the model has: say which model it is for")
    _within(name, layer, model)
    block = model.parts.blocks[layer]
    norm = block.attn_norm if hook.startswith("ln1") else block.mlp_norm
    return Place(Site(NORMALIZED[hook], layer), *_gain(name, norm))


def _gain(name: str, norm: Norm | None) -> tuple[Tensor, Tensor | None]:
    if norm is None:
        raise HookeError(f"{name} is the value of a norm that this model does not have there")
    gain = norm.weight.detach().to("cpu", torch.float64)
    if not bool((gain != 0).all()):
        raise HookeError(f"{name}: this model's norm has a gain of zero, so what stood before it cannot be told")
    return gain, None if norm.bias is None else norm.bias.to("cpu", torch.float64)


def _module(name: str, layer: int, path: str, model: Model | None) -> Site:
    """The site of what a module of a block takes or gives."""
    path, _, side = path.rpartition(".") if path.rpartition(".")[2] in ("input", "output") else (path, "", "output")
    table = INPUTS if side == "input" else OUTPUTS
    if path in table:
        return Site(table[path], layer)
    if side == "input" or path not in (*ATTENTION, "post_attention_layernorm"):
        raise HookeError(f"no site of Hooke is what {name[:80]!r} means; see hooke/dictionaries/formats/hooks.py")
    if model is None:
        raise HookeError(f"what {name} gives depends on the family of the model: say which model it is for")
    _within(name, layer, model)
    family = model.parts.family
    if path == "post_attention_layernorm":
        return Site("attn_out" if family.attn_post_norm == path else "mlp_in", layer)
    if model.parts.blocks[layer].attn_post_norm is not None:
        raise HookeError(f"{name} gives what a norm takes before the stream receives it; Hooke has no site there")
    return Site("attn_out", layer)


def _embedded(name: str, model: Model | None) -> Site:
    """The stream entering the first block, where that is what the embedding gives."""
    if model is None:
        raise HookeError(f"whether {name} is what enters the first block depends on the model: say which it is for")
    config: Any = model.hf.config
    if config.model_type.startswith(("gemma", "gpt2")):
        raise HookeError(f"{name} is not what enters the first block of {model.name}, so no site of Hooke is it")
    return Site("resid_pre", 0)


def _within(name: str, layer: int, model: Model) -> None:
    if layer >= model.parts.n_layers:
        raise HookeError(f"{name} is of layer {layer}; {model.name} has {model.parts.n_layers}, counted from 0")


def lens_name(site: Site) -> str:
    """What TransformerLens calls a site. Raises HookeError where it has no name that means it."""
    names = {point: hook for hook, point in LENS.items()}
    if site.point not in names:
        raise HookeError(f"{site} has no name in TransformerLens, by which these files say where they read and write")
    return f"blocks.{site.layer}.{names[site.point]}"


def module_name(site: Site, side: str) -> str:
    """What transformers calls the module of a site, for a dictionary that reads ("input") or writes it ("output").

    Raises HookeError where no module takes or gives it.
    """
    names = {"resid_pre": "", "mlp_in": ".mlp"} if side == "input" else {"resid_post": "", "mlp_proj": ".mlp"}
    if site.point not in names:
        raise HookeError(f"no module {'takes' if side == 'input' else 'gives'} {site}, by which these files are named")
    return f"layers.{site.layer}{names[site.point]}"
