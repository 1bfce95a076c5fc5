"""From a `Graph` to what a result holds of it, and back: which links are worth drawing, and what they leave out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hooke.errors import HookeError
from hooke.results.graph import PARTS, Graph, Kind, Node, Part
from hooke.results.graph_names import node_id
from hooke.results.payloads.common import Token
from hooke.results.payloads.graph import DrawnGraph, GraphLinks, GraphNode
from hooke.results.verdicts import Verdict

MAX_WRITTEN = 500_000  # links
TINY = 1e-30  # weights below this are left out: float32 holds no six digits of them
ALWAYS: set[Kind] = {"feature", "link", "token", "logit", "head", "mlp"}  # listed even without links
MAX_WEIGHTS = 2**28  # targets times nodes of a matrix: 1 GiB


def drawn_graph(
    graph: Graph,
    *,
    prompt: str = "",
    n_layers: int | None = None,
    contrast: Token | None = None,
    node_threshold: float | None = 0.8,
    edge_threshold: float = 0.98,
    max_links: int = MAX_WRITTEN,
) -> DrawnGraph:
    """What a result holds of a graph.

    Links are kept, strongest first, until they hold `edge_threshold` of the edge score
    |w| / sum|w of the target| * (influence of the target + its logit weight); `Node.influence` must be on
    the scale of the logit weights (the probabilities, or 1 for a contrast or a target without one). Links with a
    verdict are always kept. `max_links` caps the rest. What is left out of a target's inputs, its constant included, is
    `dropped`, so links plus dropped are its value. `node_threshold` removes nothing: a page's slider starts there.
    Raises HookeError for a graph that does not hold together.
    """
    check_graph(graph)
    for name, value in (("edge_threshold", edge_threshold), ("node_threshold", node_threshold)):
        if value is not None and not 0 <= value <= 1:
            raise HookeError(f"{name} is {value}; it must lie between 0 and 1")
    rows, columns, held = _kept(graph, edge_threshold, contrast is not None, max_links)
    found = _hold(graph, rows, columns, int(np.count_nonzero(graph.weights)), held, n_layers)
    about = {"prompt": prompt, "n_layers": n_layers, "contrast": contrast}
    return found.model_copy(update=about | {"node_threshold": node_threshold, "edge_threshold": edge_threshold})


def whole_graph(graph: Graph, *, prompt: str = "", contrast: Token | None = None, of: int | None = None) -> DrawnGraph:
    """What a result holds of a graph that was read from a file: every link of it. of: how many there once were."""
    rows, columns, _ = graph.links()
    found = _hold(graph, rows, columns, len(rows) if of is None else of, None, None)
    return found.model_copy(update={"prompt": prompt, "contrast": contrast})


def _hold(
    graph: Graph, rows: np.ndarray, columns: np.ndarray, of: int, held: float | None, n_layers: int | None
) -> DrawnGraph:
    """The graph with these links, nodes renumbered: remainders, errors and biases without a link are not listed."""
    order = np.lexsort((columns, rows))
    rows, columns = rows[order], columns[order]
    weights = six_digits(at(graph.weights, rows, columns))
    full = np.asarray(graph.weights.sum(axis=1, dtype=np.float64)).ravel() + graph.constants
    dropped = full - np.bincount(rows, weights=weights, minlength=len(full))
    verdicts = [graph.verdict(r, s) for r, s in zip(rows.tolist(), columns.tolist(), strict=True)]
    tested = [i for i, verdict in enumerate(verdicts) if verdict != "untested"]
    targets = np.asarray(graph.targets, np.int64)
    shown = {*columns.tolist(), *targets.tolist()}
    listed = [i for i, node in enumerate(graph.nodes) if node.kind in ALWAYS or i in shown]
    number = np.full(len(graph.nodes), -1)
    number[listed] = np.arange(len(listed))
    names = _names(graph, listed, n_layers)
    sums: dict[int, float] = {}
    for target, total in zip(targets.tolist(), full.tolist(), strict=True):
        sums[target] = sums.get(target, 0.0) + total
    return DrawnGraph(
        tokens=graph.tokens,
        form=graph.form,
        nodes=[
            _row(graph.nodes[i], name, sums.get(i) if graph.form == "held" else None)
            for i, name in zip(listed, names, strict=True)
        ],
        targets=number[targets].tolist(),
        parts=list(graph.parts),
        dropped=[digits(x, 12) for x in dropped.tolist()],
        links=GraphLinks(
            source=number[columns].tolist(),
            row=rows.tolist(),
            weight=weights.tolist(),
            delta=[] if graph.deltas is None else six_digits(at(graph.deltas, rows, columns)).tolist(),
            tested=tested,
            verdicts=[verdicts[i] for i in tested],
            of=of,
            held=held,
        ),
    )


def _names(graph: Graph, listed: Sequence[int], n_layers: int | None) -> list[str]:
    """The ids of nodes, their own or made of what they are. Raises HookeError where two are the same."""
    last, taken = max(len(graph.tokens) - 1, 0), dict[str, int]()
    for i in listed:
        node = graph.nodes[i]
        if not node.id and node.kind == "logit" and node.layer is None and n_layers is not None:
            node = replace(node, layer=n_layers + 1)
        name = node.id or node_id(node, last=last)
        if name in taken:
            raise HookeError(f"nodes {taken[name]} and {i} of the graph are both {name!r}; merge them first")
        taken[name] = i
    return list(taken)


def _row(node: Node, name: str, total: float | None) -> GraphNode:
    """A node of a result. total: what enters it, which is its value if it has no other."""

    def short(value: float | None, count: int) -> float | None:
        return None if value is None else digits(value, count)

    return GraphNode(
        id=name, kind=node.kind, layer=node.layer, position=node.position, index=node.index, key=node.key,
        seen=short(node.seen, 6), jump=short(node.jump, 6),
        label=node.label,
        value=short(total if node.value is None else node.value, 12), delta=short(node.delta, 12),
        total=short(node.total, 12), averaged=short(node.averaged, 12), rank=node.rank,
        influence=digits(node.influence, 6), cumulative=digits(node.cumulative, 6),
        probability=short(node.probability, 6), is_target=node.is_target, verdict=node.verdict, reason=node.reason,
        reads=node.reads, promotes=node.promotes, suppresses=node.suppresses,
    )  # fmt: skip


def graph_of(drawn: DrawnGraph, *, dense: bool = False) -> Graph:
    """The graph of a result, with the links that it holds; `constants` are what these leave out.

    dense: whether `weights` is an ordinary array; else it takes the memory of the links, and not of their square.
    Raises HookeError for a matrix that is too large.
    """
    links, shape = drawn.links, (len(drawn.targets), len(drawn.nodes))
    if dense and shape[0] * shape[1] > MAX_WEIGHTS:
        raise HookeError(f"{shape[0]:,} targets by {shape[1]:,} nodes are too many to hold as a matrix")
    targets, ends = np.array(drawn.targets, np.int64), (np.array(links.row, np.int64), np.array(links.source, np.int64))
    nodes = [Node(**node.model_dump()) for node in drawn.nodes]
    for target, lost in zip(drawn.targets, drawn.dropped, strict=True):
        nodes[target].dropped += lost
    graph = Graph(
        nodes,
        targets,
        matrix(ends, np.array(links.weight, np.float32), shape, dense),
        np.array(drawn.dropped, np.float64),
        tokens=list(drawn.tokens),
        form=drawn.form,
        parts=list(drawn.parts),
        deltas=matrix(ends, np.array(links.delta, np.float32), shape, dense) if links.delta else None,
    )
    for i, verdict in zip(links.tested, links.verdicts, strict=True):
        source, row = links.source[i], links.row[i]
        if graph.part(row):
            graph.part_verdicts[source, drawn.targets[row], graph.part(row)] = verdict
        else:
            graph.verdicts[source, drawn.targets[row]] = verdict
    return graph


def at(matrix: Any, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Entries of an array or of a csr_array."""
    return np.asarray(matrix[rows, columns]).ravel() if len(rows) else np.zeros(0, np.float32)


def matrix(ends: tuple[np.ndarray, np.ndarray], values: np.ndarray, shape: tuple[int, int], dense: bool) -> Any:
    """Values by (row, source), those of the same place added up; without `dense` a csr_array."""
    if dense:
        found = np.zeros(shape, np.float32)
        np.add.at(found, ends, values)
        return found
    from scipy.sparse import csr_array

    held = csr_array((values, ends), shape=shape)
    held.sum_duplicates()
    return held


def _kept(graph: Graph, threshold: float, single: bool, most: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows and columns of the weights to write, and the share of the edge score that they hold."""
    size = np.abs(graph.weights)
    output = np.array([_output(graph.nodes[t], single) for t in graph.targets.tolist()], float)
    if not output.any():  # nobody computed influences: every target counts alike
        output[:] = 1
    scale = output / np.maximum(size.sum(axis=1, dtype=np.float64), 1e-10)
    score = size * scale.astype(np.float32)[:, None]
    score[size < TINY] = 0
    ascending = np.sort(score[score > 0])
    lost = np.cumsum(ascending, dtype=np.float64)
    total = float(lost[-1]) if len(lost) else 0.0
    keep = score > 0
    if threshold >= 1:
        keep = size >= TINY
    elif total:
        first = int(np.searchsorted(lost, (1 - threshold) * total, side="right"))
        keep = score >= ascending[first] if first < len(ascending) else np.zeros_like(keep)
    rows, columns = np.nonzero(keep)
    if len(rows) > most:
        best = np.sort(np.argsort(-score[rows, columns], kind="stable")[:most])
        rows, columns = rows[best], columns[best]
    row_of = {(int(target), graph.part(row)): row for row, target in enumerate(graph.targets)}
    have: dict[tuple[int, int, Part], Verdict] = {
        (s, t, part): verdict for (s, t), verdict in graph.verdicts.items() for part in PARTS
    }
    have |= graph.part_verdicts
    wanted = [(row_of[t, part], s) for (s, t, part), v in have.items() if v != "untested" and (t, part) in row_of]
    must = [(row, s) for row, s in wanted if size[row, s] >= TINY]
    if must:
        flat = np.union1d(rows * len(graph.nodes) + columns, [r * len(graph.nodes) + c for r, c in must])
        rows, columns = np.divmod(flat, len(graph.nodes))
    reached = float(score[rows, columns].sum(dtype=np.float64) / total) if total else 1.0
    return rows, columns, digits(min(reached, 1.0), 6)


def _output(node: Node, single: bool) -> float:
    """How much of the answer leaves through a target: its influence and, for an output, its weight."""
    weight = 0.0
    if node.kind == "logit" or node.is_target:
        weight = 1.0 if single or node.probability is None else node.probability
    return max(node.influence, 0.0) + weight


def check_graph(graph: Graph) -> None:
    """Shapes, ranges and finite numbers, before any work."""
    count, shape = len(graph.nodes), (len(graph.targets), len(graph.nodes))
    if graph.weights.shape != shape or np.shape(graph.constants) != shape[:1]:
        raise HookeError(f"weights {graph.weights.shape} and constants {np.shape(graph.constants)} do not fit {shape}")
    targets = np.asarray(graph.targets)
    if graph.parts and (len(graph.parts) != len(targets) or not set(graph.parts) <= set(PARTS)):
        raise HookeError(f"the graph's parts must be one of {', '.join(map(repr, PARTS))} for each of its targets")
    rows = {(int(target), graph.part(row)) for row, target in enumerate(targets)}
    if len(rows) != len(targets) or (len(targets) and not 0 <= targets.min() <= targets.max() < count):
        raise HookeError("the graph's targets must be distinct indices of its nodes")
    if len(bad := np.argwhere(~np.isfinite(graph.weights))):
        row, source = bad[0].tolist()
        raise HookeError(
            f"the weight from node {source} to node {targets[row]} is {graph.weights[row, source]}, not a finite number"
        )
    if len(bad := np.argwhere(~np.isfinite(graph.constants))):
        raise HookeError(f"the constant of node {targets[bad[0, 0]]} is not a finite number")
    for number, node in enumerate(graph.nodes):
        if node.kind == "feature" and (node.layer is None or node.index is None or min(node.layer, node.index) < 0):
            raise HookeError(f"node {number} is feature {node.index} of layer {node.layer}; both must be 0 or more")
        for name in ("value", "delta", "total", "averaged", "influence", "cumulative", "probability"):
            value = getattr(node, name)
            if value is not None and not math.isfinite(value):
                raise HookeError(f"{name} of node {number} ({node.kind}) is {value}, not a finite number")


def digits(value: float, count: int) -> float:
    """`value` rounded to `count` significant digits."""
    return float(f"{float(value):.{count}g}")


def six_digits(values: np.ndarray) -> np.ndarray:
    """Each value rounded to 6 significant digits: an integer times or over a power of ten, so it prints short."""
    values = np.asarray(values, np.float64)
    size = np.abs(values)
    shift = 5 - np.floor(np.log10(np.where(size < TINY, 1.0, size))).astype(int)
    up, down = 10.0 ** np.clip(shift, 0, 22), 10.0 ** np.clip(-shift, 0, 22)
    far = (shift > 22) & (size > 0)
    out = np.where(shift >= 0, np.rint(values * up) / up, np.rint(values / down) * down)
    out[far] = [digits(value, 6) for value in values[far].tolist()]
    return out
