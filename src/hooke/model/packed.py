"""Many runs of one prompt that differ from a base run from some layer and position on, as one row of tokens.

What a run shares with the base is not computed again: it enters at the first layer that it changes, from the
stored stream, and has only the positions from the first that it changes, which attend to the stored keys and
values of the earlier ones. The rows of all runs stand one after another in a batch of one, so that every
matrix product of the model is one large product and nothing is padded; only attention knows whose rows are
whose. Only the last position reaches the unembedding, and only the tokens asked for leave it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from hooke.errors import HookeError
from hooke.model.edits import SQUARE
from hooke.model.families import Parts
from hooke.model.hooks import attached, check_site
from hooke.model.recorded import Recorded
from hooke.model.run import Tokens, skipping
from hooke.sites import Site

if TYPE_CHECKING:
    from hooke.model.model import Model

KEY = "hooke-packed"
MAX_BYTES = 96 * 2**20  # of one chunk's largest values: about what a cache holds, and small beside the weights
# points that a block computes before its keys and values reach later positions
_BEFORE_KEYS = ("resid_pre", "attn_scale", "attn_in", "k", "v")
Attend = Callable[[Tensor, Tensor, Tensor, float, float | None, int | None], Tensor]
_ATTEND: weakref.WeakKeyDictionary[nn.Module, Attend] = weakref.WeakKeyDictionary()


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
    max_bytes: int = MAX_BYTES,
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
    moved = [w for w in (_reaching(_canonical(w, parts), parts, n_pos) for w in writes) if len(w.runs)]
    entry = torch.full((n_runs,), parts.n_layers + 1)
    start = torch.full((n_runs,), n_pos)
    for w in moved:
        late = w.site.layer is None or w.site.point == "resid_post"  # after the last block
        layer = torch.full_like(w.runs, parts.n_layers if late else w.site.layer or 0).cpu()
        entry.scatter_reduce_(0, w.runs.cpu(), layer, "amin")
        start.scatter_reduce_(0, w.runs.cpu(), w.positions.cpu(), "amin")
    changed = (entry <= parts.n_layers).nonzero()[:, 0]
    # equal starts side by side within a layer, so that a chunk leaves out as many positions as it can
    order = changed[torch.argsort(entry[changed] * (n_pos + 1) + start[changed], stable=True)]
    base_logits = base.logits if vocabulary is None else base.logits[vocabulary]
    unchanged = base_logits[None] if each is None else each(base_logits[None])
    out = unchanged.expand(n_runs, *unchanged.shape[1:]).clone()
    done = 0
    with model.held(), torch.no_grad():
        while done < len(order):
            size = _fitting(model, n_pos, entry[order[done:]], start[order[done:]], vocabulary, max_bytes)
            while True:
                runs = order[done : done + size]
                try:
                    logits = _pass(model, base, runs, entry[runs], start[runs], moved, vocabulary)
                    break
                except torch.OutOfMemoryError:
                    if size == 1:
                        raise
                    size, max_bytes = size // 2, max_bytes // 2
            out[runs.to(out.device)] = (logits if each is None else each(logits)).to(out.dtype)
            done += size
            tick(done / len(order))
    return out


def _canonical(w: Writes, parts: Parts) -> Writes:
    """What leaves a block is what enters the next one, where the run can begin."""
    if w.site.point != "resid_post":
        return w
    layer = (w.site.layer or 0) + 1
    # after the last block there is no such site: the stream that the final norm reads, see `_pass`
    return w._replace(site=Site("resid_pre", layer) if layer < parts.n_layers else w.site)


def _reaching(w: Writes, parts: Parts, n_pos: int) -> Writes:
    """Only what can reach the last logits: after the last keys and values, no position but the last."""
    last = w.site.layer is None or (w.site.layer == parts.n_layers - 1 and w.site.point not in _BEFORE_KEYS)
    return w.take(w.positions == n_pos - 1) if last else w


def _fitting(model: Model, n_pos: int, entry: Tensor, start: Tensor, vocabulary: Tensor | None, max_bytes: int) -> int:
    """How many of the runs, in this order, fit: at least one."""
    parts = model.parts
    size = torch.finfo(model.dtype).bits // 8
    # the widest values that live together: a gated MLP's two halves and their product, the stream twice
    row = size * (3 * parts.d_mlp + 3 * parts.d_model + 2 * parts.n_heads * parts.d_head)
    of_run = size * n_pos * 3 * parts.n_heads * parts.d_head
    of_run += 4 * (parts.d_vocab if vocabulary is None else len(vocabulary))
    need = ((n_pos - start) * row + of_run).cumsum(0)
    return max(1, int((need <= max_bytes).sum()))


class _Done(Exception):
    """Raised after the final norm: what is left is done for the tokens asked for alone."""


def _pass(
    model: Model,
    base: Recorded,
    runs: Tensor,
    entry: Tensor,
    start: Tensor,
    writes: Sequence[Writes],
    vocab: Tensor | None,
) -> Tensor:
    """Logits (len(runs), d_vocab or n_ids) of some runs, sorted by the layer where they enter."""
    parts, n_pos, device = model.parts, base.tokens.ids.shape[1], model.device
    inside = entry < parts.n_layers
    lengths = torch.where(inside, n_pos - start, 0)
    ends = lengths.cumsum(0)
    offsets = ends - lengths
    run_of = torch.repeat_interleave(torch.arange(len(runs)), lengths)
    pos_of = torch.arange(int(ends[-1])) - offsets[run_of] + start[run_of]
    local = torch.full((int(runs.max()) + 1,), -1)
    local[runs] = torch.arange(len(runs))
    by_site: dict[Site, list[tuple[Writes, Tensor]]] = {}
    for w in (_local(w, local) for w in writes):
        if len(w.runs):
            by_site.setdefault(w.site, []).append((w, _rows(w, offsets, start).to(device)))
    first = int(entry.min())
    joining = {int(layer): int(lengths[entry == layer].sum()) for layer in entry.unique() if layer < parts.n_layers}
    n_rows = {layer: int(lengths[entry <= layer].sum()) for layer in range(first, parts.n_layers)}
    pos = pos_of.to(device)
    last_block = Site("resid_post", parts.n_layers - 1)
    found: list[Tensor] = []

    def change(site: Site, x: Tensor) -> Tensor:
        if site not in by_site:
            return x
        x = x.clone()
        for w, rows in by_site[site]:
            at = (0, rows) if w.units is None else (0, rows, w.units.to(device))
            x[at] = x[at] + w.values.to(x) if w.add else w.values.to(x)
        return x

    def visit(site: Site, x: Tensor) -> Tensor:
        layer = site.layer or 0
        if site.point == "resid_pre":
            before = n_rows.get(layer - 1, 0)
            x = x[:, :before]
            if layer in joining:
                x = torch.cat([x, base.resid[layer][pos[before : n_rows[layer]]][None]], 1)
        return change(site, x)

    n_inside = int(inside.sum())
    ending = (ends[:n_inside] - 1).to(device)  # the last position's row of each run
    # in the last block the other positions matter by their keys and values alone
    top = parts.n_layers - 1
    narrow = n_inside > 0 and not any(
        site.layer == top and site.point not in ("resid_pre", "resid_post") for site in by_site
    )

    def into_final(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        late = base.resid[-1][-1:].expand(len(runs) - n_inside, -1)
        x = args[0][0] if narrow else args[0][0, ending]
        return (change(last_block, torch.cat([x[:n_inside], late])[None]), *args[1:])

    def out_of_final(_: nn.Module, args: Any, output: Tensor) -> None:
        found.append(output[0])
        raise _Done

    sites = {site for site in by_site if site != last_block}
    sites |= {Site("resid_pre", layer) for layer in range(first, parts.n_layers)}
    where = (
        pos if len(pos) else pos.new_zeros(1)
    )  # runs that enter after the last block have no rows; the model wants one
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
        stack.enter_context(_attending(model, base, n_rows, run_of.to(device), pos, start, narrow))
        stack.enter_context(parts.rotary.turned([n_pos]))
        with suppress(_Done):
            model.hf(input_ids=ids[None], position_ids=where[None], use_cache=False)
    return _unembed(parts, found[0], vocab)


def _local(w: Writes, local: Tensor) -> Writes:
    """The entries of the runs of a chunk, the runs counted within it."""
    runs = w.runs.cpu()
    runs = torch.where(runs < len(local), local[runs.clamp(max=len(local) - 1)], -1)
    keep = runs >= 0
    return w.take(keep.to(w.runs.device))._replace(runs=runs[keep])


def _rows(w: Writes, offsets: Tensor, start: Tensor) -> Tensor:
    """Which rows of the packed value the entries are; after the last block each run has one row."""
    if w.site.layer is None or w.site.point == "resid_post":
        return w.runs
    return offsets[w.runs] + w.positions.cpu() - start[w.runs]


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
    model: Model, base: Recorded, n_rows: dict[int, int], run_of: Tensor, pos: Tensor, start: Tensor, narrow: bool
) -> Iterator[None]:
    """Let the rows of a run attend to its own rows and to the base's earlier positions.

    narrow: in the last block queries come apart from keys and values, of the last position only.
    """
    n_pos, least = base.tokens.ids.shape[1], int(start.min())
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
            z = _softmax_attention(queries, keys, values, seen, scale, softcap)
            return z.transpose(1, 2).flatten(0, 1)[query_at][None]

        return attend

    with _through(
        model, {module: attend_in(layer, n_rows[layer]) for layer, module in zip(n_rows, modules, strict=True)}
    ):
        yield


@contextmanager
def _through(model: Model, attend: dict[nn.Module, Attend]) -> Iterator[None]:
    """Send the given attention modules through these functions, and through nothing else, in a run of all of them."""
    config: Any = model.hf.config
    before = config._attn_implementation
    _ATTEND.update(attend)
    config._attn_implementation = KEY
    try:
        yield
    finally:
        config._attn_implementation = before
        for module in attend:
            _ATTEND.pop(module, None)


class Heads(NamedTuple):
    """What attention of one layer multiplies: queries (pos, head, d_head) and keys (pos, kv_head, d_head), rotated."""

    queries: Tensor
    keys: Tensor
    scale: float
    softcap: float | None
    window: int | None

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(head, query, key) in fp64 of any such queries and keys; minus infinity where nothing is attended."""
        keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], 1)
        scores = torch.einsum("qhd,khd->hqk", queries.double(), keys.double()) * self.scale
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        at = torch.arange(len(queries), device=queries.device)
        seen = at <= at[:, None]
        if self.window is not None:
            seen &= at > at[:, None] - self.window
        return scores.masked_fill(~seen, -math.inf)


def heads(model: Model, tokens: Tokens) -> list[Heads]:
    """Queries and keys of each layer as attention takes them, of one prompt without padding."""
    found: list[Heads] = []

    def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None, window: int | None) -> Tensor:
        found.append(Heads(q[0].transpose(0, 1), k[0].transpose(0, 1), scale, softcap, window))
        at = torch.arange(q.shape[2], device=q.device)
        seen = at <= at[:, None]
        if window is not None:
            seen &= at > at[:, None] - window
        return _softmax_attention(q, k, v, seen, scale, softcap).transpose(1, 2)

    modules: dict[nn.Module, Attend] = {block.attn: attend for block in model.parts.blocks}
    turned = model.parts.rotary.turned([tokens.ids.shape[1]])
    with model.held(), torch.no_grad(), _through(model, modules), turned:
        model.hf(input_ids=tokens.ids, use_cache=False, logits_to_keep=1)
    return found


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float, softcap: float | None) -> Tensor:
    """q: batch head query d_head; k, v: batch kv_head key d_head; seen: (query, key) True where attended."""
    grouped = q.shape[1] != k.shape[1]
    if softcap is None:
        return scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=grouped)
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = softcap * torch.tanh(q @ k.transpose(-1, -2) * scale / softcap)
    return scores.masked_fill(~seen, -math.inf).softmax(-1).to(v.dtype) @ v


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _ATTEND[module](query, key, value, scale, softcap, sliding_window), None


AttentionInterface.register(KEY, _attention)
AttentionMaskInterface.register(KEY, lambda *args, **kwargs: None)
