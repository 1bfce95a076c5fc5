"""The live linear view: how a model on one prompt changes with what is written to the stream.

Norms, attention patterns and what MLPs let through move with their inputs, so what reaches a reader from a writer is
the derivative itself. A cotangent that comes to attention goes on through the values, with the pattern as it is, and
through the pattern to queries and keys: softmax, soft caps, rotations and norms of queries and keys among them, as the
model's own code computes them (DESIGN 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from hooke.model import local_mlp
from hooke.model.attend import Heads, run_heads
from hooke.model.budget import budget
from hooke.model.families import Norm
from hooke.model.hooks import attached
from hooke.model.linear_view import LinearView
from hooke.model.run import Tokens
from hooke.sites import Site

if TYPE_CHECKING:
    from hooke.model.model import Model


class Attention(NamedTuple):
    """What attention of a layer multiplies, with the graph from queries and keys before their norms and rotations."""

    queries: Tensor  # (1, pos, head, d_head), before
    keys: Tensor  # (1, pos, kv_head, d_head), before
    values: Tensor  # (head, pos, d_head)
    heads: Heads  # after


@dataclass
class LiveView(LinearView):
    """The derivative at the values of a held view. It has no constants: it says what changes, not what is there."""

    live: ClassVar[bool] = True
    attention: list[Attention] = field(default_factory=list)  # by layer
    _known_turns: dict[tuple[int, str], Tensor | None] = field(default_factory=dict)
    _before: dict[Site, Tensor] = field(default_factory=dict)  # what a norm takes, by its denominator

    def pull_norm(self, norm: Norm | None, scale: Site, cotangent: Tensor, at: Tensor | None = None) -> Tensor:
        """Cotangents (… pos d_model) after a norm to before it; at: of these positions (default: of the first ones)."""
        if norm is None:
            return cotangent
        here = slice(cotangent.shape[-2]) if at is None else at
        return norm.pull_live(cotangent, self.scales[scale][here], self._taken(scale)[here])

    def pull_attend(self, layer: int, cotangent: Tensor) -> Tensor:
        """Cotangent at attn_out (n pos d_model) to resid_pre: through values, and through queries and keys."""
        block, parts, own = self.parts.blocks[layer], self.parts, self.attention[layer]
        n, n_pos, _ = cotangent.shape
        cotangent = self.pull_norm(block.attn_post_norm, Site("attn_post_scale", layer), cotangent)
        z = (cotangent @ block.o.weight.to(self.dtype)).view(n, n_pos, parts.n_heads, parts.d_head)
        z = z.permute(2, 1, 0, 3)  # head query row d_head
        pattern = self.patterns[layer][:, :n_pos, :n_pos]
        by_pattern = z.flatten(1, 2) @ own.values[:, :n_pos].transpose(1, 2)
        by_pattern = by_pattern.view(parts.n_heads, n_pos, n, n_pos)
        through = pattern
        if layer in self.links:
            head, query, key = self._cut(layer, n_pos).T
            by_pattern[head, query, :, key] = 0.0
            through = pattern.index_put((head, query, key), pattern.new_zeros(()))
        to_scores = by_pattern - (pattern[:, :, None] * by_pattern).sum(-1, keepdim=True)
        to_scores *= (pattern * self._slope(layer)[:, :n_pos, :n_pos])[:, :, None]  # head query row key
        moved = through.transpose(1, 2) @ z.reshape(parts.n_heads, n_pos, n * parts.d_head)
        v = moved.view(parts.n_kv_heads, -1, n_pos, n, parts.d_head).sum(1).permute(2, 1, 0, 3)
        queries, keys = self._before_rotation(layer, to_scores)
        # of one axis of rows each: torch would copy the matrix for every row of what lies otherwise
        into = v.reshape(n * n_pos, -1) @ block.v.weight.to(self.dtype)
        into += queries.reshape(n * n_pos, -1) @ block.q.weight.to(self.dtype)
        into += keys.reshape(n * n_pos, -1) @ block.k.weight.to(self.dtype)
        return self.pull_norm(block.attn_norm, Site("attn_scale", layer), into.view(n, n_pos, -1))

    def with_links(self, places: Tensor) -> LiveView:
        """The same map, cut at links (n, 4) of layer, head, query and key: nothing passes what these bring."""
        by_layer = {int(layer): places[places[:, 0] == layer, 1:] for layer in places[:, 0].unique()}
        return replace(self, links=by_layer)

    def link_readers(self, layer: int, places: Tensor, toward: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How much what links (n, 3) of a layer bring, times `toward` (n, d_head), changes with the stream that enters
        the layer, by value, by query and by key: (n, pos, d_model) each. The key's has how all keys compete."""
        block, parts, own = self.parts.blocks[layer], self.parts, self.attention[layer]
        head, query, key = places.T
        pattern, n, n_pos = self.patterns[layer][head, query], len(places), self.n_tokens
        each = torch.arange(n, device=places.device)
        worth = (own.values[head, key] * toward).sum(-1, keepdim=True)
        seen = torch.nn.functional.one_hot(key, n_pos).to(pattern) - pattern[each, key, None]
        scores = pattern.new_zeros(parts.n_heads, n_pos, n, n_pos)
        scores[head, query, each] = worth * pattern * seen * self._slope(layer)[head, query]
        values = pattern.new_zeros(n, n_pos, parts.n_kv_heads, parts.d_head)
        values[each, key, head // (parts.n_heads // parts.n_kv_heads)] = pattern[each, key, None] * toward
        queries, keys = self._before_rotation(layer, scores)
        return tuple(  # type: ignore[return-value]
            self.pull_norm(block.attn_norm, Site("attn_scale", layer), x.flatten(2) @ linear.weight.to(self.dtype))
            for x, linear in ((values, block.v), (queries, block.q), (keys, block.k))
        )

    def _cut(self, layer: int, n_pos: int) -> Tensor:
        """(n, 3): the links of a layer that are cut, of the first positions."""
        return self.links[layer][self.links[layer][:, 1] < n_pos]

    def _before_rotation(self, layer: int, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Cotangents of query-key products (head query n key) to queries and keys before norms and rotations, (n pos
        head d_head) and (n pos kv_head d_head)."""
        own, parts = self.attention[layer], self.parts
        heads, n_pos, n, _ = scores.shape
        q, k = (x.detach().to(self.dtype).transpose(0, 1)[:, :n_pos] for x in (own.heads.queries, own.heads.keys))
        k = k.repeat_interleave(heads // parts.n_kv_heads, 0)
        to_q = scores.flatten(1, 2) @ k  # head (query row) d_head
        to_k = scores.permute(0, 3, 2, 1).flatten(1, 2) @ q  # head (key row) d_head
        to_k = to_k.view(parts.n_kv_heads, -1, n_pos * n, parts.d_head).sum(1)
        to_q, to_k = to_q.unflatten(1, (n_pos, n)), to_k.unflatten(1, (n_pos, n))
        return self._turned_back(layer, "queries", to_q), self._turned_back(layer, "keys", to_k)

    def _turned_back(self, layer: int, which: Literal["queries", "keys"], to: Tensor) -> Tensor:
        """Cotangents after norms and rotations of heads (head pos n d_head) to before them (n pos head d_head)."""
        _, n_pos, n, _ = to.shape
        turns = self._turns(layer, which)
        if turns is not None:
            return (to @ turns[:, :n_pos]).permute(2, 1, 0, 3)
        leaf, after = getattr(self.attention[layer], which), getattr(self.attention[layer].heads, which)
        given = after.new_zeros(n, *after.shape)
        given[:, :n_pos] = to.permute(2, 1, 0, 3)
        (x,) = torch.autograd.grad(after, leaf, given, retain_graph=True, is_grads_batched=True)
        return x[:, 0, :n_pos].to(self.dtype)

    def _turns(self, layer: int, which: Literal["queries", "keys"]) -> Tensor | None:
        """The derivative of norms and rotations of heads as matrices (head pos d_head d_head), with one head if it is
        the same for all. None where a norm mixes heads, or where they would be too large."""
        if (layer, which) not in self._known_turns:
            self._known_turns[layer, which] = self._find_turns(layer, which)
        return self._known_turns[layer, which]

    def _find_turns(self, layer: int, which: Literal["queries", "keys"]) -> Tensor | None:
        leaf, after = getattr(self.attention[layer], which), getattr(self.attention[layer].heads, which)
        n_pos, heads, width = after.shape
        if 2 * len(self.attention) * after.numel() * width * self.dtype.itemsize > budget(leaf.device).free // 8:
            return None

        def back(given: Tensor) -> Tensor:
            given = given.to(after.dtype)
            (x,) = torch.autograd.grad(after, leaf, given, retain_graph=True, is_grads_batched=True)
            return x[:, 0].to(self.dtype)

        ones = torch.eye(width, device=leaf.device)[:, None, None].expand(-1, n_pos, heads, -1)
        found = back(ones).permute(2, 1, 0, 3)  # head pos after before
        some = torch.randn(1, *after.shape, generator=torch.Generator().manual_seed(0)).to(leaf.device, self.dtype)
        wanted, size = back(some)[0], 2 * torch.finfo(leaf.dtype).eps * width * float(found.abs().max())
        if not bool(((torch.einsum("phe,hped->phd", some[0], found) - wanted).abs() <= size * some.abs().max()).all()):
            return None
        same = bool((found - found[:1]).abs().max() <= size / width)
        return (found[:1] if same else found).contiguous()

    def _slope(self, layer: int) -> Tensor:
        """(head, query, key): how a score changes with the product of its query and key."""
        own = self.attention[layer].heads
        if own.softcap is None:
            return torch.full_like(self.patterns[layer], own.scale)
        scores = own.scores(own.queries.detach(), own.keys.detach()).nan_to_num(neginf=0.0)
        return (own.scale * (1 - (scores / own.softcap) ** 2)).to(self.dtype)

    def pull_mlp(self, layer: int, cotangent: Tensor) -> Tensor:
        """Cotangent at mlp_proj (n pos d_model) to mlp_in."""
        block = self.parts.blocks[layer]
        act = cotangent @ block.down.weight.to(cotangent.dtype)
        at = self.values[Site("mlp_in", layer)][: cotangent.shape[1]]
        return local_mlp.push_back(block, act, at, live=True)

    def _taken(self, scale: Site) -> Tensor:
        """(pos, d_model): what the norm of a denominator takes."""
        if scale not in self._before:
            self._before[scale] = self._find(scale)
        return self._before[scale]

    def _find(self, scale: Site) -> Tensor:
        layer, parts = scale.layer or 0, self.parts
        if scale.point == "final_scale":
            return self.values[Site("resid_pre", parts.n_layers)]
        if scale.point == "attn_scale":
            return self.values[Site("resid_pre", layer)]
        if scale.point == "mlp_post_scale":
            return self.values[Site("mlp_proj", layer)]
        if scale.point == "mlp_scale":
            return self.values[Site("resid_pre" if parts.parallel else "resid_mid", layer)]
        z = self.patterns[layer] @ self.attention[layer].values
        return parts.blocks[layer].o.apply(z.transpose(0, 1).flatten(1))


def live_view(model: Model, held: LinearView) -> LiveView:
    """The derivative at the values of a held view: one run, in which queries and keys of each layer keep a graph."""
    parts = model.parts
    layers = range(parts.n_layers)
    leaves: dict[Site, Tensor] = {}
    values: list[Tensor] = []

    def visit(site: Site, x: Tensor) -> Tensor:
        if site.point == "resid_pre":  # no graph reaches from one layer to another
            return x.detach()
        leaves[site] = x.detach().requires_grad_()
        return leaves[site]

    def keep(heads: Heads, v: Tensor) -> None:
        found.append(heads)
        v = v[0].detach().to(held.dtype)
        values.append(v.repeat_interleave(parts.n_heads // parts.n_kv_heads, 0))

    found: list[Heads] = []
    tokens = Tokens(held.ids[None], torch.ones_like(held.ids[None], dtype=torch.bool))
    sites = [Site(point, layer) for point in ("resid_pre", "q", "k") for layer in layers]
    with model.held(grad=True), torch.enable_grad(), attached(model.hf, parts, sites, visit):
        run_heads(model, tokens, keep)
    own = [
        Attention(leaves[Site("q", layer)], leaves[Site("k", layer)], values[layer], found[layer]) for layer in layers
    ]
    return LiveView(**{f.name: getattr(held, f.name) for f in fields(LinearView)}, attention=own)
