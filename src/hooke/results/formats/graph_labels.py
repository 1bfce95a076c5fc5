"""Numbers and labels in attribution-graph files. Decisions, each because some page or reader needs it:

- `jsNodeId` equals the id: pages of 2025 take that as the key.
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


def clean(text: str) -> str:
    """Text that UTF-8 can hold: halves of surrogate pairs become the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shown(token: str) -> str:
    """A token as it may stand in a label that pages take apart at double quotes and `(p=`."""
    text = UNSEEN.sub(lambda hit: SHOWN.get(hit[0], f"\\u{ord(hit[0]):04x}"), clean(token))
    return text.replace('"', "”").replace("(p=", "(p =")
