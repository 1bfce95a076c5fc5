"""What is left when some edges are kept, the plain way: one run of all pairs for each mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.methods.computation_graph import run_edges, written
from hooke.methods.objective import Objective
from hooke.model import Model, Tokens


def values_of(model: Model, clean: Tokens, corrupt: Tokens, objective: Objective, masks: Sequence[Tensor]) -> Tensor:
    """(n_masks, batch): the gain when only the edges of each mask are kept."""
    pairs = torch.arange(len(clean.ids))
    with torch.no_grad():
        other = written(model, corrupt)
        runs = [run_edges(model, clean, mask[None].to(model.dtype), other, logits=objective.logits) for mask in masks]
        return torch.stack([objective.gain(logits, pairs) for logits in runs])
