"""Many circuits on the same pairs of prompts: what is left of a metric with each. Circuits of similar size are run
together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hooke.methods.edge_runs import begun_pair, rows_at_once, run_edges
from hooke.methods.objective import Objective
from hooke.methods.progress import Tick, idle
from hooke.model import Model, Tokens


def gains(
    model: Model,
    clean: Tokens,
    corrupt: Tokens,
    objective: Objective,
    masks: Sequence[Tensor],
    *,
    measure: Callable[[Tensor, Tensor], Tensor] | None = None,
    tick: Tick = idle,
) -> Tensor:
    """(n_masks, batch): the gain, or another measure, when only the edges of each mask are kept.

    masks: (n_readers, n_writers) each. Measures read logits at the last position.
    """
    read = measure or objective.gain
    order = sorted(range(len(masks)), key=lambda i: int(masks[i].sum()))
    found = torch.zeros(len(masks), len(clean.ids))
    for row in range(len(clean.ids)):
        here = begun_pair(model, clean.alone(row), corrupt.alone(row))
        most = rows_at_once(model, here.tokens.ids.shape[1])
        for start in range(0, len(order), most):
            chunk = order[start : start + most]
            logits = run_edges(model, here, torch.stack([masks[i] for i in chunk]), logits="last")
            pair = torch.full((len(chunk),), row, device=model.device)
            found[chunk, row] = read(logits, pair).to(found)
            tick((row + min(1.0, (start + most) / len(order))) / len(clean.ids))
    return found
