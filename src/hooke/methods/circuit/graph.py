"""A circuit as a `Graph`: whole heads and MLPs as nodes, its edges with their weights and verdicts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from hooke.methods.circuit.levels import Edges, Level
from hooke.results import Graph, Node, Verdict
from hooke.results.graph import PARTS, Part

NEURON = re.compile(r"m(\d+)\.n(\d+)")
HEAD = re.compile(r"a(\d+)\.h(\d+)")


def graph_of(level: Level, keep: Tensor, weights: Tensor, verdicts: Mapping[int, Verdict]) -> Graph:
    """The kept units. weights: (n,), what cutting a unit does to the metric; verdicts: of units, by number."""
    if not isinstance(level, Edges):
        return _of_nodes(level, keep, weights, verdicts)
    computation, matrix = level.computation, level.matrix(keep)
    leaves = matrix.any(0)
    kept = [(unit, *level.at[unit].tolist()) for unit in keep.nonzero()[:, 0].tolist()]
    ends: list[tuple[int, str, str, Part]] = []  # unit, writer, reader's node, part
    for unit, reader, writer in kept:
        for name in computation.names(reader):
            node, _, letter = name.rstrip(">").partition("<")
            part = next(p for p in PARTS if p == letter)
            # keys and values that heads share are drawn at those heads that the circuit has
            if part in ("k", "v") and not bool(leaves[computation.writers.index(node)]):
                continue
            ends.append((unit, computation.writers[writer], node, part))
    order = {name: i for i, name in enumerate([*computation.writers, "logits"])}
    names = sorted({"input", "logits", *(e[1] for e in ends), *(e[2] for e in ends)}, key=order.__getitem__)
    index = {name: i for i, name in enumerate(names)}
    rows = sorted({(index[node], part) for _, _, node, part in ends}, key=lambda row: (row[0], PARTS.index(row[1])))
    row_of = {row: i for i, row in enumerate(rows)}
    table = np.zeros((len(rows), len(names)), np.float32)
    said: dict[tuple[int, int], Verdict] = {}
    by_part: dict[tuple[int, int, Part], Verdict] = {}
    for unit, writer, node, part in ends:
        s, t = index[writer], index[node]
        table[row_of[t, part], s] = float(weights[unit])
        if unit in verdicts:
            if part:
                by_part[s, t, part] = verdicts[unit]
            else:
                said[s, t] = verdicts[unit]
    graph = Graph(
        [node_of(name) for name in names],
        np.array([t for t, _ in rows], np.int64),
        table,
        np.zeros(len(rows)),
        said,
        parts=[part for _, part in rows],
        part_verdicts=by_part,
    )
    _weigh(graph)
    return graph


def node_of(name: str) -> Node:
    """`input`, `a3.h1`, `m3`, `m3.n17` or `logits` as a node without a position."""
    if name == "input":
        return Node(name, "token", label=name)
    if name == "logits":
        return Node(name, "logit", index=0, label=name, is_target=True)
    if found := HEAD.fullmatch(name):
        return Node(name, "head", int(found[1]), None, int(found[2]), label=name)
    if found := NEURON.fullmatch(name):
        return Node(name, "feature", int(found[1]), None, int(found[2]), label=name)
    return Node(name, "mlp", int(name[1:]), label=name)


def _of_nodes(level: Level, keep: Tensor, weights: Tensor, verdicts: Mapping[int, Verdict]) -> Graph:
    nodes = []
    for unit in keep.nonzero()[:, 0].tolist():
        node = node_of(level.called(unit))
        node.delta, node.verdict = float(weights[unit]), verdicts.get(unit, "untested")
        node.reason = "" if unit in verdicts else "not among those that were tested"
        nodes.append(node)
    nodes = [node_of("input"), *nodes, node_of("logits")]
    graph = Graph(nodes, np.zeros(0, np.int64), np.zeros((0, len(nodes)), np.float32), np.zeros(0))
    _weigh(graph)
    return graph


def _weigh(graph: Graph) -> None:
    """Influence: the share of all weight that leaves a node, or that the node itself has."""
    own = np.abs(graph.weights).sum(0, dtype=np.float64)
    if not len(graph.targets):
        own = np.array([abs(node.delta or 0.0) for node in graph.nodes])
    share = own / max(float(own.sum()), 1e-30)
    order = np.argsort(-share, kind="stable")
    cumulative = np.empty(len(share))
    cumulative[order] = np.cumsum(share[order])
    for node, mine, all_above in zip(graph.nodes, share.tolist(), cumulative.tolist(), strict=True):
        node.influence, node.cumulative = mine, min(1.0, all_above)
