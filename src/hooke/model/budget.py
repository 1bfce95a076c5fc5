"""How much is done at once: one budget, made from the device, that all ask who choose a batch or a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from hooke.model.model import Model

SHARE = 0.6  # of the free memory, which a piece of work may take
CACHE = 96 * 2**20  # bytes of values that live together: about what a processor's caches hold, small beside the weights
STEP = 4 * 2**30  # the same on an accelerator, which has no use for small steps
BUSY, BUSY_THERE = 2048, 2**16  # tokens of a pass from which more are no faster, on a processor and on an accelerator


class Budget(NamedTuple):
    """What a device gives.

    free: bytes that a piece of work may take altogether. block: bytes of the values that live together in one step.
    busy: tokens of a pass from which more are no faster.
    """

    free: int
    block: int
    busy: int

    def fit(self, each: float) -> int:
        """How many things of so many bytes make a step: at least one."""
        return max(1, int(self.block // max(1.0, each)))


def budget(device: torch.device) -> Budget:
    """The budget of a device, as its memory is now."""
    if device.type == "cuda":
        free = int(SHARE * torch.cuda.mem_get_info(device)[0])
        return Budget(free, max(2**20, min(STEP, free // 8)), BUSY_THERE)
    import psutil

    free = int(SHARE * psutil.virtual_memory().available)
    return Budget(free, max(2**20, min(CACHE, free // 8)), BUSY)


def pass_tokens(model: Model) -> int:
    """How many tokens make a pass of a model whose values nobody keeps: at least one."""
    room = budget(model.device)
    return min(room.busy, room.fit(token_bytes(model)))


def token_bytes(model: Model) -> int:
    """The widest values of one token that live together in a pass: a gated MLP's two halves and their product, the
    stream twice, queries, keys and values."""
    parts = model.parts
    return model.dtype.itemsize * (3 * parts.d_mlp + 3 * parts.d_model + 2 * parts.n_heads * parts.d_head)
