"""Links of attention held at what they bring.

A link of a head from a query to a key brings p · v to what the head gives at the query. To hold some of them, their
share of the pattern is taken away, and what they should bring is added; all other links go on as they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hooke.model import Edit, Model, Tokens
from hooke.model.run import Prefix
from hooke.sites import Site


class Looks(NamedTuple):
    """What links of one layer are made of in some runs: pattern (row, head, query, key) and values (row, head, key,
    d_head)."""

    pattern: Tensor
    values: Tensor

    def row(self, at: int) -> Looks:
        """Those of one run, as one row."""
        return Looks(self.pattern[at : at + 1], self.values[at : at + 1])

    def bring(self, weight: Tensor) -> Tensor:
        """(row, query, head, d_head): what links bring together, by weight (row, head, query, key) of each."""
        return ((weight * self.pattern) @ self.values).transpose(1, 2)


def looks(model: Model, tokens: Tokens, after: Prefix | None = None) -> list[Looks]:
    """Patterns and values of each layer in runs of prompts of one length, without padding."""
    parts = model.parts
    read = [Site(point, layer) for layer in range(parts.n_layers) for point in ("pattern", "v")]
    acts = model.run(tokens, read=read, logits=None, after=after).acts
    first = None if after is None else looks(model, Tokens(after.ids, torch.ones_like(after.ids, dtype=torch.bool)))
    out = []
    for layer in range(parts.n_layers):
        v = acts.pop(Site("v", layer)).repeat_interleave(parts.n_heads // parts.n_kv_heads, 2).transpose(1, 2)
        if first is not None:
            v = torch.cat([first[layer].values.expand(len(v), -1, -1, -1), v], 2)
        out.append(Looks(acts.pop(Site("pattern", layer)), v))
    return out


def hold(layer: int, weight: Tensor, brings: Tensor) -> list[Edit]:
    """Edits that hold links of a layer, by weight ([row,] head, query, key) of each: 0 leaves it as it is. brings: what
    they should bring together, ([row,] query, head, d_head)."""
    return [Edit(Site("pattern", layer), "scale", 1 - weight), Edit(Site("z", layer), "add", brings)]


def hold_places(found: Sequence[Looks], row: int, places: Tensor) -> list[Edit]:
    """Edits that hold links, places (n, 4) of layer, head, query and key, at what they bring in one of the runs."""
    edits: list[Edit] = []
    for layer in places[:, 0].unique().tolist():
        look = found[layer].row(row)
        weight = torch.zeros_like(look.pattern)
        weight[0][tuple(places[places[:, 0] == layer, 1:].T)] = 1.0
        edits += hold(layer, weight[0], look.bring(weight)[0])
    return edits
