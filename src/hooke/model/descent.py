"""Sending readers down the linear view, from the logits to the tokens."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.model.linear_view import CUT, READ, Part, Rows, Stage
from hooke.sites import Site

if TYPE_CHECKING:
    from hooke.model.linear_view import LinearView


@dataclass
class Descent:
    """One way down. Rows enter where they read last; rows must be sorted by that, from the last site to the first.

    Yields a `Stage` at each site in `cuts` and `see`, and one at the tokens. Stages share memory: use each before
    asking for the next. Below a cut the cotangent that was there is gone; what reads at that site, and what `carry`
    holds for it, goes on. Positions after the last of the rows are left out, since no row can depend on them.

    carry: cotangents (n, pos, d_model) of all rows so far that the caller puts in, by site, while the rows are above
    it; None if nothing will be, and then rows that have nothing left below a cut are dropped.
    constants: (n,) of the rows, and what biases have added on the way.
    """

    view: LinearView
    rows: Rows
    cuts: frozenset[Site] = frozenset()
    see: frozenset[Site] = frozenset()
    carry: dict[Site, Tensor] | None = None
    first: int = field(default=0, init=False)  # rows before this one have nothing left below
    active: int = field(default=0, init=False)  # rows up to this one have entered

    def __post_init__(self) -> None:
        for site in (*self.cuts, *(part.site for part in self.rows.parts)):
            if site.point not in (CUT if site in self.cuts else READ):
                raise HookeError(f"the linear view does not pass {site}")
        last = self.rows.last_sites()
        if any(a < b for a, b in pairwise(last)):
            raise HookeError("rows must be sorted from the last site to the first")
        self.lowest = list(last)  # the first site that each row reads
        self.reading: dict[Site, list[Part]] = {}
        self.entering: dict[Site, int] = {}
        for part in self.rows.parts:
            self.reading.setdefault(part.site, []).append(part)
            for i in part.rows.tolist():
                self.lowest[i] = min(self.lowest[i], part.site)
        for site in last:
            self.entering[site] = self.entering.get(site, 0) + 1
        self.n_pos = int(self.rows.positions.max()) + 1
        width = self.view.tokens().shape[1]
        self.constants = self.rows.constants.to(self.view.dtype).clone()
        self.stream = self.view.tokens().new_zeros(len(self.rows), self.n_pos, width)

    def __iter__(self) -> Iterator[Stage]:
        view, parts = self.view, self.view.parts
        self._enter(Site("final_norm"))
        for layer in reversed(range(parts.n_layers)):
            yield from self._at_stream(Site("resid_post", layer))
            # a parallel block reads the stream before the MLP's share of the cotangent comes to it
            beside = self.stream[self.first : self.active].clone() if parts.parallel else None
            yield from self._mlp(layer)
            if not parts.parallel:
                yield from self._at_stream(Site("resid_mid", layer))
            above = self.stream[self.first : self.active] if beside is None else beside
            into = yield from self._branch(Site("attn_out", layer), above)
            if into is not None:
                self._constant(into, view.attn_constant(layer))
                if layer in view.links:
                    yield Stage(Site("z", layer), self.first, view.at_links(layer, into))
                self.stream[self.first : self.first + len(into)] += view.pull_attend(layer, into)
            yield from self._at_stream(Site("resid_pre", layer))
        yield Stage(None, self.first, self.stream[self.first : self.active])

    def put(self, site: Site, cotangents: Tensor) -> None:
        """Let cotangents (n, pos, d_model) of the rows so far go on from a site further down."""
        if self.carry is None:
            raise HookeError("nothing can be put into a way down that drops the rows that are done")
        before = self.carry.get(site)
        self.carry[site] = cotangents if before is None else _sum(before, cotangents)

    def _mlp(self, layer: int) -> Iterator[Stage]:
        """The way through one MLP, back into the stream."""
        view, block = self.view, self.view.parts.blocks[layer]
        proj, read = Site("mlp_proj", layer), Site("mlp_in", layer)
        out = yield from self._branch(Site("mlp_out", layer), self.stream[self.first : self.active])
        down = None
        if out is not None:
            if block.mlp_post_norm is not None and block.mlp_post_norm.bias is not None:
                self._constant(out, block.mlp_post_norm.bias.to(out.dtype).expand(self.n_pos, -1))
            down = view.pull_mlp_out(layer, out)
        down = yield from self._branch(proj, down)
        into = None
        if down is not None:
            self._constant(down, view.mlp_constant(layer))
            into = view.pull_mlp(layer, down)
        if into is not None and read in self.see:
            yield Stage(read, self.first, into)
        into = self._with_carried(read, into)
        norm = block.mlp_norm
        if into is not None:
            if norm is not None and norm.bias is not None:
                self._constant(into, norm.bias.to(into.dtype).expand(self.n_pos, -1))
            pulled = view.pull_norm(norm, Site("mlp_scale", layer), into)
            self.stream[self.first : self.first + len(pulled)] += pulled
        self._enter(read)

    def _at_stream(self, site: Site) -> Iterator[Stage]:
        """The stream at one of its sites."""
        if (site in self.cuts or site in self.see) and self.active > self.first:
            yield Stage(site, self.first, self.stream[self.first : self.active])
        if site in self.cuts:
            self.stream[self.first : self.active] = 0
            if self.carry is None:  # rows that read nothing further down are done
                while self.first < self.active and self.lowest[self.first] > site:
                    self.first += 1
        carried = self._with_carried(site, None)
        if carried is not None:
            self.stream[self.first : self.first + len(carried)] += carried
        self._enter(site)

    def _branch(self, site: Site, x: Tensor | None) -> Generator[Stage, None, Tensor | None]:
        """What goes on at a site beside the stream: x (n, pos, d_model) of the active rows unless it is cut, and what
        enters there. None for nothing."""
        if x is None and site in self.cuts and self.carry is not None:  # a caller may wait for this site
            x = torch.zeros_like(self.stream[self.first : self.active])
        if x is not None and len(x) and (site in self.cuts or site in self.see):
            yield Stage(site, self.first, x)
        if site in self.cuts or (x is not None and not len(x)):
            x = None
        x = self._with_carried(site, x)
        if site not in self.reading:
            return x
        self.active += self.entering.get(site, 0)
        whole = self.stream.new_zeros(self.active - self.first, self.n_pos, self.stream.shape[-1])
        if x is not None:
            whole[: len(x)] = x
        for part in self.reading.get(site, ()):
            whole[part.rows - self.first, self._places(part)] += part.vectors.to(whole.dtype)
        return whole

    def _with_carried(self, site: Site, x: Tensor | None) -> Tensor | None:
        """x (n, pos, d_model) and what the caller has put in at a site, of as many rows as either has."""
        carried = None if self.carry is None else self.carry.pop(site, None)
        if carried is None or x is None:
            return x if carried is None else carried
        return _sum(x, carried)

    def _enter(self, site: Site) -> None:
        """Put what rows read at a site of the stream, or through a norm of it, into the stream."""
        self.active += self.entering.get(site, 0)
        norm, scale = None, Site("final_scale")
        if site.point == "final_norm":
            norm = self.view.parts.final_norm
        elif site.point == "mlp_in":
            norm, scale = self.view.parts.blocks[site.layer or 0].mlp_norm, Site("mlp_scale", site.layer)
        for part in self.reading.get(site, ()):
            rows, at, vectors = part.rows, self._places(part), part.vectors.to(self.stream.dtype)
            if norm is not None and norm.bias is not None and not self.view.live:
                self.constants[rows] += vectors @ norm.bias.to(vectors.dtype)
            vectors = self.view.pull_norm(norm, scale, vectors, at)
            self.stream[rows, at] += vectors

    def _places(self, part: Part) -> Tensor:
        """Where the rows of a part read."""
        return self.rows.positions[part.rows] if part.positions is None else part.positions

    def _constant(self, cotangents: Tensor, value: Tensor | None) -> None:
        """Add what a constant in the map (pos, d_model) is worth to each row."""
        if value is None or self.view.live:
            return
        worth = torch.einsum("npd,pd->n", cotangents, value[: self.n_pos])
        self.constants[self.first : self.first + len(worth)] += worth


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """Cotangents of the first rows added up, of as many rows as either has."""
    more, fewer = (a, b) if len(a) >= len(b) else (b, a)
    total = more.clone()
    total[: len(fewer)] += fewer
    return total
