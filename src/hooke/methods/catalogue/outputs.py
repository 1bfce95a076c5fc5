"""Does setting a feature produce what its label says? Every feature set to its largest activation at the end of some
passages, one at a time, and what that does to the logits.

The score of an output label is the share of random tokens that its tokens outrun: how often the logit of one of them
rises more than that of a random token, averaged over tokens and passages. It is .5 by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hooke.data import PASSAGES
from hooke.dictionaries import Dictionary, Neurons
from hooke.methods.catalogue.sweep import sides
from hooke.methods.progress import Tick
from hooke.model import Model
from hooke.model.recorded import Recorded
from hooke.model.run_each import Writes, substitute

RANDOM = 512  # tokens that a label's tokens are compared with
OTHERS = 100  # features of the block whose labels are tried on each, and on which each label is tried
ENDS = (24, 37)  # where passages are cut, in tokens


def passages(model: Model, blocks: Sequence[Dictionary]) -> list[Recorded]:
    """The beginnings of two packaged passages, run once."""
    reads = sorted({site for block in blocks for site in (*block.reads, *block.writes)})
    found = []
    for text, end in zip(PASSAGES, ENDS, strict=False):
        ids = model.tokens(text).ids[:, :end]
        found.append(model.record(ids, read=reads))
    return found


def output_scores(
    model: Model, block: Dictionary, promotes: Tensor, largest: Tensor, clean: Sequence[Recorded], *, seed: int,
    tick: Tick,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(n,) the score of each row's own tokens, and (n,) the larger of two controls' 95th percentiles: of the same
    tokens on other features, and of other features' tokens on this one.

    promotes: (n, TOKENS). largest: (n,) activations that features are set to.
    """
    n = len(promotes)
    rng = np.random.default_rng([seed, 4])
    random = torch.from_numpy(rng.integers(model.parts.d_vocab, size=RANDOM))
    others = torch.from_numpy(rng.permutation(n)[:OTHERS])
    own, same, other = np.zeros(n), np.zeros((OTHERS, n)), np.zeros((n, OTHERS))
    for number, base in enumerate(clean):

        def ranks(logits: Tensor, base: Recorded = base) -> Tensor:
            moved = logits.float() - base.logits.float()
            return moved.cpu()

        step = 512
        for at in range(0, n, step):
            rows = torch.arange(at, min(at + step, n))
            moved = substitute(model, base, len(rows), _set(model, block, rows, largest[rows], base), each=ranks)
            rank = _outrun(moved, random)
            own[rows] += rank.gather(1, promotes[rows]).mean(1).numpy() / len(clean)
            mixed = rank[:, promotes[others].flatten()].view(len(rows), len(others), -1).mean(2)
            other[rows, : len(others)] += mixed.numpy() / len(clean)
            tick((number + min(at + step, n) / n) / len(clean))
            chosen = np.flatnonzero(np.isin(others.numpy(), rows.numpy()))
            for i in chosen.tolist():
                one = rank[int(others[i]) - at]
                same[i] += one[promotes].mean(1).numpy() / len(clean)
    for i, feature in enumerate(others.tolist()):
        same[i, feature] = np.nan
        other[feature, i] = np.nan
    bars = np.maximum(np.nanquantile(same[: len(others)], 0.95, 0), np.nanquantile(other[:, : len(others)], 0.95, 1))
    return own, bars


def _outrun(moved: Tensor, random: Tensor) -> Tensor:
    """(rows, d_vocab): the share of random tokens whose logit rises less."""
    known = moved[:, random].sort(1).values.contiguous()
    return torch.searchsorted(known, moved.contiguous()) / len(random)


def _set(model: Model, block: Dictionary, rows: Tensor, largest: Tensor, base: Recorded) -> list[Writes]:
    """One run for each row in which its feature is set to its largest activation, of its side, at the last position."""
    n, end = sides(block), base.tokens.ids.shape[1] - 1
    ids, runs = rows // n, torch.arange(len(rows))
    value = largest * (1.0 - 2.0 * (rows % n)) if n == 2 else largest
    at = torch.full_like(runs, end)
    where = model.device
    if isinstance(block, Neurons):
        return [Writes(block.site, runs.to(where), at.to(where), ids.to(where), value.to(where, model.dtype))]
    read = {site: base.acts[site][0, end : end + 1] for site in block.reads}
    now = block.encode(read).dense()[0].cpu()[ids]
    held = {site: x.expand(len(rows), -1) for site, x in read.items()}
    change = (value - now)[:, None].to(where)
    return [
        Writes(
            site, runs.to(where), at.to(where), None,
            block.writer(ids.to(where), site, held).to(model.dtype) * change.to(model.dtype), add=True,
        )
        for site in block.writes
    ]  # fmt: skip
