"""What a pass over text keeps of every feature: its strongest windows, a sample of all levels, sums and a histogram.

A feature has two sides, above and below zero, and each is kept by itself: neurons of gated MLPs use both. Dictionaries
whose features cannot be negative have the first alone. Row `sides * i + s` is of side s of feature i.

The sample is drawn without replacement with chances as the cube of the activation (Efraimidis and Spirakis 2006: the
largest keys u^(1/w)): an activation half as large is some eight times as frequent, so that all levels are among them.
Everything is a function of the windows in their order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STRONGEST = 8  # windows of each kind of text
SAMPLED = 48
CUBE = 3.0
BINS, LOWEST, PER_OCTAVE = 48, -14, 2  # of the histogram: from 2^-14 on in half octaves
COUNTED = 16  # of so many tokens one is in the histogram


@dataclass(eq=False)
class Tally:
    """Of one block of features; n: how many rows (sides of features) there are, k: STRONGEST, s: SAMPLED.

    top_value, top_at: (n, kinds, k) activations, falling, 0 where there is none, and the token in `plan.ids`.
    top_near: (n, kinds, k, long) uint8: activations of the tokens around it, in 255ths of its own, 0 where they are of
    the other side or outside the piece. key: (n, s) of the draw; value, at, near: the same of the sample.
    count: (n,) tokens above zero. total, square: (n,) float64 sums of activations and of their squares. histogram:
    (n, bins) of some tokens above zero. sample: (n, m) the activations of the windows that were set aside.
    """

    top_value: Tensor
    top_at: Tensor
    top_near: Tensor
    key: Tensor
    value: Tensor
    at: Tensor
    near: Tensor
    count: Tensor
    total: Tensor
    square: Tensor
    histogram: Tensor
    sample: Tensor


def nothing(n: int, kinds: int, long: int, aside: int) -> Tally:
    """The state before the first window. aside: how many windows are set aside."""

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(n, *shape, dtype=dtype)

    top, drawn = (kinds, STRONGEST), (SAMPLED,)
    return Tally(
        empty(*top), empty(*top, dtype=torch.int32), empty(*top, long, dtype=torch.uint8),
        empty(*drawn) - torch.inf, empty(*drawn), empty(*drawn, dtype=torch.int32), empty(*drawn, long,
        dtype=torch.uint8),
        empty(dtype=torch.int64), empty(dtype=torch.float64), empty(dtype=torch.float64),
        empty(BINS, dtype=torch.int32), empty(aside, dtype=torch.float16),
    )  # fmt: skip


@dataclass(eq=False)
class Seen:
    """Windows of one batch: which tokens, and what is around each of them.

    peaks: (w, n) the largest activation of a side in each window, 0 where it has none. at: (w, n) the token of the
    batch it stands on. near: (tokens, long) tokens of the batch around each, -1 outside the piece. first: (tokens,)
    the token of the plan. kind: (w,) of text. aside: (w,) where it goes in the sample that is set aside, or -1.
    """

    peaks: Tensor
    at: Tensor
    near: Tensor
    token: Tensor
    kind: Tensor
    aside: Tensor


def add(kept: Tally, x: Tensor, counted: Tensor, seen: Seen, generator: torch.Generator, sides: int) -> None:
    """One batch more. x: (tokens, features) activations. counted: tokens that are in the sums."""
    _sums(kept, x[counted], sides)
    for kind in seen.kind.unique().tolist():
        own = seen.kind == kind
        into = kept.top_value[:, kind], kept.top_at[:, kind], kept.top_near[:, kind]
        peaks = seen.peaks[own].T
        _merge(peaks, peaks, seen.at[own].T, seen, x, sides, (into[0], into[0], *into[1:]))
    peaks = seen.peaks.T
    chance = torch.rand(peaks.shape, generator=generator).clamp_(min=1e-12).log_()
    keys = torch.where(peaks > 0, chance / peaks.pow(CUBE).clamp(min=1e-30), -torch.inf)
    _merge(keys, peaks, seen.at.T, seen, x, sides, (kept.key, kept.value, kept.at, kept.near))
    there = seen.aside >= 0
    if bool(there.any()):
        kept.sample[:, seen.aside[there]] = peaks[:, there].to(kept.sample.dtype)


def _merge(
    keys: Tensor, values: Tensor, at: Tensor, seen: Seen, x: Tensor, sides: int, into: tuple[Tensor, ...]
) -> None:
    """Put the windows with the largest keys (n, w) among those that are kept: into (keys, values, at, near)."""
    old_key, old_value, old_at, old_near = into
    size = old_key.shape[1]
    better = (keys > old_key[:, -1:]).any(1).nonzero()[:, 0]  # rows where something changes
    if not len(better):
        return
    keys, values, at = keys[better], values[better], at[better]
    found, order = torch.cat([old_key[better], keys], 1).topk(size, 1)
    value = torch.cat([old_value[better], values], 1).gather(1, order)
    tokens = torch.cat([old_at[better], seen.token[at]], 1).gather(1, order)
    near = old_near[better].gather(1, order.clamp(max=size - 1)[..., None].expand(-1, -1, old_near.shape[-1]))
    row, column = ((order >= size) & (value > 0)).nonzero(as_tuple=True)
    which = at[row, order[row, column] - size]
    near[row, column] = _around(x, better[row], which, value[row, column], seen.near, sides)
    if old_value is not old_key:
        old_value[better] = value
    old_key[better], old_at[better], old_near[better] = found, tokens, near


def _around(x: Tensor, rows: Tensor, at: Tensor, value: Tensor, near: Tensor, sides: int) -> Tensor:
    """(m, long) uint8: activations near token `at` (m,) of the batch, in 255ths of `value`."""
    places = near[at]
    found = x[places.clamp(min=0), (rows // sides)[:, None]]
    sign = 1.0 - 2.0 * (rows % sides)
    scaled = found * (sign * 255.0 / value)[:, None]
    return torch.where(places >= 0, scaled.clamp(0, 255), 0.0).round().to(torch.uint8)


def _sums(kept: Tally, x: Tensor, sides: int) -> None:
    for side in range(sides):
        part = (x if side == 0 else -x).clamp(min=0)
        rows = slice(side, None, sides)
        kept.count[rows] += (part > 0).sum(0)
        kept.total[rows] += part.sum(0, dtype=torch.float64)
        kept.square[rows] += part.square().sum(0, dtype=torch.float64)
        some = part[::COUNTED].T
        bins = ((some.clamp(min=1e-12).log2() - LOWEST) * PER_OCTAVE).floor().clamp(0, BINS - 1).long()
        kept.histogram[rows] = kept.histogram[rows].scatter_add(1, bins, (some > 0).to(torch.int32))


def peaks_of(x: Tensor, grid: Tensor, sides: int) -> tuple[Tensor, Tensor]:
    """The largest activation (w, n) of each side in each window, and its token of the batch.

    x: (tokens, features). grid: (w, wide) tokens of each window, -1 where there is none.
    """
    inside = grid >= 0
    values, at = [], []
    for side in range(sides):
        part = x if side == 0 else -x
        padded = torch.where(inside[..., None], part[grid.clamp(min=0)], -torch.inf)
        most, where = padded.max(1)
        values.append(most.clamp(min=0))
        at.append(grid.gather(1, where))
    return torch.stack(values, -1).flatten(1), torch.stack(at, -1).flatten(1)
