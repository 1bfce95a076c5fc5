"""Whether there is one circuit: what those have in common that are found on halves of the pairs, or drawn again."""

from __future__ import annotations

from typing import Any

import torch

from hooke.methods.circuit import measure
from hooke.methods.circuit.acdc import acdc_edges
from hooke.methods.circuit.chosen import Chosen
from hooke.methods.circuit.find import THRESHOLDS
from hooke.methods.circuit.levels import Edges, Level
from hooke.methods.circuit.pairs import Pairs
from hooke.methods.circuit.scores import everything_cut
from hooke.methods.edge_runs import pair_runs
from hooke.methods.progress import Tick, stretch

ORDERS = 3  # of ACDC
SEEDED = ("masks", "ensemble", "random")  # methods that draw


def in_common(space: Level, pairs: Pairs, chosen: Chosen, seed: int, tick: Tick) -> dict[str, Any]:
    """How much circuits of this size have in common that were found on halves of the pairs, with other seeds, or by
    ACDC in other orders; beside what random ones have in common."""
    name, count, keep = chosen.method, chosen.first, chosen.keep
    found: dict[str, Any] = {"by_half": None, "by_seed": None, "by_order": None}
    found["random"] = measure.by_chance(space, int(keep.sum()), seed)
    if name == "file":
        return found
    found["by_half"] = measure.by_half(space, chosen.scores.effects, count, seed)
    if found["by_half"] is None and name != "random" and len(pairs) >= 2:
        n = len(pairs)
        halves = [pairs.rows(range(0, n // 2)), pairs.rows(range(n // 2, n))]
        each = []
        for i, half in enumerate(halves):
            of = space.score(half, name, seed=seed, tick=stretch(tick, i / 4, (i + 1) / 4))
            each.append(space.prune(measure.top(of.size(), count)))
        found["by_half"] = measure.compared(space, [(each[0], each[1])])
    if name in SEEDED:
        again = space.score(pairs, name, seed=seed + 1, tick=stretch(tick, 0.5, 1))
        found["by_seed"] = measure.compared(space, [(keep, space.prune(measure.top(again.size(), count)))])
    if name == "acdc" and isinstance(space, Edges):
        found["by_order"] = _orders(space, pairs, chosen, seed, stretch(tick, 0.5, 1))
    return found


def _orders(space: Edges, pairs: Pairs, chosen: Chosen, seed: int, tick: Tick) -> dict[str, Any]:
    """ACDC at the threshold that leaves a circuit nearest to this one in size, in its own order and in others: for
    each reader the writers are tried in an order that is drawn."""
    computation, count = space.computation, int(chosen.keep.sum())
    given = (space.model, pairs.clean, pairs.corrupt, pairs.objective)
    unit = everything_cut(space.model, pair_runs(space.model, pairs.clean, pairs.corrupt), pairs.objective)
    # a score is how many thresholds an edge survived
    left = [int((chosen.scores.effects[0] > i).sum()) for i in range(len(THRESHOLDS))]
    threshold = unit * sorted(THRESHOLDS)[min(range(len(left)), key=lambda i: abs(left[i] - count))]
    found = [space.prune(acdc_edges(*given, threshold=threshold).cpu()[computation.edges])]
    tick(1 / ORDERS)
    generator = torch.Generator().manual_seed(seed)
    for i in range(ORDERS - 1):
        edges = computation.edges.nonzero()
        edges = edges[torch.randperm(len(edges), generator=generator)]
        edges = edges[edges[:, 0].argsort(descending=True, stable=True)]
        kept = acdc_edges(*given, threshold=threshold, order=edges).cpu()
        found.append(space.prune(kept[computation.edges]))
        tick((i + 2) / ORDERS)
    return measure.compared(space, [(a, b) for i, a in enumerate(found) for b in found[i + 1 :]])
