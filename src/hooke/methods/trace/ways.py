"""Which edges and paths of a graph are tested along their own way, beside random edges, and how they fared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hooke.methods.progress import Tick, idle, stretch
from hooke.methods.trace.along import Way, measure_ways
from hooke.methods.trace.coded import Case, Units
from hooke.methods.trace.draw import Drawn
from hooke.methods.trace.edges import edges, readers
from hooke.methods.trace.explain import Path
from hooke.methods.trace.tries import FULL_TOKENS, Trial, judge, rank
from hooke.results import Verdict

N_EDGES, AMONG = 60, 2000  # edges that are tested, drawn evenly from the strongest of so many
N_RANDOM_EDGES = 20


def try_ways(
    case: Case,
    kept: Units,
    drawn: Drawn,
    slopes: Sequence[Tensor],
    held: Sequence[Tensor] | None,
    paths: Sequence[Path],
    seed: int,
    tick: Tick = idle,
) -> tuple[list[Trial], dict[tuple[int, int], Verdict], dict[str, object]]:
    """What edges and paths carry to the answer: one by one; the verdicts of edges between nodes, by (source, target);
    and in all, beside edges shuffled and edges of the held view.

    slopes: per block, what the graph says of one unit of each entry of the codes. held: what the held view says of it,
    to be set beside it.
    """
    carried = _carried(case, kept, drawn, slopes)
    ways, random = _edges(carried, seed, max(0.2, min(1.0, FULL_TOKENS / case.view.n_tokens)))
    along = [Way(path.token, path.units[::-1], False, predicted=-path.weight) for path in paths if path.units]
    measure_ways(case, kept, [*ways, *random, *along], stretch(tick, 0.0, 0.9))
    predicted, measured = [way.predicted for way in ways], [way.measured for way in ways]
    bar = max([case.rounding, float(np.quantile([abs(w.measured) for w in random], 0.95)) if random else 0.0])
    verdicts = {(way.units[0], way.units[1]): judge(way.predicted, way.measured, bar)[0] for way in ways if way.onward}
    shuffled = np.random.default_rng(seed).permutation(predicted).tolist()
    signs = [way.predicted * way.measured > 0 for way in along if abs(way.measured) > case.rounding]
    summary: dict[str, object] = {
        "edges_spearman": rank(predicted, measured, case.rounding),
        "edges_shuffled_spearman": rank(shuffled, measured, case.rounding),
        "edges_tried": len(ways),
        "edges_control_95th_percentile": bar,
        "paths_sign": float(np.mean(signs)) if signs else None,
        "paths_tried": len(along),
    }
    if held is not None:  # which knows no links
        known = [way for way in ways if max(way.units) < len(kept)]
        carried_then = [way.measured for way in known]
        summary["edges_held_spearman"] = rank(_by_held(case, kept, known, held), carried_then, case.rounding)
    trials = [Trial("edge", way.units, way.predicted, way.measured) for way in ways]
    trials += [Trial("path", way.units, way.predicted, way.measured, way.token) for way in along]
    return trials, verdicts, summary


def _changes(kept: Units, drawn: Drawn, row: slice | int) -> Tensor:
    """(…, n_nodes): how far targets move when each node is set to its counterfactual value, by its edge."""
    assert kept.baselines is not None
    if drawn.closure is not None:
        return -drawn.edges.weights[row, : len(drawn.matrix)]
    return drawn.edges.unit[row] * (kept.baselines - kept.values)


def _carried(case: Case, kept: Units, drawn: Drawn, slopes: Sequence[Tensor]) -> Tensor:
    """(n_nodes + 1, n_nodes): what each edge carries to the answer when its source is set to its counterfactual value:
    how far its target moves, times all that follows from one unit of that; the last row is of edges into the answer."""
    onward, n = case.coded.at_units(slopes, kept), len(drawn.matrix)
    onward = torch.cat([onward, onward.new_ones(n - len(kept))])  # a unit of a link is what is worth one
    inner = _changes(kept, drawn, slice(0, n)) * onward[:, None]
    return torch.cat([inner, _changes(kept, drawn, drawn.answer)[None]])


def _edges(carried: Tensor, seed: int, thin: float) -> tuple[list[Way], list[Way]]:
    """Edges spread over the strongest, and random ones of all that there are."""
    n, flat = carried.shape[1], carried.flatten()
    there = (flat != 0).nonzero()[:, 0]
    best = there[flat[there].abs().argsort(descending=True)[:AMONG]]
    some = best[torch.linspace(0, max(len(best) - 1, 0), min(round(thin * N_EDGES), len(best))).round().long().unique()]
    generator = torch.Generator().manual_seed(seed)
    random = there[torch.randperm(len(there), generator=generator)[: round(thin * N_RANDOM_EDGES)].to(there.device)]

    def way(at: int) -> Way:
        target, source = divmod(at, n)
        units = [source] if target == n else [source, target]
        return Way(None, units, target < n, predicted=float(flat[at]))

    return [way(at) for at in some.tolist()], [way(at) for at in random.tolist()]


def _by_held(case: Case, kept: Units, ways: Sequence[Way], unit: Sequence[Tensor]) -> list[float]:
    """The same by edges of the held view: what holding attention and the rule for gates would say."""
    assert kept.baselines is not None
    targets = sorted({way.units[-1] for way in ways if way.onward})
    among = kept.take(torch.tensor(targets, dtype=torch.long, device=kept.ids.device))
    rows = case.metric.row(case.view)
    rows = readers(case.view, case.coded, among).join(rows) if len(among) else rows
    found = edges(case.view, case.coded, kept, rows)
    onward = case.coded.at_units(unit, among)
    out = []
    for way in ways:
        change = float(kept.baselines[way.units[0]] - kept.values[way.units[0]])
        row = targets.index(way.units[-1]) if way.onward else len(targets)
        out.append(change * float(found.unit[row, way.units[0]]) * (float(onward[row]) if way.onward else 1.0))
    return out
