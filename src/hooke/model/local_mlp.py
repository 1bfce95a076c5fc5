"""The local linear rule of an MLP (RelP, 2508.21258): what each neuron reads, held at one input.

act(z) is z times the held ratio act(z)/z, and a product act(z)·u passes half of the credit to each factor. So
reader · x + const is the neuron's activation itself, at the x that it is held at.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hooke.model.families import Block, Linear


def activations(block: Block, x: Tensor) -> Tensor:
    """What W_down multiplies: mlp_in (… d_model) to (… d_mlp)."""
    act: Tensor = block.act((block.gate or block.up).apply(x))
    return act * block.up.apply(x) if block.gate else act


def readers(block: Block, ids: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Readers (n, d_model) and constants (n,) of neurons `ids` (n,) held at mlp_in `at` (n, d_model):
    ½(ratio·u·w_gate + act(z)·w_up) for a gated neuron, ratio·w_in without a gate; ratio = act(z)/z."""
    first = block.gate or block.up
    w, b = first.weight[ids].to(at.dtype), _bias(first, ids, at)
    z = (w * at).sum(-1) + b
    held = ratio(block.act, z)
    if block.gate is None:
        return held[:, None] * w, held * b
    w_up, b_up = block.up.weight[ids].to(at.dtype), _bias(block.up, ids, at)
    u = (w_up * at).sum(-1) + b_up
    from_gate, from_up = 0.5 * held * u, 0.5 * held * z
    return from_gate[:, None] * w + from_up[:, None] * w_up, from_gate * b + from_up * b_up


def push_back(block: Block, cotangent: Tensor, at: Tensor) -> Tensor:
    """Cotangents on all neurons (… pos d_mlp) to mlp_in (… pos d_model): the sum of cotangent times reader, held at
    mlp_in `at` (pos, d_model)."""
    first = block.gate or block.up
    z = first.apply(at)
    held = ratio(block.act, z)
    if block.gate is None:
        return (cotangent * held) @ first.weight.to(at.dtype)
    u = block.up.apply(at)
    by_gate = (cotangent * (0.5 * held * u)) @ first.weight.to(at.dtype)
    return by_gate + (cotangent * (0.5 * held * z)) @ block.up.weight.to(at.dtype)


def push_forward(block: Block, x: Tensor, at: Tensor) -> Tensor:
    """The linear part of the rule held at `at` (pos, d_model), applied to x (pos, d_model): to (pos, d_mlp)."""
    first = block.gate or block.up
    z = first.apply(at)
    held = ratio(block.act, z)
    into = first.apply(x, bias=False)
    if block.gate is None:
        return held * into
    return 0.5 * held * (block.up.apply(at) * into + z * block.up.apply(x, bias=False))


def ratio(act: nn.Module, z: Tensor) -> Tensor:
    """act(z) / z, with its limit (a half, for SiLU and GELU) where z is zero."""
    safe = torch.where(z.abs() < 1e-6, torch.full_like(z, 1e-6), z)
    out: Tensor = act(safe) / safe
    return out


def _bias(linear: Linear, ids: Tensor, at: Tensor) -> Tensor:
    return at.new_zeros(len(ids)) if linear.bias is None else linear.bias[ids].to(at.dtype)
