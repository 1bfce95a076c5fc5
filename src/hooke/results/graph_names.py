"""Ids of nodes and written names of the nodes of circuits.

An id depends on its node alone, so claims can quote it before a file exists: feature `L_f_ctx`, remainder
`L_error_mlp_ctx` (`mlp1`, … of further dictionaries of its layer), error the same or, beside a remainder,
`L_error_dictionary_ctx` (or `attn`, or a point as `resid_post`), token `E_vocab_ctx`, logit `(n_layers+1)_vocab_ctx`,
bias `L_bias_<kind>_ctx`, head, mlp and link of attention `L_unknown_..._ctx`.
"""

from __future__ import annotations

import re

from hooke.results.graph import Node
from hooke.sites import POINTS

LORSA = re.compile(r"\d+_lor_\d+_\d+")  # id of an attention feature in Neuronpedia's dialect, kept as it is


def node_id(node: Node, *, last: int = 0) -> str:
    """The id of a node in a file. `last` is the last position, for nodes that have none.

    A logit's `layer` is n_layers + 1. The part of a bias is its label.
    """
    layer, position = node.layer or 0, last if node.position is None else node.position
    index = -1 if node.index is None else node.index
    if node.kind == "token":
        return f"E_{index}_{position}"
    if node.kind in ("feature", "logit"):
        return node.id if node.kind == "feature" and LORSA.fullmatch(node.id) else f"{layer}_{index}_{position}"
    part = re.sub(r"[^A-Za-z0-9_.-]+", "-", node.label)[:100].strip("-")
    if node.kind == "error":
        part = part if part in ("attn", "dictionary", *POINTS) or part.startswith("unknown") else "mlp"
    elif node.kind == "bias":
        part = part or "all"
    else:
        left = "mlp" if node.index is None else f"mlp{index}"
        link = f"link{index}-{node.key}"
        part = {"remainder": left, "head": f"head{index}", "mlp": "mlp", "link": link}[node.kind]
    group = {"bias": "bias", "head": "unknown", "mlp": "unknown", "link": "unknown"}.get(node.kind, "error")
    return f"{layer}_{group}_{part}_{position}"


def circuit_name(node: Node) -> str:
    """The written name of a node of a circuit (EAP-IG, MIB): `input`, `a3.h1`, `m3`, `logits`; a neuron `m3.n17`."""
    if node.kind == "head":
        return f"a{node.layer}.h{node.index}"
    if node.kind == "feature":
        return f"m{node.layer}.n{node.index}"
    return {"token": "input", "logit": "logits", "mlp": f"m{node.layer}"}.get(node.kind, node.id)
