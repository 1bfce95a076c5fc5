"""Folders of models that ask for more than they hold: refused in one line, at once, with little memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hooke
from families import CONFIGS
from hooke.errors import HookeError
from hooke.model.bounds import check_config, check_size

LOAD = """
import os, resource, sys, time
import torch, transformers, hooke
from hooke.model import load as _
before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    hooke.load(sys.argv[1])
    said = "loaded"
except hooke.HookeError as error:
    said = str(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10, time.process_time() - begin, said)
"""


FIRST = "the first of the weights"


def loading(folder: Path) -> tuple[int, float, str]:
    """(MB, seconds of the processor, what was said)."""
    done = subprocess.run([sys.executable, "-c", LOAD, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    memory, seconds, said = done.stdout.split(" ", 2)
    return int(memory), float(seconds), said.strip()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A tiny Llama in several files, with a tokenizer."""
    import transformers

    from hooke.truth.plain import word_tokenizer

    made = tmp_path_factory.mktemp("whole")
    transformers.AutoModelForCausalLM.from_config(CONFIGS["llama"]()).save_pretrained(made, max_shard_size="40KB")
    word_tokenizer([f"w{k}" for k in range(90)]).save_pretrained(made)
    (made / "chat_template.jinja").write_text("{{ messages }}")
    assert len(list(made.glob("model-*.safetensors"))) > 1
    return made


@pytest.fixture
def folder(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("HOOKE_HOME", str(tmp_path / "home"))
    return Path(shutil.copytree(whole, tmp_path / "mine"))


def test_it_loads(folder):
    assert hooke.load(folder).parts.n_layers == 3


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("key, value", [
    ("num_hidden_layers", 10**6), ("num_hidden_layers", 10**15), ("num_hidden_layers", 0), ("num_hidden_layers", -1),
    ("n_layer", 10**6), ("vocab_size", 10**9), ("hidden_size", 10**7), ("intermediate_size", 10**8), ("intermediate_size", -5),
    ("num_attention_heads", 10**6), ("num_key_value_heads", 10**6), ("head_dim", 10**6), ("max_position_embeddings", 10**18),
    ("text_config", {"num_hidden_layers": 10**6}),
])  # fmt: skip
def test_configurations_larger_than_their_weights(folder, key, value):
    change(folder, **{key: value})
    begin = time.process_time()
    with pytest.raises(HookeError, match=r"config\.json says .* is -?[\d,]+, and") as error:
        hooke.load(folder)
    assert "\n" not in str(error.value) and time.process_time() - begin < 5


def test_a_million_layers_take_no_time_and_no_memory(folder):
    """They hung."""
    change(folder, num_hidden_layers=10**6)
    memory, seconds, said = loading(folder)
    assert "num_hidden_layers is 1,000,000" in said and memory < 100 and seconds < 10, (memory, seconds, said)


def test_widths_that_are_small_and_whose_product_is_not(folder):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    config.num_key_value_heads = config.num_attention_heads = config.head_dim = 4000
    with pytest.raises(HookeError, match=r"describes [\d,]+ numbers, and the weights hold"):
        check_size(config, str(folder))
    config = AutoConfig.from_pretrained(folder)
    check_size(config, str(folder))


@pytest.mark.parametrize("family", list(CONFIGS))
def test_no_family_is_refused(tmp_path, family):
    import transformers

    config = CONFIGS[family]()
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    check_config(str(tmp_path))
    check_size(config, str(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, '{"a": ' * 500 + "1" + "}" * 500, '{"num_hidden_layers": ' + "9" * 5000 + "}",
                                  '{"vocab_size": 1e999}', "\xff", '{"model_type": "llama", "model_type": "gpt2"}'])  # fmt: skip
def test_configurations_that_are_none(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(HookeError, match=r"config\.json") as error:
        hooke.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json", FIRST, "chat_template.jinja", "generation_config.json"])  # fmt: skip
@pytest.mark.parametrize("how", ["pipe", "link", "sparse"])
def test_files_of_a_folder_that_are_none(folder, tmp_path, name, how):
    path = min(folder.glob("model-*.safetensors")) if name == FIRST else folder / name
    if how == "link":
        (tmp_path / "elsewhere").write_bytes(path.read_bytes() if path.exists() else b"{}")
    path.unlink(missing_ok=True)
    if how == "pipe":
        os.mkfifo(path)
    elif how == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        with path.open("wb") as file:
            file.write(b"{")
            file.truncate(2 << 30)
    with pytest.raises(HookeError, match="named pipe" if how == "pipe" else "leads out" if how == "link" else "holes|not read") as error:  # fmt: skip
        hooke.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "entry",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "deep/../../secret.safetensors",
        "",
        7,
        None,
        ["a"],
        "zero\0byte",
        "a" * 300,
    ],
)
def test_an_index_leads_to_files_of_its_folder(folder, tmp_path, entry):
    """An entry that climbed out was opened."""
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    name = next(iter(index["weight_map"]))
    (tmp_path / "secret.safetensors").write_bytes((folder / index["weight_map"][name]).read_bytes())
    index["weight_map"][name] = entry
    path.write_text(json.dumps(index))
    with pytest.raises(HookeError) as error:
        hooke.load(folder)
    assert "\n" not in str(error.value)
    if isinstance(entry, str) and "secret" in entry:
        assert "leads out of its folder" in str(error.value)


@pytest.mark.parametrize("name", ["~nobody-of-this-name", "~nobody-of-this-name/model", "a" * 900, "org/" + "a" * 900, "x" * 900 + ".gguf", "zero\0byte"])  # fmt: skip
def test_names_that_cannot_be_a_model(name):
    with pytest.raises(HookeError) as error:
        hooke.load(name)
    assert "\n" not in str(error.value) and str(error.value).isprintable()


def test_a_pipe_as_a_model(tmp_path):
    for name in ("pipe", "pipe.gguf", "pipe.safetensors"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(HookeError, match="named pipe"):
            hooke.load(tmp_path / name)
