"""Batches to train on: the rows of a plan's shards in their order, from any step on."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from hooke.dictionaries.spread import WHOLE, Spread
from hooke.errors import HookeError
from hooke.harvest import Activations, Plan, Stored, shard, subset
from hooke.model import Model
from hooke.model.budget import budget
from hooke.sites import Site

Values = dict[Site, Tensor]
HELD_OUT = 0.05  # share of the tokens that nothing is trained on
MOST_HELD_OUT = 2**16  # tokens of them


@dataclass(eq=False)
class Feed:
    """Activations of a text in batches, the same each time, without what is held out.

    stored: a harvest that they are read from, of which `plan` and `held` are parts; else the model is run.
    against: another model, which reads the same tokens at the sites in it.
    plan: of what is trained on. held: of what is not. batch: rows. epochs: how often each row comes. Shards that fit in
    memory together are run once.
    spread: the processes that train. They run the model on a shard each, one beside the other, and send each other
    what they found; of every batch each gets the rows that are its own.
    """

    model: Model
    plan: Plan
    held: Plan
    sites: tuple[Site, ...]
    batch: int
    epochs: int = 1
    spread: Spread = WHOLE
    stored: Stored | None = None
    against: Model | None = None
    _kept: dict[int, Values] = field(default_factory=dict)
    _last: dict[int, Values] = field(default_factory=dict)  # the shard that is read
    _made: dict[int, Values] = field(default_factory=dict)  # this process's of those that are run beside each other

    @property
    def rows(self) -> int:
        """How many there are to train on."""
        return sum(self.plan.kept(i) for i in range(len(self.plan.shards)))

    @property
    def steps(self) -> int:
        """How many whole batches there are."""
        return self.rows * self.epochs // self.batch

    def bytes_a_row(self) -> int:
        """Of activations at all sites in single precision."""
        return 4 * sum(map(self.width, self.sites))

    def width(self, site: Site) -> int:
        """How many numbers a token has at a site."""
        return self._models[site.other].parts.width(replace(site, other=False))

    @property
    def _models(self) -> tuple[Model, Model]:
        return self.model, self.against or self.model

    def part(self, number: int) -> Values:
        """One shard; kept where there is room for all, else until the next is asked for. All processes ask for the same
        ones, in the same order."""
        found = self._kept.get(number) or self._last.get(number)
        if found is None:
            self._last.clear()
            found = self._found(number)
            need, world = self.rows * self.bytes_a_row() * self.spread.beside, self.spread.world
            if len(self._kept) == number and not world.any(need >= budget(self.model.device).free):
                self._kept[number] = found
            else:
                self._last[number] = found
        return found

    def _found(self, number: int) -> Values:
        """One shard, run by one of the processes while the others run the next ones."""
        world, n = self.spread.world, len(self.plan.shards)
        if world.size == 1:
            return self._shard(self.plan, number).values
        first = number - number % world.size
        own = first + world.rank
        if own not in self._made:
            self._made.clear()
            if number <= own < n:
                self._made[own] = self._shard(self.plan, own).values
        if own == number:
            found = self._made[own]
        else:
            rows, device = self.plan.kept(number), self.model.device
            found = {site: torch.empty(rows, self.width(site), device=device) for site in self.sites}
        for site in sorted(found):
            world.sent(found[site], number - first)
        return found

    def _shard(self, plan: Plan, number: int) -> Activations:
        """One shard of a plan, by running the models or from the harvest."""
        if self.stored is None:
            found = shard(self.model, plan, number, [site for site in self.sites if not site.other])
            there = [replace(site, other=False) for site in self.sites if site.other]
            if self.against is not None and there:
                others = shard(self.against, plan, number, there, device=self.model.device).values
                found.values |= {replace(site, other=True): x for site, x in others.items()}
            return found
        found = self.stored.part(plan, number, self.sites)
        found.values = {site: x.float().to(self.model.device) for site, x in found.values.items()}
        return found

    def batches(self, start: int = 0) -> Iterator[Values]:
        """The batches from a step on, each (batch, width) by site: of several processes, the rows of this one."""
        own = self.spread.data.part(self.batch)
        ends = list(accumulate(self.plan.kept(i) for i in range(len(self.plan.shards))))
        at, parts = start * self.batch, list[Values]()
        had = 0
        for _ in range(start, self.steps):
            while had < self.batch:
                row = at % self.rows
                number = bisect.bisect_right(ends, row)
                inside = row - (ends[number - 1] if number else 0)
                n = min(self.batch - had, ends[number] - row)
                values = self.part(number)  # by all processes, though it may hold rows of others alone
                low, high = max(had, own.start), min(had + n, own.stop)
                if low < high:
                    parts.append({s: x[inside + low - had : inside + high - had] for s, x in values.items()})
                at, had = at + n, had + n
            whole = parts[0] if len(parts) == 1 else {s: torch.cat([part[s] for part in parts]) for s in self.sites}
            parts, had = [], 0
            yield whole

    def first(self) -> Values:
        """The rows that scales and offsets are set by: the first ones, at least 8,192 where there are as many."""
        return {site: x[: max(8192, self.batch)] for site, x in self.part(0).items()}

    def unseen(self) -> Activations:
        """What is held out."""
        return self._shard(self.held, 0)


def divided(plan: Plan) -> tuple[Plan, Plan]:
    """A plan less some of its passages, and these by themselves: a twentieth, and 65,536 tokens at most. Of a text in a
    few long passages the last pieces are held out."""
    lengths = np.diff(plan.offsets) - plan.skip
    wanted = max(1, min(MOST_HELD_OUT, round(HELD_OUT * plan.n_tokens)))
    size = np.bincount(plan.document, weights=lengths)
    held = np.zeros(len(lengths), bool)
    for passage in np.random.default_rng([plan.seed, 1]).permutation(np.unique(plan.document)):
        if lengths[held].sum() >= wanted:
            break
        if size[passage] <= 2 * wanted:
            held |= plan.document == passage
    if lengths[held].sum() < wanted:
        held = lengths.sum() - np.cumsum(lengths) < wanted
    if held.all():
        raise HookeError(
            f"{plan.n_tokens:,} tokens in {len(lengths)} piece{'s' * (len(lengths) != 1)} are too few to train on and "
            "to test with; ask for more --tokens"
        )
    return subset(plan, ~held), subset(plan, held, whole=True)


def shard_tokens(model: Model, sites: Sequence[Site]) -> int:
    """How many tokens are shuffled together: 131,072, or as many as take 1 GiB."""
    return max(2048, min(2**17, 2**30 // (4 * sum(model.parts.width(site) for site in sites))))
