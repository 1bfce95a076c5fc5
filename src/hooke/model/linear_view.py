"""The view linear view: a model on one prompt with attention patterns and norm denominators held, and MLPs by a
local linear rule (`local_mlp`) where no dictionary takes their place.

Then the stream is linear in what is written to it, so every attribution from writers to readers is
this one map. `Descent` sends readers down it, all rows at once: no autograd, no queries and
keys (DESIGN 4; "Circuit Tracing", Ameisen et al. 2025, the local replacement model).

A dictionary cuts the map where it writes: what stands there is what its features write, and what they leave over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.model import local_mlp
from hooke.model.families import Norm, Parts
from hooke.sites import Site

if TYPE_CHECKING:
    from hooke.model.model import Model
    from hooke.model.run import Activations, Tokens

READ = ("resid_pre", "attn_out", "resid_mid", "mlp_in", "mlp_proj", "mlp_out", "resid_post", "final_norm")
CUT = ("resid_pre", "attn_out", "resid_mid", "mlp_proj", "mlp_out", "resid_post")


class Part(NamedTuple):
    """What some rows read at one site: row `rows[i]` reads `vectors[i]`, at its row's position or at `positions[i]`
    before that; no row twice at one position."""

    site: Site  # of a point in READ
    rows: Tensor  # (m,)
    vectors: Tensor  # (m, d_model)
    positions: Tensor | None = None  # (m,)


@dataclass
class Rows:
    """Readers to send down: row i is the sum over its parts of vector · (value at the site, positions[i]), plus
    constants[i]."""

    positions: Tensor  # (n,)
    constants: Tensor  # (n,)
    parts: list[Part]

    def __len__(self) -> int:
        return len(self.positions)

    @classmethod
    def at(cls, site: Site, positions: Tensor, vectors: Tensor, constants: Tensor) -> Rows:
        """Rows that all read one site."""
        return cls(positions, constants, [Part(site, torch.arange(len(positions), device=positions.device), vectors)])

    def take(self, at: Tensor) -> Rows:
        """The rows of these numbers, in this order."""
        place = torch.full((len(self),), -1, device=at.device)
        place[at] = torch.arange(len(at), device=at.device)
        parts = []
        for site, rows, vectors, positions in self.parts:
            here = place[rows] >= 0
            if bool(here.any()):
                own = None if positions is None else positions[here]
                parts.append(Part(site, place[rows[here]], vectors[here], own))
        return Rows(self.positions[at], self.constants[at], parts)

    def join(self, other: Rows) -> Rows:
        """These rows, and others after them."""
        moved = [part._replace(rows=part.rows + len(self)) for part in other.parts]
        positions = torch.cat([self.positions, other.positions])
        return Rows(positions, torch.cat([self.constants, other.constants]), [*self.parts, *moved])

    def last_sites(self) -> list[Site]:
        """The last site that each row reads."""
        out: list[Site | None] = [None] * len(self)
        for site, rows, *_ in self.parts:
            for i in rows.tolist():
                before = out[i]
                out[i] = site if before is None or before < site else before
        if any(site is None for site in out):
            raise HookeError("a row reads nothing")
        return [site for site in out if site is not None]


class Stage(NamedTuple):
    """Where the rows have come to: cotangents (n, pos, d_model) of rows `first` and following, at a site; at the tokens
    themselves, in the end, where the site is None. At z of a layer whose links are cut: those of what each link brings,
    (n, link, d_head)."""

    site: Site | None
    first: int
    cotangents: Tensor


@dataclass
class LinearView:
    """One prompt's patterns and denominators, and the values that the map is exact for.

    All tensors are of one prompt, positions first, in fp32 (fp64 for an fp64 model).
    """

    live: ClassVar[bool] = False  # whether it is the derivative (`live.py`)
    parts: Parts
    ids: Tensor  # (pos,)
    dtype: torch.dtype
    values: dict[Site, Tensor]  # (pos, d_model): the model's own resid_pre.0 and mlp_proj, and what the map makes of it
    patterns: list[Tensor]  # (head, query, key) of each layer
    scales: dict[Site, Tensor]  # (pos, 1)
    logits: Tensor  # (d_vocab,) of the last position, the model's own, before any soft cap
    replayed: Tensor  # (d_vocab,) the same from the linear map
    links: dict[int, Tensor] = field(default_factory=dict)  # by layer (n, 3): head, query, key of links that cut it
    _consts: dict[Site, Tensor | None] = field(default_factory=dict)

    @property
    def n_tokens(self) -> int:
        return len(self.ids)

    def tokens(self) -> Tensor:
        """(pos, d_model): the embedded tokens, which are the stream entering layer 0."""
        return self.values[Site("resid_pre", 0)]

    def value(self, site: Site) -> Tensor:
        """(pos, d_model): what stands at a site of a point in READ, by the map."""
        layer = site.layer or 0
        if site.point == "resid_post":
            return self.values[Site("resid_pre", layer + 1)]  # of the last layer, the final stream
        if site.point == "attn_out":
            return self.attend(layer, self.values[Site("resid_pre", layer)])
        if site.point == "mlp_out":
            return self.after_mlp(layer, self.values[Site("mlp_proj", layer)])
        return self.values[site]

    def attend(self, layer: int, x: Tensor, *, bias: bool = True) -> Tensor:
        """What attention adds to the stream x (… pos d_model) with its pattern held; affine in x."""
        block, parts = self.parts.blocks[layer], self.parts
        x = self._norm(block.attn_norm, Site("attn_scale", layer), x, bias)
        v = block.v.apply(x, bias=bias).unflatten(-1, (parts.n_kv_heads, parts.d_head))
        v = v.repeat_interleave(parts.n_heads // parts.n_kv_heads, -2)
        n = x.shape[-2]
        z = torch.einsum("hqk,...khd->...qhd", self.patterns[layer][:, :n, :n], v).flatten(-2)
        return self._norm(block.attn_post_norm, Site("attn_post_scale", layer), block.o.apply(z, bias=bias), bias)

    def after_heads(self, layer: int, y: Tensor, at: Tensor) -> Tensor:
        """What heads write at positions (n,), (n, d_model), to what that adds to the stream there: the post-norm with
        its denominator held, if there is one, without its bias."""
        return self._norm(self.parts.blocks[layer].attn_post_norm, Site("attn_post_scale", layer), y, False, at)

    def after_mlp(self, layer: int, y: Tensor, *, bias: bool = True) -> Tensor:
        """mlp_proj (… pos d_model) to mlp_out: the post-norm with its denominator held, if there is one."""
        return self._norm(self.parts.blocks[layer].mlp_post_norm, Site("mlp_post_scale", layer), y, bias)

    def mlp_input(self, layer: int, x: Tensor, *, bias: bool = True) -> Tensor:
        """The stream before the MLP's norm (… pos d_model) to mlp_in."""
        return self._norm(self.parts.blocks[layer].mlp_norm, Site("mlp_scale", layer), x, bias)

    def read_out(self, x: Tensor, *, bias: bool = True) -> Tensor:
        """The last position of the final stream (… pos d_model) to logits before any soft cap (… d_vocab)."""
        return self.parts.unembed.apply(self.final(x, bias=bias), bias=bias)

    def final(self, x: Tensor | None = None, *, bias: bool = True) -> Tensor:
        """The last position of the final stream (… pos d_model; None: its own) as it is unembedded, (… d_model)."""
        x = self.values[Site("resid_pre", self.parts.n_layers)] if x is None else x
        last = slice(x.shape[-2] - 1, x.shape[-2])
        return self._norm(self.parts.final_norm, Site("final_scale"), x[..., last, :], bias, last)[..., 0, :]

    def replay(self, mlp_proj: Callable[[int, Tensor], Tensor], *, seen: dict[Site, Tensor] | None = None) -> Tensor:
        """Logits of the replacement model: tokens pushed up the linear map, `mlp_proj(layer, mlp_in)` in
        the place of each MLP. With the true MLP outputs it gives the model's own logits.

        seen: filled with the map's values at resid_pre (of one layer more: the final stream), resid_mid (not in
        parallel blocks) and mlp_in.
        """
        x = self.tokens()
        seen = {} if seen is None else seen
        for layer in range(self.parts.n_layers):
            seen[Site("resid_pre", layer)] = x
            attn = self.attend(layer, x)
            before = x if self.parts.parallel else x + attn
            into = self.mlp_input(layer, before)
            seen[Site("mlp_in", layer)] = into
            if not self.parts.parallel:
                seen[Site("resid_mid", layer)] = before
            x = x + attn + self.after_mlp(layer, mlp_proj(layer, into))
        seen[Site("resid_pre", self.parts.n_layers)] = x
        return self.read_out(x)

    def unembed_rows(self, ids: Tensor, weights: Tensor | None = None, *, demean: bool = True) -> Rows:
        """Readers of logits at the last position: unembedding rows minus the mean row, or, with
        `weights` (n_ids,), their one weighted sum (a contrast)."""
        unembed, bias = self.parts.unembed.weight, self.parts.unembed.bias
        mix = torch.eye(len(ids)) if weights is None else weights[None]
        mix = mix.to(self.tokens())
        vectors = mix @ unembed[ids].to(self.dtype)
        constants = vectors.new_zeros(len(vectors)) if bias is None else mix @ bias[ids].to(self.dtype)
        if weights is None and demean:
            vectors = vectors - unembed.mean(0, dtype=self.dtype)
            constants = constants - (0.0 if bias is None else bias.mean(dtype=self.dtype))
        last = torch.full((len(vectors),), self.n_tokens - 1, device=vectors.device)
        return Rows.at(Site("final_norm"), last, vectors, constants)

    def pull_mlp_out(self, layer: int, cotangent: Tensor) -> Tensor:
        """Cotangent at mlp_out (n pos d_model) to mlp_proj."""
        return self.pull_norm(self.parts.blocks[layer].mlp_post_norm, Site("mlp_post_scale", layer), cotangent)

    def pull_attend(self, layer: int, cotangent: Tensor) -> Tensor:
        """The transpose of `attend`'s linear part: cotangent at attn_out (n pos d_model) to resid_pre."""
        block, parts = self.parts.blocks[layer], self.parts
        n, n_pos, _ = cotangent.shape
        cotangent = self.pull_norm(block.attn_post_norm, Site("attn_post_scale", layer), cotangent)
        z = (cotangent @ block.o.weight.to(self.dtype)).view(n, n_pos, parts.n_heads, parts.d_head)
        # (head, key, query) @ (head, query, row * d_head), then sum the heads that share a key-value head
        pattern = self.patterns[layer][:, :n_pos, :n_pos].transpose(1, 2)
        moved = pattern @ z.permute(2, 1, 0, 3).reshape(parts.n_heads, n_pos, n * parts.d_head)
        v = moved.view(parts.n_kv_heads, -1, n_pos, n, parts.d_head).sum(1).permute(2, 1, 0, 3)
        out = v.reshape(n, n_pos, -1) @ block.v.weight.to(self.dtype)
        return self.pull_norm(block.attn_norm, Site("attn_scale", layer), out)

    def at_links(self, layer: int, cotangent: Tensor) -> Tensor:
        """Cotangent at attn_out (n pos d_model) to what each link that is cut brings, (n link d_head)."""
        block, parts, n_pos = self.parts.blocks[layer], self.parts, cotangent.shape[1]
        cotangent = self.pull_norm(block.attn_post_norm, Site("attn_post_scale", layer), cotangent)
        head, query, _ = self.links[layer].T
        writes = block.o.weight.to(self.dtype).view(-1, parts.n_heads, parts.d_head)[:, head]
        found = torch.einsum("nlm,mld->nld", cotangent[:, query.clamp(max=n_pos - 1)], writes)
        return found * (query < n_pos)[:, None]  # a row that ends before it does not see it

    def pull_mlp(self, layer: int, cotangent: Tensor) -> Tensor:
        """Cotangent at mlp_proj (n pos d_model) to mlp_in, by the local rule."""
        block = self.parts.blocks[layer]
        act = cotangent @ block.down.weight.to(cotangent.dtype)
        return local_mlp.push_back(block, act, self.values[Site("mlp_in", layer)][: cotangent.shape[1]])

    def attn_constant(self, layer: int) -> Tensor | None:
        """(pos, d_model): what attention adds to the stream whatever enters, from its biases; None for nothing."""

        def make() -> Tensor | None:
            block = self.parts.blocks[layer]
            biased = any(norm is not None and norm.bias is not None for norm in (block.attn_norm, block.attn_post_norm))
            if not biased and block.v.bias is None and block.o.bias is None:
                return None
            return self.attend(layer, torch.zeros_like(self.tokens()))

        return self._kept(Site("attn_out", layer), make)

    def mlp_constant(self, layer: int) -> Tensor:
        """(pos, d_model): what the MLP writes at mlp_proj beyond the linear part of its local rule: biases, and what
        the model's own precision rounds."""

        def make() -> Tensor:
            block, x = self.parts.blocks[layer], self.values[Site("mlp_in", layer)]
            linear = block.down.apply(local_mlp.push_forward(block, x, x), bias=False)
            return self.values[Site("mlp_proj", layer)] - linear

        found = self._kept(Site("mlp_proj", layer), make)
        assert found is not None
        return found

    def _kept(self, site: Site, make: Callable[[], Tensor | None]) -> Tensor | None:
        if site not in self._consts:
            self._consts[site] = make()
        return self._consts[site]

    def _norm(self, norm: Norm | None, scale: Site, x: Tensor, bias: bool, at: slice | Tensor | None = None) -> Tensor:
        if norm is None:
            return x
        held = self.scales[scale][: x.shape[-2]] if at is None else self.scales[scale][at]
        y = norm.apply(x, held)
        return y if bias or norm.bias is None else y - norm.bias

    def pull_norm(self, norm: Norm | None, scale: Site, cotangent: Tensor, at: Tensor | None = None) -> Tensor:
        """Cotangents (… pos d_model) after a norm to before it; at: of these positions (default: of the first ones)."""
        if norm is None:
            return cotangent
        return norm.pull(cotangent, self.scales[scale][slice(cotangent.shape[-2]) if at is None else at])


def held_sites(model: Model) -> list[Site]:
    """What the view holds of a run: patterns, denominators, what MLPs write, and the two ends."""
    inside = [s for s in model.sites if s.point in ("mlp_proj", "pattern") or s.point.endswith("scale")]
    return [*inside, Site("resid_pre", 0), Site("final_norm")]


def held_view(model: Model, tokens: Tokens, acts: Activations | None = None) -> LinearView:
    """Run one prompt and hold its patterns and denominators. Raises HookeError for a batch.

    acts: reads at all `held_sites` of such a run, if there has been one.
    """
    if tokens.ids.shape[0] != 1 or not bool(tokens.mask.all()):
        raise HookeError("the linear view is of one prompt without padding")
    parts = model.parts
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    first, final = Site("resid_pre", 0), Site("final_norm")
    if acts is None:
        acts = model.run(tokens, read=held_sites(model), logits=None).acts
    held = {site: acts[site][0].to(dtype) for site in held_sites(model) if site != final}
    unembed = parts.unembed
    logits = (acts[final][0, -1] @ unembed.weight.T).to(dtype)
    if unembed.bias is not None:
        logits = logits + unembed.bias.to(dtype)
    view = LinearView(
        parts=parts,
        ids=tokens.ids[0],
        dtype=dtype,
        values={s: x for s, x in held.items() if s == first or s.point == "mlp_proj"},
        patterns=[held[Site("pattern", layer)] for layer in range(parts.n_layers)],
        scales={s: x for s, x in held.items() if s.point.endswith("scale")},
        logits=logits,
        replayed=logits,
    )
    # The values in between are the map's own, so that its sums are exact in its own precision whatever
    # the model rounds (transformers' norms compute in fp32, and a half-precision stream rounds each sum).
    view.replayed = view.replay(lambda layer, _: held[Site("mlp_proj", layer)], seen=view.values)
    return view
