"""Text that nothing was trained on, in pieces: the passages that training took are found again and left out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.data.texts import Passage, Used, passages
from hooke.data.texts.sources import is_own, is_word, label_of
from hooke.errors import HookeError
from hooke.files import path_of
from hooke.harvest.batches import batches
from hooke.harvest.own import own_text, turns
from hooke.harvest.plans import special_tokens
from hooke.methods.progress import Tick
from hooke.model import Model, Tokens
from hooke.model.spelling import encode_all

SHORTEST = 16  # own tokens of a piece
OF_EACH = 2  # pieces of a passage at most, so that there are many passages
OTHER_SEED = 7919  # added to a seed with which the model's own text was drawn for training


@dataclass(frozen=True, eq=False)
class Pieces:
    """Token ids of pieces, each with the special tokens that the tokenizer puts first.

    document: of which passage each is. skip: how many tokens at the start of each are left as they are and count
    nowhere: the special ones, or the first, which models use as a place to rest their attention.
    """

    ids: list[list[int]]
    document: list[int]
    skip: int

    @property
    def n_tokens(self) -> int:
        """How many count."""
        return sum(len(piece) - self.skip for piece in self.ids)

    @property
    def n_documents(self) -> int:
        return len(set(self.document))

    def first(self, tokens: int, *, longest: int | None = None) -> Pieces:
        """The first pieces, of at most so many tokens that count together; at least one. longest: of a piece."""
        ids: list[list[int]] = []
        had = 0
        for piece in self.ids:
            piece = piece[: longest or len(piece)]
            had += len(piece) - self.skip
            if ids and had > tokens:
                break
            ids.append(piece)
        return Pieces(ids, self.document[: len(ids)], self.skip)


class Batch(NamedTuple):
    """Some pieces that run together.

    inside: (rows, pos) where tokens count. document: (n,) the passage of each of these, row by row.
    """

    tokens: Tokens
    inside: Tensor
    document: Tensor


class Texts(NamedTuple):
    """fit: what controls are fitted to. test: what everything is measured on, of other passages. about: what is
    recorded of both. notes: what could not be kept apart."""

    fit: Pieces
    test: Pieces
    about: dict[str, Any]
    notes: list[str]


def texts(
    model: Model, names: Sequence[str], made: Mapping[str, Any], *, tokens: int, context: int, seed: int, tick: Tick
) -> Texts:
    """Pieces of `context` tokens at most of passages that are not those of the training.

    made: what the dictionary's folder says of how it was made. tokens: how many are tested on; half as many more, at
    most 8,192, are fitted to. Raises HookeError where the sources hold fewer, and for sizes that cannot be.
    """
    special = special_tokens(model).tolist()
    skip = max(1, len(special))
    if not skip + SHORTEST <= context <= model.parts.context:
        raise HookeError(
            f"pieces of {context} tokens: {model.name} reads {skip + SHORTEST} to {model.parts.context}; change the "
            "context"
        )
    if tokens < 2 * SHORTEST:
        raise HookeError(f"{tokens} tokens are too few to say anything; ask for at least {2 * SHORTEST}")
    avoid, notes = trained_on(made, names)
    fit_tokens = min(8192, max(4 * SHORTEST, tokens // 2))
    tally, left = Used(list(names)), [0]
    source = _unseen(model, names, context, _own_seed(made, seed, names), avoid, left)
    found, had = [], 0
    for text, rows in source:
        tally.add(text)
        cut = [special + row for row in rows]
        if not special:  # the first token is left as it is, and so does not count
            cut = [row for row in cut if len(row) > SHORTEST]
        found.append(cut)
        had += sum(len(row) - skip for row in cut)
        tick(had / (tokens + fit_tokens))
        if had >= tokens + fit_tokens:
            break
    if had < tokens + fit_tokens:
        unseen = " that were not trained on" if left[0] else ""
        raise HookeError(
            f"{', '.join(names)} hold {had:,} tokens{unseen}, and {tokens:,} to test and {fit_tokens:,} to fit controls"
            " are asked for; give other --text, or fewer --tokens"
        )
    n_fit, count = 0, 0
    while count < fit_tokens and n_fit < len(found) - 1:
        count += sum(len(row) - skip for row in found[n_fit])
        n_fit += 1
    about = tally.about() | {"left_out": left[0], "fitted_to": n_fit, "tested_on": len(found) - n_fit}
    return Texts(_pieces(found[:n_fit], skip), _pieces(found[n_fit:], skip), about, notes)


def _pieces(found: list[list[list[int]]], skip: int) -> Pieces:
    """The first pieces of all passages, then the second ones, so that a few are of many passages."""
    order = [(at, number) for number, rows in enumerate(found) for at in range(len(rows))]
    order.sort(key=lambda pair: pair[0])
    return Pieces([found[number][at] for at, number in order], [number for _, number in order], skip)


def _own_seed(made: Mapping[str, Any], seed: int, names: Sequence[str]) -> int:
    """The seed of the model's own text, which is not the one that training drew it with."""
    before = (made.get("arguments") or {}).get("seed")
    return seed + OTHER_SEED if any(map(is_own, names)) and before == seed else seed


def key(text: str) -> bytes:
    """What makes two passages the same: their words."""
    return hashlib.blake2b(" ".join(text.split()).encode(errors="replace"), digest_size=16).digest()


def trained_on(made: Mapping[str, Any], names: Sequence[str] = ()) -> tuple[set[bytes], list[str]]:
    """Keys of the passages that a dictionary was trained on, and notes where they cannot be found again.

    Training takes the first passages of its sources in the order of its seed, so they are read again; the hash of
    them all says whether they are the same. names: sources that are looked at too, if a file lies elsewhere now.
    """
    text, arguments = made.get("text"), made.get("arguments") or {}
    if not isinstance(text, Mapping) or "passages" not in text:
        return set(), ["Nobody says which text this dictionary was trained on, so it may have seen the text here."]
    asked = dict.fromkeys([*(arguments.get("text") or text.get("sources") or [])])
    here = {label_of(name): name for name in names}
    files = [name if _there(name) else here.get(label_of(name), name) for name in asked if not is_own(name)]
    found: set[bytes] = set()
    tally = Used([])
    if files:
        try:
            for passage in passages(files, seed=int(arguments.get("seed") or 0)):
                tally.add(passage)
                found.add(key(passage.text))
                if tally.passages >= int(text["passages"]):
                    break
        except HookeError as error:
            return found, [f"The text that was trained on cannot be read again ({error}); it may be the text here."]
    if any(map(is_own, asked)):
        return found, ["The model's own text was trained on; here it is drawn with another seed."]
    if tally.about()["sha256"] != text.get("sha256"):
        return found, [
            "The sources have changed since the training: its passages were left out as far as they are still there."
        ]
    return found, []


def _there(name: str) -> bool:
    return is_word(name) or os.path.lexists(path_of(name))


def _unseen(
    model: Model, names: Sequence[str], context: int, seed: int, avoid: set[bytes], left: list[int]
) -> Iterator[tuple[Passage, list[list[int]]]]:
    """Passages that are not to be avoided, with their tokens in pieces; sources take turns, by their share."""
    room = context - len(special_tokens(model))
    (files, for_each), given = turns(names), [0, 0]
    own = own_text(model, length=room, seed=seed, tally=Used([])) if for_each else None
    for passage in passages(files, seed=seed) if files else ():
        if key(passage.text) in avoid:
            left[0] += 1
            continue
        rows = _cut(encode_all(model.tokenizer, [passage.text])[0], room)
        if rows:
            yield passage, rows
            given[0] += sum(map(len, rows))
        while own is not None and given[1] < for_each * given[0]:
            ids, source = next(own)
            given[1] += len(ids)
            yield Passage(model.said(ids.tolist()), source), _cut(ids.tolist(), room)
    while own is not None:
        ids, source = next(own)
        yield Passage(model.said(ids.tolist()), source), _cut(ids.tolist(), room)


def _cut(ids: Sequence[int], room: int) -> list[list[int]]:
    rows = [list(ids[at : at + room]) for at in range(0, len(ids), room)][:OF_EACH]
    return [row for row in rows if len(row) >= SHORTEST]


def batched(model: Model, pieces: Pieces, tokens: int) -> Iterator[Batch]:
    """All pieces, those of like length together, at most so many tokens at once."""
    for group in batches([len(piece) for piece in pieces.ids], tokens=tokens):
        padded = model.pad([pieces.ids[i] for i in group], "right")
        inside = padded.mask.clone()
        inside[:, : pieces.skip] = False
        document = torch.from_numpy(np.array([pieces.document[i] for i in group])).to(inside.device)
        yield Batch(padded, inside, document[:, None].expand_as(inside)[inside])
