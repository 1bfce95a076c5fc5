"""A tiny random transcoder that implements the `Dictionary` protocol in the plainest way."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hooke.dictionaries import Codes
from hooke.model import Edit
from hooke.sites import Site


class Transcoder:
    """ReLU features that read one site and write one or several."""

    def __init__(self, read: str, writes: list[str], width: int, n_features: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.reads, self.writes = (Site.parse(read),), tuple(Site.parse(site) for site in writes)
        self.n_features, self.hash = n_features, f"random transcoder {seed}"
        self.encoder, self.bias = random(n_features, width) / width**0.5, 0.5 * random(n_features)
        self.decoders = {site: 0.1 * random(n_features, width) for site in self.writes}
        self.offsets = {site: 0.1 * random(width) for site in self.writes}

    def dense(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.encoder.to(x.dtype).T + self.bias.to(x.dtype))

    def encode(self, x: Mapping[Site, Tensor]) -> Codes:
        return Codes.of(self.dense(x[self.reads[0]]))

    def decode(self, codes: Codes) -> dict[Site, Tensor]:
        dense = codes.dense()
        return {s: dense @ self.decoders[s].to(dense.dtype) + self.offsets[s].to(dense.dtype) for s in self.writes}

    def reader(self, ids: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder[ids].to(at.dtype), self.bias[ids].to(at.dtype)

    def writer(self, ids: Tensor, site: Site) -> Tensor:
        return self.decoders[site][ids]

    def offset(self, site: Site) -> Tensor | None:
        return self.offsets[site]

    def push_back(self, cotangent: Tensor, at: Tensor) -> Tensor:
        return torch.where(self.dense(at) > 0, cotangent, 0.0) @ self.encoder.to(at.dtype)

    def edits(self, ids: Tensor, value: Tensor | float, positions: Tensor | None = None, n_pos: int = 0) -> list[Edit]:
        raise NotImplementedError("graphs are drawn of these; no test changes their features in the model")
