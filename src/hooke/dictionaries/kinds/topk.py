"""TopK: the k largest of each token, and dead features learn from what is left over (2406.04093)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hooke.dictionaries.kinds.base import Block, Code, Kind, When
from hooke.dictionaries.sparse import Entries, encode, largest
from hooke.dictionaries.spread import Axis

DEAD = 10_000_000  # rows without firing, after which a feature counts as dead
SHARE = 0.1  # or this share of all rows, where these are fewer


@dataclass(frozen=True)
class TopK(Kind):
    """k: features of a token. aux: weight of what dead features make of the error."""

    name: ClassVar[str] = "topk"
    k: int = 32
    aux: float = 1 / 32

    def code(self, block: Block, x: Tensor, when: When) -> Code:
        return coded(block, x, largest(block.scores(x), min(self.k, block.n_features), block.spread.dictionary))

    def extra(self, block: Block, code: Code, x: Tensor, y: Tensor, left: Tensor, when: When) -> Tensor | float:
        return self.aux * revive(block, code, x, left, when) if self.aux else 0.0

    def gate(self, block: Block) -> dict[str, Any]:
        return {"gate": "topk", "k": min(self.k, block.n_features)}


def coded(block: Block, x: Tensor, entries: Entries) -> Code:
    """The chosen features with their values, above zero."""
    return Code(torch.relu(encode(x, block.centre, block.params["encoder"], block.params["bias"], entries)), entries)


def revive(block: Block, code: Code, x: Tensor, left: Tensor, when: When) -> Tensor | float:
    """AuxK (appendix A.2): of the features that are dead the width / 2 largest of each row are decoded towards what is
    left; its squared error over that of the mean, (batch,), zero while nothing is dead."""
    dead = (block.state["idle"] > min(DEAD, SHARE * when.steps * when.batch)).nonzero()[:, 0]
    data, dictionary = block.spread.data, block.spread.dictionary
    n_dead = len(dead) if dictionary.size == 1 else int(dictionary.sum(torch.tensor(len(dead))))
    if not n_dead:
        return 0.0
    left, params = left.detach(), block.params
    x = x if block.centre is None else x - block.centre
    h = torch.addmm(params["bias"][dead], x, params["encoder"][dead].T)
    values = _largest(h, min(max(1, left.shape[1] // 2), n_dead), dictionary)
    made = dictionary.total(values @ params["decoder"][dead])
    whole = data.average((left - data.average(left.mean(0))).square().sum(1).mean())
    return ((left - made).square().sum(1) / whole).nan_to_num(0.0, 0.0, 0.0)


def _largest(h: Tensor, k: int, axis: Axis) -> Tensor:
    """h above zero where it is among the k largest of its row, else zero."""
    if axis.size == 1:
        top = h.detach().topk(k, dim=1, sorted=False).indices
        return torch.zeros_like(h).scatter(1, top, torch.relu(h.gather(1, top)))
    best, fires = largest(h.detach(), k, axis), torch.zeros_like(h, dtype=torch.bool)
    fires[best.rows, best.ids] = True
    return torch.where(fires, torch.relu(h), 0.0)
