"""Why an attention score is what it is: an exact bilinear sum over what stands at its query and at its key.

A query is linear in the stream at its position, and a key in that at its own, once the denominators of norms are held
(those of queries and keys too). So a score is a sum over pairs: of a part of the one stream with a part of the other,
biases being parts (DESIGN 4). It is the score before soft caps and before what is masked.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hooke.model.live import LiveView
from hooke.sites import Site


def score_pairs(
    view: LiveView, layer: int, head: int, places: tuple[int, int], query_parts: Tensor, key_parts: Tensor
) -> Tensor:
    """(n + 1, m + 1): what each part of the stream (n, d_model) at the query and (m, d_model) at the key, the last of
    either being the biases, adds together to a score of a layer and head.

    places: of the query and of the key. If the parts add up to what enters the layer there, the pairs add up to the
    score.
    """
    queries = _toward(view, layer, head, places[0], query_parts, "queries")
    keys = _toward(view, layer, head, places[1], key_parts, "keys")
    return view.attention[layer].heads.scale * queries @ keys.T


def _toward(view: LiveView, layer: int, head: int, at: int, parts: Tensor, which: Literal["queries", "keys"]) -> Tensor:
    """(n + 1, d_head): what parts of the stream (n, d_model) at a position, and last the biases, give to a query, or to
    the key that serves it."""
    block, own = view.parts.blocks[layer], view.attention[layer]
    matrix = block.q if which == "queries" else block.k
    group = 1 if which == "queries" else view.parts.n_heads // view.parts.n_kv_heads
    norm = block.attn_norm
    x = parts.to(view.dtype)
    bias = x.new_zeros(1, x.shape[-1])
    if norm is not None:
        scale = view.scales[Site("attn_scale", layer)][at]
        zero = norm.apply(torch.zeros_like(bias), scale)
        x, bias = norm.apply(x, scale) - zero, zero
    before = torch.cat([matrix.apply(x, bias=False), matrix.apply(bias)])
    return before @ _held_turn(getattr(own, which), getattr(own.heads, which), at, head // group).T.to(view.dtype)


def _held_turn(leaf: Tensor, after: Tensor, at: int, head: int) -> Tensor:
    """(d_head, head · d_head): norms and rotation of one head at a position as a matrix, their denominators held.

    leaf: (1, pos, head, d_head) before them; after: (pos, head, d_head), with the graph in between. The derivative of a
    norm is the held one less what the denominator moves, which is all of it along the value itself: so that is put
    back.
    """
    width = after.shape[-1]
    ones = torch.zeros(width, *after.shape, dtype=after.dtype, device=after.device)
    ones[:, at, head] = torch.eye(width, dtype=after.dtype, device=after.device)
    (slopes,) = torch.autograd.grad(after, leaf, ones, retain_graph=True, is_grads_batched=True)
    slopes, value = slopes[:, 0, at].double(), leaf.detach()[0, at].double()  # (d_head, head, d_head), (head, d_head)
    others = slopes.abs().amax((0, 2))
    others[head] = 0
    if not bool((others > 0).any()):  # a norm that does not mix heads, or none
        alone = torch.zeros_like(value)
        alone[head] = value[head]
        value = alone
    left = after.detach()[at, head].double() - (slopes * value).sum((1, 2))
    size = value.pow(2).sum().clamp(min=1e-30)
    return (slopes + left[:, None, None] * value / size).flatten(1)
