"""Parts of a story: nodes that read alike, do alike and stand together, five to fifteen of them.

Nodes are clustered (Ward) by where they stand, how deep, which tokens reach them, and which answers they move: their
attribution profiles. Those that carry nearly all of the effect make the clusters, and the rest join the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

from hooke.methods.trace.coded import Case, Units
from hooke.methods.trace.explain import MORE, TOLD, peak, shares, sink, usual, vocabulary_effects, written

FEWEST, MOST = 5, 15  # parts, where there are nodes enough
CARRY = 0.95  # of the effect, that the nodes which make clusters have
WORTH = 0.012  # of the variance among nodes, that one part more must explain
PLACE, DEPTH, READS, DOES = 1.0, 3.0, 0.7, 0.7  # what differing in each counts
NAMED = 4  # parts that the sentence names


class Profiles(NamedTuple):
    """Of each unit: its layer, its influence (n,), the predicted effect of its ablation (n,), what each token gives it
    (n, pos), and how far the candidate answers move when it is ablated (n, candidates)."""

    layers: Tensor
    influence: Tensor
    effects: Tensor
    from_tokens: Tensor
    onto: Tensor


@dataclass
class Group:
    """Nodes that make one part."""

    members: Tensor  # indices of units
    positions: list[int]  # where they stand, the one with most influence first
    layers: tuple[int, int]  # that hold nine tenths of its influence
    share: float  # of the influence of all features
    reads: list[int]  # positions
    promotes: list[int]  # token ids
    effect: float  # of its nodes one by one, by their slopes


def parts(case: Case, units: Units, found: Profiles, likely: Tensor, bar: float) -> list[Group]:
    """The parts of a graph, those with most effect first. All units are in one of them.

    likely: ids of likely next tokens, among which a part at the last position is told by what it promotes. bar: how far
    the best token must stand out for a part elsewhere, which acts through attention, to be told by tokens at all.
    """
    groups, dull, first = [], usual(found.from_tokens), int(sink(case))
    for members in cluster(case, units, found):
        weight = found.influence[members]
        by_place = torch.zeros(case.view.n_tokens, dtype=weight.dtype, device=weight.device)
        by_place.index_add_(0, units.positions[members], weight)
        places = by_place.argsort(descending=True, stable=True)
        places = places[by_place[places] > max(0.1 * float(by_place.max()), 0.0)]
        reads = (weight[:, None] * shares(found.from_tokens[members])).sum(0) / weight.sum().clamp(min=1e-12)
        more = [p for p in (reads - dull).argsort(descending=True).tolist() if p >= first][:2]
        groups.append(
            Group(
                members,
                places.tolist() or [int(units.positions[members[0]])],
                _depth(found.layers[members], weight),
                float(weight.sum() / found.influence.sum().clamp(min=1e-12)),
                [p for p in more if float(reads[p]) >= TOLD and float(reads[p]) >= MORE * float(dull[p])],
                _promoted(case, units.take(members), likely, bar, places.tolist() == [case.view.n_tokens - 1]),
                float(found.effects[members].sum()),
            )
        )
    return sorted(groups, key=lambda g: -abs(g.effect))


def cluster(case: Case, units: Units, found: Profiles) -> list[Tensor]:
    """Indices of the units of each part."""
    points = _points(case, units, found)
    size = found.effects.abs().cpu().double().numpy()
    order = np.argsort(-size, kind="stable")
    reach = np.cumsum(size[order]) / max(size.sum(), 1e-12)
    leaders = order[: max(min(len(order), 2 * MOST), int(np.searchsorted(reach, CARRY)) + 1)]
    if len(leaders) < 2:
        return [torch.arange(len(units), device=units.ids.device)]
    tree = linkage(points[leaders], "ward")
    split = tree[::-1, 2] ** 2  # what one more part explains, from the second part on
    worth = 1 + int((split >= WORTH * split.sum()).sum())
    number = fcluster(tree, min(max(worth, FEWEST), MOST), "maxclust")
    centres = np.stack([points[leaders[number == c]].mean(0) for c in np.unique(number)])
    nearest = ((points[:, None] - centres) ** 2).sum(-1).argmin(1)
    nearest[leaders] = np.searchsorted(np.unique(number), number)
    return [torch.tensor(np.nonzero(nearest == c)[0], device=units.ids.device) for c in range(len(centres))]


def _points(case: Case, units: Units, found: Profiles) -> np.ndarray:
    """(n, features): where units stand in the space that they are clustered in."""
    place = torch.nn.functional.one_hot(units.positions, case.view.n_tokens) * PLACE
    depth = found.layers[:, None] / max(case.view.parts.n_layers, 1) * DEPTH
    onto = found.onto / found.onto.norm(dim=1, keepdim=True).clamp(min=1e-12) * DOES
    reads = shares(found.from_tokens) * READS
    return np.concatenate([x.cpu().double().numpy() for x in (place, depth, reads, onto)], 1)


def _depth(layers: Tensor, weight: Tensor) -> tuple[int, int]:
    """First and last layer, without the outermost twentieth of the weight at each end."""
    order = layers.argsort(stable=True)
    reach = weight[order].cumsum(0) / weight.sum().clamp(min=1e-12)
    inside = layers[order][(reach >= 0.05) & (reach - weight[order] / weight.sum().clamp(min=1e-12) <= 0.95)]
    inside = inside if len(inside) else layers
    return int(inside.min()), int(inside.max())


def _promoted(case: Case, units: Units, likely: Tensor, bar: float, last: bool) -> list[int]:
    """Tokens that what they write, as it differs from the counterfactuals, is linked with."""
    total = written(case.view, case.coded, units).sum(0, keepdim=True)
    effects = vocabulary_effects(case.view, total)
    if last:
        return likely[effects[0, likely].topk(min(3, len(likely))).indices].tolist()
    return effects[0].topk(3).indices.tolist() if float(peak(effects)) > bar else []
