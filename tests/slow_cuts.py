"""What is left when some edges are kept, the plain way: one run of all pairs for each mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.computation_graph import ComputationGraph, Part, Tap, by_head, normed, written
from hooke.methods.objective import Objective
from hooke.model import Model, Tokens
from hooke.sites import Site


def values_of(model: Model, clean: Tokens, corrupt: Tokens, objective: Objective, masks: Sequence[Tensor]) -> Tensor:
    """(n_masks, batch): the gain when only the edges of each mask are kept."""
    pairs = torch.arange(len(clean.ids))
    with torch.no_grad():
        other = written(model, corrupt)
        runs = [slow_edges(model, clean, mask[None].to(model.dtype), other, logits=objective.logits) for mask in masks]
        return torch.stack([objective.gain(logits, pairs) for logits in runs])


def slow_edges(
    model: Model,
    tokens: Tokens,
    keep: Tensor,
    other: Tensor,
    *,
    grad: bool = False,
    logits: Literal["all", "last"] = "all",
) -> Tensor:
    """`run_edges` as its equation reads: every reader of every layer is given its own sum, all of it from one run.

    keep: (batch or 1, n_readers, n_writers). other: (n_writers, batch or 1, pos, d_model), from `written`.
    """
    parts, computation = model.parts, ComputationGraph.of(model.parts)
    cut = (1 - keep.to(model.dtype)) * computation.edges.to(keep.device)
    # by writer: what it gives in this run less what it gave in the other, (batch pos d)
    live: list[Tensor] = []
    stream: dict[str, Tensor] = {}

    def mixed(base: Tensor, layer: int | None, part: Part) -> Tensor:
        """(batch, pos, reader, d_model): what the readers of a part take."""
        rows = computation.rows(layer, part)
        n = computation.readers[rows.start].before
        share = cut[:, rows, :n]
        gone = torch.stack(live[:n], 1)
        lost = share.expand(len(tokens.ids), -1, -1) @ gone.flatten(2)
        return base[:, :, None] - lost.unflatten(2, base.shape[1:]).transpose(1, 2)

    def add(index: int, x: Tensor) -> None:
        assert len(live) == index
        live.append(x - other[index])

    def remember(name: str) -> Tap:
        def tap(x: Tensor) -> Tensor:
            stream[name] = x
            if name == "pre" and not live:
                add(0, x)
            return x

        return tap

    def project(layer: int, part: Literal["q", "k", "v"]) -> Tap:
        def tap(x: Tensor) -> Tensor:
            block = parts.blocks[layer]
            linear = {"q": block.q, "k": block.k, "v": block.v}[part]
            own = normed(block.attn_norm, mixed(stream["pre"], layer, part))
            w = linear.weight.to(x.dtype).unflatten(0, x.shape[2:])
            y = torch.einsum("bphd,hed->bphe", own, w)
            return y if linear.bias is None else y + linear.bias.to(x.dtype).view(x.shape[2:])

        return tap

    def heads(layer: int) -> tuple[Tap, Tap]:
        kept: list[Tensor] = []

        def attended(z: Tensor) -> Tensor:
            kept[:] = [z]
            if parts.blocks[layer].attn_post_norm is None:
                done(None)
            return z

        def done(scale: Tensor | None) -> None:
            for offset, x in enumerate(by_head(parts.blocks[layer], kept[0], scale)):
                add(computation.heads(layer).start + offset, x)

        def scaled(scale: Tensor) -> Tensor:
            done(scale)
            return scale

        return attended, scaled

    def mlp_in(layer: int) -> Tap:
        name = "pre" if parts.parallel else "mid"
        return lambda x: normed(parts.blocks[layer].mlp_norm, mixed(stream[name], layer, "mlp")[:, :, 0])

    def mlp_out(layer: int) -> Tap:
        def tap(x: Tensor) -> Tensor:
            if parts.parallel and len(live) == computation.heads(layer).start:  # the MLP ran before the attention
                raise HookeError("this family runs its MLP first in a parallel block, which circuits do not read yet")
            add(computation.mlp(layer), x)
            return x

        return tap

    taps: dict[Site, Tap] = {}
    for layer, block in enumerate(parts.blocks):
        attended, scaled = heads(layer)
        taps[Site("resid_pre", layer)] = remember("pre")
        for part in ("q", "k", "v"):
            taps[Site(part, layer)] = project(layer, part)
        taps[Site("z", layer)] = attended
        if block.attn_post_norm is not None:
            taps[Site("attn_post_scale", layer)] = scaled
        if not parts.parallel:
            taps[Site("resid_mid", layer)] = remember("mid")
        taps[Site("mlp_in", layer)] = mlp_in(layer)
        taps[Site("mlp_out", layer)] = mlp_out(layer)
    taps[Site("resid_post", parts.n_layers - 1)] = remember("post")
    taps[Site("final_norm")] = lambda x: normed(parts.final_norm, mixed(stream["post"], None, "logits")[:, :, 0])
    run = model.run(tokens, taps=taps, grad=grad, logits=logits)
    assert run.logits is not None
    return run.logits
