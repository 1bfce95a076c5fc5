"""Samples of a world with their true codes.

What fires is drawn from the roots down: a child is drawn only where its parent fires. Its chance given what all
features share is the same as if all had been drawn and then struck out, so the distribution is that of SynthSAEBench,
at a fraction of the random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hooke.truth.world.make import World

AT_ONCE = {"cpu": 2**20, "cuda": 2**27}  # random numbers drawn together; a part of what decides the draw
BLOCK = 2**14  # samples of some batches, drawn together


class Drawn(NamedTuple):
    """Samples and what fires in them, sample by sample: rows[i] of x has feature[i] with a strength of value[i] > 0."""

    x: Tensor  # (n, d)
    rows: Tensor  # (fires,)
    features: Tensor  # (fires,)
    values: Tensor  # (fires,)

    def codes(self, n_features: int) -> Tensor:
        """(n, n_features), with zeros."""
        found = self.x.new_zeros(len(self.x), n_features)
        found[self.rows, self.features] = self.values
        return found

    def fires(self, n_features: int) -> Tensor:
        """(n, n_features), which fire."""
        found = torch.zeros(len(self.x), n_features, dtype=torch.bool, device=self.x.device)
        found[self.rows, self.features] = True
        return found


def sample(world: World, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """n samples x (n, d) and their true codes (n, n_features); x = codes · directions + bias."""
    drawn = draw(world, n, generator)
    return drawn.x, drawn.codes(world.size.n_features)


def draw(world: World, n: int, generator: torch.Generator) -> Drawn:
    """The same with the codes as a list. The same generator state gives the same bits on one device."""
    noise = int((world.parent < 0).sum()) + world.size.rank
    step = max(1, AT_ONCE.get(world.device.type, AT_ONCE["cuda"]) // noise)
    parts = [_draw(world, min(step, n - start), generator) for start in range(0, n, step)]
    if len(parts) == 1:
        return parts[0]
    starts = range(0, n, step)
    return Drawn(
        torch.cat([part.x for part in parts]) if parts else world.directions.new_zeros(0, world.size.d),
        torch.cat([part.rows + start for part, start in zip(parts, starts)]) if parts else world.child.new_zeros(0),
        torch.cat([part.features for part in parts]) if parts else world.child.new_zeros(0),
        torch.cat([part.values for part in parts]) if parts else world.directions.new_zeros(0),
    )


def batches(world: World, batch: int, total: int, seed: int) -> Iterator[Tensor]:
    """`total` samples in batches (batch, d), the last one maybe shorter; some batches are drawn together."""
    generator = torch.Generator(world.device).manual_seed(seed)
    block = max(batch, BLOCK // batch * batch)
    for start in range(0, total, block):
        yield from draw(world, min(block, total - start), generator).x.split(batch)


def _draw(world: World, n: int, generator: torch.Generator) -> Drawn:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=world.device)

    shared = normal(n, world.size.rank)
    top = (world.parent < 0).nonzero()[:, 0]
    level = torch.addcmul(shared @ world.factor[top].T, world.own[top], normal(n, len(top)))
    rows, at = (level > world.threshold[top]).nonzero(as_tuple=True)
    features = top[at]
    values = torch.relu(torch.addcmul(world.mean[features], world.spread[features], normal(len(features))))
    found = [_strong(rows, features, values)]
    for _ in range(world.size.depth):
        rows, features, values = found[-1]
        has = world.child[features] >= 0
        rows, features, values = rows[has], features[has], values[has]
        noise, strength = normal(2, len(rows), world.size.branching).unbind(0)
        lot = torch.rand(noise.shape, generator=generator, device=world.device)
        found.append(_children(world, (rows, features, values), shared[rows], (noise, strength, lot)))
    rows, features, values = (torch.cat(parts) for parts in zip(*found))
    order = rows.argsort(stable=True)
    rows, features, values = rows[order], features[order], values[order]
    return Drawn(_written(world, n, rows, features, values), rows, features, values)


Fired = tuple[Tensor, Tensor, Tensor]  # rows, features and values


def _strong(rows: Tensor, features: Tensor, values: Tensor) -> Fired:
    on = values > 0
    return rows[on], features[on], values[on]


def _children(world: World, parents: Fired, shared: Tensor, noise: tuple[Tensor, Tensor, Tensor]) -> Fired:
    """Of each parent that fires at most one child: a random one of those that would, times how strong the parent is.

    shared: (parents, rank), of the parent's sample. noise: each child's own, its strength's, and its lot if several
    would, (parents, branching).
    """
    rows, features, values = parents
    own, strength, lot = noise
    kids = world.child[features][:, None] + torch.arange(world.size.branching, device=world.device)
    level = torch.einsum("pbr,pr->pb", world.factor[kids], shared) + world.own[kids] * own
    value = torch.relu(world.mean[kids] + world.spread[kids] * strength)
    would = (level > world.threshold[kids]) & (value > 0)
    pick = lot.masked_fill(~would, -1).argmax(1, keepdim=True)
    scale = values / world.mean[features]
    some = would.any(1)
    found = kids.gather(1, pick)[:, 0], value.gather(1, pick)[:, 0] * scale
    return _strong(rows[some], found[0][some], found[1][some])


def _written(world: World, n: int, rows: Tensor, features: Tensor, values: Tensor) -> Tensor:
    """codes · directions + bias, (n, d), from the list of what fires, ordered by row."""
    counts = torch.bincount(rows, minlength=n)
    starts = counts.cumsum(0) - counts
    summed = functional.embedding_bag(features, world.directions, starts, mode="sum", per_sample_weights=values)
    return summed + world.bias
