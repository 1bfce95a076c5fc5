"""Paths of a story: from a token through parts to the answer, and what comes of replacing the token along one alone.

A path carries what its token sends into its first part, times the share of each part's flows that goes on along it; so
the paths of a token add up to all that follows from it. Tested by path patching (2304.05969) with parts as nodes: every
drawn feature outside the next part of a path keeps its value, features that are not drawn do what they do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.methods.progress import Tick, idle
from hooke.methods.trace.along import come_to, replaced
from hooke.methods.trace.coded import Case, Units
from hooke.methods.trace.flows import Flows
from hooke.methods.trace.tries import PartPath
from hooke.model import Edit
from hooke.model.budget import budget

COUNT = 10
LONGEST = 3  # parts on one path
SPREAD = 0.1  # of all that flows out of a part: what is left of that in sum, less of which nothing is shared out


def strongest_part_paths(flows: Flows, members: Sequence[Tensor], count: int = COUNT) -> list[PartPath]:
    """The paths that carry most, through one part at least."""
    through, n = flows.between_parts(members), len(members)
    out = through[:n].clone()
    out.fill_diagonal_(0.0)
    total, size = out.sum(1), out.abs().sum(1)
    shared = total.abs() >= SPREAD * size
    onward = torch.where(shared[:, None], out / total.where(shared, torch.ones_like(total))[:, None], 0.0)
    done: list[PartPath] = []
    front = [(t, [j], float(x)) for t, row in enumerate(through[n:]) for j, x in enumerate(row[:n].tolist()) if x]
    for _ in range(LONGEST):
        done += [PartPath(t, parts, x * float(onward[parts[-1], n])) for t, parts, x in front]
        longer = [
            (t, [*parts, k], x * share)
            for t, parts, x in front
            for k, share in enumerate(onward[parts[-1], :n].tolist())
            if share and k not in parts
        ]
        front = sorted(longer, key=lambda path: -abs(path[2]))[: 20 * count]
    return sorted((path for path in done if path.predicted), key=lambda path: -abs(path.predicted))[:count]


def try_part_paths(
    case: Case, kept: Units, members: Sequence[Tensor], paths: Sequence[PartPath], tick: Tick = idle
) -> None:
    """Replace the token of each path along it alone; fills in what was measured."""
    values: list[Tensor | None] = [None] * len(paths)  # of the units of the part that a path has come to
    steps = max((len(path.parts) for path in paths), default=-1) + 1
    size = max(1, budget(case.model.device).busy // case.view.n_tokens)
    for step in range(steps):
        tick(step / steps)
        for last in (False, True):  # a run goes no further than it is read
            here = [k for k, path in enumerate(paths) if (len(path.parts) == step if last else len(path.parts) > step)]
            for some in (here[at : at + size] for at in range(0, len(here), size)):
                sets = [_step(case, kept, members, paths[k], step, values[k]) for k in some]
                parts = [] if last else [members[paths[k].parts[step]] for k in some]
                blocks = {b for m in parts for b in kept.blocks[m].tolist()}
                sites = sorted({site for b in blocks for site in case.coded.basis[b].reads})
                logits, reads = case.model.run_each(case.run, sets, read=sites, logits=last)
                for row, k in enumerate(some):
                    if last:
                        paths[k].measured = float(case.metric.graph(logits[row]) - case.metric.graph(case.logits))
                    else:
                        values[k] = come_to(case, kept.take(parts[row]), reads[row])


def _step(
    case: Case, kept: Units, members: Sequence[Tensor], path: PartPath, step: int, value: Tensor | None
) -> list[Edit]:
    """Edits that set what a path has come to, and hold every unit but those of the next part."""
    wanted, free = kept.values.clone(), torch.zeros(len(kept), dtype=torch.bool, device=kept.ids.device)
    if value is not None:
        wanted[members[path.parts[step - 1]]] = value
    if step < len(path.parts):
        free[members[path.parts[step]]] = True
    held = kept.take((~free).nonzero()[:, 0])
    edits = case.coded.edits(held, wanted[~free])
    return [replaced(case, path.token), *edits] if value is None else edits
