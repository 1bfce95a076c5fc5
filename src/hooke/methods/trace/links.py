"""Where attention looked, what came of it, and why: links of a head from one token to another.

A link adds p · v_j W_O to the stream at its query. What it carries is that, less the same in the counterfactuals; its
effect is estimated for all links at once by the answer's slopes at what heads give, and measured for the largest.
Why a head looked there is its score, as a sum over what stands at query and key (`model/scores.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hooke.methods.trace.coded import Case, Links, Units, streamed
from hooke.methods.trace.hold_links import looks
from hooke.methods.trace.tries import judge
from hooke.model import Edit, Tokens
from hooke.model.live import LiveView
from hooke.model.scores import score_pairs
from hooke.results import Verdict
from hooke.sites import Site

N_LINKS, N_TRIED, N_RANDOM, N_PAIRS = 5, 30, 20, 4
Place = tuple[int, int, int, int]  # layer, head, query, key
At = Callable[[Tensor], Links]
Slopes = tuple[Tensor, At]


@dataclass
class Stood:
    """A part of the stream: a kept unit, or what a layer wrote besides. kind: unit, token, neurons, attention, rest."""

    kind: Literal["unit", "token", "neurons", "attention", "rest"]
    layer: int | None = None
    unit: int | None = None


@dataclass
class Link:
    """One link. pairs: (what stands at the query, what stands at the key, what they add to the score)."""

    place: Place
    pattern: float
    here: Tensor  # (d_head,): what it brings
    there: list[Tensor]  # the same in each counterfactual
    predicted: float
    measured: float | None = None  # None if it was not tried
    verdict: Verdict = "untested"
    reason: str = "not in the sample that was tested"
    bar: float = 0.0  # what 95 % of random links stay under
    score: float = 0.0
    runner_up: int | None = None
    runner_score: float | None = None
    runner_pattern: float | None = None
    pairs: list[tuple[Stood | None, Stood | None, float]] = field(default_factory=list)

    def predict(self, amount: float) -> None:
        """Say what taking away what it brings should do, and how that fared."""
        self.predicted = amount
        if self.measured is not None:
            self.verdict, self.reason = judge(amount, self.measured, self.bar)


def attention_links(case: Case, kept: Units, slopes: Slopes | None, seed: int, measure: bool = True) -> list[Link]:
    """The links that are nodes, and those with the largest estimate of all; those that matter most first, and these
    explained. None where nothing is live or moves. slopes: of `links_by_slope`. measure: try the largest of both kinds;
    else all are untested."""
    live, n_pos = case.live, case.view.n_tokens
    if live is None or slopes is None or n_pos < 2:
        return []
    guessed, at = slopes
    best = guessed.abs().flatten().topk(min(N_TRIED, guessed.numel())).indices
    places = torch.stack(torch.unravel_index(best[guessed.flatten()[best] != 0], guessed.shape), 1)
    if case.coded.links is not None:
        places = torch.cat([case.coded.links.places, places]).unique(dim=0)
    some = at(places)
    found = [
        Link(place, float(case.view.patterns[place[0]][place[1:]]), here, list(there), -float(delta))
        for place, here, there, delta in zip(
            (_place(row) for row in places.tolist()), some.here, some.there.unbind(1), some.deltas, strict=True
        )
    ]
    found.sort(key=lambda link: -abs(link.predicted))
    if measure and found:
        nodes = set() if case.coded.links is None else {_place(row) for row in case.coded.links.places.tolist()}
        own = [link for link in found if link.place in nodes][:N_TRIED]
        _measure(case, [*own, *(link for link in found[:N_TRIED] if link.place not in nodes)], guessed, at, seed)
        found.sort(key=lambda link: -abs(link.measured or 0.0))
    standing = Standing(case, kept)
    for link in found[:N_LINKS]:
        _explain(case, live, link, standing)
    return found


def _measure(case: Case, tried: list[Link], guessed: Tensor, at: At, seed: int) -> None:
    """Take what links bring away, and what random ones do, and give each its verdict."""
    there = guessed.nonzero()
    generator = torch.Generator().manual_seed(seed)
    random = at(there[torch.randperm(len(there), generator=generator)[:N_RANDOM].to(there.device)])
    edits = [[without(case, link.here, link.there, link.place)] for link in tried]
    edits += [
        [without(case, here, list(others), _place(row))]
        for row, here, others in zip(random.places.tolist(), random.here, random.there.unbind(1), strict=True)
    ]
    logits, _ = case.model.run_each(case.run, edits)
    measured = (case.metric.graph(logits) - case.metric.graph(case.logits)).tolist()
    bar = max(case.rounding, float(np.quantile(np.abs(measured[len(tried) :]), 0.95)) if len(random) else 0.0)
    for link, value in zip(tried, measured, strict=False):
        link.measured, link.bar = value, bar
        link.predict(link.predicted)


def links_by_slope(case: Case, live: LiveView) -> Slopes:
    """(layer, head, query, key): how far the answer is, by its slopes, from where it would be with each link as in the
    counterfactuals; and what links at places (n, 4) bring here and in each of them."""
    parts = case.model.parts
    slopes = _slopes(case)
    ids = torch.stack([other.ids for other in case.baselines])
    others = looks(case.model, Tokens(ids, torch.ones_like(ids, dtype=torch.bool)))
    rows = []
    for layer, slope in enumerate(slopes):
        toward = slope.transpose(0, 1)  # head query d_head
        here = case.view.patterns[layer] * (toward @ live.attention[layer].values.transpose(1, 2))
        look = others[layer]
        away = look.pattern.to(live.dtype) * (toward @ look.values.to(live.dtype).transpose(2, 3))
        rows.append(here - away.mean(0))

    def at(places: Tensor) -> Links:
        here, toward = (live.ids.new_zeros(len(places), parts.d_head, dtype=live.dtype) for _ in range(2))
        there = here.new_zeros(len(ids), *here.shape)
        for layer in places[:, 0].unique().tolist():
            own = (places[:, 0] == layer).nonzero()[:, 0]
            _, head, query, key = places[own].T
            pattern, look = case.view.patterns[layer], others[layer]
            here[own] = pattern[head, query, key, None] * live.attention[layer].values[head, key]
            there[:, own] = (look.pattern[:, head, query, key, None] * look.values[:, head, key]).to(live.dtype)
            toward[own] = slopes[layer][query, head]
        return Links(places, here, there, toward)

    return torch.stack(rows), at


def _slopes(case: Case) -> list[Tensor]:
    """(pos, head, d_head) of each layer: how the answer changes with what heads give, by torch's own derivative of the
    live model."""
    parts, n_pos = case.model.parts, case.view.n_tokens
    like = torch.zeros((), dtype=case.model.dtype, device=case.view.ids.device)
    added = [like.new_zeros(n_pos, parts.n_heads, parts.d_head).requires_grad_() for _ in range(parts.n_layers)]
    edits = [Edit(Site("z", layer), "add", zero) for layer, zero in enumerate(added)]
    run = case.model.run(case.run.tokens, edits=edits, grad=True, logits="last")
    assert run.logits is not None
    return [x.to(case.view.dtype) for x in torch.autograd.grad(case.metric.graph(run.logits[0]), added)]


def _place(row: Sequence[int]) -> Place:
    layer, head, query, key = row
    return layer, head, query, key


def without(case: Case, here: Tensor, there: Sequence[Tensor], place: Place) -> Edit:
    """An edit that gives a head at a query what it would have with one link as in the counterfactuals."""
    layer, head, query, _ = place
    parts = case.model.parts
    value = torch.zeros(1, parts.n_heads, parts.d_head, dtype=case.model.dtype, device=here.device)
    value[0, head] = (torch.stack(list(there)).mean(0) - here).to(value.dtype)
    return Edit(Site("z", layer), "add", value, positions=[query])


def _explain(case: Case, live: LiveView, link: Link, standing: Standing) -> None:
    """Fill in the score, that of the token which came next, and the pairs that add most to it."""
    layer, head, query, key = link.place
    here, at_query = standing.at(layer, query)
    there, at_key = standing.at(layer, key)
    pairs = score_pairs(live, layer, head, (query, key), at_query, at_key)
    link.score = float(pairs.sum())
    seen = case.view.patterns[layer][head, query, : query + 1].clone()
    seen[key] = -1.0
    if float(seen.max()) > 0:
        second = int(seen.argmax())
        other = score_pairs(live, layer, head, (query, second), at_query, standing.at(layer, second)[1])
        link.runner_up, link.runner_score = second, float(other.sum())
        link.runner_pattern = float(seen[second])
    for flat in pairs.flatten().abs().topk(min(N_PAIRS, pairs.numel())).indices.tolist():
        a, b = divmod(flat, pairs.shape[1])
        names = (here[a] if a < len(here) else None, there[b] if b < len(there) else None)
        link.pairs.append((*names, float(pairs[a, b])))


@dataclass
class Standing:
    """What streams are made of: tokens, what attention and MLPs of each layer write, kept units apart."""

    case: Case
    kept: Units
    _layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def at(self, layer: int, at: int) -> tuple[list[Stood], Tensor]:
        """Names of what the stream entering a layer is made of at a position, and vectors (n, d_model) that add up to
        it."""
        view = self.case.view
        names, vectors = [Stood("token")], [view.tokens()[at]]
        whole = view.values[Site("resid_pre", layer)][at]
        if any(site.point not in ("mlp_proj", "mlp_out") for site in self.case.coded.cuts):
            return [*names, Stood("rest")], torch.stack([*vectors, whole - vectors[0]])
        for below in range(layer):
            if below not in self._layers:
                self._layers[below] = view.value(Site("attn_out", below)), view.value(Site("mlp_out", below))
            attention, written = (x[at] for x in self._layers[below])
            names.append(Stood("attention", below))
            vectors.append(attention)
            for unit, vector in self._features(below, at):
                names.append(Stood("unit", below, unit))
                vectors.append(vector)
                written = written - vector
            names.append(Stood("neurons", below))
            vectors.append(written)
        left = whole - torch.stack(vectors).sum(0)
        return [*names, Stood("rest")], torch.stack([*vectors, left])

    def _features(self, layer: int, at: int) -> list[tuple[int, Tensor]]:
        """Kept units at a position that write in a layer, and what each adds to the stream there."""
        blocks = [b for b, block in enumerate(self.case.coded.basis) if any(s.layer == layer for s in block.writes)]
        there = torch.isin(self.kept.blocks, torch.tensor(blocks, device=self.kept.blocks.device))
        mine = (there & (self.kept.positions == at)).nonzero()[:, 0]
        units = self.kept.take(mine)
        adds = streamed(self.case.view, self.case.coded, units, layer) * units.values[:, None]
        return list(zip(mine.tolist(), adds, strict=True))
