"""Adapters that the real PEFT writes: merged they compute what PEFT computes, or they are refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import hooke
from families import close, logits_of, new_hf, random_tokens
from hooke import HookeError

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning"
)  # PEFT's own use of transformers
peft = pytest.importorskip("peft", reason="the real PEFT is not installed")


class Letters:
    eos_token_id = 2


def written(tmp_path: Path, name: str, **lora: Any) -> tuple[Any, Path, Path]:
    """PEFT's model, its adapter's folder and its base's folder."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    new_hf(name).save_pretrained(base)
    settings = {"r": 4, "lora_alpha": 6, "init_lora_weights": False, "task_type": "CAUSAL_LM", **lora}
    torch.manual_seed(0)
    model = peft.get_peft_model(new_hf(name), peft.LoraConfig(**settings)).eval()
    with warnings.catch_warnings():  # PEFT's own, about what is refused below
        warnings.simplefilter("ignore")
        model.save_pretrained(adapter, save_embedding_layers="embed_tokens" in lora["target_modules"])
    return model, adapter, base


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("llama", {"target_modules": ["q_proj", "v_proj"]}),
        ("llama", {"target_modules": "all-linear"}),
        ("llama", {"target_modules": ["q_proj", "down_proj"], "use_rslora": True}),
        (
            "llama",
            {"target_modules": ["q_proj", "up_proj"], "alpha_pattern": {"up_proj": 2}, "rank_pattern": {"q_proj": 2}},
        ),
        ("llama", {"target_modules": ["q_proj", "up_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 3}}),
        ("llama", {"target_modules": r".*\.(1|2)\..*(gate|up)_proj"}),
        ("llama", {"target_modules": ["q_proj"], "layers_to_transform": [0, 2]}),
        ("llama", {"target_modules": ["q_proj"], "layers_to_transform": 1, "layers_pattern": "layers"}),
        ("llama", {"target_modules": ["q_proj", "k_proj"], "exclude_modules": ["layers.1.self_attn.k_proj"]}),
        ("llama", {"target_modules": ["lm_head", "o_proj"]}),
        ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
        ("gpt2", {"target_modules": ["c_proj"], "fan_in_fan_out": True}),
        ("gemma2", {"target_modules": ["q_proj", "down_proj"]}),
        ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"]}),
        ("neox", {"target_modules": ["query_key_value", "dense"]}),
    ],
)
def test_what_peft_writes_computes_what_peft_computes(tmp_path: Path, name: str, lora: dict[str, Any]) -> None:
    model, adapter, base = written(tmp_path, name, **lora)
    tokens = random_tokens(1, 20)
    with torch.no_grad():
        wanted = model(input_ids=tokens.ids).logits
    close(logits_of(hooke.load(adapter, base=base, tokenizer=Letters(), device="cpu"), tokens), wanted, 1e-5)
    plain = logits_of(hooke.load(base, tokenizer=Letters(), device="cpu"), tokens)
    assert float((plain - wanted).abs().max() / wanted.abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("lora", "says"),
    [
        ({"target_modules": ["q_proj"], "use_dora": True}, "DoRA"),
        ({"target_modules": ["q_proj"], "bias": "lora_only"}, "biases of the base were trained"),
        ({"target_modules": ["q_proj"], "lora_bias": True}, "'lora_bias'"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens.* is not plain LoRA"),
        (
            {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [3, 4]}},
            "'trainable_token_indices'",
        ),
        ({"target_modules": ["q_proj"], "layer_replication": [(0, 2), (1, 3)]}, "'layer_replication'"),
    ],
)
def test_what_is_more_than_plain_lora_is_refused(tmp_path: Path, lora: dict[str, Any], says: str) -> None:
    _, adapter, base = written(tmp_path, "llama", **lora)
    with pytest.raises(HookeError, match=says) as caught:
        hooke.load(adapter, base=base, tokenizer=Letters(), device="cpu")
    assert "\n" not in str(caught.value)
