"""Pairs of prompts that circuits are looked for in, of ids and of known models."""

from __future__ import annotations

from torch import Tensor

from families import random_tokens
from hooke.data.prompts.circuit_tasks import Example
from hooke.methods.objective import Objective
from hooke.truth.known import Known


def difference(logits: Tensor, _: object = None) -> Tensor:
    return logits[:, 5] - logits[:, 9]


OBJECTIVE = Objective(difference, difference, difference)


def example(clean: Tensor, corrupt: Tensor, target: int = 5, contrast: int = 9) -> Example:
    """A pair of ids."""
    return Example(clean, corrupt, (target,), (contrast,))  # type: ignore[arg-type]


def tiny_pairs(n: int, length: int = 6, begin: int = 2) -> list[Example]:
    """Pairs of random ids that begin alike, every second one a token longer."""
    found = []
    for i in range(n):
        width = length + i % 2
        clean, corrupt = random_tokens(1, width, seed=2 * i).ids, random_tokens(1, width, seed=2 * i + 1).ids.clone()
        corrupt[:, :begin] = clean[:, :begin]
        found.append(example(clean, corrupt))
    return found


def known_pairs(model: Known, n: int) -> list[Example]:
    base, source = model.pairs(n, 0)
    right, wrong = (model.answers(x)[:, -1].tolist() for x in (base, source))
    return [example(b[None], s[None], r, w) for b, s, r, w in zip(base, source, right, wrong)]
