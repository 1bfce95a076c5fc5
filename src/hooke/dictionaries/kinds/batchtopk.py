"""BatchTopK: the k · batch largest of a batch, and one threshold when it is used (2412.06410)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hooke.dictionaries.kinds.base import Block, Code, Kind, When
from hooke.dictionaries.kinds.topk import coded, revive
from hooke.dictionaries.sparse import largest_of_batch

KEEP = 0.999  # of the running threshold at each step
WINDOW = 0.05  # or so much of all steps that the running mean is over, where these are few


@dataclass(frozen=True)
class BatchTopK(Kind):
    """k: features of a token on average. aux: weight of what dead features make of the error."""

    name: ClassVar[str] = "batchtopk"
    k: int = 32
    aux: float = 1 / 32

    def start(self, block: Block, x: Tensor) -> None:
        block.state |= {"threshold": x.new_zeros(()), "seen": x.new_zeros(())}

    def code(self, block: Block, x: Tensor, when: When) -> Code:
        entries, _ = largest_of_batch(block.scores(x), self.now(when, block), block.spread)
        return coded(block, x, entries)

    def now(self, when: When, block: Block) -> int:
        """How many features of a token at this step."""
        return min(self.k, block.n_features)

    def extra(self, block: Block, code: Code, x: Tensor, y: Tensor, left: Tensor, when: When) -> Tensor | float:
        return self.aux * revive(block, code, x, left, when) if self.aux else 0.0

    def after(self, block: Block, code: Code, counts: Tensor, when: When) -> None:
        """The running mean of the smallest value that was kept."""
        values = code.values[code.values > 0]
        least = block.spread.world.least(values.min() if len(values) else values.new_full((), torch.inf))
        if bool(least < torch.inf):
            share = min(1.0, max(1 - KEEP, 1 / (WINDOW * when.steps)))
            block.state["threshold"] += (share if block.state["seen"] else 1.0) * (least - block.state["threshold"])
            block.state["seen"] += 1

    def gate(self, block: Block) -> dict[str, Any]:
        return {"gate": "jumprelu", "threshold": block.state["threshold"].expand(block.n_features).clone()}
