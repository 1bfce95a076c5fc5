"""What a source does along one edge or one path only, in the live model.

The source is set to its counterfactual value, and what it writes reaches the next node alone: everything that other
features write in between is held as it is, while norms and attention move. The next node is set to what it then comes
to, and so on. What the last one sets off is either all that follows from it (an edge), or again its own writing alone
(a path); path patching (2304.05969) with nodes as they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.methods.progress import Tick, idle
from hooke.methods.trace.answer import FIRST
from hooke.methods.trace.coded import Case, Units
from hooke.model import Edit
from hooke.model.budget import budget
from hooke.sites import Site

TOGETHER = 32  # ways that are run side by side


@dataclass
class Way:
    """From a source to the answer. token: the position of the token that it begins with; or none, and it begins with
    the first of `units`, kept features from early to late. onward: whether all that follows from the last counts, or
    what it writes alone."""

    token: int | None
    units: list[int]
    onward: bool
    predicted: float = 0.0  # change of what the graph adds up to
    measured: float = 0.0

    @property
    def nodes(self) -> list[int]:
        """The units, and -1 before them for a token."""
        return self.units if self.token is None else [-1, *self.units]


def measure_ways(case: Case, kept: Units, ways: Sequence[Way], tick: Tick = idle) -> None:
    """Carry them out, those of equal step side by side, and fill in what was measured."""
    assert kept.baselines is not None
    # the value of the node that each way has come to
    change = [kept.baselines[way.units[0]] if way.token is None else kept.values.new_zeros(()) for way in ways]
    steps = max((len(way.nodes) for way in ways), default=0)
    for step in range(steps):
        tick(step / max(steps, 1))
        for last in (False, True):
            here = [k for k, way in enumerate(ways) if len(way.nodes) > step and (len(way.nodes) == step + 1) == last]
            found = _step(case, kept, [ways[k] for k in here], [change[k] for k in here], step, last)
            for k, value in zip(here, found, strict=True):
                change[k] = value
                if last:
                    ways[k].measured = float(value)


def _step(
    case: Case, kept: Units, ways: Sequence[Way], values: Sequence[Tensor], step: int, last: bool
) -> list[Tensor]:
    """Of each way what its next node comes to when its node number `step` has this value; after the last node, how far
    the answer moves."""
    reads = [() if last else case.coded.basis[int(kept.blocks[way.nodes[step + 1]])].reads for way in ways]
    # side by side those that end near each other, since a run goes no further than it is read
    order = sorted(range(len(ways)), key=lambda k: max(reads[k], default=FIRST))
    out = list(values)
    size = max(1, min(TOGETHER, budget(case.model.device).busy // case.view.n_tokens))
    for start in range(0, len(order), size):
        some = order[start : start + size]
        sets = []
        for k in some:
            way, node = ways[k], ways[k].nodes[step]
            edits, writes = _setting(case, kept, node, values[k], way)
            if not (last and way.onward):
                place = way.token if node < 0 else int(kept.positions[node])
                edits = [*_holding(case, edits, writes, max(reads[k], default=None), place or 0), *edits]
            sets.append(edits)
        sites = sorted({site for k in some for site in reads[k]})
        logits, found = case.model.run_each(case.run, sets, read=sites, logits=last)
        for row, k in enumerate(some):
            if last:
                out[k] = case.metric.graph(logits[row]) - case.metric.graph(case.logits)
            else:
                one = kept.take(torch.tensor([ways[k].nodes[step + 1]], device=kept.ids.device))
                out[k] = come_to(case, one, found[row])[0]
    return out


def _setting(case: Case, kept: Units, node: int, value: Tensor, way: Way) -> tuple[list[Edit], tuple[Site, ...]]:
    """Edits that give a node its value, and where it writes."""
    if node < 0:
        assert way.token is not None
        return [replaced(case, way.token)], (FIRST,)
    unit = kept.take(torch.tensor([node], device=kept.ids.device))
    return case.coded.edits(unit, value.view(1).to(case.view.dtype)), case.coded.basis[int(unit.blocks[0])].writes


def _holding(case: Case, edits: Sequence[Edit], writes: Sequence[Site], end: Site | None, place: int) -> list[Edit]:
    """Edits, to be made before these, that hold what is written from the first of `writes` to before `end`, from a
    position on: of what a node writes itself only where its own edit comes after."""
    later = range(place, case.view.n_tokens)
    edited = {edit.site for edit in edits}
    return [
        Edit(site, value=case.view.value(site)[place:].to(case.model.dtype), positions=later)
        for site in case.coded.cuts
        if min(writes) <= site and (end is None or site < end) and (site not in writes or site in edited)
    ]


def replaced(case: Case, token: int) -> Edit:
    """An edit that embeds at a token's place what stands there in the counterfactuals, on average."""
    there = torch.stack([other.tokens[token] for other in case.baselines]).mean(0)
    return Edit(FIRST, value=there.to(case.model.dtype), positions=[token])


def come_to(case: Case, units: Units, reads: Mapping[Site, Tensor]) -> Tensor:
    """(n,): what features come to with these reads (pos, width); what was not reached has its clean value."""
    out = units.values.clone()
    for b in units.blocks.unique().tolist():
        block, own = case.coded.basis[b], units.of_block(b)
        places, at = units.positions[own].unique(return_inverse=True)
        rows = {
            site: (reads[site] if site in reads else case.coded.inputs[b][site])[places].to(case.view.dtype)
            for site in block.reads
        }
        out[own] = block.encode(rows).at(at, units.ids[own])
    return out
