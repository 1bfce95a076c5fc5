"""Attribution-graph files: the JSON form that circuit-tracer's and Neuronpedia's pages open.

`graph_to_file` makes one, `write_graph_file` saves it, `graph_from_file` reads ours back unchanged and the dialects of
circuit-tracer, Neuronpedia and their older versions as well as they can be read, `check_graph_file` says whether
the published pages will open it.

Keys of ours stand in objects called `hooke`, on the metadata, the nodes and the links. Of a foreign file, QK tracing
results and the nodes that only they mention are not kept. Neuronpedia throws for a graph in which nothing but logits
has a layer above 0, as in a one-layer model: no writer can help that.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hooke.errors import HookeError
from hooke.files import read_json
from hooke.results.drawn import MAX_WEIGHTS, graph_of, matrix, whole_graph
from hooke.results.formats.graph_check import (
    FileGraphOwn,
    FileMetadata,
    FileNode,
    FileOwn,
    check_graph_file,
    parse,
    quote,
)
from hooke.results.formats.graph_labels import cantor, cantor_inverse, safe_name
from hooke.results.formats.graph_write import assemble, graph_to_file, plain, write_graph_file
from hooke.results.graph import PARTS, Graph, Kind, Node, Part
from hooke.results.graph_names import LORSA, node_id
from hooke.results.payloads.common import Token
from hooke.results.payloads.graph import DrawnGraph, GraphPayload
from hooke.results.payloads.trace import Trace
from hooke.results.result import Result
from hooke.results.verdicts import Verdict

__all__ = [
    "GraphFile",
    "cantor",
    "cantor_inverse",
    "check_graph_file",
    "graph_from_file",
    "graph_to_file",
    "node_id",
    "safe_name",
    "write_graph_file",
]

KINDS: dict[str, Kind] = {
    "cross layer transcoder": "feature",
    "unexplored node": "feature",
    "lorsa": "feature",
    "embedding": "token",
    "logit": "logit",
    "bias": "bias",
}
TEXT_PARTS = re.compile(r"(?P<start>[^_]+)_(?P<part>bias|unknown|error)_(?P<name>.+)_-?\d+")


@dataclass
class GraphFile:
    """What a graph file holds: the graph and all that surrounds it."""

    graph: Graph
    metadata: dict[str, Any]
    qparams: dict[str, Any]
    own: FileGraphOwn = field(default_factory=FileGraphOwn)  # of the metadata, what only we know
    contrast: Token | None = None
    warnings: list[str] = field(default_factory=list)  # what could not be read with certainty

    def to_dict(self) -> dict[str, Any]:
        """The file again, with every link of the graph; for a file of ours, identical to what was read."""
        layers = [node.layer for node in self.graph.nodes]
        metadata = plain({**self.metadata, "schema_version": 1})  # what we write are Cantor numbers
        data = assemble(self.graph, metadata, self.qparams, self.contrast, layers)
        check_graph_file(data, dialects=True)  # names in a foreign file may not suit Neuronpedia
        return data

    def payload(self) -> GraphPayload:
        """What a result holds of the file."""
        prompt, of = self.metadata.get("prompt"), None if self.own.links is None else self.own.links.of
        graph = whole_graph(self.graph, prompt=str(prompt or ""), contrast=self.contrast, of=of)
        threshold = self.metadata.get("node_threshold")
        if isinstance(threshold, int | float) and 0 < threshold <= 1:
            graph = graph.model_copy(update={"node_threshold": float(threshold)})
        scores = dict(self.own.scores or {})
        for name in ("replacement_score", "completeness_score"):
            if name in self.metadata:
                scores.setdefault(name.removesuffix("_score"), self.metadata[name])
        known = {key: value for key, value in self.metadata.items() if key not in ("prompt", "prompt_tokens")}
        return GraphPayload(
            graph=graph, metadata=known, state=self.qparams, units=self.own.units, scores=scores, warnings=self.warnings
        )


def file_of(result: Result, name: str) -> dict[str, Any]:
    """The graph of a result as a graph file of this name. Of a file that was read, it is that file again."""
    payload = result.typed()
    graph = getattr(payload, "graph", None)
    if not isinstance(graph, DrawnGraph):
        raise HookeError(f"a {result.kind} holds no graph")
    if isinstance(payload, GraphPayload):
        metadata = {**payload.metadata, "prompt": graph.prompt, "prompt_tokens": graph.tokens, "slug": safe_name(name)}
        file = GraphFile(graph_of(graph), metadata, payload.state, contrast=graph.contrast)
        return file.to_dict()
    own = {"sentence": getattr(payload, "sentence", "")}
    scores: dict[str, Any] = {}
    if isinstance(payload, Trace):
        own["units"], own["form"], told = payload.units, graph.form, payload.scores
        scores = {"replacement_score": told.replacement, "completeness_score": told.completeness}
        scores["unexplained"] = told.unexplained
    made = {key: result.arguments[key] for key in ("nodes",) if key in result.arguments}
    return graph_to_file(
        graph, slug=name, scan=str(result.provenance.get("model") or "model"), scores=scores, generation=made,
        hooke=own,
    )  # fmt: skip


def graph_from_file(source: str | Path | dict[str, Any], *, dense: bool = True) -> GraphFile:
    """Read a graph file (a path, or its content) of any dialect.

    `weights[t].sum() + constants[t]` is the target's value where the file gives one (a feature's activation), so
    `constants` holds what the file leaves out. Node ids become ours, also in `qparams`. Raises HookeError in one line.
    dense: whether `weights` is an ordinary array; else it takes the memory of the links, and not of their square.
    """
    if isinstance(source, dict):
        return _read(source, dense)
    path = Path(source)
    try:
        return _read(read_json(path), dense)
    except HookeError as error:
        message = str(error)
        raise HookeError(message if str(path) in message else f"{path}: {message}") from None


def _read(data: Any, dense: bool) -> GraphFile:
    metadata, raw_nodes = parse(data, dialects=True)
    nodes = [_graph_node(raw, metadata, "feature_details" in data["metadata"]) for raw in raw_nodes]
    last = max(len(metadata.prompt_tokens) - 1, 0)
    rename: dict[str, str] = {}
    taken: dict[str, int] = {}
    for number, (raw, node) in enumerate(zip(raw_nodes, nodes, strict=True)):
        node.id = node_id(node, last=last)
        if node.id in taken:
            raise HookeError(f"nodes {taken[node.id]} and {number} are both {quote(node.id)}")
        taken[node.id] = number
        if node.kind != "error" or raw.node_id not in rename:  # an error may share the id of a feature
            rename[raw.node_id] = node.id
    qparams = _qparams(data["qParams"], rename)
    _apply_labels(qparams.pop("clerps", None), raw_nodes, nodes)

    links, unclear = _resolve(data["links"], raw_nodes, nodes)
    own = [raw.hooke or FileOwn() for raw in raw_nodes]
    verdicts: dict[tuple[int, int], Verdict] = {}
    part_verdicts: dict[tuple[int, int, Part], Verdict] = {}
    deltas: dict[tuple[int, int], float] = {}
    ends: list[tuple[int, int, Part, float]] = []
    for s, t, link in links:
        said = link.get("hooke") or {}
        for one in said.get("parts") or [{"part": "", "weight": link["weight"]}]:
            ends.append((s, t, one["part"], one["weight"]))
            if one.get("verdict", "untested") != "untested":
                part_verdicts[s, t, one["part"]] = one["verdict"]
        if said.get("verdict", "untested") != "untested":
            verdicts[s, t] = said["verdict"]
        if said.get("delta") is not None:
            deltas[s, t] = float(said["delta"])
    aimed = {(t, part) for _, t, part, _ in ends}
    for i, extra in enumerate(own):
        if extra.dropped is not None:
            aimed |= {(i, part) for part in extra.parts} or {(i, "")}
    rows = sorted(aimed, key=lambda end: (end[0], PARTS.index(end[1])))
    row_of = {end: row for row, end in enumerate(rows)}
    targets = np.array([t for t, _ in rows], np.int64)
    if dense and len(targets) * len(nodes) > MAX_WEIGHTS:
        raise HookeError(f"{len(targets):,} targets by {len(nodes):,} nodes are too many to hold as a matrix")
    shape = (len(targets), len(nodes))
    places = (
        np.array([row_of[t, part] for _, t, part, _ in ends], np.int32),
        np.array([s for s, *_ in ends], np.int32),
    )
    weights = matrix(places, np.array([weight for *_, weight in ends], np.float32), shape, dense)
    constants = np.zeros(len(targets))
    for row, total in enumerate(weights.sum(axis=1, dtype=np.float64).tolist()):
        t, part = rows[row]
        left, value = own[t].parts.get(part, own[t].dropped), nodes[t].value
        constants[row] = left if left is not None else 0.0 if value is None else value - total
        nodes[t].dropped += float(constants[row])
    warnings = []
    if unknown := len(data["links"]) - len(links):
        warnings.append(f"{unknown} links to nodes that are not in the file were left out")
    if unclear:
        warnings.append(f"{unclear} links start at an id that a feature shares with an error; taken as the feature's")
    parts = [part for _, part in rows] if any(part for _, part in rows) else []
    graph = Graph(nodes, targets, weights, constants, verdicts, list(metadata.prompt_tokens), parts, part_verdicts)
    against = next((o.contrast for o in own if o.contrast is not None), None)
    contrast = Token(token=against.token, id=against.id) if against else None
    if deltas:
        values = np.array([deltas.get((s, t), 0.0) for s, t, *_ in ends], np.float32)
        graph.deltas = matrix(places, values, shape, dense)
    own_of_graph = metadata.hooke or FileGraphOwn(units="features")  # the nodes of others are of dictionaries
    graph.form = own_of_graph.form
    return GraphFile(graph, data["metadata"], qparams, own_of_graph, contrast, warnings)


def _graph_node(raw: FileNode, metadata: FileMetadata, detailed: bool) -> Node:
    own = raw.hooke or FileOwn()
    kind = own.kind or KINDS.get(raw.feature_type, "bias" if "bias" in raw.feature_type else "error")
    layer = int(raw.layer) if re.fullmatch(r"-?[0-9]{1,6}", str(raw.layer)) else None
    probability = None
    label = raw.clerp or ""
    index: int | None = own.index
    if kind == "feature":
        index = _feature_index(raw, layer, metadata.schema_version == 1 or detailed)
    elif kind == "token":
        layer, index = None, _middle(raw.node_id)
        known = 0 <= raw.ctx_idx < len(metadata.prompt_tokens)
        label = raw.token if raw.token is not None else metadata.prompt_tokens[raw.ctx_idx] if known else label
    elif kind == "logit":
        index = _middle(raw.node_id)
        if index is None and isinstance(raw.feature, int) and raw.feature >= 0:
            index = raw.feature
        written = re.search(r"\(p=([0-9]{1,9}(?:\.[0-9]{1,20})?)\)\s*$", label[-100:])
        probability = raw.token_prob if raw.token_prob is not None else float(written[1]) if written else None
        label = raw.token if raw.token is not None else _logit_token(label[:2000])
    elif raw.hooke is None:  # errors, biases and the unknown, of other writers
        parts = TEXT_PARTS.fullmatch(raw.node_id)
        name = parts["name"] if parts else raw.node_id
        known_errors = {"lorsa error": "attn", "mlp reconstruction error": label}
        label = name if kind == "bias" else known_errors.get(raw.feature_type, f"unknown-{name}")
    attention = kind == "feature" and raw.feature_type == "lorsa" and not LORSA.fullmatch(raw.node_id)
    return Node(
        id=f"{layer}_lor_{index}_{raw.ctx_idx}" if attention else raw.node_id,
        kind=kind,
        layer=layer,
        position=None if own.position is None else raw.ctx_idx,
        index=index,
        key=own.key,
        seen=own.seen,
        jump=own.jump,
        label=label,
        value=own.value if raw.hooke else raw.activation,
        delta=own.delta,
        total=own.total,
        averaged=own.averaged,
        rank=own.rank,
        influence=own.share,
        cumulative=0.0 if raw.influence is None else raw.influence,  # pages keep a node without it
        probability=probability,
        is_target=own.target or (kind == "logit" and bool(raw.is_target_logit)),
        verdict=own.verdict,
        reason=own.reason,
        reads=own.reads,
        promotes=own.promotes,
        suppresses=own.suppresses,
    )


def _feature_index(raw: FileNode, layer: int | None, counted: bool) -> int:
    """The number of a feature in its layer, from the Cantor number, the id, or the older digits."""
    number = raw.feature
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, str):  # very old files: "1200345-0"
        head = number.split("-")[0]
        number = int(head) if re.fullmatch("[0-9]{1,15}", head) else None
    if isinstance(number, int) and number >= 0 and counted:
        found = cantor_inverse(number)
        if found[0] == layer:
            return found[1]
    parts = re.fullmatch(r"(\d{1,6})_(?:[a-z]+_)?(\d{1,15})_-?\d+", raw.node_id)
    if parts and int(parts[1]) == layer:
        return int(parts[2])
    if not isinstance(number, int) or number < 0:
        raise HookeError(f"node {quote(raw.node_id)}: no feature number in 'feature' or its id")
    digits_of = str(number)
    if layer and digits_of.startswith(str(layer)) and len(digits_of) == len(str(layer)) + 5:
        return int(digits_of[-5:])
    return number


def _middle(name: str) -> int | None:
    """The number in the middle of `E_7_0` or `27_7_3`; None if there is none, or -1."""
    parts = re.fullmatch(r"[^_]+_(\d{1,15})_-?\d+", name)
    return int(parts[1]) if parts else None


def _logit_token(label: str) -> str:
    """The token in `Output "tok" (p=0.1)`, `Logit "tok" (p=0.1)` or `output: 'tok' (p=1.000)`; else the whole label."""
    found = re.fullmatch(r"""[^"']*(["'])(.*)\1\s*(?:k?\(p=[^()]*\))?\s*""", label, re.DOTALL)
    return found[2] if found else label


def _resolve(
    links: list[dict[str, Any]], raw: list[FileNode], nodes: list[Node]
) -> tuple[list[tuple[int, int, dict[str, Any]]], int]:
    """(source, target, link) by node number, and how many links had an unclear source; links to nowhere left out.

    circuit-tracer once gave an error of layer L the id of feature L of layer 0. Errors have no inputs, act
    only on later layers, and stand after the features among the links of one target.
    """
    places: dict[str, list[int]] = {}
    for number, node in enumerate(raw):
        places.setdefault(node.node_id, []).append(number)
    for shared in places.values():
        shared.sort(key=lambda i: nodes[i].kind == "error")
    doubled = any(len(shared) > 1 for shared in places.values())
    times = Counter((link["source"], link["target"]) for link in links) if doubled else Counter()
    met: Counter[tuple[str, str]] = Counter()
    past_features: set[int] = set()  # targets whose links have come to errors or tokens
    found: list[tuple[int, int, dict[str, Any]]] = []
    unclear = 0
    for link in links:
        pair = source, target = link["source"], link["target"]
        if source not in places or target not in places:
            continue
        starts, end = places[source], places[target][0]
        start = starts[0]
        if len(starts) > 1:
            met[pair] += 1
            error, here = nodes[starts[1]].layer, nodes[end].layer
            early = nodes[end].kind == "feature" and error is not None and here is not None and here <= error
            if times[pair] > 1:
                start = starts[min(met[pair], 2) - 1]
            elif end in past_features:
                start = starts[1]
            elif not early:
                unclear += 1
        if nodes[start].kind != "feature":
            past_features.add(end)
        found.append((start, end, link))
    return found, unclear


def _qparams(raw: dict[str, Any], rename: dict[str, str]) -> dict[str, Any]:
    """Lists in any of their written forms (a list, text with commas, JSON as text) as lists; ids renamed."""
    out = dict(raw)
    for key in ("pinnedIds", "hiddenIds", "supernodes", "clerps"):
        value = raw.get(key)
        if isinstance(value, str):
            text = value.strip()
            try:
                value = json.loads(text) if text.startswith("[") else [part for part in text.split(",") if part]
            except (ValueError, RecursionError):
                raise HookeError(f"qParams: {key} is text that starts like JSON and is not") from None
        if value is None:
            out.pop(key, None)
            continue
        nested = key in ("supernodes", "clerps")
        for item in value if isinstance(value, list) else [None]:
            parts = item if nested and isinstance(item, list) and item else [None] if nested else [item]
            if not all(isinstance(part, str) for part in parts):
                raise HookeError(f"qParams: {key} must be a list of {'lists of text' if nested else 'node ids'}")
        out[key] = value
    for key in ("pinnedIds", "hiddenIds"):
        if key in out:
            out[key] = [rename.get(item, item) for item in out[key]]
    if "supernodes" in out:
        out["supernodes"] = [[name, *(rename.get(item, item) for item in items)] for name, *items in out["supernodes"]]
    clicked = raw.get("clickedId")
    if "clickedId" in out:
        out["clickedId"] = "" if clicked in (None, "null", "undefined") else rename.get(str(clicked), str(clicked))
    for key in ("linkType", "sg_pos"):
        if raw.get(key) is None:
            out.pop(key, None)
        elif not isinstance(raw[key], str):
            raise HookeError(f"qParams: {key} must be text")
    for key in ("pruningThreshold", "densityThreshold"):
        if isinstance(raw.get(key), str) and re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,20}", raw[key]):
            out[key] = float(raw[key])
    return out


def _apply_labels(labels: list[list[str]] | None, raw: list[FileNode], nodes: list[Node]) -> None:
    """Labels that people typed: [feature number, or layer_feature_position, and the label]."""
    typed = {pair[0]: pair[1] for pair in labels or [] if len(pair) == 2}
    for found, node in zip(raw, nodes, strict=True):
        if node.kind == "feature":
            place = f"{found.layer}_{found.feature}_{found.ctx_idx}"
            label = typed.get(place, typed.get(str(found.feature)))
            node.label = node.label if label is None else label
