"""Frequencies of a model of modular addition: which it uses, and how much of its logits they explain.

Nanda and others, Progress measures for grokking (2301.05217): the logits of (a, b) at c are close to
Σ_k α_k cos(w_k (a + b - c)) with w_k = 2 π k / p, for a few key frequencies k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.errors import HookeError


def basis(p: int) -> Tensor:
    """Orthonormal waves over 0 … p - 1, (p, p): the constant, then cosine and sine of each frequency 1 … p // 2.

    p is odd. Raises HookeError otherwise.
    """
    if p < 3 or p % 2 == 0:
        raise HookeError(f"waves modulo p need an odd p of at least 3, not {p}")
    x = torch.arange(p, dtype=torch.float64)
    rows = [torch.full((p,), p**-0.5, dtype=torch.float64)]
    for k in range(1, p // 2 + 1):
        angle = 2 * math.pi * k * x / p
        rows += [angle.cos() * (2 / p) ** 0.5, angle.sin() * (2 / p) ** 0.5]
    return torch.stack(rows)


def power(embedding: Tensor) -> Tensor:
    """The share of each frequency in the rows of an embedding: (p // 2,), of frequencies 1 … p // 2.

    embedding: (p, d), of the numbers 0 … p - 1. The mean over the numbers does not count; the shares sum to 1.
    """
    waves = basis(embedding.shape[0]).to(embedding.device) @ embedding.double()
    found = waves[1:].pow(2).sum(1).view(-1, 2).sum(1)
    return found / found.sum().clamp(min=1e-30)


def logit_shares(logits: Tensor) -> Tensor:
    """The share of the logits' variance that cos(w_k (a + b - c)) alone explains, (p // 2,), of each frequency.

    logits: (p, p, p), of c for each a and b. Their mean over c is taken out, since it changes no prediction. The
    waves are orthogonal, so that the shares of several frequencies add up.
    """
    p = logits.shape[-1]
    if logits.shape != (p, p, p):
        raise HookeError(f"logits of all sums are (p, p, p), not {tuple(logits.shape)}")
    x = logits.double() - logits.double().mean(-1, keepdim=True)
    number = torch.arange(p, device=x.device)
    turn = (number[:, None, None] + number[:, None] - number) % p  # a + b - c
    along = torch.zeros(p, dtype=torch.float64, device=x.device).index_add(0, turn.flatten(), x.flatten())
    cosines = basis(p).to(x.device)[1::2] * (p / 2) ** 0.5
    # the wave of frequency k has squared norm p² · p / 2 over all (a, b, c)
    return (cosines @ along).pow(2) / (p**3 / 2) / x.pow(2).sum().clamp(min=1e-30)


def key_frequencies(embedding: Tensor, times: float = 2.0) -> list[int]:
    """The frequencies that stand out in an embedding (p, d): more than `times` an even share, strongest first."""
    shares = power(embedding)
    order = shares.argsort(descending=True).tolist()
    return [k + 1 for k in order if float(shares[k]) > times / len(shares)]


def explained(logits: Tensor, frequencies: Sequence[int]) -> float:
    """The share of the variance of the logits (p, p, p) that some frequencies explain together."""
    shares = logit_shares(logits)
    return float(sum(shares[k - 1] for k in set(frequencies)))


def restricted(embedding: Tensor, frequencies: Sequence[int], *, keep: bool) -> Tensor:
    """An embedding (p, d) with the given frequencies and its mean alone, or without those frequencies."""
    p = embedding.shape[0]
    waves = basis(p).to(embedding.device)
    chosen = torch.zeros(p, dtype=torch.bool)
    for k in frequencies:
        chosen[2 * k - 1 : 2 * k + 1] = True
    if not keep:
        chosen = ~chosen
    chosen[0] = True
    return (waves[chosen].T @ (waves[chosen] @ embedding.double())).to(embedding.dtype)
