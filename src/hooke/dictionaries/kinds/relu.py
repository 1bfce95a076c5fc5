"""ReLU with an L1 penalty on values times the length of what they write (the April 2024 recipe: methods with free
decoder lengths, λ rising over the first steps)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hooke.dictionaries.kinds.base import Block, Code, Kind, When

RISE = 0.05  # share of all steps over which the penalty rises


@dataclass(frozen=True)
class Relu(Kind):
    """l1: λ of Σ_i f_i |decoder_i|."""

    name: ClassVar[str] = "relu"
    squared: ClassVar[str] = "width"
    lr: ClassVar[float] = 5e-5
    unit: ClassVar[bool] = False
    l1: float = 5.0

    def code(self, block: Block, x: Tensor, when: When) -> Code:
        return Code(torch.relu(block.before(x)))

    def penalty(self, block: Block, code: Code, when: When) -> Tensor | float:
        written = block.spread.dictionary.total(code.values @ block.lengths())
        return self.l1 * min(1.0, when.share / RISE) * written
