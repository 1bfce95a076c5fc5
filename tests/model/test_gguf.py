"""GGUF files of a person's own: converted once and exactly, or refused with a reason."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from gguf_files import write_gguf
from hooke.errors import HookeError
from hooke.model import zoo
from hooke.model.store import check
from zoo_home import home, leftovers, wheel  # noqa: F401

TEXTS = [
    "Alice was beginning to get very tired",
    "  two  spaces \n\n new  \nlines \n ",
    "▁under▁▁score ▁",
    '"Café" naïve e\u0301 ù Æ 東京 \t tab',
    "“Oh!” said Alice, “what-- a—dream”",
    "a<b>c & d \r\n ½ ﬁ",
    "\n",
    "",
]


@pytest.mark.parametrize("kind", ["F16", "Q4_1"])
def test_gguf_converts_once_and_exactly(home: Path, tmp_path: Path, kind: str, capfd, monkeypatch) -> None:
    import gguf
    import numpy as np
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = write_gguf(tmp_path / "tiny.gguf", kind=kind)
    folder = zoo.convert_gguf(path)
    said = capfd.readouterr().err
    assert said == "hooke: converting tiny.gguf, once\n"  # nothing of the libraries' own bars
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert folder == home / "models" / f"gguf-{digest[:16]}"
    assert check(folder, full=True) is None

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for theirs, ours in {"token_embd": "embed_tokens", "blk.1.ffn_down": "layers.1.mlp.down_proj"}.items():
        tensor = tensors[f"{theirs}.weight"]
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(model.model.get_parameter(f"{ours}.weight").detach().numpy(), expected)
    with safe_open(folder / "model.safetensors", "pt") as file:
        stored = file.get_tensor("model.embed_tokens.weight").dtype
    assert stored == (torch.float16 if kind == "F16" else torch.float32)

    assert tokenizer.convert_ids_to_tokens(tokenizer("\n\n1")["input_ids"]) == ["ĊĊ", "1"]  # a digit is cut out first
    assert tokenizer.decode(tokenizer("a  12 é")["input_ids"]) == "a  12 é"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"

    moved = path.rename(tmp_path / "moved.gguf")
    monkeypatch.setattr("hooke.model.convert.gguf_to_folder", lambda *args: pytest.fail("converted again"))
    assert zoo.convert_gguf(moved) == folder
    assert zoo.resolve(folder.name) == ("folder", folder)
    row = zoo.known_models()[-1]
    assert row["name"] == folder.name and row["licence"] == "MIT" and "tiny.gguf" in row["note"]


def test_gguf_with_an_unknown_way_of_cutting_text_says_so(home: Path, tmp_path: Path, capfd) -> None:
    zoo.convert_gguf(write_gguf(tmp_path / "tiny.gguf", pre="viking"), progress=False)
    assert "cuts text its own way (viking)" in capfd.readouterr().err


def test_bad_gguf_files_say_what_is_wrong(home: Path, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    data = path.read_bytes()

    def error(content: bytes) -> str:
        path.write_bytes(content)
        with pytest.raises(HookeError) as caught:
            zoo.convert_gguf(path, progress=False)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "cut short (" in error(data[:-64])
    for length in (4, 10, 30, 300, 3000):
        assert "damaged or cut short inside its header" in error(data[:length])
    assert "not a GGUF file" in error(b"")
    assert "not a GGUF file" in error(b"PK\x03\x04" + data[4:])
    assert "GGUF version 1" in error(data[:4] + struct.pack("<I", 1) + data[8:])
    assert "header" in error(data[:8] + struct.pack("<QQ", 1 << 60, 1 << 60) + data[24:])
    assert "holds the architecture 'lzzma'; Hooke reads llama, " in error(data.replace(b"llama", b"lzzma"))
    write_gguf(path, split_count=2)
    assert "one part of several" in error(path.read_bytes())
    for count in ("two", 2.5, -1):
        write_gguf(path, split_count=count)
        assert f"says split.count is {count}" in error(path.read_bytes())
    for key in ("block_count", "embedding_length", "feed_forward_length", "attention.head_count", "vocab_size"):
        at = data.index(f"llama.{key}".encode()) + len(f"llama.{key}") + 4  # behind the type
        found = error(data[:at] + struct.pack("<I", 10**9) + data[at + 4 :])
        assert f"llama.{key} is 1000000000, and its tensors allow at most" in found
    with pytest.raises(HookeError, match="no file"):
        zoo.convert_gguf(tmp_path / "none.gguf")
    assert leftovers(home) == []
