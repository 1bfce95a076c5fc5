"""One forward pass with reads and edits: what `Model.run` and `Model.stream` do."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from hooke.arguments import argument, shown
from hooke.errors import HookeError
from hooke.kernels import short_attention
from hooke.model.apply import Where, apply
from hooke.model.edits import SQUARE, Edit
from hooke.model.families import Parts
from hooke.model.hooks import attached, check_site
from hooke.model.state import glance
from hooke.sites import Site


class Tokens(NamedTuple):
    """A batch of token ids with its mask, both (batch, pos); mask is False on padding."""

    ids: Tensor
    mask: Tensor

    def rows(self, at: Tensor | slice) -> Tokens:
        """Some of the prompts."""
        return Tokens(self.ids[at], self.mask[at])

    def alone(self, row: int) -> Tokens:
        """One prompt without its padding."""
        ids = self.ids[row][self.mask[row]][None]
        return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))

    def times(self, n: int) -> Tokens:
        """All prompts n times over, one whole batch after another."""
        return Tokens(self.ids.repeat(n, 1), self.mask.repeat(n, 1))


class Activations(dict[Site, Tensor]):
    """Reads by site; `acts["resid_post.3"]` and `acts[Site("resid_post", 3)]` are the same."""

    def __getitem__(self, site: Site | str) -> Tensor:
        return super().__getitem__(Site.parse(site))

    def __contains__(self, site: object) -> bool:
        return super().__contains__(Site.parse(site) if isinstance(site, str) else site)


def choose(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """(batch,) ids of the next tokens of logits (batch, d_vocab): the likeliest at temperature 0, else drawn.

    Raises HookeError where a row says nothing: a token of NaN would be taken for the likeliest.
    """
    if bool((logits.isnan() | logits.isposinf()).any()) or bool(logits.isneginf().all(-1).any()):
        raise HookeError(NOT_FINITE)
    if temperature <= 0:
        return logits.argmax(-1)
    high = logits.double() - logits.double().amax(-1, keepdim=True)
    chances = (high / temperature).softmax(-1).float()
    return torch.multinomial(chances, 1, generator=generator)[:, 0]


class Run(NamedTuple):
    """What one run gives: logits (batch pos d_vocab, or batch d_vocab), reads, and the mask of real tokens."""

    logits: Tensor | None
    acts: Activations
    mask: Tensor


NOT_FINITE = "the model's logits are not finite; load it in another dtype (--dtype float32), or mend its weights"
ENTRY = Site("resid_pre", 0)
Tap = Callable[[Tensor], Tensor]  # the live value at a site to the value that takes its place


class Prefix(NamedTuple):
    """What one row of tokens (1, pos) left in the key-value cache, for runs that go on from there.

    caches: by how a sequence of the whole length turns its keys (`Rotary.turns`): one, unless that depends on it.
    made: a mark of the weights that made it.
    """

    ids: Tensor
    caches: dict[bytes | None, Any]
    made: tuple[Any, ...] | None = None

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return int(self.ids.shape[1])


class _Stop(Exception):
    """Raised after the last read when nobody wants the logits: the rest need not be computed."""


def check_start(
    hf: nn.Module,
    parts: Parts,
    tokens: Tokens,
    after: Prefix | None,
    entering: tuple[int, Tensor] | None,
    read: Sequence[Site],
    edits: Sequence[Edit],
) -> None:
    """Refuse a prefix or a stream to begin with that does not fit."""
    if after is not None:
        _check_prefix(hf, parts, tokens, after, edits)
    if entering is not None:
        _check_entering(parts, tokens, entering, read, edits)


def _check_entering(
    parts: Parts, tokens: Tokens, entering: tuple[int, Tensor], read: Sequence[Site], edits: Sequence[Edit]
) -> None:
    """Refuse a stream to begin with that does not fit the tokens, and sites of layers before it."""
    if not isinstance(entering, tuple) or len(entering) != 2 or not isinstance(entering[1], Tensor):
        raise HookeError(f"entering is a layer and the stream that enters it, not {shown(entering)}")
    layer, stream = argument("the layer", entering[0], int), entering[1]
    shape = (*tokens.ids.shape, parts.d_model)
    if not 0 <= layer < parts.n_layers or tuple(stream.shape) != shape:
        raise HookeError(f"the stream entering layer {layer} must be {shape}, not {tuple(stream.shape)}")
    first = Site("resid_pre", layer)
    for site in [*read, *(edit.site for edit in edits)]:
        if site < first:
            raise HookeError(f"{site} is not computed in a run that begins at {first}")


def _check_prefix(hf: nn.Module, parts: Parts, tokens: Tokens, after: Prefix, edits: Sequence[Edit]) -> None:
    """Refuse a prefix of other weights, tokens that cannot follow it, and edits of what has run already."""
    if after.made is not None and after.made != glance(hf, parts.rotary.modules):
        raise HookeError(
            "this prefix was made by another model, or the weights have changed since: make it again with model.prefix"
        )
    if not bool(tokens.mask.all()):
        raise HookeError("tokens that follow a prefix take no padding")
    if after.length + tokens.ids.shape[1] > parts.context:
        raise HookeError(
            f"{after.length} tokens of a prefix and {tokens.ids.shape[1]} more do not fit the context of "
            f"{parts.context}"
        )
    for edit in edits:
        named = () if edit.positions is None or isinstance(edit.positions, str) else edit.positions
        named = edit.index[0].tolist() if edit.paired else named
        if any(0 <= int(p) < after.length or int(p) < -tokens.ids.shape[1] for p in named):
            raise HookeError(
                f"edit at {edit.site}: a position lies in the prefix of {after.length} tokens, which has run already: "
                "give prefix and prompt as one"
            )


class Plan(NamedTuple):
    """What a pass reads and changes.

    taps: functions of the live value, applied after the edits of their site. logits: of all positions, of the last of
    each row, or none.
    """

    read: Iterable[Site | str] = ()
    edits: Sequence[Edit] = ()
    taps: Mapping[Site, Tap] = {}
    grad: bool = False
    logits: Literal["all", "last"] | None = "all"


class Start(NamedTuple):
    """What a pass begins with.

    past: the cache of the prompt and what followed, then tokens is one more token of each row; past_mask: which of
    these are real, prompt_lengths: how many tokens the prompts have, horizon: how many will follow them, so that edits
    may name their positions. after: the cache of what all rows of the prompt begin with; it is left as it is.
    entering: a layer and the stream entering it (batch pos d_model); the blocks below are left out. whole: how many
    tokens each row (or every row, if one number) will have when all have come, if more than now: some models turn the
    first ones by that.
    """

    past: Any = None
    past_mask: Tensor | None = None
    prompt_lengths: Tensor | None = None
    horizon: int = 0
    after: Prefix | None = None
    entering: tuple[int, Tensor] | None = None
    whole: Sequence[int] | None = None


FRESH = Start()


def forward(
    hf: nn.Module, parts: Parts, tokens: Tokens, plan: Plan, start: Start = FRESH, *, keep_cache: bool = False
) -> tuple[Run, Any]:
    """Run the model once. Returns the run and, if asked, transformers' key-value cache."""
    first = start.past is None
    if start.after is not None:
        start = _after(hf, parts, tokens, start, start.after)
    one = _Pass.of(parts, tokens, plan, start, first)
    last = one.wanted_last
    if plan.logits is None and last is None:
        raise HookeError("nothing to compute: ask for reads or for logits")
    inputs, ends = _inputs(one, keep_cache)
    if start.past is not None:
        inputs[cache_name(hf)] = start.past
    with (
        torch.set_grad_enabled(plan.grad),
        attached(hf, parts, one.watch, one.visit),
        skipping(parts, 0 if start.entering is None else start.entering[0]),
        short_attention(parts.unembed.weight, one.whole_mask.shape[1]),
        parts.rotary.turned(start.whole or one.lengths),
    ):
        try:
            output = hf(**inputs)
        except _Stop:
            return Run(None, one.acts, tokens.mask), None
    missed = one.wanted - one.acts.keys()
    if missed:
        raise HookeError(
            f"{min(missed)} was never computed; the family row {parts.family.name} does not fit this model"
        )
    result = None
    if plan.logits == "all":
        result = output.logits.masked_fill(~tokens.mask[:, :, None], 0) if one.padded else output.logits
    elif ends is not None:
        result = output.logits[torch.arange(len(ends), device=ends.device), ends]
    elif plan.logits == "last":
        result = output.logits[:, -1]
    return Run(result, one.acts, tokens.mask), output[cache_name(hf)] if keep_cache else None


def _after(hf: nn.Module, parts: Parts, tokens: Tokens, start: Start, after: Prefix) -> Start:
    """A pass that goes on from a prefix, as one that goes on from a copy of its cache."""
    past = copy.deepcopy(_cache(hf, parts, after, after.length + tokens.ids.shape[1]))
    past.batch_repeat_interleave(tokens.ids.shape[0])
    seen = torch.ones(tokens.ids.shape[0], after.length, dtype=torch.bool, device=tokens.ids.device)
    return start._replace(past=past, past_mask=seen, prompt_lengths=after.length + tokens.mask.sum(1))


@dataclass
class _Pass:
    """One pass: what is visited on its way, and what was read."""

    tokens: Tokens
    plan: Plan
    by_site: dict[Site, list[Edit]]
    wanted: set[Site]
    conditions: set[Site]  # what the dictionaries of edits read
    padded: bool
    whole_mask: Tensor
    lengths: list[int]
    where: Where | None
    entering: tuple[Site, Tensor] | None
    acts: Activations

    @classmethod
    def of(cls, parts: Parts, tokens: Tokens, plan: Plan, start: Start, first: bool) -> _Pass:
        by_site: dict[Site, list[Edit]] = {}
        for edit in plan.edits:
            by_site.setdefault(edit.site, []).append(edit)
        asked = [pair[0] for edit in plan.edits for pair in (edit.when, edit.feature) if pair is not None]
        mask = tokens.mask
        whole = mask if start.past_mask is None else torch.cat([start.past_mask, mask], 1)
        padded = not bool(whole.all())
        where = _where(mask, whole, start.prompt_lengths, padded, first) if padded or plan.edits else None
        found = cls(
            tokens,
            plan,
            by_site,
            {Site.parse(site) for site in plan.read},
            {site for dictionary in asked for site in dictionary.reads},
            padded,
            whole,
            whole.sum(1).tolist() if parts.rotary.modules else [],
            where,
            None if start.entering is None else (Site("resid_pre", start.entering[0]), start.entering[1]),
            Activations(),
        )
        for site in found.wanted | by_site.keys() | found.conditions | plan.taps.keys():
            check_site(parts, site)
        if first and where is not None:
            check_positions(plan.edits, where.prompt, start.horizon)
        return found

    @cached_property
    def wanted_last(self) -> Site | None:
        """The last site that is read."""
        return max(self.wanted, default=None)

    @property
    def watch(self) -> set[Site]:
        """Where something is read or done."""
        found = self.wanted | self.by_site.keys() | self.conditions | self.plan.taps.keys()
        if self.plan.grad:
            found.add(ENTRY)
        return found if self.entering is None else {*found, self.entering[0]}

    def visit(self, site: Site, x: Tensor) -> Tensor:
        """The value at a site after what is done there."""
        if self.entering is not None and site == self.entering[0]:
            x = self.entering[1].to(x)
        if self.plan.grad and site == ENTRY and not x.requires_grad:
            x = x.detach().requires_grad_()
        if self.where is not None:
            before = x
            for edit in self.by_site.get(site, ()):
                if site in self.conditions:
                    self.where.seen[site] = x
                x = apply(edit, x, self.where, owned=x is not before)
            if site in self.conditions:
                self.where.seen[site] = x
        if site in self.plan.taps:
            x = self.plan.taps[site](x)
        if site in self.wanted:
            self.acts[site] = _zero_padding(x, site, self.tokens.mask) if self.padded else x
        if self.plan.logits is None and site == self.wanted_last:
            raise _Stop
        return x


def _inputs(one: _Pass, keep_cache: bool) -> tuple[dict[str, Any], Tensor | None]:
    """What the model is called with, and which of the kept logits is the last of each row, if not the last."""
    ids, where = one.tokens.ids, one.where
    inputs: dict[str, Any] = {"input_ids": ids, "use_cache": keep_cache}
    if where is not None and one.padded:
        inputs |= {"attention_mask": one.whole_mask.long(), "position_ids": where.pos.clamp(min=0)}
    ends: Tensor | None = None
    if one.plan.logits == "last":
        # an index and not the number 1: that makes a strided view, on which the unembedding takes ten times as long
        inputs["logits_to_keep"] = torch.tensor([ids.shape[1] - 1], device=ids.device)
        if where is not None and one.padded:
            inputs["logits_to_keep"], ends = where.pos.argmax(1).unique(return_inverse=True)
    return inputs, ends


def cache_name(hf: nn.Module) -> str:
    """What a transformers model calls its key-value cache, as an argument and in its output: `cache` from some
    release after 5.20 on, where the older name still works with a warning, and will not from 5.40 on."""
    return "cache" if "cache" in inspect.signature(hf.forward).parameters else "past_key_values"


def again(
    hf: nn.Module,
    parts: Parts,
    prompt: Tokens,
    answer: Tensor,
    plan: Plan,
    start: Start,
) -> tuple[Run, Any]:
    """Run a prompt (padding on the left) and what followed it (batch new) from the beginning, as the sequences of
    `start.whole` tokens that they are now. Returns the last token's reads and logits, and the cache."""
    _, past = forward(hf, parts, prompt, plan._replace(read=(), logits="last"), start, keep_cache=True)
    rest = Tokens(answer, torch.ones_like(answer, dtype=torch.bool))
    going = start._replace(past=past, past_mask=prompt.mask)
    run, past = forward(hf, parts, rest, plan._replace(logits="last"), going, keep_cache=True)
    acts = Activations()
    for site, x in run.acts.items():
        if site.point in SQUARE:
            window = getattr(past.layers[site.layer or 0], "sliding_window", None)
            acts[site] = x[:, :, -1:, -window if window else None :]
        else:
            acts[site] = x[:, -1:]
    return Run(run.logits, acts, rest.mask[:, -1:]), past


def _cache(hf: nn.Module, parts: Parts, after: Prefix, length: int) -> Any:
    """The cache of a prefix as the beginning of so many tokens; made again where they turn its keys otherwise."""
    turns = parts.rotary.turns(length)
    if turns not in after.caches:
        if len(after.caches) > 3:
            after.caches.pop(next(iter(after.caches)))
        tokens = Tokens(after.ids, torch.ones_like(after.ids, dtype=torch.bool))
        after.caches[turns] = forward(hf, parts, tokens, Plan(logits="last"), Start(whole=[length]), keep_cache=True)[1]
    return after.caches[turns]


def _where(mask: Tensor, whole_mask: Tensor, lengths: Tensor | None, padded: bool, first: bool) -> Where:
    """Positions of the entries of a pass, whose mask is the end of the whole one."""
    keys = (whole_mask.cumsum(1) - 1).masked_fill(~whole_mask, -1)
    pos = keys[:, keys.shape[1] - mask.shape[1] :]
    return Where(pos, mask.sum(1) if lengths is None else lengths, keys, padded, first)


def _zero_padding(x: Tensor, site: Site, mask: Tensor) -> Tensor:
    """Entries of padding are zero, so that a forgotten mask cannot pass for data."""
    if site.point in SQUARE:
        return x.masked_fill(~mask[:, None, :, None], 0)
    return x.masked_fill(~mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), 0)


def check_positions(edits: Sequence[Edit], lengths: Tensor, horizon: int) -> None:
    """A position that no row has is a mistake, not an edit without effect."""
    named = [edit for edit in edits if not (edit.positions is None or isinstance(edit.positions, str))]
    paired = [edit for edit in edits if edit.paired]
    longest = int(lengths.max()) if named or paired else 0
    for edit in (*named, *paired):
        for position in edit.index[0].tolist() if edit.paired else edit.positions or ():
            if not -longest <= int(position) < longest + horizon:
                raise HookeError(f"edit at {edit.site}: position {position} of a prompt of {longest} tokens")


@contextmanager
def skipping(parts: Parts, first: int) -> Iterator[None]:
    """Leave the blocks before `first` out of the pass."""
    skipped = [block.module for block in parts.blocks[:first]]
    before = [module.__dict__.get("forward") for module in skipped]

    def skip(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states

    try:
        for module in skipped:
            module.forward = skip
        yield
    finally:
        for module, own in zip(skipped, before, strict=True):
            module.__dict__.pop("forward", None)
            if own is not None:
                module.__dict__["forward"] = own
