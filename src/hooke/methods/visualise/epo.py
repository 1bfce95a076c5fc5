"""Evolutionary prompt optimisation (EPO; Thompson, Straznickas and Sklar 2024, 2402.01702): prompts that make a number
large and stay likely, for a whole range of how much likeliness counts.

A population of prompts, one for each weight λ, maximises f(t) - λ · CE(t), CE being the mean cross-entropy that the
model gives its own tokens. Each step every member gives children that differ in one token, drawn among the TOP tokens
with the largest slopes of its own aim there; every λ keeps the best of all. Now and then all but one λ start again from
one survivor. What is given is the front: every prompt that is not beaten in both numbers.

What is optimised (`Aim`) and how it is searched are apart: an aim says the two numbers of prompts and their slopes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

TOP = 512  # tokens that a child may take at a place
CHILDREN = 8  # of each member in a step
AGAIN = 30  # steps between two new beginnings


class Aim(Protocol):
    """What is to be made large, and what a prompt costs."""

    def values(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """f (n,) and CE (n,) of prompts (n pos)."""
        ...

    def slopes(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """How f and CE change when one token is put in another's place, to first order: (n pos d_vocab) each."""
        ...

    def fits(self, ids: Tensor) -> Tensor:
        """(n,) whether a person who types a prompt gives the model these tokens."""
        ...


class Prompt(NamedTuple):
    """A prompt with its two numbers."""

    ids: tuple[int, ...]
    value: float
    cost: float


@dataclass
class Front:
    """The prompts that no other beats in both numbers, the cheapest first. passes: prompts that were run."""

    prompts: list[Prompt] = field(default_factory=list)
    passes: int = 0

    def add(self, some: Sequence[Prompt]) -> None:
        """Prompts that were run."""
        self.passes += len(some)
        kept: list[Prompt] = []
        for one in sorted([*self.prompts, *some], key=lambda p: (p.cost, -p.value)):
            if not kept or one.value > kept[-1].value:
                kept.append(one)
        self.prompts = kept

    def best(self, most: float) -> Prompt | None:
        """The largest value at a cost of `most` or less."""
        return max((one for one in self.prompts if one.cost <= most), key=lambda p: p.value, default=None)


def epo(
    aim: Aim,
    start: Tensor,
    weights: Sequence[float],
    *,
    steps: int,
    generator: torch.Generator,
    again: int = AGAIN,
    tick: Callable[[float], None] = lambda done: None,
) -> Front:
    """The front of a search from prompts `start` (n pos), with a member for each of `weights` (λ)."""
    front, lam = Front(), torch.tensor(weights)
    value, cost = aim.values(start)
    front.add(_prompts(start, value, cost))
    members, value, cost = _chosen(start, value, cost, lam)
    for step in range(steps):
        children = _children(aim, members, lam, generator)
        children = children[aim.fits(children)]
        if len(children):
            new_value, new_cost = aim.values(children)
            front.add(_prompts(children, new_value, new_cost))
            pool = torch.cat([members, children]), torch.cat([value, new_value]), torch.cat([cost, new_cost])
            members, value, cost = _chosen(*pool, lam)
        if (step + 1) % again == 0 and step + 1 < steps:
            one = int(torch.randint(len(lam), (), generator=generator))
            members, value, cost = (x[one : one + 1].expand(len(lam), *x.shape[1:]) for x in (members, value, cost))
        tick((step + 1) / steps)
    return front


def random_search(
    aim: Aim, start: Tensor, weights: Sequence[float], *, passes: int, generator: torch.Generator, vocabulary: Tensor
) -> Front:
    """The same with children whose new token is any of `vocabulary` (n,): no slopes. passes: how many prompts it may
    run."""
    front, lam = Front(), torch.tensor(weights)
    value, cost = aim.values(start)
    front.add(_prompts(start, value, cost))
    members, value, cost = _chosen(start, value, cost, lam)
    while front.passes < passes:
        n = min(len(lam) * CHILDREN, passes - front.passes)
        parents = torch.arange(n) % len(lam)
        children = members[parents].clone()
        place = torch.randint(children.shape[1], (n,), generator=generator)
        children[torch.arange(n), place] = vocabulary[torch.randint(len(vocabulary), (n,), generator=generator)]
        new_value, new_cost = aim.values(children)
        front.add(_prompts(children, new_value, new_cost))
        pool = torch.cat([members, children]), torch.cat([value, new_value]), torch.cat([cost, new_cost])
        members, value, cost = _chosen(*pool, lam)
    return front


def _children(aim: Aim, members: Tensor, lam: Tensor, generator: torch.Generator) -> Tensor:
    """CHILDREN of each member, each with one token changed."""
    up, costs = aim.slopes(members)
    gain = up - lam[:, None, None] * costs
    gain.scatter_(2, members[..., None], -torch.inf)  # the token that is there is no change
    tokens = gain.topk(min(TOP, gain.shape[2] - 1), 2).indices  # (member, pos, TOP)
    n = len(members) * CHILDREN
    parents = torch.arange(len(members)).repeat_interleave(CHILDREN)
    place = torch.randint(members.shape[1], (n,), generator=generator)
    which = torch.randint(tokens.shape[2], (n,), generator=generator)
    children = members[parents].clone()
    children[torch.arange(n), place] = tokens[parents, place, which]
    return children


def _chosen(ids: Tensor, value: Tensor, cost: Tensor, lam: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each weight the best of all."""
    best = (value[None] - lam[:, None] * cost[None]).argmax(1)
    return ids[best], value[best], cost[best]


def _prompts(ids: Tensor, value: Tensor, cost: Tensor) -> list[Prompt]:
    return [Prompt(tuple(row), v, c) for row, v, c in zip(ids.tolist(), value.tolist(), cost.tolist(), strict=True)]
