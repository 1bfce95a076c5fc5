"""A SentencePiece vocabulary in a GGUF file: what stands around a text and before it is what the file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import gguf_files as files
from hooke.errors import HookeError
from hooke.model import convert

WORDS = ["▁", "a", "b", "h", "i", "▁a", "▁b", "ab", "▁ab", "hi", "▁hi", "▁▁"]


def written(path: Path, arch: str, **flags: Any) -> Path:
    """A tiny model with a vocabulary of bytes and twelve pieces; flags are keys of the tokenizer."""
    import transformers as tf

    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *WORDS]
    kind = {"llama": tf.LlamaConfig, "phi3": tf.Phi3Config, "gemma2": tf.Gemma2Config}[arch]
    own = {"sliding_window": 7, "head_dim": 8} if arch == "gemma2" else {}
    truth = files.model_of(kind(**files.sizes(vocab_size=len(tokens), **own)))
    writer = gguf.GGUFWriter(path, arch)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(len(WORDS) - i) for i in range(len(WORDS))])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(WORDS))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    return files.add_model(writer, path, arch, truth, **flags)


@pytest.mark.parametrize("arch", ["llama", "phi3", "gemma2"])
@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"add_bos_token": False},
        {"add_eos_token": True},
        {"add_space_prefix": False},
        {"add_space_prefix": True},
        {"add_bos_token": False, "add_space_prefix": False},
    ],
)
def test_what_stands_around_and_before_a_text(tmp_path: Path, arch: str, flags: dict[str, bool]) -> None:
    from transformers import AutoTokenizer

    path = written(tmp_path / "tiny.gguf", arch, **flags)
    (tmp_path / "out").mkdir()
    prefix = flags.get("add_space_prefix", arch != "gemma2")
    if arch == "gemma2" and prefix:
        with pytest.raises(HookeError, match=r"tokenizer\.ggml\.add_space_prefix"):
            convert.gguf_to_folder(path, tmp_path / "out")
        return
    convert.gguf_to_folder(path, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    wanted = ["▁ab" if prefix else "ab", "▁hi"]
    wanted = ["<s>"] * flags.get("add_bos_token", True) + wanted + ["</s>"] * flags.get("add_eos_token", False)
    ids = tokenizer("ab hi")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == wanted
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab hi"
    assert tokenizer.decode(tokenizer(" hi é", add_special_tokens=False)["input_ids"]).strip() == "hi é"


def byte_level(path: Path, pre: str, **flags: bool) -> Path:
    """A tiny Llama whose byte-level vocabulary holds a word that its merges do not make."""
    import transformers as tf
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens = ["<|begin|>", *bytes_to_unicode().values(), "ab", "abc"]
    truth = files.model_of(tf.LlamaConfig(**files.sizes(vocab_size=len(tokens))))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    return files.add_model(writer, path, "llama", truth, **flags)


@pytest.mark.parametrize(
    ("pre", "flags", "wanted"),
    [
        ("llama-bpe", {}, ["<|begin|>", "abc", "Ġ", "a"]),  # as Llama 3's files, most of which say no more
        ("tekken", {}, ["<|begin|>", "abc", "Ġ", "a"]),
        ("llama-bpe", {"add_bos_token": True}, ["<|begin|>", "abc", "Ġ", "a"]),
        ("llama-bpe", {"add_bos_token": False}, ["abc", "Ġ", "a"]),
        ("gpt-2", {}, ["ab", "c", "Ġ", "a"]),
        ("qwen2", {}, ["ab", "c", "Ġ", "a"]),
        ("qwen2", {"add_bos_token": True}, ["<|begin|>", "ab", "c", "Ġ", "a"]),
    ],
)
def test_what_a_way_of_cutting_says_without_saying_it(
    tmp_path: Path, pre: str, flags: dict[str, bool], wanted: list[str]
) -> None:
    """llama.cpp begins a text of Llama 3 with a token, and takes a whole word of the vocabulary before it merges."""
    from transformers import AutoTokenizer

    path = byte_level(tmp_path / "tiny.gguf", pre, **flags)
    (tmp_path / "out").mkdir()
    convert.gguf_to_folder(path, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_ids_to_tokens(tokenizer("abc a")["input_ids"]) == wanted


def test_the_other_byte_order_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_uint32("llama.block_count", 3)
    writer.add_tensor("token_embd.weight", np.zeros((2, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(HookeError, match="the other byte order"):
        convert.gguf_to_folder(path, tmp_path)
