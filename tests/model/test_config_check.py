"""Configurations as they are published: those of the families load without a word, and what they would drop is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from hooke import HookeError
from hooke.model.config_check import check_kind, check_said
from hooke.model.families import family_of
from model_folders import config, load, refused, saved, tensors

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 97,
}
_COMMON = {**_SIZES, "initializer_range": 0.02, "use_cache": True, "torch_dtype": "bfloat16"}
_DECODER = {**_COMMON, "hidden_act": "silu", "rms_norm_eps": 1e-6, "num_key_value_heads": 2, "bos_token_id": 1}
_DECODER |= {
    "eos_token_id": 2,
    "max_position_embeddings": 4096,
    "attention_dropout": 0.0,
    "transformers_version": "4.40",
}
_QWEN2 = {**_DECODER, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rope_theta": 1000000.0}
_GEMMA = {**_DECODER, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 16}
_GEMMA |= {"attention_bias": False, "cache_implementation": "hybrid", "sliding_window": 512, "rope_theta": 10000.0}
del _GEMMA["hidden_act"]
_LONG = {"type": "longrope", "long_factor": [1.1] * 4, "short_factor": [1.0] * 4}

# keys as the published files of each family have them, on small sizes
PUBLISHED: dict[str, dict[str, Any]] = {
    "llama 1": {**_DECODER, "model_type": "llama", "max_sequence_length": 2048, "pad_token_id": 0},
    "llama 2": {**_DECODER, "model_type": "llama", "pretraining_tp": 1, "rope_scaling": None},
    "llama 3.2": {
        **_DECODER, "model_type": "llama", "head_dim": 8, "mlp_bias": False, "rope_theta": 500000.0,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 2048, "rope_type": "llama3"},
    },
    "smollm2": {**_DECODER, "model_type": "llama", "is_llama_config": True, "rope_interleaved": False},
    "mistral": {**_DECODER, "model_type": "mistral", "sliding_window": 4096},
    "mistral without a window": {**_DECODER, "model_type": "mistral", "sliding_window": None, "head_dim": 8},
    "qwen2": {**_QWEN2, "sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 3, "use_mrope": False},
    "qwen2, a window unasked": {**_QWEN2, "sliding_window": 32768},
    "qwen2 with yarn": {
        **_QWEN2, "sliding_window": 4096, "use_sliding_window": False,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
    },
    "qwen3": {**_DECODER, "model_type": "qwen3", "head_dim": 16, "sliding_window": None, "use_sliding_window": False},
    "gemma 2": {
        **_GEMMA, "model_type": "gemma2", "hidden_act": "gelu_pytorch_tanh", "sliding_window_size": 512,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    },
    "gemma 3": {
        **_GEMMA, "model_type": "gemma3_text", "rope_local_base_freq": 10000, "sliding_window_pattern": 2,
        "attn_logit_softcapping": None, "final_logit_softcapping": None, "rope_scaling": None,
    },
    "gpt-2": {
        "model_type": "gpt2", "activation_function": "gelu_new", "n_ctx": 64, "n_embd": 32, "n_head": 4, "n_layer": 2,
        "n_positions": 64, "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.1, "summary_type": "cls_index",
        "task_specific_params": {"text-generation": {"do_sample": True}}, "vocab_size": 97,
    },
    "pythia": {
        **_COMMON, "model_type": "gpt_neox", "hidden_act": "gelu", "layer_norm_eps": 1e-5, "rotary_emb_base": 10000,
        "rotary_pct": 0.25, "use_parallel_residual": True, "max_position_embeddings": 64,
    },
    "phi 3": {
        **_DECODER, "model_type": "phi3", "embd_pdrop": 0.0, "original_max_position_embeddings": 4096,
        "pad_token_id": 3, "rope_scaling": None, "sliding_window": 2047, "attention_bias": False,
    },
    "phi 3, long": {
        **_DECODER, "model_type": "phi3", "original_max_position_embeddings": 1024, "pad_token_id": 3,
        "rope_scaling": _LONG, "sliding_window": 262144,
    },
    "olmo 2": {**_DECODER, "model_type": "olmo2", "attention_bias": False, "rope_scaling": None, "pad_token_id": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_are_taken(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    raw, where = PUBLISHED[name], tmp_path / "config.json"
    where.write_text(json.dumps(raw))
    made = AutoConfig.from_pretrained(tmp_path)
    family_of(made)
    check_kind(raw, where)
    check_said(raw, made, where)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("llama", {"is_causal": False}, "sets is_causal to False: its tokens attend to what comes after"),
        ("gemma3", {"use_bidirectional_attention": True}, "sets use_bidirectional_attention to True: its tokens"),
        ("llama", {"causal": False}, "sets causal to False"),
        ("llama", {"use_causal_mask": False}, "sets use_causal_mask to False"),
        ("llama", {"use_rope": False}, "sets use_rope to False"),
        ("qwen2", {"qkv_bias": False}, "sets qkv_bias to False"),
        ("llama", {"rms_norm_eps": None, "layer_norm_eps": 0.1}, "sets layer_norm_eps to 0.1"),
        ("llama", {"rms_norm_eps": None, "layer_norm_epsilon": 0.1}, "sets layer_norm_epsilon to 0.1"),
        ("gpt2", {"layer_norm_epsilon": None, "layer_norm_eps": 0.1}, "sets layer_norm_eps to 0.1"),
        ("neox", {"layer_norm_eps": None, "rms_norm_eps": 0.1}, "sets rms_norm_eps to 0.1"),
        (
            "llama",
            {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 100.0}}},
            "rotary parameters for full_attention, a kind of layer",
        ),
    ],
)
def test_what_would_be_computed_otherwise_is_named(
    tmp_path: Path, name: str, fields: dict[str, Any], says: str
) -> None:
    _, folder = saved(tmp_path / "model", name)
    config(folder, **fields)
    refused(folder, says)


def test_an_epsilon_beside_the_family_s_own_is_of_another_program(tmp_path: Path) -> None:
    _, folder = saved(tmp_path / "model")
    config(folder, layer_norm_eps=0.1)
    load(folder)


def test_a_value_of_a_wrong_type_is_told_whole(tmp_path: Path) -> None:
    _, folder = saved(tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mlp_bias": None}))
    refused(folder, "'mlp_bias' expected bool, got NoneType")


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_rotary_frequencies_that_older_files_keep(tmp_path: Path, times: float) -> None:
    """They are made from the configuration; others in the file are another model."""
    _, folder = saved(tmp_path / "model")
    kept = {f"model.layers.{n}.self_attn.rotary_emb.inv_freq": 10000.0 ** -(torch.arange(4) / 4) for n in range(3)}
    tensors(folder, lambda data: data.update({key: (times * x).half() for key, x in kept.items()}))
    if times == 1:
        load(folder)
    else:
        refused(folder, r"holds model\.layers\.0\.self_attn\.rotary_emb\.inv_freq, other rotary frequencies")


def test_frequencies_before_linear_scaling(tmp_path: Path) -> None:
    """As older Llamas with linear scaling kept them: the scaling was applied to the positions."""
    _, folder = saved(tmp_path / "model", rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0})
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    tensors(folder, lambda data: data.update({name: 10000.0 ** -(torch.arange(4) / 4)}))
    load(folder)


def test_an_architecture_is_asked_before_anything_else() -> None:
    with pytest.raises(HookeError, match="no language head"):
        check_kind({"architectures": ["Gemma3TextModel"]}, Path("config.json"))
