"""The recipe with the best known score where the right answer is known (methods of SynthSAEBench, 2602.14690, and of a
public run on it): Matryoshka over features in the order of how often they fire, and codes refined by a step of ISTA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hooke.dictionaries.kinds.base import Block, Code, When
from hooke.dictionaries.kinds.matryoshka import Matryoshka, inner_errors
from hooke.dictionaries.kinds.topk import coded, revive
from hooke.dictionaries.sparse import encode, largest_of_batch
from hooke.dictionaries.spread import ALONE, Axis

SHARES = (1 / 128, 1 / 32, 1 / 8, 1 / 4, 1 / 2)
OFTEN = 0.99  # of the running mean of how often a feature fires, at each step


@dataclass(frozen=True)
class Record(Matryoshka):
    """step: η of the step of ISTA. first: features of a token at the start, from which k falls in a line. tilt: rows
    with a larger error count more, as softmax of tilt · error / mean error. sort: steps between two orders of the
    features, from `settled` steps on, or from a tenth of all where these are fewer."""

    name: ClassVar[str] = "record"
    lr: ClassVar[float] = 3e-4
    own: ClassVar[bool] = True
    inner: float = 0.5
    step: float = 0.25
    first: int = 0  # 0: 3.2 times k
    tilt: float = 0.01
    sort: int = 1000
    settled: int = 2000

    def start(self, block: Block, x: Tensor) -> None:
        super().start(block, x)
        block.state |= {
            "often": torch.zeros_like(block.params["bias"]),
            "ranks": torch.arange(block.n_features, device=x.device),
        }

    def now(self, when: When, block: Block) -> int:
        first = self.first or round(3.2 * self.k)
        return min(block.n_features, max(self.k, round(first + (self.k - first) * min(1.0, when.share / 0.9))))

    def sizes(self, block: Block) -> list[int]:
        n = block.n_features
        return sorted({m for m in self.prefixes or (int(n * share) for share in SHARES) if 0 < m < n})

    def ranks(self, block: Block) -> Tensor:
        return block.state["ranks"]

    def code(self, block: Block, x: Tensor, when: When) -> Code:
        """h, then h + η (x - what it reconstructs) · encoder, of the features that are the largest then."""
        params, k = block.params, self.now(when, block)
        entries, _ = largest_of_batch(block.scores(x), k, block.spread)
        rough = coded(block, x, entries)
        moved = x + self.step * (x - block.decoded(rough) - block.once("offset"))
        moved = block.spread.dictionary.shared(moved)
        entries, _ = largest_of_batch(block.scores(moved), k, block.spread)
        return Code(torch.relu(encode(moved, block.centre, params["encoder"], params["bias"], entries)), entries)

    def extra(self, block: Block, code: Code, x: Tensor, y: Tensor, left: Tensor, when: When) -> Tensor | float:
        total: Tensor | float = self.aux * revive(block, code, x, left, when) if self.aux else 0.0
        for error in inner_errors(block, code, y, self.ranks(block), self.sizes(block), apart=True):
            total = total + self.inner * error
        return total

    def weights(self, errors: Tensor, data: Axis = ALONE) -> Tensor | None:
        if not self.tilt:
            return None
        every = data.gathered(errors).flatten()
        return (torch.softmax(self.tilt * every / every.mean(), 0) * len(every))[data.part(len(every))]

    def after(self, block: Block, code: Code, counts: Tensor, when: When) -> None:
        super().after(block, code, counts, when)
        often, axis = block.state["often"], block.spread.dictionary
        often.lerp_(counts.to(often) / when.batch, 1 - OFTEN)
        from_step, each = min(self.settled, when.steps // 10), max(1, min(self.sort, when.steps // 20))
        if when.step >= from_step and when.step % each == 0:
            order = axis.gathered(often).flatten().argsort(descending=True, stable=True)
            block.state["ranks"].copy_(order.argsort()[axis.part(len(order))])

    def gate(self, block: Block) -> dict[str, Any]:
        return super().gate(block) | {"refine": self.step}
