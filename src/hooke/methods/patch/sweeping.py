"""The sweep: each patch by itself, and the metric after it. What changes nothing is not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.metrics import Metric, evaluate, measure
from hooke.methods.patch.places import Place
from hooke.methods.patch.sources import Source
from hooke.methods.progress import Tick, idle, stretch
from hooke.model import Model
from hooke.model.recorded import Recorded
from hooke.model.run_each import Writes


@dataclass
class Sweep:
    """values: by place, (layer, position) or (layer, unit, position), NaN where prompts have no common position."""

    values: list[Tensor]
    n_patches: int
    n_runs: int  # how many of them had to be run


def sweep(
    model: Model,
    base: Recorded,
    places: Sequence[Place],
    sources: Sequence[Source],
    base_at: Tensor,
    at: list[int] | Tensor | None,
    metric: Metric,
    *,
    tick: Tick = idle,
) -> Sweep:
    """The metric after each patch by itself, averaged over the sources.

    at: the positions of the base that are patched, each by itself; None: all of them together in one patch.
    A patch whose new value is the old one bit for bit changes nothing, so it is not run.
    """
    n_pos, device = base.tokens.ids.shape[1], model.device
    partner = torch.full((n_pos,), -1)
    partner[base_at] = torch.arange(len(base_at))
    together = at is None
    wanted = torch.arange(n_pos) if at is None else torch.as_tensor(at, dtype=torch.long)
    before = float(evaluate(metric, base.logits[None])[0])
    totals = [
        torch.zeros(
            len(p.sites), 1 if p.units is None else len(p.units), 1 if together else len(wanted), dtype=torch.float64
        )
        for p in places
    ]
    n_runs = 0
    for number, source in enumerate(sources):
        writes: list[Writes] = []
        runs: list[tuple[int, Tensor]] = []  # place, and (n, 3) layer, unit, column of the runs in order
        count = 0
        for i, place in enumerate(places):
            for layer, (new, old) in enumerate(zip(source[i], place.values(base.acts), strict=True)):
                if not bool(torch.isfinite(new).all() and torch.isfinite(old).all()):
                    raise HookeError(f"{place.sites[layer]} holds numbers that are not finite")
                cells = _changed(new, old, partner, wanted, place.units is not None)  # (n, 2) column, unit
                if not len(cells):
                    continue
                keys = cells[:, 1] if together else cells[:, 0] * totals[i].shape[1] + cells[:, 1]
                kept, run = keys.unique(return_inverse=True)
                column = torch.zeros_like(kept) if together else kept // totals[i].shape[1]
                runs.append((i, torch.stack([torch.full_like(kept, layer), kept % totals[i].shape[1], column], 1)))
                positions = wanted[cells[:, 0]]
                entry = torch.stack([positions, cells[:, 1]], 1).to(device)
                pick = (entry[:, 0],) if place.units is None else (entry[:, 0], entry[:, 1])
                from_new = (partner[positions].to(device), *pick[1:])
                writes += place.writes(base, layer, new[from_new], old[pick], (count + run).to(device), entry)
                count += len(kept)
        part = stretch(tick, number / len(sources), (number + 1) / len(sources))
        found = measure(model, base, count, writes, metric, tick=part)
        for total in totals:
            total += before
        done = 0
        for i, where in runs:
            moved = found[done : done + len(where)].double().cpu()
            totals[i][where[:, 0], where[:, 1], where[:, 2]] += moved - before
            done += len(where)
        n_runs += count
    lost = partner[wanted] < 0
    values = []
    for place, total in zip(places, totals, strict=True):
        mean = total / len(sources)
        if not together:
            mean[..., lost] = torch.nan
        values.append(mean[:, 0] if place.units is None else mean)
    n_patches = len(sources) * sum(int(v.isfinite().sum()) for v in values)
    return Sweep(values, n_patches, n_runs)


def _changed(new: Tensor, old: Tensor, partner: Tensor, wanted: Tensor, by_unit: bool) -> Tensor:
    """(n, 2): column of `wanted` and unit, of those whose new value is not the old one."""
    new, old = new.cpu(), old.cpu()
    shared = partner[wanted]
    here = (shared >= 0).nonzero()[:, 0]
    a, b = new[shared[here]], old[wanted[here]]
    different = (a != b).flatten(2 if by_unit else 1).any(-1) if a.ndim > (2 if by_unit else 1) else a != b
    if not by_unit:
        different = different[:, None]
    cells = different.nonzero()
    return torch.stack([here[cells[:, 0]], cells[:, 1]], 1)
