"""What a source does along one edge or one path only, in the live model.

The source is set to its counterfactual value, and what it writes reaches the next node alone: everything that other
features write in between is held as it is, and so are the links that are nodes, while norms and all other attention
move. The next node is set to what it then comes to, and so on. What the last one sets off is either all that follows
from it (an edge), or again its own writing alone (a path); path patching (2304.05969) with nodes as they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.methods.progress import Tick, idle
from hooke.methods.trace.answer import FIRST
from hooke.methods.trace.coded import Case, Links, Units
from hooke.methods.trace.hold_links import hold
from hooke.methods.trace.links import without
from hooke.model import Edit
from hooke.model.budget import budget
from hooke.sites import Site

TOGETHER = 32  # ways that are run side by side


@dataclass
class Way:
    """From a source to the answer. token: the position of the token that it begins with; or none, and it begins with
    the first of `units`, nodes from early to late: kept features, and after them links. onward: whether all that
    follows from the last counts, or what it writes alone."""

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
    # the value of the node that each way has come to: of a link, what it brings (d_head,)
    change = [_there(case, kept, way.nodes[0]) for way in ways]
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
    reads = [() if last else _reads(case, kept, way.nodes[step + 1]) for way in ways]
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
                place, end = _position(case, kept, node, way), max(reads[k], default=None)
                edits = [*_holding(case, edits, writes, end, place), *_links(case, writes, end, place), *edits]
            sets.append(edits)
        sites = sorted({site for k in some for site in reads[k]})
        logits, found = case.model.run_each(case.run, sets, read=sites, logits=last)
        for row, k in enumerate(some):
            if last:
                out[k] = case.metric.graph(logits[row]) - case.metric.graph(case.logits)
            else:
                out[k] = _come(case, kept, ways[k].nodes[step + 1], found[row])
    return out


def _link(case: Case, kept: Units, node: int) -> tuple[Links, int] | None:
    """The links, and which of them a node is; None of a token or a feature."""
    if node < len(kept):
        return None
    assert case.coded.links is not None
    return case.coded.links, node - len(kept)


def _there(case: Case, kept: Units, node: int) -> Tensor:
    """What a node is set to at first: its mean over the counterfactuals."""
    link = _link(case, kept, node)
    if link is not None:
        return link[0].there.mean(0)[link[1]]
    assert kept.baselines is not None
    return kept.values.new_zeros(()) if node < 0 else kept.baselines[node]


def _position(case: Case, kept: Units, node: int, way: Way) -> int:
    """Where a node writes."""
    link = _link(case, kept, node)
    if link is not None:
        return int(link[0].places[link[1], 2])
    return (way.token or 0) if node < 0 else int(kept.positions[node])


def _reads(case: Case, kept: Units, node: int) -> tuple[Site, ...]:
    """Where it is seen what a node comes to."""
    link = _link(case, kept, node)
    if link is None:
        return case.coded.basis[int(kept.blocks[node])].reads
    layer = int(link[0].places[link[1], 0])
    return Site("v", layer), Site("pattern", layer)


def _come(case: Case, kept: Units, node: int, reads: Mapping[Site, Tensor]) -> Tensor:
    """What a node comes to with these reads."""
    link = _link(case, kept, node)
    if link is None:
        return come_to(case, kept.take(torch.tensor([node], device=kept.ids.device)), reads)[0]
    layer, head, query, key = link[0].places[link[1]].tolist()
    v = Site("v", layer)
    if v not in reads:  # nothing that was changed reaches it
        return link[0].here[link[1]]
    parts = case.model.parts
    value = reads[v][key, head // (parts.n_heads // parts.n_kv_heads)]
    return (reads[Site("pattern", layer)][head, query, key] * value).to(link[0].here.dtype)


def _setting(case: Case, kept: Units, node: int, value: Tensor, way: Way) -> tuple[list[Edit], tuple[Site, ...]]:
    """Edits that give a node its value, and where it writes."""
    if node < 0:
        assert way.token is not None
        return [replaced(case, way.token)], (FIRST,)
    link = _link(case, kept, node)
    if link is not None:  # nothing before it is changed in its run, so that it brings what it does on the prompt
        layer, head, query, key = link[0].places[link[1]].tolist()
        return [without(case, link[0].here[link[1]], [value], (layer, head, query, key))], (Site("z", layer),)
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


def _links(case: Case, writes: Sequence[Site], end: Site | None, place: int) -> list[Edit]:
    """Edits that hold the links that are nodes and lie in between, from a position on, at what they bring on the
    prompt."""
    links, start = case.coded.links, min(writes)
    if links is None:
        return []
    edits: list[Edit] = []
    for layer in links.places[:, 0].unique().tolist():
        z = Site("z", layer)
        own = links.of_layer(layer)
        own = own[links.places[own, 2] >= place]
        if start < z and (end is None or z < end) and len(own):
            weight, here = links.together(own, case.view.n_tokens, case.model.parts.n_heads)
            edits += hold(layer, weight.to(case.model.dtype), here.to(case.model.dtype))
    return edits


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
