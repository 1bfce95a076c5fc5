"""What a live graph says of single edges and of paths, beside what they do in the live model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from hooke.methods.progress import Tick, idle, stretch
from hooke.methods.trace.along import Way, measure_ways, testable
from hooke.methods.trace.coded import Case, Units
from hooke.methods.trace.draw import Drawn
from hooke.methods.trace.edges import edges, readers
from hooke.methods.trace.explain import Path
from hooke.methods.trace.select import unit_effects
from hooke.methods.trace.tries import Trial, rank

N_EDGES, AMONG = 60, 2000  # edges that are tested, drawn evenly from the strongest of so many


def live_summary(
    case: Case, kept: Units, drawn: Drawn, paths: Sequence[Path], seed: int, tick: Tick = idle
) -> tuple[list[Trial], dict[str, object]]:
    """How edges and paths fared, one by one and in all; what is left of the answer's difference; and shuffled and held
    edges beside."""
    closure = drawn.closure
    found: dict[str, object] = {"curvature": None if closure is None else closure.curvature}
    if not testable(case) or not len(kept):
        return [], found
    ways = _edges(case, kept, drawn)
    along = [way for path in paths if path.units for way in [_path(kept, drawn, path)]]
    measure_ways(case, kept, [*ways, *along], stretch(tick, 0.0, 0.9))
    predicted, measured = [way.predicted for way in ways], [way.measured for way in ways]
    shuffled = np.random.default_rng(seed).permutation(predicted).tolist()
    signs = [way.predicted * way.measured > 0 for way in along if abs(way.measured) > case.rounding]
    trials = [Trial("edge", way.units, way.predicted, way.measured) for way in ways]
    trials += [Trial("path", way.units, way.predicted, way.measured, way.token) for way in along]
    return trials, found | {
        "edges_spearman": rank(predicted, measured, case.rounding),
        "edges_shuffled_spearman": rank(shuffled, measured, case.rounding),
        "edges_held_spearman": rank(_by_held(case, kept, ways), measured, case.rounding),
        "edges_tried": len(ways),
        "paths_sign": float(np.mean(signs)) if signs else None,
        "paths_tried": len(along),
    }


def _edges(case: Case, kept: Units, drawn: Drawn) -> list[Way]:
    """Edges between kept features, and from them into the answer, with what each carries to the answer when its source
    is set to its counterfactual value: the edge times all that follows from one unit of its target."""
    assert drawn.slopes is not None
    n, weights = len(kept), drawn.edges.weights
    onward = case.coded.at_units(drawn.slopes, kept)
    carried = -torch.cat([weights[:n, :n] * onward[:, None], weights[drawn.answer, :n][None]])
    best = carried.abs().flatten().argsort(descending=True)[:AMONG]
    best = best[carried.flatten()[best] != 0]
    some = best[torch.linspace(0, max(len(best) - 1, 0), min(N_EDGES, len(best))).round().long().unique()]
    ways = []
    for flat in some.tolist():
        target, source = divmod(flat, n)
        units = [source] if target == n else [source, target]
        ways.append(Way(None, units, target < n, predicted=float(carried[target, source])))
    return ways


def _path(kept: Units, drawn: Drawn, path: Path) -> Way:
    """A path from a token to the answer, with the product of its edges: each of one unit, but for the first."""
    assert kept.baselines is not None
    units, edges_of = path.units[::-1], drawn.edges
    value = float(edges_of.weights[units[0], len(kept) + path.token])
    for source, target in pairwise(units):
        value *= float(edges_of.unit[target, source])
    change = float(kept.values[units[-1]] - kept.baselines[units[-1]])
    value *= float(edges_of.weights[drawn.answer, units[-1]]) / change if change else 0.0
    return Way(path.token, units, False, predicted=-value)


def _by_held(case: Case, kept: Units, ways: Sequence[Way]) -> list[float]:
    """The same by edges of the held view: what holding attention and the rule for gates would say."""
    assert kept.baselines is not None
    targets = sorted({way.units[-1] for way in ways if way.onward})
    among = kept.take(torch.tensor(targets, dtype=torch.long, device=kept.ids.device))
    rows = case.metric.row(case.view)
    rows = readers(case.view, case.coded, among).join(rows) if len(among) else rows
    found = edges(case.view, case.coded, kept, rows)
    unit, _ = unit_effects(case.view, case.coded, case.metric.row(case.view))
    onward = case.coded.at_units(unit, among)
    out = []
    for way in ways:
        change = float(kept.baselines[way.units[0]] - kept.values[way.units[0]])
        row = targets.index(way.units[-1]) if way.onward else len(targets)
        out.append(change * float(found.unit[row, way.units[0]]) * (float(onward[row]) if way.onward else 1.0))
    return out
