"""`Recorded`: one kept run of one prompt, which everything that needs "the clean run" takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import DynamicCache

from hooke.errors import HookeError
from hooke.model.run import Activations, Plan, Start, Tokens, forward
from hooke.sites import Site

if TYPE_CHECKING:
    from hooke.model.model import Model


@dataclass
class Recorded:
    """One run of one prompt with all that others can share with it.

    resid: the stream entering each layer, and last the one that leaves the last block (pos, d_model).
    keys, values: of each layer (pos, kv_head, d_head), as attention takes them (rotated).
    acts: reads (1, pos, …). logits: of the last position (d_vocab,).
    """

    tokens: Tokens
    resid: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]
    acts: Activations
    logits: Tensor


def record(model: Model, tokens: Tokens, read: Iterable[Site] = ()) -> Recorded:
    """Run one prompt without padding and keep what runs that differ from it can share, and reads. Raises HookeError for
    a batch."""
    if tokens.ids.shape[0] != 1 or not bool(tokens.mask.all()):
        raise HookeError("a run that others share is of one prompt without padding")
    n_layers = model.parts.n_layers
    entries = [Site("resid_pre", layer) for layer in range(n_layers)] + [Site("resid_post", n_layers - 1)]
    cache = DynamicCache()  # of no configuration: it keeps every position, whatever a sliding window drops
    with model.held():
        plan = Plan([*read, *entries], logits="last")
        run, _ = forward(model.hf, model.parts, tokens, plan, Start(past=cache), keep_cache=True)
    assert run.logits is not None
    return Recorded(
        tokens,
        [run.acts[site][0] for site in entries],
        [layer.keys[0].transpose(0, 1) for layer in cache.layers],
        [layer.values[0].transpose(0, 1) for layer in cache.layers],
        run.acts,
        run.logits[0],
    )
