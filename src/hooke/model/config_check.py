"""What `config.json` says against the configuration that transformers made of it.

Transformers keeps keys that it does not read as attributes and says nothing, so a file that asks for another
computation loads as the plain one. Keys that are read must come out as they stand; keys that are not must be known
to change nothing, or they are refused or at least said.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from hooke.errors import HookeError, visible
from hooke.model.causes import LOOKS_AHEAD

# keys of the wild that change no logit: of training, saving, generating, classifying, or of other programs
# fmt: off
_INERT = frozenset({
    "_name_or_path", "_model_name_or_path", "_attn_implementation", "_attn_implementation_autoset", "_commit_hash",
    "_from_model_config",
    "_sliding_window_pattern", "attn_implementation", "auto_map", "bad_words_ids", "cache_implementation",
    "finetuning_task", "gradient_checkpointing", "is_decoder", "is_llama_config", "keys_to_ignore_at_inference",
    "max_length", "max_new_tokens", "max_sequence_length", "min_length", "model_max_length", "model_type", "n_ctx",
    "num_labels", "output_attentions", "output_router_logits", "prefix", "pretraining_tp", "repetition_penalty",
    "sep_token_id", "task_specific_params", "temperature", "tokenizer_class", "top_k", "top_p", "torch_dtype",
    "torchscript", "transformers.js_config", "unk_token_id", "unsloth_fixed", "unsloth_version", "use_bfloat16",
    "use_flash_attn", "router_aux_loss_coef", "layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps", "do_sample",
    "_name", "hooke", "sliding_window_pattern", "max_window_layers", "decoder_start_token_id", "_unsloth_fixed",
})
# keys of the older format that the rotary parameters are made of; they are compared with those
_ROTARY = frozenset({
    "rope_scaling", "rope_theta", "rope_parameters", "partial_rotary_factor", "rotary_pct", "rotary_emb_base",
    "rope_local_base_freq", "original_max_position_embeddings",
})
# fmt: on
_DROPOUT = re.compile(r"drop|pdrop|initializer|init_std|summary_")
# what would change the numbers if it were read
_ACTIVE = re.compile(
    r"scal|multipl|softcap|alibi|parallel|window|layer_types|expert|moe|qk_|clip|rope|rotary|bias|activation|act_fn|"
    r"hidden_act|head|attn|attention|logit|embedding|sink|residual|mup|depth|pruned|query_pre|norm|cross|causal"
)
# of one number under the names of several families: the file may state it under another's only
_EPSILON = frozenset({"layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps"})
# what all families here do: a file that switches it off means another computation
_ALWAYS_ON = re.compile(r"(^|_)(causal|rope|rotary|qkv_bias)(_mask|_attention|_embeddings?)?$")
# rope_type -> keys that it reads
_ROPE_READS = {
    "default": set(),
    "linear": {"factor"},
    "dynamic": {"factor"},
    "yarn": {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
    "longrope": {"factor", "attention_factor", "short_factor", "long_factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor"},
}
_ROPE_ALWAYS = {"type", "rope_type", "rope_theta", "partial_rotary_factor", "finetuned"}
_ROPE_ALWAYS |= {"original_max_position_embeddings"}


def _neutral(value: Any) -> bool:
    """Whether a value of an unknown key asks for nothing: empty, off, or a factor of one."""
    return not value or (value == 1 and not isinstance(value, bool))


def check_said(raw: dict[str, Any], config: Any, where: Path) -> None:
    """Raise HookeError, naming the key, where a configuration is not what its file says; no weights are needed.

    raw: `config.json`, or the part of it that describes the text model. config: what transformers made of it.
    """
    fields = set(inspect.signature(type(config).__init__).parameters)
    names = {config.attribute_map.get(key, key): key for key in raw}
    odd = []
    for name, key in names.items():
        value = raw[key]
        if key in _EPSILON and name not in fields:
            _check_epsilon(key, value, names, config, where)
        if key in _ROTARY or key in _INERT or _DROPOUT.search(key):
            continue
        if key == "sliding_window_size" and value == getattr(config, "sliding_window", None):
            continue  # Gemma 2's first name, kept beside the newer one
        if key == "sliding_window" and getattr(config, "use_sliding_window", None) is False:
            continue  # Qwen2 states a window that it switches off
        if name in fields or (name == "head_dim" and hasattr(config, "rope_parameters")):
            _as_said(key, value, getattr(config, name, None), where)
        elif key == "hidden_act" and value == getattr(config, "hidden_activation", None):
            continue  # Gemma's older name, kept beside the newer one
        elif not _neutral(value) or (value is False and _ALWAYS_ON.search(key)):
            if _ACTIVE.search(key):
                raise _unread(key, value, config, where)
            odd.append(key)
    if odd:
        which = ", ".join(visible(key)[:40] for key in sorted(odd)[:4])
        print(f"hooke: {where} sets {which}, which transformers does not read", file=sys.stderr, flush=True)
    if raw.get("auto_map"):
        note = (
            f"the modelling code that {where} names is not run; {type(config).__name__} of transformers stands for it"
        )
        print(f"hooke: {note}", file=sys.stderr, flush=True)
    _check_rotary(raw, config, where)


def _unread(key: str, value: Any, config: Any, where: Path) -> HookeError:
    return HookeError(
        f"{where} sets {visible(key)[:60]} to {visible(str(value))[:60]}, which transformers' "
        f"{type(config).__name__} does not read: the model would compute something else than it says"
    )


def _check_epsilon(key: str, value: Any, names: dict[str, str], config: Any, where: Path) -> None:
    """Raise HookeError for an epsilon under another family's name, unless the own one is said or comes out equal."""
    own = next((name for name in _EPSILON if hasattr(config, name) and name not in names), None)
    if own is not None and value is not None and getattr(config, own) != value:
        raise _unread(key, value, config, where)


def _as_said(key: str, value: Any, found: Any, where: Path) -> None:
    if key in ("dtype", "transformers_version", "architectures", "id2label", "label2id") or value is None:
        return
    if isinstance(found, tuple):
        found = list(found)
    if found != value:
        raise HookeError(f"{where} sets {key} to {str(value)[:60]}, and transformers makes {str(found)[:60]} of it")


def _check_rotary(raw: dict[str, Any], config: Any, where: Path) -> None:
    """Raise HookeError unless the rotary parameters are of a kind that exists, fully read, and as the file says."""
    made = getattr(config, "rope_parameters", None)
    if not isinstance(made, dict):
        said = sorted(_ROTARY & {key for key, value in raw.items() if not _neutral(value)})
        if said:
            raise HookeError(f"{where} sets {said[0]}, which transformers' {type(config).__name__} does not read")
        return
    nested = {key: value for key, value in made.items() if isinstance(value, dict)}
    if nested and (len(nested) < len(made) or not set(getattr(config, "layer_types", None) or ()) <= set(nested)):
        raise HookeError(
            f"{where} gives rotary parameters for {visible(next(iter(nested)))[:40]}, a kind of layer, and "
            f"transformers' {type(config).__name__} has one kind: it would leave them out"
        )
    groups = nested or {"": made}
    for name, group in groups.items():
        kind = group.get("rope_type", "default")
        if kind not in _ROPE_READS:
            known = ", ".join(_ROPE_READS)
            raise HookeError(f"{where} asks for rotary scaling of the kind {str(kind)[:40]!r}; there is {known}")
        unread = sorted(k for k, v in group.items() if k not in _ROPE_ALWAYS | _ROPE_READS[kind] and v)
        if unread:
            raise HookeError(
                f"{where} sets {visible(unread[0])[:40]} in the rotary parameters{f' of {name}' if name else ''}, "
                f"which the kind {kind!r} does not read: name the kind as rope_type, or take it out"
            )
    _check_rotary_keys(raw, groups, where)


def _check_rotary_keys(raw: dict[str, Any], groups: dict[str, dict[str, Any]], where: Path) -> None:
    """Compare the older keys, where the file has them, with the parameters that came out."""
    main = groups.get("full_attention", next(iter(groups.values())))
    old, new = raw.get("rope_scaling"), raw.get("rope_parameters")
    if old and new and any(key in new and new[key] != value for key, value in old.items() if key != "type"):
        raise HookeError(f"{where} says two things, in rope_scaling and in rope_parameters: take one out")
    local = groups.get("sliding_attention", {}).get("rope_theta")
    pairs = [
        ("rope_theta", main.get("rope_theta")),
        ("rotary_emb_base", main.get("rope_theta")),
        ("rope_local_base_freq", local),
        ("partial_rotary_factor", main.get("partial_rotary_factor")),
        ("rotary_pct", main.get("partial_rotary_factor")),
    ]
    for key, found in pairs:
        value = raw.get(key)
        if value is not None and value != found and not (found is None and value == 1):
            raise HookeError(f"{where} sets {key} to {str(value)[:40]}, and transformers computes with {found}")
    if isinstance(old, dict):
        kind = old.get("rope_type", old.get("type", "default"))
        kind = "longrope" if kind == "su" else kind
        if kind != main.get("rope_type"):
            raise HookeError(
                f"{where} asks for {str(kind)[:40]!r} in rope_scaling and transformers computes "
                f"{main.get('rope_type')!r}"
            )
        for key, value in old.items():
            if key not in ("type", "rope_type") and value is not None and main.get(key) != value:
                raise HookeError(f"{where} sets {visible(key)[:40]} in rope_scaling, and transformers drops it")


def check_kind(raw: dict[str, Any], where: Path) -> None:
    """Raise HookeError for a whole file that describes something else than an unquantised language model."""
    quantised = raw.get("quantization_config")
    if quantised:
        how = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else "unknown"
        raise HookeError(
            f"{where.parent} holds quantised weights (quantization_config: {visible(str(how))[:40]}), which cannot be "
            "read as plain matrices: take the unquantised model, or its GGUF file, which is dequantised"
        )
    for key, bad in LOOKS_AHEAD:
        if raw.get(key) is bad:
            raise HookeError(
                f"{where} sets {key} to {bad}: its tokens attend to what comes after them, so it is no language "
                "model that predicts the next token"
            )
    architectures = [str(each) for each in raw.get("architectures") or []]
    heads = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
    if architectures and not any(each.endswith(heads) for each in architectures):
        raise HookeError(
            f"{where.parent} holds a {visible(architectures[0])[:60]}, which has no language head: "
            "give a model saved as ...ForCausalLM"
        )
