"""The neuron basis: the units of one MLP as a dictionary that needs no training.

A neuron's value is its activation after the nonlinearity, what W_down multiplies (Transluce,
2601.22594, finds far smaller circuits with these than with MLP outputs). Its reader is the local
linear rule of RelP (`model/local_mlp.py`), so reader · x + const is the activation itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.dictionaries.codes import Codes
from hooke.dictionaries.protocol import Dictionary, Values
from hooke.model import Edit, Model, local_mlp
from hooke.model.families import Block
from hooke.sites import Site

MANY = 8  # of this many neurons one is edited at least, where a mask is used


@dataclass
class Neurons(Dictionary):
    """The neurons of one layer. Reads mlp_in, writes mlp_proj."""

    block: Block
    layer: int
    hash: str

    def __post_init__(self) -> None:
        self.reads, self.writes = (Site("mlp_in", self.layer),), (Site("mlp_proj", self.layer),)
        self.site = Site("mlp_act", self.layer)  # where the model itself computes the values of these features
        self.n_features = int(self.block.down.weight.shape[1])

    def encode(self, x: Values) -> Codes:
        """All neurons at all positions that are not zero."""
        return Codes.of(local_mlp.activations(self.block, x[self.reads[0]]))

    def decode(self, codes: Codes, x: Values) -> dict[Site, Tensor]:
        return {self.writes[0]: self.block.down.apply(codes.dense())}

    def reader(self, ids: Tensor, at: Values) -> tuple[dict[Site, Tensor], Tensor]:
        (read,) = self.reads
        rows, consts = local_mlp.readers(self.block, ids, at[read])
        return {read: rows}, consts

    def slopes(self, ids: Tensor, at: Values) -> dict[Site, Tensor]:
        (read,) = self.reads
        return {read: local_mlp.readers(self.block, ids, at[read], live=True)[0]}

    def writer(self, ids: Tensor, site: Site, at: Values) -> Tensor:
        return self.block.down.weight.T[ids]

    def offset(self, site: Site, x: Values) -> Tensor | None:
        bias, first = self.block.down.bias, x[self.reads[0]]
        return None if bias is None else bias.to(first.dtype).expand_as(first)

    def effects(self, codes: Codes, site: Site, cotangent: Tensor, x: Values) -> Tensor:
        whole = (cotangent @ self.block.down.weight.to(cotangent.dtype)).flatten(-2)
        return whole if codes.keys is None else whole[..., codes.keys]

    def push_back(self, cotangent: Codes, x: Values) -> dict[Site, Tensor]:
        (read,) = self.reads
        return {read: local_mlp.push_back(self.block, cotangent.dense(), x[read])}

    def edits(self, ids: Tensor, value: Tensor | float, positions: Tensor | None = None) -> list[Edit]:
        """The same as an edit of the features, made where the model itself computes them."""
        if positions is None:
            return [Edit(self.site, value=value, index=ids)]
        positions = positions.expand(len(ids))
        first, n = int(positions.min()), int(positions.max()) - int(positions.min()) + 1
        if first < 0 or len(ids) * MANY < n * self.n_features:
            return [Edit(self.site, value=value, index=(positions, ids))]
        # most of all neurons there: a mask is faster than a list of places
        mask = torch.zeros(n, self.n_features, dtype=torch.bool, device=ids.device)
        mask[positions - first, ids] = True
        whole = value
        if isinstance(value, Tensor):
            whole = value.new_zeros(n, self.n_features)
            whole[positions - first, ids] = value
        return [Edit(self.site, value=whole, index=mask, positions=range(first, first + n))]

    def hold(self, entries: Codes, weight: Tensor, values: Tensor | None = None) -> list[Edit]:
        """The same, made where the model itself computes them."""
        values = entries.values if values is None else values
        if entries.keys is not None:
            rows = torch.broadcast_shapes(values.shape, weight.shape)[:-1]
            none = values.new_zeros(*rows, entries.shape[0] * entries.shape[1])
            values = none.index_copy(-1, entries.keys, values.expand(*rows, -1))
            weight = (none + 1).index_copy(-1, entries.keys, weight.to(none).expand(*rows, -1))
        shape = entries.shape
        return [Edit(self.site, value=values.unflatten(-1, shape), weight=weight.unflatten(-1, shape))]


def neurons(model: Model) -> tuple[Neurons, ...]:
    """The neuron basis of a model: one block a layer."""
    base = model.weights_hash()
    return tuple(Neurons(block, layer, f"neurons:{base}:{layer}") for layer, block in enumerate(model.parts.blocks))
