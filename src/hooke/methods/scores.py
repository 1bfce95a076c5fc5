"""Scores of all features for one target in one pass down the map with the MLPs replaced by the local
linear rule of the basis (RelP, 2508.21258: two forward passes and one backward)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from hooke.methods.edges import Codebook
from hooke.model import Frozen, Rows
from hooke.sites import Site


def unit_effects(
    frozen: Frozen, book: Codebook, target: Rows, *, keep: list[Tensor] | None = None
) -> tuple[list[Tensor], Tensor]:
    """Effect on one target of one unit of every feature, through all paths of the linear rule.

    target: one row. keep: per block (pos, n_features) True for features that pass the effect on (None:
    all active ones); with the kept nodes of a graph it gives the sum over paths of that graph.
    Returns per block (pos, n_features), and the cotangent at the tokens (pos, d_model).
    """
    effects: list[Tensor | None] = [None] * len(book.basis)

    def note(layer: int, at_proj: Tensor, at_out: Tensor | None) -> None:
        for b, block in enumerate(book.basis):
            for site in block.writes:
                if site.layer != layer:
                    continue
                cotangent = at_proj if site.point == "mlp_proj" else at_out
                assert cotangent is not None
                everything = torch.arange(block.n_features, device=cotangent.device)
                effect = cotangent[0] @ block.writer(everything, site).to(cotangent.dtype).T
                before = effects[b]
                effects[b] = effect if before is None else before + effect

    at_out: list[Tensor] = []

    def through(layer: int, at_proj: Tensor) -> list[tuple[Site, Tensor]]:
        note(layer, at_proj, at_out[0])
        back = []
        for b, block in enumerate(book.basis):
            (read,), effect, n = block.reads, effects[b], at_proj.shape[1]
            if read.layer == layer and effect is not None:
                passing = book.values[b] != 0 if keep is None else keep[b]
                back.append((read, block.push_back(torch.where(passing[:n], effect, 0.0), book.inputs[b][:n])[None]))
        return back

    down = torch.zeros_like(frozen.tokens())[None]
    for site, cotangents in frozen.descend(target, through=through):
        if site.point == "mlp_out":
            at_out[:] = [cotangents]
        down = cotangents
    later = len(frozen.tokens()) - down.shape[1]  # positions after the target, which it cannot depend on
    pairs = zip(effects, book.values, strict=True)
    found = [torch.zeros_like(v) if e is None else pad(e, (0, 0, 0, later)) for e, v in pairs]
    return found, pad(down[0], (0, 0, 0, later))
