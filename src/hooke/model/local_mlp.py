"""What each neuron of an MLP reads at one input: by the local linear rule of RelP (2508.21258), or by its derivative.

The rule: act(z) is z times the held ratio act(z)/z, and a product act(z)·u passes half of the credit to each factor. So
reader · x + const is the neuron's activation itself, at the x that it is held at. The derivative says how the
activation changes with x.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hooke.model.families import Block, Linear


def activations(block: Block, x: Tensor) -> Tensor:
    """What W_down multiplies: mlp_in (… d_model) to (… d_mlp)."""
    act: Tensor = block.act((block.gate or block.up).apply(x))
    return act * block.up.apply(x) if block.gate else act


def readers(block: Block, ids: Tensor, at: Tensor, *, live: bool = False) -> tuple[Tensor, Tensor]:
    """Readers (n, d_model) and constants (n,) of neurons `ids` (n,) held at mlp_in `at` (n, d_model):
    ½(ratio·u·w_gate + act(z)·w_up) for a gated neuron, ratio·w_in without a gate; ratio = act(z)/z.

    live: derivatives, act′(z)·u·w_gate + act(z)·w_up or act′(z)·w_in, and no constants.
    """
    first = block.gate or block.up
    w, b = first.weight[ids].to(at.dtype), _bias(first, ids, at)
    z = (w * at).sum(-1) + b
    if block.gate is None:
        factor, _ = _factors(block, z, None, live)
        return factor[:, None] * w, torch.zeros_like(b) if live else factor * b
    w_up, b_up = block.up.weight[ids].to(at.dtype), _bias(block.up, ids, at)
    from_gate, from_up = _factors(block, z, (w_up * at).sum(-1) + b_up, live)
    constants = torch.zeros_like(b) if live else from_gate * b + from_up * b_up
    return from_gate[:, None] * w + from_up[:, None] * w_up, constants


def push_back(block: Block, cotangent: Tensor, at: Tensor, *, live: bool = False) -> Tensor:
    """Cotangents on all neurons (… pos d_mlp) to mlp_in (… pos d_model): the sum of cotangent times reader, held at
    mlp_in `at` (pos, d_model)."""
    first = block.gate or block.up
    z = first.apply(at)
    if block.gate is None:
        return (cotangent * _factors(block, z, None, live)[0]) @ first.weight.to(at.dtype)
    from_gate, from_up = _factors(block, z, block.up.apply(at), live)
    by_gate = (cotangent * from_gate) @ first.weight.to(at.dtype)
    return by_gate + (cotangent * from_up) @ block.up.weight.to(at.dtype)


def push_forward(block: Block, x: Tensor, at: Tensor) -> Tensor:
    """The linear part of the rule held at `at` (pos, d_model), applied to x (pos, d_model): to (pos, d_mlp)."""
    first = block.gate or block.up
    z = first.apply(at)
    into = first.apply(x, bias=False)
    if block.gate is None:
        return _factors(block, z, None, False)[0] * into
    from_gate, from_up = _factors(block, z, block.up.apply(at), False)
    return from_gate * into + from_up * block.up.apply(x, bias=False)


def ratio(act: nn.Module, z: Tensor) -> Tensor:
    """act(z) / z, with its limit (a half, for SiLU and GELU) where z is zero."""
    safe = torch.where(z.abs() < 1e-6, torch.full_like(z, 1e-6), z)
    out: Tensor = act(safe) / safe
    return out


def slope(act: nn.Module, z: Tensor) -> Tensor:
    """act′(z)."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        (found,) = torch.autograd.grad(act(z).sum(), z)
    return found


def _factors(block: Block, z: Tensor, u: Tensor | None, live: bool) -> tuple[Tensor, Tensor]:
    """What multiplies the rows of the first matrix, and of the other: by derivative, or by the rule. z: what the
    nonlinearity takes; u: what a gate multiplies (None: no gate, and so no second factor)."""
    one = slope(block.act, z) if live else ratio(block.act, z)
    if u is None:
        return one, one
    if live:
        gated: Tensor = block.act(z)
        return one * u, gated
    return 0.5 * one * u, 0.5 * one * z


def _bias(linear: Linear, ids: Tensor, at: Tensor) -> Tensor:
    return at.new_zeros(len(ids)) if linear.bias is None else linear.bias[ids].to(at.dtype)
