"""A prompt in a basis of dictionaries: its codes, and what they leave over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from hooke.dictionaries import Codes, Dictionary, Neurons
from hooke.errors import HookeError
from hooke.methods.metric import Metric
from hooke.methods.metrics import rounding
from hooke.model import Edit, LinearView, Model
from hooke.model.hooks import check_site
from hooke.model.linear_view import CUT, READ
from hooke.model.live import LiveView
from hooke.model.recorded import Recorded
from hooke.sites import Site

Form = Literal["live", "held"]
SEEN = 0.1  # cosine: of a link of which the answer sees less, paths do not go through it
ROUNDING = 1e-4  # of a value: what a difference of two may be by rounding
EXACT = 1e-3  # of what stands at a site: what an exact basis may leave over there without its being shown


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

    def of_block(self, block: int) -> Tensor:
        """Which of them are of a block."""
        return (self.blocks == block).nonzero()[:, 0]


@dataclass
class Links:
    """Links of attention that are nodes of a graph: each cuts the map, as a feature does.

    here: what each brings to its head, p · v. there: the same in each counterfactual (baseline, n, d_head). toward: the
    answer's slopes at what each brings. ranks: in which order they were chosen among all nodes, from 1.
    """

    places: Tensor  # (n, 4): layer, head, query, key
    here: Tensor  # (n, d_head)
    there: Tensor
    toward: Tensor  # (n, d_head)
    ranks: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.places)

    @property
    def changes(self) -> Tensor:
        """(n, d_head): how far what each brings is from the counterfactuals, on average."""
        return self.here - self.there.mean(0)

    @property
    def values(self) -> Tensor:
        """(n,): what each brings, as the answer sees it: times its slopes."""
        return (self.here * self.toward).sum(1)

    @property
    def deltas(self) -> Tensor:
        """(n,): the same of how far it is from the counterfactuals."""
        return (self.changes * self.toward).sum(1)

    @property
    def seen(self) -> Tensor:
        """(n,): the cosine of how far what each brings is from the counterfactuals with the answer's slopes there."""
        size = self.changes.norm(dim=1) * self.toward.norm(dim=1)
        return self.deltas / size.clamp(min=torch.finfo(size.dtype).tiny)

    def along(self) -> Tensor:
        """(n, d_head): as much of each, along how far it is from the counterfactuals, as is worth one to the answer.
        What comes to a link is known by its worth alone; where the answer sees too little of it, nothing goes on."""
        each = torch.where(self.seen.abs() >= SEEN, 1 / self.deltas, 0.0)
        return self.changes * each[:, None]

    def of_layer(self, layer: int) -> Tensor:
        """Which of them are of a layer, in the order of the cut map."""
        return (self.places[:, 0] == layer).nonzero()[:, 0]

    def together(self, own: Tensor, n_pos: int, n_heads: int, what: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Which links of one layer these are, (head, query, key), and what they bring together, (query, head, d_head);
        what: what each brings (n, d_head), here if None."""
        _, head, query, key = self.places[own].T
        brings = self.here if what is None else what
        weight = brings.new_zeros(n_heads, n_pos, n_pos)
        weight[head, query, key] = 1.0
        none = brings.new_zeros(n_pos, n_heads, brings.shape[1])
        return weight, none.index_put((query, head), brings[own], accumulate=True)


@dataclass
class Coded:
    """All codes of a prompt in a basis, and what they leave over."""

    basis: Sequence[Dictionary]
    codes: list[Codes]  # per block; of dictionaries also, at zero, what is active on a counterfactual alone (`widen`)
    inputs: list[dict[Site, Tensor]]  # per block, the values at its read sites (pos, width)
    errors: dict[Site, Tensor]  # at each site that is written (pos, d_model): what no feature writes, if it is seen
    rests: dict[Site, Tensor]  # the same where it is next to nothing: it counts with the constants
    links: Links | None = None  # nodes of the graph beside features

    @property
    def cuts(self) -> list[Site]:
        """Every site that some block writes."""
        return sorted({site for block in self.basis for site in block.writes})

    def widen(self, others: Sequence[Baseline]) -> None:
        """Take in the features of dictionaries that are active in other runs alone: what is absent is a cause too."""
        for b, block in enumerate(self.basis):
            if not isinstance(block, Neurons):
                self.codes[b] = self.codes[b].beside([other.codes[b] for other in others])

    def layer(self, block: int) -> int:
        """The layer that a block's features are shown at: where it reads last."""
        return max(self.basis[block].reads).layer or 0

    def writing(self, site: Site) -> list[int]:
        """The blocks that write at a site."""
        return [b for b, block in enumerate(self.basis) if site in block.writes]

    def here(self, block: int, positions: Tensor) -> dict[Site, Tensor]:
        """What a block reads at positions (n,), each (n, width)."""
        return {site: x[positions] for site, x in self.inputs[block].items()}

    def units(self, blocks: Tensor, positions: Tensor, ids: Tensor, others: Sequence[Sequence[Codes]]) -> Units:
        """Features at positions with their values, and the mean of what other codes (per block) have for them."""
        found = Units(blocks, ids, positions, self.codes[0].values.new_zeros(len(ids)))
        found.values = self.values_at(self.codes, found)
        found.baselines = torch.stack([self.values_at(codes, found) for codes in others]).mean(0)
        return found

    def edits(self, units: Units, values: Tensor) -> list[Edit]:
        """Edits that give units these values (n,)."""
        out: list[Edit] = []
        for b in units.blocks.unique().tolist():
            own = units.of_block(b)
            out += self.basis[b].edits(units.ids[own], values[own], units.positions[own])
        return out

    def masks(self, units: Units) -> list[Tensor]:
        """Per block (n_entries,), True for the entries of its codes that are among active units."""
        out = []
        for b, codes in enumerate(self.codes):
            own, mask = units.of_block(b), torch.zeros_like(codes.values, dtype=torch.bool)
            at = codes.find(units.positions[own], units.ids[own])
            mask[at[at >= 0]] = True
            out.append(mask)
        return out

    def values_at(self, codes: Sequence[Codes], units: Units) -> Tensor:
        """(n,): what codes of this basis (per block) have for units, zero where they are not active."""
        out = codes[0].values.new_zeros(len(units))
        for b, block in enumerate(codes):
            here = units.of_block(b)
            if len(here):
                out[here] = block.at(units.positions[here], units.ids[here])
        return out

    def at_units(self, values: Sequence[Tensor], units: Units) -> Tensor:
        """(n,): of values for each entry of the codes (per block), those of units; zero for units not active."""
        return self.values_at([codes.valued(x) for codes, x in zip(self.codes, values, strict=True)], units)

    def written(self, codes: Sequence[Codes]) -> dict[Site, dict[int, Tensor]]:
        """What features of these values write, (pos, d_model) by site and block, without offsets."""
        out: dict[Site, dict[int, Tensor]] = {}
        for b, block in enumerate(self.basis):
            for site, y in block.decode(codes[b], self.inputs[b]).items():
                offset = block.offset(site, self.inputs[b])
                out.setdefault(site, {})[b] = y if offset is None else y - offset
        return out


@dataclass
class Baseline:
    """One run to compare with: its codes (per block), tokens (pos d_model), last logits and what is unembedded to them
    (d_model,), and by written site (pos d_model) what stands there and what its features leave over of that."""

    name: str
    ids: Tensor  # (pos,)
    codes: list[Codes]
    tokens: Tensor
    logits: Tensor
    final: Tensor
    values: dict[Site, Tensor]
    errors: dict[Site, Tensor]
    inputs: list[dict[Site, Tensor]] = field(default_factory=list)  # per block, the values at its read sites (pos, …)


@dataclass
class Case:
    """A prompt to be traced: its run, its linear view, its codes, what is explained, and what it is contrasted with."""

    model: Model
    run: Recorded  # of the unchanged model
    view: LinearView  # the held one
    coded: Coded
    metric: Metric
    baselines: list[Baseline]
    live: LiveView | None = None  # if edges are to be live

    @property
    def form(self) -> Form:
        """What edges are of."""
        return "held" if self.live is None else "live"

    @property
    def map(self) -> LinearView:
        """What edges are made of: cut at the links that are nodes."""
        if self.live is None or self.coded.links is None:
            return self.view if self.live is None else self.live
        return self.live.with_links(self.coded.links.places)

    @property
    def logits(self) -> Tensor:
        """(d_vocab,), of the unchanged model."""
        return self.run.logits

    @property
    def rounding(self) -> float:
        """What an effect may be though nothing is changed."""
        return rounding(self.logits, self.model.dtype)


def jumps(case: Case, units: Units) -> Tensor:
    """(n,): how much further features of gated dictionaries are from the counterfactuals than what their gates are
    asked for, which is what edges add up to; zero where a feature is what its reader gives, and for neurons."""
    out = torch.zeros_like(units.values)
    runs = [(case.coded.inputs, case.coded.codes, 1.0)]
    runs += [(other.inputs, other.codes, -1 / len(case.baselines)) for other in case.baselines]
    for b in units.blocks.unique().tolist():
        own, block = units.of_block(b), case.coded.basis[b]
        if isinstance(block, Neurons):
            continue
        for inputs, codes, weight in runs:
            at = {site: x[units.positions[own]] for site, x in inputs[b].items()}
            vectors, const = block.reader(units.ids[own], at)
            asked = torch.stack([(rows * at[site]).sum(1) for site, rows in vectors.items()]).sum(0) + const
            out[own] += weight * (codes[b].at(units.positions[own], units.ids[own]) - asked).to(out.dtype)
    return torch.where(out.abs() > ROUNDING * units.values.abs(), out, 0.0)


def streamed(view: LinearView, coded: Coded, units: Units, layer: int | None = None) -> Tensor:
    """(n, d_model): what one unit of each feature adds to the stream, after post-norms with their denominators held: at
    all that it writes, or in one layer."""
    out = view.tokens().new_zeros(len(units), view.parts.d_model)
    for b in units.blocks.unique().tolist():
        here = units.of_block(b)
        at = units.positions[here]
        for site in coded.basis[b].writes:
            if layer is not None and site.layer != layer:
                continue
            vectors = coded.basis[b].writer(units.ids[here], site, coded.here(b, at)).to(out.dtype)
            post = view.parts.blocks[site.layer or 0].mlp_post_norm if site.point == "mlp_proj" else None
            if post is not None:
                vectors = post.apply(vectors, view.scales[Site("mlp_post_scale", site.layer)][at])
                vectors = vectors if post.bias is None else vectors - post.bias
            out[here] += vectors
    return out


def check_basis(model: Model, basis: Sequence[Dictionary]) -> None:
    """Raise HookeError, in one line, for dictionaries that no graph can be drawn in."""
    for block in basis:
        for site in (*block.reads, *block.writes):
            check_site(model.parts, site)
        odd = [s for s in block.reads if s.point not in READ] + [s for s in block.writes if s.point not in CUT]
        if odd:
            points = ", ".join(CUT)
            raise HookeError(
                f"the linear view cannot hold {block.hash} at {odd[0]}: a dictionary reads and writes {points}, or "
                "reads mlp_in and final_norm"
            )
        if max(block.reads) > min(block.writes):
            raise HookeError(
                f"{block.hash} reads {max(block.reads)} and writes {min(block.writes)} before it: what reads later "
                "than it writes explains nothing, so no graph is drawn in it"
            )
    if len({block.hash for block in basis}) < len(basis):
        raise HookeError("the same dictionary is given twice")


def encode(view: LinearView, basis: Sequence[Dictionary]) -> Coded:
    """Encode a prompt, and find what the features leave over at every site that they write."""
    inputs = [{site: view.value(site) for site in block.reads} for block in basis]
    codes = [block.encode(x) for block, x in zip(basis, inputs, strict=True)]
    errors: dict[Site, Tensor] = {}
    rests: dict[Site, Tensor] = {}
    for site, left in left_over(basis, codes, inputs, view.value).items():
        small = float(left.norm()) <= EXACT * float(view.value(site).norm())
        (rests if small else errors)[site] = left
    return Coded(basis, codes, inputs, errors, rests)


def left_over(
    basis: Sequence[Dictionary],
    codes: Sequence[Codes],
    inputs: Sequence[Mapping[Site, Tensor]],
    value: Callable[[Site], Tensor],
) -> dict[Site, Tensor]:
    """(pos, d_model) at each site that is written: what stands there less what the features write."""
    sums: dict[Site, Tensor] = {}
    for block, given, x in zip(basis, codes, inputs, strict=True):
        for site, y in block.decode(given, x).items():
            sums[site] = sums[site] + y if site in sums else y
    return {site: value(site) - total for site, total in sums.items()}


def encode_run(
    basis: Sequence[Dictionary], acts: Mapping[Site, Tensor], dtype: torch.dtype
) -> tuple[list[Codes], dict[Site, Tensor], list[dict[Site, Tensor]]]:
    """The codes of another run, what they leave over, and what each block reads, from the reads (1, pos, …) of the run
    where the dictionaries read and write."""
    inputs = [{site: acts[site][0].to(dtype) for site in block.reads} for block in basis]
    codes = [block.encode(x) for block, x in zip(basis, inputs, strict=True)]
    return codes, left_over(basis, codes, inputs, lambda site: acts[site][0].to(dtype)), inputs
