"""Words for a graph: what nodes read and promote, which groups carry most, the strongest paths.

Deterministic: every phrase is made from numbers, and verbs follow the evidence. A node is never named
by its bare index, and gets a label only where it is clearer than a random feature's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hooke.dictionaries import Dictionary, Neurons
from hooke.methods.trace.coded import Case, Coded, Links, Units, streamed
from hooke.model import LinearView
from hooke.results.payloads.common import Called
from hooke.sites import Site

N_RANDOM = 200
TOLD = 0.15  # of what reaches a unit: a token that is told
SINK = 0.3  # of all attention: what makes a first token a sink
MORE = 1.25  # times its part in what reaches units on average, that it must have


@dataclass
class Labels:
    """For each unit: tokens of the prompt it reads, tokens it promotes and suppresses (empty: no readable label)."""

    reads: list[list[int]]  # positions
    promotes: list[list[int]]  # token ids
    suppresses: list[list[int]]


def written(view: LinearView, coded: Coded, units: Units) -> Tensor:
    """(n, d_model): what each unit writes into the stream, times how far its value is from its baseline, as the last
    norm would scale it at the last position."""
    norm, scale = view.parts.final_norm, view.scales[Site("final_scale")][-1]
    out = streamed(view, coded, units)
    change = units.values if units.baselines is None else units.values - units.baselines
    return norm.weight.to(view.dtype) * out * change[:, None] / scale


def vocabulary_effects(view: LinearView, vectors: Tensor) -> Tensor:
    """(n, d_vocab): direct effects of `written` vectors on the demeaned logits, in at least fp32."""
    unembed = view.parts.unembed.weight
    effects = (vectors.to(unembed.dtype) @ unembed.T).to(view.dtype)
    return effects.sub_(effects.mean(1, keepdim=True))


def link_labels(case: Case, links: Links, bar: float) -> list[list[int]]:
    """Token ids that what each link brings, less in the counterfactuals, is linked with; none where that is not clearer
    than of random features (`clarity_bar`)."""
    view, parts = case.view, case.model.parts
    out = view.tokens().new_zeros(len(links), parts.d_model)
    for layer in links.places[:, 0].unique().tolist():
        own, block = links.of_layer(layer), parts.blocks[layer]
        _, head, query, _ = links.places[own].T
        heads = block.o.weight.to(view.dtype).view(-1, parts.n_heads, parts.d_head)[:, head]
        added = torch.einsum("nd,mnd->nm", links.changes[own], heads)
        out[own] = view.after_heads(layer, added, query)
    norm, scale = parts.final_norm, view.scales[Site("final_scale")][-1]
    effects = vocabulary_effects(view, norm.weight.to(view.dtype) * out / scale)
    clear = (peak(effects) > bar).tolist()
    best = effects.topk(min(5, effects.shape[1]), 1).indices.tolist() if len(links) else []
    return [ids if ok else [] for ids, ok in zip(best, clear, strict=True)]


def peak(effects: Tensor) -> Tensor:
    """(n,): how far the largest effect stands out, in standard deviations over the vocabulary."""
    if not len(effects):
        return effects.new_zeros(0)
    return effects.amax(1) / effects.std(1).clamp(min=1e-9)


def clarity_bar(view: LinearView, coded: Coded, random: Units) -> float:
    """How far the best token of a random feature stands out, 95th percentile."""
    if not len(random):
        return 0.0
    return float(np.quantile(peak(vocabulary_effects(view, written(view, coded, random))).cpu(), 0.95))


def label(case: Case, units: Units, from_tokens: Tensor, bar: float, random_from_tokens: Tensor) -> Labels:
    """Labels of the units. from_tokens: (n, pos) what each token contributes to a unit through the graph;
    bar: how far the best token must stand out, from `clarity_bar`. What reaches all units alike is told of none."""
    effects = vocabulary_effects(case.view, written(case.view, case.coded, units))
    clear = (peak(effects) > bar).tolist()
    best = effects.topk(min(5, effects.shape[1]), 1).indices.tolist() if len(units) else []
    worst = effects.topk(min(5, effects.shape[1]), 1, largest=False).indices.tolist() if len(units) else []
    focus = _focus(from_tokens)
    focus_bar = float(np.quantile(_focus(random_from_tokens).cpu(), 0.5)) if len(random_from_tokens) else 0.0
    order = from_tokens.abs().argsort(1, descending=True)[:, :3].tolist()
    reads, dull, first = [], usual(from_tokens).tolist(), int(sink(case))
    for row, share, share_of_top in zip(order, shares(from_tokens).tolist(), focus.tolist(), strict=True):
        own = [p for p in row if p >= first and share[p] >= TOLD and share[p] >= MORE * dull[p]]
        reads.append(own if share_of_top > focus_bar else [])
    return Labels(
        reads,
        [ids if ok else [] for ids, ok in zip(best, clear, strict=True)],
        [ids if ok else [] for ids, ok in zip(worst, clear, strict=True)],
    )


def shares(from_tokens: Tensor) -> Tensor:
    """(n, pos): the part of each token in what reaches a unit."""
    return from_tokens.abs() / from_tokens.abs().sum(1, keepdim=True).clamp(min=1e-9)


def resting(view: LinearView) -> float:
    """The share of all attention, but for its own, that the first token has."""
    return float(torch.stack([p[:, 1:, 0].mean() for p in view.patterns]).mean()) if view.n_tokens > 2 else 0.0


def sink(case: Case) -> bool:
    """Whether the first token is looked at whatever comes, and no counterfactual changes it: that it is read says
    nothing."""
    changed = any(int(other.ids[0]) != int(case.view.ids[0]) for other in case.baselines)
    return not changed and resting(case.view) >= SINK


def usual(from_tokens: Tensor) -> Tensor:
    """(pos,): the part of each token in what reaches units, on average."""
    return shares(from_tokens).mean(0) if len(from_tokens) else from_tokens.new_zeros(from_tokens.shape[1])


def _focus(from_tokens: Tensor) -> Tensor:
    return shares(from_tokens).amax(1) if len(from_tokens) else from_tokens.new_zeros(0)


def called(basis: Sequence[Dictionary]) -> Called:
    """What the features of a basis are called: neurons are features too, so a mixture is of features."""
    return "neurons" if all(isinstance(block, Neurons) for block in basis) else "features"


@dataclass
class Path:
    """A path from a token through kept units to the answer, and what it carries of the answer by its edges."""

    token: int  # position
    units: list[int]  # from the last to the first
    weight: float  # product of its edges: of one unit each, but for the first


def strongest_paths(moves: np.ndarray, unit: np.ndarray, n_pos: int, count: int = 10, beam: int = 64) -> list[Path]:
    """Beam search from the answer up to the tokens, by what paths carry.

    moves: (n_units + 1, n_units + n_pos …) edges into the units, and in the last row into the answer, from units,
    tokens, and what no path goes through. unit: (n_units + 1, n_units) the same for one unit of each source.
    """
    n_units = unit.shape[1]
    done: list[Path] = []
    front = [Path(-1, [], 1.0)]
    while front:
        longer: list[tuple[float, Path]] = []
        for path in front:
            at = path.units[-1] if path.units else n_units
            carried = path.weight * moves[at, : n_units + n_pos]
            for s in np.argsort(-np.abs(carried))[:beam]:
                if not carried[s]:
                    break
                if s >= n_units:
                    done.append(Path(int(s - n_units), path.units, float(carried[s])))
                else:
                    further = Path(-1, [*path.units, int(s)], path.weight * float(unit[at, s]))
                    longer.append((abs(float(carried[s])), further))
        done = sorted(done, key=lambda p: -abs(p.weight))[: 4 * count]
        front = [path for _, path in sorted(longer, key=lambda pair: -pair[0])[:beam]]
    unique: dict[tuple[int, tuple[int, ...]], Path] = {}
    for path in done:
        unique.setdefault((path.token, tuple(path.units[:2])), path)
    return list(unique.values())[:count]
