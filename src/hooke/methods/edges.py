"""Direct effects between the nodes of an attribution graph, by one pass down the frozen map.

Targets are features and logits; sources are the kept features, the tokens, what the node budget
hides (one remainder per block and position), and what the dictionary does not reconstruct (errors).
The cost follows the nodes that are kept, not the width of the model (Ameisen et al. 2025, section on
computing edges; here without autograd).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.dictionaries import Dictionary
from hooke.methods.progress import Tick, idle
from hooke.model import Frozen, Rows
from hooke.sites import Site

ROW_BYTES = 2**26  # one chunk of rows going down; on its way it takes some eight times as much


@dataclass
class Units:
    """Features at positions: entry i is feature `ids[i]` of basis block `blocks[i]` at `positions[i]`."""

    blocks: Tensor  # (n,)
    ids: Tensor  # (n,)
    positions: Tensor  # (n,)
    values: Tensor  # (n,)
    baselines: Tensor | None = None  # (n,) counterfactual values

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, at: Tensor) -> Units:
        baselines = None if self.baselines is None else self.baselines[at]
        return Units(self.blocks[at], self.ids[at], self.positions[at], self.values[at], baselines)


@dataclass
class Codebook:
    """All codes of a prompt in a basis: values (pos, n_features) of each block, and what they leave over."""

    basis: Sequence[Dictionary]
    values: list[Tensor]  # per block, (pos, n_features)
    inputs: list[Tensor]  # per block, the read values (pos, width)
    errors: dict[int, Tensor]  # layer -> (pos, d_model) at mlp_out: what no feature writes


def encode(frozen: Frozen, basis: Sequence[Dictionary], tolerance: float) -> Codebook:
    """Encode a prompt. Errors under `tolerance` of the MLP output are rounding and belong to remainders."""
    values, inputs = [], []
    written: dict[int, Tensor] = {}
    for block in basis:
        (read,) = block.reads
        x = frozen.values[read]
        codes = block.encode({read: x})
        values.append(codes.dense())
        inputs.append(x)
        for site, y in block.decode(codes).items():
            layer = site.layer or 0
            out = frozen.after_mlp(layer, y) if site.point == "mlp_proj" else y
            written[layer] = written[layer] + out if layer in written else out
    errors = {}
    for layer in range(frozen.parts.n_layers):
        actual = frozen.after_mlp(layer, frozen.values[Site("mlp_proj", layer)])
        left = actual - written[layer] if layer in written else actual
        exact = all(site.point == "mlp_proj" for block in basis for site in block.writes if site.layer == layer)
        if not exact or float(left.norm()) > tolerance * float(actual.norm()):
            errors[layer] = left
    return Codebook(basis, values, inputs, errors)


@dataclass
class Edges:
    """Direct effects. Columns: the units, then tokens (pos), remainders (block · pos), errors (layer · pos).

    weights[t, s] · (value of s) is folded in: a row plus its constant sums to the target's value.
    unit[t, s] is the effect of one unit of feature s. delta is (value − baseline) · unit.
    """

    weights: Tensor  # (n_targets, n_sources)
    unit: Tensor  # (n_targets, n_units)
    constants: Tensor  # (n_targets,)
    delta: Tensor | None  # (n_targets, n_sources)


def readers(book: Codebook, units: Units) -> Rows:
    """The rows that read the units, in their order."""
    width = book.inputs[0].shape[-1]
    vectors = book.inputs[0].new_zeros(len(units), width)
    consts = book.inputs[0].new_zeros(len(units))
    sites = [book.basis[b].reads[0] for b in units.blocks.tolist()]
    for b in units.blocks.unique().tolist():
        here = (units.blocks == b).nonzero()[:, 0]
        at = book.inputs[b][units.positions[here]]
        vectors[here], consts[here] = book.basis[b].reader(units.ids[here], at)
    return Rows(sites, units.positions, vectors, consts)


def join(a: Rows, b: Rows) -> Rows:
    return Rows(a.sites + b.sites, *(torch.cat(pair) for pair in zip(a[1:], b[1:], strict=True)))


def take(rows: Rows, at: Tensor) -> Rows:
    return Rows([rows.sites[i] for i in at.tolist()], *(x[at] for x in rows[1:]))


def chunks(rows: Rows, width: int, itemsize: int) -> list[Tensor]:
    """Indices of rows that go down together: of near positions, since a row needs none after its own,
    and few enough for memory; each sorted from the last site to the first."""
    positions = rows.positions.tolist()
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    groups: list[list[int]] = []
    for i in order:
        n_pos = positions[i] + 1
        full = groups and (len(groups[-1]) + 1) * n_pos * width * itemsize > ROW_BYTES
        # a group may waste at most a third of its work on positions that its first rows do not need
        wide = groups and len(groups[-1]) >= 256 and n_pos > 1.5 * (positions[groups[-1][0]] + 1)
        if not groups or full or wide:
            groups.append([])
        groups[-1].append(i)
    return [torch.tensor(sorted(g, key=lambda i: rows.sites[i], reverse=True)) for g in groups]


def edges(
    frozen: Frozen,
    book: Codebook,
    units: Units,
    logits: Rows,
    baseline: tuple[list[Tensor], Tensor] | None = None,
    tick: Tick = idle,
) -> Edges:
    """Direct effects of all sources on the units and then the logits.

    baseline: the counterfactual's codes (per block, pos n_features) and tokens (pos d_model), for deltas.
    """
    rows = join(readers(book, units), logits)
    n_units, n_pos = len(units), frozen.n_tokens
    columns = Columns(units, n_pos, len(book.basis), sorted(book.errors))
    weights = rows.vectors.new_zeros(len(rows.sites), columns.count, dtype=frozen.dtype)
    unit = weights.new_zeros(len(rows.sites), n_units)
    delta = None if baseline is None else torch.zeros_like(weights)
    constants = frozen.entry_constants(rows)
    fixed = _constants(frozen, book)
    written = _written(frozen, book, book.values, rounding=True)
    changed: Written = {}
    if baseline is not None:
        changes = [a - b for a, b in zip(book.values, baseline[0], strict=True)]
        changed = _written(frozen, book, changes, rounding=False)
    groups = chunks(rows, rows.vectors.shape[-1], weights.element_size())
    for number, group in enumerate(groups):
        group = group.to(weights.device)
        for site, cotangents in frozen.descend(take(rows, group)):
            active, n = group[: len(cotangents)], cotangents.shape[1]
            if site in fixed:
                constants[active] += torch.einsum("npd,pd->n", cotangents, fixed[site][:n])
            if site.point == "resid_pre":
                at = slice(n_units, n_units + n)
                weights[active, at] = _contract(cotangents, frozen.tokens())
                if delta is not None and baseline is not None:
                    delta[active, at] = _contract(cotangents, frozen.tokens() - baseline[1])
            if site.point != "mlp_out":
                continue
            tick(_down(number, len(groups), site, frozen))
            for place, cotangent in _at_writes(site, cotangents, frozen, written):
                for b, total in written[place]:
                    start = columns.remainder(b)
                    weights[active, start : start + n] += _contract(cotangent, total)
                    if delta is not None:
                        delta[active, start : start + n] += _contract(cotangent, dict(changed[place])[b])
                    for p, here in _by_position(units, b, n):
                        writers = book.basis[b].writer(units.ids[here], place).to(cotangent.dtype)
                        unit[active[:, None], here[None, :]] += cotangent[:, p] @ writers.T
            if site.layer in columns.error_layers:
                start = columns.error(site.layer)
                weights[active, start : start + n] = _contract(cotangents, book.errors[site.layer])
    columns.settle(weights, unit * units.values)
    if delta is not None:
        assert units.baselines is not None
        columns.settle(delta, unit * (units.values - units.baselines))
    return Edges(weights, unit, constants, delta)


@dataclass
class Columns:
    """Where each source has its column: units, tokens, remainders by block, errors by layer."""

    units: Units
    n_pos: int
    n_blocks: int
    error_layers: list[int]

    @property
    def count(self) -> int:
        return len(self.units) + self.n_pos * (1 + self.n_blocks + len(self.error_layers))

    def remainder(self, block: int) -> int:
        return len(self.units) + self.n_pos * (1 + block)

    def error(self, layer: int) -> int:
        return len(self.units) + self.n_pos * (1 + self.n_blocks + self.error_layers.index(layer))

    def settle(self, weights: Tensor, kept: Tensor) -> None:
        """Put the kept units' edges in place, and take them out of their blocks' totals."""
        weights[:, : len(self.units)] = kept
        at = len(self.units) + self.n_pos * (1 + self.units.blocks) + self.units.positions
        weights.index_add_(1, at, kept, alpha=-1)


# site -> what each block writes there without its offset, [(block, (pos, d_model))]
Written = dict[Site, list[tuple[int, Tensor]]]


def _written(frozen: Frozen, book: Codebook, values: list[Tensor], *, rounding: bool) -> Written:
    """With `rounding`, what a layer's codes leave over goes to its block, so that sums stay exact."""
    out: Written = {}
    for b, (block, value) in enumerate(zip(book.basis, values, strict=True)):
        everything = torch.arange(block.n_features, device=value.device)
        for site in block.writes:
            out.setdefault(site, []).append((b, value @ block.writer(everything, site).to(value.dtype)))
    for site, parts in out.items():
        if not rounding or site.point != "mlp_proj" or site.layer in book.errors:
            continue
        left = frozen.values[site] - sum(y for _, y in parts)
        for b, _ in parts:
            offset = book.basis[b].offset(site)
            left = left if offset is None else left - offset.to(left.dtype)
        parts[0] = (parts[0][0], parts[0][1] + left)
    return out


def _constants(frozen: Frozen, book: Codebook) -> dict[Site, Tensor]:
    """What biases write to the stream at each layer (pos, d_model)."""
    out: dict[Site, Tensor] = {}
    zero = torch.zeros_like(frozen.tokens())
    for layer, block in enumerate(frozen.parts.blocks):
        norms = [block.attn_norm, block.attn_post_norm]
        if block.v.bias is not None or block.o.bias is not None or any(n and n.bias is not None for n in norms):
            out[Site("attn_out", layer)] = frozen.attend(layer, zero)
    for dictionary in book.basis:
        for site in dictionary.writes:
            offset = dictionary.offset(site)
            if offset is None:
                continue
            layer = site.layer or 0
            y = zero + offset.to(frozen.dtype)
            y = frozen.after_mlp(layer, y) if site.point == "mlp_proj" else y
            at = Site("mlp_out", layer)
            out[at] = out[at] + y if at in out else y
    return out


def _contract(cotangents: Tensor, values: Tensor) -> Tensor:
    """(n pos d) with (pos d), position by position, to (n pos)."""
    return torch.einsum("npd,pd->np", cotangents, values[: cotangents.shape[1]])


def _at_writes(site: Site, cotangents: Tensor, frozen: Frozen, written: Written) -> Iterator[tuple[Site, Tensor]]:
    """The sites of this layer that something writes, with the cotangents pulled to them."""
    layer = site.layer or 0
    if site in written:
        yield site, cotangents
    before = Site("mlp_proj", layer)
    if before in written:
        yield before, frozen.pull_mlp_out(layer, cotangents)


def _by_position(units: Units, block: int, n_pos: int) -> list[tuple[int, Tensor]]:
    here = (units.blocks == block).nonzero()[:, 0]
    positions = units.positions[here]
    return [(p, here[positions == p]) for p in positions.unique().tolist() if p < n_pos]


def _down(number: int, count: int, site: Site, frozen: Frozen) -> float:
    """How much is done when the group of this number, of so many, is at a site on its way down."""
    n_layers = frozen.parts.n_layers
    return (number + (n_layers - 1 - (site.layer or 0)) / n_layers) / count


def hidden_gross(
    frozen: Frozen, book: Codebook, kept: Units, rows: Rows, values: list[Tensor], tick: Tick = idle
) -> Tensor:
    """(n,): for each row, the sum of the absolute edges of all that the graph does not show: features
    that were not kept, and errors. values: per block (pos, n_features), what multiplies the writers."""
    gross = rows.vectors.new_zeros(len(rows.sites), dtype=frozen.dtype)
    hidden = [v.abs() for v in values]
    for b, p, i in zip(kept.blocks.tolist(), kept.positions.tolist(), kept.ids.tolist(), strict=True):
        hidden[b][p, i] = 0
    by_site: dict[Site, list[int]] = {}
    for b, block in enumerate(book.basis):
        for site in block.writes:
            by_site.setdefault(site, []).append(b)
    written: Written = {site: [(b, hidden[b]) for b in blocks] for site, blocks in by_site.items()}
    groups = chunks(rows, max(v.shape[1] for v in values), gross.element_size())
    for number, group in enumerate(groups):
        group = group.to(gross.device)
        for site, cotangents in frozen.descend(take(rows, group)):
            if site.point != "mlp_out":
                continue
            tick(_down(number, len(groups), site, frozen))
            active, n = group[: len(cotangents)], cotangents.shape[1]
            for place, cotangent in _at_writes(site, cotangents, frozen, written):
                for b, size in written[place]:
                    everything = torch.arange(book.basis[b].n_features, device=gross.device)
                    writers = book.basis[b].writer(everything, place).to(cotangent.dtype)
                    effects = (cotangent.reshape(len(active) * n, -1) @ writers.T).abs_()
                    gross[active] += effects.view(len(active), -1) @ size[:n].flatten()
            if site.layer in book.errors:
                gross[active] += _contract(cotangents, book.errors[site.layer]).abs().sum(1)
    return gross
