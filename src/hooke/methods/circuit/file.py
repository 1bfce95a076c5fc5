"""Circuits in the JSON form of EAP-IG and the MIB benchmark: every edge with a score, and whether it is in the circuit.

{cfg {n_layers, n_heads, parallel_attn_mlp, d_model}, nodes {name: {in_graph}}, edges {"a0.h1->m2": {score, in_graph}}}.
Larger scores come first there, so they are written with the sign of what an edge does for the answer. Every query
head has its own edges into keys and values in that form: those of heads that share them are written alike, and read
as the largest. The `.pt` form is a pickle, which can run code, and is not read.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.computation_graph import ComputationGraph, node_named
from hooke.model import Model
from hooke.results import read_json, write_atomic

MAX_BYTES = 2**28
LARGEST = torch.finfo(torch.float32).max
CFG = ("n_layers", "n_heads", "parallel_attn_mlp", "d_model")


class Circuit(NamedTuple):
    """scores: (n_readers, n_writers). keep: the same, True in the circuit. disagree: shared keys and values whose
    heads were given different scores, or not all kept. source: the file that it was read from."""

    scores: Tensor
    keep: Tensor
    disagree: int
    source: str

    @property
    def sha256(self) -> str:
        """Of the scores and of what is kept."""
        return hashlib.sha256(self.scores.numpy().tobytes() + self.keep.numpy().tobytes()).hexdigest()


def cfg_of(model: Model) -> dict[str, Any]:
    """What the form says of the model."""
    parts = model.parts
    return {
        "n_layers": parts.n_layers,
        "n_heads": parts.n_heads,
        "parallel_attn_mlp": parts.parallel,
        "d_model": parts.d_model,
    }


def circuit_json(model: Model, scores: Tensor, keep: Tensor) -> dict[str, Any]:
    """scores, keep: (n_readers, n_writers), of a model's edges and those of the circuit."""
    computation = ComputationGraph.of(model.parts)
    edges: dict[str, Any] = {}
    there = {"input", "logits"}
    values, chosen = scores.tolist(), keep.tolist()
    for reader, writer in computation.edges.nonzero().tolist():
        for name in computation.names(reader):
            kept = bool(chosen[reader][writer])
            edges[f"{computation.writers[writer]}->{name}"] = {"score": float(values[reader][writer]), "in_graph": kept}
            if kept:
                there |= {computation.writers[writer], node_named(name)}
    nodes = {name: {"in_graph": name in there} for name in [*computation.writers, "logits"]}
    return {"cfg": cfg_of(model), "nodes": nodes, "edges": edges}


def write_circuit(model: Model, scores: Tensor, keep: Tensor, path: str | Path) -> Path:
    """Write the form; atomic."""
    write_atomic(Path(path), json.dumps(circuit_json(model, scores, keep), allow_nan=False).encode())
    return Path(path)


def read_circuit(model: Model, path: str | Path) -> Circuit:
    """Read the form for this model. Raises HookeError, in one line, for a file that is too large, damaged, made for
    another model, or that names what the model does not have; edges that it leaves out are not in the circuit."""
    source, path = str(path), Path(path)
    data = _json(path)
    if not isinstance(data, dict) or not all(isinstance(data.get(key), dict) for key in ("cfg", "nodes", "edges")):
        raise HookeError(f"{path} is not a circuit in the form of EAP-IG (cfg, nodes and edges)")
    own = cfg_of(model)
    for key in CFG:
        if key in data["cfg"] and data["cfg"][key] != own[key]:
            said = str(data["cfg"][key])[:40]
            raise HookeError(f"{path} is of a model with {key} {said}; {model.name} has {own[key]}")
    computation = ComputationGraph.of(model.parts)
    known = {*computation.writers, "logits"}
    for name, node in data["nodes"].items():
        kept = node.get("in_graph") if isinstance(node, dict) else node
        if name not in known or not isinstance(kept, bool):
            raise HookeError(f"{path}: {name[:40]!r} is no node of {model.name}, or does not say if it is in the graph")
        if isinstance(node, dict) and not all(_all_kept(node.get("neurons"))):
            raise HookeError(f"{path}: {name} keeps some of its neurons only, which is not read; keep whole nodes")
    index = {
        f"{computation.writers[u]}->{name}": (r, u)
        for r, u in computation.edges.nonzero().tolist()
        for name in computation.names(r)
    }
    given: dict[tuple[int, int], list[tuple[float, bool]]] = {}
    for name, edge in data["edges"].items():
        if name not in index:
            raise HookeError(
                f"{path}: {name[:60]!r} is no edge of {model.name}; edges are written a0.h1->m2, m0->a1.h0<q>"
            )
        given.setdefault(index[name], []).append(_edge(edge, f"{path}: {name}"))
    if not any(score or kept for several in given.values() for score, kept in several):
        raise HookeError(f"{path} has no edge that is in the circuit, and none with a score")
    scores, keep = torch.zeros(computation.edges.shape), torch.zeros_like(computation.edges)
    disagree = 0
    for (reader, writer), several in given.items():
        scores[reader, writer] = max(score for score, _ in several)
        keep[reader, writer] = any(kept for _, kept in several)
        disagree += len(set(several)) > 1 or len(several) < len(computation.names(reader))
    return Circuit(scores, keep, disagree, source)


def _json(path: Path) -> Any:
    if path.suffix in (".pt", ".pth", ".bin", ".pkl"):
        raise HookeError(
            f"{path} is a pickle, which can run code, and is not read; save it as JSON where it was made "
            "(Graph.to_json in EAP-IG)"
        )
    return read_json(path, MAX_BYTES)


def _all_kept(neurons: Any) -> list[bool]:
    return [bool(x) for x in neurons] if isinstance(neurons, list) and any(neurons) else [True]


def _edge(edge: Any, where: str) -> tuple[float, bool]:
    if not isinstance(edge, dict) or not isinstance(edge.get("in_graph"), bool):
        raise HookeError(f"{where}: an edge has a score and says whether it is in_graph, true or false")
    score = edge.get("score", 0.0)
    try:
        value = math.nan if isinstance(score, bool) or not isinstance(score, (int, float)) else float(score)
    except OverflowError:
        value = math.inf
    if not abs(value) <= LARGEST:
        raise HookeError(f"{where}: its score is not a finite number")
    return value, edge["in_graph"]
