"""Which features to draw: one ranking of (block, feature, position), nested in the budget."""

from __future__ import annotations

import torch
from torch import Tensor

from hooke.methods.baselines import Baseline
from hooke.methods.edges import Codebook, Units
from hooke.methods.metric import Metric
from hooke.methods.scores import unit_effects
from hooke.model import Frozen, Model, Tokens


def relp(frozen: Frozen, book: Codebook, metric: Metric, baselines: list[Baseline]) -> list[Tensor]:
    """RelP scores (2508.21258): (value − baseline) times the effect of one unit, averaged over baselines."""
    effects, _ = unit_effects(frozen, book, metric.row(frozen))
    means = [torch.stack(rows).mean(0) for rows in zip(*(b.values for b in baselines), strict=True)]
    return [(v - m) * e for v, m, e in zip(book.values, means, effects, strict=True)]


def top(book: Codebook, scores: list[Tensor], count: int, baselines: list[Baseline]) -> Units:
    """The `count` features with the largest |score|, strongest first."""
    flat = torch.cat([s.abs().flatten() for s in scores])
    chosen = flat.topk(min(count, int((flat > 0).sum()))).indices
    return units_at(book, chosen, baselines)


def units_at(book: Codebook, flat: Tensor, baselines: list[Baseline]) -> Units:
    """Units from indices into all (block, position, feature), in the given order."""
    n_pos, widths = book.values[0].shape[0], [v.shape[1] for v in book.values]
    ends = torch.tensor([n_pos * w for w in widths], device=flat.device).cumsum(0)
    blocks = torch.searchsorted(ends, flat, right=True)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    width = torch.tensor(widths, device=flat.device)[blocks]
    inside = flat - starts[blocks]
    positions, ids = inside // width, inside % width

    def values_of(all_values: list[Tensor]) -> Tensor:
        return torch.cat([v.flatten() for v in all_values])[flat]

    base = torch.stack([values_of(b.values) for b in baselines]).mean(0)
    return Units(blocks, ids, positions, values_of(book.values), base)


def rank(
    model: Model,
    tokens: Tokens,
    frozen: Frozen,
    book: Codebook,
    metric: Metric,
    baselines: list[Baseline],
    count: int,
    *,
    given: bool,
) -> Units:
    """The nodes to draw, strongest first."""
    return top(book, relp(frozen, book, metric, baselines), count, baselines)
