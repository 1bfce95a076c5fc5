"""One forward pass with reads and edits: what `Model.run` and `Model.stream` do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from hooke.errors import HookeError
from hooke.model.edits import Edit, Where, apply
from hooke.model.families import Parts
from hooke.model.hooks import attached, check_site
from hooke.sites import Site


class Tokens(NamedTuple):
    """A batch of token ids with its mask, both (batch, pos); mask is False on padding."""

    ids: Tensor
    mask: Tensor


class Activations(dict[Site, Tensor]):
    """Reads by site; `acts["resid_post.3"]` and `acts[Site("resid_post", 3)]` are the same."""

    def __getitem__(self, site: Site | str) -> Tensor:
        return super().__getitem__(Site.parse(site))


class Run(NamedTuple):
    """What one run gives: logits (batch pos d_vocab, or batch d_vocab), reads, and the mask of real tokens."""

    logits: Tensor | None
    acts: Activations
    mask: Tensor


class _Stop(Exception):
    """Raised after the last read when nobody wants the logits: the rest need not be computed."""


class Wave(NamedTuple):
    """Rows that join a pass at the layer where they first differ, having shared it until then."""

    resid: dict[int, Tensor]  # layer -> (1, pos, d_model), the shared stream entering it
    joining: dict[int, int]  # layer -> how many rows enter there


def forward(
    hf: nn.Module,
    parts: Parts,
    tokens: Tokens,
    *,
    read: Iterable[Site | str] = (),
    edits: Sequence[Edit] = (),
    grad: bool = False,
    logits: Literal["all", "last"] | None = "all",
    past: Any = None,
    past_mask: Tensor | None = None,
    prompt_lengths: Tensor | None = None,
    keep_cache: bool = False,
    wave: Wave | None = None,
) -> tuple[Run, Any]:
    """Run the model once. Returns the run and, if asked, transformers' key-value cache."""
    ids, mask = tokens
    wanted = {Site.parse(site) for site in read}
    by_site: dict[Site, list[Edit]] = {}
    for edit in edits:
        by_site.setdefault(edit.site, []).append(edit)
    conditions = {edit.when[0].reads[0] for edit in edits if edit.when is not None}
    watch = wanted | by_site.keys() | conditions
    for site in watch:
        check_site(parts, site)
    padded = not bool(mask.all())
    before = 0 if past_mask is None else past_mask.sum(1, keepdim=True)
    pos = (mask.cumsum(1) - 1 + before).masked_fill(~mask, -1)
    lengths = mask.sum(1) if prompt_lengths is None else prompt_lengths
    # rows that join later share the prompt, so one row of positions stands for all
    where = Where(pos, lengths) if wave is None else Where(pos[:1], lengths[:1])
    if past is None:
        _check_positions(edits, lengths)
    acts = Activations()
    last = max(wanted, default=None)
    if logits is None and last is None:
        raise HookeError("nothing to compute: ask for reads or for logits")
    entry = Site("resid_pre", 0)
    joins = {Site("resid_pre", layer) for layer in wave.joining} if wave else set()

    def visit(site: Site, x: Tensor) -> Tensor:
        if site in joins and wave is not None and site.layer:
            new = wave.resid[site.layer].to(x.dtype).expand(wave.joining[site.layer], -1, -1)
            x = torch.cat([x, new])
        if grad and site == entry and not x.requires_grad:
            x = x.detach().requires_grad_()
        for edit in by_site.get(site, ()):
            x = apply(edit, x, where)
        if site in conditions:
            where.seen[site] = x.detach()
        if site in wanted:
            acts[site] = _zero_padding(x, site, mask) if padded else x
        if logits is None and site == last:
            raise _Stop
        return x

    inputs: dict[str, Any] = {"input_ids": ids, "use_cache": keep_cache}
    whole_mask = mask if past_mask is None else torch.cat([past_mask, mask], 1)
    if padded or not bool(whole_mask.all()):
        inputs |= {"attention_mask": whole_mask.long(), "position_ids": pos.clamp(min=0)}
    if past is not None:
        inputs["past_key_values"] = past
    if logits == "last" and not padded:
        inputs["logits_to_keep"] = 1
    if grad:
        watch.add(entry)
    with torch.set_grad_enabled(grad), attached(hf, parts, watch | joins, visit):
        try:
            output = hf(**inputs)
        except _Stop:
            return Run(None, acts, mask), None
    result = None
    if logits == "all":
        result = output.logits.masked_fill(~mask[:, :, None], 0) if padded else output.logits
    elif logits == "last":
        result = output.logits[:, -1]
        if padded:
            ends = mask.shape[1] - 1 - mask.long().flip(1).argmax(1)
            result = output.logits[torch.arange(len(ends), device=ends.device), ends]
    return Run(result, acts, mask), output.past_key_values if keep_cache else None


def _zero_padding(x: Tensor, site: Site, mask: Tensor) -> Tensor:
    """Entries of padding are zero, so that a forgotten mask cannot pass for data."""
    if site.point in ("scores", "pattern"):
        return x.masked_fill(~mask[:, None, :, None], 0)
    return x.masked_fill(~mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), 0)


def _check_positions(edits: Sequence[Edit], lengths: Tensor) -> None:
    """A position that no row has is a mistake, not an edit without effect."""
    longest = int(lengths.max())
    for edit in edits:
        if edit.positions is None or isinstance(edit.positions, str):
            continue
        for position in edit.positions:
            if not -longest <= position < longest:
                raise HookeError(f"edit at {edit.site}: position {position} of a prompt of {longest} tokens")


def run_each(
    hf: nn.Module,
    parts: Parts,
    tokens: Tokens,
    edit_sets: Sequence[Sequence[Edit]],
    *,
    resid: dict[int, Tensor],
    read: Iterable[Site | str] = (),
    max_tokens: int = 8192,
) -> tuple[Tensor, list[dict[Site, Tensor]]]:
    """Run one prompt once for each set of edits, sharing all that the edits leave unchanged.

    A run whose first edit is at layer l joins the batch there, with the stream of the clean run
    (DESIGN 6: a patch at layer l resumes from the stored residual at l).
    tokens: one unpadded prompt. resid: the clean stream entering each layer, (1, pos, d_model).
    Returns the last position's logits (n_sets, d_vocab) and, for each set, its reads (pos …); a site
    before the first edit of a set is missing there, since it has its clean value.
    """
    if tokens.ids.shape[0] != 1 or not bool(tokens.mask.all()):
        raise HookeError("run_each takes one prompt without padding")
    read = [Site.parse(site) for site in read]
    entry = [_first_layer(edits, parts) for edits in edit_sets]
    order = sorted(range(len(edit_sets)), key=lambda i: entry[i])
    size = max(1, max_tokens // tokens.ids.shape[1])
    logits: list[Tensor | None] = [None] * len(edit_sets)
    reads: list[dict[Site, Tensor]] = [{} for _ in edit_sets]
    for start in range(0, len(order), size):
        chunk = order[start : start + size]
        layers = [entry[i] for i in chunk]
        first = layers[0]
        n_first = layers.count(first)
        joining = {layer: layers.count(layer) for layer in layers if layer > first}
        edits = _stacked([(row, edit) for row, i in enumerate(chunk) for edit in edit_sets[i]])
        batch = Tokens(tokens.ids.expand(n_first, -1), tokens.mask.expand(n_first, -1))
        here = [site for site in read if site.layer is None or site.layer >= first]
        with _entering(parts, first, resid):
            run, _ = forward(hf, parts, batch, read=here, edits=edits, logits="last", wave=Wave(resid, joining))
        assert run.logits is not None
        for row, i in enumerate(chunk):
            logits[i] = run.logits[row]
            reads[i] = {site: run.acts[site][row] for site in here if row < run.acts[site].shape[0]}
    return torch.stack([x for x in logits if x is not None]), reads


def _first_layer(edits: Sequence[Edit], parts: Parts) -> int:
    """The layer at which a set of edits first changes anything."""
    for edit in edits:
        if edit.rows is not None or edit.when is not None:
            raise HookeError("run_each gives every set its own row; its edits take neither rows nor a condition")
    return min((parts.n_layers - 1 if e.site.layer is None else e.site.layer for e in edits), default=parts.n_layers - 1)


def _stacked(edits: Sequence[tuple[int, Edit]]) -> list[Edit]:
    """Give each edit its row; masked edits of one site and operation become one (one pass over the value)."""
    alone: list[Edit] = []
    alike: dict[tuple[Any, ...], list[tuple[int, Edit]]] = {}
    for row, edit in edits:
        masked = isinstance(edit.index, Tensor) and edit.index.dtype == torch.bool and edit.positions is None
        if masked and isinstance(edit.value, Tensor) and edit.value.shape == edit.index.shape:
            alike.setdefault((edit.site, edit.op, edit.value.shape), []).append((row, edit))
        else:
            alone.append(replace(edit, rows=[row]))
    for group in alike.values():
        rows = [row for row, _ in group]
        if len(set(rows)) < len(rows):  # a row edited twice at a site keeps its order
            alone += [replace(edit, rows=[row]) for row, edit in group]
            continue
        values = torch.stack([edit.value for _, edit in group])
        masks = torch.stack([edit.index for _, edit in group])
        alone.append(replace(group[0][1], rows=rows, value=values, index=masks))
    return alone


@contextmanager
def _entering(parts: Parts, first: int, resid: dict[int, Tensor]) -> Iterator[None]:
    """Skip the blocks before `first` and enter it with the stored stream."""
    skipped = [block.module for block in parts.blocks[:first]]

    def skip(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states

    def enter(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return resid[first].to(hidden_states.dtype).expand(hidden_states.shape[0], -1, -1)

    try:
        for module in skipped:
            module.forward = enter if module is skipped[-1] else skip  # type: ignore[method-assign]
        yield
    finally:
        for module in skipped:
            module.__dict__.pop("forward", None)
