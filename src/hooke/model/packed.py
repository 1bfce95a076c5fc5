"""Many runs of one prompt that differ from a base run from some layer and position on, as one row of tokens.

What a run shares with the base is not computed again: it enters at the first layer that it changes, from the
stored stream, and has only the positions from the first that it changes, which attend to the stored keys and
values of the earlier ones. The rows of all runs stand one after another in a batch of one, so that every
matrix product of the model is one large product and nothing is padded; only attention knows whose rows are
whose. Only the last position reaches the unembedding, and only the tokens asked for leave it.

`run_each.py` says what is changed; here is how it is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from hooke.model.attend import Attend, softmax_attention, through
from hooke.model.budget import budget, token_bytes
from hooke.model.families import Parts
from hooke.model.hooks import attached
from hooke.model.recorded import Recorded
from hooke.model.run import Tap, skipping
from hooke.sites import Site

if TYPE_CHECKING:
    from hooke.model.model import Model


class Layout(NamedTuple):
    """Whose rows are whose in a packed value: those of the k-th run begin at offsets[k], one for each position from
    start[k] on. All (n,), sorted by `entry`; `runs` are the numbers by which the caller knows them.

    A run that enters after the last block has no rows until the final norm, where every run has one.
    """

    runs: Tensor
    entry: Tensor
    start: Tensor
    lengths: Tensor
    offsets: Tensor
    n_pos: int
    n_layers: int

    @classmethod
    def of(cls, runs: Tensor, entry: Tensor, start: Tensor, n_pos: int, n_layers: int) -> Layout:
        lengths = torch.where(entry < n_layers, n_pos - start, 0)
        return cls(runs, entry, start, lengths, lengths.cumsum(0) - lengths, n_pos, n_layers)

    def late(self, site: Site) -> bool:
        """Whether a run has one row here, of its last position."""
        return site.layer is None or site == Site("resid_post", self.n_layers - 1)

    def rows(self, k: int, site: Site) -> slice:
        """The rows of the k-th run at a site."""
        first = int(self.offsets[k])
        return slice(k, k + 1) if self.late(site) else slice(first, first + int(self.lengths[k]))


class Kept(NamedTuple):
    """What is kept of logits. vocabulary: of which ids (None: all). each: a function of those of a part of the runs,
    (batch, …), so that all of them need not be held at once. until: nothing; runs end at this site, once their taps
    have been there."""

    vocabulary: Tensor | None = None
    each: Callable[[Tensor], Tensor] | None = None
    until: Site | None = None


ALL = Kept()


def run_packed(
    model: Model,
    base: Recorded,
    entry: Tensor,
    start: Tensor,
    taps_of: Callable[[Layout], Mapping[Site, Tap]],
    kept: Kept = ALL,
    *,
    max_bytes: int | None = None,
    tick: Callable[[float], None] = lambda done: None,
) -> Tensor:
    """Last logits of runs of the base prompt, (n_runs, d_vocab), in as many parts as `max_bytes` (the budget's block)
    allows.

    entry: (n_runs,) the layer that each enters at: n_layers for after the last block, more for one that nothing
        reaches the logits from, which has those of the base. start: (n_runs,) its first position.
    taps_of: the changes of the runs of a part, by site, as functions of the packed value (1, rows, …).
    """
    n_pos, n_layers, (vocabulary, each, until) = base.tokens.ids.shape[1], model.parts.n_layers, kept
    changed = (entry <= n_layers).nonzero()[:, 0]
    # equal starts side by side within a layer, so that a chunk leaves out as many positions as it can
    order = changed[torch.argsort(entry[changed] * (n_pos + 1) + start[changed], stable=True)]
    base_logits = base.logits if vocabulary is None else base.logits[vocabulary]
    unchanged = base_logits[None] if each is None else each(base_logits[None])
    out = unchanged.expand(len(entry), *unchanged.shape[1:]).clone()
    done, max_bytes = 0, budget(model.device).block if max_bytes is None else max_bytes
    with model.held(), torch.no_grad():
        while done < len(order):
            size = _fitting(model, n_pos, start[order[done:]], vocabulary, max_bytes)
            while True:
                runs = order[done : done + size]
                layout = Layout.of(runs, entry[runs], start[runs], n_pos, n_layers)
                try:
                    logits = _pass(model, base, layout, taps_of(layout), vocabulary, until)
                    break
                except torch.OutOfMemoryError:
                    if size == 1:
                        raise
                    size, max_bytes = size // 2, max_bytes // 2
            if logits is not None:
                out[runs.to(out.device)] = (logits if each is None else each(logits)).to(out.dtype)
            done += size
            tick(done / len(order))
    return out


def _fitting(model: Model, n_pos: int, start: Tensor, vocabulary: Tensor | None, max_bytes: int) -> int:
    """How many of the runs, in this order, fit: at least one."""
    parts, row = model.parts, token_bytes(model)
    of_run = model.dtype.itemsize * n_pos * 3 * parts.n_heads * parts.d_head
    of_run += 4 * (parts.d_vocab if vocabulary is None else len(vocabulary))
    need = ((n_pos - start) * row + of_run).cumsum(0)
    return max(1, int((need <= max_bytes).sum()))


class _Done(Exception):
    """Raised after the final norm, as what is left is done for the tokens asked for alone, or where runs end."""


def _pass(
    model: Model,
    base: Recorded,
    layout: Layout,
    taps: Mapping[Site, Tap],
    vocabulary: Tensor | None,
    until: Site | None = None,
) -> Tensor | None:
    """Logits (n, d_vocab or n_ids) of the runs of a layout; None of runs that end before."""
    parts, n_pos, entry, device = model.parts, layout.n_pos, layout.entry, model.device
    run_of = torch.repeat_interleave(torch.arange(len(entry)), layout.lengths)
    pos_of = torch.arange(len(run_of)) - layout.offsets[run_of] + layout.start[run_of]
    first = int(entry.min())
    joining = {int(layer): int(layout.lengths[entry == layer].sum()) for layer in entry.unique()}
    n_rows = {layer: int(layout.lengths[entry <= layer].sum()) for layer in range(first, parts.n_layers)}
    pos = pos_of.to(device)
    last_block = Site("resid_post", parts.n_layers - 1)
    found: list[Tensor] = []

    def change(site: Site, x: Tensor) -> Tensor:
        x = taps[site](x) if site in taps else x
        if site == until:
            raise _Done
        return x

    def visit(site: Site, x: Tensor) -> Tensor:
        layer = site.layer or 0
        if site.point == "resid_pre":
            before = n_rows.get(layer - 1, 0)
            x = x[:, :before]
            if layer in joining:
                x = torch.cat([x, base.resid[layer][pos[before : n_rows[layer]]][None]], 1)
        return change(site, x)

    n_inside = int((entry < parts.n_layers).sum())
    ending = (layout.offsets + layout.lengths - 1)[:n_inside].to(device)  # the last position's row of each run
    # in the last block the other positions matter by their keys and values alone
    top = parts.n_layers - 1
    narrow = n_inside > 0 and not any(
        site.layer == top and site.point not in ("resid_pre", "resid_post") for site in taps
    )

    def into_final(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        late = base.resid[-1][-1:].expand(len(entry) - n_inside, -1)
        x = args[0][0] if narrow else args[0][0, ending]
        return (change(last_block, torch.cat([x[:n_inside], late])[None]), *args[1:])

    def out_of_final(_: nn.Module, args: Any, output: Tensor) -> None:
        found.append(output[0])
        raise _Done

    sites = {site for site in taps if site != last_block}
    sites |= {Site("resid_pre", layer) for layer in range(first, parts.n_layers)}
    if until is not None and until < min(sites):
        return None  # no run has begun
    where = pos if len(pos) else pos.new_zeros(1)  # runs after the last block have no rows; the model wants one
    ids = base.tokens.ids[0][where]
    with ExitStack() as stack:
        final = parts.final_norm.module
        stack.callback(final.register_forward_pre_hook(into_final).remove)
        stack.enter_context(attached(model.hf, parts, sites, visit))
        stack.callback(final.register_forward_hook(out_of_final).remove)
        for layer, rows in n_rows.items():
            shorten = _shorten(slice(rows))
            stack.callback(parts.blocks[layer].module.register_forward_pre_hook(shorten, with_kwargs=True).remove)
        if narrow:
            hook = parts.blocks[top].module.register_forward_pre_hook(_ends_only(ending), with_kwargs=True)
            stack.callback(hook.remove)
        stack.enter_context(skipping(parts, first))
        stack.enter_context(_attending(model, base, n_rows, run_of.to(device), pos, int(layout.start.min()), narrow))
        stack.enter_context(parts.rotary.turned([n_pos]))
        with suppress(_Done):
            model.hf(input_ids=ids[None], position_ids=where[None], use_cache=False)
    return _unembed(parts, found[0], vocabulary) if found else None


def _unembed(parts: Parts, x: Tensor, vocab: Tensor | None) -> Tensor:
    """Logits (n, d_vocab or n_ids) of final_norm values (n, d_model)."""
    if vocab is None:
        logits = parts.unembed.apply(x)
    else:
        logits = x @ parts.unembed.weight[vocab].to(x.dtype).T
        if parts.unembed.bias is not None:
            logits = logits + parts.unembed.bias[vocab].to(x.dtype)
    return logits if parts.softcap is None else parts.softcap * torch.tanh(logits / parts.softcap)


def _shorten(rows: slice | Tensor) -> Callable[..., Any]:
    """Give a block the rotations of some rows: of those that have joined, which are the first of all."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kwargs = dict(kwargs)
        if kwargs.get("position_embeddings") is not None:
            kwargs["position_embeddings"] = tuple(x[:, rows] for x in kwargs["position_embeddings"])
        if kwargs.get("position_ids") is not None:
            kwargs["position_ids"] = kwargs["position_ids"][:, rows]
        return args, kwargs

    return hook


class _Taken(Exception):
    """Raised in the last block's attention, whose keys and values are known by then."""


def _ends_only(ending: Tensor) -> Callable[..., Any]:
    """Run a block as far as the keys and values of all rows, then have it go on with the `ending` rows alone."""
    shorten = _shorten(ending)

    def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        with suppress(_Taken):
            block.forward(*args, **kwargs)  # not the module itself, whose hooks have been here
        args, kwargs = shorten(block, args, kwargs)
        if args:
            return (args[0][:, ending], *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"][:, ending]}

    return hook


@contextmanager
def _attending(
    model: Model, base: Recorded, n_rows: dict[int, int], run_of: Tensor, pos: Tensor, least: int, narrow: bool
) -> Iterator[None]:
    """Let the rows of a run attend to its own rows and to the base's earlier positions.

    least: the first position of any run. narrow: in the last block queries come apart from keys and values, of the
    last position only.
    """
    n_pos = base.tokens.ids.shape[1]
    modules = [model.parts.blocks[layer].attn for layer in n_rows]
    at = torch.arange(n_pos, device=pos.device)

    def attend_in(layer: int, rows: int) -> Attend:
        n_runs = int(run_of[rows - 1]) + 1
        ends_only = narrow and layer == model.parts.n_layers - 1
        first = n_pos - 1 if ends_only else least  # the first position that queries
        key_at = run_of[:rows] * n_pos + pos[:rows]
        query_at = torch.arange(n_runs, device=pos.device)
        if not ends_only:
            query_at = run_of[:rows] * (n_pos - first) + pos[:rows] - first
        taken: list[Tensor] = []  # in the last block, where attention is entered twice

        def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None, window: int | None) -> Tensor:
            both = taken or [
                stored.expand(n_runs, *stored.shape).flatten(0, 1).index_copy(0, key_at, own[0].transpose(0, 1))
                for stored, own in ((base.keys[layer], k), (base.values[layer], v))
            ]
            if ends_only and not taken:
                taken[:] = both
                raise _Taken
            queries = q.new_zeros(n_runs * (n_pos - first), q.shape[1], q.shape[3])
            queries.index_copy_(0, query_at, q[0].transpose(0, 1))
            queries, keys, values = (x.unflatten(0, (n_runs, -1)).transpose(1, 2) for x in (queries, *both))
            seen = at <= at[first:, None]
            if window is not None:
                seen &= at > at[first:, None] - window
            z = softmax_attention(queries, keys, values, seen, scale, softcap)
            return z.transpose(1, 2).flatten(0, 1)[query_at][None]

        return attend

    with through(
        model, {module: attend_in(layer, n_rows[layer]) for layer, module in zip(n_rows, modules, strict=True)}
    ):
        yield
