"""Small tokenizers of every kind, trained on the spot, with what makes spelling hard: byte pieces, spaces, doubles."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import transformers as tf
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from families import model_of
from hooke.model import Model

TEXT = [
    "the model of the capital of France is Paris and the capital of Italy is Rome",
    "Themodelof the other day, then the end. Paris, the town; in Paris the the of of model model",
    "naïve café · “quotes” 'single' \"double\" <0xE2> \\n \\ 7 42 2020\n\tint the = 0;\n\n",
    "日本語 の テキスト 🙂 🙃 ü ö",
]
BYTES = [f"<0x{b:02X}>" for b in range(256)]


def _pieces(size: int, *, prefix: bool) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-pair encoding of SentencePiece's kind, as Llama 2 and Gemma have it."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if prefix else "never")
    inner.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=size, show_progress=False))
    state = __import__("json").loads(inner.to_str())["model"]
    heads = ["<pad>", "<s>", "</s>", "<unk>", *BYTES]
    every = dict.fromkeys([*heads, *sorted(state["vocab"], key=state["vocab"].get)])  # type: ignore[arg-type]
    return {piece: i for i, piece in enumerate(every)}, [tuple(pair) for pair in state["merges"]]  # type: ignore[misc]


def llama(prefix: bool | None = True, **options: Any) -> Any:
    """As Llama 2 and Mistral: byte fallback, a space before every text (or not)."""
    vocabulary, merges = _pieces(420, prefix=True)
    kept = [pair for pair in merges if all(p in vocabulary for p in (*pair, "".join(pair)))]
    return tf.LlamaTokenizerFast(vocab=vocabulary, merges=kept, add_prefix_space=prefix, pad_token="<pad>", **options)


def llama_by_normalizer() -> Any:
    """As the files of Llama 2 have it: the space is put before by a normalizer, and nothing cuts at words."""
    vocabulary, merges = _pieces(420, prefix=True)
    inner = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    inner.decoder = decoders.Sequence(steps)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


def gemma() -> Any:
    vocabulary, merges = _pieces(420, prefix=False)
    heads = {"<pad>": "<pad>", "<s>": "<bos>", "</s>": "<eos>", "<unk>": "<unk>"}
    named = {heads.get(piece, piece): i for piece, i in vocabulary.items()}
    for piece in ("\n", "▁▁", "<mask>"):
        named.setdefault(piece, len(named))
    return tf.GemmaTokenizerFast(vocab=named, merges=merges)


def unigram() -> Any:
    """As T5 and ALBERT, with byte fallback."""
    words = ["▁", "▁the", "the", "▁Paris", "▁mo", "del", "of", "▁of", *"abcdefghijklmnopqrstuvwxyzPTFIR.,"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *[(b, -20.0) for b in BYTES]]
    pieces += [(word, -2.0 - 0.1 * n) for n, word in enumerate(words)]
    inner = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return tf.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def byte_level(prefix: bool = False) -> Any:
    """As GPT-2, with added tokens that collide with what is shown: a literal <0xE2>, and letters of the byte alphabet."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|end|>"],
        show_progress=False,
    )  # fmt: skip
    inner.train_from_iterator(TEXT, trainer)
    made = tf.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", bos_token="<|end|>")
    made.add_tokens(
        [AddedToken("<0xE2>"), AddedToken("Ġé", normalized=False), AddedToken("<id 5>"), AddedToken("naïve")]
    )
    return made


def word_pieces() -> Any:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "##the", "paris", "model", "##s", "of", "##of", "Paris"]
    inner = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    return tf.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]")


def whole_words() -> Any:
    from hooke.truth.plain import word_tokenizer

    return word_tokenizer(["BOS", "the", "Paris", "model", "of", "·", "\\n"])


KINDS: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "llama, legacy": lambda: llama(legacy=True),
    "llama, no prefix": lambda: llama(prefix=False),
    "llama, by a normalizer": llama_by_normalizer,
    "gemma": gemma,
    "unigram": unigram,
    "byte-level": byte_level,
    "byte-level, prefix": lambda: byte_level(prefix=True),
    "word pieces": word_pieces,
    "whole words": whole_words,
}
SENTENCE_PIECE = [name for name in KINDS if name.startswith(("llama", "gemma"))]


@cache
def tokenizer_of(name: str) -> Any:
    return KINDS[name]()


@cache
def speaking(name: str, template: str | None = None) -> Model:
    """A tiny Llama with one of these tokenizers; template: of its chat."""
    from families import new_hf

    tokenizer = KINDS[name]()
    if template is not None:
        tokenizer.chat_template = template
    size = max(tokenizer.get_vocab().values()) + 1
    torch.manual_seed(1)
    hf = new_hf("llama", vocab_size=size) if name else model_of("llama").hf
    return Model(hf, tokenizer, name=f"tiny {name}")
