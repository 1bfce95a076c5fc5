"""Direct effects between the nodes of an attribution graph, by one pass down the linear map.

Targets are features and logits; sources are the kept features, the tokens, what the node budget
hides (one remainder per block and position), and what the dictionaries do not reconstruct (errors).
The cost follows the nodes that are kept, not the width of the model (Ameisen et al. 2025, section on
computing edges; here without autograd).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.dictionaries import Codes
from hooke.methods.progress import Tick, idle
from hooke.methods.trace.coded import Coded, Units
from hooke.model import Descent, LinearView, Rows
from hooke.model.budget import budget
from hooke.model.linear_view import Part
from hooke.sites import Site


@dataclass
class Edges:
    """Direct effects. Columns: the units, then tokens (pos), remainders (block · pos), errors (site · pos).

    weights[t, s] · (value of s) is folded in: a row plus its constant sums to the target's value.
    unit[t, s] is the effect of one unit of feature s. delta is (value − baseline) · unit.
    """

    weights: Tensor  # (n_targets, n_sources)
    unit: Tensor  # (n_targets, n_units)
    constants: Tensor  # (n_targets,)
    delta: Tensor | None  # (n_targets, n_sources)


def readers(coded: Coded, units: Units) -> Rows:
    """The rows that read the units, in their order."""
    consts = coded.codes[0].values.new_zeros(len(units))
    parts = []
    for b in units.blocks.unique().tolist():
        here = units.of_block(b)
        found, const = coded.basis[b].reader(units.ids[here], coded.here(b, units.positions[here]))
        consts[here] = const.to(consts.dtype)
        parts += [Part(site, here, vectors) for site, vectors in found.items()]
    return Rows(units.positions, consts, parts)


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
    logits: Rows,
    baseline: tuple[Sequence[Sequence[Codes]], Tensor] | None = None,
    tick: Tick = idle,
) -> Edges:
    """Direct effects of all sources on the units and then the logits.

    baseline: the codes of each counterfactual (per block) and their mean tokens (pos d_model), for deltas; the
    units' own baselines are the means of those codes.
    """
    rows = readers(coded, units).join(logits)
    n_units, n_pos = len(units), view.n_tokens
    columns = Columns(units, n_pos, len(coded.basis), sorted(coded.errors))
    weights = view.tokens().new_zeros(len(rows), columns.count)
    unit = weights.new_zeros(len(rows), n_units)
    delta = None if baseline is None else torch.zeros_like(weights)
    constants = weights.new_zeros(len(rows))
    totals = coded.written(coded.codes)
    changes: dict[Site, dict[int, Tensor]] = {}
    if baseline is not None:
        others = [coded.written(codes) for codes in baseline[0]]
        for place, parts in totals.items():
            changes[place] = {b: y - torch.stack([w[place][b] for w in others]).mean(0) for b, y in parts.items()}
    writers = {(b, place): _writers(coded, units, b, place) for place in totals for b in totals[place]}
    groups = chunks(rows, view.tokens().shape[1], weights.element_size(), chunk_bytes(rows.positions.device))
    for number, group in enumerate(groups):
        way = Descent(view, rows.take(group), frozenset(totals), carry=_carry(coded))
        for site, first, cotangents in way:
            active, n = group[first : first + len(cotangents)], cotangents.shape[1]
            if site is None:
                at = slice(n_units, n_units + n)
                weights[active, at] = _contract(cotangents, view.tokens())
                if delta is not None and baseline is not None:
                    delta[active, at] = _contract(cotangents, view.tokens() - baseline[1])
                continue
            tick((number + 1 - (site.layer or 0) / view.parts.n_layers) / len(groups))
            if site in coded.rests:
                way.constants[first : first + len(cotangents)] += _contract(cotangents, coded.rests[site]).sum(1)
            if site in coded.errors:
                start = columns.error(site)
                weights[active, start : start + n] = _contract(cotangents, coded.errors[site])
            for b, total in totals[site].items():
                pass_offset(coded, b, way, site, first, cotangents)
                start = columns.remainder(b)
                weights[active, start : start + n] += _contract(cotangents, total)
                if delta is not None:
                    delta[active, start : start + n] += _contract(cotangents, changes[site][b])
                for p, here, vectors in writers[b, site]:
                    if p < n:
                        unit[active[:, None], here[None, :]] += cotangents[:, p] @ vectors.to(cotangents.dtype).T
        constants[group] = way.constants
    columns.settle(weights, unit * units.values)
    if delta is not None:
        assert units.baselines is not None
        columns.settle(delta, unit * (units.values - units.baselines))
    return Edges(weights, unit, constants, delta)


@dataclass
class Columns:
    """Where each source has its column: units, tokens, remainders by block, errors by site."""

    units: Units
    n_pos: int
    n_blocks: int
    error_sites: list[Site]

    @property
    def count(self) -> int:
        return len(self.units) + self.n_pos * (1 + self.n_blocks + len(self.error_sites))

    def remainder(self, block: int) -> int:
        return len(self.units) + self.n_pos * (1 + block)

    def error(self, site: Site) -> int:
        return len(self.units) + self.n_pos * (1 + self.n_blocks + self.error_sites.index(site))

    def settle(self, weights: Tensor, kept: Tensor) -> None:
        """Put the kept units' edges in place, and take them out of their blocks' totals."""
        weights[:, : len(self.units)] = kept
        at = len(self.units) + self.n_pos * (1 + self.units.blocks) + self.units.positions
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


def _writers(coded: Coded, units: Units, block: int, site: Site) -> list[tuple[int, Tensor, Tensor]]:
    """Of each position with units of a block: it, which they are, and what one unit of each writes (n, d_model)."""
    here = units.of_block(block)
    positions = units.positions[here]
    out = []
    for p in positions.unique().tolist():
        at = here[positions == p]
        out.append((p, at, coded.basis[block].writer(units.ids[at], site, coded.here(block, units.positions[at]))))
    return out


def _contract(cotangents: Tensor, values: Tensor) -> Tensor:
    """(n pos d) with (pos d), position by position, to (n pos)."""
    return torch.einsum("npd,pd->np", cotangents, values[: cotangents.shape[1]])


def hidden_gross(
    view: LinearView, coded: Coded, kept: Units, rows: Rows, sizes: Sequence[Codes], tick: Tick = idle
) -> Tensor:
    """(n,): for each row, the sum of the absolute edges of all that the graph does not show: features
    that were not kept, and errors. sizes: per block, what multiplies the writers."""
    gross = view.tokens().new_zeros(len(rows))
    hidden = []
    for b, codes in enumerate(sizes):
        size, here = codes.values.abs(), kept.of_block(b)
        found = codes.find(kept.positions[here], kept.ids[here])
        size[found[found >= 0]] = 0
        hidden.append(codes.valued(size))
    widest = max(max(len(codes) for codes in sizes) // view.n_tokens, view.tokens().shape[1])
    groups = chunks(rows, widest, gross.element_size(), chunk_bytes(rows.positions.device))
    for number, group in enumerate(groups):
        way = Descent(view, rows.take(group), frozenset(coded.cuts), carry=_carry(coded))
        for site, first, cotangents in way:
            if site is None:
                continue
            tick((number + 1 - (site.layer or 0) / view.parts.n_layers) / len(groups))
            active, n = group[first : first + len(cotangents)], cotangents.shape[1]
            for b in coded.writing(site):
                pass_offset(coded, b, way, site, first, cotangents)
                codes = hidden[b].until(n)
                x = {s: y[:n] for s, y in coded.inputs[b].items()}
                gross[active] += coded.basis[b].effects(codes, site, cotangents, x).abs_() @ codes.values
            if site in coded.errors:
                gross[active] += _contract(cotangents, coded.errors[site]).abs().sum(1)
    return gross
