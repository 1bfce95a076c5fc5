"""Which features and which links of attention to draw: one ranking of both, nested in the budget.

It is learned on the model itself (`masks`). On long prompts, and where nothing is live, one-pass RelP scores of
features alone stand in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from hooke.errors import HookeError
from hooke.methods.metric import Metric
from hooke.methods.progress import Tick, idle, stretch
from hooke.methods.trace.coded import Baseline, Case, Coded, Units
from hooke.methods.trace.edges import pass_offset
from hooke.methods.trace.masks import learn
from hooke.methods.variants import variants
from hooke.model import Descent, LinearView, Model, Rows, Tokens

N_VARIANTS = 16
LONGEST = 192  # tokens; a longer prompt is ranked by RelP


def relp(view: LinearView, coded: Coded, metric: Metric, baselines: list[Baseline]) -> list[Tensor]:
    """RelP scores (2508.21258) of the entries of the codes, per block: (value − baseline) times the effect of one
    unit, averaged over baselines."""
    effects, _ = unit_effects(view, coded, metric.row(view))
    _all_linked(coded, effects)
    out = []
    for b, codes in enumerate(coded.codes):
        positions, ids = codes.positions, codes.ids
        mean = torch.stack([other.codes[b].at(positions, ids) for other in baselines]).mean(0)
        out.append((codes.values - mean) * effects[b])
    return out


def _all_linked(coded: Coded, effects: Sequence[Tensor]) -> None:
    """Raise HookeError for a dictionary of which nothing goes on, because others cut what it writes."""
    for block, codes, worth in zip(coded.basis, coded.codes, effects, strict=True):
        last = codes.positions == codes.shape[0] - 1
        if bool(last.any()) and not bool(worth[last].any()):
            written = ", ".join(map(str, block.writes))
            raise HookeError(
                f"what {block.hash} writes at {written} leads nowhere: other dictionaries write later and nothing "
                "reads in between; leave one of them out"
            )


class Ranking(NamedTuple):
    """Features and links, best first: a smaller budget takes a prefix of what a larger one does.

    order: indices into the entries of all codes, one block after another, and after these into links, flat over
    `shape`: layer, head, query, key.
    """

    order: Tensor
    n_entries: int
    shape: tuple[int, ...]

    def link_ranks(self, n: int) -> Tensor:
        """Which of the best n the links among them are, from 1."""
        return (self.order[:n] >= self.n_entries).nonzero()[:, 0] + 1

    def first(self, n: int, *, alone: bool = False) -> tuple[Tensor, Tensor]:
        """Of the best n: indices into entries, and places of links (n, 4). alone: of features alone."""
        some = (self.order[self.order < self.n_entries] if alone else self.order)[:n]
        links = some[some >= self.n_entries] - self.n_entries
        return some[some < self.n_entries], torch.stack(torch.unravel_index(links, self.shape), 1)


def ranking(case: Case, contrasts: Sequence[Tensor], tick: Tick = idle) -> Ranking:
    """What to draw, best first.

    contrasts: prompts (pos,) to learn against (`contrasts`); where there is none, RelP alone.
    """
    coded, n_pos, parts = case.coded, case.view.n_tokens, case.model.parts
    linear = torch.cat([s.abs() for s in relp(case.view, coded, case.metric, case.baselines)])
    shape = (parts.n_layers, parts.n_heads, n_pos, n_pos)
    if not contrasts:
        return Ranking(linear.argsort(descending=True, stable=True), len(linear), shape)
    tick(0.05)
    found = learn(case.model, case.run.tokens, case.metric, coded.basis, contrasts, stretch(tick, 0.1, 1.0))
    entries = zip(found.features, coded.codes, strict=True)
    learned = torch.cat([scores.at(codes.positions, codes.ids) for scores, codes in entries])
    # what no mask ever wanted follows in the order of RelP
    each = (learned + 1e-6 * linear / linear.max().clamp(min=1e-12), found.links.flatten())
    if not _of_all_layers(case):
        best = [x.argsort(descending=True, stable=True)[: int((~x.isneginf()).sum())] for x in each]
        return Ranking(_in_turn(best[0], best[1] + len(linear)), len(linear), shape)
    scores = torch.cat(each)
    order = scores.argsort(descending=True, stable=True)
    return Ranking(order[: int((~scores.isneginf()).sum())], len(linear), shape)


def _of_all_layers(case: Case) -> bool:
    """Whether the basis stands in for every MLP of the model."""
    written = {site.layer for site in case.coded.cuts if site.point in ("mlp_proj", "mlp_out")}
    return len(written) == case.model.parts.n_layers


def _in_turn(a: Tensor, b: Tensor) -> Tensor:
    """One of each in turn, then what is left of the longer: dictionaries of a few layers write little of what attention
    of all moves, and would have no node beside it."""
    n = min(len(a), len(b))
    return torch.cat([torch.stack([a[:n], b[:n]], 1).flatten(), a[n:], b[n:]])


def searched(tokens: Tokens) -> bool:
    """Whether counterfactuals are looked for: not for a prompt that is too long, or of one token."""
    return 1 < tokens.ids.shape[1] <= LONGEST


def contrasts(
    model: Model,
    tokens: Tokens,
    target: int,
    others: Sequence[Tensor] = (),
    *,
    extra: int = 0,
    seed: int = 0,
    tick: Tick = idle,
) -> list[Tensor]:
    """What a ranking is learned against, in random order: the counterfactuals `others` and prompts that ask
    for another answer, `extra` of them beyond the number that learning needs. None of them where none is found, or
    none is `searched` for."""
    if not searched(tokens):
        return []
    generator = torch.Generator().manual_seed(seed)
    made = variants(model, tokens, target, others, max(1, N_VARIANTS - len(others)) + extra, generator, tick)
    rows = [*others, *made]
    return [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]


def units_at(coded: Coded, flat: Tensor, baselines: list[Baseline]) -> Units:
    """Units from indices into the entries of all codes, in the given order."""
    ends = torch.tensor([len(codes) for codes in coded.codes], device=flat.device).cumsum(0)
    blocks = torch.searchsorted(ends, flat, right=True)
    inside = flat - torch.cat([ends.new_zeros(1), ends[:-1]])[blocks]
    positions, ids = torch.zeros_like(flat), torch.zeros_like(flat)
    for b, codes in enumerate(coded.codes):
        here = (blocks == b).nonzero()[:, 0]
        key = inside[here] if codes.keys is None else codes.keys[inside[here]]
        positions[here], ids[here] = key // codes.shape[1], key % codes.shape[1]
    return coded.units(blocks, positions, ids, [other.codes for other in baselines])


def unit_effects(
    view: LinearView, coded: Coded, target: Rows, *, keep: Sequence[Tensor] | None = None
) -> tuple[list[Tensor], Tensor]:
    """Effect on one target of one unit of every active feature, through all paths of the linear rule.

    target: one row. keep: per block (n_entries,) True for entries of the codes that pass the effect on (None:
    all of them); with the kept nodes of a graph it gives the sum over paths of that graph.
    Returns per block (n_entries,), and the cotangent at the tokens (pos, d_model).
    """
    effects = [torch.zeros_like(codes.values) for codes in coded.codes]
    way = Descent(view, target, frozenset(coded.cuts), carry={})
    down = torch.zeros_like(view.tokens())[None]
    for site, first, cotangents in way:
        if site is None:
            down = cotangents
            continue
        n = cotangents.shape[1]
        for b in coded.writing(site):
            block, codes = coded.basis[b], coded.codes[b].until(n)
            x = {s: y[:n] for s, y in coded.inputs[b].items()}
            effects[b][: len(codes)] += block.effects(codes, site, cotangents[0], x)
            pass_offset(coded, b, way, site, first, cotangents)
            if site == min(block.writes):  # all that it writes has been passed
                worth = effects[b][: len(codes)]
                passing = worth if keep is None else torch.where(keep[b][: len(codes)], worth, 0.0)
                for read, pushed in block.push_back(codes.valued(passing), x).items():
                    way.put(read, pushed[None])
    later = view.n_tokens - down.shape[1]  # positions after the target, which it cannot depend on
    return effects, pad(down[0], (0, 0, 0, later))
