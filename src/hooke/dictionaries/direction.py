"""`Direction`: a dictionary of one feature, what a linear probe or a steering vector is.

Its value at a token is direction · x + bias. How the values of a text become one number (`pool`) is
plain data beside it, so that a probe is this dictionary plus a few words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hooke.dictionaries.protocol import Codes
from hooke.errors import HookeError
from hooke.model import Edit
from hooke.sites import Site


@dataclass(frozen=True, eq=False)
class Direction:
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

    @property
    def reads(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def writes(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def n_features(self) -> int:
        return 1

    @cached_property
    def hash(self) -> str:
        weights = np.append(self.direction.detach().cpu().float().numpy(), np.float32(self.bias))
        return f"direction:{self.site}:{hashlib.sha256(weights.tobytes()).hexdigest()[:16]}"

    def values(self, x: Tensor) -> Tensor:
        """(… width) to (…)."""
        return x @ self.direction.to(x) + self.bias

    def encode(self, x: Mapping[Site, Tensor]) -> Codes:
        values = self.values(x[self.site])
        positions = torch.arange(len(values), device=values.device)
        return Codes(positions, torch.zeros_like(positions), values, (len(values), 1))

    def decode(self, codes: Codes) -> dict[Site, Tensor]:
        return {self.site: codes.dense() @ self._unit(codes.values)[None]}

    def reader(self, ids: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        return self.direction.to(at).expand(len(ids), -1), at.new_full((len(ids),), self.bias)

    def writer(self, ids: Tensor, site: Site) -> Tensor:
        return self._unit(self.direction).expand(len(ids), -1)

    def offset(self, site: Site) -> Tensor | None:
        return None

    def push_back(self, cotangent: Tensor, at: Tensor) -> Tensor:
        return cotangent @ self.direction.to(at)[None]

    def edits(self, ids: Tensor, value: Tensor | float, positions: Tensor | None = None, n_pos: int = 0) -> list[Edit]:
        """Edits after which the feature has this value: what x has along the direction is taken out first."""
        aim = self._unit(self.direction)
        level = torch.as_tensor(value, dtype=aim.dtype, device=aim.device) - self.bias
        if positions is None:
            if level.ndim:
                level = level.flatten()[-1]
            return [Edit(self.site, "project_out", self.direction), Edit(self.site, "add", level * aim)]
        at = [int(p) for p in positions]
        added = level.expand(len(at))[:, None] * aim
        return [Edit(self.site, "project_out", self.direction, at), Edit(self.site, "add", added, at)]

    def _unit(self, like: Tensor) -> Tensor:
        w = self.direction.to(like)
        return w / (w @ w)
