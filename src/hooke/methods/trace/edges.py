"""Direct effects between the nodes of an attribution graph, by one pass down the linear map.

Targets are features, links of attention and logits; sources are the kept features, the links, the tokens, what the node
budget hides (one remainder per block and position), and what the dictionaries do not reconstruct (errors).
The cost follows the nodes that are kept, not the width of the model (Ameisen et al. 2025, section on
computing edges; here without autograd).

An edge is what its source adds to the target in the held view, which adds up to what the target reads; in the live one
it is how far the target moves as its source comes from the counterfactuals to here, (a − a') ∂t/∂a.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.dictionaries import Codes
from hooke.methods.progress import Tick, idle
from hooke.methods.trace.coded import Baseline, Coded, Links, Units
from hooke.model import Descent, LinearView, Rows
from hooke.model.budget import budget
from hooke.model.linear_view import Part
from hooke.model.live import LiveView
from hooke.sites import Site

WAYS = ("value", "query", "key")  # by which something comes to a link


@dataclass
class Edges:
    """Direct effects. Columns: the nodes, which are units and then links, then tokens (pos), remainders (block · pos)
    and errors (site · pos).

    weights[t, s]: held, the value of s times the effect of one unit: a row plus its constant sums to the target's
    value. Live, its difference from the counterfactuals times that: a row sums to the target's own difference but for
    the constant, which is how far the map bends on the way.
    unit[t, s] is the effect of one unit of feature s, or of as much of a link as is worth one to the answer
    (`Links.along`). delta is that of the difference in the held view.
    tokens[t, p]: what token p gives: held, its edge; live, that of how far it is from the mean of the prompt's.
    """

    weights: Tensor  # (n_targets, n_sources)
    unit: Tensor  # (n_targets, n_nodes)
    constants: Tensor  # (n_targets,)
    delta: Tensor | None  # (n_targets, n_sources)
    tokens: Tensor  # (n_targets, pos)

    def first(self, n: int) -> Edges:
        """Those into the first targets."""
        delta = None if self.delta is None else self.delta[:n]
        return Edges(self.weights[:n], self.unit[:n], self.constants[:n], delta, self.tokens[:n])

    def merged(self, n_units: int, n_links: int) -> Edges:
        """With the edges into a link by value, query and key as one."""
        if not n_links:
            return self

        def sums(x: Tensor) -> Tensor:
            end = n_units + len(WAYS) * n_links
            return torch.cat([x[:n_units], x[n_units:end].unflatten(0, (len(WAYS), n_links)).sum(0), x[end:]])

        delta = None if self.delta is None else sums(self.delta)
        return Edges(sums(self.weights), sums(self.unit), sums(self.constants), delta, sums(self.tokens))


@dataclass
class Side:
    """What stands, or changes, where edges start: edges are contracted with it."""

    tokens: Tensor  # (pos, d_model)
    written: dict[Site, dict[int, Tensor]]  # (pos, d_model) by site and block
    errors: dict[Site, Tensor]  # (pos, d_model)
    units: Tensor  # (n_units,)
    links: Tensor | None = None  # (n_links, d_head)


def values_at(view: LinearView, coded: Coded, units: Units) -> Side:
    """What stands there."""
    return Side(view.tokens(), coded.written(coded.codes), coded.errors, units.values)


def changes(view: LinearView, coded: Coded, units: Units, others: Sequence[Baseline]) -> Side:
    """How far it is from what stands there in others, on average."""
    here = values_at(view, coded, units)
    there = [coded.written(other.codes) for other in others]

    def mean(values: Iterable[Tensor]) -> Tensor:
        return torch.stack(list(values)).mean(0)

    return Side(
        here.tokens - mean(other.tokens for other in others),
        {
            site: {b: y - mean(written[site][b] for written in there) for b, y in parts.items()}
            for site, parts in here.written.items()
        },
        {site: y - mean(other.errors[site] for other in others) for site, y in here.errors.items()},
        here.units - mean(coded.values_at(other.codes, units) for other in others),
        None if coded.links is None else coded.links.changes,
    )


def readers(view: LinearView, coded: Coded, units: Units) -> Rows:
    """The rows that read the units, in their order: by the rule that holds them, or how they change."""
    consts = coded.codes[0].values.new_zeros(len(units))
    parts = []
    for b in units.blocks.unique().tolist():
        here = units.of_block(b)
        at = coded.here(b, units.positions[here])
        if view.live:
            found = coded.basis[b].slopes(units.ids[here], at)
        else:
            found, const = coded.basis[b].reader(units.ids[here], at)
            consts[here] = const.to(consts.dtype)
        parts += [Part(site, here, vectors) for site, vectors in found.items()]
    return Rows(units.positions, consts, parts)


def rows_of(targets: Tensor, n_units: int, n_links: int) -> tuple[Tensor, Tensor]:
    """The rows that targets have before the ways into links are merged, and which of the targets each is of."""
    link = (targets >= n_units) & (targets < n_units + n_links)
    first = torch.where(targets >= n_units + n_links, targets + (len(WAYS) - 1) * n_links, targets)
    of = torch.arange(len(targets), device=targets.device).repeat_interleave(torch.where(link, len(WAYS), 1))
    way = torch.cat([torch.arange(len(WAYS) if yes else 1, device=targets.device) for yes in link.tolist()])
    return first[of] + way * n_links, of


def link_readers(view: LiveView, links: Links) -> Rows:
    """The rows that read links as the answer sees them: all by value, then all by query, then all by key."""
    n, parts = len(links), []
    for layer in links.places[:, 0].unique().tolist():
        own = links.of_layer(layer)
        found = view.link_readers(layer, links.places[own, 1:], links.toward[own])
        for way, vectors in enumerate(found):  # (link, pos, d_model)
            row, at = (vectors != 0).any(-1).nonzero(as_tuple=True)
            # a row that reads nothing still stands somewhere
            parts.append(Part(Site("resid_pre", layer), own + way * n, vectors.new_zeros(len(own), vectors.shape[2])))
            parts.append(Part(Site("resid_pre", layer), own[row] + way * n, vectors[row, at], at))
    return Rows(links.places[:, 2].repeat(len(WAYS)), links.toward.new_zeros(len(WAYS) * n), parts)


def reader_error(coded: Coded, units: Units) -> float:
    """How far what the held readers of units give is from the units' values, of what goes into it."""
    worst = 0.0
    for b in units.blocks.unique().tolist():
        here = units.of_block(b)
        at = coded.here(b, units.positions[here])
        found, const = coded.basis[b].reader(units.ids[here], at)
        parts = torch.stack([*(rows * at[site] for site, rows in found.items())]).transpose(0, 1).flatten(1)
        off_by = (parts.sum(1) + const - units.values[here]).abs()
        active = units.values[here] != 0
        size = (parts.abs().sum(1) + const.abs()).clamp(min=1e-12)
        worst = max(worst, float((off_by / size)[active].max()) if bool(active.any()) else 0.0)
    return worst


def chunk_bytes(device: torch.device) -> int:
    """Of the rows that go down together; on their way they take some eight times as much."""
    return budget(device).block // 2


def chunks(rows: Rows, width: int, itemsize: int, most: int) -> list[Tensor]:
    """Indices of rows that go down together: of near positions, since a row needs none after its own,
    and few enough for memory (`most` bytes); each sorted from the last site to the first."""
    positions, last = rows.positions.tolist(), rows.last_sites()
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    groups: list[list[int]] = []
    for i in order:
        n_pos = positions[i] + 1
        full = groups and (len(groups[-1]) + 1) * n_pos * width * itemsize > most
        # a group may waste at most a third of its work on positions that its first rows do not need
        wide = groups and len(groups[-1]) >= 256 and n_pos > 1.5 * (positions[groups[-1][0]] + 1)
        if not groups or full or wide:
            groups.append([])
        groups[-1].append(i)
    device = rows.positions.device
    return [torch.tensor(sorted(g, key=lambda i: last[i], reverse=True), device=device) for g in groups]


def edges(
    view: LinearView,
    coded: Coded,
    units: Units,
    rows: Rows,
    others: Sequence[Baseline] = (),
    tick: Tick = idle,
) -> Edges:
    """Direct effects of all sources on targets, `rows`. others: the counterfactuals, which the live view needs."""
    n_pos = view.n_tokens
    columns = Columns.of(view, coded, units)
    change = changes(view, coded, units, others) if others else None
    sides = [] if view.live else [values_at(view, coded, units)]
    sides += [] if change is None else [change]
    made = [view.tokens().new_zeros(len(rows), columns.count) for _ in sides]
    unit, tokens = view.tokens().new_zeros(len(rows), columns.nodes), view.tokens().new_zeros(len(rows), n_pos)
    constants = unit.new_zeros(len(rows))
    average = view.tokens().mean(0) if view.live else 0.0
    writers = writers_of(coded, units)
    groups = chunks(rows, _widest(view, coded), unit.element_size(), chunk_bytes(rows.positions.device))
    for number, group in enumerate(groups):
        way = Descent(view, rows.take(group), frozenset(coded.cuts), carry=_carry(coded))
        for site, first, cotangents in way:
            active, n = group[first : first + len(cotangents)], cotangents.shape[1]
            if site is not None and site.point == "z":
                assert change is not None and coded.links is not None and change.links is not None
                own = coded.links.of_layer(site.layer or 0)
                at = (active[:, None], len(units) + own)
                made[0][at] = torch.einsum("nld,ld->nl", cotangents, change.links[own])
                unit[at] = torch.einsum("nld,ld->nl", cotangents, coded.links.along()[own])
                continue
            if site is None:
                tokens[active, :n] = _contract(cotangents, view.tokens() - average)
            else:
                tick((number + 1 - (site.layer or 0) / view.parts.n_layers) / len(groups))
            for weights, side in zip(made, sides, strict=True):
                fill(weights, columns, active, site, cotangents, side)
            if site is None:
                continue
            if site in coded.rests:
                way.constants[first : first + len(cotangents)] += _contract(cotangents, coded.rests[site]).sum(1)
            for b in coded.writing(site):
                pass_offset(coded, b, way, site, first, cotangents)
                for p, here, vectors in writers[b, site]:
                    if p < n:
                        unit[active[:, None], here[None, :]] += cotangents[:, p] @ vectors.to(cotangents.dtype).T
        constants[group] = way.constants
    for weights, side in zip(made, sides, strict=True):
        columns.settle(weights, unit[:, : len(units)] * side.units)
    if view.live:
        constants.zero_()
    return Edges(made[0], unit, constants, made[1] if len(made) > 1 else None, tokens)


def fill(weights: Tensor, columns: Columns, active: Tensor, site: Site | None, cotangents: Tensor, side: Side) -> None:
    """What comes from tokens, errors, and each block as a whole, where cotangents (n pos d_model) of some rows are."""
    n = cotangents.shape[1]
    if site is None:
        weights[active, columns.nodes : columns.nodes + n] = _contract(cotangents, side.tokens)
        return
    if site in side.errors:
        start = columns.error(site)
        weights[active, start : start + n] = _contract(cotangents, side.errors[site])
    for b, y in side.written[site].items():
        start = columns.remainder(b)
        weights[active, start : start + n] += _contract(cotangents, y)


def _widest(view: LinearView, coded: Coded) -> int:
    """The most numbers of one row at a place on its way: of the stream, of features, or of a live view's patterns."""
    features = max(len(codes) for codes in coded.codes) // view.n_tokens
    return max(view.parts.d_model, features, view.parts.n_heads * view.n_tokens if view.live else 0)


def hidden_edges(view: LinearView, coded: Coded, units: Units, rows: Rows, others: Sequence[Baseline] = ()) -> Tensor:
    """(n_rows,): the sum of the absolute edges into targets from all that a graph of these units does not show, errors
    and features not kept: one by one, as the remainders that stand for these cancel."""
    gross, hidden = view.tokens().new_zeros(len(rows)), _hidden(coded, units, others)
    left = changes(view, coded, units, others).errors if others else coded.errors
    for group in chunks(rows, _widest(view, coded), gross.element_size(), chunk_bytes(gross.device)):
        way = Descent(view, rows.take(group), frozenset(coded.cuts), carry=_carry(coded))
        for site, first, cotangents in way:
            active, n = group[first : first + len(cotangents)], cotangents.shape[1]
            if site is None or site.point == "z":
                continue
            if site in left:
                gross[active] += _contract(cotangents, left[site]).abs().sum(1)
            for b in coded.writing(site):
                pass_offset(coded, b, way, site, first, cotangents)
                codes, x = hidden[b].until(n), {s: y[:n] for s, y in coded.inputs[b].items()}
                gross[active] += coded.basis[b].effects(codes, site, cotangents, x).abs_() @ codes.values
    return gross


def _hidden(coded: Coded, kept: Units, others: Sequence[Baseline]) -> list[Codes]:
    """Per block, how large features are that were not kept, or how far from their counterfactuals."""
    out = []
    for b, codes in enumerate(coded.codes):
        codes = codes.less([other.codes[b] for other in others]) if others else codes
        size, here = codes.values.abs(), kept.of_block(b)
        found = codes.find(kept.positions[here], kept.ids[here])
        size[found[found >= 0]] = 0
        out.append(codes.valued(size))
    return out


@dataclass
class Columns:
    """Where each source has its column: units, links, tokens, remainders by block, errors by site."""

    units: Units
    n_links: int
    n_pos: int
    n_blocks: int
    error_sites: list[Site]

    @classmethod
    def of(cls, view: LinearView, coded: Coded, units: Units) -> Columns:
        """Those of a graph: with the links that cut its map, if it is live."""
        n_links = len(coded.links) if coded.links is not None and view.links else 0
        return cls(units, n_links, view.n_tokens, len(coded.basis), sorted(coded.errors))

    @property
    def nodes(self) -> int:
        return len(self.units) + self.n_links

    @property
    def count(self) -> int:
        return self.nodes + self.n_pos * (1 + self.n_blocks + len(self.error_sites))

    def remainder(self, block: int) -> int:
        return self.nodes + self.n_pos * (1 + block)

    def error(self, site: Site) -> int:
        return self.nodes + self.n_pos * (1 + self.n_blocks + self.error_sites.index(site))

    def settle(self, weights: Tensor, kept: Tensor) -> None:
        """Put the kept units' edges in place, and take them out of their blocks' totals."""
        weights[:, : len(self.units)] = kept
        at = self.nodes + self.n_pos * (1 + self.units.blocks) + self.units.positions
        weights.index_add_(1, at, kept, alpha=-1)


def pass_offset(coded: Coded, block: int, way: Descent, site: Site, first: int, cotangents: Tensor) -> None:
    """What a block writes with all features at zero: a constant, and what it passes on from where it reads."""
    x = coded.inputs[block]
    offset = coded.basis[block].offset(site, x)
    if offset is None:
        return
    rows = slice(first, first + len(cotangents))
    way.constants[rows] += _contract(cotangents, offset).sum(1)
    if coded.basis[block].skips and way.carry is not None:
        n = cotangents.shape[1]
        for read, pulled in coded.basis[block].pull_offset(site, cotangents, {s: y[:n] for s, y in x.items()}).items():
            way.constants[rows] -= _contract(pulled, x[read]).sum(1)
            way.put(read, pulled)


def _carry(coded: Coded) -> dict[Site, Tensor] | None:
    return {} if any(block.skips for block in coded.basis) else None


def writers_of(coded: Coded, units: Units) -> dict[tuple[int, Site], list[tuple[int, Tensor, Tensor]]]:
    """By block and site that it writes, of each position with units: it, which they are, and what one unit of each
    writes (n, d_model)."""
    out: dict[tuple[int, Site], list[tuple[int, Tensor, Tensor]]] = {}
    for b, block in enumerate(coded.basis):
        here = units.of_block(b)
        for site in block.writes:
            rows = out.setdefault((b, site), [])
            for p in units.positions[here].unique().tolist():
                at = here[units.positions[here] == p]
                rows.append((p, at, block.writer(units.ids[at], site, coded.here(b, units.positions[at]))))
    return out


def _contract(cotangents: Tensor, values: Tensor) -> Tensor:
    """(n pos d) with (pos d), position by position, to (n pos)."""
    return torch.einsum("npd,pd->np", cotangents, values[: cotangents.shape[1]])
