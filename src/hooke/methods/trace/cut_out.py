"""A live run out of which features and links of attention are cut: slopes of anything with what these write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hooke.methods.trace.answer import FIRST
from hooke.methods.trace.coded import Case, Units
from hooke.methods.trace.links import Link
from hooke.model import Tokens
from hooke.model.run import Tap
from hooke.sites import Site

Cut = Literal["nothing", "units", "everything"]
TOGETHER = 8  # aims that go down together
LOOKED = ("q", "k", "v", "pattern")  # what is looked at in the layer of a link


class Aim(NamedTuple):
    """A tensor of a run, how much of it each of k aims is of (k, …), and the layer that it is in."""

    x: Tensor
    weight: Tensor
    layer: int


class Sources(NamedTuple):
    """Of each of k aims, how it changes with what units write (k, row, n_units), with what each link brings (k, row,
    d_head), and with tokens (k, row, pos, d_model)."""

    units: Tensor
    links: list[Tensor]
    tokens: Tensor

    def row(self, k: int) -> Sources:
        """Those of one aim, without its axis."""
        return Sources(self.units[k], [x[k] for x in self.links], self.tokens[k])


@dataclass
class CutOut:
    """A run from embedded tokens (row pos d_model). With units cut out, features and links write what they do here,
    whatever comes to them. With everything cut out, so does all that stands at a site that features write."""

    case: Case
    kept: Units
    links: Sequence[Link]
    tokens: Tensor
    cut: Cut
    candidates: Sequence[int] = ()  # tokens whose demeaned logits are looked at as well
    answer: Tensor = field(init=False)  # (1 + candidates,) of all rows together, what is explained first
    _seen: dict[Site, Tensor] = field(default_factory=dict)
    _acts: dict[int, Tensor] = field(default_factory=dict)  # (row, n) of a block's units, what they would do
    _leaves: dict[int, Tensor] = field(default_factory=dict)
    _brought: dict[int, Tensor] = field(default_factory=dict)  # (row, d_head) leaves of links

    def __post_init__(self) -> None:
        case, coded = self.case, self.case.coded
        self.tokens = self.tokens.detach().to(case.model.dtype).requires_grad_()
        sites = {site for block in coded.basis for site in (*block.reads, *block.writes)} | {FIRST}
        sites |= {Site(point, link.place[0]) for link in self.links for point in (*LOOKED, "z")}
        ids = case.view.ids.expand(len(self.tokens), -1)
        batch = Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
        run = case.model.run(batch, taps={site: self._tap(site) for site in sites}, grad=True, logits="last")
        assert run.logits is not None
        others = run.logits[:, list(self.candidates)] - run.logits.mean(-1, keepdim=True)
        self.answer = torch.cat([case.metric.graph(run.logits)[:, None], others], 1).sum(0)

    def acts(self, weights: Tensor) -> list[Aim]:
        """What units would do, by weights (k, row, n_units)."""
        layer = self.case.coded.layer
        return [Aim(x, weights[..., self.kept.of_block(b)], layer(b)) for b, x in self._acts.items()]

    def answers(self, weight: Tensor) -> Aim:
        """What is explained and the candidates, by weight (k, 1 + candidates)."""
        return Aim(self.answer, weight, self.case.model.parts.n_layers)

    def brought(self, link: int, weight: Tensor) -> list[Aim]:
        """What a link would bring, by weight (row, d_head), as its value, its query and its key change it."""
        layer, *_ = self.links[link].place
        pattern, value = self._ends(link)
        q, k = (self._seen[Site(point, layer)] for point in ("q", "k"))
        moved = (pattern[:, None] * value.detach() * weight.to(value.dtype)).sum()
        by = (
            torch.autograd.grad(moved, [q, k], retain_graph=True, allow_unused=True)
            if moved.requires_grad
            else (None,) * 2
        )
        out = [Aim(value, pattern.detach()[:, None] * weight.to(value.dtype), layer)]
        none = torch.zeros_like
        return [*out, *(Aim(at, none(at) if x is None else x, layer) for at, x in zip((q, k), by, strict=True))]

    def slopes(self, aims: Sequence[Aim]) -> Sources:
        """How k aims change with the sources."""
        k, dtype = len(aims[0].weight), self.case.view.dtype
        leaves = [*self._leaves.values(), *(self._brought[i] for i in range(len(self.links))), self.tokens]
        full = [leaf.new_zeros(k, *leaf.shape, dtype=dtype) for leaf in leaves]
        for some in _by_height(aims):  # what is of early layers alone has no way down through the later ones
            reached = [(aim.x, aim.weight[some].to(aim.x.dtype)) for aim in aims if aim.x.requires_grad]
            whole, weights = zip(*((x, w) for x, w in reached if bool((w != 0).any())), strict=True)
            found = torch.autograd.grad(
                whole, leaves, weights, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
            for into, x in zip(full, found, strict=True):
                if x is not None:
                    into[some] = x.to(dtype)
        units = self.tokens.new_zeros(k, len(self.tokens), len(self.kept), dtype=dtype)
        for b, x in zip(self._leaves, full, strict=False):
            units[..., self.kept.of_block(b)] = x
        return Sources(units, full[len(self._leaves) : -1], full[-1])

    def _tap(self, site: Site) -> Tap:
        """What a run does at a site: note what is looked at there, then let leaves write."""
        coded = self.case.coded
        writing = [b for b in coded.writing(site) if len(self.kept.of_block(b))]
        links = [k for k, link in enumerate(self.links) if site == Site("z", link.place[0])]

        def tap(x: Tensor) -> Tensor:
            x = self.tokens if site == FIRST else x
            x = x.clone() if site.point in ("q", "k") else x  # a view that the run itself would not go through
            self._seen[site] = x
            if self.cut == "everything" and coded.writing(site):
                x = x.detach()
            for b in writing:
                x = self._write(b, site, x)
            for k in links:
                x = self._bring(k, x)
            return x

        return tap

    def _write(self, b: int, site: Site, x: Tensor) -> Tensor:
        """What stands at a site (row, pos, d_model), with what a block's units write there their leaves' own."""
        block, own, rows = self.case.coded.basis[b], self.kept.of_block(b), len(self.tokens)
        ids, at = self.kept.ids[own].repeat(rows), self.kept.positions[own]
        here = {s: self._seen[s][:, at].flatten(0, 1).to(self.case.view.dtype) for s in block.reads}
        values = {s: y.detach() for s, y in here.items()}
        if b not in self._leaves:  # values do not matter here, slopes do
            slopes = block.slopes(ids, values)
            terms = [(slopes[s] * y).sum(-1) for s, y in here.items()]
            self._acts[b] = torch.stack(terms).sum(0).view(rows, -1)
            self._leaves[b] = self._acts[b].detach().requires_grad_()
        # nothing by value: with units cut out, what they would add is taken away as their leaves' own comes in
        change = self._leaves[b] - (self._acts[b] if self.cut == "units" else self._leaves[b].detach())
        written = block.writer(ids, site, values).to(x.dtype).view(rows, len(own), -1)
        return x.index_add(1, at, written * change[..., None].to(x.dtype))

    def _ends(self, link: int) -> tuple[Tensor, Tensor]:
        """How much of its attention a link has (row,), and the value that it brings (row, d_head)."""
        layer, head, query, key = self.links[link].place
        parts = self.case.model.parts
        pattern, v = self._seen[Site("pattern", layer)], self._seen[Site("v", layer)]
        return pattern[:, head, query, key], v[:, key, head // (parts.n_heads // parts.n_kv_heads)]

    def _bring(self, link: int, z: Tensor) -> Tensor:
        """What heads give (row pos head d_head), with what a link brings its leaf's own."""
        _, head, query, _ = self.links[link].place
        pattern, value = self._ends(link)
        brings = pattern[:, None].to(z.dtype) * value
        leaf = self._brought[link] = brings.detach().requires_grad_()
        change = leaf - (leaf.detach() if self.cut == "nothing" else brings)
        place = torch.zeros(z.shape[1:3], dtype=z.dtype, device=z.device)
        place[query, head] = 1.0
        return z + place[:, :, None] * change[:, None, None]


def _by_height(aims: Sequence[Aim]) -> list[Tensor]:
    """The aims that are of anything, in groups of near highest layers."""
    k = len(aims[0].weight)
    top = torch.full((k,), -1)
    for aim in aims:
        if aim.x.requires_grad:
            there = (aim.weight.reshape(k, -1) != 0).any(1).cpu()
            top[there] = top[there].clamp(min=aim.layer)
    order = top.argsort(descending=True, stable=True)
    order = order[top[order] >= 0]
    return [part.to(aims[0].weight.device) for part in order.split(TOGETHER)] if len(order) else []
