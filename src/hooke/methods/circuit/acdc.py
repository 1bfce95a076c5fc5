"""ACDC (2304.14997): take edges out one after another, from the logits back, as long as the output hardly moves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.methods.circuit.scores import measured
from hooke.methods.computation_graph import ComputationGraph
from hooke.methods.edge_runs import pair_runs, rows_at_once
from hooke.methods.objective import Objective
from hooke.methods.progress import Tick, idle
from hooke.model import Model, Tokens


def acdc_edges(
    model: Model,
    clean: Tokens,
    corrupt: Tokens,
    objective: Objective,
    *,
    threshold: float,
    order: Tensor | None = None,
    max_rows: int | None = None,
    tick: Tick = idle,
) -> Tensor:
    """(n_readers, n_writers) True at the edges that stay.

    The mean distance over the pairs may grow by less than `threshold` for each edge taken out. order: (n_edges, 2)
    of (reader, writer), how edges are tried, on which the result depends; None is from the last reader back, and for
    each from its last writer back.

    Several removals are tried in one batch, each on top of those before it. Up to the first that is refused these
    are the runs that the sequential algorithm makes; the rest of the batch is thrown away.
    """
    computation = ComputationGraph.of(model.parts)
    todo = computation.edges.nonzero().flip(0) if order is None else order
    keep = torch.ones(1, *computation.edges.shape, device=model.device)
    most = max(1, (max_rows or rows_at_once(model, clean.ids.shape[1])) // len(clean.ids))
    size, done = min(8, most), 0
    with torch.no_grad():
        runs = pair_runs(model, clean, corrupt)
        value = float(measured(model, runs, keep, objective, objective.distance).mean())
        while done < len(todo):
            chunk = todo[done : done + size]
            n = len(chunk)
            trial = keep.repeat(n, 1, 1)
            for row, (reader, writer) in enumerate(chunk.tolist()):
                trial[row:, reader, writer] = 0
            found = measured(model, runs, trial, objective, objective.distance).mean(1).tolist()
            accepted = 0
            while accepted < n and found[accepted] - value < threshold:
                value = found[accepted]
                accepted += 1
            if accepted:
                keep = trial[accepted - 1 : accepted].clone()
            done += accepted + (accepted < n)  # and the refused one, which stays
            size = min(most, size * 2) if accepted == n else max(1, min(most, 2 * (accepted + 1)))
            tick(done / len(todo))
    return (keep[0] > 0) & computation.edges.to(keep.device)


def acdc_scores(
    model: Model,
    clean: Tokens,
    corrupt: Tokens,
    objective: Objective,
    *,
    thresholds: Sequence[float],
    tick: Tick = idle,
) -> Tensor:
    """(n_readers, n_writers): how many of the thresholds, from the smallest up, an edge survives; for ranking edges."""
    total = torch.zeros(ComputationGraph.of(model.parts).edges.shape)
    for n, threshold in enumerate(sorted(thresholds)):
        kept = acdc_edges(model, clean, corrupt, objective, threshold=threshold)
        total += kept.cpu()
        tick((n + 1) / len(thresholds))
    return total
