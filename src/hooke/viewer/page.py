"""From results to what the page reads: a `Page` as JSON, its arrays beside it, in one safetensors file, gzipped.

Nothing is hidden without being counted: links beyond `max_links` are left out, weakest first, how many there are is
said, and what a node thereby loses, net, is added to its `dropped`.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Any

import numpy as np

from hooke.errors import HookeError
from hooke.results import WORDS, Graph, Result
from hooke.results.drawn import at, graph_of
from hooke.results.graph import PARTS
from hooke.results.payloads.circuit import Circuit
from hooke.results.payloads.common import Token
from hooke.results.payloads.graph import GraphPayload
from hooke.results.payloads.lens import Lens
from hooke.results.payloads.patch import Attribution, Patch
from hooke.results.payloads.probe import Probe, ProbeTest
from hooke.results.payloads.scoreboard import Scoreboard
from hooke.results.payloads.trace import GroupFacts, Intervention, Trace, TraceGroup
from hooke.viewer import circuit
from hooke.viewer.assess import assess_view, bounded, links_each
from hooke.viewer.patch import attribution_view, patch_view
from hooke.viewer.probe import probe_test_view, probe_view
from hooke.viewer.schema import (
    AssessView,
    CircuitView,
    GenericView,
    GraphState,
    GraphView,
    Group,
    LensView,
    Links,
    Nodes,
    Page,
    PatchView,
    ProbeView,
    Shown,
)
from hooke.viewer.scoreboard import tables
from hooke.viewer.titles import title

MAX_LINKS = 200_000
MAX_GENERIC_BYTES = 32 * 2**20
MANTISSA_BITS = 12  # of a link's weight: four digits in a hundredfold smaller file
Arrays = dict[str, np.ndarray]
View = GraphView | CircuitView | LensView | Intervention | ProbeView | AssessView | PatchView | GenericView
VERDICTS = {name: k for k, name in enumerate(["untested", *(name for name in WORDS if name != "untested")])}


def page_bytes(results: Sequence[Result], *, state: dict[str, Any] | None = None, max_links: int = MAX_LINKS) -> bytes:
    """The page of a result and of what was made from it, main result first, gzipped. Of an assessment: its evidence.

    state: what a person did, as the page itself saved it.
    Raises HookeError for a result whose payload is not what its kind promises, and for an assessment that no report
    can be rendered from.
    """
    from safetensors.numpy import save

    arrays: Arrays = {}
    main, *others = results
    if main.kind == "assess":
        small = [bounded(result) for result in others]
        max_links = links_each(others, max_links)
        shown = [_envelope(main, assess_view(main, others, [gone for _, gone in small]))]
        others = [result for result, _ in small]
    else:
        shown = [_shown(main, 0, arrays, max_links)]
    shown += [_shown(result, number, arrays, max_links) for number, result in enumerate(others, 1)]
    page = Page(title=title(results[0]), results=shown, state=state)
    tensors = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    # mtime 0: equal results give equal bytes
    return gzip.compress(save(tensors, metadata={"page": page.model_dump_json()}), 6, mtime=0)


def _shown(result: Result, number: int, arrays: Arrays, max_links: int) -> Shown:
    return _envelope(result, _view(result, number, arrays, max_links))


def _envelope(result: Result, view: View) -> Shown:
    return Shown(
        kind=result.kind,
        id=result.id,
        parents=result.parents,
        arguments=result.arguments,
        provenance=result.provenance,
        status=result.status,
        seconds=result.seconds,
        claims=result.claims,
        view=view,
    )


def _view(result: Result, number: int, arrays: Arrays, max_links: int) -> View:
    payload = result.typed()
    if isinstance(payload, Trace | Circuit | GraphPayload):
        return _graph_view(result, payload, f"{number}.links", arrays, max_links)
    if isinstance(payload, Lens):
        return _lens_view(result, payload, f"{number}.lens", arrays)
    if isinstance(payload, Intervention):
        return payload
    if len(result.to_json()) > MAX_GENERIC_BYTES:
        raise HookeError(f"this {result.kind} is over {MAX_GENERIC_BYTES >> 20} MB, too large for a page of tables")
    if isinstance(payload, Probe):
        return probe_view(payload)
    if isinstance(payload, ProbeTest):
        return probe_test_view(payload)
    if isinstance(payload, Patch):
        return patch_view(payload)
    if isinstance(payload, Attribution):
        return attribution_view(payload)
    return GenericView(payload=tables(payload) if isinstance(payload, Scoreboard) else result.payload)


def _graph_view(
    result: Result, payload: Trace | Circuit | GraphPayload, place: str, arrays: Arrays, max_links: int
) -> GraphView | CircuitView:
    """The view of a trace, a circuit, or a graph file that was made elsewhere."""
    graph = graph_of(payload.graph)
    if isinstance(payload, Circuit) or graph.is_circuit():
        return _circuit_view(graph, payload, place, arrays, max_links)
    drawn, traced = payload.graph, payload if isinstance(payload, Trace) else None
    foreign = payload if isinstance(payload, GraphPayload) else None
    left = foreign.state if foreign else {}
    top = traced.top if traced else _top(graph)
    scores = traced.scores.model_dump() if traced else foreign.scores if foreign else {}
    return GraphView(
        **_drawn(graph, drawn.links.of, place, arrays, max_links, drawn.node_threshold or 1.0),
        state=_state(graph, left),
        prompt=drawn.prompt,
        target=traced.target if traced else next(iter(top), None),
        contrast=traced.contrast if traced else None,
        quantity=traced.quantity if traced else None,
        graph_quantity=traced.graph_quantity if traced else None,
        top=top,
        sentence=traced.sentence if traced else "",
        notes=traced.notes if traced else foreign.warnings if foreign else [],
        scores={k: v for k, v in scores.items() if v is None or isinstance(v, int | float)},
        verification=traced.verification.model_dump(exclude_unset=True) if traced else {},
        groups=_groups(traced.groups, graph.tokens) if traced else [],
        paths=traced.paths if traced else [],
        flows=traced.flows if traced else [],
        part_paths=traced.part_paths if traced else [],
        attention=traced.attention if traced else [],
        node_threshold=_threshold(left, drawn.node_threshold),
        interventions=traced.interventions if traced else [],
        units=traced.units if traced else foreign.units if foreign else "features",
        form=drawn.form,
        live=traced is not None and result.arguments.get("basis") == "neurons",
    )


def _circuit_view(
    graph: Graph, payload: Trace | Circuit | GraphPayload, place: str, arrays: Arrays, max_links: int
) -> CircuitView:
    """The view of a circuit; without a payload of its own, of a file that holds nothing but its graph."""
    circuit.stand(graph)
    found = payload if isinstance(payload, Circuit) else None
    foreign = payload if isinstance(payload, GraphPayload) else None
    return CircuitView(
        **_drawn(graph, payload.graph.links.of, place, arrays, max_links, 1.0, parts=True),
        state=_state(graph, foreign.state if foreign else {}),
        sentence=found.sentence if found else "",
        notes=foreign.warnings if foreign else [],
        node_threshold=1.0,
        facts=circuit.facts(found),
    )


def _drawn(
    graph: Graph, of: int, place: str, arrays: Arrays, max_links: int, cut: float, *, parts: bool = False
) -> dict[str, Any]:
    """What every drawn graph has; its links go into the arrays. of: how many links there are. cut: how much of the
    influence the graph holds. parts: links enter inputs of their targets."""
    row, source, weight, delta, verdict = _links(graph, max_links)
    counts = (
        np.bincount(graph.targets[row], minlength=len(graph.nodes)) if len(row) else np.zeros(len(graph.nodes), int)
    )
    if parts:
        entered = np.array([PARTS.index(graph.part(r)) for r in range(len(graph.targets))], np.uint8)
        arrays[f"{place}.part"] = entered[row]
    arrays[f"{place}.offsets"] = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    arrays[f"{place}.source"] = source.astype(np.uint32)
    arrays[f"{place}.weight"] = _short(weight)
    arrays[f"{place}.verdict"] = verdict
    if delta is not None:
        arrays[f"{place}.delta"] = _short(delta)
    kept = np.bincount(row, weights=arrays[f"{place}.weight"], minlength=len(graph.targets))
    full = graph.weights.sum(1, dtype=np.float64) + graph.constants
    dropped: dict[int, float] = {}
    for target, lost in zip(graph.targets.tolist(), (full - kept).tolist(), strict=True):
        dropped[target] = dropped.get(target, 0.0) + lost
    numbered = [n.layer for n in graph.nodes if n.layer is not None and n.kind != "logit"]
    return {
        "tokens": graph.tokens,
        "n_layers": max(numbered, default=0) + 1,
        "nodes": _nodes(graph, dropped, cut),
        "links": Links(shown=len(row), of=of),
    }


def _links(graph: Graph, max_links: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """(row of the target, source, weight, delta, verdict) of the links to show, sorted by target."""
    row, source, weight = graph.links()
    if len(row) > max_links:
        size = np.abs(weight)
        into = np.maximum(np.bincount(row, weights=size, minlength=len(graph.targets)), 1e-12)
        out = np.array([_weight_of(graph, t) for t in graph.targets.tolist()])
        share = size / into[row] * (out if out.any() else np.ones_like(out))[row]
        keep = np.sort(np.argpartition(-share, max_links)[:max_links])
        row, source, weight = row[keep], source[keep], weight[keep]
    order = np.lexsort((row, source, graph.targets[row]))
    row, source, weight = row[order], source[order], weight[order]
    ends = zip(row.tolist(), source.tolist(), strict=True)
    verdict = np.array([VERDICTS[graph.verdict(r, s)] for r, s in ends], np.uint8)
    delta = None if graph.deltas is None else at(graph.deltas, row, source)
    return row, source, weight, delta, verdict


def _weight_of(graph: Graph, number: int) -> float:
    node = graph.nodes[number]
    own = (node.probability or 1.0) if node.kind == "logit" else 0.0
    return max(node.influence, 0.0) + own


def _short(values: np.ndarray) -> np.ndarray:
    """float32 rounded to MANTISSA_BITS, so that it compresses; the relative error is below 1.3e-4."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    drop = 23 - MANTISSA_BITS
    rounded = (bits + np.uint64(1 << (drop - 1))) >> np.uint64(drop) << np.uint64(drop)
    return rounded.astype(np.uint32).view(np.float32)


def _nodes(graph: Graph, dropped: dict[int, float], cut: float) -> Nodes:
    nodes = graph.nodes
    shares = [n.influence for n in nodes]
    if not any(shares):  # other writers give only what all stronger nodes hold together: its steps are the shares,
        # as far as no node was cut away between them
        order = sorted((i for i in range(len(nodes)) if nodes[i].cumulative <= cut), key=lambda i: nodes[i].cumulative)
        for before, i in zip([None, *order], order):
            shares[i] = max(0.0, nodes[i].cumulative - (0.0 if before is None else nodes[before].cumulative))
    return Nodes(
        id=[n.id for n in nodes],
        kind=[n.kind for n in nodes],
        layer=[n.layer for n in nodes],
        position=[n.position for n in nodes],
        index=[n.index for n in nodes],
        label=[n.label for n in nodes],
        value=[_digits(n.value) for n in nodes],
        delta=[_digits(n.delta) for n in nodes],
        total=[_digits(n.total) for n in nodes],
        share=[_digits(share) or 0.0 for share in shares],
        cumulative=[_digits(n.cumulative) or 0.0 for n in nodes],
        probability=[_digits(n.probability) for n in nodes],
        verdict=[n.verdict for n in nodes],
        reason=[n.reason for n in nodes],
        reads=[n.reads for n in nodes],
        promotes=[n.promotes for n in nodes],
        suppresses=[n.suppresses for n in nodes],
        dropped=[_digits(dropped.get(i, 0.0)) or 0.0 for i in range(len(nodes))],
        is_target=[n.is_target for n in nodes],
    )


def _float32(values: Any) -> np.ndarray:
    """Numbers of a file as float32. Raises HookeError for one that is too large for it."""
    wide = np.array(values, np.float64)
    if (np.abs(wide) > np.finfo(np.float32).max).any():
        raise HookeError("a number is too large to be drawn; make this result again")
    return wide.astype(np.float32)


def _digits(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def _top(graph: Graph) -> list[Token]:
    """The logits of a graph, the likeliest first."""
    logits = sorted((n for n in graph.nodes if n.kind == "logit"), key=lambda n: -(n.probability or 0.0))
    return [Token(token=n.label, id=-1 if n.index is None else n.index, probability=n.probability) for n in logits]


def _groups(groups: list[TraceGroup], tokens: list[str]) -> list[Group]:
    """The parts of the story, each with a name of its own: the page tells groups apart by name."""
    out: list[Group] = []
    for group in groups:
        low, high = group.layers
        layers = f"layer {low}" if low == high else f"layers {low}–{high}"
        again = f" (token {group.position + 1})" if tokens.count(group.token) > 1 else ""
        name = group.name or f"“{group.token}”{again} {layers}"  # results of before have no names
        taken = sum(g.name == name or g.name.startswith(f"{name}, ") for g in out)
        facts = group.model_dump(include=set(GroupFacts.model_fields))
        out.append(Group(name=f"{name}, {taken + 1}" if taken else name, **facts))
    return out


def _state(graph: Graph, left: dict[str, Any]) -> GraphState:
    """What a person had pinned, grouped and selected, as far as it is there."""
    there = {n.id for n in graph.nodes}
    pinned = [i for i in left.get("pinnedIds", []) if i in there]
    groups = [Group(name=name, nodes=[i for i in ids if i in there]) for name, *ids in left.get("supernodes", [])]
    clicked = str(left.get("clickedId", ""))
    return GraphState(
        pinned=pinned, groups=[g for g in groups if g.nodes], selected=clicked if clicked in there else ""
    )


def _threshold(left: dict[str, Any], own: float | None) -> float:
    """Where the slider starts: where somebody left it, or where the writer of the file put it."""
    for value in (left.get("pruningThreshold"), own):
        if isinstance(value, int | float) and 0 < value <= 1:
            return float(value)
    return 0.8


def _lens_view(result: Result, payload: Lens, place: str, arrays: Arrays) -> LensView:
    cells = payload.next
    names = {t.id: t.token for row in cells for cell in row for t in cell}
    number = {vocabulary: k for k, vocabulary in enumerate(names)}
    ids = [[[number[t.id] for t in cell] for cell in row] for row in cells]
    arrays[f"{place}.ids"] = np.array(ids, np.uint32)
    arrays[f"{place}.probabilities"] = _float32([[[t.probability for t in c] for c in row] for row in cells])
    arrays[f"{place}.entropy"] = _float32(payload.entropy)
    return LensView(
        prompt=str(result.arguments.get("prompt", "")),
        tokens=payload.tokens,
        layers=payload.layers,
        top=len(cells[0][0]),
        names=list(names.values()),
        ids=list(names),
        sentence=payload.sentence,
        choice=payload.choice,
    )
