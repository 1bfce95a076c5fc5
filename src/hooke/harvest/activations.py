"""Activations of many short texts in one pass, pooled while they are at hand.

What a probe reads of a text is one vector a site (the last token, or a mean) or one a token; both come
from a single forward pass a batch, together with the log-probability and length that baselines need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.harvest.batches import batches
from hooke.harvest.shards import Harvest, Prompt, load_shard, save_shard, shard_name
from hooke.harvest.stream import widths
from hooke.model import Model
from hooke.model.budget import budget, pass_tokens
from hooke.model.chat import chat_text
from hooke.model.run import Prefix
from hooke.sites import Site

POOLS = ("last", "mean")
SHARD = 1024  # texts that are saved together
SHARED = 6  # tokens that all prompts begin with, from which on they are run once


class Encoder(Protocol):
    """What is needed of a dictionary to keep its codes: that much of `hooke.dictionaries.Dictionary`."""

    @property
    def reads(self) -> tuple[Site, ...]: ...
    @property
    def n_features(self) -> int: ...
    @property
    def hash(self) -> str: ...
    def encode(self, x: Mapping[Site, Tensor]) -> Any: ...


class Readable(Protocol):
    """What is read of a row: its text, and what was said before it, if anything. A label is none of it."""

    @property
    def text(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def system(self) -> str: ...


class Wanted(NamedTuple):
    """What to keep: pooled values at sites, and every token at others."""

    sites: list[Site]
    pools: list[str]
    tokens: list[Site]
    likelihood: bool
    codes: dict[Site, Encoder]

    @classmethod
    def of(
        cls,
        model: Model,
        *,
        sites: Iterable[Site | str] | None = None,
        pools: Sequence[str] = POOLS,
        tokens: Iterable[Site | str] = (),
        likelihood: bool = True,
        codes: Sequence[Encoder] = (),
    ) -> Wanted:
        """sites: where to pool; None is resid_post of every layer. pools: "last", the last token of the prompt,
        and "mean", over the tokens of the text. tokens: sites at which every token is kept as well.
        likelihood: without it log-probabilities are NaN, and the model is run no further than the last site.
        codes: dictionaries of one read site each; at that site their codes are kept instead of activations.
        Raises HookeError for an unknown pool, and for a dictionary that reads several sites.
        """
        unknown = set(pools) - set(POOLS)
        if unknown:
            raise HookeError(f"no pool called {min(unknown)!r}; there are {', '.join(POOLS)}")
        given = [Site("resid_post", layer) for layer in range(model.parts.n_layers)] if sites is None else sites
        joint = [d.hash for d in codes if len(d.reads) != 1]
        if joint:
            raise HookeError(
                f"the dictionary {joint[0]} reads several sites, and codes are kept of those that read one"
            )
        parsed, kept = ([Site.parse(site) for site in some] for some in (given, tokens))
        return cls(parsed, list(pools), kept, likelihood, {d.reads[0]: d for d in codes})

    def values(self, site: Site, x: Tensor) -> Tensor:
        """(batch, pos, width): what was read, or the codes of a dictionary that reads there."""
        x = x.flatten(2)
        if site not in self.codes:
            return x
        dense: Tensor = self.codes[site].encode({site: x.flatten(0, 1)}).dense()
        return dense.unflatten(0, x.shape[:2])


def prompts(model: Model, rows: Sequence[Readable], *, template: str | None = None) -> list[Prompt]:
    """What the model reads of each row, and where its text lies.

    template: a text with {text} in it, put around statements; rows with a `user` come in the model's own
    chat template instead, always with a system message, so that none is inserted.
    Raises HookeError for an empty text, one that is longer than the context, or a chat without a template.
    """
    if template is not None and template.count("{text}") != 1:
        raise HookeError(f"a template holds {{text}} exactly once; this one is {template!r}")
    before, _, after = ("", "", "") if template is None else template.partition("{text}")
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise HookeError(f"{model.name} has no tokenizer; load it with one")
    heads: dict[tuple[str, str], str] = {}
    made = []
    for number, row in enumerate(rows, 1):
        if not row.text.strip():
            raise HookeError(f"row {number} has an empty text")
        if any("\ud800" <= c <= "\udfff" for c in row.text):
            raise HookeError(f"row {number} is not valid Unicode: {row.text[:60]!r}")
        head, tail, special = before, after, True
        if row.user:
            key = (row.system, row.user)
            if key not in heads:
                heads[key] = _chat(model, *key)
            head, tail, special = heads[key], "", False
        whole = tokenizer(head + row.text + tail, add_special_tokens=special, return_offsets_mapping=True)
        ids, spans = whole["input_ids"], whole["offset_mapping"]
        if len(ids) > model.parts.context:
            raise HookeError(
                f"row {number} is {len(ids)} tokens and the context of {model.name} is {model.parts.context}"
            )
        inside = [i for i, (a, b) in enumerate(spans) if b > len(head) and a < len(head) + len(row.text) and b > a]
        if not inside:
            raise HookeError(f"row {number} has no tokens of its own: {row.text[:60]!r}")
        made.append(Prompt(ids, inside[0], inside[-1] + 1))
    return made


def _chat(model: Model, system: str, user: str) -> str:
    if not getattr(model.tokenizer, "chat_template", None):
        raise HookeError(f"{model.name} has no chat template, and these rows are answers to a user; use plain texts")
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return chat_text(model.tokenizer, model.name, messages)


def harvest(
    model: Model,
    rows: Sequence[Readable],
    what: Wanted | None = None,
    *,
    template: str | None = None,
    keep: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> Harvest:
    """Run texts once and keep pooled activations, and those of every token where asked.

    what: `Wanted.of(model, …)`; None is both pools of resid_post in every layer. template: as `prompts` has it.
    keep: a folder where every 1,024 texts are saved when they are done, so that a stopped run goes on there.
    progress: called with how much is done, 0 to 1.
    Raises HookeError for bad rows (see `prompts`), and for more than would fit in memory.
    """
    if not rows:
        raise HookeError("there are no texts to read")
    what = what or Wanted.of(model)
    todo = prompts(model, rows, template=template)
    out = _allocated(model, todo, what)
    shared = _shared(todo)
    after = model.prefix(torch.tensor(todo[0].ids[:shared])) if shared else None
    facts = model.provenance()
    kept_codes = {str(site): d.hash for site, d in what.codes.items()}
    about = [model.weights_hash(), facts["model"], facts["dtype"], repr(what._replace(codes={})), kept_codes]
    size = SHARD if keep is not None else len(todo)
    for start in range(0, len(todo), size):
        part = todo[start : start + size]
        own = out.part(start, start + len(part))
        tick = _stretched(progress, start / len(todo), (start + len(part)) / len(todo))
        path = keep and keep / f"{shard_name([*about, [tuple(p) for p in part]])}.safetensors"
        if path is None:
            _run(model, part, what, shared, after, tick, own)
        elif not load_shard(path, own):
            _run(model, part, what, shared, after, tick, own)
            save_shard(path, own)
        tick(1.0)
    return out


def _stretched(progress: Callable[[float], None] | None, start: float, end: float) -> Callable[[float], None]:
    if progress is None:
        return lambda done: None
    return lambda done: progress(start + (end - start) * done)


def _run(
    model: Model,
    todo: Sequence[Prompt],
    what: Wanted,
    shared: int,
    after: Prefix | None,
    tick: Callable[[float], None],
    out: Harvest,
) -> None:
    """Put the activations of some prompts, whose first `shared` tokens have been run already, into their places."""
    every = sorted({*what.sites, *what.tokens})
    todo = [Prompt(p.ids[shared:], p.start - shared, p.stop - shared) for p in todo]
    total, done = sum(len(p.ids) for p in todo), 0
    out.log_probability[:] = np.nan
    for batch in batches([len(p.ids) for p in todo], tokens=pass_tokens(model), even=shared > 0):
        chosen = [todo[i] for i in batch]
        padded = model.pad([p.ids for p in chosen], "right")
        run = model.run(padded, read=every, logits="all" if what.likelihood else None, after=after)
        if run.logits is not None:
            out.log_probability[batch] = _log_probability(run.logits, padded.ids, chosen)
        last = torch.tensor([len(p.ids) - 1 for p in chosen], device=model.device)
        inside = _inside(chosen, padded.ids.shape[1]).to(model.device)
        for site in every:
            x = what.values(site, run.acts[site])
            if "last" in what.pools and site in what.sites:
                out.pooled[site, "last"][batch] = x[torch.arange(len(batch)), last].float().cpu().numpy()
            if "mean" in what.pools and site in what.sites:
                mean = torch.einsum("bp,bpd->bd", inside.to(x.dtype), x) / inside.sum(1, keepdim=True)
                out.pooled[site, "mean"][batch] = mean.float().cpu().numpy()
            if site in what.tokens:
                for row, i in enumerate(batch):
                    own = x[row, todo[i].start : len(todo[i].ids)]
                    out.tokens[site][out.rows(i)] = own.float().cpu().numpy()
        done += sum(len(p.ids) for p in chosen)
        tick(done / total)


def _shared(todo: Sequence[Prompt]) -> int:
    """How many tokens all prompts begin with and can be run once: not the last before a text, whose logits
    say how likely the text begins; none if it would be too few to pay for batches of equal length."""
    first, room = todo[0].ids, min(p.start for p in todo) - 1
    same = 0
    while same < room and all(p.ids[same] == first[same] for p in todo):
        same += 1
    return same if same >= SHARED else 0


def _inside(chosen: Sequence[Prompt], width: int) -> Tensor:
    at = torch.arange(width)[None]
    start, stop = (torch.tensor([[getattr(p, name)] for p in chosen]) for name in ("start", "stop"))
    return ((at >= start) & (at < stop)).float()


def _log_probability(logits: Tensor, ids: Tensor, chosen: Sequence[Prompt]) -> np.ndarray:
    """(batch,) mean of ln p over the tokens of each text but a first one that nothing precedes."""
    inside = _inside(chosen, ids.shape[1]).to(ids.device)[:, 1:]
    x = logits[:, :-1]
    right = x.gather(-1, ids[:, 1:, None])[..., 0].float()
    total = torch.stack([torch.logsumexp(row, -1) for row in x])  # by row: the vocabulary then stays in cache
    each = right - total.float()
    sums = (each * inside).sum(1)
    return (sums / inside.sum(1).clamp(min=1)).double().cpu().numpy()


def _allocated(model: Model, todo: Sequence[Prompt], what: Wanted) -> Harvest:
    """A place for everything that will be kept of these prompts; refused if it would not fit."""
    n, offsets = len(todo), np.concatenate([[0], np.cumsum([len(p.ids) - p.start for p in todo])])
    every = [*what.sites, *what.tokens]
    width = widths(model, every) if every else {}
    width |= {site: d.n_features for site, d in what.codes.items()}
    pooled = {(site, pool): (n, width[site]) for site in what.sites for pool in what.pools}
    tokens = {site: (int(offsets[-1]), width[site]) for site in what.tokens}
    size = 4 * sum(rows * columns for rows, columns in [*pooled.values(), *tokens.values()])
    free = budget(torch.device("cpu")).free  # where they are kept
    if size > free:
        raise HookeError(
            f"the activations asked for take {size / 2**30:.1f} GB and {free / 2**30:.1f} GB are free; "
            "give fewer texts, sites or pools"
        )
    return Harvest(
        {key: np.empty(shape, np.float32) for key, shape in pooled.items()},
        {site: np.empty(shape, np.float32) for site, shape in tokens.items()},
        offsets,
        np.zeros(n),
        np.array([p.stop - p.start for p in todo]),
        [p.ids[p.start :] for p in todo],
    )
