"""The sieve: cut whole nodes first, then, between the nodes that matter, edge by edge.

Cutting one edge tells exactly what it does, and a model has many more edges than nodes. An edge can only matter by
what its writer gives and what its reader takes, so cutting all edges out of each writer, and all into each reader,
leaves few to try. (Edges whose effects cancel within a node escape this; the scoreboard shows how often.) Edges that
do nothing are put in the order of information flow, below all others: what carries much and is not needed now may
stand in for another edge.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hooke.methods.circuit.scores import eap_ig_inputs, exact, flow, measured, plain_logits
from hooke.methods.computation_graph import ComputationGraph
from hooke.methods.edge_runs import pair_runs, rows_at_once
from hooke.methods.objective import Objective
from hooke.methods.progress import Tick, idle, stretch
from hooke.model import Model, Tokens

TIE = 1e-9  # of the largest effect: what information flow may add, so that edges without effect have an order
LEAST = 1e-3  # of the largest effect of a node: one that moves the metric less does not matter


class Sieved(NamedTuple):
    """effects: (batch, n_readers, n_writers), of each edge cut alone. tested: (n_readers, n_writers) True where it was
    cut by itself; the rest are taken for 0, because a node that they need does not matter, or estimated."""

    effects: Tensor
    tested: Tensor


def sieve(
    model: Model,
    clean: Tokens,
    corrupt: Tokens,
    objective: Objective,
    *,
    budget: int,
    steps: int = 5,
    max_rows: int | None = None,
    tick: Tick = idle,
) -> Sieved:
    """Exact effects of the edges that can matter, at most `budget` of them; of more, those that EAP-IG puts first.

    budget: edges that may be cut one by one. steps: of the integrated gradients, needed only beyond the budget.
    """
    computation = ComputationGraph.of(model.parts)
    edges = computation.edges
    out, into = node_effects(model, clean, corrupt, objective, max_rows=max_rows, tick=stretch(tick, 0, 0.3))
    least = LEAST * max(float(out.max()), float(into.max()))
    chosen = edges & (into > least)[:, None] & (out > least)[None]
    if int(chosen.sum()) <= budget:
        found = exact(model, clean, corrupt, objective, edges=chosen, max_rows=max_rows, tick=stretch(tick, 0.3, 1))
        order = flow(model, clean, corrupt, objective).to(found)
        order *= TIE * float(found.abs().max())
        # below 0 is what supports the answer: of edges that do nothing, those that carry much are cut last
        return Sieved(torch.where(found == 0, -order, found + order), chosen)
    estimate = eap_ig_inputs(model, clean, corrupt, objective, steps=steps) * chosen.to(model.device)
    best = estimate.abs().mean(0).cpu()[chosen].argsort(descending=True)
    at = chosen.nonzero()[best[:budget]]
    first = torch.zeros_like(chosen)
    first[at[:, 0], at[:, 1]] = True
    found = exact(model, clean, corrupt, objective, edges=first, max_rows=max_rows, tick=stretch(tick, 0.4, 1))
    return Sieved(torch.where(first.to(model.device), found, estimate), first)


def node_effects(
    model: Model,
    clean: Tokens,
    corrupt: Tokens,
    objective: Objective,
    *,
    max_rows: int | None = None,
    tick: Tick = idle,
) -> tuple[Tensor, Tensor]:
    """(n_writers,) and (n_readers,): the mean size of the change when all edges out of a writer, or into a reader,
    are cut at once."""
    computation, batch = ComputationGraph.of(model.parts), len(clean.ids)
    n_readers, n_writers = computation.edges.shape
    pairs = torch.arange(batch, device=model.device)
    size = max(1, (max_rows or rows_at_once(model, clean.ids.shape[1])) // batch)
    found = torch.zeros(n_writers + n_readers)
    with torch.no_grad():
        runs = pair_runs(model, clean, corrupt)
        base = objective.effect(plain_logits(model, clean, objective), pairs)
        for start in range(0, len(found), size):
            nodes = range(start, min(start + size, len(found)))
            keep = torch.ones(len(nodes), n_readers, n_writers, device=model.device)
            for row, node in enumerate(nodes):
                if node < n_writers:
                    keep[row, :, node] = 0
                else:
                    keep[row, node - n_writers] = 0
            moved = measured(model, runs, keep, objective, objective.effect) - base
            found[nodes.start : nodes.stop] = moved.abs().mean(1).cpu()
            tick(nodes.stop / len(found))
    return found[:n_writers], found[n_writers:]
