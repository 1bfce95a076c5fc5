"""The view of a circuit: columns are heads and the MLP, and a link counts as support where cutting it hurts.

A circuit of nodes has no links; its nodes themselves are cut, and their `delta` is what that does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hooke.results import Graph
from hooke.results.graph_names import circuit_name
from hooke.results.payloads.circuit import Circuit, PairTokens, ScoresOnTruth, Stability
from hooke.viewer.schema import CircuitFacts, CircuitSize
from hooke.viewer.scoreboard import flat, kind_name

DRAWN = {"graph", "sentence", "task", "method", "units", "size", "n_edges", "faithfulness", "stability",
         "scores_on_truth"}  # fmt: skip


def stand(graph: Graph) -> None:
    """Give the nodes of a circuit their written names, their columns and their shares, in place.

    Weights change their sign: a file holds what cutting does, the page shows what an edge does for the answer.
    """
    heads = [node.index or 0 for node in graph.nodes if node.kind == "head"]
    n_heads = max(heads, default=-1) + 1
    graph.weights, graph.constants = -graph.weights, 0.0 - graph.constants  # no minus zero
    size = abs(graph.weights)
    touched = size.sum(0, dtype=np.float64) + [abs(node.delta or 0.0) for node in graph.nodes]
    np.add.at(touched, graph.targets, size.sum(1, dtype=np.float64))
    shares = touched / max(touched.sum(), 1e-30)
    for node, share in zip(graph.nodes, shares.tolist(), strict=True):
        node.id = node.label = circuit_name(node)
        node.influence = share
        node.delta = None if node.delta is None else 0.0 - node.delta
        columns = {"head": node.index or 0, "mlp": n_heads, "feature": n_heads}
        node.position = columns.get(node.kind)
    before = 0.0
    for i in np.argsort(-shares, kind="stable").tolist():
        before = graph.nodes[i].cumulative = min(1.0, before + shares[i])
    graph.tokens = [*(str(h) for h in range(n_heads)), "MLP"]


def facts(payload: Circuit | None) -> CircuitFacts:
    """What stands above the graph: how large the circuit is, how faithful, how stable, and what its method is worth.
    Of a graph file, which says none of that: nothing."""
    if payload is None:
        return CircuitFacts(
            task="", method="", units="edges", size=None, n_edges=None, example="", sizes=[], stability=None,
            truth=None, rest={},
        )  # fmt: skip
    curve = payload.faithfulness
    columns = zip(
        curve.edges, curve.circuit, curve.random, curve.random_low, curve.random_high, curve.complement, strict=True
    )
    names = ("edges", "circuit", "random", "random_low", "random_high", "complement")
    return CircuitFacts(
        task=payload.task or "",
        method=payload.method,
        units=payload.units,
        size=payload.size,
        n_edges=payload.n_edges,
        example=_example(payload.tokens),
        sizes=[CircuitSize(**dict(zip(names, row, strict=True))) for row in columns],
        stability=_stability(payload.stability),
        truth=None if payload.scores_on_truth is None else _truth(payload.scores_on_truth),
        rest=payload.model_dump(exclude=DRAWN),
    )


def _stability(found: Stability) -> list[dict[str, Any]]:
    """One table with a row for each way of finding the circuit again."""
    rows = [(name.replace("_", " "), overlap) for name, overlap in found]
    return [
        {"circuits": name, "mean_edges": overlap.mean_edges, "mean_nodes": overlap.mean_nodes}
        for name, overlap in rows
        if overlap is not None
    ]


def _truth(told: ScoresOnTruth) -> list[dict[str, Any]]:
    """What the method scores by kinds of models."""
    rows = {kind: flat(row.model_dump(exclude_none=True)) for kind, row in told.kinds.items()}
    return [{"models": kind_name(kind)} | {k: v for k, v in row.items() if k != "models"} for kind, row in rows.items()]


def _example(pairs: list[PairTokens]) -> str:
    """The first pair of prompts in words."""
    return f"{''.join(pairs[0].clean)!r} against {''.join(pairs[0].corrupt)!r}" if pairs else ""
