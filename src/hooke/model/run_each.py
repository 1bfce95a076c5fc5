"""Many edited runs of one prompt, each computing only what its edits can change.

Two ways to say what is changed, and one way to run it (`packed.py`): sets of `Edit`s of any kind, one for each run
(`run_each`), or one value at each of very many places (`Writes`, `substitute`). Only edits of attention's scores and
pattern, and reads of them or of what follows the last block, need whole runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.model.apply import Where, apply
from hooke.model.budget import pass_tokens
from hooke.model.edits import SQUARE, Edit
from hooke.model.families import Parts
from hooke.model.hooks import check_site
from hooke.model.packed import ALL, Kept, Layout, run_packed
from hooke.model.recorded import Recorded, record
from hooke.model.run import Plan, Start, Tap, check_positions, forward
from hooke.sites import Site

if TYPE_CHECKING:
    from hooke.model.model import Model

# points that a block computes before its keys and values reach later positions
_BEFORE_KEYS = ("resid_pre", "attn_scale", "attn_in", "k", "v")


class Writes(NamedTuple):
    """What is set at one site: entry i, in run `runs[i]` at position `positions[i]`, to `values[i]`.

    units: which head or unit (the first axis of features), or None for all of the site's value there.
    add: whether the values are added to what the run has there. No place of a run is named twice.
    """

    site: Site
    runs: Tensor  # (n,)
    positions: Tensor  # (n,)
    units: Tensor | None  # (n,)
    values: Tensor  # (n, …)
    add: bool = False

    def take(self, keep: Tensor) -> Writes:
        """Some of the entries."""
        units = None if self.units is None else self.units[keep]
        return Writes(self.site, self.runs[keep], self.positions[keep], units, self.values[keep], self.add)


def substitute(
    model: Model,
    base: Recorded,
    n_runs: int,
    writes: Sequence[Writes],
    *,
    vocabulary: Tensor | None = None,
    max_bytes: int | None = None,
    each: Callable[[Tensor], Tensor] | None = None,
    tick: Callable[[float], None] = lambda done: None,
) -> Tensor:
    """Last logits of runs of the base prompt in which values were replaced: (n_runs, d_vocab).

    vocabulary: the ids whose logits are wanted (n_runs, n_ids). each: what is kept of the logits
    (batch, …) of a part of the runs, so that all of them need not be held at once.
    max_bytes: what the values of one layer may take together; more is run in several parts.
    A run that nothing reaches the last logits from has those of the base.
    Raises HookeError for a site that the model lacks, or one without positions of its own (scores, pattern).
    """
    parts, n_pos = model.parts, base.tokens.ids.shape[1]
    for site in {w.site for w in writes}:
        check_site(parts, site)
        if site.point in SQUARE:
            raise HookeError(f"{site} holds a value for each pair of positions; replace z instead")
    moved = [
        w for w in (_reaching(w._replace(site=_entered(w.site, parts)), parts, n_pos) for w in writes) if len(w.runs)
    ]
    entry = torch.full((n_runs,), parts.n_layers + 1)
    start = torch.full((n_runs,), n_pos)
    for w in moved:
        late = w.site.layer is None or w.site.point == "resid_post"  # after the last block
        layer = torch.full_like(w.runs, parts.n_layers if late else w.site.layer or 0).cpu()
        entry.scatter_reduce_(0, w.runs.cpu(), layer, "amin")
        start.scatter_reduce_(0, w.runs.cpu(), w.positions.cpu(), "amin")
    return run_packed(
        model, base, entry, start, lambda layout: _written(moved, layout, model.device),
        Kept(vocabulary, each), max_bytes=max_bytes, tick=tick,
    )  # fmt: skip


def _entered(site: Site, parts: Parts) -> Site:
    """What leaves a block is what enters the next one, where a run can begin; after the last block there is none."""
    layer = (site.layer or 0) + 1
    return Site("resid_pre", layer) if site.point == "resid_post" and layer < parts.n_layers else site


def _reaching(w: Writes, parts: Parts, n_pos: int) -> Writes:
    """Only what can reach the last logits: after the last keys and values, no position but the last."""
    last = w.site.layer is None or (w.site.layer == parts.n_layers - 1 and w.site.point not in _BEFORE_KEYS)
    return w.take(w.positions == n_pos - 1) if last else w


def _written(writes: Sequence[Writes], layout: Layout, device: torch.device) -> dict[Site, Tap]:
    """The changes of the runs of a layout, by site."""
    local = torch.full((int(layout.runs.max()) + 1,), -1)
    local[layout.runs] = torch.arange(len(layout.runs))
    by_site: dict[Site, list[tuple[Writes, Tensor]]] = {}
    for w in writes:
        runs = w.runs.cpu()
        runs = torch.where(runs < len(local), local[runs.clamp(max=len(local) - 1)], -1)
        there = runs >= 0
        if bool(there.any()):
            w, runs = w.take(there.to(w.runs.device)), runs[there]
            late = layout.late(w.site)
            rows = runs if late else layout.offsets[runs] + w.positions.cpu() - layout.start[runs]
            by_site.setdefault(w.site, []).append((w, rows.to(device)))

    def tap(several: list[tuple[Writes, Tensor]]) -> Tap:
        def change(x: Tensor) -> Tensor:
            x = x.clone()
            for w, rows in several:
                at = (0, rows) if w.units is None else (0, rows, w.units.to(device))
                x[at] = x[at] + w.values.to(x) if w.add else w.values.to(x)
            return x

        return change

    return {site: tap(several) for site, several in by_site.items()}


def run_each(
    model: Model,
    base: Recorded,
    edit_sets: Sequence[Sequence[Edit]],
    *,
    read: Iterable[Site | str] = (),
    logits: bool = True,
    max_bytes: int | None = None,
) -> tuple[Tensor, list[dict[Site, Tensor]]]:
    """Run one prompt once for each set of edits. base: the run without edits. logits: whether they are wanted; else
    runs end where they are read last.

    Returns the last position's logits (n_sets, d_vocab; without any those of the base) and, for each set, its reads
    (pos …); a site before the first edit of a set is missing there, since it has its clean value.
    """
    if not edit_sets:
        raise HookeError("run_each was given no sets of edits")
    parts, n_pos = model.parts, base.tokens.ids.shape[1]
    sites = [Site.parse(site) for site in read]
    for site in sites:
        check_site(parts, site)
    sets = [_Set.of(edits, sites, parts, n_pos) for edits in edit_sets]
    top = Site("resid_post", parts.n_layers - 1)
    all_whole = any(site.point in SQUARE or site >= top for site in sites)
    found = base.logits.expand(len(sets), -1).clone()
    reads: list[dict[Site, Tensor]] = [{} for _ in sets]
    apart = [i for i, s in enumerate(sets) if all_whole or s.whole]
    _run_whole(model, base, [(i, sets[i]) for i in apart], sites, found, reads)
    rest = [i for i, s in enumerate(sets) if not (all_whole or s.whole)]
    if rest:
        chosen = [sets[i] for i in rest]
        known = base.acts if all(site in base.acts for site in sites) else record(model, base.tokens, sites).acts
        for i in rest:  # from the first edit on; what its positions change is put in below
            reads[i] = {site: known[site][0].clone() for site in sites if (site.layer or 0) >= sets[i].layer}
        entry = torch.tensor([s.entry for s in chosen])
        start = torch.tensor([s.start for s in chosen])
        kept = [reads[i] for i in rest]
        found[rest] = run_packed(
            model, base, entry, start, lambda layout: _edited(chosen, layout, kept, model.device),
            ALL if logits else Kept(until=max(sites, default=Site("resid_pre", 0))), max_bytes=max_bytes,
        )  # fmt: skip
    return found, reads


@dataclass
class _Set:
    """The edits of one run: where it first differs, and in which way it can be run.

    layer: of the first edit. entry, start: the layer and the position from which it has rows. whole: it cannot be
    packed. needs: what the dictionaries of its edits read.
    """

    edits: list[Edit]
    layer: int
    entry: int
    start: int
    whole: bool
    needs: set[Site]

    @classmethod
    def of(cls, edits: Sequence[Edit], read: Sequence[Site], parts: Parts, n_pos: int) -> _Set:
        """Raises HookeError for edits that name rows, a condition, or a place that the prompt does not have."""
        for edit in edits:
            if edit.rows is not None or edit.when is not None:
                raise HookeError("run_each gives every set its own row; its edits take neither rows nor a condition")
            check_site(parts, edit.site)
        check_positions(edits, torch.tensor([n_pos]), 0)
        needs = {site for edit in edits if edit.feature is not None for site in edit.feature[0].reads}
        touched = [*(edit.site for edit in edits), *needs]
        last = parts.n_layers - 1
        layer = min((last if site.layer is None else site.layer for site in touched), default=last)
        moved = list(edits)
        if not needs:
            # in the order of the pass: what leaves a block comes before what enters the next one
            moved = [replace(e, site=_entered(e.site, parts)) if e.site not in read else e for e in edits]
            order = sorted(range(len(moved)), key=lambda i: edits[i].site)
            moved = [moved[i] for i in order]
        late = Site("resid_post", last)
        entries = [parts.n_layers if e.site >= late else e.site.layer or 0 for e in moved]
        entries += [parts.n_layers if site >= late else site.layer or 0 for site in needs]
        start = min((_first_position(edit, n_pos) for edit in edits), default=n_pos)
        entry = min(entries, default=parts.n_layers + 1) if start < n_pos else parts.n_layers + 1
        whole = any(site.point in SQUARE for site in touched)
        return cls(moved, layer, entry, min(start, n_pos - 1), whole, needs)


def _first_position(edit: Edit, n_pos: int) -> int:
    """The first position that an edit changes, n_pos if it changes none. Raises HookeError for values of positions that
    the prompt does not have."""
    if edit.paired:
        return min(int(p) if p >= 0 else n_pos + int(p) for p in edit.index[0].tolist())
    led = len(edit.site.shape.split()) - 1  # axes of a value with positions
    given = [x for x in (edit.value, edit.weight, edit.index) if isinstance(x, Tensor)]
    if edit.positions == "generated":
        return n_pos
    named = edit.positions is not None and edit.positions != "prompt"
    if edit.feature is None and any(x.ndim > led or (x.ndim == led and not named and len(x) != n_pos) for x in given):
        return 0  # an axis of rows, or what `apply` refuses
    if named:
        return min((int(p) if int(p) >= 0 else n_pos + int(p) for p in edit.positions or ()), default=n_pos)
    mask = edit.index
    if isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.ndim == led:
        at = mask.flatten(1).any(1).nonzero()
        return int(at[0]) if len(at) else n_pos
    return 0


def _edited(
    sets: Sequence[_Set], layout: Layout, reads: Sequence[dict[Site, Tensor]], device: torch.device
) -> dict[Site, Tap]:
    """The changes of the runs of a layout, by site, as functions of the packed value; they also fill the reads."""
    at: dict[Site, list[int]] = {}
    for k, run in enumerate(layout.runs.tolist()):
        here = {edit.site for edit in sets[run].edits} | sets[run].needs | reads[run].keys()
        for site in here:
            if layout.late(site) or (site.layer or 0) >= int(layout.entry[k]):
                at.setdefault(site, []).append(k)
    wheres = [_Wheres(layout, k, device) for k in range(len(layout.runs))]

    def tap(site: Site, several: list[int]) -> Tap:
        def change(x: Tensor) -> Tensor:
            changed = []
            for k in several:
                run, rows = int(layout.runs[k]), layout.rows(k, site)
                part, where = x[:, rows], wheres[k].at(site)
                before, seen = part, site in sets[run].needs
                for edit in (edit for edit in sets[run].edits if edit.site == site):
                    if seen:
                        where.seen[site] = part
                    part = apply(edit, part, where)
                if seen:
                    where.seen[site] = part
                if part is not before:
                    changed.append((rows, part))
                if site in reads[run]:
                    reads[run][site][layout.start[k] :] = part[0]
            if changed:
                x = x.clone()
                for rows, part in changed:
                    x[:, rows] = part
            return x

        return change

    return {site: tap(site, several) for site, several in at.items()}


@dataclass
class _Wheres:
    """The positions of a run's rows: inside the blocks, and after the last, where only the last position goes on."""

    layout: Layout
    k: int
    device: torch.device
    inside: Where | None = None
    after: Where | None = None
    seen: dict[Site, Tensor] = field(default_factory=dict)

    def at(self, site: Site) -> Where:
        if self.inside is None:
            n, start = self.layout.n_pos, int(self.layout.start[self.k])
            every = torch.arange(n, device=self.device)[None]
            prompt = torch.tensor([n], device=self.device)
            # called padded where positions are missing, so that values find theirs by number
            self.inside = Where(every[:, start:], prompt, every, start > 0)
            self.after = Where(every[:, -1:], prompt, every, True)
        assert self.after is not None
        if not self.layout.late(site):
            return self.inside
        self.after.seen |= {s: x[:, -1:] for s, x in self.inside.seen.items()}
        return self.after


def _run_whole(
    model: Model,
    base: Recorded,
    sets: Sequence[tuple[int, _Set]],
    sites: Sequence[Site],
    logits: Tensor,
    reads: list[dict[Site, Tensor]],
) -> None:
    """Plain batches of whole runs from the first layer that any of them changes; fills logits and reads."""
    order = sorted(sets, key=lambda each: each[1].layer)
    size = max(1, pass_tokens(model) // base.tokens.ids.shape[1])
    for begin in range(0, len(order), size):
        chunk = order[begin : begin + size]
        first, tokens = chunk[0][1].layer, base.tokens.times(len(chunk))
        edits = [replace(edit, rows=[row]) for row, (_, s) in enumerate(chunk) for edit in s.edits]
        here = [site for site in sites if site.layer is None or site.layer >= first]
        stream = base.resid[first].expand(len(chunk), -1, -1)
        plan = Plan(here, edits, logits="last")
        run, _ = forward(model.hf, model.parts, tokens, plan, Start(entering=(first, stream)))
        assert run.logits is not None
        for row, (i, s) in enumerate(chunk):
            logits[i] = run.logits[row]
            reads[i] = {site: run.acts[site][row] for site in here if site.layer is None or site.layer >= s.layer}
