"""What lies in a model's folder against what is loaded: right, or refused with the file and the key named.

Each case writes a folder with plain transformers and breaks one thing in its files.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors import safe_open

import hooke
from families import CONFIGS, close, logits_of, new_hf, random_tokens
from hooke import HookeError
from hooke.model import zoo
from model_folders import Letters, config, load, refused, saved, tensors

# ---- right -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_folder_of_every_family_computes_what_was_saved(tmp_path: Path, name: str) -> None:
    hf, folder = saved(tmp_path / "model", name)
    tokens = random_tokens(1, 20)
    close(logits_of(load(folder), tokens), hf(input_ids=tokens.ids).logits, 1e-5)


def test_shards_and_half_precision(tmp_path: Path) -> None:
    hf, folder = saved(tmp_path / "model", shards="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    tokens = random_tokens(1, 20)
    close(logits_of(load(folder), tokens), hf(input_ids=tokens.ids).logits, 1e-5)
    half = load(folder, dtype="bfloat16")
    for (name, a), b in zip(half.hf.named_parameters(), hf.parameters(), strict=True):
        assert torch.equal(a, b.to(torch.bfloat16)), name


def test_older_names(tmp_path: Path) -> None:
    """Without the prefix, as GPT-2 is published with its buffers, and GPT-NeoX's head by its first name."""
    hf, folder = saved(tmp_path / "gpt2", "gpt2")
    tokens = random_tokens(1, 20)

    def as_published(data: dict[str, torch.Tensor]) -> None:
        for key in list(data):
            data[key.removeprefix("transformer.")] = data.pop(key)
        data["h.0.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
        data["h.0.attn.masked_bias"] = torch.tensor(-1e4)

    tensors(folder, as_published)
    close(logits_of(load(folder), tokens), hf(input_ids=tokens.ids).logits, 1e-5)
    hf, folder = saved(tmp_path / "neox", "neox")

    def renamed(data: dict[str, torch.Tensor]) -> None:
        data["embed_out.weight"] = data.pop(next(key for key in data if key in ("lm_head.weight", "embed_out.weight")))
        data["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = torch.ones(1)

    tensors(folder, renamed)
    close(logits_of(load(folder), tokens), hf(input_ids=tokens.ids).logits, 1e-5)


@pytest.mark.parametrize(
    "rope",
    [
        {"type": "linear", "factor": 4.0},
        {"rope_type": "dynamic", "factor": 4.0},
        {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ],
)
def test_older_names_of_rotary_scaling(tmp_path: Path, rope: dict[str, Any]) -> None:
    hf, folder = saved(tmp_path / "model")
    config(folder, rope_parameters=None, rope_scaling=rope, rope_theta=500.0)
    truth = tf.LlamaConfig(
        **{**hf.config.to_dict(), "rope_parameters": {**rope, "rope_type": rope.get("rope_type", rope.get("type"))}}
    )
    truth.rope_parameters["rope_theta"] = 500.0
    plain = tf.LlamaForCausalLM(truth).eval()
    plain.load_state_dict(hf.state_dict())
    tokens = random_tokens(1, 60)
    got = load(folder)
    close(logits_of(got, tokens), plain(input_ids=tokens.ids).logits, 1e-5)
    assert got.hf.config.rope_parameters["rope_theta"] == 500.0


def test_the_text_part_of_a_multimodal_gemma3(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = CONFIGS["gemma3"]().to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    both = tf.Gemma3Config(text_config=text, vision_config={**vision, "image_size": 28, "patch_size": 14})
    torch.manual_seed(0)
    hf = tf.Gemma3ForConditionalGeneration(both).eval()
    for parameter in hf.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    hf.save_pretrained(tmp_path / "model")
    model = load(tmp_path / "model")
    assert "multimodal gemma3; its text model is loaded" in capfd.readouterr().err
    tokens = random_tokens(1, 20)
    close(logits_of(model, tokens), hf(input_ids=tokens.ids).logits, 1e-5)
    assert model.parts.family.name == "Gemma 3"
    with pytest.raises(HookeError, match=r"multimodal.*hooke\.load its folder"):
        hooke.load(hf, tokenizer=Letters())


HUB = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
place, commit = Path(sys.argv[1]) / "hub" / "models--org--tiny", "a" * 40
os.environ["HF_HOME"] = sys.argv[1]
from families import new_hf
import hooke
(place / "refs").mkdir(parents=True)
(place / "refs" / "main").write_text(commit)
new_hf("llama").save_pretrained(place / "snapshots" / commit)
class Letters: eos_token_id = 2
print(hooke.load("org/tiny", tokenizer=Letters(), device="cpu").info["revision"])
file = place / "snapshots" / commit / "config.json"
file.write_text(file.read_text().replace('"model_type"', '"sliding_window": 8, "model_type"'))
try:
    hooke.load("org/tiny", tokenizer=Letters(), device="cpu")
except hooke.HookeError as error:
    print(error)
"""


def test_a_model_in_the_hub_s_cache_passes_the_same_checks(tmp_path: Path) -> None:
    paths = [str(Path(__file__).parents[1])]
    out = subprocess.run(
        [sys.executable, "-c", HUB, str(tmp_path), *paths], capture_output=True, text=True, timeout=300
    ).stdout.splitlines()
    assert out[0] == "a" * 40
    assert "sets sliding_window to 8" in out[1]


# ---- tensors that are refused ------------------------------------------------------------------


def test_tensors_that_would_be_left_out_or_made_up(tmp_path: Path) -> None:
    _, folder = saved(tmp_path / "model", attention_bias=False, mlp_bias=False)
    shutil.copytree(folder, tmp_path / "copy")

    def fresh(change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "copy", folder)
        tensors(folder, change)
        return folder

    q = "model.layers.1.self_attn.q_proj"
    refused(fresh(lambda t: t.update({f"{q}.bias": torch.ones(32)})), rf"holds {q}\.bias, which a LlamaForCausalLM")
    refused(fresh(lambda t: t.update({f"{q}_norm.weight": torch.ones(8)})), "has no place for")
    refused(fresh(lambda t: t.update({"score.weight": torch.ones(2, 32)})), r"holds score\.weight")
    refused(fresh(lambda t: t.update({"model.layers.3.mlp.up_proj.weight": torch.ones(56, 32)})), "layers.3")
    refused(fresh(lambda t: t.update({"h.0.attn.bias": torch.ones(32)})), r"holds h\.0\.attn\.bias")  # no buffer
    refused(fresh(lambda t: t.pop(f"{q}.weight")), rf"lacks 1 of the weights.*{q}\.weight")
    refused(fresh(lambda t: t.pop("lm_head.weight")), r"lacks 1 of the weights.*lm_head\.weight")
    refused(fresh(lambda t: t.update({f"{q}.weight": torch.ones(16, 32)})), rf"lacks 1 of the weights.*{q}\.weight")
    refused(fresh(lambda t: t.update({"norm.weight": torch.ones(32)})), "one weight twice|has no place|holds")
    refused(
        fresh(lambda t: t.update({f"{q}.weight": t[f"{q}.weight"].to(torch.int8)})), rf"{q}\.weight as I8, quantised"
    )
    small = torch.float8_e4m3fn
    refused(
        fresh(lambda t: t.update({f"{q}.weight": t[f"{q}.weight"].to(small)})), rf"{q}\.weight as F8_E4M3, quantised"
    )
    refused(fresh(lambda t: t[f"{q}.weight"][3, 5].fill_(float("nan"))), rf"{q}\.weight holds 1 numbers that are NaN")
    refused(
        fresh(lambda t: t[f"{q}.weight"][3].fill_(float("inf"))), rf"{q}\.weight holds 32 numbers that are infinite"
    )


def test_numbers_that_half_precision_cannot_hold(tmp_path: Path) -> None:
    _, folder = saved(tmp_path / "model")
    tensors(folder, lambda t: t["model.layers.2.mlp.up_proj.weight"][40, 30].fill_(1e6))
    load(folder)
    load(folder, dtype="bfloat16")
    refused(folder, r"up_proj\.weight holds 1 numbers that are infinite; .*float16 cannot hold them", dtype="float16")


def test_a_loader_that_mixes_tensors_up_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: transformers gives two matrices of one shape in the wrong places, or all but a row right."""
    _, folder = saved(tmp_path / "model")
    original = tf.AutoModelForCausalLM.from_pretrained

    def damaged(change: Callable[[Any], Any]) -> Callable[..., Any]:
        def read(*args: Any, **kwargs: Any) -> Any:
            hf, report = original(*args, **kwargs)
            with torch.no_grad():
                change(hf)
            return hf, report

        return read

    def swap(hf: Any) -> None:
        mlp = hf.model.layers[0].mlp
        mlp.gate_proj.weight, mlp.up_proj.weight = mlp.up_proj.weight, mlp.gate_proj.weight

    for change in (swap, lambda hf: hf.model.norm.weight[-1].add_(1), lambda hf: hf.lm_head.weight[-1].zero_()):
        monkeypatch.setattr(tf.AutoModelForCausalLM, "from_pretrained", damaged(change))
        refused(folder, "came out of .* with other numbers than it holds")


def test_tied_weights_that_differ(tmp_path: Path) -> None:
    hf, folder = saved(tmp_path / "model", "qwen2")
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
    tokens = random_tokens(1, 20)
    close(logits_of(load(folder), tokens), hf(input_ids=tokens.ids).logits, 1e-5)
    embedding = hf.model.embed_tokens.weight
    tensors(folder, lambda t: t.update({"lm_head.weight": embedding.clone()}))
    close(logits_of(load(folder), tokens), hf(input_ids=tokens.ids).logits, 1e-5)  # both, and the same
    tensors(folder, lambda t: t["lm_head.weight"].mul_(2))
    refused(folder, r"with other numbers, .*tie_word_embeddings")
    config(folder, tie_word_embeddings=False)
    close(logits_of(load(folder), tokens), 2 * hf(input_ids=tokens.ids).logits, 1e-5)


def test_shards_that_do_not_fit_their_index(tmp_path: Path) -> None:
    _, folder = saved(tmp_path / "model", shards="20KB")
    index = folder / "model.safetensors.index.json"
    whole = index.read_text()
    data = json.loads(whole)
    name, file = next(iter(data["weight_map"].items()))
    other = next(each for each in data["weight_map"].values() if each != file)

    def with_map(change: Callable[[dict[str, str]], Any]) -> None:
        new = json.loads(whole)
        change(new["weight_map"])
        index.write_text(json.dumps(new))

    with_map(lambda m: m.update({name: other}))
    refused(folder, f"places {name} in {other}, where it is not")
    with_map(lambda m: m.update({"model.extra.weight": other}))
    refused(folder, r"places model\.extra\.weight")
    with_map(lambda m: m.pop(name))
    refused(folder, "which model.safetensors.index.json does not list")
    index.write_text(whole)
    stray = folder / "model-00099-of-00099.safetensors"
    shutil.copy(folder / other, stray)
    refused(folder, "holds model-00099-of-00099.safetensors")
    stray.unlink()
    moved = (folder / other).rename(tmp_path / "away")
    refused(folder, f"{other} is missing")
    moved.rename(folder / other)
    load(folder)


# ---- configurations that are refused -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("llama", {"sliding_window": 8}, "sets sliding_window to 8"),
        ("llama", {"final_logit_softcapping": 30.0}, "sets final_logit_softcapping"),
        ("llama", {"attn_logit_softcapping": 50.0}, "sets attn_logit_softcapping"),
        ("llama", {"query_pre_attn_scalar": 16}, "sets query_pre_attn_scalar"),
        ("llama", {"logit_scale": 0.25}, "sets logit_scale"),
        ("llama", {"embedding_multiplier": 12.0}, "sets embedding_multiplier"),
        ("llama", {"residual_multiplier": 0.2}, "sets residual_multiplier"),
        ("llama", {"layer_types": ["sliding_attention"] * 3}, "sets layer_types"),
        ("llama", {"num_local_experts": 8}, "sets num_local_experts"),
        ("llama", {"alibi": True}, "sets alibi"),
        ("llama", {"use_qk_norm": True}, "sets use_qk_norm"),
        ("llama", {"rope_interleaved": True}, "sets rope_interleaved"),
        ("llama", {"pruned_heads": {"0": [1]}}, "sets pruned_heads"),
        ("mistral", {"attention_bias": True}, "sets attention_bias"),
        ("gemma2", {"hidden_act": "silu"}, "sets hidden_act to silu"),
        ("gpt2", {"rope_theta": 1000.0}, "sets rope_theta"),
        ("gpt2", {"num_key_value_heads": 2}, "sets num_key_value_heads"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("llama", {"rope_scaling": {"type": "mystery", "factor": 2.0}}, "kind 'mystery'"),
        ("llama", {"rope_scaling": {"factor": 2.0}}, "sets factor"),
        ("llama", {"rope_parameters": {"rope_type": "default", "factor": 2.0}}, "sets factor"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "beta_fast": 32}}, "sets beta_fast"),
        (
            "llama",
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"factor": 4.0}},
            "two things",
        ),
        ("llama", {"rope_theta": 500.0, "rope_parameters": {"rope_theta": 1000.0}}, "sets rope_theta to 500.0"),
        ("llama", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"quantised weights .*gptq"),
        ("llama", {"quantization_config": {"quant_method": "fp8"}}, r"quantised weights .*fp8"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "no language head"),
        ("llama", {"architectures": ["LlamaModel"]}, "no language head"),
    ],
)
def test_keys_that_would_not_be_read(tmp_path: Path, name: str, fields: dict[str, Any], says: str) -> None:
    _, folder = saved(tmp_path / "model", name)
    if any(key.startswith("rope_") for key in fields) and "rope_parameters" not in fields:
        config(folder, rope_parameters=None)
    config(folder, **fields)
    refused(folder, says)


def test_keys_that_change_nothing_are_said_or_passed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hf, folder = saved(tmp_path / "model")
    config(folder, unsloth_version="1", sliding_window=None, use_flash_attn=True, rope_interleaved=False, alibi=False)
    tokens = random_tokens(1, 20)
    close(logits_of(load(folder), tokens), hf(input_ids=tokens.ids).logits, 1e-5)
    assert "hooke:" not in capfd.readouterr().err
    config(folder, my_note="x", auto_map={"AutoModelForCausalLM": "mine.Mine"})
    load(folder)
    said = capfd.readouterr().err
    assert "sets my_note, which transformers does not read" in said and "is not run" in said


def test_an_adapter_beside_a_model(tmp_path: Path) -> None:
    _, folder = saved(tmp_path / "model")
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, r"holds a whole model and an adapter \(adapter_config\.json\)")


def test_a_multimodal_model_of_another_kind(tmp_path: Path) -> None:
    text = CONFIGS["llama"]().to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    both = tf.LlavaConfig(text_config=text, vision_config={**vision, "image_size": 28, "patch_size": 14})
    _, folder = saved(tmp_path / "model")
    both.save_pretrained(folder)
    refused(folder, r"multimodal model \(llava\) around a text model \(llama\); Hooke knows its text model \(Llama\)")


# ---- tokenizers --------------------------------------------------------------------------------


def test_a_tokenizer_of_another_model(glass: Any, capfd: pytest.CaptureFixture[str]) -> None:
    hf = new_hf("llama")
    with pytest.raises(HookeError, match=r"tokens beyond the 97 rows of the embedding .* belongs to another model"):
        hooke.load(hf, tokenizer=glass.tokenizer)
    from copy import deepcopy

    more = deepcopy(glass.tokenizer)
    more.add_tokens(["<extra>"])
    hooke.load(glass.hf, tokenizer=more)
    assert "1 added tokens of the tokenizer, as <extra>, have no row" in capfd.readouterr().err


def test_sentencepiece_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = saved(tmp_path / "model")
    original = __import__("importlib.util").util.find_spec
    gone = ("sentencepiece", "google.protobuf", "tiktoken")
    monkeypatch.setattr(
        "hooke.model.pretrained.importlib.util.find_spec", lambda name: None if name in gone else original(name)
    )
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    config(folder, tokenizer_class="LlamaTokenizer")
    with pytest.raises(
        HookeError, match=r"SentencePiece model .*pip install sentencepiece protobuf.*tokenizer="
    ) as caught:
        hooke.load(folder, device="cpu")
    assert "tiktoken" not in str(caught.value)
    (folder / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    with pytest.raises(HookeError, match=r"tiktoken vocabulary .*pip install tiktoken"):
        hooke.load(folder, device="cpu")


def test_zoo_models_pass_the_same_checks() -> None:
    assert hooke.load("glassllm", device="cpu").info["weights_sha256"] == zoo.weights_hash(zoo.fetch("glassllm"))
