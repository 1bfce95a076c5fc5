"""What a harvest is, and how parts of it are saved, so that a stopped run loses nothing that was finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hooke.errors import HookeError
from hooke.results import write_atomic
from hooke.results.tensors import read_tensors
from hooke.sites import Site

MAX_SHARD = 2**36


class Prompt(NamedTuple):
    """Token ids of what the model reads; the text itself is ids[start:stop], and a template may follow it."""

    ids: list[int]
    start: int
    stop: int


@dataclass
class Harvest:
    """What was kept of n texts, in the order given.

    pooled: by (site, pool), (n, width) float32. tokens: by site, (all tokens, width) float32; those of
    text i are `rows(i)`, from its first token to the end of the prompt. log_probability: (n,) mean over
    the tokens of a text of ln p(token | all before), in nats; a first token that nothing precedes is
    left out. length: (n,) tokens of the text.
    """

    pooled: dict[tuple[Site, str], np.ndarray]
    tokens: dict[Site, np.ndarray]
    offsets: np.ndarray  # (n + 1,)
    log_probability: np.ndarray
    length: np.ndarray
    ids: list[list[int]]  # token ids of the texts, each as long as its rows

    def rows(self, i: int) -> slice:
        """Where the tokens of text i lie in `tokens`."""
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))


def empty(todo: Sequence[Prompt]) -> Harvest:
    """A harvest of these prompts with nothing kept yet."""
    offsets = np.concatenate([[0], np.cumsum([len(p.ids) - p.start for p in todo])])
    length = np.array([p.stop - p.start for p in todo])
    return Harvest({}, {}, offsets, np.zeros(len(todo)), length, [p.ids[p.start :] for p in todo])


def joined(parts: Sequence[Harvest]) -> Harvest:
    """Several harvests in a row as one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Harvest(
        {key: np.concatenate([part.pooled[key] for part in parts]) for key in first.pooled},
        {key: np.concatenate([part.tokens[key] for part in parts]) for key in first.tokens},
        np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part.offsets) for part in parts]))]),
        np.concatenate([part.log_probability for part in parts]),
        np.concatenate([part.length for part in parts]),
        [ids for part in parts for ids in part.ids],
    )


def shard_name(about: Any) -> str:
    """A name by content: the model, what is kept, and the token ids."""
    return hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:32]


def save_shard(path: Path, kept: Harvest) -> None:
    """Write what was kept, whole or not at all."""
    from safetensors.numpy import save

    arrays = {f"pooled {site} {pool}": x for (site, pool), x in kept.pooled.items()}
    arrays |= {f"tokens {site}": x for site, x in kept.tokens.items()}
    write_atomic(path, save(arrays | {"log_probability": kept.log_probability}))


def load_shard(path: Path, todo: Sequence[Prompt]) -> Harvest | None:
    """What was kept of these prompts, or None if it is not there or not whole: then it is made again."""
    out = empty(todo)
    try:
        arrays = read_tensors(path, most=MAX_SHARD) or {}
        out.log_probability = arrays.pop("log_probability")
        for name, x in arrays.items():
            what, site, *pool = name.split(" ")
            if what == "tokens":
                out.tokens[Site.parse(site)] = x
            else:
                out.pooled[Site.parse(site), pool[0]] = x
    except (HookeError, KeyError, IndexError, ValueError):
        return None
    return out
