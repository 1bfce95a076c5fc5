"""`Direction`: a dictionary of one feature, what a linear probe or a steering vector is.

Its value at a token is direction · x + bias. How the values of a text become one number (`pool`) is
plain data beside it, so that a probe is this dictionary plus a few words.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hooke.dictionaries.codes import Codes
from hooke.dictionaries.protocol import Dictionary, Values
from hooke.errors import HookeError
from hooke.sites import Site


@dataclass(eq=False)
class Direction(Dictionary):
    """One feature at one site: reads x there, has the value direction · x + bias, writes along `direction`.

    direction: (width,), in the units of the site. One unit of the feature writes direction / |direction|²,
    the smallest change of x that raises the value by one.
    """

    site: Site
    direction: Tensor
    bias: float = 0.0

    def __post_init__(self) -> None:
        if self.direction.ndim != 1 or not bool(torch.isfinite(self.direction).all()):
            raise HookeError(f"the direction at {self.site} must be one vector of finite numbers")
        if not float(self.direction.norm()) > 0:
            raise HookeError(f"the direction at {self.site} is zero")
        self.reads = self.writes = (self.site,)
        self.n_features = 1
        weights = np.append(self.direction.detach().cpu().float().numpy(), np.float32(self.bias))
        self.hash = f"direction:{self.site}:{hashlib.sha256(weights.tobytes()).hexdigest()[:16]}"

    def values(self, x: Tensor) -> Tensor:
        """(… width) to (…)."""
        return x @ self.direction.to(x) + self.bias

    def encode(self, x: Values) -> Codes:
        return Codes.of(self.values(x[self.site])[:, None])

    def reader(self, ids: Tensor, at: Values) -> tuple[dict[Site, Tensor], Tensor]:
        x = at[self.site]
        return {self.site: self.direction.to(x).expand(len(ids), -1)}, x.new_full((len(ids),), self.bias)

    def writer(self, ids: Tensor, site: Site, at: Values) -> Tensor:
        return self._unit(self.direction).expand(len(ids), -1)

    def _unit(self, like: Tensor) -> Tensor:
        w = self.direction.to(like)
        return w / (w @ w)
