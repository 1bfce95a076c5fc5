"""Pickles, archives and the configs of each family that are damaged, lie, or are meant to do harm: one clear line."""

from __future__ import annotations

import io
import os
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from families import one_thread  # noqa: F401
from formats_cases import FILES, config, copied, refused, weights
from hooke.dictionaries.formats import read_dictionary
from hooke.dictionaries.formats.said import plain_yaml
from hooke.errors import HookeError

# ---- pickles -------------------------------------------------------------------------------------

AE = "dictionary_learning/AutoEncoder"


def pickled(tmp_path: Path, value: Any, **options: Any) -> Path:
    folder = copied(AE, tmp_path)
    torch.save(value, folder / "ae.pt", **options)
    return folder


def good() -> dict[str, torch.Tensor]:
    return {
        "encoder.weight": torch.ones(24, 8), "encoder.bias": torch.ones(24), "decoder.weight": torch.ones(8, 24),
        "bias": torch.ones(8),
    }  # fmt: skip


class Harm:
    """What would run a command where a pickle is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_pickles_are_off_by_default(tmp_path: Path) -> None:
    refused(copied(AE, tmp_path), "ae.pt is a pickle, and pickles can run code.* if you say so")
    refused(copied("saelens/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5", tmp_path), "is a pickle")
    assert read_dictionary(pickled(tmp_path / "good", good()), allow_pickle=True)[0].n_features == 24


def test_a_pickle_that_does_harm_does_none(tmp_path: Path) -> None:
    folder = pickled(tmp_path, good() | {"bias": Harm(tmp_path / "harm")})
    refused(folder, "names 'posix mkdir', which weights do not need and which may run code", allow_pickle=True)
    assert not (tmp_path / "harm").exists()
    torch.save(good() | {"bias": Harm(tmp_path / "harm")}, folder / "ae.pt", pickle_protocol=4)
    refused(folder, "uses STACK_GLOBAL", allow_pickle=True)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([torch.ones(3)], "holds list in place of named tensors"),
        (good() | {"bias": torch.ones(1).expand(8)}, "is no plain tensor of the size that it says"),
        (good() | {"bias": torch.ones(8).to_sparse()}, "names 'torch Size', which weights do not need"),
        (good() | {"bias": torch.ones(8, device="meta")}, "names 'torch float32', which weights do not need"),
        (good() | {"bias": torch.ones(8) * float("nan")}, "not finite"),
        (good() | {"bias": torch.ones(8, dtype=torch.complex64)}, "names 'torch ComplexFloatStorage"),
        (good() | {"encoder.weight": torch.ones(24, 9)}, "has the shape"),
        (good() | {"other": torch.ones(3)}, "holds 'other'"),
        ({}, "no tensor encoder.weight; it holds none"),
    ],
)
def test_pickles_of_other_things(value: Any, says: str, tmp_path: Path) -> None:
    refused(pickled(tmp_path, value), says, allow_pickle=True)


def test_pickles_that_are_none(tmp_path: Path) -> None:
    folder = pickled(tmp_path, good(), _use_new_zipfile_serialization=False)
    refused(folder, "only the zip form of torch since 1.6", allow_pickle=True)
    whole = io.BytesIO()
    torch.save(good(), whole)
    for data in (b"", b"PK\x03\x04", whole.getvalue()[:-30], whole.getvalue()[:400]):
        (folder / "ae.pt").write_bytes(data)
        refused(folder, "no pickle that Hooke reads|no whole pickle", allow_pickle=True)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(folder / "ae.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    refused(folder, "no pickle as torch writes it", allow_pickle=True)
    with zipfile.ZipFile(folder / "ae.pt", "w") as new:
        new.writestr("archive/data.pkl", b"\0" * (17 * 2**20))
    refused(folder, "its program alone has", allow_pickle=True)


def test_a_pickle_that_says_more_than_it_holds(tmp_path: Path) -> None:
    """A storage of 16384 numbers of which the file holds 24: nothing beyond them is read."""
    whole, folder = io.BytesIO(), copied(AE, tmp_path)
    torch.save(good(), whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(folder / "ae.pt", "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info.filename, data.replace(b"K\x18", b"M\x00\x40") if info.filename.endswith("pkl") else data)
    refused(folder, "no whole pickle of weights", allow_pickle=True)


# ---- archives of arrays ----------------------------------------------------------------------------

GEMMA = "saelens/gemma-scope-2b-pt-res"


def archive(tmp_path: Path, **changes: Any) -> Path:
    folder = copied(GEMMA, tmp_path)
    with np.load(folder / "params.npz") as found:
        arrays = {name: found[name] for name in found} | changes
    np.savez(folder / "params.npz", **{name: x for name, x in arrays.items() if x is not None})
    return folder


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"b_enc": np.zeros(23, "f4")}, "has the shape"),
        ({"b_enc": np.array([{}] * 24)}, "b_enc is no plain array|not whole"),
        ({"b_enc": np.zeros(24, "i4")}, "b_enc is of type int32; weights are floating-point"),
        ({"threshold": None}, "no tensor threshold"),
        ({"scaling_factor": np.full(24, 2.0, "f4")}, "scales its features, and no version"),
        ({"W_dec": np.full((24, 8), np.nan, "f4")}, "not finite"),
        ({"W_enc": np.zeros(8, "f4")}, "2 axes that are not empty are needed"),
        ({"W_enc": np.zeros((0, 24), "f4")}, "2 axes that are not empty are needed"),
        ({"more": np.zeros(3, "f4")}, "holds 'more'"),
    ],
)
def test_arrays_that_do_not_fit(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    refused(archive(tmp_path, **changes), says)


def test_archives_that_are_none(tmp_path: Path) -> None:
    folder = copied(GEMMA, tmp_path)
    path = folder / "params.npz"
    whole = path.read_bytes()
    for data in (b"", whole[:200], whole[:-20], b"PK\x03\x04"):
        path.write_bytes(data)
        refused(folder, "no whole archive")
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info.filename, data.replace(b"(24, 8)", b"(99, 8)").replace(b"(8, 24)", b"(8, 99)"))
    refused(folder, "no plain array of the size that it says it has")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("W_enc.npy", b"\x93NUMPY\x01\x00v\x00" + b"{" * 118)
    refused(folder, "no whole array")
    path.write_bytes(whole.replace(b"\x93NUMPY", b"\x93NUMPX"))
    refused(folder, "no whole array")


def test_compressed_arrays_are_read(tmp_path: Path) -> None:
    folder = copied(GEMMA, tmp_path)
    with np.load(folder / "params.npz") as found:
        arrays = {name: np.asfortranarray(found[name].astype(">f8")) for name in found}
    np.savez_compressed(folder / "params.npz", **arrays)
    (block,), (before,) = (
        read_dictionary(folder),
        read_dictionary(FILES / GEMMA / folder.relative_to(tmp_path / "gemma-scope-2b-pt-res")),
    )
    assert torch.equal(block.bias.float(), before.bias) and block.bias.dtype == torch.float64


# ---- the other families ------------------------------------------------------------------------------


def test_gemma_scope_without_its_folders(tmp_path: Path) -> None:
    shutil.copy(next((FILES / GEMMA).rglob("params.npz")), tmp_path / "params.npz")
    refused(tmp_path / "params.npz", "does not say what it is of; keep the folders' names")
    folder = copied("saelens/gemma-scope-2-1b-pt-resid_post", tmp_path)
    (folder / "config.json").unlink()
    assert str(read_dictionary(folder)[0].reads[0]) == "resid_post.1"
    folder.rename(tmp_path / "dictionary")
    refused(tmp_path / "dictionary", "copy its config.json too, or keep the names")


def test_gemma_scope_2(tmp_path: Path) -> None:
    folder = copied("saelens/gemma-scope-2-1b-pt-transcoder_all", tmp_path)
    config(folder, "config.json", affine_connection=False)
    refused(folder, "do not agree whether there is an affine connection")
    config(folder, "config.json", architecture="topk")
    refused(folder, "the architecture is 'topk'")
    clt = copied("circuit_tracer/gemma-scope-2-clt", tmp_path)
    weights(clt / "params_layer_2.safetensors", w_dec=torch.zeros(24, 2, 8))
    refused(clt, r"w_dec has the shape \(24, 2, 8\), and the rest of it needs \(24, 3, 8\)")
    (clt / "params_layer_1.safetensors").unlink()
    refused(clt, "there are layers 0, 2")


def test_qwen_scope(tmp_path: Path) -> None:
    folder = copied("saelens/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5", tmp_path)
    moved = folder.rename(tmp_path / "mine")
    refused(
        moved, "does not say how many features fire; put it into a folder named as its repository", allow_pickle=True
    )
    refused(moved / "layer1.sae.pt", "does not say how many", allow_pickle=True)
    large = moved.rename(tmp_path / "SAE-Res-X-W32K-L0_50")
    refused(large, "k is 50", allow_pickle=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"act_fn": "topk"}, "act_fn is 'topk', and Hooke reads jumprelu"),
        ({"use_glu_encoder": True}, "gated encoder"),
        ({"jump_relu_threshold": "high"}, "has to be a finite number"),
        ({"dataset_average_activation_norm": {"in": 0, "out": 1}}, "in is 0, and a norm is above zero"),
        ({"dataset_average_activation_norm": {"in": 1}}, "does not say 'out'"),
        ({"dataset_average_activation_norm": None}, "does not say 'in'"),
        ({"norm_activation": "token-wise"}, "Hooke reads dataset-wise"),
        ({"d_model": 9}, "has the shape"),
    ],
)
def test_llama_scope(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = copied("saelens/llama-scope", tmp_path)
    config(folder, "hyperparams.json", **changes)
    refused(folder, says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sae_type": "lorsa"}, "sae_type is 'lorsa', and Hooke reads sae, clt, crosscoder"),
        ({"sae_type": "molt"}, "'molt'"),
        ({"act_fn": "batchtopk"}, "act_fn is 'batchtopk'"),
        ({"norm_activation": "token-wise"}, "norm_activation is 'token-wise'"),
        ({"norm_activation": "dataset-wise"}, "no tensor dataset_average_activation_norm.blocks.1"),
        ({"expansion_factor": 1e12}, "d_sae|too large|has the shape"),
        ({"expansion_factor": "3"}, "expansion_factor is '3'"),
        ({"use_glu_encoder": True}, "gated encoder"),
        ({"sae_type": "clt", "hook_points_in": ["blocks.0.hook_resid_mid"], "hook_points_out": []}, "hook_points_out"),
        ({"sae_type": "crosscoder", "hook_points": "all"}, "has to be a list of texts"),
    ],
)
def test_llamascopium(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    folder = copied("saelens/llama-scope-r1", tmp_path)
    config(folder, "config.json", **changes)
    refused(folder, says)


def test_sparsify(tmp_path: Path) -> None:
    folder = copied("sparsify/topk", tmp_path) / "layers.1"
    config(folder, signed=True)
    refused(folder, "features also fire below zero")
    config(folder, signed=False, activation="relu")
    refused(folder, "activation is 'relu', and Hooke reads topk, groupmax")
    config(folder, activation="groupmax", k=7)
    refused(folder, "24 features do not make 7 groups")
    config(folder, activation="topk", k=5)
    moved = folder.rename(folder.parent / "mine")
    refused(moved, "no site of Hooke is what 'mine' means")
    moved = moved.rename(folder.parent / "model.layers.1.self_attn")
    refused(moved, "depends on the family of the model: say which model")


def test_dictionary_learning(tmp_path: Path) -> None:
    folder = copied("dictionary_learning/AutoEncoderTopK", tmp_path)
    config(folder, "config.json", trainer__k=6)
    refused(folder, "says k = 6, and the weights 5", allow_pickle=True)
    config(folder, "config.json", trainer__dict_class="IdentityDict")
    refused(folder, "dict_class is 'IdentityDict'", allow_pickle=True)
    config(folder, "config.json", trainer__dict_class="AutoEncoder", trainer__submodule_name="the_middle")
    refused(folder, "no site of Hooke is what 'the_middle' means", allow_pickle=True)
    config(folder, "config.json", trainer=None)
    refused(folder, "does not say 'dict_class'", allow_pickle=True)


def test_circuit_tracer(tmp_path: Path) -> None:
    folder = copied("circuit_tracer/per_layer_jumprelu", tmp_path)
    weights(folder / "layer_2.safetensors", **{"activation_function.threshold": torch.full((24,), -1.0)})
    refused(folder, "holds negative numbers, which it cannot")
    (folder / "layer_1.safetensors").unlink()
    refused(folder, r"has layer_2\.safetensors and not layer_1")
    for path in folder.glob("layer_*"):
        path.unlink()
    refused(folder, r"has no layer_0\.safetensors")
    folder = copied("circuit_tracer/per_layer", tmp_path)
    small = {"W_enc": torch.ones(23, 8), "W_dec": torch.ones(23, 8), "b_enc": torch.ones(23)}
    weights(folder / "layer_2.safetensors", **small)
    refused(folder, "layers have 23 to 24 features")
    clt = copied("circuit_tracer/cross_layer", tmp_path)
    weights(clt / "W_dec_1.safetensors", W_dec_1=torch.zeros(24, 3, 8))
    refused(clt, r"W_dec_1 has the shape \(24, 3, 8\), and the rest of it needs \(24, 2, 8\)")
    (clt / "W_dec_1.safetensors").unlink()
    refused(clt, r"no file .*W_dec_1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model_kind: graph\n", "model_kind is 'graph', and Hooke reads transcoder_set"),
        ("feature_input_hook: a\n", "does not say 'model_kind'"),
        ("model_kind: &a transcoder_set\n", "no plain text, number or list"),
        ("model_kind: !!python/object:os.system x\n", "no plain text, number or list"),
        ("model_kind: {a: b}\n", "no plain text"),
        ("- a\n", "line 1: a list without a key"),
        ("model_kind\n", "line 1, is no plain"),
        ("model_kind: transcoder_set\nmodel_kind: transcoder_set\n", "line 2, is no plain"),
        ("a:\n  b: c\n", "no plain"),
        ("transcoders: [a, b]\n", "cannot be read; write lists one item a line"),
        (
            "model_kind: transcoder_set\nfeature_input_hook: hook_q\nfeature_output_hook: mlp.hook_out\n",
            "no site of Hooke",
        ),
    ],
)
def test_configs_of_circuit_tracer(text: str, says: str, tmp_path: Path) -> None:
    folder = copied("circuit_tracer/per_layer", tmp_path)
    (folder / "config.yaml").write_text(text)
    refused(folder, says)


def test_a_set_that_lies_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "# of others\nmodel_kind: transcoder_set\nfeature_input_hook: 'hook_resid_mid'\n"
        'feature_output_hook: "hook_mlp_out"\ntranscoders:\n  - hf://a/b/c?revision=1\n- hf://a/b/d\nscan: null\nk: 3\n'
    )
    refused(tmp_path, "it names files elsewhere: fetch those")
    found = plain_yaml((tmp_path / "config.yaml").read_text(), "it")
    assert found["transcoders"] == ["hf://a/b/c?revision=1", "hf://a/b/d"] and found["k"] == 3 and found["scan"] is None


FUZZED = ["saelens/jumprelu", "saelens/whitened", "sparsify/topk", AE, "circuit_tracer/cross_layer", GEMMA]
FUZZED += ["saelens/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5", "saelens/llama-scope", "circuit_tracer/gemma-scope-2-clt"]


@pytest.mark.parametrize("case", FUZZED)
def test_whatever_is_changed_there_is_one_line_or_a_dictionary(case: str, tmp_path: Path) -> None:
    folder, draw = copied(case, tmp_path), random.Random(case)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = {path: path.read_bytes() for path in files}
    for _ in range(60):
        path = draw.choice(files)
        data = bytearray(kept[path])
        for _ in range(draw.choice((1, 1, 3, 20))):
            at = draw.randrange(min(len(data), draw.choice((64, 400, len(data)))))
            data[at : at + draw.choice((0, 1, 1, 1, 5))] = bytes([draw.randrange(256)])
        path.write_bytes(data)
        try:
            read_dictionary(folder, allow_pickle=True)
        except HookeError as error:
            assert "\n" not in str(error)
        path.write_bytes(kept[path])
