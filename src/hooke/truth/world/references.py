"""What a trained dictionary is held against: the truth itself, principal components, random directions, probes.

Each gives a `Coded` that `scores` takes, so that all are measured alike. What is fitted is fitted on samples of a seed
of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hooke.truth.world.make import World
from hooke.truth.world.samples import draw
from hooke.truth.world.scoring import scores_of, unit

FIT = 50_000  # samples that thresholds and components are fitted on


class Coded(NamedTuple):
    """A dictionary as `scores` takes it. decoder: (m, d). encode: (rows, d) to (rows, m). offset: (d,)."""

    decoder: Tensor
    encode: Callable[[Tensor], Tensor]
    offset: Tensor


def frequent(world: World, m: int) -> Tensor:
    """The m features that fire most often, (m,): what a dictionary of m latents can at best be about."""
    return world.rate.topk(min(m, world.size.n_features)).indices


def oracle_scores(world: World, m: int, n: int, seed: int) -> dict[str, float]:
    """`scores` of the truth: the m most frequent features, their directions, and their true codes."""
    at = frequent(world, m)
    decoder = world.directions[at]
    return scores_of(world, decoder, lambda drawn: drawn.codes(world.size.n_features)[:, at], n, seed, world.bias)


def matched(world: World, m: int, k: int, seed: int) -> Coded:
    """The true directions of the m most frequent features, read by themselves: codes x · direction above one threshold,
    chosen so that k fire in a sample. What no better directions, but only a better way of reading, can improve."""
    decoder = world.directions[frequent(world, m)]
    h = (_some(world, seed) - world.bias) @ decoder.T
    threshold = h.flatten().topk(k * len(h)).values[-1]

    def encode(x: Tensor) -> Tensor:
        h = (x - world.bias) @ decoder.T
        return torch.where(h > threshold, h, 0.0)

    return Coded(decoder, encode, world.bias)


def principal(world: World, k: int, seed: int) -> Coded:
    """Principal components, all d of them, with the k largest scores by size of each sample, signs kept."""
    x = _some(world, seed)
    mean = x.mean(0)
    decoder = torch.linalg.eigh((x - mean).T @ (x - mean)).eigenvectors.T.flip(0).contiguous()

    def encode(x: Tensor) -> Tensor:
        h = (x - mean) @ decoder.T
        at = h.abs().topk(k, dim=1).indices
        return torch.zeros_like(h).scatter(1, at, h.gather(1, at))

    return Coded(decoder, encode, mean)


def random_directions(world: World, m: int, k: int, seed: int) -> Coded:
    """m random directions, read by themselves. Fitted: each one's threshold, so that it fires in k / m of all samples,
    and one scale for all codes."""
    generator = torch.Generator().manual_seed(seed)
    decoder = unit(torch.randn(m, world.size.d, generator=generator)).to(world.device)
    x = _some(world, seed)
    mean = x.mean(0)
    h = (x - mean) @ decoder.T
    threshold = h.topk(max(1, round(len(h) * k / m)), dim=0).values[-1].clamp(min=0)

    def fired(h: Tensor) -> Tensor:
        return torch.where(h > threshold, h, 0.0)

    back = fired(h) @ decoder
    scale = ((x - mean) * back).sum() / back.square().sum()

    def encode(x: Tensor) -> Tensor:
        return scale * fired((x - mean) @ decoder.T)

    return Coded(decoder, encode, mean)


def probes(world: World, m: int, n: int, seed: int, batch: int = 1024) -> Coded:
    """Logistic regression for each of the m most frequent features, told when it fires, on n samples seen once each.

    decoder: the true directions, so that each probe is scored against its feature; only detection means anything of it.
    """
    at = frequent(world, m)
    x = _some(world, seed)
    mean, scale = x.mean(0), float(x.std())
    weight = torch.zeros(world.size.d, m, device=world.device, requires_grad=True)
    bias = torch.logit(world.rate[at]).float().requires_grad_()
    optimizer = torch.optim.Adam([weight, bias], lr=3e-2)
    generator = torch.Generator(world.device).manual_seed(seed)
    steps = max(1, n // batch)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-2 * (1 - step / steps)
        drawn = draw(world, batch, generator)
        there = drawn.fires(world.size.n_features)[:, at].float()
        logits = (drawn.x - mean) / scale @ weight + bias
        loss = functional.binary_cross_entropy_with_logits(logits, there, reduction="none").mean(0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weight.requires_grad_(False)
    bias.requires_grad_(False)

    def encode(x: Tensor) -> Tensor:
        return ((x - mean) / scale @ weight + bias > 0).to(x.dtype)

    return Coded(world.directions[at], encode, mean)


def _some(world: World, seed: int) -> Tensor:
    """Samples to fit thresholds and components on, (FIT, d)."""
    return draw(world, FIT, torch.Generator(world.device).manual_seed(seed)).x
