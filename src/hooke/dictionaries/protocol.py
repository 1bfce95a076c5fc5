"""`Dictionary`: one encoder block, and the sparse `Codes` that it gives.

MLP neurons, an SAE, a transcoder, a probe and a steering vector all answer the same calls, so an
attribution graph is drawn in any of them by one code path. A per-layer set is a tuple of blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hooke.model import Edit
from hooke.sites import Site


@dataclass
class Codes:
    """Sparse activations: entry i is feature `ids[i]` at position `positions[i]` with value `values[i]`."""

    positions: Tensor  # (n,)
    ids: Tensor  # (n,)
    values: Tensor  # (n,)
    shape: tuple[int, int]  # (pos, n_features)

    @classmethod
    def of(cls, dense: Tensor) -> Codes:
        """From (pos, n_features), keeping what is not zero."""
        positions, ids = dense.nonzero(as_tuple=True)
        return cls(positions, ids, dense[positions, ids], (dense.shape[0], dense.shape[1]))

    def dense(self) -> Tensor:
        """(pos, n_features)"""
        out = self.values.new_zeros(self.shape)
        out[self.positions, self.ids] = self.values
        return out


class Dictionary(Protocol):
    """One encoder block of a dictionary of features.

    Contract, tested on every implementation by `check_dictionary`: for a feature i active at x,
    `reader(i, x) · x + const(i, x)` is the value that edges into i sum to; `decode` is
    `offset(site)` plus the sum of codes times writers.
    """

    @property
    def reads(self) -> tuple[Site, ...]:
        """Where it reads; several for a joint encoder."""
        ...

    @property
    def writes(self) -> tuple[Site, ...]: ...

    @property
    def n_features(self) -> int: ...

    @property
    def hash(self) -> str:
        """Identifies the dictionary in results."""
        ...

    def encode(self, x: Mapping[Site, Tensor]) -> Codes:
        """Values at the read sites, each (pos, width), to codes."""
        ...

    def decode(self, codes: Codes) -> dict[Site, Tensor]:
        """Codes to what the dictionary writes, each (pos, width)."""
        ...

    def reader(self, ids: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Readers (n, width) and constants (n,) of features `ids` (n,) at the read values `at` (n, width)."""
        ...

    def writer(self, ids: Tensor, site: Site) -> Tensor:
        """(n, width): what one unit of each feature writes at `site`."""
        ...

    def offset(self, site: Site) -> Tensor | None:
        """(width,): what `decode` writes with all features at zero."""
        ...

    def push_back(self, cotangent: Tensor, at: Tensor) -> Tensor:
        """Cotangents on all feature values (… pos n_features) to the read site (… pos width): the sum
        over active features of cotangent times reader, at the read values `at` (pos, width)."""
        ...

    def edits(self, ids: Tensor, value: Tensor | float, positions: Tensor | None = None, n_pos: int = 0) -> list[Edit]:
        """Edits that set features `ids` (n,) to `value` in a live run: everywhere, or feature i at
        positions[i] of a prompt of n_pos tokens."""
        ...


def check_dictionary(dictionary: Dictionary, x: Mapping[Site, Tensor], *, atol: float = 1e-4) -> None:
    """Prove the contract on values at the read sites (pos, width). Raises AssertionError saying what fails.

    atol is relative to the largest value compared, or absolute where that is under 1.
    """
    codes = dictionary.encode(x)
    (read,) = dictionary.reads
    at = x[read][codes.positions]
    readers, consts = dictionary.reader(codes.ids, at)
    edges = (readers * at).sum(-1) + consts
    _same(edges, codes.values, atol, "reader · x + const differs from the value")
    for site, decoded in dictionary.decode(codes).items():
        writers = dictionary.writer(codes.ids, site) * codes.values[:, None]
        total = torch.zeros_like(decoded).index_add(0, codes.positions, writers.to(decoded.dtype))
        offset = dictionary.offset(site)
        total = total if offset is None else total + offset
        _same(total, decoded, atol, f"decode differs from the sum of writers at {site}")
    generator = torch.Generator().manual_seed(0)
    cotangent = torch.randn(codes.shape, generator=generator).to(x[read])
    expected = torch.zeros_like(x[read]).index_add(
        0, codes.positions, readers * cotangent[codes.positions, codes.ids][:, None]
    )
    _same(dictionary.push_back(cotangent, x[read]), expected, atol, "push_back differs from the sum of readers")


def _same(a: Tensor, b: Tensor, atol: float, what: str) -> None:
    if not a.numel():
        return
    worst = float((a - b).abs().max()) / max(1.0, float(b.abs().max()))
    if not worst <= atol:  # also catches NaN
        raise AssertionError(f"{what} by {worst:.2g}")
