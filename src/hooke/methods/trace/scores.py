"""Scores of all features for one target in one pass down the map, with every feature passing the effect on by its
reader (RelP, 2508.21258: two forward passes and one backward)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from hooke.methods.trace.coded import Coded
from hooke.methods.trace.edges import pass_offset
from hooke.model import Descent, Frozen, Rows


def unit_effects(
    frozen: Frozen, coded: Coded, target: Rows, *, keep: Sequence[Tensor] | None = None
) -> tuple[list[Tensor], Tensor]:
    """Effect on one target of one unit of every active feature, through all paths of the linear rule.

    target: one row. keep: per block (n_entries,) True for entries of the codes that pass the effect on (None:
    all of them); with the kept nodes of a graph it gives the sum over paths of that graph.
    Returns per block (n_entries,), and the cotangent at the tokens (pos, d_model).
    """
    effects = [torch.zeros_like(codes.values) for codes in coded.codes]
    way = Descent(frozen, target, frozenset(coded.cuts), carry={})
    down = torch.zeros_like(frozen.tokens())[None]
    for site, first, cotangents in way:
        if site is None:
            down = cotangents
            continue
        n = cotangents.shape[1]
        for b in coded.writing(site):
            block, codes = coded.basis[b], coded.codes[b].until(n)
            x = {s: y[:n] for s, y in coded.inputs[b].items()}
            effects[b][: len(codes)] += block.effects(codes, site, cotangents[0], x)
            pass_offset(coded, b, way, site, first, cotangents)
            if site == min(block.writes):  # all that it writes has been passed
                worth = effects[b][: len(codes)]
                passing = worth if keep is None else torch.where(keep[b][: len(codes)], worth, 0.0)
                for read, pushed in block.push_back(codes.valued(passing), x).items():
                    way.put(read, pushed[None])
    later = frozen.n_tokens - down.shape[1]  # positions after the target, which it cannot depend on
    return effects, pad(down[0], (0, 0, 0, later))
