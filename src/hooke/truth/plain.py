"""Plain models: the GPT-2 of transformers with its norms taken out, and a tokenizer of whole words.

Without norms the stream is a plain sum of what its parts write, so that weights can be set by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

BOS = "BOS"


def new_gpt2(
    *,
    d_vocab: int,
    n_pos: int,
    n_layers: int,
    n_heads: int,
    d_head: int,
    d_mlp: int,
    activation: str = "gelu",
    norms: bool = True,
    seed: int = 0,
) -> Any:
    """An untrained GPT-2 in evaluation mode; d_model is n_heads * d_head, the unembedding its own matrix.

    norms: whether it has its layer norms; without them identities stand in their place. The weights follow from
    the seed: normal with variance 1 / inputs, so that a random model of this size is not close to constant.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=d_vocab,
        n_positions=n_pos,
        n_embd=n_heads * d_head,
        n_layer=n_layers,
        n_head=n_heads,
        n_inner=d_mlp,
        activation_function=activation,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=None,
        attn_implementation="sdpa",
    )
    hf = GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in hf.named_parameters():
        parameter.requires_grad_(False)
        if parameter.ndim == 2:
            fan_in = config.n_embd if ".wte" in name or ".wpe" in name or "lm_head" in name else parameter.shape[0]
            parameter.normal_(0, fan_in**-0.5, generator=generator)
    if not norms:
        for block in hf.transformer.h:
            block.ln_1, block.ln_2 = nn.Identity(), nn.Identity()
        hf.transformer.ln_f = nn.Identity()
    return hf


def word_tokenizer(words: Sequence[str]) -> Any:
    """A tokenizer with one id a word, in this order, that puts the first word (the beginning) before a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single=f"{words[0]} $A", special_tokens=[(words[0], 0)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=words[0], unk_token=words[0])
