"""Single edges cut in a large model: each cut as a run that begins where it first changes anything.

To cut u→r alone is to give r what it reads plus what u wrote in the other run less what it wrote in this one. The
layers before r, the positions before the prompts differ and the runs of other edges share all that they can
(`model/run_each.py`). The same numbers as `run_edges` with that edge at 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hooke.methods.computation_graph import ComputationGraph, Reader, normed, terms, write_sites
from hooke.methods.objective import Objective
from hooke.methods.progress import Tick, idle
from hooke.model import Model, Tokens
from hooke.model.recorded import Recorded, record
from hooke.model.run_each import Writes, substitute
from hooke.sites import Site

TOGETHER = 512  # runs that are prepared at once
# edges × layers × d_model from which this takes less time than batches of whole runs: one pair at a time has a cost of
# its own, which a small model or a few edges do not repay
WORTH = 50_000


def packs(model: Model, clean: Tokens, corrupt: Tokens, objective: Objective, n_edges: int) -> bool:
    """Whether cuts can be packed and had better be: nothing but the last logits is measured, the prompts of a pair
    have the same length, and there is enough to do for one pair."""
    same = clean.mask.shape == corrupt.mask.shape and bool((clean.mask == corrupt.mask).all())
    work = n_edges * model.parts.n_layers * model.parts.d_model
    return objective.logits == "last" and same and work >= WORTH


def cut_each(
    model: Model, clean: Tokens, corrupt: Tokens, objective: Objective, tried: Tensor, *, tick: Tick = idle
) -> Tensor:
    """(batch, n): the effect when each of the edges (n, 2) of (reader, writer) is cut alone."""
    found, written = [], write_sites(model)
    with torch.no_grad():
        for i in range(len(clean.ids)):

            def effect(logits: Tensor, pair: int = i) -> Tensor:
                return objective.effect(logits, torch.full((len(logits),), pair, device=logits.device))

            one = clean.alone(i)
            base = record(model, one, reads(model))
            change = terms(model, model.run(corrupt.alone(i), read=written, logits=None).acts, base.acts)[:, 0]
            first = first_difference(one, corrupt.alone(i))
            values = []
            for start in range(0, len(tried), TOGETHER):
                edges = tried[start : start + TOGETHER]
                writes = list(cuts(model, base, change, edges, first))
                values.append(substitute(model, base, len(edges), writes, each=effect))
                tick((i + min(1.0, (start + TOGETHER) / len(tried))) / len(clean.ids))
            found.append(torch.cat(values))
    return torch.stack(found)


def reads(model: Model) -> list[Site]:
    """What must be read of a run in which edges are cut."""
    middle = [] if model.parts.parallel else [Site("resid_mid", layer) for layer in range(model.parts.n_layers)]
    return [*write_sites(model), *middle]


def first_difference(clean: Tokens, corrupt: Tokens) -> int:
    """The first position at which two prompts of equal length differ; the last if none does."""
    differ = (clean.ids != corrupt.ids)[0].nonzero()
    return int(differ[0]) if len(differ) else clean.ids.shape[1] - 1


def cuts(model: Model, base: Recorded, change: Tensor, edges: Tensor, first: int) -> Iterator[Writes]:
    """What the readers take when their edges (n, 2) of (reader, writer) are cut, edge i in run i, from a position on.

    change: (n_writers, pos, d_model), what each writer gives in the other run less what it gives in this one."""
    readers = ComputationGraph.of(model.parts).readers
    at = torch.arange(first, change.shape[1], device=change.device)
    for r in edges[:, 0].unique().tolist():
        runs = (edges[:, 0] == r).nonzero()[:, 0]
        site, unit, values = _taken(model, base, readers[r], change[edges[runs, 1]][:, first:], first)
        at_each, runs = at.repeat(len(runs)), runs.to(at.device).repeat_interleave(len(at))
        units = None if unit is None else torch.full_like(runs, unit)
        yield Writes(site, runs, at_each, units, values.flatten(0, 1))


def _taken(model: Model, base: Recorded, reader: Reader, change: Tensor, first: int) -> tuple[Site, int | None, Tensor]:
    """The site and unit that a reader takes its input by, and its values (n, pos, …) when the stream that it reads
    changes by `change` (n, pos, d_model), from a position on."""
    parts, layer = model.parts, reader.layer
    if layer is None:
        return Site("final_norm"), None, normed(parts.final_norm, base.resid[-1][first:] + change)
    block = parts.blocks[layer]
    if reader.part == "mlp":
        before = base.resid[layer] if parts.parallel else base.acts[Site("resid_mid", layer)][0]
        return Site("mlp_in", layer), None, normed(block.mlp_norm, before[first:] + change)
    linear = getattr(block, reader.part)
    assert reader.head is not None
    own = slice(reader.head * parts.d_head, (reader.head + 1) * parts.d_head)
    x = normed(block.attn_norm, base.resid[layer][first:] + change)
    values = x @ linear.weight[own].to(x.dtype).T
    if linear.bias is not None:
        values = values + linear.bias[own].to(x.dtype)
    return Site(reader.part, layer), reader.head, values
