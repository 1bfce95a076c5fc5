"""What a trace explains: how likely a token is, or how much likelier than another, at the last position.

Interventions are reported in the quantity that people read (log-probability, logit difference). A graph is linear
and adds up to another one, before the soft cap and without the normalising sum; it has its own name.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.methods import quantities as q
from hooke.methods.metrics import log_probability, logit_difference, wide
from hooke.model import LinearView, Rows


@dataclass
class Metric:
    """The target, or the target against the contrast, as two numbers: what is reported, and what a graph adds up to."""

    target: int
    contrast: int | None
    softcap: float | None

    @property
    def quantity(self) -> q.Quantity:
        """What calling this measures."""
        return q.LOG_PROBABILITY if self.contrast is None else q.LOGIT_DIFFERENCE

    @property
    def graph_quantity(self) -> q.Quantity:
        """What `graph` measures, and rows of the linear map give."""
        if self.contrast is None:
            return q.CENTRED_LOGIT
        return q.LOGIT_DIFFERENCE if self.softcap is None else q.UNCAPPED_DIFFERENCE

    def __call__(self, logits: Tensor) -> Tensor:
        """(… d_vocab), as the model gives them, to (…): `quantity`."""
        flat = wide(logits).reshape(-1, logits.shape[-1])
        made = log_probability(self.target) if self.contrast is None else logit_difference(self.target, self.contrast)
        return made(flat).view(logits.shape[:-1])

    def graph(self, logits: Tensor) -> Tensor:
        """(… d_vocab), as the model gives them, to (…): `graph_quantity`."""
        logits = wide(logits)
        if self.softcap is not None:
            logits = self.softcap * torch.atanh((logits / self.softcap).clamp(-1 + 1e-6, 1 - 1e-6))
        other = logits.mean(-1) if self.contrast is None else logits[..., self.contrast]
        return logits[..., self.target] - other

    def row(self, view: LinearView) -> Rows:
        """`graph_quantity` as a reader of the linear map, one row."""
        ids = torch.tensor([self.target], device=view.ids.device)
        if self.contrast is None:
            return view.unembed_rows(ids)
        ids = torch.cat([ids, torch.tensor([self.contrast], device=ids.device)])
        return view.unembed_rows(ids, torch.tensor([1.0, -1.0]))


def logit_targets(probabilities: Tensor, share: float = 0.95, most: int = 10) -> Tensor:
    """Ids of the smallest set of tokens that reaches `share` of the probability, at most `most`."""
    top = probabilities.topk(min(most, len(probabilities)))
    reach = top.values.cumsum(0)
    return top.indices[: int((reach < share).sum()) + 1]
