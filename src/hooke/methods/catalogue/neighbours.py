"""Which features fire together: the correlation of their activations over the windows that were set aside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.kernels import exact_products
from hooke.methods.progress import Tick, stretch

BESIDE = 8  # that are kept of each row
ROWS = 2**17  # as many are compared with each other; of more, those of one block only
AT_ONCE = 1024


def neighbours(samples: Sequence[Tensor], tick: Tick) -> tuple[Tensor, Tensor]:
    """(n, BESIDE) rows and correlations of the rows that each goes with most, of all blocks together.

    samples: of each block (rows, windows).
    """
    sizes = [len(sample) for sample in samples]
    if sum(sizes) <= ROWS:
        return _nearest(torch.cat([_unit(sample) for sample in samples]), 0, tick)
    found, at = [], 0
    for number, sample in enumerate(samples):
        start = number / len(samples)
        found.append(_nearest(_unit(sample), at, stretch(tick, start, start + 1 / len(samples))))
        at += len(sample)
    return torch.cat([ids for ids, _ in found]), torch.cat([r for _, r in found])


def _unit(sample: Tensor) -> Tensor:
    """(rows, windows) less their mean, of length one; a row that is the same everywhere is zero."""
    x = sample.float()
    x = x - x.mean(1, keepdim=True)
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _nearest(x: Tensor, first: int, tick: Tick) -> tuple[Tensor, Tensor]:
    n, k = len(x), min(BESIDE, max(1, len(x) - 1))
    ids, values = torch.zeros(n, k, dtype=torch.int32), torch.zeros(n, k)
    with exact_products():
        for at in range(0, n, AT_ONCE):
            rows = torch.arange(at, min(at + AT_ONCE, n))
            r = x[rows] @ x.T
            r[torch.arange(len(rows)), rows] = -2.0
            values[rows], order = r.topk(k, 1)
            ids[rows] = (order + first).to(torch.int32)
            tick(min(1.0, (at + AT_ONCE) / n))
    return ids, values.clamp(-1, 1)
