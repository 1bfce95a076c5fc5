"""Which tokens are harvested, and in which order: a plan, made of texts before anything is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hooke.data.texts import Used, passages
from hooke.errors import HookeError
from hooke.harvest.own import own_text, turns
from hooke.harvest.tensors import read_tensors, write_tensors
from hooke.model import Model
from hooke.model.spelling import encode_all

ARRAYS = ("ids", "offsets", "document", "start")
MOST_BYTES = 2**38  # of a plan's file
AT_ONCE = 64  # passages that are tokenised together
Progress = Callable[[float], None]
Stream = Iterator[tuple[np.ndarray, str]]


@dataclass(frozen=True, eq=False)
class Plan:
    """The tokens of a harvest in pieces: a pure function of texts, tokenizer, n_tokens, context and seed.

    ids: (sum of lengths,) int32, the tokens of all pieces one after another, with the special first tokens that the
    tokenizer puts before a text. offsets: (pieces + 1,) where each begins. document: (pieces,) of which passage it is,
    numbered as they were read. start: (pieces,) where its first own token stands in that passage. skip: how many
    tokens at the start of each piece are special, and are dropped. shards: the pieces of each. sources: the label of
    each passage. n_tokens: how many tokens are kept in all. texts: what is recorded of where they come from.
    """

    ids: np.ndarray = field(repr=False)
    offsets: np.ndarray = field(repr=False)
    document: np.ndarray = field(repr=False)
    start: np.ndarray = field(repr=False)
    skip: int
    shards: list[range]
    sources: list[str] = field(repr=False)
    hash: str  # sha256 over all of this
    n_tokens: int
    context: int
    seed: int
    texts: dict[str, Any]

    def kept(self, number: int) -> int:
        """How many tokens of a shard are kept."""
        pieces = self.shards[number]
        whole = int(self.offsets[pieces.stop] - self.offsets[pieces.start])
        return whole - self.skip * len(pieces)

    def piece(self, i: int) -> np.ndarray:
        """The tokens of a piece, special ones too."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]


def plan(
    model: Model,
    texts: Sequence[str],
    *,
    n_tokens: int,
    context: int = 256,
    shard_tokens: int = 2**17,
    seed: int = 0,
    progress: Progress | None = None,
) -> Plan:
    """Cut texts into pieces of at most `context` tokens, shuffle them, and put them into shards.

    texts: sources as `hooke.data.texts.passages` reads them, or "self", what the model itself says, or "self:0.1"
    for a tenth of that; several take turns. n_tokens: how many tokens to keep, special ones not counted; the last
    piece is cut to that. shard_tokens: about how many make a shard; all have about as many. seed: the order of the
    texts and of the pieces.
    progress: called with how much is done, 0 to 1.
    Raises HookeError if the texts hold fewer tokens, saying how many, and for sizes that cannot be.
    """
    names = [texts] if isinstance(texts, str) else list(dict.fromkeys(texts))
    special = special_tokens(model)
    room = _checked(model, len(special), n_tokens, context, shard_tokens)
    tally = Used(names)
    pieces: list[np.ndarray] = []
    document: list[int] = []
    start: list[int] = []
    sources: list[str] = []
    had = 0
    for ids, source in _stream(model, names, room, seed, tally):
        for at in range(0, len(ids), room):
            piece = ids[at : min(at + room, at + n_tokens - had)]
            pieces.append(np.concatenate([special, piece]))
            document.append(len(sources))
            start.append(at)
            had += len(piece)
            if had == n_tokens:
                break
        sources.append(source)
        if progress is not None:
            progress(had / n_tokens)
        if had == n_tokens:
            break
    if had < n_tokens:
        raise HookeError(
            f"{', '.join(names)} hold{'s' if len(names) == 1 else ''} {had:,} tokens and {n_tokens:,} are asked for; "
            f"ask for {had:,} at most and go over them more than once, or give more texts"
        )
    order = np.random.default_rng(seed).permutation(len(pieces))
    pieces = [pieces[i] for i in order]
    parts: dict[str, np.ndarray] = {
        "ids": np.concatenate(pieces).astype(np.int32),
        "offsets": np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64),
        "document": np.array(document, np.int32)[order],
        "start": np.array(start, np.int32)[order],
    }
    facts = {"context": context, "seed": seed, "n_tokens": n_tokens, "texts": tally.about()}
    return made(parts, _shards(parts["offsets"], len(special), shard_tokens), len(special), sources, facts)


def made(
    parts: dict[str, np.ndarray], shards: list[range], skip: int, sources: list[str], facts: dict[str, Any]
) -> Plan:
    """A plan of its parts, with its hash."""
    rest = [[(pieces.start, pieces.stop) for pieces in shards], skip, sources, facts]
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name in sorted(parts):
        digest.update(np.ascontiguousarray(parts[name]).data)
    return Plan(**parts, **facts, skip=skip, shards=shards, sources=sources, hash=digest.hexdigest())  # type: ignore


def subset(plan: Plan, keep: np.ndarray, *, whole: bool = False) -> Plan:
    """Some of a plan's pieces, (pieces,) True for these, each in the shard that it was in; `whole`: all in one."""
    lengths = np.diff(plan.offsets)[keep]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    parts = {
        "ids": np.concatenate([plan.piece(int(i)) for i in np.flatnonzero(keep)]),
        "offsets": offsets,
        "document": plan.document[keep],
        "start": plan.start[keep],
    }
    ends = np.concatenate([[0], np.cumsum([int(keep[s.start : s.stop].sum()) for s in plan.shards])]).tolist()
    shards = [range(len(lengths))] if whole else [range(a, b) for a, b in pairwise(ends) if b > a]
    n_tokens = int(lengths.sum()) - plan.skip * len(lengths)
    facts = {"context": plan.context, "seed": plan.seed, "n_tokens": n_tokens, "texts": plan.texts}
    return made(parts, shards, plan.skip, plan.sources, facts)


def special_tokens(model: Model) -> np.ndarray:
    """The ids that the tokenizer puts before every text, int32: often one, often none."""
    if model.tokenizer is None:
        raise HookeError(f"{model.name} has no tokenizer, and texts are read with one; load it with its tokenizer")
    whole, bare = (encode_all(model.tokenizer, ["a"], special=own)[0] for own in (True, False))
    before = next((i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare), 0)
    return np.array(whole[:before], np.int32)


def _checked(model: Model, skip: int, n_tokens: int, context: int, shard_tokens: int) -> int:
    """How many own tokens a piece has at most. Raises HookeError for sizes that cannot be."""
    if n_tokens < 1 or shard_tokens < 1:
        raise HookeError(f"a harvest is of at least one token, not {min(n_tokens, shard_tokens)}")
    if not skip < context <= model.parts.context:
        raise HookeError(
            f"pieces of {context} tokens: {model.name} reads {skip + 1} to {model.parts.context}; change the context"
        )
    return context - skip


def _stream(model: Model, names: list[str], room: int, seed: int, tally: Used) -> Stream:
    """(ids, label) of passages without special tokens, the model's own text and others taking turns by their share."""
    others, for_each = turns(names)
    if not for_each:
        yield from _tokenised(model, others, seed, tally)
        return
    own = own_text(model, length=room, seed=seed, tally=tally)
    if not others:
        yield from own
        return
    given = [0, 0]
    for ids, source in (read := _tokenised(model, others, seed, tally)):
        yield ids, source
        given[0] += len(ids)
        while given[1] < for_each * given[0]:
            ids, source = next(own)
            yield ids, source
            given[1] += len(ids)
    del read
    if for_each * len(others) >= 1:  # a smaller share stays one
        yield from own


def _tokenised(model: Model, names: list[str], seed: int, tally: Used) -> Stream:
    read = passages(names, seed=seed)
    while some := list(islice(read, AT_ONCE)):
        for passage, ids in zip(some, encode_all(model.tokenizer, [p.text for p in some]), strict=True):
            if len(ids):
                tally.add(passage)
                yield np.array(ids, np.int32), passage.source


def _shards(offsets: np.ndarray, skip: int, shard_tokens: int) -> list[range]:
    """Pieces in shards of about so many kept tokens, all about as large."""
    kept = offsets - skip * np.arange(len(offsets))
    count = max(1, round(int(kept[-1]) / shard_tokens))
    cuts = np.searchsorted(kept, kept[-1] * np.arange(1, count) / count)
    ends = sorted({0, *(int(cut) for cut in cuts), len(offsets) - 1})
    return [range(a, b) for a, b in pairwise(ends)]


# ---- files --------------------------------------------------------------------------------------


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan to a new file, so that its texts need not be there when it is carried out."""
    labels = sorted(set(plan.sources))
    number = {label: i for i, label in enumerate(labels)}
    arrays = {name: getattr(plan, name) for name in ARRAYS}
    arrays["source"] = np.array([number[label] for label in plan.sources], np.int32)
    arrays["shards"] = np.array([(pieces.start, pieces.stop) for pieces in plan.shards], np.int64)
    facts = {name: getattr(plan, name) for name in ("skip", "context", "seed", "n_tokens", "texts", "hash")}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in arrays.items()}
    write_tensors(path, tensors, {"plan": json.dumps({**facts, "labels": labels})})


def load_plan(path: Path) -> Plan:
    """Read a plan. Raises HookeError for a file that is not whole, or not what its hash says."""
    about, tensors, _ = read_tensors(path, MOST_BYTES)
    bad = HookeError(f"{path} holds no whole plan of a harvest; remove it, and plan again")
    try:
        facts = json.loads(about["plan"])
        arrays = {name: x.numpy() for name, x in tensors.items()}
        labels, known, skip = facts.pop("labels"), facts.pop("hash"), facts.pop("skip")
        sources = [labels[i] for i in arrays.pop("source")]
        shards = [range(a, b) for a, b in arrays.pop("shards").tolist()]
        found = made(arrays, shards, skip, sources, facts)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError):
        raise bad from None
    if found.hash != known:
        raise bad
    return found
