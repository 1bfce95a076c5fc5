"""A circuit in the graph view: columns are heads and the MLP, and a link counts as support where cutting it hurts.

A circuit of nodes has no links; its nodes themselves are cut, and their `delta` is what that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hooke.results import Graph
from hooke.results.graph_names import circuit_name
from hooke.viewer.schema import CircuitFacts, CircuitSize
from hooke.viewer.scoreboard import flat, kind_name

DRAWN = ("graph", "sentence", "notes", "task", "method", "units", "size", "n_edges", "faithfulness", "stability",
         "scores_on_truth")  # fmt: skip


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


def facts(payload: dict[str, Any]) -> CircuitFacts:
    """What stands above the graph: how large the circuit is, how faithful, how stable, and what its method is worth."""
    curve = payload.get("faithfulness") or {}
    sizes = [
        CircuitSize(
            edges=edges, circuit=_at(curve, "circuit", i), random=_at(curve, "random", i),
            random_low=_at(curve, "random_low", i), random_high=_at(curve, "random_high", i),
            complement=_at(curve, "complement", i),
        )
        for i, edges in enumerate(curve.get("edges", []))
    ]  # fmt: skip
    return CircuitFacts(
        task=str(payload.get("task") or ""),
        method=str(payload.get("method") or ""),
        units=str(payload.get("units") or "edges"),
        size=payload.get("size"),
        n_edges=payload.get("n_edges"),
        example=_example(payload.get("tokens")),
        sizes=sizes,
        stability=_rows(payload.get("stability")),
        truth=_truth(payload.get("scores_on_truth")),
        rest={key: value for key, value in payload.items() if key not in DRAWN},
    )


def _rows(told: Any) -> Any:
    """An object of objects as one table with a row each, without the lists in them; anything else as it is."""
    if not isinstance(told, dict):
        return told
    rows = {name: row for name, row in told.items() if row is not None}
    if not rows or not all(isinstance(row, dict) for row in rows.values()):
        return told
    plain = (str, int, float, type(None))
    return [
        {"circuits": name.replace("_", " ")} | {k: v for k, v in row.items() if isinstance(v, plain)}
        for name, row in rows.items()
    ]


def _truth(told: Any) -> Any:
    """A row of the scoreboard by kinds of models; anything else as `_rows` has it."""
    if not isinstance(told, dict) or not isinstance(told.get("kinds"), dict):
        return _rows(told)
    return [{"models": kind_name(kind)} | {k: v for k, v in flat(row).items() if k != "models"}
            for kind, row in told["kinds"].items()]  # fmt: skip


def _example(pairs: Any) -> str:
    """The first pair of prompts in words."""
    if not isinstance(pairs, list) or not pairs or not isinstance(pairs[0], dict):
        return ""
    clean, corrupt = ("".join(map(str, pairs[0].get(side) or [])) for side in ("clean", "corrupt"))
    return f"{clean!r} against {corrupt!r}" if clean else ""


def _at(curve: dict[str, Sequence[float | None]], name: str, i: int) -> float | None:
    values = curve.get(name) or []
    return values[i] if i < len(values) else None
