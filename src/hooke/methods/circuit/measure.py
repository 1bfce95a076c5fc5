"""What is said of a circuit: how faithful it is at every size, whether it is stable, and whether its parts matter.

All of it is measured beside random circuits of as many kept units, on pairs that did not choose it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.circuit.faithfulness import SHARES, Curve
from hooke.methods.circuit.levels import Level
from hooke.methods.circuit.pairs import Pairs
from hooke.methods.progress import Tick, idle, stretch
from hooke.methods.ranking import FEW, spread

ENOUGH = 0.85  # of the faithfulness of the whole model: what the smallest circuit is asked to reach
DRAWS = 5  # random circuits of each size
REFINED = 6  # sizes tried between the last that is too small and the first that is enough
SPLITS = 5  # of the pairs into two halves
CONTROLS = 40  # random units that are cut, or put in, for comparison
SURE = 95  # percentile of the controls that a unit must move the metric by more than
RESAMPLES = 1000


class Measured(NamedTuple):
    """What was measured of a circuit, as its payload has it: of itself (`at_size`), by size (`curves`), how much others
    have in common with it, and what its units do, cut alone (`cuts`) and taken out of it (`minimality`)."""

    own: dict[str, Any]
    curve: dict[str, Any]
    stability: dict[str, Any]
    cut: dict[str, Any]
    minimal: dict[str, Any]


def top(size: Tensor, count: int) -> Tensor:
    """(n,) True at the `count` largest; of equal ones the first."""
    keep = torch.zeros(len(size), dtype=torch.bool)
    keep[size.argsort(descending=True, stable=True)[:count]] = True
    return keep


def counts_of(n: int) -> list[int]:
    """How many units the circuits of a curve have, without repetition, up to all of them."""
    return sorted({max(1, round(share * n)) for share in SHARES})


def smallest(level: Level, pairs: Pairs, size: Tensor, *, tick: Tick = idle) -> int:
    """The smallest prefix of a ranking that is faithful enough on these pairs, of those tried: the sizes of a curve,
    and then some between the last of them that is too small and the first that is not."""
    tried = [0, *counts_of(level.n)]
    first = _faithful(level, pairs, size, tried[1:-1], stretch(tick, 0, 0.7))
    enough = next((i for i, f in enumerate(first, 1) if f >= ENOUGH), len(tried) - 1)
    low, high = tried[enough - 1], tried[enough]
    between = np.unique(np.geomspace(max(1, low), high, REFINED + 2).round().astype(int)).tolist()
    between = [n for n in between if low < n < high]
    then = _faithful(level, pairs, size, between, stretch(tick, 0.7, 1))
    return next((n for n, f in zip(between, then, strict=True) if f >= ENOUGH), high)


def _faithful(level: Level, pairs: Pairs, size: Tensor, counts: Sequence[int], tick: Tick) -> list[float]:
    if not counts:
        return []
    values = level.gains(pairs, [level.prune(top(size, n)) for n in counts], tick=tick)
    return _share(values.double().mean(1), pairs).tolist()


def _share(mean: Tensor, pairs: Pairs) -> Tensor:
    """f = (m(C) - m(none)) / (m(all) - m(none)); with everything cut the prompts are the corrupt ones."""
    clean, corrupt = pairs.ends.mean(1).tolist()
    return (mean - corrupt) / (clean - corrupt)


def random_like(level: Level, count: int, seed: int) -> Tensor:
    """A random circuit, pruned, of as nearly `count` units as a prefix of one random order gives."""
    order = torch.randperm(level.n, generator=torch.Generator().manual_seed(seed))
    low, high = min(count, level.n), level.n  # a prefix of `low` keeps `count` or fewer, all of `high` or more
    while low < high:
        middle = (low + high) // 2
        if int(level.prune(order < middle).sum()) < count:
            low = middle + 1
        else:
            high = middle
    return level.prune(order < low)


def curves(
    level: Level, pairs: Pairs, effects: Tensor, size: Tensor, signed: bool, seed: int, *, tick: Tick = idle
) -> dict[str, Any]:
    """Faithfulness by size, of the strongest units, the rest without them, the most helpful ones, and random ones.

    effects: (n,), negative where cutting a unit takes from the metric; only used if `signed`.
    """
    counts = counts_of(level.n)
    kept = [level.prune(top(size, n)) for n in counts]
    helpful = [level.prune(top(-effects, n)) for n in counts] if signed else kept
    drawn = [[random_like(level, int(k.sum()), seed * 1000 + i) for k in kept] for i in range(DRAWS)]
    masks = [*kept, *(~k for k in kept), *(helpful if signed else []), *(m for row in drawn for m in row)]
    values = _share(level.gains(pairs, masks, tick=tick).double().mean(1), pairs).tolist()
    n = len(counts)
    circuit, rest = values[:n], values[n : 2 * n]
    helped = values[2 * n : 3 * n] if signed else circuit
    chance = np.array(values[(3 if signed else 2) * n :]).reshape(DRAWS, n)
    shares = [c / level.n for c in counts]

    def areas(strong: Sequence[float], helpful: Sequence[float]) -> tuple[float, float]:
        edges = [int(k.sum()) for k in kept]
        return Curve(shares, edges, list(helpful)).cpr, Curve(shares, edges, list(strong)).cmd

    cpr, cmd = areas(circuit, helped)
    random = np.array([areas(row, row) for row in chance.tolist()])
    return {
        "faithfulness": {
            "shares": shares,
            "edges": [int(k.sum()) for k in kept],
            "circuit": circuit,
            "helpful": helped if signed else None,
            "complement": rest,
            "random": chance.mean(0).tolist(),
            "random_low": chance.min(0).tolist(),
            "random_high": chance.max(0).tolist(),
            "draws": DRAWS,
        },
        "cpr": cpr,
        "cmd": cmd,
        "cpr_random": float(random[:, 0].mean()),
        "cmd_random": float(random[:, 1].mean()),
    }


def at_size(level: Level, pairs: Pairs, keep: Tensor, seed: int, *, tick: Tick = idle) -> dict[str, Any]:
    """Faithfulness of the circuit itself, of all but it, and of random ones as large; a 95 % interval over pairs."""
    count = int(keep.sum())
    drawn = [random_like(level, count, seed * 1000 + i) for i in range(DRAWS)]
    values = level.gains(pairs, [keep, ~keep, *drawn], tick=tick).double()
    shares = _share(values.mean(1), pairs).tolist()
    rows = np.random.default_rng(seed).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    low = pairs.ends[1].numpy()[rows].mean(1)
    span = pairs.ends[0].numpy()[rows].mean(1) - low
    with np.errstate(divide="ignore", invalid="ignore"):
        each = (values[0].numpy()[rows].mean(1) - low) / span
    interval = spread(each[np.isfinite(each)], len(pairs)) if len(pairs) >= FEW else None
    return {
        "units": count,
        "faithfulness": shares[0],
        "interval": interval,
        "complement": shares[1],
        "random": float(np.mean(shares[2:])),
        "random_low": min(shares[2:]),
        "random_high": max(shares[2:]),
        "random_units": [int(d.sum()) for d in drawn],
        "metric": float(values[0].mean()),
        "whole": float(pairs.ends[0].mean()),
        "none": float(pairs.ends[1].mean()),
        "same_side": float(((values[0] > 0) == (pairs.ends[0] > 0)).double().mean()),
    }


# ---- is there one circuit? ---------------------------------------------------------------------


def overlap(level: Level, a: Tensor, b: Tensor) -> tuple[float, float]:
    """Jaccard of the units and of the nodes of two circuits; 1 of two empty ones."""

    def jaccard(x: Tensor, y: Tensor) -> float:
        either = int((x | y).sum())
        return float((x & y).sum()) / either if either else 1.0

    return jaccard(a, b), jaccard(level.nodes(a), level.nodes(b))


def compared(level: Level, circuits: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """How much the circuits of each pair have in common: all of the overlaps, and their mean."""
    found = [overlap(level, a, b) for a, b in circuits]
    own, nodes = ([pair[i] for pair in found] for i in (0, 1))
    return {"edges": own, "nodes": nodes, "mean_edges": float(np.mean(own)), "mean_nodes": float(np.mean(nodes))}


def by_chance(level: Level, count: int, seed: int) -> dict[str, Any]:
    """The same of random circuits of this size."""
    drawn = [random_like(level, count, seed * 1000 + i) for i in range(4)]
    return compared(level, [(a, b) for i, a in enumerate(drawn) for b in drawn[i + 1 :]])


def by_half(level: Level, effects: Tensor, count: int, seed: int) -> dict[str, Any] | None:
    """Circuits of two halves of the pairs, several times over; None where scores are not by pair.

    effects: (batch or 1, n).
    """
    n = len(effects)
    if n < 2:
        return None
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(SPLITS):
        order = torch.randperm(n, generator=generator)
        halves = (order[: n // 2], order[n // 2 :])
        a, b = (level.prune(top(effects[half].abs().mean(0), count)) for half in halves)
        found.append((a, b))
    return compared(level, found)


# ---- does every part matter? -------------------------------------------------------------------


def cuts(
    level: Level, pairs: Pairs, keep: Tensor, size: Tensor, most: int, seed: int, *, tick: Tick = idle
) -> dict[str, Any]:
    """The strongest units of a circuit, each cut by itself in the whole model, beside random ones from outside.

    rows: of each its effect, the mean over the pairs of what the metric changes by, and whether that is more than
    most random units do.
    """
    units = [i for i in size.argsort(descending=True, stable=True).tolist() if bool(keep[i])][:most]
    outside = (~keep).nonzero()[:, 0]
    chosen = _drawn(outside, CONTROLS, seed)
    effects = level.alone(pairs, [*units, *chosen], tick=tick).double().mean(1)
    least = _least(effects[len(units) :], pairs)
    rows = [
        {"unit": level.called(i), "number": i, "effect": e, "verdict": "matters" if abs(e) > least else "no-effect"}
        for i, e in zip(units, effects[: len(units)].tolist(), strict=True)
    ]
    return {"rows": rows, "controls": len(chosen), "threshold": least, "percentile": SURE}


def minimality(level: Level, pairs: Pairs, keep: Tensor, most: int, seed: int, *, tick: Tick = idle) -> dict[str, Any]:
    """Each unit of a circuit, or some drawn with the seed, taken out of it; how many move the metric by more than
    random ones from outside do, put in between parts of the circuit and taken out again."""
    units = _drawn(keep.nonzero()[:, 0], most, seed)
    near = level.near(keep)
    chosen = _drawn((near if bool(near.any()) else ~keep).nonzero()[:, 0], CONTROLS, seed)
    masks = [keep, *(_without(keep, i) for i in units), *(_with(keep, i) for i in chosen)]
    values = level.gains(pairs, masks, tick=tick).double()
    moved = (values[1:] - values[0]).mean(1)
    least = _least(moved[len(units) :], pairs)
    matter = int((moved[: len(units)].abs() > least).sum())
    return {
        "tried": len(units),
        "of": int(keep.sum()),
        "matter": matter,
        "share": matter / len(units) if units else None,
        "controls": len(chosen),
        "threshold": least,
        "percentile": SURE,
    }


def _least(control: Tensor, pairs: Pairs) -> float:
    """What a unit must move the metric by: more than most controls, and than rounding does."""
    rounding = max(1e-5 * float(pairs.ends.abs().max()), pairs.rounding)
    return max(rounding, float(np.percentile(control.abs().numpy(), SURE)) if len(control) else 0.0)


def _drawn(units: Tensor, most: int, seed: int) -> list[int]:
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(seed))
    return sorted(units[order[:most]].tolist())


def _without(keep: Tensor, unit: int) -> Tensor:
    changed = keep.clone()
    changed[unit] = False
    return changed


def _with(keep: Tensor, unit: int) -> Tensor:
    changed = keep.clone()
    changed[unit] = True
    return changed


def check_size(size: int | float | None, n: int) -> int | None:
    """How many units are asked for: a whole number of them, or a share. Raises HookeError out of range."""
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, (int, float)):
        raise HookeError(f"a size is a number of edges or a share, not {size!r}")
    if isinstance(size, float):
        if not 0 < size <= 1:
            raise HookeError(f"a share of the edges lies between 0 and 1, not at {size:g}; a number of edges is whole")
        return max(1, round(size * n))
    if not 1 <= size <= n:
        raise HookeError(f"there are {n:,} of them, so a size is a whole number from 1 to {n:,}, not {size}")
    return size
