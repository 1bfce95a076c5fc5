"""A model from a GGUF file computes what the model that was written into it computes.

The truth is a plain transformers model, configured by hand; the file is written from its weights with the keys that
llama.cpp's converter writes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gguf_files as files
from hooke.errors import HookeError

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 64, "rope_theta": 1000.0}


def differs(path_model: Any, other: Any) -> None:
    """The case can fail: without what it is about, the logits are others."""
    a, b = files.logits(path_model, 200), files.logits(other, 200)
    assert float((a - b).abs().max() / b.abs().max()) > 1e-3


def rope_freqs(config: Any, device: str = "cpu") -> np.ndarray:
    """The tensor that the converter writes for Llama 3: the factor by which each plain frequency is divided."""
    p = config.rope_parameters
    dim = config.head_dim or config.hidden_size // config.num_attention_heads
    made = []
    for i in range(0, dim, 2):
        wave = 2 * math.pi * p["rope_theta"] ** (i / dim)
        low = p["original_max_position_embeddings"] / p["low_freq_factor"]
        high = p["original_max_position_embeddings"] / p["high_freq_factor"]
        if wave < high:
            made.append(1.0)
        elif wave > low:
            made.append(p["factor"])
        else:
            smooth = (p["original_max_position_embeddings"] / wave - p["low_freq_factor"]) / (
                p["high_freq_factor"] - p["low_freq_factor"]
            )
            made.append(1 / ((1 - smooth) / p["factor"] + smooth))
    return np.array(made, np.float32)


@pytest.mark.parametrize("case", list(files.configs()))
def test_every_family_computes_what_was_written(tmp_path: Path, case: str) -> None:
    arch, config = files.configs()[case]
    truth = files.model_of(config)
    got = files.same(files.write_model(tmp_path / "tiny.gguf", arch, truth), truth)
    wanted = truth.state_dict()
    assert got.state_dict().keys() == wanted.keys()
    for name, value in got.state_dict().items():
        assert torch.allclose(value, wanted[name], atol=2e-7, rtol=0), name  # one is added to Gemma's norms and taken


def plain(config: Any, **changes: Any) -> Any:
    """The same weights under another configuration."""
    from copy import deepcopy

    other = deepcopy(config)
    for key, value in changes.items():
        setattr(other, key, value)
    return files.model_of(other)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3_scaling_comes_out_of_its_tensor(tmp_path: Path, factor: float) -> None:
    import transformers as tf

    rope = {**LLAMA3, "factor": factor}
    config = tf.LlamaConfig(**files.sizes(head_dim=32), rope_parameters=rope)
    truth = files.model_of(config)
    path = files.write_model(tmp_path / "tiny.gguf", "llama", truth, extra={"rope_freqs.weight": rope_freqs(config)})
    got = files.same(path, truth)
    found = got.config.rope_parameters
    assert found["rope_type"] == "llama3" and found["factor"] == factor  # the formula itself, found again
    low, high = (found["original_max_position_embeddings"] / found[f"{end}_freq_factor"] for end in ("low", "high"))
    assert (low, high) == pytest.approx((64, 16), rel=1e-4)
    differs(truth, plain(config, rope_parameters={"rope_type": "default", "rope_theta": 1000.0}))


def test_the_published_scaling_of_llama_3_is_found(tmp_path: Path) -> None:
    """Real sizes: base 500,000, heads of 64 and 128, and the original length of 8,192, which no key says."""
    import transformers as tf
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    from hooke.model.gguf_rope import _llama3

    for dim, factor in ((64, 32.0), (128, 8.0)):
        rope = {**LLAMA3, "factor": factor, "original_max_position_embeddings": 8192, "rope_theta": 500000.0}
        config = tf.LlamaConfig(hidden_size=8 * dim, num_attention_heads=8, head_dim=dim, rope_parameters=rope)
        found = _llama3([float(x) for x in rope_freqs(config)], 500000.0, dim, 131072)
        assert found is not None
        back = tf.LlamaConfig(hidden_size=8 * dim, num_attention_heads=8, head_dim=dim, rope_parameters=found)
        wanted, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        torch.testing.assert_close(ROPE_INIT_FUNCTIONS["llama3"](back, "cpu")[0], wanted, rtol=1e-5, atol=0)
        assert {k: found[k] for k in rope} == rope


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3", "phi3"])
def test_any_factors_are_applied_one_by_one(tmp_path: Path, arch: str) -> None:
    """Factors that no formula gives: each frequency of a plain model divided by hand."""
    _, config = files.configs()[arch]
    factors = np.array([1.5, 1.0, 7.0, 2.0, 3.0, 11.0, 1.25, 9.0][: (getattr(config, "head_dim", None) or 8) // 2])
    truth = files.model_of(config)
    rotary = truth.model.rotary_emb
    rotary.inv_freq.div_(torch.tensor(factors, dtype=torch.float32))
    files.same(files.write_model(tmp_path / "tiny.gguf", arch, truth, extra={"rope_freqs.weight": factors}), truth)
    differs(truth, files.model_of(config))


@pytest.mark.parametrize(
    ("keys", "divide", "times"),
    [
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, 4.0, 1.0),
        ({"rope.scaling.factor": 4.0}, 4.0, 1.0),  # a factor alone is linear
        ({"rope.scale_linear": 4.0}, 4.0, 1.0),  # its old name
        ({"rope.scaling.type": "none"}, 1.0, 1.0),
        ({"rope.scaling.attn_factor": 1.5}, 1.0, 1.5),
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 2.0, "rope.scaling.attn_factor": 1.5}, 2.0, 1.5),
    ],
)
def test_linear_scaling_and_attention_factors(
    tmp_path: Path, keys: dict[str, Any], divide: float, times: float
) -> None:
    _, config = files.configs()["llama"]
    truth = files.model_of(config)
    truth.model.rotary_emb.inv_freq.div_(divide)
    truth.model.rotary_emb.attention_scaling = times
    files.same(files.write_model(tmp_path / "tiny.gguf", "llama", truth, keys), truth)
    if (divide, times) != (1, 1):
        differs(truth, files.model_of(config))


def test_linear_scaling_of_gemma3_is_for_full_attention_only(tmp_path: Path) -> None:
    import transformers as tf

    rope = {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0}
    local = {"rope_type": "default", "rope_theta": 300.0}
    size = files.sizes(head_dim=16, sliding_window=7, tie_word_embeddings=True, query_pre_attn_scalar=16)
    types = ["full_attention", "sliding_attention", "sliding_attention"]
    ropes = {"full_attention": rope, "sliding_attention": local}
    config = tf.Gemma3TextConfig(**size, layer_types=types, rope_parameters=ropes)
    truth = files.model_of(config)
    keys = {
        "rope.scaling.type": "linear",
        "rope.scaling.factor": 8.0,
        "rope.freq_base_swa": 300.0,
        "attention.sliding_window_pattern": [False, True, True],
    }
    files.same(files.write_model(tmp_path / "tiny.gguf", "gemma3", truth, keys), truth)
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    truth = files.model_of(tf.Gemma3TextConfig(**size, layer_types=types, rope_parameters=ropes))
    keys["attention.sliding_window_pattern"] = 2
    files.same(files.write_model(tmp_path / "two.gguf", "gemma3", truth, keys), truth)


@pytest.mark.parametrize("betas", [{}, {"beta_fast": 16.0, "beta_slow": 2.0}])
def test_yarn(tmp_path: Path, betas: dict[str, float]) -> None:
    import transformers as tf

    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1000.0, **betas}
    config = tf.Qwen2Config(**files.sizes(hidden_size=128), rope_parameters=rope)
    truth = files.model_of(config)
    keys = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 64,
        **{f"rope.scaling.yarn_{key}": value for key, value in betas.items()},
    }
    files.same(files.write_model(tmp_path / "tiny.gguf", "qwen2", truth, keys), truth)
    differs(truth, plain(config, rope_parameters={"rope_type": "default", "rope_theta": 1000.0}))


@pytest.mark.parametrize("partial", [1.0, 0.75])
def test_longrope_of_phi3(tmp_path: Path, partial: float) -> None:
    """Long factors beyond the original length, short ones within it, and the attention factor of the file."""
    import transformers as tf

    count = int(16 * partial) // 2
    short, long = [1.0 + i / 10 for i in range(count)], [2.0 + i for i in range(count)]
    rope = {"rope_type": "longrope", "short_factor": short, "long_factor": long, "rope_theta": 1000.0}
    rope |= {"original_max_position_embeddings": 64, "partial_rotary_factor": partial}
    config = tf.Phi3Config(
        **files.sizes(hidden_size=64), rope_parameters=rope, original_max_position_embeddings=64, sliding_window=100
    )
    truth = files.model_of(config)
    attention = math.sqrt(1 + math.log(files.CONTEXT / 64) / math.log(64))
    keys = {
        "rope.scaling.original_context_length": 64,
        "rope.scaling.attn_factor": attention,
        "attention.sliding_window": 100,
    }
    extra = {"rope_factors_short.weight": short, "rope_factors_long.weight": long}
    files.same(files.write_model(tmp_path / "tiny.gguf", "phi3", truth, keys, extra), truth)
    differs(truth, plain(config, sliding_window=None))
    with pytest.raises(HookeError, match=r"lacks phi3\.rope\.scaling\.attn_factor"):
        keys["rope.scaling.attn_factor"] = None
        files.converted(files.write_model(tmp_path / "without.gguf", "phi3", truth, keys, extra))
    with pytest.raises(HookeError, match=r"lacks rope_factors_long\.weight"):
        extra.pop("rope_factors_long.weight")
        files.converted(files.write_model(tmp_path / "half.gguf", "phi3", truth, keys, extra))


@pytest.mark.parametrize("arch", ["gemma2", "gemma3"])
def test_the_attention_scale_of_gemma(tmp_path: Path, arch: str) -> None:
    import transformers as tf

    kind = tf.Gemma2Config if arch == "gemma2" else tf.Gemma3TextConfig
    size = files.sizes(head_dim=16, sliding_window=7, tie_word_embeddings=True)
    truth = files.model_of(kind(**size, query_pre_attn_scalar=50))
    files.same(files.write_model(tmp_path / "tiny.gguf", arch, truth, {"attention.scale": 50**-0.5}), truth)
    # the 27B models are known by their depth: they divide by the share of a head in the width
    layers = 46 if arch == "gemma2" else 62
    deep = files.model_of(kind(**{**size, "num_hidden_layers": layers, "query_pre_attn_scalar": 8}))
    files.same(files.write_model(tmp_path / "deep.gguf", arch, deep), deep, 1e-4)


def test_soft_caps_that_a_gemma2_file_does_not_state(tmp_path: Path) -> None:
    import transformers as tf

    size = files.sizes(head_dim=16, sliding_window=7, tie_word_embeddings=True, query_pre_attn_scalar=16)
    truth = files.model_of(tf.Gemma2Config(**size, attn_logit_softcapping=50.0, final_logit_softcapping=30.0))
    keys = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    files.same(files.write_model(tmp_path / "tiny.gguf", "gemma2", truth, keys), truth)


def test_a_llama_with_a_window_is_a_mistral(tmp_path: Path) -> None:
    import transformers as tf

    truth = files.model_of(tf.MistralConfig(**files.sizes(head_dim=8), sliding_window=30))
    path = files.write_model(tmp_path / "tiny.gguf", "llama", truth, {"attention.sliding_window": 30})
    assert files.same(path, truth).config.model_type == "mistral"
    wide = files.write_model(tmp_path / "wide.gguf", "llama", truth, {"attention.sliding_window": 4096})
    assert files.converted(wide).config.model_type == "llama"  # it hides nothing within the context


def test_an_output_matrix_of_its_own_and_the_same_one_twice(tmp_path: Path) -> None:
    _, config = files.configs()["llama"]
    truth = files.model_of(config)
    tensors = files.tensors_of("llama", truth)
    tensors["output.weight"] = tensors["token_embd.weight"]
    path = files.write(tmp_path / "twice.gguf", "llama", files.keys_of("llama", config), tensors)
    truth.lm_head.weight.copy_(truth.model.embed_tokens.weight)
    assert files.same(path, truth).config.tie_word_embeddings


def test_biases_of_queries_keys_and_values_without_one_of_the_output(tmp_path: Path) -> None:
    import transformers as tf

    truth = files.model_of(tf.LlamaConfig(**files.sizes(), attention_bias=True))
    tensors = files.tensors_of("llama", truth)
    for layer in range(3):
        tensors.pop(f"blk.{layer}.attn_output.bias")
        truth.model.layers[layer].self_attn.o_proj.bias.zero_()
    keys = files.keys_of("llama", truth.config)
    files.same(files.write(tmp_path / "tiny.gguf", "llama", keys, tensors), truth)
    tensors.pop("blk.1.attn_k.bias")
    with pytest.raises(HookeError, match=r"lacks blk\.1\.attn_k\.bias \(a Llama needs it\)"):
        files.converted(files.write(tmp_path / "less.gguf", "llama", keys, tensors))


def test_keys_that_a_file_may_leave_out(tmp_path: Path) -> None:
    """llama.cpp's defaults: as many key heads as heads, the width's share a head, all of it rotated, base 10,000."""
    import transformers as tf

    left = ("attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count")
    for arch, kind in (("llama", tf.LlamaConfig), ("qwen2", tf.Qwen2Config), ("phi3", tf.Phi3Config)):
        truth = files.model_of(kind(**files.sizes(num_key_value_heads=4)))
        path = files.write_model(tmp_path / f"{arch}.gguf", arch, truth, dict.fromkeys([*left, "rope.freq_base"]))
        files.same(path, truth)


# ---- quantised types: dequantised here by hand, block by block ---------------------------------


def by_hand(kind: str, raw: bytes) -> list[float]:
    """One block of a type, by its definition."""

    def half(at: int) -> float:
        return float(np.frombuffer(raw[at : at + 2], np.float16)[0])

    if kind == "Q8_0":
        return [half(0) * int(q) for q in np.frombuffer(raw[2:], np.int8)]
    if kind in ("Q4_0", "Q4_1"):
        start = 2 if kind == "Q4_0" else 4
        q = [b & 15 for b in raw[start:]] + [b >> 4 for b in raw[start:]]
        return [half(0) * (n - 8) for n in q] if kind == "Q4_0" else [half(0) * n + half(2) for n in q]
    if kind == "Q5_0":
        high = int.from_bytes(raw[2:6], "little")
        q = [b & 15 for b in raw[6:]] + [b >> 4 for b in raw[6:]]
        return [half(0) * ((n | ((high >> i) & 1) << 4) - 16) for i, n in enumerate(q)]
    assert kind == "Q6_K"
    low, high, scales = raw[:128], raw[128:192], np.frombuffer(raw[192:208], np.int8)
    out = [0.0] * 256
    for i in range(256):
        part, within = divmod(i, 128)
        quarter, at = divmod(within, 32)
        nibble = low[64 * part + at + 32 * (quarter % 2)]
        q = (nibble & 15 if quarter < 2 else nibble >> 4) | ((high[32 * part + at] >> 2 * quarter) & 3) << 4
        out[i] = half(208) * int(scales[i // 16]) * (q - 32)
    return out


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "BF16", "F16"])
def test_quantised_matrices_are_the_file_s_numbers(tmp_path: Path, kind: str) -> None:
    import gguf

    _, config = files.configs()["qwen2"]
    truth = files.model_of(config)
    path = files.write_model(
        tmp_path / "tiny.gguf", "qwen2", truth, kinds={"ffn_": kind, "attn_": kind, "token_": kind}
    )
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    state = truth.state_dict()
    for name, theirs in (("blk.1.ffn_down", "model.layers.1.mlp.down_proj"), ("token_embd", "model.embed_tokens")):
        data, weight = tensors[f"{name}.weight"].data, state[f"{theirs}.weight"]
        if kind == "F16":
            weight.copy_(torch.from_numpy(data.astype(np.float32)))
        elif kind == "BF16":
            weight.copy_(torch.from_numpy((data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)))
        else:
            size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]
            blocks = data.reshape(-1, size)
            weight.copy_(torch.tensor([by_hand(kind, row.tobytes()) for row in blocks]).reshape(weight.shape))
    got = files.converted(path).state_dict()
    for theirs in ("model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight"):
        torch.testing.assert_close(got[theirs], state[theirs], rtol=1e-6, atol=0)


def test_six_bit_blocks_with_reordered_rows(tmp_path: Path) -> None:
    """A type that only llama.cpp writes, as random bytes, in a matrix whose rows are reordered: rows keep blocks."""
    import gguf
    import transformers as tf

    truth = files.model_of(tf.LlamaConfig(**files.sizes(hidden_size=256)))
    tensors = files.tensors_of("llama", truth)
    random = np.random.default_rng(0)
    raw = random.integers(0, 256, (256, 210), dtype=np.uint8)
    raw[:, 208:] = np.frombuffer(np.full(256, 0.001, np.float16).tobytes(), np.uint8).reshape(256, 2)
    path = tmp_path / "tiny.gguf"
    original = gguf.GGUFWriter.add_tensor

    def add(self: Any, name: str, x: np.ndarray, **how: Any) -> None:
        if name == "blk.0.attn_q.weight":
            return original(self, name, raw, raw_dtype=gguf.GGMLQuantizationType.Q6_K)
        return original(self, name, x, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_tensor", add)
        files.write(path, "llama", files.keys_of("llama", truth.config), tensors)
    rows = [by_hand("Q6_K", row.tobytes()) for row in raw]
    weight = truth.model.layers[0].self_attn.q_proj.weight
    for head in range(4):
        for i in range(32):
            for j in range(2):
                weight[head * 64 + j * 32 + i] = torch.tensor(rows[head * 64 + 2 * i + j])
    files.same(path, truth)
