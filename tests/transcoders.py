"""Tiny random dictionaries that implement the `Dictionary` protocol in the plainest way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.dictionaries import Codes, Dictionary
from hooke.dictionaries.protocol import Values
from hooke.sites import Site


class Transcoder(Dictionary):
    """ReLU features that read one site or several and write one or several: an autoencoder where it writes what it
    reads, a cross-layer transcoder or a crosscoder where there are several. skip: it also passes on a matrix times
    what it reads first."""

    def __init__(
        self,
        read: str | Sequence[str],
        writes: Sequence[str],
        width: int,
        n_features: int,
        seed: int,
        *,
        skip: bool = False,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        reads = [read] if isinstance(read, str) else read
        self.reads, self.writes = tuple(map(Site.parse, reads)), tuple(map(Site.parse, writes))
        self.n_features, self.hash = n_features, f"random transcoder {reads} {list(writes)} {seed}"
        self.encoders = {site: random(n_features, width) / (width * len(reads)) ** 0.5 for site in self.reads}
        self.bias = 0.5 * random(n_features)
        self.decoders = {site: 0.1 * random(n_features, width) for site in self.writes}
        self.offsets = {site: 0.1 * random(width) for site in self.writes}
        self.skips = skip
        self.skip = {site: 0.2 * random(width, width) / width**0.5 for site in self.writes}

    @property
    def encoder(self) -> Tensor:
        return self.encoders[self.reads[0]]

    def before(self, x: Values) -> Tensor:
        """What the ReLU takes, (pos, n_features)."""
        first = x[self.reads[0]]
        total = self.bias.to(first.dtype).expand(len(first), -1)
        for site, weight in self.encoders.items():
            total = total + x[site] @ weight.to(first.dtype).T
        return total

    def dense(self, x: Values | Tensor) -> Tensor:
        return torch.relu(self.before(x if isinstance(x, dict) else {self.reads[0]: x}))  # type: ignore[dict-item]

    def encode(self, x: Values) -> Codes:
        return Codes.of(torch.relu(self.before(x)))

    def reader(self, ids: Tensor, at: Values) -> tuple[dict[Site, Tensor], Tensor]:
        like = at[self.reads[0]]
        return {site: w[ids].to(like.dtype) for site, w in self.encoders.items()}, self.bias[ids].to(like.dtype)

    def writer(self, ids: Tensor, site: Site, at: Values) -> Tensor:
        return self.decoders[site][ids]

    def offset(self, site: Site, x: Values) -> Tensor | None:
        first = x[self.reads[0]]
        constant = self.offsets[site].to(first.dtype).expand(len(first), -1)
        return constant + first @ self.skip[site].to(first.dtype).T if self.skips else constant

    def pull_offset(self, site: Site, cotangent: Tensor, x: Values) -> dict[Site, Tensor]:
        return {self.reads[0]: cotangent @ self.skip[site].to(cotangent.dtype)}
