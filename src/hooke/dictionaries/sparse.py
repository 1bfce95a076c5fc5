"""Sparse codes of a batch while a dictionary trains, and the products with them, forward and backward.

Of 9,216 features 32 fire: one dense product chooses them, everything after it touches only what fires. A gradient of
weights is a sum over entries, grouped by feature: the same kernel as decoding (`embedding_bag`), with rows and features
in each other's place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from hooke.dictionaries.spread import ALONE, WHOLE, Axis, Spread

GROUP = 16  # features that are looked through together


@dataclass(eq=False)
class Entries:
    """Which features fire on which rows of a batch: entry e is of feature ids[e], and entries offsets[r] to
    offsets[r + 1] are of row r."""

    ids: Tensor  # (entries,)
    offsets: Tensor  # (batch + 1,)
    n_features: int

    @cached_property
    def rows(self) -> Tensor:
        """(entries,): the row of each."""
        n = self.offsets.diff()
        return torch.arange(len(n), device=n.device).repeat_interleave(n, output_size=len(self.ids))

    @cached_property
    def by_feature(self) -> tuple[Tensor, Tensor, Tensor]:
        """The entries in the order of their features: which these are, their rows, and where each feature begins."""
        order = self.ids.argsort(stable=True)
        n = torch.bincount(self.ids, minlength=self.n_features)
        return order, self.rows[order], torch.cat([n.new_zeros(1), n.cumsum(0)])

    @cached_property
    def counts(self) -> Tensor:
        """(n_features,): on how many rows each fires."""
        return self.by_feature[2].diff()

    def take(self, mask: Tensor) -> Entries:
        """Some of the entries, (entries,) True for those."""
        n = torch.zeros(len(self.offsets), dtype=torch.long, device=mask.device)
        n[1:] = torch.cat([mask.new_zeros(1, dtype=torch.long), mask.long().cumsum(0)])[self.offsets[1:]]
        return Entries(self.ids[mask], n, self.n_features)


def bags(values: Tensor, at: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """(bags, width): for each bag of entries the sum of values times the rows of `weight` that they are at."""
    return embedding_bag(at, weight, offsets, mode="sum", per_sample_weights=values, include_last_offset=True)


def dots(x: Tensor, weight: Tensor, entries: Entries) -> Tensor:
    """(entries,): x (batch, width) at the row of each entry times `weight` (n_features, width) at its feature."""
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(
        x.contiguous(), weight, entries.ids, entries.offsets[:-1], entries.rows, 0, -1
    )


def weight_gradient(values: Tensor, x: Tensor, entries: Entries) -> Tensor:
    """(n_features, width): the sum over a feature's entries of their value times x (batch, width) at their row."""
    order, rows, starts = entries.by_feature
    return bags(values[order], rows, starts, x.contiguous())


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, centre: Tensor | None, weight: Tensor, bias: Tensor, entries: Entries) -> Tensor:
        x = x if centre is None else x - centre
        ctx.save_for_backward(x, weight)
        ctx.entries = entries
        return dots(x, weight, entries) + bias[entries.ids]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (x, weight), entries, needed = gradients, ctx.saved_tensors, ctx.entries, ctx.needs_input_grad
        to_x = bags(g, entries.ids, entries.offsets, weight) if needed[0] else None
        to_bias = g.new_zeros(entries.n_features).index_add_(0, entries.ids, g)
        to_centre = -(to_bias @ weight) if needed[1] else None
        return to_x, to_centre, weight_gradient(g, x, entries) if needed[2] else None, to_bias, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, entries: Entries) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.entries = entries
        return bags(values, entries.ids, entries.offsets, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (values, weight), entries = gradients, ctx.saved_tensors, ctx.entries
        to_values = dots(g, weight, entries) if ctx.needs_input_grad[0] else None
        to_weight = weight_gradient(values, g, entries) if ctx.needs_input_grad[1] else None
        return to_values, to_weight, None


def encode(x: Tensor, centre: Tensor | None, weight: Tensor, bias: Tensor, entries: Entries) -> Tensor:
    """(entries,): (x - centre) · weight + bias of the chosen features alone, with gradients.

    x: (batch, width); centre: (width,), None for zero; weight: (n_features, width); bias: (n_features,).
    """
    return _Encode.apply(x, centre, weight, bias, entries)


def decode(values: Tensor, weight: Tensor, entries: Entries) -> Tensor:
    """(batch, width): the sum over a row's entries of their value times their feature's row of `weight`, with
    gradients."""
    return _Decode.apply(values, weight, entries)


def largest(h: Tensor, k: int, axis: Axis = ALONE) -> Entries:
    """The k largest of each row of h (batch, n_features); where rows are divided over an axis, those of the k largest
    of the whole row that are in this part of it."""
    values, ids = top(h, min(k, h.shape[1]))
    if axis.size > 1:
        return _ragged(ids, _foremost(values, k, axis), h.shape[1])
    offsets = torch.arange(0, ids.numel() + 1, k, device=h.device)
    return Entries(ids.flatten(), offsets, h.shape[1])


def _foremost(values: Tensor, k: int, axis: Axis) -> Tensor:
    """values (batch, up to k): which of these are among the k largest of those of all parts; the first of equals."""
    every = axis.gathered(pad(values.float(), (0, k - values.shape[1]), value=-torch.inf))
    best = every.transpose(0, 1).flatten(1).argsort(dim=1, descending=True, stable=True)[:, :k]
    kept = best.new_zeros(len(values), axis.size * k, dtype=torch.bool).scatter_(1, best, True)
    return kept[:, axis.rank * k :][:, : values.shape[1]]


def _ragged(ids: Tensor, kept: Tensor, n_features: int) -> Entries:
    """Of ids (batch, few) those that are kept, (batch, few) True for these."""
    offsets = torch.cat([kept.new_zeros(1, dtype=torch.long), kept.sum(1).cumsum(0)])
    return Entries(ids[kept], offsets, n_features)


def top(h: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(batch, k): the k largest of each row and where they are, in no order.

    They lie in the k groups whose own largest are the largest, so only these are looked through.
    """
    batch, n = h.shape
    if not k or n % GROUP or n < 4 * k * GROUP // 3 or h.device.type != "cpu":
        return tuple(h.topk(k, dim=1, sorted=False))  # type: ignore[return-value]
    groups = h.view(batch, GROUP, n // GROUP).amax(1).topk(k, dim=1, sorted=False).indices
    every = torch.arange(0, n, n // GROUP, device=h.device)[:, None] + groups[:, None]  # (batch, GROUP, k)
    values, at = h.gather(1, every.flatten(1)).topk(k, dim=1, sorted=False)
    return values, every.flatten(1).gather(1, at)


def largest_of_batch(h: Tensor, k: int, spread: Spread = WHOLE) -> tuple[Entries, Tensor]:
    """The k · batch largest of all of h (batch, n_features), of those above zero, and the smallest value kept
    (2412.06410). Where the batch is divided over processes, those of the whole batch that are in this part of it."""
    batch, n = h.shape
    world = spread.world
    wanted = min(k * batch * spread.data.size, h.numel() * world.size)
    few = min(n, max(4 * k, k + 16))  # of each row; more where a row holds more of the largest
    while True:
        best, ids = top(h, few)
        least = _nth(best.flatten(), wanted, world)
        if few == n or not world.any(bool((best.amin(1) >= least).any())):
            break
        few = min(n, 2 * few)
    least = least.clamp(min=torch.finfo(h.dtype).tiny)
    return _ragged(ids, best >= least, n), least


def _nth(values: Tensor, n: int, world: Axis) -> Tensor:
    """The n-th largest of the values of all processes, each of which has as many."""
    if world.size == 1:
        return values.topk(n, sorted=False).values.min()
    most = min(len(values), n)
    few = min(most, 2 * n // world.size)  # of each process; more where one holds more of the largest
    while True:
        every = world.gathered(values.topk(few, sorted=False).values.float())
        least = every.flatten().topk(n, sorted=False).values.min()
        if few == most or not bool((every.amin(1) >= least).any()):
            return least.to(values)
        few = min(most, 2 * few)
