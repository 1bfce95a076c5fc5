"""What the phases of a trace have found of a prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from hooke.methods.trace import explain
from hooke.methods.trace.coded import Case, Units
from hooke.methods.trace.counterfactuals import Against
from hooke.methods.trace.draw import Drawn, Logits
from hooke.methods.trace.links import N_LINKS, Link
from hooke.methods.trace.tries import Verification


@dataclass
class Found:
    """What the phases of a trace have found of a prompt."""

    case: Case
    kept: Units
    drawn: Drawn
    logits: Logits
    paths: list[explain.Path]
    against: Against
    checks: dict[str, float]
    fault: str  # why nothing in the graph can be relied on; empty where the checks hold
    verification: Verification | None = None
    summary: dict[str, Any] = field(default_factory=dict)  # of the verification
    links: list[Link] = field(default_factory=list)  # those that matter most first

    @property
    def attention(self) -> list[Link]:
        """The links that the story tells."""
        return self.links[:N_LINKS]

    @property
    def probabilities(self) -> Tensor:
        """(d_vocab,) of the next token."""
        return self.case.run.logits.float().softmax(-1)
