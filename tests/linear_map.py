"""The held linear map written out, with loops over heads, queries and neurons; and bases of every kind to draw it in.

All in fp64, on tiny random models of every family.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from families import N_LAYERS, model_of
from hooke.dictionaries import Dictionary, Direction, neurons
from hooke.methods.trace.coded import Coded
from hooke.model import LinearView
from hooke.model.families import Norm
from hooke.sites import Site
from transcoders import Transcoder

F64 = torch.float64
# "neurons" are exact; all others are random, so that they leave much over
BASES = [
    "neurons", "some neurons", "transcoder", "skip", "resid_mid", "cross-layer", "one layer", "mixed", "resid_post",
    "resid_pre", "attn_out", "mlp_out", "mlp_proj", "stream and branches", "direction", "crosscoder",
]  # fmt: skip


def autoencoders(point: str, layers: Sequence[int] = range(N_LAYERS)) -> list[Dictionary]:
    return [Transcoder(f"{point}.{i}", [f"{point}.{i}"], 32, 30, seed=100 + i) for i in layers]


def basis_of(kind: str, name: str) -> Sequence[Dictionary]:
    own = neurons(model_of(name, F64))
    if kind == "neurons":
        return own
    if kind == "some neurons":
        return own[:2]
    if kind == "resid_mid":
        return [Transcoder(f"resid_mid.{i}", [f"mlp_out.{i}"], 32, 30, seed=i) for i in range(N_LAYERS)]
    if kind == "cross-layer":
        return [
            Transcoder(f"mlp_in.{i}", [f"mlp_out.{j}" for j in range(i, min(i + 2, N_LAYERS))], 32, 30, seed=i)
            for i in range(N_LAYERS)
        ]
    plain = [Transcoder(f"mlp_in.{i}", [f"mlp_out.{i}"], 32, 30, seed=i) for i in range(N_LAYERS)]
    if kind == "skip":
        return [Transcoder(f"mlp_in.{i}", [f"mlp_out.{i}"], 32, 30, seed=i, skip=True) for i in range(N_LAYERS)]
    if kind == "one layer":
        return plain[1:2]
    if kind in ("resid_post", "resid_pre", "attn_out", "mlp_out", "mlp_proj"):
        return autoencoders(kind, range(1, N_LAYERS) if kind == "resid_pre" else range(N_LAYERS))
    if kind == "stream and branches":  # all of them, and two at one site, and one within another
        return [
            *autoencoders("resid_post", [0]), *autoencoders("attn_out", [1, 2]), *autoencoders("mlp_out", [1]), own[1],
            Transcoder("resid_pre.1", ["mlp_out.1"], 32, 30, seed=7), *autoencoders("resid_pre", [2]), own[2],
        ]  # fmt: skip
    if kind == "direction":
        generator = torch.Generator().manual_seed(3)
        return [Direction(Site("resid_post", 0), torch.randn(32, generator=generator, dtype=F64), 0.4), *own[1:]]
    if kind == "crosscoder":  # writes where it reads last and later; a joint encoder
        return [
            Transcoder(["resid_post.0", "mlp_in.1"], ["mlp_out.1", "resid_post.1"], 32, 30, seed=8, skip=True), *own[2:]
        ]  # fmt: skip
    if kind == "mixed":  # two of them at one site
        return [own[0], plain[1], Transcoder("resid_pre.2", ["mlp_out.2"], 32, 30, seed=9), plain[2]]
    return plain


def held(norm: Norm | None, x: Tensor, scale: Tensor | None) -> Tensor:
    """A norm with its denominator held, bias included."""
    if norm is None or scale is None:
        return x
    x = x - x.mean(-1, keepdim=True) if norm.centred else x
    y = x / scale * norm.weight
    return y if norm.bias is None else y + norm.bias


def local(view: LinearView, layer: int, x: Tensor) -> Tensor:
    """An MLP by the local rule, mlp_in (pos, d_model) to mlp_proj, neuron by neuron, with what the rule leaves over."""
    block, own = view.parts.blocks[layer], view.values[Site("mlp_in", layer)]
    down = block.down.weight.to(F64)

    def act(value: Tensor, held_at: Tensor) -> Tensor:
        z = (block.gate or block.up).apply(held_at)
        ratio = block.act(z) / z
        if block.gate is None:
            return ratio * block.up.apply(value)
        u = block.up.apply(held_at)
        return 0.5 * ratio * (u * block.gate.apply(value) + z * block.up.apply(value))

    rest = view.values[Site("mlp_proj", layer)] - act(own, own) @ down.T
    return act(x, own) @ down.T + rest


def forward(view: LinearView, tokens: Tensor, put: dict[Site, Tensor]) -> dict[Site, Tensor]:
    """All reads of the map, given the tokens and what stands at the sites that are cut (pos, d_model)."""
    parts, scale = view.parts, view.scales.get
    values: dict[Site, Tensor] = {}

    def stands(point: str, layer: int, x: Tensor) -> Tensor:
        """What is read at a site is there before a dictionary puts its own in its place."""
        values[Site(point, layer)] = x
        return put.get(Site(point, layer), x)

    x = tokens
    for layer, block in enumerate(parts.blocks):
        x = stands("resid_pre", layer, x)
        normed = held(block.attn_norm, x, scale(Site("attn_scale", layer)))
        attn = torch.zeros_like(x)
        for q in range(len(x)):
            z = []
            for h in range(parts.n_heads):
                g = h // (parts.n_heads // parts.n_kv_heads)
                rows = slice(g * parts.d_head, (g + 1) * parts.d_head)
                seen = torch.zeros(parts.d_head, dtype=F64)
                for k in range(q + 1):
                    v = block.v.weight[rows] @ normed[k]
                    v = v if block.v.bias is None else v + block.v.bias[rows]
                    seen += view.patterns[layer][h, q, k] * v
                z.append(seen)
            attn[q] = block.o.weight @ torch.cat(z)
            if block.o.bias is not None:
                attn[q] += block.o.bias
        attn = stands("attn_out", layer, held(block.attn_post_norm, attn, scale(Site("attn_post_scale", layer))))
        before = x if parts.parallel else stands("resid_mid", layer, x + attn)
        values[Site("mlp_in", layer)] = held(block.mlp_norm, before, scale(Site("mlp_scale", layer)))
        proj = stands("mlp_proj", layer, local(view, layer, values[Site("mlp_in", layer)]))
        out = stands("mlp_out", layer, added(view, layer, proj))
        x = stands("resid_post", layer, (x + attn if parts.parallel else before) + out)
    values[Site("final_norm")] = held(parts.final_norm, x, scale(Site("final_scale")))
    return values


def added(view: LinearView, layer: int, proj: Tensor) -> Tensor:
    """What mlp_proj (pos, d_model) adds to the stream."""
    return held(view.parts.blocks[layer].mlp_post_norm, proj, view.scales.get(Site("mlp_post_scale", layer)))


def standing(view: LinearView, coded: Coded) -> dict[Site, Tensor]:
    """What stands at each cut by the dictionaries' own count: features, offsets and what they leave over."""
    return {site: view.value(site) for site in coded.cuts}
