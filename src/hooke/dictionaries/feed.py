"""Batches to train on: the rows of a plan's shards in their order, from any step on."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.harvest import Activations, Plan, shard
from hooke.model import Model
from hooke.model.budget import budget
from hooke.sites import Site

HELD_OUT = 0.05  # share of the pieces that nothing is trained on
MOST_HELD_OUT = 2**16  # tokens of them


@dataclass(eq=False)
class Feed:
    """Activations of a text in batches, the same each time, without what is held out.

    plan: of what is trained on. held: of what is not. batch: rows. epochs: how often each row comes. Shards that fit in
    memory together are run once.
    """

    model: Model
    plan: Plan
    held: Plan
    sites: tuple[Site, ...]
    batch: int
    epochs: int = 1
    _kept: dict[int, Activations] = field(default_factory=dict)

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
        return 4 * sum(self.model.parts.width(site) for site in self.sites)

    def part(self, number: int) -> Activations:
        """One shard; kept where there is room for all."""
        found = self._kept.get(number)
        if found is None:
            found = shard(self.model, self.plan, number, self.sites)
            if len(self._kept) == number and self.rows * self.bytes_a_row() < budget(self.model.device).free:
                self._kept[number] = found
        return found

    def batches(self, start: int = 0) -> Iterator[dict[Site, Tensor]]:
        """The batches from a step on, each (batch, width) by site."""
        ends = list(accumulate(self.plan.kept(i) for i in range(len(self.plan.shards))))
        at, parts = start * self.batch, list[dict[Site, Tensor]]()
        had = 0
        for _ in range(start, self.steps):
            while had < self.batch:
                row = at % self.rows
                number = bisect.bisect_right(ends, row)
                inside = row - (ends[number - 1] if number else 0)
                n = min(self.batch - had, ends[number] - row)
                values = self.part(number).values
                parts.append({site: x[inside : inside + n] for site, x in values.items()})
                at, had = at + n, had + n
            whole = parts[0] if len(parts) == 1 else {s: torch.cat([part[s] for part in parts]) for s in self.sites}
            parts, had = [], 0
            yield whole

    def first(self) -> dict[Site, Tensor]:
        """The rows that scales and offsets are set by: the first ones, at least 8,192 where there are as many."""
        return {site: x[: max(8192, self.batch)] for site, x in self.part(0).values.items()}

    def unseen(self) -> Activations:
        """What is held out."""
        return shard(self.model, self.held, 0, self.sites)


def divided(plan: Plan) -> tuple[Plan, Plan]:
    """A plan less its last pieces, and these by themselves: a twentieth, and 65,536 tokens at most."""
    n_pieces = len(plan.offsets) - 1
    wanted = min(MOST_HELD_OUT, round(HELD_OUT * plan.n_tokens))
    had, first = 0, n_pieces
    while first > 1 and had < max(1, wanted):
        first -= 1
        had += int(plan.offsets[first + 1] - plan.offsets[first]) - plan.skip
    shards = [range(part.start, min(part.stop, first)) for part in plan.shards if part.start < first]
    if first == n_pieces or not shards:
        raise HookeError(
            f"{plan.n_tokens:,} tokens in {n_pieces} piece{'s' * (n_pieces != 1)} are too few to train on and to test "
            "with; ask for more --tokens"
        )
    return replace(plan, shards=shards), replace(plan, shards=[range(first, n_pieces)])


def shard_tokens(model: Model, sites: Sequence[Site]) -> int:
    """How many tokens are shuffled together: 131,072, or as many as take 1 GiB."""
    return max(2048, min(2**17, 2**30 // (4 * sum(model.parts.width(site) for site in sites))))
