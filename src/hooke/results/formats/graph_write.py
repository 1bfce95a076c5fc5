"""Writing the attribution-graph file that circuit-tracer's and Neuronpedia's pages open (see graph_file)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hooke import __version__
from hooke.errors import HookeError
from hooke.files import write_atomic
from hooke.results.drawn import ALWAYS, at, digits, graph_of, six_digits
from hooke.results.formats.graph_check import check_graph_file
from hooke.results.formats.graph_labels import cantor, clean, safe_name, shown
from hooke.results.graph import PARTS, Graph, Kind, Node
from hooke.results.graph_names import LORSA, node_id
from hooke.results.payloads.common import Token
from hooke.results.payloads.graph import DrawnGraph

FEATURE_TYPE: dict[Kind, str] = {
    "feature": "cross layer transcoder",
    "remainder": "mlp reconstruction error",
    "error": "mlp reconstruction error",
    "token": "embedding",
    "logit": "logit",
    "bias": "bias",
    "head": "unknown",
    "mlp": "unknown",
    "link": "unknown",
}


def graph_to_file(
    drawn: DrawnGraph,
    *,
    slug: str,
    scan: str,
    scores: Mapping[str, Any],
    generation: Mapping[str, Any],
    hooke: Mapping[str, Any] | None = None,
    qparams: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The graph as the interchange file's content: plain JSON values.

    Without `n_layers` in the graph, a logit's own layer stands for n_layers + 1, else the highest layer + 2. `scan`
    and `slug` are made safe, the originals kept in `metadata.hooke`.
    """
    graph, written = graph_of(drawn), drawn.links
    names = {"slug": slug, "scan": scan}
    safe = {"slug": safe_name(slug), "scan": safe_name(scan.rstrip("/").rsplit("/", 1)[-1])}
    own = dict(hooke or {}) | {key: value for key, value in names.items() if value != safe[key]}
    links = {"written": len(written.weight), "of": written.of, "score": written.held}
    metadata: dict[str, Any] = {
        "slug": safe["slug"],
        "scan": safe["scan"],
        "transcoder_list": [],
        "prompt_tokens": list(drawn.tokens),
        "prompt": drawn.prompt,
        "node_threshold": drawn.node_threshold,
        "schema_version": 1,
        "info": {"generator": {"name": "Hooke", "version": __version__}},
        "generation_settings": generation,
        "pruning_settings": {"node_threshold": drawn.node_threshold, "edge_threshold": drawn.edge_threshold},
        **{key: scores[key] for key in ("replacement_score", "completeness_score") if scores.get(key) is not None},
        "hooke": {**own, "scores": scores, "links": links},
    }
    if drawn.node_threshold is None:  # the published schema wants a number or nothing
        del metadata["node_threshold"], metadata["pruning_settings"]["node_threshold"]
    start = {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""}
    numbered = [node.layer for node in graph.nodes if node.layer is not None and node.kind != "logit"]
    top = max(numbered, default=0) + 2 if drawn.n_layers is None else drawn.n_layers + 1
    layers = [top if node.layer is None or drawn.n_layers is not None else node.layer for node in graph.nodes]
    data = assemble(graph, plain(metadata), start | dict(qparams or {}), drawn.contrast, layers)
    check_graph_file(data | {"links": []})  # the links are right by construction, and many
    return data


def write_graph_file(data: dict[str, Any], path: str | Path, *, dialects: bool = False) -> Path:
    """Check and write a graph file; `path` should be `<slug>.json`. Raises HookeError, and leaves no half file.

    `dialects` as in `check_graph_file`: True allows, say, a `scan` with a slash, which circuit-tracer's page needs.
    """
    check_graph_file(data, dialects=dialects)
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    write_atomic(Path(path), text.encode(errors="replace"))
    return Path(path)


def assemble(
    graph: Graph,
    metadata: dict[str, Any],
    qparams: Mapping[str, Any],
    contrast: Token | None,
    logit_layers: Sequence[int | None],
) -> dict[str, Any]:
    """The file with every link of the graph, whose constants are what the links leave out."""
    rows, sources, values = graph.links()
    weights, dropped = six_digits(values).tolist(), np.asarray(graph.constants, np.float64)
    ends = graph.targets[rows]
    deltas: dict[tuple[int, int], float] = {}
    if graph.deltas is not None:
        moved = six_digits(at(graph.deltas, rows, sources)).tolist()
        deltas = dict(zip(zip(sources.tolist(), ends.tolist(), strict=True), moved, strict=True))
    row_of: dict[int, list[int]] = {}  # one, or in a circuit one for each part of a head
    for row, target in enumerate(graph.targets.tolist()):
        row_of.setdefault(target, []).append(row)
    for several in row_of.values():
        several.sort(key=lambda row: PARTS.index(graph.part(row)))
    linked = set(np.unique(np.concatenate([sources, ends])).tolist())
    listed = [i for i, node in enumerate(graph.nodes) if node.kind in ALWAYS or i in linked or i in row_of]
    logits = sorted(
        (i for i in listed if graph.nodes[i].kind == "logit"),
        key=lambda i: (graph.nodes[i].index or 0, graph.nodes[i].position or 0),
    )
    if contrast is not None and len(logits) != 1:
        raise HookeError(f"a contrast is one logit node, and this graph has {len(logits)}")
    listed = logits + [i for i in listed if graph.nodes[i].kind != "logit"]

    nodes: list[dict[str, Any]] = []
    ids: dict[int, str] = {}
    seen: dict[str, int] = {}
    for i in listed:
        mine = row_of.get(i)
        layer = logit_layers[i] if graph.nodes[i].kind == "logit" else graph.nodes[i].layer
        left = None if mine is None else sum(digits(float(dropped[row]), 12) for row in mine)
        value = graph.nodes[i].value
        if value is None and mine is not None:
            value = sum(float(graph.weights[row].sum(dtype=np.float64) + graph.constants[row]) for row in mine)
        entry = _entry(graph.nodes[i], value, layer, metadata["prompt_tokens"], left, contrast)
        if mine is not None and any(graph.part(row) for row in mine):
            entry["hooke"]["parts"] = {graph.part(row): digits(float(dropped[row]), 12) for row in mine}
        ids[i] = entry["node_id"]
        if ids[i] in seen:
            raise HookeError(f"nodes {seen[ids[i]]} and {i} of the graph are both {ids[i]!r}; merge them first")
        seen[ids[i]] = i
        nodes.append(entry)

    place = np.zeros(len(graph.nodes), np.int64)
    place[listed] = np.arange(len(listed))
    order = np.lexsort((place[sources], place[ends])).tolist()
    pairs = list(zip(sources.tolist(), ends.tolist(), weights, strict=True))
    pairs, parted = _joined(graph, rows, pairs, order)
    said: dict[tuple[int, int], dict[str, Any]] = {}
    only = {(s, t): verdict for (s, t, part), verdict in graph.part_verdicts.items() if not part}
    for pair, verdict in {**graph.verdicts, **only}.items():
        if verdict != "untested" and pair not in parted:
            said[pair] = {"verdict": verdict}
    for pair, delta in deltas.items():
        said.setdefault(pair, {})["delta"] = delta
    for pair, parts in parted.items():
        said.setdefault(pair, {})["parts"] = parts
    out: list[dict[str, Any]] = []
    for s, t, weight in pairs:
        link: dict[str, Any] = {"source": ids[s], "target": ids[t], "weight": weight}
        if (s, t) in said:
            link["hooke"] = said[s, t]
        out.append(link)
    return {"metadata": metadata, "qParams": plain(qparams), "nodes": nodes, "links": out}


def _joined(
    graph: Graph, rows: np.ndarray, pairs: list[tuple[int, int, float]], order: list[int]
) -> tuple[list[tuple[int, int, float]], dict[tuple[int, int], list[dict[str, Any]]]]:
    """The links in `order`, those between the same two nodes as one, and the parts of each link that has some.

    Pages know one link between two nodes; to them it is the sum of its parts.
    """
    parts: dict[tuple[int, int], list[dict[str, Any]]] = {}
    if not any(graph.parts):
        return [pairs[i] for i in order], parts
    several = {int(target) for row, target in enumerate(graph.targets) if graph.part(row)}
    whole: dict[tuple[int, int], float] = {}
    for i in sorted(order, key=lambda i: PARTS.index(graph.part(int(rows[i])))):
        s, t, weight = pairs[i]
        whole[s, t] = whole.get((s, t), 0.0) + weight
        if t in several:
            row = int(rows[i])
            one: dict[str, Any] = {"part": graph.part(row), "weight": weight}
            if graph.verdict(row, s) != "untested":
                one["verdict"] = graph.verdict(row, s)
            parts.setdefault((s, t), []).append(one)
    kept = dict.fromkeys(pairs[i][:2] for i in order)
    return [(s, t, digits(whole[s, t], 12)) for s, t in kept], parts


def _own(node: Node, value: float | None, dropped: float | None, contrast: Token | None) -> dict[str, Any]:
    """What only we know of a node."""
    own: dict[str, Any] = {
        "kind": node.kind,
        "value": None if value is None else digits(value, 12),
        "delta": None if node.delta is None else digits(node.delta, 12),
        "total": None if node.total is None else digits(node.total, 12),
        "averaged": None if node.averaged is None else digits(node.averaged, 12),
        "share": digits(node.influence, 6),
        "verdict": node.verdict,
        "reason": clean(node.reason),
        "reads": [clean(text) for text in node.reads],
        "promotes": [clean(text) for text in node.promotes],
    }
    if dropped is not None:
        own["dropped"] = digits(dropped, 12)
    if node.rank is not None:
        own["rank"] = node.rank
    if node.suppresses:
        own["suppresses"] = [clean(text) for text in node.suppresses]
    if node.is_target and node.kind != "logit":
        own["target"] = True  # not is_target_logit, which makes pages take it for a logit
    if node.kind in ("head", "mlp", "link") and node.index is not None:
        own["index"] = node.index
    if node.key is not None:
        own["key"] = node.key
    if node.seen is not None:
        own["seen"] = digits(node.seen, 6)
    if node.jump is not None:
        own["jump"] = digits(node.jump, 6)
    if node.position is None:
        own["position"] = None
    if contrast and node.kind == "logit":
        own["contrast"] = {"token": clean(contrast.token), "id": contrast.id}
    return own


def _entry(
    node: Node,
    value: float | None,
    layer: int | None,
    tokens: Sequence[str],
    dropped: float | None,
    contrast: Token | None,
) -> dict[str, Any]:
    """One node of the file."""
    last = max(len(tokens) - 1, 0)
    position = last if node.position is None else node.position
    raw = clean(node.label)
    feature: int | None = None
    if node.kind == "token":
        raw = clean(node.label or (tokens[position] if position < len(tokens) else ""))
        feature, label = position, f'Emb: "{shown(raw)}"'
    elif node.kind == "logit":
        chance = 1.0 if node.probability is None else digits(node.probability, 6)
        against = f" - {shown(contrast.token)}" if contrast else ""
        feature, label = node.index, f'Output "{shown(raw)}{against}" (p={chance:.3f})'
    else:
        default = {
            "error": "Err: mlp",
            "remainder": "Features left out",
            "bias": "all",
            "head": f"head {node.index}",
            "link": f"head {node.index} to token {node.key}",
            "mlp": "mlp",
        }
        label = raw or default.get(node.kind, "")
        if node.kind == "feature":
            feature = cantor(layer or 0, node.index or 0)
        elif node.kind == "error":
            feature = -1
    attention = node.kind == "feature" and LORSA.fullmatch(node.id)
    named = node_id(replace(node, layer=layer, position=position), last=last)
    own = _own(node, value, dropped, contrast)
    entry: dict[str, Any] = {
        "node_id": named,
        "jsNodeId": named,
        "feature": feature,
        "layer": "E" if node.kind == "token" else str(layer or 0),
        "ctx_idx": position,
        "feature_type": "lorsa" if attention else FEATURE_TYPE[node.kind],
        "clerp": label,
        "token_prob": chance if node.kind == "logit" else 0.0,
        "is_target_logit": node.is_target and node.kind == "logit",
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "influence": digits(node.cumulative, 6),
        "activation": own["value"] if node.kind == "feature" else None,
        "hooke": own,
    }
    if node.kind in ("token", "logit"):
        entry["token"] = raw
    if node.kind == "error" and node.label == "attn":
        entry["feature_type"] = "lorsa error"
    return entry


def plain(value: Any) -> Any:
    """Numbers, text, lists and objects as JSON has them; what is not finite becomes null."""
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return clean(str(value))
