"""`Codes`: the sparse activations that a dictionary gives for one prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass
class Codes:
    """Activations of the features that are active, by position and then by id.

    keys: (n,) position times n_features plus id, rising; None where every feature is active at every position (as the
    neurons of most models are), and `values` are the whole matrix.
    """

    values: Tensor  # (n,)
    keys: Tensor | None
    shape: tuple[int, int]  # (pos, n_features)

    @classmethod
    def of(cls, dense: Tensor) -> Codes:
        """From (pos, n_features), keeping what is not zero."""
        shape = (dense.shape[0], dense.shape[1])
        flat = dense.reshape(-1)
        active = flat != 0
        if bool(active.all()):
            return cls(flat, None, shape)
        keys = active.nonzero()[:, 0]
        return cls(flat[keys], keys, shape)

    def __len__(self) -> int:
        return len(self.values)

    def places(self) -> Tensor:
        """(n,): the keys, also where they are not kept."""
        return torch.arange(len(self.values), device=self.values.device) if self.keys is None else self.keys

    @property
    def positions(self) -> Tensor:
        """(n,)"""
        return self.places() // self.shape[1]

    @property
    def ids(self) -> Tensor:
        """(n,)"""
        return self.places() % self.shape[1]

    def id_of(self, entry: int) -> int:
        """The feature of one entry."""
        return (entry if self.keys is None else int(self.keys[entry])) % self.shape[1]

    def dense(self) -> Tensor:
        """(pos, n_features)"""
        if self.keys is None:
            return self.values.view(self.shape)
        out = self.values.new_zeros(self.shape[0] * self.shape[1])
        out[self.keys] = self.values
        return out.view(self.shape)

    def find(self, positions: Tensor, ids: Tensor) -> Tensor:
        """(m,): which entry each (position, id) is, -1 where it is not active."""
        wanted = positions * self.shape[1] + ids
        if self.keys is None:
            return wanted
        if not len(self.keys):
            return torch.full_like(wanted, -1)
        at = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[at] == wanted, at, -1)

    def at(self, positions: Tensor, ids: Tensor) -> Tensor:
        """(m,): the values of features at positions, zero where they are not active."""
        found = self.find(positions, ids)
        if not len(self.values):
            return self.values.new_zeros(len(found))
        return torch.where(found >= 0, self.values[found.clamp(min=0)], 0.0)

    def valued(self, values: Tensor) -> Codes:
        """The same entries with other values (n,)."""
        return replace(self, values=values)

    def take(self, mask: Tensor) -> Codes:
        """Some of the entries, (n,) True for those."""
        return Codes(self.values[mask], self.places()[mask], self.shape)

    def until(self, n_pos: int) -> Codes:
        """The codes of the first positions."""
        if n_pos >= self.shape[0]:
            return self
        shape = (n_pos, self.shape[1])
        if self.keys is None:
            return Codes(self.values[: n_pos * self.shape[1]], None, shape)
        end = int(torch.searchsorted(self.keys, n_pos * self.shape[1]))
        return Codes(self.values[:end], self.keys[:end], shape)

    def by_position(self) -> Iterator[tuple[int, slice]]:
        """Each position that has entries, and which these are."""
        width = self.shape[1]
        if self.keys is None:
            ends = [(p + 1) * width for p in range(self.shape[0])]
        else:
            bounds = torch.arange(1, self.shape[0] + 1, device=self.keys.device) * width
            ends = torch.searchsorted(self.keys, bounds).tolist()
        start = 0
        for p, end in enumerate(ends):
            if end > start:
                yield p, slice(start, end)
            start = end

    def less(self, others: Sequence[Codes]) -> Codes:
        """These codes less the mean of others of the same shape: every feature that is active in any of them."""
        if self.keys is None and all(other.keys is None for other in others):
            return self.valued(self.values - torch.stack([other.values for other in others]).mean(0))
        keys = torch.cat([codes.places() for codes in (self, *others)]).unique()
        positions, ids = keys // self.shape[1], keys % self.shape[1]
        mean = torch.stack([other.at(positions, ids) for other in others]).mean(0)
        return Codes(self.at(positions, ids) - mean, keys, self.shape)

    def beside(self, others: Sequence[Codes]) -> Codes:
        """These codes with an entry of value zero for every feature that is active in others alone."""
        if self.keys is None:
            return self
        keys = torch.cat([self.keys, *(other.places() for other in others)]).unique()
        return Codes(self.at(keys // self.shape[1], keys % self.shape[1]), keys, self.shape)
