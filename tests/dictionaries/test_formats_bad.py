"""Files of other tools that are damaged or lie: one clear line, and nothing else, for each."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from families import model_of, one_thread  # noqa: F401
from formats_cases import FILES, config, copied, refused, weights
from hooke.dictionaries.formats import FORMATS, read_dictionary, tensors
from hooke.errors import HookeError
from hooke.model.budget import Budget

WEIGHTS = {"saelens": "sae_weights.safetensors", "sparsify": "sae.safetensors", "circuit_tracer": "layer_1.safetensors"}


# ---- what lies there -----------------------------------------------------------------------------


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path / "none", "no file or folder")
    refused(tmp_path, "no dictionary that Hooke knows")
    (tmp_path / "a.txt").write_text("a")
    refused(tmp_path / "a.txt", "no file that Hooke reads by itself")
    (tmp_path / "sae_weights.safetensors").write_bytes(b"")
    refused(tmp_path / "sae_weights.safetensors", "name the folder that it lies in")
    refused(tmp_path, "no format called 'onnx'", format="onnx")
    refused(Path("a\0b"), "no path|no file or folder")
    refused(tmp_path, r"has no cfg\.json and sae_weights", format="saelens")
    refused(tmp_path, r"no cfg\.json and sae\.safetensors", format="sparsify")
    refused(tmp_path, "no file", format="circuit-tracer")
    refused(tmp_path, "no file", format="llama-scope")
    refused(tmp_path, "has neither params", format="gemma-scope-2")
    refused(tmp_path, "has no file layer0", format="qwen-scope")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_that_it_is_not(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "a.txt", tmp_path / "empty", FILES):
        refused(path, ".", format=kind, allow_pickle=True)


def test_formats_below_are_named(tmp_path: Path) -> None:
    shutil.copytree(FILES / "circuit_tracer" / "per_layer", tmp_path / "deep" / "set")
    refused(tmp_path / "deep", "circuit-tracer is read one folder at a time")


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut short": (lambda data: data[:-10], "cut short or damaged"),
    "cut in the header": (lambda data: data[:30], "not whole safetensors"),
    "empty": (lambda data: b"", "not whole safetensors"),
    "longer": (lambda data: data + b"\0" * 8, "cut short or damaged"),
    "a header without end": (lambda data: struct.pack("<Q", 2**60) + data[8:], "not whole safetensors"),
    "no header": (lambda data: data[:8] + b"x" * (len(data) - 8), "JSON"),
    "a pickle": (lambda data: b"\x80\x02}q\x00.", "not whole safetensors"),
}


@pytest.mark.parametrize("case", ["saelens/jumprelu", "sparsify/topk", "circuit_tracer/per_layer"])
@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_weights(case: str, how: str, tmp_path: Path) -> None:
    folder = copied(case, tmp_path)
    change, says = DAMAGE[how]
    path = next(folder.rglob(WEIGHTS[case.split("/")[0]]))
    path.write_bytes(change(path.read_bytes()))
    refused(folder, says)


TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "another shape": (
        {"W_dec": torch.zeros(24, 9)},
        r"W_dec has the shape \(24, 9\), and the rest of it needs \(24, 8\)",
    ),
    "transposed": ({"W_enc": torch.zeros(24, 8)}, "W_enc has the shape"),
    "one axis more": ({"b_dec": torch.zeros(8, 1)}, "b_dec has the shape"),
    "no tensor": ({"b_enc": None}, "no tensor b_enc; it holds"),
    "no threshold": ({"threshold": None}, "no tensor threshold or log_threshold"),
    "a tensor more": ({"W_gate": torch.zeros(3)}, "holds 'W_gate', which Hooke has no use for"),
    "not a number": ({"W_dec": torch.full((24, 8), float("nan"))}, "W_dec holds numbers that are not finite"),
    "infinite": ({"threshold": torch.full((24,), float("inf"))}, "threshold holds numbers that are not finite"),
    "whole numbers": (
        {"b_enc": torch.zeros(24, dtype=torch.int64)},
        "b_enc is of type I64; weights are floating-point",
    ),
    "eight bits": ({"b_enc": torch.zeros(24).to(torch.float8_e4m3fn)}, "b_enc is of type F8_E4M3"),
    "fine-tuned": ({"scaling_factor": torch.full((24,), 2.0)}, "says that nothing was fine-tuned"),
}


@pytest.mark.parametrize("how", TENSORS)
def test_weights_that_do_not_fit(how: str, tmp_path: Path) -> None:
    folder = copied("saelens/jumprelu", tmp_path)
    changes, says = TENSORS[how]
    weights(folder / "sae_weights.safetensors", **changes)
    refused(folder, says)


def test_half_precision_is_read(tmp_path: Path) -> None:
    folder = copied("saelens/standard", tmp_path)
    path = folder / "sae_weights.safetensors"
    save_file({name: x.to(torch.bfloat16) for name, x in load_file(path).items()}, str(path))
    (block,) = read_dictionary(folder)
    assert block.bias.dtype == torch.float32


CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a width that lies": ("topk", {"d_in": 9}, "W_enc has the shape"),
    "features that lie": ("topk", {"d_sae": 25}, "W_enc has the shape"),
    "far too large": ("topk", {"d_sae": 10**12}, "d_sae is '1000000000000', and has to be a whole number"),
    "no width": ("topk", {"d_in": None}, "does not say 'd_in'"),
    "k is none": ("topk", {"k": 0}, "k is '0', and has to be a whole number from 1 on"),
    "k is too large": ("topk", {"k": 25}, "k is 25"),
    "k is a text": ("topk", {"k": "5"}, "k is '5', and has to be a whole number"),
    "k is broken": ("topk", {"k": 2.5}, "k is '2.5', and has to be a whole number"),
    "k is true": ("topk", {"k": True}, "k is 'True', and has to be a whole number"),
    "an iterative kind": (
        "topk",
        {"architecture": "matching_pursuit"},
        "of the kind 'matching_pursuit', which is no one read",
    ),
    "a kind over time": ("topk", {"architecture": "temporal"}, "'temporal'"),
    "a kind that is a list": ("topk", {"architecture": ["topk"]}, "architecture is .* and has to be a text"),
    "another kind's weights": ("topk", {"architecture": "gated"}, "no tensor b_gate"),
    "an unknown norm": ("topk", {"normalize_activations": "l7"}, "normalize_activations is 'l7', and Hooke reads none"),
    "an unsaid scale": (
        "topk",
        {"normalize_activations": "expected_average_only_in"},
        "no file says by how much; put activ",
    ),
    "an unsaid whitening": (
        "topk",
        {"normalize_activations": "covariance_whitening"},
        "activation_whitening.safetensors, which",
    ),
    "no place": ("topk", {"metadata__hook_name": None}, "does not say 'hook_name'"),
    "no such place": (
        "topk",
        {"metadata__hook_name": "blocks.1.attn.hook_q"},
        "no site of Hooke is what 'blocks.1.attn.hook_q'",
    ),
    "a layer without end": ("topk", {"metadata__hook_name": f"blocks.{'9' * 400}.hook_resid_post"}, "no site of Hooke"),
    "a place that is a number": ("topk", {"metadata__hook_name": 3}, "hook_name is '3', and has to be a text"),
    "one head": ("topk", {"metadata__hook_head_index": 3}, "reads one head alone"),
    "heads where there are none": ("topk", {"reshape_activations": "hook_z"}, "has no heads"),
    "a flag that is a text": (
        "topk",
        {"apply_b_dec_to_input": "yes"},
        "apply_b_dec_to_input is 'yes', and has to be true or",
    ),
    "metadata that is a list": ("topk", {"metadata": [1]}, "metadata is .*, and has to be an object"),
    "steering a terminal": ("topk", {"architecture": "a\x1b[2J\nb"}, "of the kind"),
    "no width out": ("transcoder", {"d_out": None}, "does not say 'd_out'"),
    "a skip that is not there": ("transcoder", {"architecture": "skip_transcoder"}, "no tensor W_skip"),
    "no place out": ("transcoder", {"metadata__hook_name_out": None}, "does not say 'hook_name_out'"),
    "an old activation": ("legacy", {"activation_fn_str": "tanh-relu"}, "the activation is 'tanh-relu'"),
    "an old norm": ("legacy", {"normalize_activations": True}, "no file says by how much"),
}


@pytest.mark.parametrize("how", CONFIGS)
def test_configs_that_lie(how: str, tmp_path: Path) -> None:
    case, changes, says = CONFIGS[how]
    folder = copied(f"saelens/{case}", tmp_path)
    config(folder, **changes)
    refused(folder, says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "no JSON object"),
        ('{"d_in": 8, "d_in": 9}', "stands there twice"),
        ("\xff\xfe", "not JSON|UTF-8"),
        ('{"a":' * 200 + "1" + "}" * 200, "nests too deeply"),
        ("{}" + " " * 2**20, "not read"),
    ],
)
def test_configs_that_are_none(text: str, says: str, tmp_path: Path) -> None:
    folder = copied("saelens/topk", tmp_path)
    (folder / "cfg.json").write_bytes(text.encode("latin-1"))
    refused(folder, says)


@pytest.mark.parametrize(
    ("scale", "says"), [(0, "cannot be scaled by 0"), (-1, "by -1"), (float("nan"), "a finite number")]
)
def test_scales_that_are_none(scale: float, says: str, tmp_path: Path) -> None:
    folder = copied("saelens/scaled", tmp_path)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": scale}))
    refused(folder, says)


def test_a_whitening_of_another_width(tmp_path: Path) -> None:
    folder = copied("saelens/whitened", tmp_path)
    weights(folder / "activation_whitening.safetensors", matrix=torch.eye(9))
    refused(folder, r"matrix has the shape \(9, 9\)")


def test_what_is_no_file(tmp_path: Path) -> None:
    folder = copied("saelens/topk", tmp_path)
    secret = tmp_path / "elsewhere.safetensors"
    (folder / "sae_weights.safetensors").rename(secret)
    (folder / "sae_weights.safetensors").symlink_to(secret)
    refused(folder, "leads out of its folder")
    (folder / "sae_weights.safetensors").unlink()
    os.mkfifo(folder / "sae_weights.safetensors")
    refused(folder, "no dictionary that Hooke knows")
    refused(folder, "named pipe", format="saelens")
    (folder / "cfg.json").unlink()
    (folder / "cfg.json").mkdir()
    refused(folder, "no dictionary that Hooke knows")


def test_a_folder_that_is_not_to_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Any) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", closed)
    refused(tmp_path, "cannot read the folder .*: Permission denied")


def test_a_norm_of_its_own_before_a_gain_is_refused(tmp_path: Path) -> None:
    folder = copied("saelens/layer_norm", tmp_path)
    config(folder, metadata__hook_name="blocks.1.ln2.hook_normalized")
    with pytest.raises(HookeError, match="by itself once more; not read"):
        read_dictionary(folder, model_of("llama"))


def test_links_into_the_hubs_own_blobs_are_followed(tmp_path: Path) -> None:
    """A snapshot in the hub's cache is made of links to the blobs beside it, at any depth."""
    repo = tmp_path / "models--a--gemma-scope-2b-pt-res"
    place = repo / "snapshots" / "abc" / "layer_1" / "width_16k" / "average_l0_9"
    place.mkdir(parents=True)
    (repo / "blobs").mkdir()
    source = FILES / "saelens" / "gemma-scope-2b-pt-res" / "layer_1" / "width_16k" / "average_l0_9" / "params.npz"
    shutil.copy(source, repo / "blobs" / "123")
    (place / "params.npz").symlink_to(repo / "blobs" / "123")
    assert str(read_dictionary(place)[0].reads[0]) == "resid_post.1"


def test_what_does_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied("saelens/topk", tmp_path)
    monkeypatch.setattr(tensors, "budget", lambda device: Budget(100, 100, 1))
    refused(folder, "takes 0 MB of memory, and 0 MB are free for it")
    for case in ("saelens/gemma-scope-2b-pt-res", "dictionary_learning/AutoEncoder"):
        refused(copied(case, tmp_path), "and 0 MB are free for it", allow_pickle=True)
