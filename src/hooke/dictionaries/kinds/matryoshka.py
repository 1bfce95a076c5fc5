"""Matryoshka BatchTopK: the first features have to do alone, then more of them (2503.17547)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hooke.dictionaries.kinds.base import Block, Code, When
from hooke.dictionaries.kinds.batchtopk import BatchTopK
from hooke.dictionaries.kinds.topk import revive

SHARES = (1 / 32, 3 / 32, 7 / 32, 15 / 32)  # of all features; the last prefix is all of them


@dataclass(frozen=True)
class Matryoshka(BatchTopK):
    """prefixes: how many features each inner one has; empty for 1/32, 3/32, 7/32 and 15/32 of all. inner: weight of
    their errors, where that of all features has one."""

    name: ClassVar[str] = "matryoshka"
    joint: ClassVar[bool] = False
    prefixes: tuple[int, ...] = ()
    inner: float = 1.0

    def sizes(self, block: Block) -> list[int]:
        """Of the inner prefixes, rising."""
        n = block.n_features
        return sorted({m for m in self.prefixes or (int(n * share) for share in SHARES) if 0 < m < n})

    def ranks(self, block: Block) -> Tensor:
        """(n_features,): the place of each feature in the order of the prefixes."""
        here = block.spread.dictionary.part(block.n_features)
        return torch.arange(here.start, here.stop, device=block.params["bias"].device)

    def extra(self, block: Block, code: Code, x: Tensor, y: Tensor, left: Tensor, when: When) -> Tensor | float:
        total: Tensor | float = self.aux * revive(block, code, x, left, when) if self.aux else 0.0
        for error in inner_errors(block, code, y, self.ranks(block), self.sizes(block)):
            total = total + self.inner * error
        return total


def inner_errors(
    block: Block, code: Code, y: Tensor, ranks: Tensor, sizes: list[int], *, apart: bool = False
) -> list[Tensor]:
    """(batch,) for each inner prefix: the squared error of its features alone.

    apart: what smaller prefixes write is taken as given, so that each learns from its own features.
    """
    assert code.entries is not None
    made = block.once("offset").expand_as(y)
    place, errors, low = ranks[code.entries.ids], [], 0
    for size in sizes:
        group = (place >= low) & (place < size)
        part = block.decoded(Code(code.values[group], code.entries.take(group)))
        made = (made.detach() if apart else made) + part
        errors.append((y - made).square().sum(1))
        low = size
    return errors
