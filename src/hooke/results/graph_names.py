"""Ids, numbers and labels in attribution-graph files. Decisions, each because some page or reader needs it:

- ids: feature `L_f_ctx`, remainder `L_error_mlp_ctx` (`mlp1`, … of further dictionaries of its layer), error the same
  or, beside a remainder, `L_error_dictionary_ctx` (or `attn`, or a point as `resid_post`), token `E_vocab_ctx`, logit
  `(n_layers+1)_vocab_ctx`, bias `L_bias_<kind>_ctx`, head and mlp `L_unknown_..._ctx`. An id
  depends on its node alone, so claims can quote it before the file exists. `jsNodeId` equals it: pages of 2025
  take that as the key.
- `feature`: Cantor number, position (token) or vocabulary id (logit); -1 for errors and null for remainders, biases,
  heads and mlps. Pages accept both, and merge two nodes of equal (layer, feature, position).
- logits come first, by vocabulary id: Neuronpedia takes the first node whose label holds a token for that token's
  logit, and pairs probabilities with logits in this order. Its scores are off when biases are present.
- logit labels read `Output "tok" (p=0.123)`, double quotes, `(p=` and control characters inside replaced; the exact
  token is in the node's `token`.
"""

from __future__ import annotations

import math
import re

from hooke.errors import HookeError
from hooke.results.graph import Node
from hooke.sites import POINTS

LORSA = re.compile(r"\d+_lor_\d+_\d+")  # id of an attention feature in Neuronpedia's dialect, kept as it is
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
SHOWN = {"\n": "⏎", "\t": "→", "\r": "↵"}


def cantor(layer: int, index: int) -> int:
    """The one number that stands for (layer, feature) in a file."""
    if layer < 0 or index < 0:
        raise HookeError(f"no number for layer {layer}, feature {index}: both must be 0 or more")
    return (layer + index) * (layer + index + 1) // 2 + index


def cantor_inverse(number: int) -> tuple[int, int]:
    """(layer, feature) of a Cantor number, exact for integers of any size."""
    if number < 0:
        raise HookeError(f"{number} is not a feature number: it must be 0 or more")
    diagonal = (math.isqrt(8 * number + 1) - 1) // 2
    index = number - diagonal * (diagonal + 1) // 2
    return diagonal - index, index


def safe_name(name: str) -> str:
    """A slug or scan that Neuronpedia accepts and that is safe as a file name: [A-Za-z0-9_.-], no leading dot."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-").lstrip(".-")[:200] or "graph"


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
        part = {"remainder": left, "head": f"head{index}", "mlp": "mlp"}[node.kind]
    group = {"bias": "bias", "head": "unknown", "mlp": "unknown"}.get(node.kind, "error")
    return f"{layer}_{group}_{part}_{position}"


def circuit_name(node: Node) -> str:
    """The written name of a node of a circuit (EAP-IG, MIB): `input`, `a3.h1`, `m3`, `logits`; a neuron `m3.n17`."""
    if node.kind == "head":
        return f"a{node.layer}.h{node.index}"
    if node.kind == "feature":
        return f"m{node.layer}.n{node.index}"
    return {"token": "input", "logit": "logits", "mlp": f"m{node.layer}"}.get(node.kind, node.id)


def clean(text: str) -> str:
    """Text that UTF-8 can hold: halves of surrogate pairs become the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shown(token: str) -> str:
    """A token as it may stand in a label that pages take apart at double quotes and `(p=`."""
    text = UNSEEN.sub(lambda hit: SHOWN.get(hit[0], f"\\u{ord(hit[0]):04x}"), clean(token))
    return text.replace('"', "”").replace("(p=", "(p =")
