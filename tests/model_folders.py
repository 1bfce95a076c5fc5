"""Folders of tiny models as transformers saves them, with one thing changed in a file, and loading them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import hooke
from families import new_hf
from hooke import HookeError


class Letters:
    """A tokenizer that loading does not have to read."""

    eos_token_id = 2


def load(folder: Path, **how: Any) -> Any:
    return hooke.load(folder, tokenizer=Letters(), device="cpu", **how)


def saved(folder: Path, name: str = "llama", shards: str | None = None, **changes: Any) -> tuple[Any, Path]:
    hf = new_hf(name, **changes)
    if hf.config.tie_word_embeddings:
        hf.tie_weights()
    hf.save_pretrained(folder, **({"max_shard_size": shards} if shards else {}))
    return hf, folder


def config(folder: Path, **fields: Any) -> None:
    """Other keys in config.json; a value of None takes one out."""
    path = folder / "config.json"
    data = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    data = load_file(folder / "model.safetensors")
    change(data)
    save_file(data, folder / "model.safetensors", metadata={"format": "pt"})


def refused(folder: Path, says: str, **how: Any) -> None:
    with pytest.raises(HookeError, match=says) as caught:
        load(folder, **how)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
