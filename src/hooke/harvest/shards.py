"""What a harvest of short texts is, and how parts of it are saved, so that a stopped run loses nothing finished."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hooke.errors import HookeError
from hooke.files import replacing
from hooke.harvest.tensors import read_tensors, write_tensors
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

    def part(self, start: int, stop: int) -> Harvest:
        """Texts `start` to `stop` alone; their values are these here, so that what is put there is here."""
        rows = slice(int(self.offsets[start]), int(self.offsets[stop]))
        return Harvest(
            {key: x[start:stop] for key, x in self.pooled.items()},
            {site: x[rows] for site, x in self.tokens.items()},
            self.offsets[start : stop + 1] - self.offsets[start],
            self.log_probability[start:stop],
            self.length[start:stop],
            self.ids[start:stop],
        )


def shard_name(about: Any) -> str:
    """A name by content: the model, what is kept, and the token ids."""
    return hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:32]


def save_shard(path: Path, kept: Harvest) -> None:
    """Write what was kept, whole or not at all."""
    with replacing(path) as temp:
        write_tensors(temp, {name: torch.from_numpy(x) for name, x in _arrays(kept).items()}, {})


def load_shard(path: Path, into: Harvest) -> bool:
    """Put what was kept of these prompts into its place; False if it is not there or not whole: then it is made
    again."""
    arrays = _arrays(into)
    try:
        _, found, _ = read_tensors(path, MAX_SHARD)
    except HookeError:
        return False
    if {name: x.shape for name, x in found.items()} != {name: x.shape for name, x in arrays.items()}:
        return False
    for name, x in found.items():
        arrays[name][:] = x.numpy()
    return True


def _arrays(kept: Harvest) -> dict[str, np.ndarray]:
    """The values of a harvest by their names in a file."""
    found = {f"pooled {site} {pool}": x for (site, pool), x in kept.pooled.items()}
    found |= {f"tokens {site}": x for site, x in kept.tokens.items()}
    return {**found, "log_probability": kept.log_probability}
