"""Edges into the answer that add up to its difference from the counterfactuals.

A derivative at one point says where the answer would go, not how far. So it is averaged over points on the straight way
from the prompt to a counterfactual (integrated gradients, 1703.01365, with Gauss-Legendre points): at each of them all
that features write, what they leave over and the embedded tokens stand that far on the way, and everything in between
follows in the model itself. What then is left of the difference is how far the map bends beyond those points.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hooke.methods.progress import Tick, idle
from hooke.methods.trace.coded import Case, Units
from hooke.methods.trace.edges import Columns, changes, fill, writers_of
from hooke.methods.trace.hold_links import hold
from hooke.model import Descent, Edit, Rows, Tokens
from hooke.model.budget import pass_tokens
from hooke.model.checks import off
from hooke.model.live import LiveView
from hooke.sites import Site

POINTS = 8  # 4 miss the difference by up to 7 % on an indirect object, 8 by 0.2 %
FIRST, FINAL = Site("resid_pre", 0), Site("final_norm")


def into_answer(case: Case, kept: Units, rows: Rows, points: int = POINTS, tick: Tick = idle) -> tuple[Tensor, Tensor]:
    """Edges into `rows`, which read the last norm, (n_rows, n_sources) with columns as in `edges`; and what is left of
    how far each row is from its mean over the counterfactuals, (n_rows,)."""
    coded, links = case.coded, case.coded.links
    columns = Columns.of(case.map, coded, kept)
    total = case.view.tokens().new_zeros(len(rows), columns.count)
    measured = total.new_zeros(len(rows))
    writers = writers_of(coded, kept)
    everyone = torch.arange(len(rows), device=total.device)
    (part,) = rows.parts
    vectors = part.vectors.to(total.dtype)
    for number, other in enumerate(case.baselines):
        tick(number / len(case.baselines))
        side, one = changes(case.view, coded, kept, [other]), torch.zeros_like(total)
        unit = total.new_zeros(len(rows), len(kept))
        for site, cotangents in averaged(case, number, vectors, points).items():
            if site.point == "z":
                assert links is not None
                own = links.of_layer(site.layer or 0)
                _, head, query, _ = links.places[own].T
                gone = links.here[own] - links.there[number, own]
                one[:, len(kept) + own] = (cotangents[:, query, head] * gone).sum(-1)
                continue
            fill(one, columns, everyone, None if site == FIRST else site, cotangents, side)
            for b in coded.writing(site) if site != FIRST else ():
                for p, here, written in writers[b, site]:
                    unit[:, here] += cotangents[:, p] @ written.to(unit.dtype).T
        columns.settle(one, unit * side.units)
        total += one / len(case.baselines)
        measured += (vectors @ (case.view.final() - other.final)) / len(case.baselines)
    return total, measured - total.sum(1)


def averaged(case: Case, number: int, vectors: Tensor, points: int) -> dict[Site, Tensor]:
    """How `vectors` (n, d_model) of the last norm change with what stands at each written site and at the tokens, (n
    pos d_model), and with what the links that are nodes bring to z, (n pos head d_head), on average over the way to one
    of the counterfactuals."""
    other, (places, share) = case.baselines[number], on_the_way(case, points)
    ids, links = case.view.ids, case.coded.links
    ends = {FIRST: (case.view.tokens(), other.tokens)}
    ends |= {site: (case.view.value(site), other.values[site]) for site in case.coded.cuts}
    weights: dict[Site, Tensor] = {}
    for layer in [] if links is None else links.places[:, 0].unique().tolist():
        assert links is not None
        own, z, n_heads = links.of_layer(layer), Site("z", layer), case.model.parts.n_heads
        weights[z], here = links.together(own, len(ids), n_heads)
        ends[z] = here, links.together(own, len(ids), n_heads, links.there[number])[1]
    out = {site: here.new_zeros(len(vectors), *here.shape) for site, (here, _) in ends.items()}
    size = max(1, pass_tokens(case.model) // len(ids))
    for start in range(0, points, size):
        some = places[start : start + size]
        leaves = {
            site: torch.lerp(here, there, some.view(-1, *(1,) * here.ndim)).to(case.model.dtype).requires_grad_()
            for site, (here, there) in ends.items()
        }
        batch = ids.expand(len(some), -1)
        edits = [Edit(site, value=x) for site, x in leaves.items() if site not in weights]
        edits += [e for site, w in weights.items() for e in hold(site.layer or 0, w.to(case.model.dtype), leaves[site])]
        run = case.model.run(
            Tokens(batch, torch.ones_like(batch, dtype=torch.bool)), read=[FINAL], grad=True, logits=None, edits=edits
        )
        last = run.acts[FINAL][:, -1] @ vectors.to(case.model.dtype).T  # (point, n)
        for row in range(len(vectors)):
            slopes = torch.autograd.grad(
                last[:, row].sum(), list(leaves.values()), retain_graph=row + 1 < len(vectors), materialize_grads=True
            )
            for site, x in zip(leaves, slopes, strict=True):
                out[site][row] += torch.tensordot(share[start : start + size], x.to(share.dtype), 1)
    return out


def on_the_way(case: Case, points: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre points between 0 and 1, and the share of each."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    like = case.view.tokens()
    return like.new_tensor((nodes + 1) / 2), like.new_tensor(weights / 2)


def gradient(case: Case) -> list[Tensor]:
    """How what the graph adds up to changes with one unit of every active feature, all told: per block (n_entries,)."""
    sites = case.coded.cuts
    # the slope at a site is that of something that is added there
    added = [torch.zeros_like(case.view.tokens(), dtype=case.model.dtype).requires_grad_() for _ in sites]
    edits = [Edit(site, "add", zero) for site, zero in zip(sites, added, strict=True)]
    run = case.model.run(case.run.tokens, edits=edits, grad=True, logits="last")
    assert run.logits is not None
    found = torch.autograd.grad(case.metric.graph(run.logits[0]), added, materialize_grads=True)
    grads = dict(zip(sites, found, strict=True))
    out = []
    for block, codes, x in zip(case.coded.basis, case.coded.codes, case.coded.inputs, strict=True):
        worth = torch.zeros_like(codes.values)
        for site in block.writes:
            worth += block.effects(codes, site, grads[site].to(worth.dtype), x)
        out.append(worth)
    return out


def derivative_error(case: Case, live: LiveView) -> float:
    """How far the live view's way from the answer to the tokens is from the model's own derivative, of the largest."""
    *_, end = Descent(live, case.metric.row(live))
    moved = torch.zeros_like(live.tokens(), dtype=case.model.dtype).requires_grad_()
    run = case.model.run(case.run.tokens, edits=[Edit(FIRST, "add", moved)], grad=True, logits="last")
    assert run.logits is not None
    (wanted,) = torch.autograd.grad(case.metric.graph(run.logits[0]), moved)
    return off(end.cotangents[0], wanted[: end.cotangents.shape[1]])
