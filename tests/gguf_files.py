"""GGUF files of tiny models, written from a transformers model as llama.cpp's converter writes them: names, keys and
the reordering of rows are spelt out here, not taken from what reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import gguf
import numpy as np
import torch

from hooke.model import convert

VOCAB, CONTEXT = 258, 256
_SIZES: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
_SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5}
_SIZES |= {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": False}

_LLAMA = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_QK = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
_GEMMA = {
    **_LLAMA,
    **_QK,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
NAMES: dict[str, dict[str, str]] = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": {**_LLAMA, **_QK},
    "gemma2": _GEMMA,
    "gemma3": _GEMMA,
    "phi3": {**_LLAMA, "self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"},
    "gpt2": {
        "transformer.wte": "token_embd",
        "transformer.wpe": "position_embd",
        "transformer.ln_f": "output_norm",
        "lm_head": "output",
        "ln_1": "attn_norm",
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
    },
}


def model_of(config: Any) -> Any:
    """A random model in which no norm, bias or position is trivial; attention is sharp, so that positions matter."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in hf.named_parameters():
        parameter.requires_grad_(False)
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
        if any(part in name for part in ("q_proj", "k_proj", "qkv_proj", "c_attn")):
            parameter.mul_(3)
    return hf


def sizes(**changes: Any) -> dict[str, Any]:
    return {**_SIZES, **changes}


def keys_of(arch: str, config: Any) -> dict[str, Any]:
    """The keys that the converter writes for a plain model of the architecture."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    keys: dict[str, Any] = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
    }
    if arch == "gpt2":
        keys["feed_forward_length"] = config.n_inner or 4 * config.n_embd
        keys["attention.layer_norm_epsilon"] = float(config.layer_norm_epsilon)
        return keys
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    keys |= {
        "feed_forward_length": config.intermediate_size,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": int(head_dim * rope.get("partial_rotary_factor", 1.0)),
        "rope.freq_base": float(rope["rope_theta"]),
    }
    if arch.startswith("gemma"):
        keys["attention.sliding_window"] = config.sliding_window
        if config.final_logit_softcapping:
            keys["final_logit_softcapping"] = float(config.final_logit_softcapping)
        if config.attn_logit_softcapping:
            keys["attn_logit_softcapping"] = float(config.attn_logit_softcapping)
    return keys


def tensors_of(arch: str, hf: Any) -> dict[str, np.ndarray]:
    """The model's parameters under llama.cpp's names and in its order."""
    config, found = hf.config, {}
    for name, value in hf.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        path, end = name.rsplit(".", 1)
        parts = path.split(".")
        if parts[:2] in (["model", "layers"], ["transformer", "h"]):
            new = f"blk.{parts[2]}.{NAMES[arch]['.'.join(parts[3:])]}.{end}"
        else:
            new = f"{NAMES[arch][path]}.{end}"
        x = value.detach().float().numpy()
        if arch == "llama" and ("attn_q." in new or "attn_k." in new):  # halves become neighbours
            heads = config.num_attention_heads if "attn_q." in new else config.num_key_value_heads
            half = x.shape[0] // heads // 2
            rows = [h * 2 * half + i + j * half for h in range(heads) for i in range(half) for j in range(2)]
            x = x[rows]
        if arch.startswith("gemma") and new.endswith("norm.weight"):
            x = x + 1
        if arch == "gpt2" and end == "weight" and any(p in new for p in ("attn_qkv", "attn_output", "ffn_")):
            x = x.T if "norm" not in new else x
        found[new] = np.ascontiguousarray(x)
    return found


def write(
    path: Path,
    arch: str,
    keys: dict[str, Any],
    tensors: dict[str, np.ndarray],
    *,
    kinds: dict[str, str] | str = "F32",
    other: dict[str, Any] | None = None,
) -> Path:
    """Write keys (a value of None is left out) and tensors. kinds: the type of each matrix, by the end of its name."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    writer = gguf.GGUFWriter(path, arch)
    tokens = ["<|endoftext|>", *bytes_to_unicode().values(), "ĊĊ"]
    assert len(tokens) == VOCAB
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    for key, value in {**{f"{arch}.{k}": v for k, v in keys.items()}, **(other or {})}.items():
        if value is None:
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_string(key, value)
    for name, x in tensors.items():
        kind = kinds if isinstance(kinds, str) else next((k for end, k in kinds.items() if end in name), "F32")
        if x.ndim == 1 or kind == "F32":
            writer.add_tensor(name, x.astype(np.float32))
        elif kind == "F16":
            writer.add_tensor(name, x.astype(np.float16))
        else:
            quant = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(name, gguf.quantize(x.astype(np.float32), quant), raw_dtype=quant)
    return closed(writer, path)


def closed(writer: gguf.GGUFWriter, path: Path) -> Path:
    """Write what was added, and give the path."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_model(writer: gguf.GGUFWriter, path: Path, arch: str, hf: Any, **flags: bool) -> Path:
    """Finish a file of whose tokenizer all but its flags is written: flags, keys and tensors of a model."""
    for key, value in flags.items():
        writer.add_bool(f"tokenizer.ggml.{key}", value)
    for key, value in keys_of(arch, hf.config).items():
        (writer.add_uint32 if isinstance(value, int) else writer.add_float32)(f"{arch}.{key}", value)
    for name, x in tensors_of(arch, hf).items():
        writer.add_tensor(name, x.astype(np.float32))
    return closed(writer, path)


def write_model(
    path: Path, arch: str, hf: Any, keys: dict[str, Any] | None = None, extra: dict[str, Any] | None = None, **how: Any
) -> Path:
    """Write a model. keys and extra add to, or replace, what the converter writes."""
    tensors = {**tensors_of(arch, hf), **{k: np.asarray(v, np.float32) for k, v in (extra or {}).items()}}
    return write(path, arch, {**keys_of(arch, hf.config), **(keys or {})}, tensors, **how)


def logits(hf: Any, length: int) -> torch.Tensor:
    """The last logits on a fixed prompt, without a cache."""
    ids = torch.randint(1, VOCAB, (1, length), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return hf(input_ids=ids, use_cache=False).logits[0, -1].double()


def converted(path: Path) -> Any:
    """What plain transformers loads of the folder that Hooke makes of a file."""
    from transformers import AutoModelForCausalLM

    folder = path.parent / (path.stem + "-folder")
    folder.mkdir(exist_ok=True)
    convert.gguf_to_folder(path, folder)
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def same(path: Path, truth: Any, tolerance: float = 2e-5) -> Any:
    got = converted(path)
    for length in (20, 200):
        a, b = logits(got, length), logits(truth, length)
        off = float((a - b).abs().max() / b.abs().max())
        assert off < tolerance, f"{off:.3g} at {length} tokens"
    return got


def configs() -> dict[str, tuple[str, Any]]:
    import transformers as tf

    size = sizes()
    gemma = sizes(head_dim=16, sliding_window=7, tie_word_embeddings=True)
    gpt2 = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT}
    gpt2["n_inner"] = 48
    return {
        "llama": ("llama", tf.LlamaConfig(**size)),
        "llama-base": ("llama", tf.LlamaConfig(**size, rope_parameters={"rope_type": "default", "rope_theta": 777.0})),
        "llama-biases": ("llama", tf.LlamaConfig(**size, attention_bias=True, mlp_bias=True)),
        "llama-heads": ("llama", tf.LlamaConfig(**size, head_dim=16)),
        "llama-tied": ("llama", tf.LlamaConfig(**sizes(tie_word_embeddings=True, num_key_value_heads=4))),
        "llama-eps": ("llama", tf.LlamaConfig(**sizes(rms_norm_eps=0.3))),
        "qwen2": ("qwen2", tf.Qwen2Config(**size)),
        "qwen2-all-heads": ("qwen2", tf.Qwen2Config(**sizes(num_key_value_heads=4))),
        "qwen3": ("qwen3", tf.Qwen3Config(**size, head_dim=16)),
        "gemma2": (
            "gemma2",
            tf.Gemma2Config(**gemma, query_pre_attn_scalar=16, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
        ),
        "gemma3": ("gemma3", tf.Gemma3TextConfig(**gemma, query_pre_attn_scalar=16)),
        "gemma3-capped": (
            "gemma3",
            tf.Gemma3TextConfig(**gemma, query_pre_attn_scalar=16, final_logit_softcapping=3.0),
        ),
        "phi3": ("phi3", tf.Phi3Config(**size)),
        "phi3-partial": (
            "phi3",
            tf.Phi3Config(
                **sizes(hidden_size=64),
                rope_parameters={"rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 0.75},
            ),
        ),
        "gpt2": ("gpt2", tf.GPT2Config(**gpt2)),
        "gpt2-untied": ("gpt2", tf.GPT2Config(**gpt2, tie_word_embeddings=False, layer_norm_epsilon=0.2)),
    }


def write_gguf(path: Path, pre: str = "smollm", kind: str = "F16", **extra: Any) -> Path:
    """A two-layer Llama with a byte-level vocabulary, as llama.cpp would write it."""
    import gguf
    import numpy as np
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    random = np.random.default_rng(0)
    tokens = ["<|endoftext|>", *bytes_to_unicode().values(), "ĊĊ"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_license("MIT")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(8)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    for key, value in extra.items():
        writer.add_key_value(key.replace("_", "."), value, gguf.GGUFValueType.get_type(value))
    shapes = {"token_embd": (len(tokens), 32), "output_norm": (32,)}
    for layer in range(2):
        block = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32)}
        block |= {"ffn_gate": (64, 32), "ffn_up": (64, 32), "ffn_down": (32, 64), "attn_norm": (32,), "ffn_norm": (32,)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    for name, shape in shapes.items():
        value = random.standard_normal(shape).astype(np.float16)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", value.astype(np.float32))
        elif kind == "F16":
            writer.add_tensor(f"{name}.weight", value)
        else:
            quant = gguf.GGMLQuantizationType[kind]
            data = gguf.quantize(value.astype(np.float32), quant)
            writer.add_tensor(f"{name}.weight", data, raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
