"""Rows of different lengths in batches, and how many tokens make one."""

from __future__ import annotations

from collections.abc import Sequence

from hooke.model import Model
from hooke.model.budget import BUSY, BUSY_THERE, CACHE, token_bytes

THERE = 2**30  # bytes of values that live together in a pass on an accelerator, whichever it is


def batches(lengths: Sequence[int], *, tokens: int, even: bool = False) -> list[list[int]]:
    """Indices of rows in batches of at most so many tokens, padding included, shortest first: rows of like length
    together, so that little is padding, or with `even` of equal length."""
    found: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        room = bool(found) and (len(found[-1]) + 1) * lengths[i] <= tokens
        if room and not (even and lengths[found[-1][0]] != lengths[i]):
            found[-1].append(i)
        else:
            found.append([i])
    return found


def steady_tokens(model: Model) -> int:
    """How many tokens make a pass that comes out the same each time: of the model and the kind of device alone, where
    `pass_tokens` looks at the memory that is free now."""
    there = model.device.type != "cpu"
    return max(1, min(BUSY_THERE if there else BUSY, (THERE if there else CACHE) // token_bytes(model)))
