"""From a GGUF file's keys to a transformers configuration: each key is used, known to change nothing, or refused.

Transformers' own reader takes the keys it knows and drops the rest without a word (rotary scaling, soft caps,
attention scales, windows, head sizes), so a file loads as another model. Here every key must be accounted for.
"""

from __future__ import annotations

import sys
from typing import Any

from hooke.errors import HookeError, visible
from hooke.model.gguf_file import GgufFile, missing, unsupported
from hooke.model.gguf_rope import FREQS, LONG, SHORT, rope_parameters
from hooke.model.gguf_rope import KEYS as ROPE_KEYS

# A key of the architecture, and the values that change nothing here. None: it is read below, or says nothing about
# the computation. A key that is not listed is refused.
_SIZES: dict[str, tuple[Any, ...] | None] = {
    "context_length": None,
    "embedding_length": None,
    "block_count": None,
    "feed_forward_length": None,
    "vocab_size": None,  # the rows of the embedding say it
    "tensor_data_layout": ("Meta AI original pth",),
    "attention.head_count": None,
    "attention.head_count_kv": None,
    "attention.causal": (True,),
    "attention.max_alibi_bias": (0,),
    "attention.clamp_kqv": (0,),
    "attention.scale": None,
    "attention.sliding_window": None,
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "logit_scale": (0, 1),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "expert_shared_count": (0,),
    "pooling_type": (0,),
    "use_parallel_residual": (False,),
}
_HEADS: dict[str, tuple[Any, ...] | None] = {"attention.key_length": None, "attention.value_length": None}
_RMS: dict[str, tuple[Any, ...] | None] = {"attention.layer_norm_rms_epsilon": None}
_ROTARY = {**_SIZES, **_HEADS, **_RMS, **ROPE_KEYS}
_CAPS = {"final_logit_softcapping": None}
_KEYS: dict[str, dict[str, tuple[Any, ...] | None]] = {
    "llama": _ROTARY,
    "qwen2": _ROTARY,
    "qwen3": _ROTARY,
    "phi3": _ROTARY,
    "gemma2": {**_ROTARY, **_CAPS, "attn_logit_softcapping": None},
    "gemma3": {**_ROTARY, **_CAPS, "attention.sliding_window_pattern": None},
    "gpt2": {**_SIZES, **_HEADS, "attention.layer_norm_epsilon": None},
}
ARCHITECTURES = tuple(_KEYS)

# beginnings of keys that no runner's forward pass reads
_SILENT = ("general.", "tokenizer.", "split.", "quantize.", "imatrix.", "training.", "hooke.")


def check_keys(file: GgufFile) -> None:
    """Raise HookeError, naming the key, for any that would change the computation and is not read."""
    if file.arch not in _KEYS:
        known = ", ".join(ARCHITECTURES)
        raise HookeError(
            f"{file.path} holds the architecture {visible(file.arch)[:40]!r}; Hooke reads {known} from GGUF: use this "
            "model's safetensors folder instead"
        )
    kind = file.other.get("general.type", "model")
    if kind != "model":
        raise HookeError(f"{file.path} holds no model ({visible(str(kind))[:40]}): give the model's own .gguf file")
    known_keys = _KEYS[file.arch]
    for key, value in file.keys.items():
        if key not in known_keys:
            raise unsupported(file, key, f"a key that Hooke does not know ({str(value)[:60]})")
        harmless = known_keys[key]
        each = value if isinstance(value, list) else [value]
        if harmless is not None and not all(v in harmless for v in each):
            raise unsupported(file, key, f"the value {str(value)[:60]}")
    strange = sorted(key for key in file.other if not key.startswith(_SILENT))
    if strange:
        note = f"{len(strange)} keys that are no model's, as {visible(strange[0])[:60]}; they are not read"
        print(f"hooke: {file.path.name} has {note}", file=sys.stderr, flush=True)


def config_of(file: GgufFile) -> Any:
    """The transformers configuration that computes what a file says whose keys were checked.

    Raises HookeError, naming the key, for what transformers cannot compute or the file does not say.
    """
    import transformers as tf

    for name in (FREQS, LONG, SHORT):
        if name in file.tensors and file.arch in ("gpt2", "gemma3"):
            raise unsupported(file, name, f"rotary factors, which a {file.arch} does not have")
    if file.arch == "gpt2":
        return tf.GPT2Config(**_gpt2(file))
    fields = _decoder(file)
    if file.arch == "llama":
        window = _window(file, fields["max_position_embeddings"])
        fields["mlp_bias"] = "blk.0.ffn_gate.bias" in file.tensors
        if window is None:
            return tf.LlamaConfig(**fields)
        for flag in ("attention_bias", "mlp_bias"):  # a Llama with a window in all layers is a Mistral: without biases
            if fields.pop(flag):
                raise unsupported(file, "attention.sliding_window", "a window beside biases")
        return tf.MistralConfig(**fields, sliding_window=window)
    if file.arch in ("qwen2", "qwen3"):
        if _window(file, fields["max_position_embeddings"]) is not None:
            raise unsupported(file, "attention.sliding_window", "a window without the layers that have it")
        if file.arch == "qwen2":
            del fields["attention_bias"]
        return (tf.Qwen2Config if file.arch == "qwen2" else tf.Qwen3Config)(**fields, use_sliding_window=False)
    if file.arch == "phi3":
        if fields.pop("attention_bias"):
            raise unsupported(file, "blk.0.attn_q.bias", "a bias of attention")
        original = int(file.number("rope.scaling.original_context_length", fields["max_position_embeddings"]))
        window = _window(file, fields["max_position_embeddings"])
        return tf.Phi3Config(**fields, original_max_position_embeddings=original, sliding_window=window)
    return _gemma(file, fields)


def _common(file: GgufFile) -> dict[str, Any]:
    """What all families call by one name."""
    if "token_embd.weight" not in file.tensors:
        raise missing(file, "token_embd.weight", "the embedding")
    tokenizer = {key.removeprefix("tokenizer.ggml."): value for key, value in file.other.items()}
    ends = [tokenizer.get(f"{name}_token_id") for name in ("eos", "eot", "eom")]
    ends = list(dict.fromkeys(end for end in ends if isinstance(end, int)))
    rows, width = (*file.tensors["token_embd.weight"].shape, 0, 0)[:2]
    if file.number("embedding_length") != width:
        raise unsupported(
            file, "embedding_length", f"{file.number('embedding_length')} where the embedding has {width}"
        )
    blocks = {name.split(".")[1] for name in file.tensors if name.startswith("blk.")}
    if file.number("block_count") != len(blocks):  # before a model of that many blocks is built
        raise unsupported(file, "block_count", f"{file.number('block_count')} where there are tensors of {len(blocks)}")
    return {
        "vocab_size": rows,
        "tie_word_embeddings": _tied(file),
        "bos_token_id": tokenizer.get("bos_token_id"),
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": tokenizer.get("padding_token_id"),
        "dtype": "float32",
    }


def _tied(file: GgufFile) -> bool:
    """Whether the output matrix is the embedding: not in the file, or there as the same bytes."""
    output, embedding = (file.tensors.get(f"{name}.weight") for name in ("output", "token_embd"))
    if output is None or embedding is None:
        return True
    same = (output.kind, output.shape) == (embedding.kind, embedding.shape)
    return same and file.raw("output.weight") == file.raw("token_embd.weight")


def _decoder(file: GgufFile) -> dict[str, Any]:
    """The fields of all families with rotary positions and RMS norms."""
    hidden, heads = int(file.number("embedding_length")), int(file.number("attention.head_count"))
    context = int(file.number("context_length"))
    if hidden < 1 or heads < 1:
        raise unsupported(file, "attention.head_count", f"{heads} heads for a width of {hidden}")
    head_dim = int(file.number("attention.key_length", hidden // heads))
    if int(file.number("attention.value_length", head_dim)) != head_dim:
        raise unsupported(file, "attention.value_length", f"values of another length than keys ({head_dim})")
    queries = file.tensors.get("blk.0.attn_q.weight")
    if queries is not None and queries.shape[0] != heads * head_dim:
        raise unsupported(file, "attention.key_length", f"{heads} heads of {head_dim} for {queries.shape[0]} queries")
    rotated = int(file.number("rope.dimension_count", head_dim))
    if rotated != head_dim and file.arch != "phi3":
        raise unsupported(file, "rope.dimension_count", f"{rotated} rotated dimensions of {head_dim}")
    rope = rope_parameters(file, dim=rotated, context=context)
    if rotated != head_dim:
        rope["partial_rotary_factor"] = rotated / head_dim
        if not 0 < rotated < head_dim or int(head_dim * rope["partial_rotary_factor"]) != rotated:
            raise unsupported(file, "rope.dimension_count", f"{rotated} rotated dimensions of {head_dim}")
    scale = float(file.number("attention.scale", 0.0))
    if scale and not file.arch.startswith("gemma") and abs(scale * head_dim**0.5 - 1) > 1e-5:
        raise unsupported(file, "attention.scale", f"{scale:g} where it is 1/sqrt({head_dim})")
    if file.arch != "gemma3" and "rope.freq_base_swa" in file.keys:
        raise unsupported(file, "rope.freq_base_swa", "a base of its own for layers with a window")
    return {
        **_common(file),
        "max_position_embeddings": context,
        "num_hidden_layers": int(file.number("block_count")),
        "hidden_size": hidden,
        "intermediate_size": int(file.number("feed_forward_length")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(file.number("attention.head_count_kv", heads)),
        "head_dim": head_dim,
        "rms_norm_eps": float(file.number("attention.layer_norm_rms_epsilon")),
        "rope_parameters": rope,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
    }


def _window(file: GgufFile, context: int) -> int | None:
    """The sliding window, or None if it hides nothing within the context."""
    window = int(file.number("attention.sliding_window", 0))
    return window if 0 < window < context else None


def _gemma(file: GgufFile, fields: dict[str, Any]) -> Any:
    import transformers as tf

    window = int(file.number("attention.sliding_window", 0))
    if window < 1:
        raise missing(file, f"{file.arch}.attention.sliding_window", "half of its layers or more have one")
    scale = float(file.number("attention.scale", 0.0))
    heads, head_dim, layers = (fields[name] for name in ("num_attention_heads", "head_dim", "num_hidden_layers"))
    if scale:
        query = 1 / scale**2
    elif layers == {"gemma2": 46, "gemma3": 62}[file.arch]:  # the 27B models divide by the width of a head's share
        query = fields["hidden_size"] / heads
    else:
        query = head_dim
    query = round(query) if abs(query - round(query)) < 1e-4 * query else query
    cap = float(file.number("final_logit_softcapping", 30.0 if file.arch == "gemma2" else 0.0)) or None
    fields |= {"sliding_window": window, "query_pre_attn_scalar": query, "final_logit_softcapping": cap}
    if file.arch == "gemma2":
        attention_cap = float(file.number("attn_logit_softcapping", 50.0)) or None
        return tf.Gemma2Config(**fields, attn_logit_softcapping=attention_cap)
    if "rope.freq_base" not in file.keys:
        raise missing(file, "gemma3.rope.freq_base", "its layers have two")
    local = float(file.number("rope.freq_base_swa", 10000.0))
    fields["layer_types"] = _layer_types(file, layers)
    fields["rope_parameters"] = {
        "full_attention": fields["rope_parameters"],
        "sliding_attention": {"rope_type": "default", "rope_theta": local},
    }
    return tf.Gemma3TextConfig(**fields)


def _layer_types(file: GgufFile, layers: int) -> list[str]:
    """Which layers have the window: five of six unless the file says otherwise, by a period or layer by layer."""
    pattern = file.keys.get("attention.sliding_window_pattern", 6)
    if isinstance(pattern, list) and len(pattern) == layers:
        windowed = [bool(each) for each in pattern]
    elif isinstance(pattern, int) and not isinstance(pattern, bool) and pattern > 0:
        windowed = [bool((i + 1) % pattern) for i in range(layers)]
    else:
        raise unsupported(file, "attention.sliding_window_pattern", f"{str(pattern)[:60]} for {layers} layers")
    return ["sliding_attention" if each else "full_attention" for each in windowed]


def _gpt2(file: GgufFile) -> dict[str, Any]:
    hidden, heads = int(file.number("embedding_length")), int(file.number("attention.head_count"))
    for key, wanted in (
        ("attention.head_count_kv", heads),
        ("attention.key_length", hidden // max(1, heads)),
        ("attention.value_length", hidden // max(1, heads)),
    ):
        if int(file.number(key, wanted)) != wanted:
            raise unsupported(file, key, f"a number other than {wanted}, which GPT-2 has")
    scale = float(file.number("attention.scale", 0.0))
    if scale and abs(scale * (hidden // heads) ** 0.5 - 1) > 1e-5:
        raise unsupported(file, "attention.scale", f"{scale:g} where it is 1/sqrt({hidden // heads})")
    if float(file.number("attention.sliding_window", 0)):
        raise unsupported(file, "attention.sliding_window", "a window")
    return {
        **_common(file),
        "n_positions": int(file.number("context_length")),
        "n_embd": hidden,
        "n_layer": int(file.number("block_count")),
        "n_head": heads,
        "n_inner": int(file.number("feed_forward_length", 4 * hidden)),
        "layer_norm_epsilon": float(file.number("attention.layer_norm_epsilon")),
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }
