"""Tiny random models of every supported family, perturbed so that no norm, bias or head is trivial."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
import transformers as tf
from torch import Tensor

from hooke.model import Model, Tokens

tf.logging.set_verbosity_error()

N_LAYERS, CONTEXT, VOCAB, WINDOW = 3, 64, 97, 3
_ALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_ALL, "num_key_value_heads": 2}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: tf.LlamaConfig(**_GROUPED, attention_bias=True, mlp_bias=True),
    "mistral": lambda: tf.MistralConfig(**_GROUPED, sliding_window=WINDOW, head_dim=8),
    "qwen2": lambda: tf.Qwen2Config(**_GROUPED, tie_word_embeddings=True),
    "qwen3": lambda: tf.Qwen3Config(**_GROUPED, head_dim=16),
    "gemma2": lambda: tf.Gemma2Config(
        **_GROUPED,
        head_dim=16,
        sliding_window=WINDOW,
        query_pre_attn_scalar=16,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma3": lambda: tf.Gemma3TextConfig(
        **_GROUPED,
        head_dim=16,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "gpt2": lambda: tf.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=N_LAYERS, n_head=4, n_positions=CONTEXT, bos_token_id=1, eos_token_id=2
    ),
    "neox": lambda: tf.GPTNeoXConfig(**_ALL, use_parallel_residual=True),
    "neox-sequential": lambda: tf.GPTNeoXConfig(**_ALL, use_parallel_residual=False),
    "phi3": lambda: tf.Phi3Config(**_GROUPED),
    "olmo2": lambda: tf.Olmo2Config(**_GROUPED),
}
NAMES = list(CONFIGS)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads only slow models of this size down, on a busy machine a hundredfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new_hf(name: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A fresh transformers model; the weights follow from the name."""
    config = CONFIGS[name]()
    for key, value in changes.items():
        setattr(config, key, value)
    generator = torch.Generator().manual_seed(NAMES.index(name))
    torch.manual_seed(0)
    hf = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in hf.parameters():
        parameter.requires_grad_(False)
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return hf.to(dtype)


@cache
def model_of(name: str, dtype: torch.dtype = torch.float32) -> Model:
    """The shared model of a family; tests leave it as it is."""
    return Model(new_hf(name, dtype), None, name=name)


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    """Random ids that are no special tokens."""
    return torch.randint(3, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def random_tokens(*shape: int, seed: int = 0) -> Tokens:
    """The same as a batch of prompts without padding."""
    ids = random_ids(*shape, seed=seed)
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


def padded(rows: list[Tensor], side: str, pad: int = 0) -> Tokens:
    """Rows of ids as one batch, padded on one side."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        here = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, here], mask[i, here] = row, True
    return Tokens(ids, mask)


def close(a: Tensor | None, b: Tensor | None, tolerance: float = 1e-4) -> None:
    """Equal up to a share of the largest value."""
    assert a is not None and b is not None
    assert a.shape == b.shape
    off = float((a - b).detach().abs().max()) if a.numel() else 0.0
    assert off <= tolerance * max(1e-3, float(b.detach().abs().max())), off


def logits_of(model: Model, *args: Any, **kwargs: Any) -> Tensor:
    logits = model.run(*args, **kwargs).logits
    assert logits is not None
    return logits


def untouched(hf: Any) -> bool:
    """No hooks, no replaced forward, the user's own attention."""
    hooks = any(m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in hf.modules())
    return not hooks and hf.config._attn_implementation == "eager"
