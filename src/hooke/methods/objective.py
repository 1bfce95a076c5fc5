"""What a circuit is to keep: two numbers read off the logits of a prompt, one with a slope where the model is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

# (logits, which of the pairs these are (batch,)) -> (batch,)
Measure = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """Measures of runs on the clean prompts of some pairs.

    gain: larger the more the answer is the clean one, as a logit difference; it has a gradient at the clean run.
    distance: of the output from that of the whole model, as KL; 0 there, and so is its gradient.
    effect: what a tested cut is measured by: the gain, unless the output as a whole matters.
    logits: what measures read: "last", (batch d_vocab) at the last position, or "all", (batch pos d_vocab).
    """

    gain: Measure
    distance: Measure
    effect: Measure
    logits: Literal["all", "last"] = "last"
