"""Runs of pairs of prompts in which edges are cut or mixed: what a reader takes of a writer comes from this run or from
the other one. `computation_graph.py` has the equation.

What changes nothing is left out. Positions before the first at which a pair differs. Layers before the first reader
that mixes: they are as in the run itself, or, if everything is cut there, as in the other one. Readers of which every
edge is kept, or every edge is cut: they take what the run, or the other run, has there. And writers whose edges are all
alike in this way. Small circuits are run as the other run and what kept edges bring, large ones as the run itself less
what cut edges take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.computation_graph import HEAD_PARTS, ComputationGraph, Part, Tap, by_head, normed
from hooke.model import Model, Tokens
from hooke.model.budget import budget
from hooke.model.run import Activations, Prefix
from hooke.sites import Site


class PairRuns(NamedTuple):
    """Pairs of prompts, and what both give as they are.

    tokens: the clean prompts, or what is left of them after their common beginning. clean, other: reads of
    `edge_sites` of the clean and of the corrupt prompts. after: what both begin with.
    """

    tokens: Tokens
    clean: Activations
    other: Activations
    after: Prefix | None = None

    def rows(self, at: Tensor) -> PairRuns:
        """Some of the pairs."""
        own, other = (Activations({site: x[at] for site, x in acts.items()}) for acts in (self.clean, self.other))
        return PairRuns(self.tokens.rows(at), own, other, self.after)


def pair_runs(model: Model, clean: Tokens, corrupt: Tokens) -> PairRuns:
    """Run pairs of prompts, of the same length each, as they are."""
    sites = edge_sites(model)
    with torch.no_grad():
        own, other = (model.run(tokens, read=sites, logits=None).acts for tokens in (clean, corrupt))
    return PairRuns(clean, own, other)


def begun_pair(model: Model, clean: Tokens, corrupt: Tokens, sites: list[Site] | None = None) -> PairRuns:
    """The same of one pair without padding, from the first position where it differs. sites: what is read, if it is not
    for edges. Raises HookeError for two equal prompts."""
    one, two = clean.ids[0], corrupt.ids[0]
    differ = (one != two).nonzero()
    if not len(differ):
        raise HookeError("the clean and the corrupt prompt are the same; change at least one token")
    begin, read = int(differ[0]), edge_sites(model) if sites is None else sites
    after = model.prefix(one[:begin]) if begin else None
    rest = [Tokens(ids[None, begin:], torch.ones_like(ids[None, begin:], dtype=torch.bool)) for ids in (one, two)]
    with torch.no_grad():
        own, other = (model.run(tokens, read=read, logits=None, after=after).acts for tokens in rest)
    return PairRuns(rest[0], own, other, after)


def edge_sites(model: Model) -> list[Site]:
    """What runs with cut edges need of both plain runs."""
    found = [Site("final_norm"), Site("resid_post", model.parts.n_layers - 1)]
    for layer, block in enumerate(model.parts.blocks):
        found += [Site(p, layer) for p in ("resid_pre", "q", "k", "v", "z", "mlp_in", "mlp_out")]
        if not model.parts.parallel:
            found.append(Site("resid_mid", layer))
        if block.attn_post_norm is not None:
            found.append(Site("attn_post_scale", layer))
    return found


def rows_at_once(model: Model, n_pos: int) -> int:
    """How many rows of prompts of a length make one pass: what all writers give, and what readers of a layer take."""
    parts, room = model.parts, budget(model.device)
    at_once = len(ComputationGraph.of(parts).writers) + 3 * (parts.n_heads + 2 * parts.n_kv_heads)
    return max(1, min(room.busy // n_pos, room.fit(model.dtype.itemsize * n_pos * parts.d_model * at_once)))


def run_edges(
    model: Model, pairs: PairRuns, keep: Tensor, *, grad: bool = False, logits: Literal["all", "last"] = "all"
) -> Tensor:
    """Run the clean prompts with every edge mixed: keep times what its writer gives in this run, the rest from the
    other run.

    keep: (n or 1, n_readers, n_writers) from 0 (cut) to 1 (kept), for the prompts n / batch times over, one whole batch
    after another, or one mask for all. With all of it at 1 this is a plain run, with all at 0 the other one.
    grad: whether it can be differentiated by `keep`.
    Returns the logits, (n pos d_vocab) or (n d_vocab) at the last position.
    """
    times = max(1, len(keep) // len(pairs.tokens.ids))
    mixed = _Mixed.of(model, pairs, keep, grad)
    tokens = pairs.tokens.times(times)
    entering = None
    if mixed.first:
        entering = (mixed.first, pairs.clean[Site("resid_pre", mixed.first)].repeat(times, 1, 1))
    with torch.set_grad_enabled(grad):
        run = model.run(tokens, taps=mixed.taps(), grad=grad, logits=logits, after=pairs.after, entering=entering)
    assert run.logits is not None
    return run.logits


@dataclass
class _Mixed:
    """One pass in which readers take sums of their own.

    few: whether they take the other run and what kept edges bring, or this one less what cut edges take.
    share: (n or 1, n_readers, n_used) how much of a writer's change a reader's sum has more than its base. used: which
    writers have a share anywhere; mixes: which readers. first: the layer at which the pass begins.
    live: what each used writer gives in this pass less what it gives in the other run, (n, pos d).
    """

    model: Model
    pairs: PairRuns
    graph: ComputationGraph
    few: bool
    share: Tensor
    used: Tensor
    mixes: Tensor
    first: int
    grad: bool
    live: list[Tensor] = field(default_factory=list)
    together: Tensor | None = None  # the same in one tensor, written in place where nothing is differentiated
    stream: dict[Site, Tensor] = field(default_factory=dict)
    taken: dict[int, Tensor] = field(default_factory=dict)  # by layer: what the mixed q, k and v inputs take

    @classmethod
    def of(cls, model: Model, pairs: PairRuns, keep: Tensor, grad: bool) -> _Mixed:
        parts, graph = model.parts, ComputationGraph.of(model.parts)
        edges, keep = graph.edges.to(model.device), keep.to(model.device, model.dtype)
        kept, cut = edges & (keep.detach() != 0), edges & (keep.detach() != 1)
        few = not grad and int(kept.sum()) <= int(cut.sum())
        # with a post-norm, the bias of W_O is scaled by a denominator, the run's own: no kept edge brings that
        few = few and not any(b.attn_post_norm is not None and b.o.bias is not None for b in parts.blocks)
        chosen = edges[None] if grad else kept if few else cut
        used, mixes = chosen.any(0).any(0), chosen.any(0).any(1)
        share = (keep if few else keep - 1) * edges
        layers = [graph.readers[r].layer for r in mixes.nonzero()[:, 0].tolist()]
        first = 0 if grad else min((x for x in layers if x is not None), default=parts.n_layers - 1)
        found = cls(model, pairs, graph, few, share[:, :, used], used, mixes, first, grad)
        found._begin(max(len(keep), len(pairs.tokens.ids)))
        return found

    def _begin(self, n: int) -> None:
        """What writers before the first layer give."""
        n_pos, width = self.pairs.tokens.ids.shape[1], self.model.parts.d_model
        if not self.grad:
            shape = (n, int(self.used.sum()), n_pos * width)
            self.together = torch.zeros(shape, dtype=self.model.dtype, device=self.model.device)
        if not self.first:
            return
        self._note(0, self.pairs.clean[Site("resid_pre", 0)].repeat(n // len(self.pairs.tokens.ids), 1, 1))
        for layer in range(self.first):
            # as in the run itself; or everything is cut there, and they give what they give in the other one
            source = self.pairs.other if self.few else self.pairs.clean
            times = n // len(self.pairs.tokens.ids)
            z, scaled = self.attended(layer)
            z(source[Site("z", layer)].repeat(times, 1, 1, 1))
            if self.model.parts.blocks[layer].attn_post_norm is not None:
                scaled(source[Site("attn_post_scale", layer)].repeat(times, 1, 1))
            self._note(self.graph.mlp(layer), source[Site("mlp_out", layer)].repeat(times, 1, 1))

    def _less(self, site: Site, x: Tensor) -> Tensor:
        """A value of this pass (n …) less that of the other run."""
        other = self.pairs.other[site]
        return (x.unflatten(0, (-1, len(other))) - other).flatten(0, 1)

    def _other(self, site: Site, n: int) -> Tensor:
        other = self.pairs.other[site]
        return other.repeat(n // len(other), *[1] * (other.ndim - 1))

    def _note(self, writer: int, x: Tensor) -> None:
        """What the input or an MLP gives in this pass, (n pos d)."""
        if bool(self.used[writer]):
            site = Site("resid_pre", 0) if writer == 0 else Site("mlp_out", writer // (self.graph.n_heads + 1) - 1)
            self._add(writer, self._less(site, x)[:, None])

    def _add(self, first: int, change: Tensor) -> None:
        """Changes (n, writers, pos, d) of used writers from `first` on."""
        at = int(self.used[:first].sum())
        if self.together is None:
            self.live += change.flatten(2).unbind(1)
        else:
            self.together[:, at : at + change.shape[1]] = change.flatten(2)

    def mix(self, site: Site, rows: Tensor) -> Tensor:
        """(n, reader, pos, d_model): what readers at one place take."""
        n_used = int(self.used[: self.graph.readers[int(rows[0])].before].sum())
        gone = torch.stack(self.live[:n_used], 1) if self.together is None else self.together[:, :n_used]
        base = self._other(site, len(gone)) if self.few else self.stream[site]
        moved = self.share[:, rows, :n_used].expand(len(gone), -1, -1) @ gone
        return base[:, None] + moved.unflatten(2, base.shape[1:])

    def remember(self, site: Site) -> Tap:
        def tap(x: Tensor) -> Tensor:
            self.stream[site] = x
            if site == Site("resid_pre", 0):
                self._note(0, x)
            return x

        return tap

    def project(self, layer: int, part: Part) -> Tap:
        """The queries, keys or values of a layer."""
        own = self.graph.rows(layer, part)
        heads = self.mixes[own].nonzero()[:, 0]
        every = slice(self.graph.rows(layer, "q").start, self.graph.rows(layer, "v").stop)
        rows = self.mixes[every].nonzero()[:, 0] + every.start

        def tap(x: Tensor) -> Tensor:
            if not len(heads):
                return self._other(Site(part, layer), len(x)) if self.few else x
            block = self.model.parts.blocks[layer]
            if layer not in self.taken:
                self.taken.clear()
                self.taken[layer] = normed(block.attn_norm, self.mix(Site("resid_pre", layer), rows))
            mine = self.taken[layer][:, (rows >= own.start) & (rows < own.stop)]
            linear = {"q": block.q, "k": block.k, "v": block.v}[part]
            y = torch.einsum("nrpd,red->npre", mine, linear.weight.to(x.dtype).unflatten(0, x.shape[2:])[heads])
            if linear.bias is not None:
                y = y + linear.bias.to(x.dtype).view(x.shape[2:])[heads]
            if len(heads) == x.shape[2]:
                return y
            out = (self._other(Site(part, layer), len(x)) if self.few else x).clone()
            out[:, :, heads] = y
            return out

        return tap

    def attended(self, layer: int) -> tuple[Tap, Tap]:
        """What heads give: at z, or behind a norm after attention at its denominator."""
        block, own = self.model.parts.blocks[layer], self.graph.heads(layer)
        heads = self.used[own].nonzero()[:, 0]
        z_site, scale_site = Site("z", layer), Site("attn_post_scale", layer)
        kept: list[Tensor] = []

        def z(x: Tensor) -> Tensor:
            kept[:] = [x]
            if len(heads) and block.attn_post_norm is None:
                w = block.o.weight.to(x.dtype).unflatten(1, x.shape[2:])[:, heads]
                self._add(own.start, torch.einsum("nphe,dhe->nhpd", self._less(z_site, x)[:, :, heads], w))
            return x

        def scaled(x: Tensor) -> Tensor:
            if len(heads):
                mine = by_head(block, kept[0], torch.where(x == 0, 1, x))  # reads are 0 on padding
                other = self._other(scale_site, len(x))
                theirs = by_head(block, self._other(z_site, len(x)), torch.where(other == 0, 1, other))
                self._add(own.start, (mine - theirs)[heads].transpose(0, 1))
            return x

        return z, scaled

    def into_mlp(self, layer: int) -> Tap:
        row = self.graph.rows(layer, "mlp").start
        base = Site("resid_pre" if self.model.parts.parallel else "resid_mid", layer)

        def tap(x: Tensor) -> Tensor:
            if not bool(self.mixes[row]):
                return self._other(Site("mlp_in", layer), len(x)) if self.few else x
            at = torch.tensor([row], device=self.model.device)
            return normed(self.model.parts.blocks[layer].mlp_norm, self.mix(base, at)[:, 0])

        return tap

    def out_of_mlp(self, layer: int) -> Tap:
        number = self.graph.mlp(layer)

        def tap(x: Tensor) -> Tensor:
            if self.model.parts.parallel and Site("z", layer) not in self.stream:
                raise HookeError("this family runs its MLP first in a parallel block, which circuits do not read yet")
            self._note(number, x)
            return x

        return tap

    def final(self, x: Tensor) -> Tensor:
        site, row = Site("resid_post", self.model.parts.n_layers - 1), len(self.graph.readers) - 1
        if not bool(self.mixes[row]):
            return self._other(Site("final_norm"), len(x)) if self.few else x
        at = torch.tensor([row], device=self.model.device)
        return normed(self.model.parts.final_norm, self.mix(site, at)[:, 0])

    def taps(self) -> dict[Site, Callable[[Tensor], Tensor]]:
        """What the model is run with."""
        parts = self.model.parts
        found: dict[Site, Tap] = {}
        for layer in range(self.first, parts.n_layers):
            found[Site("resid_pre", layer)] = self.remember(Site("resid_pre", layer))
            for part in HEAD_PARTS:
                found[Site(part, layer)] = self.project(layer, part)
            z, scaled = self.attended(layer)
            found[Site("z", layer)] = self._noting(Site("z", layer), z)
            if parts.blocks[layer].attn_post_norm is not None:
                found[Site("attn_post_scale", layer)] = scaled
            if not parts.parallel:
                found[Site("resid_mid", layer)] = self.remember(Site("resid_mid", layer))
            found[Site("mlp_in", layer)], found[Site("mlp_out", layer)] = self.into_mlp(layer), self.out_of_mlp(layer)
        last = Site("resid_post", parts.n_layers - 1)
        found[last] = self.remember(last)
        found[Site("final_norm")] = self.final
        return found

    def _noting(self, site: Site, tap: Tap) -> Tap:
        """A tap that also notes that it was reached."""
        remember = self.remember(site)
        return lambda x: tap(remember(x))
