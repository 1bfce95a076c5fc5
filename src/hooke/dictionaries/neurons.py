"""The neuron basis: the units of one MLP as a dictionary that needs no training.

A neuron's value is its activation after the nonlinearity, what W_down multiplies (Transluce,
2601.22594, finds far smaller circuits with these than with MLP outputs). Its reader is the local
linear rule of RelP (2508.21258): act(z) is z times the held ratio act(z)/z, and a product g = a·u
passes half of the credit to each factor. So reader · x + const is the activation itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.dictionaries.protocol import Codes
from hooke.model import Edit, Model
from hooke.model.families import Block, Linear
from hooke.sites import Site


@dataclass
class Neurons:
    """The neurons of one layer. Reads mlp_in, writes mlp_proj."""

    block: Block
    layer: int
    hash: str

    @property
    def reads(self) -> tuple[Site, ...]:
        return (Site("mlp_in", self.layer),)

    @property
    def writes(self) -> tuple[Site, ...]:
        return (Site("mlp_proj", self.layer),)

    @property
    def site(self) -> Site:
        """Where the model itself computes the values of these features."""
        return Site("mlp_act", self.layer)

    @property
    def n_features(self) -> int:
        return int(self.block.down.weight.shape[1])

    def encode(self, x: Mapping[Site, Tensor]) -> Codes:
        """All neurons at all positions: the codes of this basis are dense."""
        dense = self.activations(x[self.reads[0]])
        positions = torch.arange(dense.shape[0], device=dense.device).repeat_interleave(dense.shape[1])
        ids = torch.arange(dense.shape[1], device=dense.device).repeat(dense.shape[0])
        return Codes(positions, ids, dense.flatten(), (dense.shape[0], dense.shape[1]))

    def activations(self, mlp_in: Tensor) -> Tensor:
        """(… d_model) to (… d_mlp)."""
        z = (self.block.gate or self.block.up).apply(mlp_in)
        act = self.block.act(z)
        return act * self.block.up.apply(mlp_in) if self.block.gate else act

    def decode(self, codes: Codes) -> dict[Site, Tensor]:
        site = self.writes[0]
        out = codes.dense() @ self.block.down.weight.to(codes.values.dtype).T
        offset = self.offset(site)
        return {site: out if offset is None else out + offset.to(out.dtype)}

    def reader(self, ids: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """½(ratio·u·w_gate + act(z)·w_up) for a gated neuron, ratio·w_in without a gate; ratio = act(z)/z."""
        first = self.block.gate or self.block.up
        w = first.weight[ids].to(at.dtype)
        b = _bias(first, ids, at)
        z = (w * at).sum(-1) + b
        ratio = self._ratio(z)
        if self.block.gate is None:
            return ratio[:, None] * w, ratio * b
        w_up = self.block.up.weight[ids].to(at.dtype)
        b_up = _bias(self.block.up, ids, at)
        u = (w_up * at).sum(-1) + b_up
        from_gate, from_up = 0.5 * ratio * u, 0.5 * ratio * z
        return from_gate[:, None] * w + from_up[:, None] * w_up, from_gate * b + from_up * b_up

    def writer(self, ids: Tensor, site: Site) -> Tensor:
        return self.block.down.weight.T[ids]

    def offset(self, site: Site) -> Tensor | None:
        return self.block.down.bias

    def push_back(self, cotangent: Tensor, at: Tensor) -> Tensor:
        first = self.block.gate or self.block.up
        z = first.apply(at)
        ratio = self._ratio(z)
        if self.block.gate is None:
            return (cotangent * ratio) @ first.weight.to(at.dtype)
        u = self.block.up.apply(at)
        by_gate = (cotangent * (0.5 * ratio * u)) @ first.weight.to(at.dtype)
        return by_gate + (cotangent * (0.5 * ratio * z)) @ self.block.up.weight.to(at.dtype)

    def edits(self, ids: Tensor, value: Tensor | float, positions: Tensor | None = None, n_pos: int = 0) -> list[Edit]:
        site = Site("mlp_act", self.layer)
        if positions is None:
            return [Edit(site, value=value, index=ids)]
        mask = torch.zeros(n_pos, self.n_features, dtype=torch.bool, device=ids.device)
        mask[positions, ids] = True
        given = torch.as_tensor(value, device=ids.device)
        values = torch.zeros(n_pos, self.n_features, dtype=given.dtype, device=ids.device)
        values[positions, ids] = given
        return [Edit(site, value=values, index=mask)]

    def _ratio(self, z: Tensor) -> Tensor:
        """act(z) / z, with its limit (a half, for SiLU and GELU) where z is zero."""
        safe = torch.where(z.abs() < 1e-6, torch.full_like(z, 1e-6), z)
        return self.block.act(safe) / safe


def _bias(linear: Linear, ids: Tensor, at: Tensor) -> Tensor:
    return at.new_zeros(len(ids)) if linear.bias is None else linear.bias[ids].to(at.dtype)


def neurons(model: Model) -> tuple[Neurons, ...]:
    """The neuron basis of a model: one block a layer."""
    base = model.weights_hash()
    return tuple(Neurons(block, layer, f"neurons:{base}:{layer}") for layer, block in enumerate(model.parts.blocks))
