"""Configurations that ask for no more than their weights hold: looked at before anything is built of them.

A configuration is a small file, and what is built of it may have any size: a million layers, or a matrix of a
terabyte that no weight fills.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hooke.errors import HookeError
from hooke.files import open_file, read_json, tensor_header
from hooke.model.store import weight_files

MAX_CONFIG = 16 * 2**20
MAX_LAYERS, MAX_WIDTH, MAX_WHOLE = 2000, 2**24, 2**53  # of a model whose weights are not here yet
SLACK = 2.5  # a model may have so many times the numbers of its files: those that files share, masks, caches
LAYERS = {"num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"}
WIDTHS = {
    "vocab_size", "hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "ffn_dim", "num_attention_heads",
    "num_key_value_heads", "n_head", "head_dim", "n_positions", "n_ctx",
}  # fmt: skip


def check_config(source: str, revision: str | None = None) -> None:
    """Refuse a configuration (of a folder or a hub id) with more layers than its weights have tensors, or a width that
    none of them has. Raises HookeError in one line; what is not found is left to transformers."""
    folder = Path(source)
    if folder.is_dir():
        where, path = str(folder / "config.json"), folder / "config.json"
        layers, width = _found(folder)[:2]
    else:
        found = _fetched(source, revision)
        if found is None:
            return
        where, path, layers, width = f"config.json of {source}", Path(found), MAX_LAYERS, MAX_WIDTH
    config = read_json(path, MAX_CONFIG, infinite=True)
    if not isinstance(config, dict):
        raise HookeError(f"{where} is not a model's configuration: copy the model again")
    for key, value in _numbers(config):
        least, most = 0, MAX_WHOLE
        if key in LAYERS:
            least, most = 1, layers
        elif key in WIDTHS:
            least, most = 1, width
        if not (least <= value if least else -most <= value) or value > most:
            why = f"the weights allow {least} to {most:,}" if least else "that is no size"
            raise HookeError(f"{where} says {key} is {value:,}, and {why}; copy the model again")


def check_size(config: Any, source: str) -> None:
    """Refuse a configuration that needs far more numbers than the weights of its folder hold: transformers would draw
    what is missing at random. Built without memory, which takes a few hundredths of a second."""
    folder = Path(source)
    if not folder.is_dir():
        return
    import torch
    from transformers import AutoModelForCausalLM

    there = _found(folder)[2]
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    needed = sum(x.numel() for x in (*empty.parameters(), *empty.buffers()))
    if needed > SLACK * there + 2**20:
        asked = f"{folder / 'config.json'} describes {needed:,} numbers"
        raise HookeError(f"{asked}, and the weights hold {there:,}; copy the model again")


def _found(folder: Path) -> tuple[int, int, int]:
    """How many tensors the weights of a folder are, the longest side of one, and how many numbers they hold in all."""
    tensors, longest, numbers = 0, 0, 0
    for file in weight_files(folder):
        with open_file(file, folder=folder) as data:
            _, header = tensor_header(file, data)
        tensors += len(header)
        for entry in header.values():
            longest = max(longest, *entry["shape"], 1)
            size = 1
            for n in entry["shape"]:
                size *= n
            numbers += size
    return tensors, longest, numbers


def _fetched(source: str, revision: str | None) -> str | None:
    from transformers.utils import cached_file

    with contextlib.suppress(Exception):  # said again, and better, by what loads it
        return cached_file(source, "config.json", revision=revision)
    return None


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number in a configuration with the key that it stands under, at any depth."""
    if isinstance(value, dict):
        for name, x in value.items():
            yield from _numbers(x, name)
    elif isinstance(value, list):
        for x in value:
            yield from _numbers(x, key)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value
