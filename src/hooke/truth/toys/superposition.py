"""The toy model of superposition: more sparse features than dimensions, all to be given back.

Elhage and others, Toy models of superposition (2022): x̂ = ReLU(W Wᵀ x + b) for x of independent features that are 0
with probability 1 - density and else uniform on [0, 1]. What is known of the result: of dense features the m most
important get a dimension each and the others none; sparse ones share dimensions in regular shapes: antipodal pairs,
and in two dimensions a triangle or a pentagon, if there are as many.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Superposition(NamedTuple):
    """Trained models, one for each density. directions: (models, features, dimensions). bias: (models, features)."""

    density: tuple[float, ...]
    directions: Tensor
    bias: Tensor
    loss: Tensor  # (models,), over the loss of giving back the bias alone


def train_superposition(
    density: tuple[float, ...] = (1.0, 0.2, 0.1),
    *,
    n: int = 20,
    m: int = 5,
    steps: int = 3000,
    batch: int = 256,
    importance: float = 1.0,
    seed: int = 0,
) -> Superposition:
    """Train one model of n features in m dimensions for each density, all together (a few seconds).

    importance: of feature i + 1 in the loss, over that of feature i.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(density)
    chance = torch.tensor(density)[:, None, None]
    directions = torch.randn(count, n, m, generator=generator).mul_(n**-0.5).requires_grad_()
    bias = torch.zeros(count, n, requires_grad=True)
    optimizer = torch.optim.Adam([directions, bias], lr=1e-2)

    weight = importance ** torch.arange(n)

    def errors(rows: int) -> tuple[Tensor, Tensor]:
        x = torch.rand(count, rows, n, generator=generator)
        x = x * (torch.rand(count, rows, n, generator=generator) < chance)
        back = torch.relu(x @ directions @ directions.transpose(1, 2) + bias[:, None])
        return (weight * (x - back).pow(2)).mean((1, 2)), (weight * x.var(1)).mean(1)

    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        loss, spread = errors(batch)
        optimizer.zero_grad()
        (loss / spread.mean()).sum().backward()
        optimizer.step()
    with torch.no_grad():
        loss, spread = errors(20_000)
    return Superposition(density, directions.detach(), bias.detach(), loss / spread)
