"""What a fitted probe is: blocks that read one site each, and the plain data that turns tokens into one score.

A block's value at a token is direction · x + bias (`Direction`, a one-feature dictionary); its pool says
how the tokens of a text become one number; a probe's score is the sum over its blocks, as log-odds of
label 1. An ensemble over layers has several blocks, an attention probe one for each head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hooke.errors import HookeError
from hooke.harvest import Harvest
from hooke.sites import Site

EMA = 0.8  # how much of the smoothed value is kept at each token
WINDOW = 10  # tokens of a rolling mean
VECTOR_POOLS = ("last", "mean")  # taken of activations while the model runs
TOKEN_POOLS = ("max", "ema", "rolling", "attention")  # taken of each token's value


@dataclass(frozen=True, eq=False)
class Block:
    """One direction at one site and how its tokens are pooled; `query` (width,) only with attention."""

    site: Site
    pool: str
    direction: np.ndarray
    bias: float
    query: np.ndarray | None = None

    def scaled(self, scale: float, bias: float) -> Block:
        """The same block with its value times `scale` plus `bias`."""
        return replace(self, direction=(self.direction * scale).astype(np.float32), bias=self.bias * scale + bias)


def token_values(block: Block, x: np.ndarray) -> np.ndarray:
    """(tokens, width) to (tokens,): the value at each token."""
    return x @ block.direction + block.bias


def pooled(pool: str, values: np.ndarray, attention: np.ndarray | None = None) -> float:
    """One number of the values (tokens,) of a text.

    max: the largest. ema: the largest of the values smoothed by s ← 0.8 s + 0.2 v, from the first value. rolling:
    the largest mean of ten tokens in a row (2601.11516, without its attention). attention: weighted by
    softmax of the given logits. last and mean as they say.
    """
    if pool == "last":
        return float(values[-1])
    if pool == "mean":
        return float(values.mean())
    if pool == "max":
        return float(values.max())
    if pool == "ema":
        return float(smoothed(values).max())
    if pool == "rolling":
        width = min(WINDOW, len(values))
        sums = np.cumsum(np.concatenate([[0.0], values]))
        return float(((sums[width:] - sums[:-width]) / width).max())
    if pool == "attention":
        assert attention is not None
        weight = np.exp(attention - attention.max())
        return float((weight * values).sum() / weight.sum())
    raise HookeError(f"no pool called {pool!r}; there are {', '.join(VECTOR_POOLS + TOKEN_POOLS)}")


def smoothed(values: np.ndarray) -> np.ndarray:
    """Exponential moving average over tokens, from the first one: so a constant added to all moves it by as much."""
    from scipy.signal import lfilter

    found, _ = lfilter([1 - EMA], [1, -EMA], values, zi=[EMA * values[0]])
    return np.asarray(found)


def score_harvest(blocks: Sequence[Block], kept: Harvest) -> np.ndarray:
    """(n,): the sum over blocks, from pooled activations where that is enough, else from tokens."""
    total = np.zeros(len(kept.length))
    for block in blocks:
        if block.pool in VECTOR_POOLS:
            total += kept.pooled[block.site, block.pool] @ block.direction + block.bias
            continue
        x = kept.tokens[block.site]
        values = token_values(block, x)
        logits = None if block.query is None else x @ block.query
        for i in range(len(total)):
            at = kept.rows(i)
            total[i] += pooled(block.pool, values[at], None if logits is None else logits[at])
    return total


def needs(blocks: Sequence[Block]) -> tuple[list[Site], list[str], list[Site]]:
    """What `harvest` must keep for these blocks: sites and pools of vectors, and sites of tokens."""
    vectors = [block for block in blocks if block.pool in VECTOR_POOLS]
    tokens = {block.site for block in blocks if block.pool in TOKEN_POOLS}
    return sorted({b.site for b in vectors}), sorted({b.pool for b in vectors}), sorted(tokens)


def token_scores(blocks: Sequence[Block], kept: Harvest, i: int) -> np.ndarray:
    """(tokens,): the sum of all blocks' values at each token of text i; what a page colours."""
    at = kept.rows(i)
    return np.sum([token_values(block, kept.tokens[block.site][at]) for block in blocks], axis=0)


def to_tensors(blocks: Sequence[Block], name: str) -> dict[str, np.ndarray]:
    """Arrays to save under names that begin with `name`."""
    made = {
        f"{name}.direction": np.stack([block.direction for block in blocks]).astype(np.float32),
        f"{name}.bias": np.array([block.bias for block in blocks]),
    }
    if any(block.query is not None for block in blocks):
        made[f"{name}.query"] = np.stack([b.query for b in blocks if b.query is not None]).astype(np.float32)
    return made


def from_tensors(tensors: dict[str, np.ndarray], name: str, where: Sequence[dict[str, str]]) -> list[Block]:
    """The blocks saved under a name; `where` gives the site and pool of each. Raises HookeError if damaged."""
    try:
        directions, biases = tensors[f"{name}.direction"], tensors[f"{name}.bias"]
        queries = tensors.get(f"{name}.query")
        if not len(directions) == len(biases) == len(where):
            raise ValueError
        blocks = [
            Block(Site.parse(at["site"]), at["pool"], w, float(b), None if queries is None else queries[i])
            for i, (at, w, b) in enumerate(zip(where, directions, biases))
        ]
    except (KeyError, ValueError, TypeError, IndexError):
        raise HookeError(f"the probe's weights ({name}) are missing or damaged; fit it again") from None
    for block in blocks:
        if block.direction.ndim != 1 or not (np.isfinite(block.direction).all() and np.isfinite(block.bias)):
            raise HookeError(f"the probe's weights ({name}) are not finite vectors; fit it again")
    return blocks
