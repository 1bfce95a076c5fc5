"""Why a model in memory cannot be read as it is: each cause by its name, with what to do about it.

Other libraries wrap, quantise, offload and compile models, and people hang hooks on them. None of that is a fault of
a family row, so it is looked for before the row is tried, and again when a check fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from hooke.errors import HookeError

# class names of layers that hold other than plain numbers -> how they are called
_QUANTISED = {
    "Linear8bitLt": "8-bit (bitsandbytes)",
    "Embedding8bit": "8-bit (bitsandbytes)",
    "Linear4bit": "4-bit (bitsandbytes)",
    "LinearFP4": "4-bit (bitsandbytes)",
    "LinearNF4": "4-bit (bitsandbytes)",
    "Embedding4bit": "4-bit (bitsandbytes)",
    "Int8Params": "8-bit (bitsandbytes)",
    "Params4bit": "4-bit (bitsandbytes)",
    "WQLinear": "quantised (AWQ)",
    "WQLinear_GEMM": "quantised (AWQ)",
    "WQLinear_GEMV": "quantised (AWQ)",
    "QuantLinear": "quantised (GPTQ)",
    "TorchQuantLinear": "quantised (GPTQ)",
    "HQQLinear": "quantised (HQQ)",
    "FP8Linear": "quantised (FP8)",
    "EetqLinear": "quantised (EETQ)",
    "QLinear": "quantised (Quanto)",
    "BitLinear": "quantised (BitNet)",
    "GgufLinear": "quantised (GGUF blocks)",
    "GgufEmbedding": "quantised (GGUF blocks)",
}
_WRAPPERS = {
    "DataParallel": "torch.nn.DataParallel",
    "DistributedDataParallel": "torch's DistributedDataParallel",
    "FullyShardedDataParallel": "torch's FullyShardedDataParallel",
    "DeepSpeedEngine": "DeepSpeed",
}
# settings of models whose tokens attend to what comes after them
LOOKS_AHEAD = (("is_causal", False), ("use_bidirectional_attention", True))
_ADAPTED = ("lora_A", "lora_embedding_A", "ada3_l", "ia3_l", "hada_w1_a", "lokr_w1", "vera_lambda_b", "oft_r")


def refuse_unfit(hf: Any, name: str) -> None:
    """Raise HookeError, naming the cause and the remedy, for a model in memory whose modules are not its own.

    The cheapest question comes first; no forward pass is made and no large tensor is read.
    """

    def refuse(cause: str, remedy: str) -> HookeError:
        return HookeError(f"{name} was refused: {cause}; {remedy}")

    kind = type(hf).__name__
    if hasattr(hf, "_orig_mod"):
        raise refuse("it is compiled (torch.compile)", "give the model that was compiled, model._orig_mod")
    if kind in _WRAPPERS:
        raise refuse(f"it is wrapped by {_WRAPPERS[kind]}", "give the model inside, model.module")
    if isinstance(hf, nn.Module) and kind in ("RecursiveScriptModule", "TopLevelTracedModule", "ScriptModule"):
        raise refuse("it is a TorchScript module", "give the transformers model that it was made from")
    if type(hf).__module__.partition(".")[0] == "peft":
        if getattr(hf, "prompt_encoder", None):
            raise refuse(
                f"it is a PEFT model with learned prompts ({kind})", "only its base can be read, model.base_model"
            )
        raise refuse(f"it is wrapped by PEFT ({kind})", "give model.merge_and_unload(), which is an ordinary model")
    if isinstance(getattr(hf, "pretrained_model", None), nn.Module):
        raise refuse(f"it is a {kind} around a language model", "give the model inside, model.pretrained_model")
    inside = next((p for p, m in hf.named_modules() if p and hasattr(m, "get_output_embeddings")), None)
    if inside and not hasattr(hf, "get_output_embeddings"):
        what = type(hf.get_submodule(inside)).__name__
        raise refuse(f"it is a {kind} around a {what}", f"give the model inside, model.{inside}")
    for path, module in hf.named_modules():
        _refuse_module(path or kind, module, refuse)
    _refuse_dispatched(hf, refuse)
    _refuse_parameters(hf, refuse)
    if not hasattr(hf, "config"):
        raise refuse(f"a {kind} has no config", "give a transformers model, as AutoModelForCausalLM loads it")
    _refuse_settings(hf.config, refuse)
    text = getattr(hf.config, "get_text_config", lambda: hf.config)()
    if text is not hf.config:
        what = f"it is a multimodal {hf.config.model_type} around a text model ({text.model_type})"
        raise refuse(what, "give hooke.load its folder, or the text model in a ...ForCausalLM of its own")
    if getattr(hf, "get_output_embeddings", None) is not None and hf.get_output_embeddings() is None:
        raise refuse(f"a {kind} has no language head", "load it with AutoModelForCausalLM")


def _refuse_settings(config: Any, refuse: Any) -> None:
    for key, bad in LOOKS_AHEAD:
        if getattr(config, key, None) is bad:
            what = f"its config sets {key} to {bad}, so its tokens attend to what comes after them"
            raise refuse(what, "give a model that predicts the next token")
    if getattr(config, "return_dict", None) is False:
        raise refuse("its config sets return_dict to False, and outputs have no names then", "set it to True")


def _refuse_module(path: str, module: nn.Module, refuse: Any) -> None:
    kind = type(module).__name__
    adapted = [each for each in _ADAPTED if hasattr(module, each)]
    if adapted or hasattr(module, "base_layer"):
        what = "unmerged LoRA" if adapted and "lora" in adapted[0] else "an unmerged adapter"
        raise refuse(
            f"{path} holds {what} ({kind})",
            "merge it first (PEFT's model.merge_and_unload()), or give hooke.load the adapter's folder",
        )
    if kind in _QUANTISED or re.fullmatch(r"\w*QuantLinear\w*", kind):
        how = _QUANTISED.get(kind, "quantised")
        raise refuse(f"{path} is {how}", "load the model without a quantization_config, in float32 or bfloat16")
    if type(module).__module__.startswith(("torch.ao.nn.quantized", "torch.nn.quantized")):
        raise refuse(f"{path} is quantised (torch.ao)", "give the model as it was before quantisation")
    if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
        raise refuse(f"{path} is compiled (torch.compile)", "load the model again and do not compile it")


def _refuse_dispatched(hf: nn.Module, refuse: Any) -> None:
    hooks = {path: module._hf_hook for path, module in hf.named_modules() if hasattr(module, "_hf_hook")}
    for path, hook in hooks.items():
        each = getattr(hook, "hooks", None) or [hook]
        if any(getattr(h, "offload", False) for h in each) or type(hook).__name__ == "CpuOffload":
            what = f"{path or type(hf).__name__} is offloaded by accelerate ({type(hook).__name__})"
            raise refuse(what, "load the model without device_map, so that it lies whole on one device")
    for path, hook in hooks.items():
        what = f"{path or type(hf).__name__} is dispatched by accelerate ({type(hook).__name__})"
        raise refuse(what, "load the model without device_map, so that it lies whole on one device")


def _refuse_parameters(hf: nn.Module, refuse: Any) -> None:
    devices: dict[Any, str] = {}
    for key, value in hf.named_parameters():
        kind = type(value).__name__
        if kind in _QUANTISED:
            raise refuse(
                f"{key} is {_QUANTISED[kind]}", "load the model without a quantization_config, in float32 or bfloat16"
            )
        if value.is_meta:
            raise refuse(
                f"{key} has no numbers: it is on the meta device",
                "load the weights with from_pretrained, without device_map or low-memory options that leave them out",
            )
        inner = type(value.data)
        if inner is not Tensor or kind not in ("Parameter", "Tensor"):
            what = inner.__name__ if inner is not Tensor else kind
            raise refuse(f"{key} is a {what} and no plain tensor", "load the model without quantisation or sharding")
        if not value.is_floating_point() or value.element_size() < 2:
            dtype = str(value.dtype).removeprefix("torch.")
            raise refuse(f"{key} is {dtype}", "load the model in float32, bfloat16 or float16")
        devices.setdefault(value.device, key)
    if len(devices) > 1:
        (a, x), (b, y) = list(devices.items())[:2]
        raise refuse(f"{x} is on {a} and {y} on {b}", "move it whole to one device, as with model.to('cpu')")


def suspects(hf: nn.Module) -> str | None:
    """What people hung on a model that may be why its equations do not hold: cause and remedy, or None."""
    for path, module in hf.named_modules():
        where = path or type(hf).__name__
        for hook, kind in _hooks(module):
            name = getattr(hook, "__qualname__", type(hook).__name__).replace("<locals>.", "")
            return f"{where} has a forward {kind} of its own ({name}): remove it before loading (handle.remove())"
        if "forward" in vars(module):
            name = getattr(module.forward, "__qualname__", "another function").replace("<locals>.", "")
            return f"the forward of {where} was replaced ({name}): load the model without the library that does that"
        if nn.utils.parametrize.is_parametrized(module):
            return f"{where} is parametrised: torch.nn.utils.parametrize.remove_parametrizations makes it plain"
    dtypes = {value.dtype: key for key, value in hf.named_parameters()}
    if len(dtypes) > 1:
        (a, x), (b, y) = [(str(dtype).removeprefix("torch."), key) for dtype, key in dtypes.items()][:2]
        return f"{x} is {a} and {y} is {b}: give the model one dtype, as with model.to(torch.float32)"
    return None


def _hooks(module: nn.Module) -> Iterator[tuple[Any, str]]:
    yield from ((hook, "hook") for hook in module._forward_hooks.values())
    yield from ((hook, "pre-hook") for hook in module._forward_pre_hooks.values())
