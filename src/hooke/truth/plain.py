"""Small models: GPT-2 of transformers with or without its norms, a tokenizer of whole words, and kept weights.

Without norms the stream is a plain sum of what its parts write, so that weights can be set by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import nn

from hooke.errors import HookeError
from hooke.files import replacing
from hooke.results import read_json
from hooke.results.tensors import read_tensors

BOS = "BOS"
KEPT = Path(__file__).parent / "models"


class Shape(NamedTuple):
    """Of a GPT-2; d_model is n_heads * d_head. norms: whether it has its layer norms; without them identities stand in
    their place."""

    d_vocab: int
    n_pos: int
    n_layers: int
    n_heads: int
    d_head: int
    d_mlp: int
    activation: str = "gelu"
    norms: bool = True


def new_gpt2(shape: Shape, *, seed: int = 0) -> Any:
    """An untrained GPT-2 in evaluation mode, the unembedding its own matrix.

    The weights follow from the seed: normal with variance 1 / inputs, so that a random model of this size is not close
    to constant.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=shape.d_vocab,
        n_positions=shape.n_pos,
        n_embd=shape.n_heads * shape.d_head,
        n_layer=shape.n_layers,
        n_head=shape.n_heads,
        n_inner=shape.d_mlp,
        activation_function=shape.activation,
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
    if not shape.norms:
        for block in hf.transformer.h:
            block.ln_1, block.ln_2 = nn.Identity(), nn.Identity()
        hf.transformer.ln_f = nn.Identity()
    return hf


def word_tokenizer(words: Sequence[str], *, begins: bool = True) -> Any:
    """A tokenizer with one id a word, in this order. An unknown word is the first one.

    begins: put the first word before every text.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if begins:
        inner.post_processor = processors.TemplateProcessing(single=f"{words[0]} $A", special_tokens=[(words[0], 0)])
        return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=words[0], unk_token=words[0])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=words[0])


# ---- kept weights ------------------------------------------------------------------------------


def keep(name: str, hf: Any, record: dict[str, Any], folder: Path = KEPT) -> None:
    """Write a model in half precision and its record beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: x.half().contiguous() for key, x in hf.state_dict().items()}
    text = json.dumps(record, indent=1) + "\n"
    for path, write in (
        (folder / f"{name}.safetensors", lambda p: save_file(weights, p)),
        (folder / f"{name}.json", lambda p: p.write_text(text, encoding="utf-8")),
    ):
        with replacing(path) as temp:
            write(temp)


def load_kept(name: str, new: Callable[[dict[str, Any]], Any], folder: Path = KEPT) -> tuple[Any, dict[str, Any]]:
    """A kept model, in single precision, and its record. `new` makes the untrained model from the record.

    Raises HookeError if there is none or it is damaged.
    """
    path = folder / f"{name}.safetensors"
    try:
        record = read_json(path.with_suffix(".json"))
        hf = new(record)
        arrays = read_tensors(path) or {}
        hf.load_state_dict({key: torch.from_numpy(x).float() for key, x in arrays.items()})
    except (OSError, KeyError, TypeError, RuntimeError) as error:
        raise HookeError(
            f"the kept model {name!r} cannot be read: {(str(error) or repr(error)).splitlines()[0]}"
        ) from None
    return hf, record
