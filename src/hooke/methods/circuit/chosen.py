"""Which units a circuit keeps: the first of an order, as many as are asked for or are enough, that lead somewhere."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.circuit import measure
from hooke.methods.circuit.file import Circuit
from hooke.methods.circuit.find import METHODS
from hooke.methods.circuit.levels import Edges, Level, Scores, default_of
from hooke.methods.circuit.pairs import Pairs
from hooke.methods.progress import Clock


class Chosen(NamedTuple):
    """A circuit and how it was chosen.

    method: by what units were ordered, or "file". given: what was read, of a circuit that was found elsewhere.
    strength: (n,), in whose order units were taken. first: how many were taken, before those were left out that lead
    nowhere. keep: (n,), True at those that are left.
    """

    method: str
    given: Circuit | None
    scores: Scores
    strength: Tensor
    first: int
    keep: Tensor

    @property
    def signed(self) -> bool:
        """Whether effects say which way a unit works."""
        return self.given is not None or METHODS[self.method].signed

    @property
    def effects(self) -> Tensor:
        """(n,): the mean over the pairs."""
        return self.scores.effects.mean(0)


def choose(
    space: Level, pairs: Pairs, method: str | None, given: Circuit | None, size: int | None, seed: int, clock: Clock
) -> Chosen:
    """Order the units, or take the order that was given, and keep the first `size`, the circuit that was given, or the
    fewest that are faithful enough. Raises HookeError where they do not lead from the input to the logits."""
    own: Tensor | None = None
    with clock("edges") as tick:
        if given is None:
            name = method or default_of(space)
            scores = space.score(pairs, name, seed=seed, tick=tick)
        else:
            assert isinstance(space, Edges)
            edges, name = space.computation.edges, "file"
            scores = Scores(-given.scores[edges][None], torch.zeros(space.n, dtype=torch.bool), None, 0.0)
            own = given.keep[edges] if size is None and bool(given.keep[edges].any()) else None
        strength = scores.size()
    with clock("size") as tick:
        if own is not None:
            first = int(own.sum())
            strength = strength + own * float(strength.max() + 1)  # the file's own circuit first
        else:
            first = measure.smallest(space, pairs, strength, tick=tick) if size is None else size
        keep = space.prune(measure.top(strength, first))
    if bool(keep.any()):
        return Chosen(name, given, scores, strength, first, keep)
    if given is not None and size is None:
        raise HookeError(
            f"the edges that are in the circuit of {given.source} do not lead from the input to the logits"
        )
    raise HookeError(
        f"the first {first:,} {space.units} by {name} do not lead from the input to the logits; ask for more (--size)"
    )
