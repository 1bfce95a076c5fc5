"""What a crosscoder says of two models: which features both have, which one alone, and which only seem to be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.errors import HookeError
from hooke.harvest import Activations
from hooke.sites import Site

ROWS = 4096  # that are coded at once
ALONE = 0.1  # a relative norm of less than this, or more than one less this, is of one model alone (2504.02922)
BOTH = (0.4, 0.6)
ARTEFACT = 0.5  # of what a feature explains in its model: if it would explain more in the other, that has it too


@dataclass(frozen=True, eq=False)
class Compared:
    """Of each feature (n_features,): norm, 0 (the first model's alone) to 1 (the second's); fires, how many rows it is
    active on; scaling (2, n_features), how much of its direction, in the model that has more of it, stands in each
    model where it fires (latent scaling: 1 is what the dictionary writes; None where widths differ). explained: the
    share of variance explained in each model."""

    norm: Tensor
    fires: Tensor
    scaling: Tensor | None
    explained: tuple[float, float]

    @property
    def ratio(self) -> Tensor | None:
        """(n_features,): the scaling in the model that has less of a feature over that in the other: 0 for what one
        model has alone, about 1 for what both have, whatever the norms say."""
        if self.scaling is None:
            return None
        less = torch.where(self.norm >= 0.5, 0, 1)
        few = self.scaling.gather(0, less[None])[0]
        return few / self.scaling.gather(0, 1 - less[None])[0].clamp(min=1e-6)

    def alone(self, which: int) -> Tensor:
        """(n_features,): True for features that fire, by their norm of one model alone, 0 the first or 1 the second."""
        here = self.norm < ALONE if which == 0 else self.norm > 1 - ALONE
        return here & (self.fires > 0)

    def artefacts(self, which: int) -> Tensor:
        """Those of them that the other model has as well: a small norm there is the loss's doing."""
        none = torch.zeros_like(self.norm, dtype=torch.bool)
        return none if self.ratio is None else self.alone(which) & (self.ratio > ARTEFACT)


@torch.no_grad()
def compared(block: Coder, held: Activations) -> Compared:
    """Compare the two models that a crosscoder reads, on activations that it was not trained on.

    Norms are of what a feature writes over the spread of activations at that site, so that models of other scales
    compare (2504.02922, section 2; scaling: its appendix, with the feature itself added back to what is left over).
    Raises HookeError for a dictionary of one model.
    """
    first, second = _sites(block)
    spread = {site: _spread(held.values[site]) for site in (first, second)}
    sizes = [block.decoders[site].float().norm(dim=1) / spread[site] for site in (first, second)]
    most = torch.maximum(*sizes).clamp(min=1e-30)
    norm = 0.5 * (1 + (sizes[1] - sizes[0]) / most)
    n = block.n_features
    same = block.decoders[first].shape == block.decoders[second].shape
    along = torch.where((norm >= 0.5)[:, None], block.decoders[second], block.decoders[first]).float() if same else None
    upper, fires, below = norm.new_zeros(2, n), norm.new_zeros(n), norm.new_zeros(n)
    left, whole = [0.0, 0.0], [0.0, 0.0]
    for at in range(0, len(held), ROWS):
        x = {site: held.values[site][at : at + ROWS].flatten(1).float() for site in (first, second)}
        codes = block.dense(x).float()
        fires += (codes != 0).sum(0)
        for k, (site, y) in enumerate(block.written(codes, x).items()):
            error = x[site] - y
            left[k] += float(error.double().square().sum())
            if along is not None:  # f d · (error + f d') with d' what the feature writes here
                own = (along * block.decoders[site].float()).sum(1)
                upper[k] += (codes * (error @ along.T)).sum(0) + codes.square().sum(0) * own
        below += codes.square().sum(0)
    for k, site in enumerate((first, second)):
        whole[k] = spread[site] ** 2 * len(held)
    scaling = None
    if along is not None:
        scaling = upper / (below * along.square().sum(1)).clamp(min=1e-30)
    return Compared(norm, fires, scaling, (1 - left[0] / whole[0], 1 - left[1] / whole[1]))


def _sites(block: Coder) -> tuple[Site, Site]:
    if len(block.writes) != 2 or [site.other for site in block.writes] != [False, True] or block.reads != block.writes:
        raise HookeError(f"{block.hash} is no crosscoder of two models")
    return block.writes


def _spread(x: Tensor) -> float:
    """The root of the mean squared distance of rows from their mean."""
    x = x.flatten(1).float()
    return float((x - x.mean(0)).double().square().sum(1).mean().sqrt())
