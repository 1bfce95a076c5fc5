"""Attention that can show and change its pattern.

Registered with transformers under a private key together with its mask function (registering the
first alone silently drops causality), and selected only on the one model and only while Hooke runs
it. Where nobody asks for scores or patterns it is transformers' own scaled-dot-product attention.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from hooke.errors import HookeError

KEY = "hooke"
# tap(point, value) returns the value, possibly changed; one for each attention module being watched
Tap = Callable[[str, Tensor], Tensor]
_TAPS: weakref.WeakKeyDictionary[nn.Module, Tap] = weakref.WeakKeyDictionary()


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """query: batch head pos d_head; key and value: batch kv_head pos d_head; mask: True where attended."""
    if kwargs.get("s_aux") is not None:
        raise HookeError("this model uses attention sinks, which Hooke does not read yet")
    tap = _TAPS.get(module)
    if tap is None and softcap is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if attention_mask is None:
        n, m = scores.shape[-2:]
        attention_mask = torch.ones(n, m, dtype=torch.bool, device=scores.device).tril(m - n)
    scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    if tap is not None:
        scores = tap("scores", scores)
    pattern = scores.softmax(-1, dtype=torch.float64 if scores.dtype == torch.float64 else torch.float32)
    pattern = pattern.to(query.dtype)
    if tap is not None:
        pattern = tap("pattern", pattern)
    return (pattern @ value).transpose(1, 2).contiguous(), pattern


AttentionInterface.register(KEY, _attention)
AttentionMaskInterface.register(KEY, sdpa_mask)


@contextmanager
def watched(hf: nn.Module, taps: dict[nn.Module, Tap]) -> Iterator[None]:
    """Run `hf` through Hooke's attention for the length of the block, tapping the given modules."""
    config: Any = hf.config
    before = config._attn_implementation
    if not taps and before == "sdpa":  # what Hooke's attention would come to
        yield
        return
    _TAPS.update(taps)
    config._attn_implementation = KEY
    try:
        yield
    finally:
        config._attn_implementation = before
        for module in taps:
            _TAPS.pop(module, None)
