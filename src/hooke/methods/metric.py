"""What a trace explains: the logit of a token, or the difference of two, at the last position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.model import Frozen, Rows


@dataclass
class Metric:
    """A number read off the last logits: a demeaned logit, or logit(target) - logit(contrast)."""

    target: int
    contrast: int | None
    softcap: float | None

    def __call__(self, logits: Tensor) -> Tensor:
        """(… d_vocab), capped as the model gives them, to (…) uncapped."""
        logits = logits.double() if logits.dtype == torch.float64 else logits.float()
        if self.softcap is not None:
            logits = self.softcap * torch.atanh((logits / self.softcap).clamp(-1 + 1e-6, 1 - 1e-6))
        other = logits.mean(-1) if self.contrast is None else logits[..., self.contrast]
        return logits[..., self.target] - other

    def row(self, frozen: Frozen) -> Rows:
        """The same as a reader of the frozen map, one row."""
        ids = torch.tensor([self.target], device=frozen.ids.device)
        if self.contrast is None:
            return frozen.unembed_rows(ids)
        ids = torch.cat([ids, torch.tensor([self.contrast], device=ids.device)])
        return frozen.unembed_rows(ids, torch.tensor([1.0, -1.0]))


def logit_targets(probabilities: Tensor, share: float = 0.95, most: int = 10) -> Tensor:
    """Ids of the smallest set of tokens that reaches `share` of the probability, at most `most`."""
    top = probabilities.topk(min(most, len(probabilities)))
    reach = top.values.cumsum(0)
    return top.indices[: int((reach < share).sum()) + 1]
