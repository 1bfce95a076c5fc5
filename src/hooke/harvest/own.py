"""`self` as a source of text: what the model itself says, drawn at temperature 1, each time the same for a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from hooke.data import PASSAGES
from hooke.data.texts import Passage, Used
from hooke.data.texts.sources import is_own
from hooke.errors import HookeError
from hooke.model import Model
from hooke.model.spelling import encode_all

SELF = "self"
ROWS = 32  # texts that are generated together
OPENING = 4  # tokens of a packaged passage that a text begins with, where the tokenizer has no first token


def turns(names: Sequence[str]) -> tuple[list[str], float]:
    """Sources without the model's own text, and how many tokens that gives for each of theirs: none where it is not
    asked for, as many as any of them for "self", and for "self:SHARE" so much that it makes that share of all.

    Raises HookeError for a share that is none, and where it is asked for twice.
    """
    others, own = [name for name in names if not is_own(name)], [name for name in names if is_own(name)]
    if not own or not others:
        return others, math.inf if own else 0.0
    if len(own) > 1:
        raise HookeError(f"the model's own text is asked for twice: {' and '.join(own)}")
    _, given, written = own[0].partition(":")
    try:
        share = float(written) if given else 1 / (1 + len(others))
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise HookeError(f"{own[0][:80]!r} asks for no share of the text; write self, or as self:0.1 for a tenth of it")
    return others, share / (1 - share)


def own_text(model: Model, *, length: int, seed: int, tally: Used) -> Iterator[tuple[np.ndarray, str]]:
    """(ids, "self") of texts of at most `length` tokens, without end: ids are (n,) int32 without special tokens.

    A text goes on from the special tokens that the tokenizer puts before every text, or else from the first words of
    a packaged passage, and ends where the model ends it. tally: counts them as they are taken.
    Raises HookeError if the model ends all its texts at once.
    """
    batch = 0
    while True:
        found = [ids for ids in _drawn(model, length, seed, batch) if len(ids)]
        if not found:
            raise HookeError(f"{model.name} ends every text before its first token; give other texts than self")
        for ids in found:
            tally.add(Passage(model.said(ids.tolist()), SELF))
            yield ids, SELF
        batch += 1


def _drawn(model: Model, length: int, seed: int, batch: int) -> list[np.ndarray]:
    """One batch of texts; their tokens, openings too, up to the end."""
    first = list(model.tokenizer("")["input_ids"])
    openings = [[] for _ in range(ROWS)] if first else _openings(model, seed, batch)
    most = min(length, model.parts.context - len(first)) - max(map(len, openings))
    if most < 1:
        raise HookeError(f"self needs pieces of more than {OPENING + 1} tokens; raise the context")
    end = set(model.end_ids())
    mixed = int(np.random.default_rng([seed, batch]).integers(2**31))
    steps = model.stream([[*first, *opening] for opening in openings], max_new_tokens=most, temperature=1.0, seed=mixed)
    new = torch.stack([step.tokens for step in steps], 1).tolist()
    rows = []
    for opening, ids in zip(openings, new, strict=True):
        stop = next((i for i, token in enumerate(ids) if token in end), len(ids))
        rows.append(np.array([*opening, *ids[:stop]], np.int32))
    return rows


def _openings(model: Model, seed: int, batch: int) -> list[list[int]]:
    """The first tokens of packaged passages, in an order of the seed."""
    chosen = np.random.default_rng([seed, batch, 1]).integers(len(PASSAGES), size=ROWS)
    texts = [PASSAGES[i] for i in chosen]
    return [ids[:OPENING] for ids in encode_all(model.tokenizer, texts)]
