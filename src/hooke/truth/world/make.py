"""A world: directions of features, how often and how strongly they fire, and what hangs together.

As SynthSAEBench defines it (2602.14687, and the code of its generator). A feature's chance is Zipf's; a child's is
raised by what its parent and its siblings take from it, which is not enough for most: they fire about half as often as
their rank says, as published (of 16,384 features 34 fire and not 59). `rates` gives how often.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.truth.world.sizes import SIZES, Size

AT_ONCE = 2**21  # numbers that are worked on together


@dataclass(frozen=True, eq=False)
class World:
    """Everything that samples are drawn from; n_features = F. All tensors lie on one device, in single precision.

    directions: (F, d), unit rows. bias: (d,). chance: (F,), of firing before the trees have their say. threshold: (F,),
    what a standard normal exceeds with that chance. mean, spread: (F,), of a feature's strength before it is cut off at
    zero. factor: (F, rank) and own: (F,), weights on what features share and on their own noise; their squares add up
    to 1. parent, child: (F,), a feature's parent and the first of its `branching` children in a row, or -1. rate: (F,),
    how often it fires in the end.
    """

    size: Size
    seed: int
    directions: Tensor
    bias: Tensor
    chance: Tensor
    threshold: Tensor
    mean: Tensor
    spread: Tensor
    factor: Tensor
    own: Tensor
    parent: Tensor
    child: Tensor
    rate: Tensor

    @property
    def device(self) -> torch.device:
        return self.directions.device


def make_world(size: str | Size, seed: int, device: str | torch.device = "cpu") -> World:
    """The world of a seed: on each device the same but for rounding.

    size: "small", "full" or numbers of one's own. `full` takes a minute on two cores.
    """
    if isinstance(size, str):
        if size not in SIZES:
            raise HookeError(f"there is no world called {size}; there are {', '.join(SIZES)}")
        size = SIZES[size]
    _check(size)
    generator = torch.Generator().manual_seed(seed)
    parent, child = trees(size)
    meant = zipf(size)
    chance = raised(size, meant, parent)
    directions = torch.randn(size.n_features, size.d, generator=generator)
    bias = torch.randn(size.d, generator=generator)
    factor = size.correlation * torch.randn(size.n_features, size.rank, generator=generator)
    room = factor.square().sum(1)
    factor *= (0.99 / room).clamp(max=1).sqrt()[:, None]  # at least a hundredth of the variance is a feature's own
    own = (1 - factor.square().sum(1)).sqrt()
    spread = (size.spread[0] + size.spread[1] * torch.randn(size.n_features, generator=generator)).abs()
    world = World(
        size=size,
        seed=seed,
        directions=orthogonalised(directions.to(device), size.steps, size.rate),
        bias=(size.bias * bias / bias.norm()).to(device),
        chance=chance.to(device),
        threshold=torch.special.ndtri(1 - chance.double()).float().to(device),
        mean=torch.linspace(size.first, size.last, size.n_features).to(device),
        spread=spread.to(device),
        factor=factor.to(device),
        own=own.to(device),
        parent=parent.to(device),
        child=child.to(device),
        rate=meant.to(device),
    )
    return replace(world, rate=rates(world))


def _check(size: Size) -> None:
    if min(size.n_features, size.d, size.roots, size.latents, size.k, size.rank) < 1 or size.depth < 0:
        raise HookeError("a world needs at least one feature, dimension, root, latent and shared direction")
    if size.branching < 2:
        raise HookeError(f"a feature with children needs at least 2 of them, not {size.branching}")
    if size.levels[-1][1] > size.n_features:
        raise HookeError(f"the trees need {size.levels[-1][1]} features, and there are {size.n_features}")
    if not 0 < size.least < size.most <= 1:
        raise HookeError(f"chances go from least to most within 0 and 1, not from {size.least} to {size.most}")


def zipf(size: Size) -> Tensor:
    """How often each feature is meant to fire, (F,): `most` for the first, `least` for the last, and in between as
    rank ** -exponent, moved and stretched."""
    value = torch.arange(1, size.n_features + 1, dtype=torch.float64) ** -size.exponent
    if len(value) == 1:
        return torch.full((1,), size.most)
    return (size.least + (size.most - size.least) * (value - value[-1]) / (value[0] - value[-1])).float()


def trees(size: Size) -> tuple[Tensor, Tensor]:
    """Parent and first child of each feature, or -1, (F,) each."""
    parent = torch.full((size.n_features,), -1)
    child = torch.full((size.n_features,), -1)
    for (start, end), (below, last) in zip(size.levels, size.levels[1:]):
        child[start:end] = torch.arange(below, last, size.branching)
        parent[below:last] = torch.arange(start, end).repeat_interleave(size.branching)
    return parent, child


def raised(size: Size, meant: Tensor, parent: Tensor) -> Tensor:
    """The chance of each feature before the trees have their say, (F,): of a child, p / p_parent · (1 + the siblings'
    p / p_parent), at most 1."""
    has = parent >= 0
    above = meant[parent[has]]
    share = meant[has] / above
    chance = meant.clone()
    others = share.view(-1, size.branching).sum(1).repeat_interleave(size.branching) - share
    chance[has] = (share * (1 + others.clamp(min=0))).clamp(max=1)
    return chance


def orthogonalised(directions: Tensor, steps: int, rate: float) -> Tensor:
    """Unit rows that overlap less: steps of Adam on Σ_{i≠j} (eᵢ·eⱼ)² + F Σᵢ (|eᵢ|² - 1)², then unit rows again.

    directions: (F, d), rows of any length. Its gradient needs no (F, F): Σ_j (eᵢ·eⱼ) eⱼ = eᵢ (EᵀE).
    """
    e = directions / directions.norm(dim=1, keepdim=True)
    optimizer = torch.optim.Adam([e], lr=rate)
    for _ in range(steps):
        e.grad = overlap_gradient(e)
        optimizer.step()
    return e / e.norm(dim=1, keepdim=True)


def overlap_gradient(e: Tensor) -> Tensor:
    """The gradient of Σ_{i≠j} (eᵢ·eⱼ)² + F Σᵢ (|eᵢ|² - 1)², (F, d)."""
    length = e.square().sum(1, keepdim=True)
    return 4 * (e @ (e.T @ e) - length * e) + 4 * len(e) * (length - 1) * e


def overlap(directions: Tensor, at_once: int = 1024) -> float:
    """The mean over features of the largest |cosine| with another one; of random directions in 768 dimensions, 0.15."""
    e = directions / directions.norm(dim=1, keepdim=True)
    most = []
    for start in range(0, len(e), at_once):
        cosine = (e[start : start + at_once] @ e.T).abs()
        rows = torch.arange(len(cosine), device=e.device)
        cosine[rows, start + rows] = 0
        most.append(cosine.amax(1))
    return float(torch.cat(most).mean())


def rates(world: World, draws: int = 2048) -> Tensor:
    """How often each feature fires, (F,), in double precision.

    Given what features share, they fire independently, but for the trees: a child fires if its parent does, if it
    would itself (its own noise, and a strength above zero), and if of the siblings that would too it is drawn:
    1 / (1 + how many) on average. The mean over `draws` of what is shared: some percent from the truth for rare
    features, exact where nothing is shared (factor 0).
    """
    shared = torch.randn(draws, world.size.rank, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = shared.to(world.device).split(max(1, AT_ONCE // world.size.n_features))
    return torch.stack([_given(world, part).sum(0) for part in parts]).sum(0) / draws


def _given(world: World, shared: Tensor) -> Tensor:
    """How often each feature fires given what is shared, (draws, rank) to (draws, F)."""
    level = (shared @ world.factor.double().T - world.threshold) / world.own
    rate = torch.special.ndtr(level) * torch.special.ndtr(world.mean.double() / world.spread)
    branching = world.size.branching
    for start, end in world.size.levels[1:]:
        would = rate[:, start:end].unflatten(1, (-1, branching))
        others = [[j for j in range(branching) if j != i] for i in range(branching)]
        wins = torch.stack([would[..., i] * luck(would[..., others[i]]) for i in range(branching)], -1)
        rate[:, start:end] = wins.flatten(1) * rate[:, world.parent[start:end]]
    return rate


def luck(chances: Tensor) -> Tensor:
    """The mean of 1 / (1 + how many happen) of independent events, (…, events) to (…): one in each count + 1, with the
    count's chance."""
    counts = torch.ones_like(chances[..., :1])
    for q in chances.split(1, -1):
        none = torch.zeros_like(q)
        counts = torch.cat([counts, none], -1) * (1 - q) + torch.cat([none, counts], -1) * q
    return (counts / torch.arange(1, counts.shape[-1] + 1, device=counts.device)).sum(-1)
