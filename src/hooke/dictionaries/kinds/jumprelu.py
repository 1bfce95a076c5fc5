"""JumpReLU, in both published forms: with an L0 penalty (2407.14435), and with tanh (Anthropic, January 2025)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hooke.dictionaries.kinds.base import Block, Code, Kind, When

RISE = 10_000  # steps over which the L0 penalty rises, at most a fifth of all
FIRES = 10_000  # features that fire on a token at the start, of the form with tanh


class _Jump(torch.autograd.Function):
    """h [h > θ]; towards θ the rectangle of width ε around it, times -θ/ε (equation 11 of 2407.14435)."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, threshold: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(h, threshold)
        ctx.width = width
        return torch.where(h > threshold, h, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (h, threshold) = gradients, ctx.saved_tensors
        near = (h - threshold).abs() < ctx.width / 2
        return torch.where(h > threshold, g, 0.0), -(threshold / ctx.width * torch.where(near, g, 0.0)).sum(0), None


class _JumpExp(torch.autograd.Function):
    """h [h > θ] with θ = exp(t); towards t -θ/ε in the rectangle (January 2025)."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, t: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(h, t.exp())
        ctx.width = width
        return torch.where(h > t.exp(), h, 0.0)

    backward = _Jump.backward


class _Fires(torch.autograd.Function):
    """[h > θ]; towards θ -1/ε in the same rectangle, towards h nothing (equation 12)."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, threshold: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(h, threshold)
        ctx.width = width
        return (h > threshold).to(h.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (h, threshold) = gradients, ctx.saved_tensors
        near = (h - threshold).abs() < ctx.width / 2
        return None, -torch.where(near, g, 0.0).sum(0) / ctx.width, None


@dataclass(frozen=True)
class JumpRelu(Kind):
    """l0: λ of the number of features, or with `target` of (L0 / target - 1)². Thresholds are trained as they are."""

    name: ClassVar[str] = "jumprelu"
    lr: ClassVar[float] = 7e-5
    betas: ClassVar[tuple[float, float]] = (0.0, 0.999)
    start_at: ClassVar[float] = 0.001
    window: ClassVar[float] = 0.001
    l0: float = 1.0
    target: float | None = 32.0

    def start(self, block: Block, x: Tensor) -> None:
        block.params["threshold"] = torch.full_like(block.params["bias"], self.start_at)

    def code(self, block: Block, x: Tensor, when: When) -> Code:
        h = block.before(x)
        return Code(_Jump.apply(h, block.params["threshold"], self.window), before=h)

    def after(self, block: Block, code: Code, counts: Tensor, when: When) -> None:
        block.params["threshold"].clamp_(min=0.0)

    def gate(self, block: Block) -> dict[str, Any]:
        return {"gate": "jumprelu", "threshold": block.params["threshold"]}

    def penalty(self, block: Block, code: Code, when: When) -> Tensor | float:
        assert code.before is not None
        rise = min(1.0, when.step / max(1.0, min(RISE, when.steps / 5)))
        n = _Fires.apply(code.before, block.params["threshold"], self.window).sum(1)
        n = block.spread.dictionary.total(n)
        if self.target is None:
            return self.l0 * rise * n
        return self.l0 * rise * (block.spread.data.mean(n.mean()) / self.target - 1).square()


@dataclass(frozen=True)
class TanhJumpRelu(Kind):
    """l0: λ of Σ tanh(4 f |decoder|), which reaches all parameters; pre: λ of what is asked of features that do not
    fire, relu(θ - h) |decoder|."""

    name: ClassVar[str] = "jumprelu-tanh"
    squared: ClassVar[str] = "width"
    lr: ClassVar[float] = 2e-4
    unit: ClassVar[bool] = False
    start_at: ClassVar[float] = 0.1
    window: ClassVar[float] = 2.0
    l0: float = 20.0
    pre: float = 3e-6
    c: ClassVar[float] = 4.0

    def start(self, block: Block, x: Tensor) -> None:
        """Biases so that about 10,000 features fire on a token, and half of them at most."""
        block.params["log_threshold"] = torch.full_like(block.params["bias"], math.log(self.start_at))
        h = block.before(x)
        share = 1 - min(0.5, FIRES / block.n_features)
        rows = h.sort(dim=0).values[min(len(h) - 1, int(share * len(h)))]
        block.params["bias"] += self.start_at - rows

    def code(self, block: Block, x: Tensor, when: When) -> Code:
        h = block.before(x)
        return Code(_JumpExp.apply(h, block.params["log_threshold"], self.window), before=h)

    def gate(self, block: Block) -> dict[str, Any]:
        return {"gate": "jumprelu", "threshold": block.params["log_threshold"].exp()}

    def penalty(self, block: Block, code: Code, when: When) -> Tensor | float:
        assert code.before is not None
        lengths, threshold = block.lengths(), block.params["log_threshold"].exp()
        fires = torch.tanh(self.c * code.values * lengths).sum(1)
        asked = self.l0 * when.share * fires + self.pre * (torch.relu(threshold - code.before) @ lengths)
        return block.spread.dictionary.total(asked)
