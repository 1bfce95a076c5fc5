"""Attention sent through a function of ours: what packed runs need, and a look at its queries and keys."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from hooke.kernels import short_attention
from hooke.model.run import Tokens

if TYPE_CHECKING:
    from hooke.model.model import Model

KEY = "hooke-packed"
Attend = Callable[[Tensor, Tensor, Tensor, float, float | None, int | None], Tensor]
_ATTEND: weakref.WeakKeyDictionary[nn.Module, Attend] = weakref.WeakKeyDictionary()


@contextmanager
def through(model: Model, attend: dict[nn.Module, Attend]) -> Iterator[None]:
    """Send the given attention modules through these functions, and through nothing else, in a run of all of them."""
    config: Any = model.hf.config
    before = config._attn_implementation
    _ATTEND.update(attend)
    config._attn_implementation = KEY
    try:
        yield
    finally:
        config._attn_implementation = before
        for module in attend:
            _ATTEND.pop(module, None)


class Heads(NamedTuple):
    """What attention of one layer multiplies: queries (pos, head, d_head) and keys (pos, kv_head, d_head), rotated."""

    queries: Tensor
    keys: Tensor
    scale: float
    softcap: float | None
    window: int | None

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(head, query, key) in fp64 of any such queries and keys; minus infinity where nothing is attended."""
        keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], 1)
        scores = torch.einsum("qhd,khd->hqk", queries.double(), keys.double()) * self.scale
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        at = torch.arange(len(queries), device=queries.device)
        seen = at <= at[:, None]
        if self.window is not None:
            seen &= at > at[:, None] - self.window
        return scores.masked_fill(~seen, -math.inf)


def heads(model: Model, tokens: Tokens) -> list[Heads]:
    """Queries and keys of each layer as attention takes them, of one prompt without padding."""
    found: list[Heads] = []
    with model.held(), torch.no_grad():
        run_heads(model, tokens, lambda heads, _: found.append(heads))
    return found


def run_heads(model: Model, tokens: Tokens, keep: Callable[[Heads, Tensor], None]) -> None:
    """Run one prompt without padding, and give what each attention multiplies, layer by layer, and its values (1,
    kv_head, pos, d_head)."""

    def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None, window: int | None) -> Tensor:
        keep(Heads(q[0].transpose(0, 1), k[0].transpose(0, 1), scale, softcap, window), v)
        at = torch.arange(q.shape[2], device=q.device)
        seen = at <= at[:, None]
        if window is not None:
            seen &= at > at[:, None] - window
        return softmax_attention(q, k, v, seen, scale, softcap).transpose(1, 2)

    modules: dict[nn.Module, Attend] = {block.attn: attend for block in model.parts.blocks}
    turned = model.parts.rotary.turned([tokens.ids.shape[1]])
    with through(model, modules), turned:
        model.hf(input_ids=tokens.ids, use_cache=False, logits_to_keep=1)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float, softcap: float | None) -> Tensor:
    """q: batch head query d_head; k, v: batch kv_head key d_head; seen: (query, key) True where attended."""
    grouped = q.shape[1] != k.shape[1]
    if softcap is None:
        with short_attention(q, k.shape[2]):
            return scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=grouped)
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = softcap * torch.tanh(q @ k.transpose(-1, -2) * scale / softcap)
    return scores.masked_fill(~seen, -math.inf).softmax(-1).to(v.dtype) @ v


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _ATTEND[module](query, key, value, scale, softcap, sliding_window), None


AttentionInterface.register(KEY, _attention)
AttentionMaskInterface.register(KEY, lambda *args, **kwargs: None)
