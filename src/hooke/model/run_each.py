"""One prompt run once for each set of edits, sharing what the edits leave unchanged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hooke.errors import HookeError
from hooke.model.edits import SQUARE, Edit
from hooke.model.families import Parts
from hooke.model.hooks import check_site
from hooke.model.recorded import Recorded
from hooke.model.run import Activations, Prefix, Tokens, Wave, forward, skipping
from hooke.sites import Site


def run_each(
    hf: nn.Module,
    parts: Parts,
    base: Recorded,
    edit_sets: Sequence[Sequence[Edit]],
    *,
    read: Iterable[Site | str] = (),
    max_tokens: int = 8192,
) -> tuple[Tensor, list[dict[Site, Tensor]]]:
    """Run one prompt once for each set of edits, sharing all that the edits leave unchanged.

    A run whose first edit is at layer l joins the batch there, with the stream of the clean run
    (DESIGN 6: a patch at layer l resumes from the stored residual at l).
    base: the run without edits.
    Returns the last position's logits (n_sets, d_vocab) and, for each set, its reads (pos …); a site
    before the first edit of a set is missing there, since it has its clean value.
    """
    tokens = base.tokens
    if not edit_sets:
        raise HookeError("run_each was given no sets of edits")
    sites = [Site.parse(site) for site in read]
    entry = [_first_layer(edits, parts) for edits in edit_sets]
    logits: list[Tensor | None] = [None] * len(edit_sets)
    reads: list[dict[Site, Tensor]] = [{} for _ in edit_sets]
    whole = any(site.point in SQUARE for site in sites)  # what has keys cannot be put together from parts
    groups = [(0, list(range(len(edit_sets))))] if whole else _by_beginning(edit_sets, tokens.ids.shape[1])
    for begin, group in groups:
        after, before = None, Activations()
        if begin:
            shared = Tokens(tokens.ids[:, :begin], tokens.mask[:, :begin])
            n_pos = tokens.ids.shape[1]
            run, cache = forward(hf, parts, shared, read=sites, logits="last", keep_cache=True, whole=[n_pos])
            after, before = Prefix(shared.ids, {parts.rotary.turns(n_pos): cache}), run.acts
        rest = Tokens(tokens.ids[:, begin:], tokens.mask[:, begin:])
        stream = {layer: x[None, begin:] for layer, x in enumerate(base.resid)}
        order = sorted(group, key=lambda i: entry[i])
        size = max(1, max_tokens // rest.ids.shape[1])
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            layers = [entry[i] for i in chunk]
            first = layers[0]
            edits = _stacked([(row, _from(edit, begin)) for row, i in enumerate(chunk) for edit in edit_sets[i]])
            here = [site for site in sites if site.layer is None or site.layer >= first]
            wave = Wave(stream, {layer: layers.count(layer) for layer in layers})
            with skipping(parts, first):
                run, _ = forward(hf, parts, rest, read=here, edits=edits, logits="last", wave=wave, after=after)
            assert run.logits is not None
            for row, i in enumerate(chunk):
                logits[i] = run.logits[row]
                for site in here:
                    if row < run.acts[site].shape[0]:
                        got = run.acts[site][row]
                        reads[i][site] = torch.cat([before[site][0], got]) if begin else got
    return torch.stack([x for x in logits if x is not None]), reads


def _by_beginning(edit_sets: Sequence[Sequence[Edit]], n_pos: int) -> list[tuple[int, list[int]]]:
    """Sets of edits by how many tokens at the beginning all of a group leave alone (a quarter, a half or three)."""
    groups: dict[int, list[int]] = {}
    for i, edits in enumerate(edit_sets):
        free = min((_first_position(edit) for edit in edits), default=0)
        groups.setdefault(max(n_pos * quarter // 4 for quarter in range(4) if n_pos * quarter // 4 <= free), []).append(
            i
        )
    return sorted(groups.items())


def _first_position(edit: Edit) -> int:
    """The first position that an edit changes, if it is a mask over (positions, features); else 0."""
    if edit.feature is not None and isinstance(edit.index, tuple):
        return max(0, int(edit.index[0].min()))
    if not _masked(edit) or edit.site.point in SQUARE or edit.weight is not None:
        return 0
    at = edit.index.flatten(1).any(1).nonzero()
    return int(at[0]) if len(at) else 0


def _from(edit: Edit, begin: int) -> Edit:
    """The same edit for a pass that begins later."""
    return replace(edit, index=edit.index[begin:], value=edit.value[begin:]) if begin and _masked(edit) else edit


def _masked(edit: Edit) -> bool:
    """Whether an edit sets what a mask over (positions, features) chooses to values of the same shape."""
    mask, value, n_axes = edit.index, edit.value, len(edit.site.shape.split()) - 1
    return (
        isinstance(mask, Tensor)
        and mask.dtype == torch.bool
        and mask.ndim == n_axes
        and edit.positions is None
        and isinstance(value, Tensor)
        and value.shape == mask.shape
    )


def _first_layer(edits: Sequence[Edit], parts: Parts) -> int:
    """The layer at which a set of edits first changes anything."""
    for edit in edits:
        if edit.rows is not None or edit.when is not None:
            raise HookeError("run_each gives every set its own row; its edits take neither rows nor a condition")
        check_site(parts, edit.site)
    last = parts.n_layers - 1
    sites = [s for e in edits for s in (e.site, *(e.feature[0].reads if e.feature is not None else ()))]
    return min((last if site.layer is None else site.layer for site in sites), default=last)


def _stacked(edits: Sequence[tuple[int, Edit]]) -> list[Edit]:
    """Give each edit its row; masked edits of one site and operation become one (one pass over the value)."""
    alone: list[Edit] = []
    alike: dict[tuple[Any, ...], list[tuple[int, Edit]]] = {}
    count = Counter((row, edit.site) for row, edit in edits)
    for row, edit in edits:
        # a row edited several times at a site keeps its order
        if _masked(edit) and count[row, edit.site] == 1:
            alike.setdefault((edit.site, edit.op, edit.value.shape, edit.value.dtype), []).append((row, edit))
        else:
            alone.append(replace(edit, rows=[row]))
    for group in alike.values():
        values = torch.stack([edit.value for _, edit in group])
        masks = torch.stack([edit.index for _, edit in group])
        alone.append(replace(group[0][1], rows=[row for row, _ in group], value=values, index=masks))
    return alone
