"""Many circuits on the same pairs of prompts, fast and without gradients: what `run_edges` gives for each.

Three things are left out that change nothing. Positions before the first at which a pair differs: nothing that is
mixed differs there. Readers of which every edge is kept, or every edge is cut: they take what the run, or the corrupt
run, has there. And writers whose edges are all alike in this way. Circuits of similar size are run together, small
ones as the corrupt run and what kept edges bring, large ones as the whole run less what cut edges take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.computation_graph import HEAD_PARTS, ComputationGraph, Part, Tap, by_head, normed
from hooke.methods.objective import Objective
from hooke.methods.progress import Tick, idle
from hooke.model import Model, Tokens
from hooke.model.families import Block
from hooke.model.run import Activations, Prefix
from hooke.sites import Site

MAX_TOKENS = 192  # of one batch: more is no faster
MAX_BYTES = 192 * 2**20  # of what all writers of a batch wrote


@dataclass
class Ground:
    """One pair of prompts from the first position where they differ.

    clean: the tokens from there, (1, pos). after: what both begin with. other: reads of the corrupt run, (1, pos …).
    """

    clean: Tokens
    after: Prefix | None
    other: Activations


def ground(model: Model, clean: Tokens, corrupt: Tokens, sites: Sequence[Site]) -> Ground:
    """Run the corrupt prompt of one pair (1, pos), without padding. Raises HookeError for two equal prompts."""
    one, two = clean.ids[0], corrupt.ids[0]
    differ = (one != two).nonzero()
    if not len(differ):
        raise HookeError("the clean and the corrupt prompt are the same; change at least one token")
    begin = int(differ[0])
    after = model.prefix(one[:begin]) if begin else None
    rest = [Tokens(ids[None, begin:], torch.ones_like(ids[None, begin:], dtype=torch.bool)) for ids in (one, two)]
    with torch.no_grad():
        return Ground(rest[0], after, model.run(rest[1], read=sites, logits=None, after=after).acts)


def edge_sites(model: Model) -> list[Site]:
    """What the runs with cut edges need of the corrupt one."""
    found = [Site("final_norm"), Site("resid_post", model.parts.n_layers - 1)]
    for layer, block in enumerate(model.parts.blocks):
        found += [Site(p, layer) for p in ("resid_pre", "q", "k", "v", "z", "mlp_in", "mlp_out")]
        if not model.parts.parallel:
            found.append(Site("resid_mid", layer))
        if block.attn_post_norm is not None:
            found.append(Site("attn_post_scale", layer))
    return found


def gains(
    model: Model,
    clean: Tokens,
    corrupt: Tokens,
    objective: Objective,
    masks: Sequence[Tensor],
    *,
    measure: Callable[[Tensor, Tensor], Tensor] | None = None,
    tick: Tick = idle,
) -> Tensor:
    """(n_masks, batch): the gain, or another measure, when only the edges of each mask are kept.

    masks: (n_readers, n_writers) each. Measures read logits at the last position.
    """
    computation = ComputationGraph.of(model.parts)
    read = measure or objective.gain
    order = sorted(range(len(masks)), key=lambda i: int(masks[i].sum()))
    found = torch.zeros(len(masks), len(clean.ids))
    sites = edge_sites(model)
    for row in range(len(clean.ids)):
        here = ground(model, clean.alone(row), corrupt.alone(row), sites)
        n_pos = here.clean.ids.shape[1]
        most = max(
            1, min(MAX_TOKENS // n_pos, MAX_BYTES // (4 * n_pos * model.parts.d_model * len(computation.writers)))
        )
        for start in range(0, len(order), most):
            chunk = order[start : start + most]
            logits = run_masks(model, here, torch.stack([masks[i] for i in chunk]))
            pair = torch.full((len(chunk),), row, device=model.device)
            found[chunk, row] = read(logits, pair).to(found)
            tick((row + min(1.0, (start + most) / len(order))) / len(clean.ids))
    return found


def run_masks(model: Model, here: Ground, keep: Tensor) -> Tensor:
    """(n_masks, d_vocab): last logits of one pair with the edges of each mask (n_masks, n_readers, n_writers) kept."""
    parts, computation, other = model.parts, ComputationGraph.of(model.parts), here.other
    keep = keep.to(model.device, torch.bool)
    edges = computation.edges.to(model.device)
    cut = edges & ~keep
    few = int((keep & edges).sum()) <= int(cut.sum())
    # with a post-norm, the bias of W_O is scaled by a denominator, the run's own: no kept edge brings that
    few = few and not any(b.attn_post_norm is not None and b.o.bias is not None for b in parts.blocks)
    chosen = keep & edges if few else cut
    used, mixed = chosen.any(0).any(0), chosen.any(0).any(1)  # writers that are added up, readers that add them up
    share = chosen[:, :, used].to(model.dtype) * (1 if few else -1)
    place = used.cumsum(0) - 1  # of a used writer in `live`
    before = [int(used[: r.before].sum()) for r in computation.readers]
    n_masks, (_, n_pos) = len(keep), here.clean.ids.shape
    live = torch.zeros(n_masks, int(used.sum()), n_pos * parts.d_model, dtype=model.dtype, device=model.device)
    stream: dict[Site, Tensor] = {}
    taken: dict[int, Tensor] = {}  # by layer: what the mixed q, k and v inputs take

    def mix(site: Site, rows: Tensor) -> Tensor:
        """(n_masks, reader, pos, d_model): what readers at one place take, which is `site` less or more some terms."""
        base = other[site] if few else stream[site]
        n = before[int(rows[0])]
        return base[:, None] + (share[:, rows, :n] @ live[:, :n]).unflatten(2, (n_pos, parts.d_model))

    def remember(site: Site) -> Tap:
        def tap(x: Tensor) -> Tensor:
            stream[site] = x
            if site == Site("resid_pre", 0) and bool(used[0]):
                live[:, 0] = (x - other[site]).flatten(1)
            return x

        return tap

    def project(layer: int, part: Part) -> Tap:
        own = computation.rows(layer, part)
        heads = mixed[own].nonzero()[:, 0]
        all_rows = slice(computation.rows(layer, "q").start, computation.rows(layer, "v").stop)
        rows = mixed[all_rows].nonzero()[:, 0] + all_rows.start

        def tap(x: Tensor) -> Tensor:
            whole = other[Site(part, layer)].expand_as(x) if few else x
            if not len(heads):
                return whole
            block = parts.blocks[layer]
            if layer not in taken:
                taken.clear()
                taken[layer] = normed(block.attn_norm, mix(Site("resid_pre", layer), rows))
            mine = taken[layer][:, (rows >= own.start) & (rows < own.stop)]
            linear = {"q": block.q, "k": block.k, "v": block.v}[part]
            y = torch.einsum("mrpd,red->mpre", mine, linear.weight.to(x.dtype).unflatten(0, x.shape[2:])[heads])
            if linear.bias is not None:
                y = y + linear.bias.to(x.dtype).view(x.shape[2:])[heads]
            if len(heads) == x.shape[2]:
                return y
            out = whole.clone()
            out[:, :, heads] = y
            return out

        return tap

    def attended(layer: int) -> tuple[Tap, Tap]:
        block, own = parts.blocks[layer], computation.heads(layer)
        heads = used[own].nonzero()[:, 0]
        at = place[own][heads]
        kept: list[Tensor] = []

        def z(x: Tensor) -> Tensor:
            kept[:] = [x]
            if len(heads) and block.attn_post_norm is None:
                change = x[:, :, heads] - other[Site("z", layer)][:, :, heads]
                w = block.o.weight.to(x.dtype).unflatten(1, x.shape[2:])[:, heads]
                live[:, at] = torch.einsum("mphe,dhe->mhpd", change, w).flatten(2)
            return x

        def scaled(x: Tensor) -> Tensor:
            if len(heads):
                site = Site("attn_post_scale", layer)
                here = by_head(block, kept[0], x) - by_head(block, other[Site("z", layer)], other[site])
                live[:, at] = here[heads].transpose(0, 1).flatten(2)
            return x

        return z, scaled

    def into_mlp(layer: int) -> Tap:
        row = computation.rows(layer, "mlp").start
        base = Site("resid_pre" if parts.parallel else "resid_mid", layer)

        def tap(x: Tensor) -> Tensor:
            if not bool(mixed[row]):
                return other[Site("mlp_in", layer)].expand_as(x).contiguous() if few else x
            block: Block = parts.blocks[layer]
            return normed(block.mlp_norm, mix(base, torch.tensor([row], device=model.device))[:, 0])

        return tap

    def out_of_mlp(layer: int) -> Tap:
        number = computation.mlp(layer)

        def tap(x: Tensor) -> Tensor:
            if bool(used[number]):
                live[:, place[number]] = (x - other[Site("mlp_out", layer)]).flatten(1)
            return x

        return tap

    def final(x: Tensor) -> Tensor:
        site = Site("resid_post", parts.n_layers - 1)
        n = len(computation.readers) - 1
        if not bool(mixed[n]):
            return other[Site("final_norm")].expand_as(x) if few else x
        base = (other if few else stream)[site][:, -1:]
        ends = live.unflatten(2, (n_pos, parts.d_model))[:, :, -1]
        out = x.clone()
        out[:, -1:] = normed(parts.final_norm, base + share[:, n : n + 1] @ ends)
        return out

    taps: dict[Site, Tap] = {Site("final_norm"): final}
    for layer in range(parts.n_layers):
        taps[Site("resid_pre", layer)] = remember(Site("resid_pre", layer))
        for part in HEAD_PARTS:
            taps[Site(part, layer)] = project(layer, part)
        taps[Site("z", layer)], scaled = attended(layer)
        if parts.blocks[layer].attn_post_norm is not None:
            taps[Site("attn_post_scale", layer)] = scaled
        if not parts.parallel:
            taps[Site("resid_mid", layer)] = remember(Site("resid_mid", layer))
        taps[Site("mlp_in", layer)], taps[Site("mlp_out", layer)] = into_mlp(layer), out_of_mlp(layer)
    last = Site("resid_post", parts.n_layers - 1)
    taps[last] = remember(last)
    with torch.no_grad():
        logits = model.run(here.clean.times(n_masks), taps=taps, logits="last", after=here.after).logits
    assert logits is not None
    return logits
