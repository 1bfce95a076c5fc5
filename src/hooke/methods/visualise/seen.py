"""What a text has of one side of a feature: its largest activation, how likely short pieces of the text are by
themselves, and the pieces that a search starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.harvest import plan
from hooke.harvest.stream import batches_of, tokens_of
from hooke.methods.catalogue.sweep import activations, sites_of
from hooke.methods.catalogue.windows import KINDS, kind_of
from hooke.methods.progress import Tick
from hooke.methods.visualise.feature import FeatureAim

PIECES = 64  # random ones, whose mean cost is that of the text
STARTS = 64  # pieces that end where the feature is strongest


@dataclass(eq=False)
class Found:
    """largest: the largest activation, with all that stands before it; example: its text. cost: mean CE of random
    pieces of the length of a prompt, run by themselves. starts: (n length) pieces that end where the feature is
    strongest, those that are strongest by themselves first. ids: all tokens of the text."""

    largest: float
    example: str
    cost: float
    starts: Tensor
    ids: Tensor = field(repr=False)
    notes: list[str] = field(default_factory=list)


def in_text(aim: FeatureAim, text: Sequence[str], *, tokens: int, length: int, seed: int, tick: Tick) -> Found:
    """Run the text once, no further than the feature, then the strongest pieces by themselves."""
    model, block = aim.model, aim.block
    context = min(256, model.parts.context)
    made = plan(model, text, n_tokens=tokens, context=context, shard_tokens=tokens, seed=seed)
    values = np.full(len(made.ids), -np.inf, np.float32)
    done = 0
    for batch in batches_of(model, made, 0):
        run = model.run(tokens_of(model, batch), read=list(sites_of(block)), logits=None)
        for row, piece in enumerate(batch.pieces):
            n = len(made.piece(piece))
            read = {site: x[row, :n].flatten(1) for site, x in run.acts.items()}
            own = activations(block, read)[:, aim.feature] * aim.sign
            first = int(made.offsets[piece])
            values[first + max(1, made.skip) : first + n] = own[max(1, made.skip) :].cpu().numpy()
        done += len(batch.keep)
        tick(0.8 * done / made.n_tokens)
    start = np.repeat(made.offsets[:-1] + made.skip, np.diff(made.offsets))
    whole = np.flatnonzero(np.arange(len(made.ids)) - start >= length - 1)  # where a piece of that length ends
    if len(whole) < STARTS:
        raise HookeError(
            f"the text has {len(whole)} places for prompts of {length} tokens; ask for more, or shorter ones"
        )
    best = int(values.argmax())
    pieces = made.ids[whole[:, None] + np.arange(1 - length, 1)].astype(np.int64)
    strongest = torch.from_numpy(pieces[np.argsort(-values[whole], kind="stable")[:STARTS]])
    random = torch.from_numpy(pieces[np.random.default_rng(seed).permutation(len(pieces))[:PIECES]])
    value, _ = aim.values(strongest)
    _, cost = aim.values(random)
    where = int(np.searchsorted(made.offsets, best, "right")) - 1
    around = made.ids[max(int(made.offsets[where]) + made.skip, best - length) : best + 1]
    kinds = {kind_of(source) for source in made.sources}
    notes = []
    if len(kinds) < 2:
        notes.append(f"All text is {KINDS[min(kinds)]}: what a feature seems to mean may be so in this kind alone.")
    return Found(
        float(values[best]), model.said(around.tolist()), float(cost.mean()), strongest[value.argsort(descending=True)],
        torch.from_numpy(made.ids.astype(np.int64)), notes,
    )  # fmt: skip
