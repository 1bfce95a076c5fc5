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

from hooke.methods.trace.coded import Case, Units, streamed
from hooke.methods.trace.tries import judge
from hooke.model import Edit
from hooke.model.live import LiveView
from hooke.model.scores import score_pairs
from hooke.results import Verdict
from hooke.sites import Site

N_LINKS, N_TRIED, N_RANDOM, N_PAIRS = 5, 30, 20, 4
Place = tuple[int, int, int, int]  # layer, head, query, key
Brought = Callable[[Place], tuple[Tensor, list[Tensor]]]


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
            self.verdict = judge(amount, self.measured, self.bar)[0]


def attention_links(case: Case, kept: Units, seed: int, measure: bool = True) -> list[Link]:
    """The links that matter most of all that were tried, each explained; none where nothing is live or moves. measure:
    try them; else those with the largest estimate, untested."""
    live, n_pos = case.live, case.view.n_tokens
    if live is None or n_pos < 2:
        return []
    guessed, brought = links_by_slope(case, live)
    flat = guessed.flatten()
    best = flat.abs().topk(min(N_TRIED if measure else N_LINKS, len(flat))).indices
    best = best[flat[best] != 0]
    found = []
    for i in best.tolist():
        place = _place(i, guessed.shape)
        layer, head, query, key = place
        pattern = float(case.view.patterns[layer][head, query, key])
        found.append(Link(place, pattern, *brought(place), -float(flat[i])))
    if measure and found:
        _measure(case, found, flat, brought, guessed.shape, seed)
        found.sort(key=lambda link: -abs(link.measured or 0.0))
    standing = Standing(case, kept)
    for link in found[:N_LINKS]:
        _explain(case, live, link, standing)
    return found[:N_LINKS]


def _measure(case: Case, found: list[Link], flat: Tensor, brought: Brought, shape: torch.Size, seed: int) -> None:
    """Take what links bring away, and what random ones do, and give each its verdict."""
    there = (flat != 0).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    random = [_place(int(i), shape) for i in there[torch.randperm(len(there), generator=generator)[:N_RANDOM]]]
    edits = [
        [without(case, here, others, place)]
        for place, here, others in (
            *((link.place, link.here, link.there) for link in found),
            *((place, *brought(place)) for place in random),
        )
    ]
    logits, _ = case.model.run_each(case.run, edits)
    measured = (case.metric.graph(logits) - case.metric.graph(case.logits)).tolist()
    bar = max(case.rounding, float(np.quantile(np.abs(measured[len(found) :]), 0.95)) if random else 0.0)
    for link, value in zip(found, measured, strict=False):
        link.measured, link.bar = value, bar
        link.predict(link.predicted)


def links_by_slope(case: Case, live: LiveView) -> tuple[Tensor, Brought]:
    """(layer, head, query, key): how far the answer is, by its slopes, from where it would be with each link as in the
    counterfactuals; and what each brings here and in each of them, as a function of its place."""
    parts, n_layers = case.model.parts, case.model.parts.n_layers
    sites = [Site("z", layer) for layer in range(n_layers)]
    shape = (case.view.n_tokens, parts.n_heads, parts.d_head)
    added = [torch.zeros(shape, dtype=case.model.dtype, device=live.ids.device).requires_grad_() for _ in sites]
    edits = [Edit(site, "add", zero) for site, zero in zip(sites, added, strict=True)]
    run = case.model.run(case.run.tokens, edits=edits, grad=True, logits="last")
    assert run.logits is not None
    slopes = torch.autograd.grad(case.metric.graph(run.logits[0]), added)
    read = [Site(point, layer) for point in ("pattern", "v") for layer in range(n_layers)]
    ids = torch.stack([other.ids for other in case.baselines])
    others = case.model.run(ids, read=read, logits=None).acts
    groups = parts.n_heads // parts.n_kv_heads
    rows = []
    for layer, slope in enumerate(slopes):
        toward = slope.to(live.dtype).transpose(0, 1)  # head query d_head
        here = case.view.patterns[layer] * (toward @ live.attention[layer].values.transpose(1, 2))
        v = others[Site("v", layer)].to(live.dtype).transpose(1, 2).repeat_interleave(groups, 1)  # … head key d_head
        away = others[Site("pattern", layer)].to(live.dtype) * (toward @ v.transpose(2, 3))
        rows.append(here - away.mean(0))

    def brought(place: Place) -> tuple[Tensor, list[Tensor]]:
        layer, head, query, key = place
        here = case.view.patterns[layer][head, query, key] * live.attention[layer].values[head, key]
        there = (
            others[Site("pattern", layer)][:, head, query, key, None] * others[Site("v", layer)][:, key, head // groups]
        )
        return here, list(there.to(live.dtype))

    return torch.stack(rows), brought


def _place(flat: int, shape: torch.Size) -> Place:
    layer, head, query, key = (int(i) for i in np.unravel_index(flat, tuple(shape)))
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
