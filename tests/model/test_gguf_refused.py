"""A GGUF file that would be read wrongly is refused by name: keys, tensors and headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gguf_files as files
from hooke.errors import HookeError
from hooke.model import zoo


@pytest.mark.parametrize(
    ("arch", "keys", "says"),
    [
        ("llama", {"attn_logit_softcapping": 50.0}, r"llama\.attn_logit_softcapping"),
        ("llama", {"final_logit_softcapping": 30.0}, r"llama\.final_logit_softcapping"),
        ("llama", {"logit_scale": 0.25}, r"llama\.logit_scale"),
        ("llama", {"embedding_scale": 12.0}, r"llama\.embedding_scale"),
        ("llama", {"residual_scale": 0.22}, r"llama\.residual_scale"),
        ("llama", {"attention.scale": 0.1}, r"llama\.attention\.scale"),
        ("llama", {"attention.value_length": 4}, r"llama\.attention\.value_length"),
        ("llama", {"attention.key_length": 16, "attention.value_length": 16}, r"llama\.attention\.key_length"),
        ("llama", {"attention.max_alibi_bias": 8.0}, r"llama\.attention\.max_alibi_bias"),
        ("llama", {"attention.clamp_kqv": 8.0}, r"llama\.attention\.clamp_kqv"),
        ("llama", {"attention.causal": False}, r"llama\.attention\.causal"),
        ("llama", {"rope.dimension_count": 4}, r"llama\.rope\.dimension_count"),
        ("llama", {"rope.scaling.type": "dynamic"}, r"llama\.rope\.scaling\.type"),
        ("llama", {"rope.scaling.type": "longrope"}, r"lacks rope_factors_long\.weight"),
        ("llama", {"rope.scaling.type": "yarn"}, r"lacks llama\.rope\.scaling\.factor"),
        ("llama", {"rope.scaling.yarn_log_multiplier": 0.1}, r"yarn_log_multiplier"),
        ("llama", {"rope.scaling.factor": -2.0}, r"llama\.rope\.scaling\.factor"),
        ("llama", {"rope.freq_base_swa": 100.0}, r"llama\.rope\.freq_base_swa"),
        ("llama", {"expert_count": 8}, r"llama\.expert_count"),
        ("llama", {"head_count": [4, 2, 4]}, r"llama\.head_count"),
        ("llama", {"attention.head_count": [4, 2, 4]}, r"llama\.attention\.head_count"),
        ("llama", {"feed_forward_length": [64, 64, 32]}, r"llama\.feed_forward_length"),
        ("llama", {"use_parallel_residual": True}, r"llama\.use_parallel_residual"),
        ("llama", {"something_new": 1.5}, r"llama\.something_new"),
        ("llama", {"tensor_data_layout": "reference"}, r"llama\.tensor_data_layout"),
        ("llama", {"context_length": None}, r"lacks llama\.context_length"),
        ("llama", {"attention.layer_norm_rms_epsilon": None}, r"lacks llama\.attention\.layer_norm_rms_epsilon"),
        ("llama", {"block_count": 2}, r"llama\.block_count"),
        ("llama", {"block_count": 4_000_000}, r"llama\.block_count"),
        ("qwen2", {"attention.sliding_window": 30}, r"qwen2\.attention\.sliding_window"),
        ("qwen3", {"attention.sliding_window": 30}, r"qwen3\.attention\.sliding_window"),
        ("gemma2", {"attention.sliding_window": None}, r"lacks gemma2\.attention\.sliding_window"),
        ("gemma3", {"rope.freq_base": None}, r"lacks gemma3\.rope\.freq_base"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, r"gemma3\.attn_logit_softcapping"),
        ("gemma3", {"attention.sliding_window_pattern": [True]}, r"gemma3\.attention\.sliding_window_pattern"),
        ("gpt2", {"rope.freq_base": 10000.0}, r"gpt2\.rope\.freq_base"),
        ("gpt2", {"attention.head_count_kv": 2}, r"gpt2\.attention\.head_count_kv"),
        ("gpt2", {"attention.sliding_window": 9}, r"gpt2\.attention\.sliding_window"),
        ("gpt2", {"attention.layer_norm_epsilon": None}, r"lacks gpt2\.attention\.layer_norm_epsilon"),
    ],
)
def test_keys_that_change_the_numbers_are_refused_by_name(
    tmp_path: Path, arch: str, keys: dict[str, Any], says: str
) -> None:
    truth = files.model_of(files.configs()[arch][1])
    with pytest.raises(HookeError, match=says) as caught:
        files.converted(files.write_model(tmp_path / "tiny.gguf", arch, truth, keys))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arch", "extra", "gone", "says"),
    [
        ("llama", {"blk.0.attn_sub_norm.weight": [1.0] * 32}, (), r"blk\.0\.attn_sub_norm\.weight"),
        ("llama", {"blk.3.attn_q.weight": [[1.0] * 32] * 32}, (), "block_count"),
        ("llama", {"blk.0.attn_q_norm.weight": [1.0] * 8}, (), r"blk\.0\.attn_q_norm\.weight"),
        ("llama", {"output_norm.bias": [1.0] * 32}, (), r"output_norm\.bias"),
        ("llama", {"output.bias": [1.0] * files.VOCAB}, (), r"output\.bias"),
        ("llama", {"position_embd.weight": [[1.0] * 32] * 256}, (), r"position_embd\.weight"),
        ("llama", {"blk.0.attn_norm.weight": [1.0] * 16}, (), r"blk\.0\.attn_norm\.weight: the shape"),
        ("llama", {"rope_freqs.weight": [1.0, 2.0]}, (), r"rope_freqs\.weight: 2 factors for 4"),
        ("llama", {"rope_freqs.weight": [1.0, 0.0, 1.0, 1.0]}, (), r"rope_freqs\.weight: factors that"),
        ("llama", {}, ("blk.1.ffn_up.weight",), r"lacks blk\.1\.ffn_up\.weight"),
        ("llama", {}, ("output_norm.weight",), r"lacks output_norm\.weight"),
        ("llama", {}, ("token_embd.weight",), r"lacks token_embd\.weight"),
        ("qwen2", {}, ("blk.0.attn_q.bias", "blk.1.attn_q.bias", "blk.2.attn_q.bias"), r"lacks blk\.0\.attn_q\.bias"),
        ("qwen3", {}, ("blk.2.attn_k_norm.weight",), r"lacks blk\.2\.attn_k_norm\.weight"),
        ("gemma2", {}, ("blk.0.post_ffw_norm.weight",), r"lacks blk\.0\.post_ffw_norm\.weight"),
        ("gemma3", {"rope_freqs.weight": [2.0] * 8}, (), r"rope_freqs\.weight"),
        ("gpt2", {}, ("blk.0.attn_qkv.bias",), r"lacks blk\.0\.attn_qkv\.bias"),
        ("gpt2", {"rope_freqs.weight": [2.0] * 4}, (), r"rope_freqs\.weight"),
    ],
)
def test_every_tensor_has_a_place_and_every_place_a_tensor(
    tmp_path: Path, arch: str, extra: dict[str, Any], gone: tuple[str, ...], says: str
) -> None:
    truth = files.model_of(files.configs()[arch][1])
    tensors = {**files.tensors_of(arch, truth), **{k: np.asarray(v, np.float32) for k, v in extra.items()}}
    for name in gone:
        tensors.pop(name)
    with pytest.raises(HookeError, match=says) as caught:
        files.converted(files.write(tmp_path / "tiny.gguf", arch, files.keys_of(arch, truth.config), tensors))
    assert "\n" not in str(caught.value)


def test_other_keys_are_harmless_said_or_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    truth = files.model_of(files.configs()["llama"][1])
    keys = {"quantize.imatrix.file": "x", "general.url": "y", "split.count": 1}
    files.same(files.write_model(tmp_path / "a.gguf", "llama", truth, other=keys), truth)
    assert "hooke:" not in capfd.readouterr().err
    files.same(files.write_model(tmp_path / "b.gguf", "llama", truth, other={"someone.made_this": "z"}), truth)
    assert "someone.made_this; they are not read" in capfd.readouterr().err
    with pytest.raises(HookeError, match="holds no model"):
        files.converted(files.write_model(tmp_path / "c.gguf", "llama", truth, other={"general.type": "adapter"}))
    with pytest.raises(HookeError, match=r"tokenizer\.ggml\.tokens: 258 tokens for an embedding of 200"):
        tensors = files.tensors_of("llama", truth)
        for name in ("token_embd.weight", "output.weight"):
            tensors[name] = tensors[name][:200]
        files.converted(files.write(tmp_path / "d.gguf", "llama", files.keys_of("llama", truth.config), tensors))


def test_headers_that_say_a_thing_twice_or_at_length(tmp_path: Path) -> None:
    truth = files.model_of(files.configs()["llama"][1])
    path = files.write_model(tmp_path / "a.gguf", "llama", truth, {"rope.freq_base": 777.0, "rope.freq_bose": 1.0})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"rope.freq_bose", b"rope.freq_base"))
    with pytest.raises(HookeError, match=r"says llama\.rope\.freq_base twice"):
        files.converted(path)
    path.write_bytes(whole.replace(b"blk.1.ffn_up.weight", b"blk.0.ffn_up.weight"))
    with pytest.raises(HookeError, match=r"holds blk\.0\.ffn_up\.weight twice"):
        files.converted(path)
    long = files.write_model(tmp_path / "b.gguf", "llama", truth, {"attention.head_count": [4] * 5000})
    with pytest.raises(HookeError, match=r"llama\.attention\.head_count"):
        files.converted(long)
    at = whole.index(b"tokenizer.ggml.token_type") + len(b"tokenizer.ggml.token_type") + 8
    path.write_bytes(whole[:at] + (1 << 40).to_bytes(8, "little") + whole[at + 8 :])
    with pytest.raises(HookeError, match="an array of 1,099,511,627,776 values"):
        files.converted(path)


def test_a_folder_of_the_old_conversion_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.setenv("HOOKE_HOME", str(tmp_path / "home"))
    truth = files.model_of(files.configs()["llama"][1])
    path = files.write_model(tmp_path / "tiny.gguf", "llama", truth)
    folder = zoo.convert_gguf(path, progress=False)
    manifest = json.loads((folder / "hooke.json").read_text())
    del manifest["conversion"]
    (folder / "hooke.json").write_text(json.dumps(manifest))
    (folder / "config.json").write_text("{}")
    assert not [row for row in zoo.known_models() if row["name"] == folder.name]
    assert zoo.convert_gguf(path, progress=False) == folder
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
