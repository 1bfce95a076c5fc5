"""Gated: one set of directions decides what fires and how strongly, by two biases and a scale (2404.16014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from hooke.dictionaries.kinds.base import Block, Code, Kind, When

RISE = 2000  # steps over which the penalty rises, at most a tenth of all


@dataclass(frozen=True)
class Gated(Kind):
    """l1: λ of what the gate is given, Σ_i relu(π_i).

    π = x · encoder + gate_bias; f = [π > 0] relu(exp(r) (x · encoder) + bias): the parameters `bias` and the encoder
    are the gate's, `magnitude_bias` and `r` are what differs. As a JumpReLU it is the same function.
    """

    name: ClassVar[str] = "gated"
    lr: ClassVar[float] = 5e-5
    betas: ClassVar[tuple[float, float]] = (0.0, 0.999)
    joint: ClassVar[bool] = False
    l1: float = 0.5

    def start(self, block: Block, x: Tensor) -> None:
        block.params["r"] = torch.zeros_like(block.params["bias"])
        block.params["magnitude_bias"] = torch.zeros_like(block.params["bias"])

    def code(self, block: Block, x: Tensor, when: When) -> Code:
        params = block.params
        gate = block.before(x)
        straight = gate - params["bias"]  # (x - offset) · encoder
        magnitude = torch.relu(straight * params["r"].exp() + params["magnitude_bias"])
        return Code(torch.where(gate > 0, magnitude, 0.0), before=gate)

    def penalty(self, block: Block, code: Code, when: When) -> Tensor | float:
        assert code.before is not None
        rise = min(1.0, when.step / max(1.0, min(RISE, when.steps / 10)))
        return self.l1 * rise * block.spread.dictionary.total(torch.relu(code.before).sum(1))

    def extra(self, block: Block, code: Code, x: Tensor, y: Tensor, left: Tensor, when: When) -> Tensor | float:
        """The gate alone has to reconstruct too, through a decoder that does not learn from it."""
        assert code.before is not None
        frozen, axis = {name: block.params[name].detach() for name in ("decoder", "offset")}, block.spread.dictionary
        if axis.size == 1:
            made = torch.addmm(frozen["offset"], torch.relu(code.before), frozen["decoder"])
        else:
            made = axis.total(torch.relu(code.before) @ frozen["decoder"]) + frozen["offset"]
        if "skip" in block.params:
            made = made + x @ block.params["skip"].detach().T
        return (y - made).square().sum(1)

    def gate(self, block: Block) -> dict[str, Any]:
        """f = [h > θ] relu(h) with h = exp(r) (x · encoder) + magnitude_bias and θ = magnitude_bias - exp(r) bias."""
        params = block.params
        scale = params["r"].exp()
        return {
            "gate": "jumprelu",
            "encoder": params["encoder"] * scale[:, None],
            "bias": params["magnitude_bias"],
            "threshold": params["magnitude_bias"] - scale * params["bias"],
        }
