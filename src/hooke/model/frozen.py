"""The frozen linear view: what is left of a model on one prompt when attention patterns and norm
denominators are held and the MLPs are cut out.

Then the stream is linear in what is written to it, so every attribution from writers to readers is
this one map. `Frozen.descend` sends readers down it, all rows at once: no autograd, no queries and
keys, no MLPs (DESIGN 4; "Circuit Tracing", Ameisen et al. 2025, the local replacement model).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.model.families import Norm, Parts
from hooke.sites import Site

if TYPE_CHECKING:
    from hooke.model.model import Model
    from hooke.model.run import Activations, Tokens


class Rows(NamedTuple):
    """Readers to send down: row i is `vectors[i]` · (value at `sites[i]`, `positions[i]`) + `constants[i]`."""

    sites: list[Site]  # mlp_in.l, resid_mid.l or final_norm
    positions: Tensor  # (n,)
    vectors: Tensor  # (n, d_model)
    constants: Tensor  # (n,)


class Stage(NamedTuple):
    """Where the rows have come to: cotangents (n_active, pos, d_model) of the first n_active rows at a site."""

    site: Site
    cotangents: Tensor


# through(layer, cotangent at mlp_proj) -> [(site, cotangent at mlp_in or resid_mid of the layer)]: what the
# MLPs add when they are not cut out
Through = Callable[[int, Tensor], list[tuple[Site, Tensor]]]


@dataclass
class Frozen:
    """One prompt's patterns and denominators, and the values that the map is exact for.

    All tensors are of one prompt, positions first, in fp32 (fp64 for an fp64 model).
    """

    parts: Parts
    ids: Tensor  # (pos,)
    dtype: torch.dtype
    values: dict[Site, Tensor]  # resid_pre.0, and resid_mid, mlp_in, mlp_proj of each layer (pos, d_model)
    patterns: list[Tensor]  # (head, query, key) of each layer
    scales: dict[Site, Tensor]  # (pos, 1)
    logits: Tensor  # (d_vocab,) of the last position, the model's own, before any soft cap
    replayed: Tensor  # (d_vocab,) the same from the frozen map

    @property
    def n_tokens(self) -> int:
        return len(self.ids)

    def tokens(self) -> Tensor:
        """(pos, d_model): the embedded tokens, which are the stream entering layer 0."""
        return self.values[Site("resid_pre", 0)]

    def attend(self, layer: int, x: Tensor, *, bias: bool = True) -> Tensor:
        """What attention adds to the stream x (… pos d_model) with its pattern held; affine in x."""
        block, parts = self.parts.blocks[layer], self.parts
        x = self._norm(block.attn_norm, Site("attn_scale", layer), x, bias)
        v = block.v.apply(x, bias=bias).unflatten(-1, (parts.n_kv_heads, parts.d_head))
        v = v.repeat_interleave(parts.n_heads // parts.n_kv_heads, -2)
        n = x.shape[-2]
        z = torch.einsum("hqk,...khd->...qhd", self.patterns[layer][:, :n, :n], v).flatten(-2)
        return self._norm(block.attn_post_norm, Site("attn_post_scale", layer), block.o.apply(z, bias=bias), bias)

    def after_mlp(self, layer: int, y: Tensor, *, bias: bool = True) -> Tensor:
        """mlp_proj (… pos d_model) to mlp_out: the post-norm with its denominator held, if there is one."""
        return self._norm(self.parts.blocks[layer].mlp_post_norm, Site("mlp_post_scale", layer), y, bias)

    def mlp_input(self, layer: int, x: Tensor, *, bias: bool = True) -> Tensor:
        """The stream before the MLP's norm (… pos d_model) to mlp_in."""
        return self._norm(self.parts.blocks[layer].mlp_norm, Site("mlp_scale", layer), x, bias)

    def read_out(self, x: Tensor, *, bias: bool = True) -> Tensor:
        """The last position of the final stream (… pos d_model) to logits before any soft cap (… d_vocab)."""
        last = slice(x.shape[-2] - 1, x.shape[-2])
        y = self._norm(self.parts.final_norm, Site("final_scale"), x[..., last, :], bias, last)
        return self.parts.unembed.apply(y[..., 0, :], bias=bias)

    def replay(self, mlp_proj: Callable[[int, Tensor], Tensor], *, seen: dict[Site, Tensor] | None = None) -> Tensor:
        """Logits of the replacement model: tokens pushed up the frozen map, `mlp_proj(layer, mlp_in)` in
        the place of each MLP. With the true MLP outputs it gives the model's own logits.

        seen: filled with the map's values at resid_mid (not in parallel blocks) and mlp_in.
        """
        x = self.tokens()
        for layer in range(self.parts.n_layers):
            attn = self.attend(layer, x)
            before = x if self.parts.parallel else x + attn
            into = self.mlp_input(layer, before)
            if seen is not None:
                seen[Site("mlp_in", layer)] = into
                if not self.parts.parallel:
                    seen[Site("resid_mid", layer)] = before
            x = x + attn + self.after_mlp(layer, mlp_proj(layer, into))
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
        return Rows([Site("final_norm")] * len(vectors), last, vectors, constants)

    def descend(self, rows: Rows, *, through: Through | None = None) -> Iterator[Stage]:
        """Send readers down the map, from the logits to the tokens.

        Yields, from the top layer down, a `Stage` at mlp_out.l and one at attn_out.l, and at last one
        at resid_pre.0, each with the rows that read later than that. Stages share memory: use each
        before asking for the next. Rows must be sorted from the last site to the
        first; a stage holds the rows that have entered so far. With `through`, MLPs are not cut out
        but replaced by the local linear rule that it gives. Positions after the last of the rows are
        left out, since no row can depend on them.
        """
        n, n_pos = len(rows.sites), int(rows.positions.max()) + 1
        if any(a < b for a, b in zip(rows.sites, rows.sites[1:], strict=False)):
            raise HookeError("rows must be sorted from the last site to the first")
        stream = torch.zeros(n, n_pos, rows.vectors.shape[-1], dtype=self.dtype, device=rows.vectors.device)
        active = self._enter(stream, rows, 0, Site("final_norm"))
        for layer in reversed(range(self.parts.n_layers)):
            if active:
                yield Stage(Site("mlp_out", layer), stream[:active])
            into_mlp: Tensor | None = None
            if through is not None and active:
                for site, into in through(layer, self.pull_mlp_out(layer, stream[:active])):
                    if site.point == "mlp_in":
                        into = self._pull(self.parts.blocks[layer].mlp_norm, Site("mlp_scale", layer), into)
                    into_mlp = into if into_mlp is None else into_mlp + into
            if self.parts.parallel:
                if active:
                    yield Stage(Site("attn_out", layer), stream[:active])
                before = active
                active = self._enter(stream, rows, active, Site("mlp_in", layer))
                if before:
                    stream[:before] += self.pull_attend(layer, stream[:before])
                    if into_mlp is not None:
                        stream[:before] += into_mlp
            else:
                if into_mlp is not None:
                    stream[:active] += into_mlp
                active = self._enter(stream, rows, active, Site("mlp_in", layer))
                active = self._enter(stream, rows, active, Site("resid_mid", layer))
                if active:
                    yield Stage(Site("attn_out", layer), stream[:active])
                    stream[:active] += self.pull_attend(layer, stream[:active])
        yield Stage(Site("resid_pre", 0), stream[:active])

    def _enter(self, stream: Tensor, rows: Rows, active: int, site: Site) -> int:
        """Put the rows that read at `site` into the stream; returns how many rows are in it now."""
        end = active
        while end < len(rows.sites) and rows.sites[end] == site:
            end += 1
        if end > active:
            new = torch.arange(active, end, device=stream.device)
            at = rows.positions[active:end]
            cotangent = rows.vectors[active:end].to(self.dtype)
            if site.point == "final_norm":
                cotangent = self.parts.final_norm.pull(cotangent, self.scales[Site("final_scale")][at])
            elif site.point == "mlp_in" and self.parts.blocks[site.layer or 0].mlp_norm:
                norm = self.parts.blocks[site.layer or 0].mlp_norm
                assert norm is not None
                cotangent = norm.pull(cotangent, self.scales[Site("mlp_scale", site.layer)][at])
            stream[new, at] += cotangent
        return end

    def entry_constants(self, rows: Rows) -> Tensor:
        """(n,): each row's own constant, and what it reads from the bias of the norm at its site."""
        out = rows.constants.to(self.dtype).clone()
        for i, site in enumerate(rows.sites):
            norm = self.parts.final_norm if site.point == "final_norm" else None
            if site.point == "mlp_in":
                norm = self.parts.blocks[site.layer or 0].mlp_norm
            if norm is not None and norm.bias is not None:
                out[i] += rows.vectors[i].to(self.dtype) @ norm.bias.to(self.dtype)
        return out

    def pull_mlp_out(self, layer: int, cotangent: Tensor) -> Tensor:
        """Cotangent at mlp_out (n pos d_model) to mlp_proj."""
        return self._pull(self.parts.blocks[layer].mlp_post_norm, Site("mlp_post_scale", layer), cotangent)

    def pull_attend(self, layer: int, cotangent: Tensor) -> Tensor:
        """The transpose of `attend`'s linear part: cotangent at attn_out (n pos d_model) to resid_pre."""
        block, parts = self.parts.blocks[layer], self.parts
        n, n_pos, _ = cotangent.shape
        cotangent = self._pull(block.attn_post_norm, Site("attn_post_scale", layer), cotangent)
        z = (cotangent @ block.o.weight.to(self.dtype)).view(n, n_pos, parts.n_heads, parts.d_head)
        # (head, key, query) @ (head, query, row * d_head), then sum the heads that share a key-value head
        pattern = self.patterns[layer][:, :n_pos, :n_pos].transpose(1, 2)
        moved = pattern @ z.permute(2, 1, 0, 3).reshape(parts.n_heads, n_pos, n * parts.d_head)
        v = moved.view(parts.n_kv_heads, -1, n_pos, n, parts.d_head).sum(1).permute(2, 1, 0, 3)
        out = v.reshape(n, n_pos, -1) @ block.v.weight.to(self.dtype)
        return self._pull(block.attn_norm, Site("attn_scale", layer), out)

    def _norm(self, norm: Norm | None, scale: Site, x: Tensor, bias: bool, at: slice | None = None) -> Tensor:
        if norm is None:
            return x
        held = self.scales[scale][: x.shape[-2]] if at is None else self.scales[scale][at]
        y = norm.apply(x, held)
        return y if bias or norm.bias is None else y - norm.bias

    def _pull(self, norm: Norm | None, scale: Site, cotangent: Tensor) -> Tensor:
        return cotangent if norm is None else norm.pull(cotangent, self.scales[scale][: cotangent.shape[-2]])


def freeze(model: Model, tokens: Tokens, acts: Activations | None = None) -> Frozen:
    """Run one prompt and hold its patterns and denominators. Raises HookeError for a batch.

    acts: reads at all sites of such a run, if there has been one.
    """
    if tokens.ids.shape[0] != 1 or not bool(tokens.mask.all()):
        raise HookeError("the frozen view is of one prompt without padding")
    parts = model.parts
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    read = [s for s in model.sites if s.point in ("mlp_proj", "pattern") or s.point.endswith("scale")]
    first, final = Site("resid_pre", 0), Site("final_norm")
    if acts is None:
        acts = model.run(tokens, read=[*read, first, final], logits=None).acts
    held = {site: acts[site][0].to(dtype) for site in [*read, first]}
    unembed = parts.unembed
    logits = (acts[final][0, -1] @ unembed.weight.T).to(dtype)
    if unembed.bias is not None:
        logits = logits + unembed.bias.to(dtype)
    frozen = Frozen(
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
    own = dict(frozen.values)
    frozen.replayed = frozen.replay(lambda layer, _: own[Site("mlp_proj", layer)], seen=frozen.values)
    return frozen
