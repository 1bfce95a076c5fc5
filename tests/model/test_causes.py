"""A model in memory that cannot be read as it is: the refusal names the cause and the remedy, never a family row.

bitsandbytes and its like are not installed here: classes of the same names stand for them. PEFT and accelerate are
the real ones (PEFT where it is installed).
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import hooke
from families import NAMES, close, logits_of, new_hf, random_tokens
from hooke import HookeError


def refused(hf: Any, *says: str) -> str:
    with pytest.raises(HookeError) as caught:
        hooke.load(hf)
    text = str(caught.value)
    for each in says:
        assert each in text, text
    assert "\n" not in text and "row" not in text and "families.py" not in text
    return text


def swap(hf: Any, kind: type[nn.Module]) -> None:
    mlp = hf.model.layers[1].mlp
    mlp.up_proj = kind()


# ---- wrappers ----------------------------------------------------------------------------------


def test_wrapped_models() -> None:
    hf = new_hf("llama")
    refused(torch.compile(hf), "compiled (torch.compile)", "model._orig_mod")
    refused(nn.DataParallel(hf), "torch.nn.DataParallel", "model.module")
    with_value = nn.Module()
    with_value.pretrained_model = hf
    refused(with_value, "around a language model", "model.pretrained_model")
    mine = nn.Module()
    mine.net, mine.config = hf, hf.config  # as people write it, with the configuration handed on
    refused(mine, "a Module around a LlamaForCausalLM", "give the model inside, model.net")
    outer = nn.Module()
    outer.inner, outer.config = mine, hf.config
    refused(outer, "give the model inside, model.inner.net")
    hooke.load(hf)  # the model inside is as good as before
    pipeline = SimpleNamespace(model=hf)
    with pytest.raises(HookeError, match=r"not SimpleNamespace; give its model, x\.model"):
        hooke.load(pipeline)


def test_settings_that_no_family_row_is_to_blame_for() -> None:
    refused(new_hf("llama", is_causal=False), "sets is_causal to False", "predicts the next token")
    refused(new_hf("gemma3", use_bidirectional_attention=True), "sets use_bidirectional_attention to True")
    refused(new_hf("llama", return_dict=False), "sets return_dict to False", "set it to True")


def test_compiled_in_place() -> None:
    hf = new_hf("llama")
    hf.model.layers[1].compile()
    refused(hf, "model.layers.1 is compiled", "load the model again")
    hf = new_hf("llama")
    hf.compile()
    refused(hf, "LlamaForCausalLM is compiled", "load the model again")
    hf = new_hf("llama")
    hf.model.layers[0].mlp = torch.compile(hf.model.layers[0].mlp)
    refused(hf, "model.layers.0.mlp is compiled")


def test_models_without_a_language_head() -> None:
    import transformers as tf

    config = new_hf("llama").config
    refused(tf.LlamaModel(config), "a LlamaModel has no language head", "AutoModelForCausalLM")
    classifier = tf.LlamaForSequenceClassification(config)
    refused(classifier, "a LlamaForSequenceClassification has no language head")
    refused(nn.Linear(2, 2), "a Linear has no config", "AutoModelForCausalLM")


# ---- PEFT --------------------------------------------------------------------------------------


@pytest.fixture
def peft(recwarn: pytest.WarningsRecorder) -> Any:
    return pytest.importorskip("peft", reason="the real PEFT is not installed")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT's own use of transformers
def test_real_peft(peft: Any) -> None:
    truth = new_hf("llama")
    lora = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = peft.get_peft_model(new_hf("llama"), lora).eval()
    refused(model, "wrapped by PEFT (PeftModel", "model.merge_and_unload()")
    refused(model.base_model.model, "model.layers.0.self_attn.q_proj holds unmerged LoRA", "merge_and_unload()")
    tokens = random_tokens(1, 9)
    with torch.no_grad():
        wanted = model(input_ids=tokens.ids).logits
    merged = hooke.load(model.merge_and_unload())
    close(logits_of(merged, tokens), wanted, 1e-5)
    assert float((wanted - truth(input_ids=tokens.ids).logits).abs().max()) > 1e-3
    ia3 = peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    inside = peft.get_peft_model(new_hf("llama"), ia3).base_model.model
    refused(inside, "self_attn.k_proj holds an unmerged adapter", "merge_and_unload()")
    prompts = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    refused(peft.get_peft_model(new_hf("llama"), prompts), "learned prompts", "model.base_model")


def test_unmerged_adapters_by_their_shape() -> None:
    """What PEFT leaves in a model, without PEFT: a layer with its base inside and two small matrices beside it."""

    class LoraLinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer = nn.Linear(32, 56)
            self.lora_A, self.lora_B = nn.ModuleDict(), nn.ModuleDict()

    hf = new_hf("llama")
    swap(hf, LoraLinear)
    refused(hf, "model.layers.1.mlp.up_proj holds unmerged LoRA (LoraLinear)", "merge_and_unload()", "adapter's folder")


# ---- quantised ---------------------------------------------------------------------------------


def stand_in(name: str, weight: Callable[[], torch.Tensor]) -> type[nn.Module]:
    def init(self: Any) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(weight(), requires_grad=False)

    return type(name, (nn.Module,), {"__init__": init})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Linear8bitLt", "8-bit (bitsandbytes)"),
        ("Linear4bit", "4-bit (bitsandbytes)"),
        ("WQLinear_GEMM", "quantised (AWQ)"),
        ("QuantLinear", "quantised (GPTQ)"),
        ("TritonV2QuantLinear", "quantised"),
        ("HQQLinear", "quantised (HQQ)"),
        ("FP8Linear", "quantised (FP8)"),
    ],
)
def test_quantised_layers(name: str, says: str) -> None:
    hf = new_hf("llama")
    swap(hf, stand_in(name, lambda: torch.zeros(56, 32, dtype=torch.int8)))
    refused(hf, f"model.layers.1.mlp.up_proj is {says}", "without a quantization_config")


def test_quantised_numbers_in_plain_layers() -> None:
    hf = new_hf("llama")
    hf.model.layers[1].mlp.up_proj.weight = nn.Parameter(torch.zeros(56, 32, dtype=torch.int8), requires_grad=False)
    refused(hf, "model.layers.1.mlp.up_proj.weight is int8", "float32, bfloat16 or float16")
    hf = new_hf("llama")
    small = torch.zeros(56, 32).to(torch.float8_e4m3fn)
    hf.model.layers[1].mlp.up_proj.weight = nn.Parameter(small, requires_grad=False)
    refused(hf, "model.layers.1.mlp.up_proj.weight is float8_e4m3fn", "float32, bfloat16 or float16")

    class AffineQuantizedTensor(torch.Tensor):
        pass

    hf = new_hf("llama")
    odd = torch.zeros(56, 32).as_subclass(AffineQuantizedTensor)
    hf.model.layers[1].mlp.up_proj.weight = nn.Parameter(odd, requires_grad=False)
    refused(hf, "is a AffineQuantizedTensor and no plain tensor", "without quantisation or sharding")


# ---- somewhere else ----------------------------------------------------------------------------


def test_offloaded_by_accelerate() -> None:
    from accelerate import cpu_offload, dispatch_model

    refused(cpu_offload(new_hf("llama"), execution_device=torch.device("cpu")), "offloaded by accelerate", "device_map")
    hf = dispatch_model(new_hf("llama"), {"": "cpu"}, force_hooks=True)
    refused(hf, "dispatched by accelerate", "without device_map")


def test_weights_without_numbers() -> None:
    hf = new_hf("llama")
    hf.model.layers[2].mlp.to("meta")
    refused(hf, "model.layers.2.mlp.gate_proj.weight has no numbers: it is on the meta device", "from_pretrained")
    refused(hf.to("meta"), "model.embed_tokens.weight has no numbers")


# ---- numbers and hooks -------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_are_none(name: str) -> None:
    hf = new_hf(name)
    key, weight = list(hf.named_parameters())[7]
    weight.view(-1)[3] = float("nan")
    refused(hf, f"{key} holds 1 numbers that are NaN")
    weight.view(-1)[3] = -float("inf")
    refused(hf, f"{key} holds 1 numbers that are infinite")


@pytest.mark.parametrize("place", ["model.layers.1.self_attn", "model.layers.1.mlp.down_proj", "lm_head", "model.norm"])
def test_a_hook_of_one_s_own(place: str) -> None:
    hf = new_hf("llama")

    def louder(module: Any, args: Any, output: Any) -> Any:
        return (output[0] * 2, *output[1:]) if isinstance(output, tuple) else output * 2

    handle = hf.get_submodule(place).register_forward_hook(louder)
    refused(hf, f"{place} has a forward hook of its own", "louder", "handle.remove()")
    handle.remove()
    model = hooke.load(hf)
    seen: list[int] = []
    hf.get_submodule(place).register_forward_hook(lambda *args: seen.append(1))
    close(
        logits_of(hooke.load(hf), "1" and random_tokens(1, 9)), logits_of(model, random_tokens(1, 9))
    )  # it only looks


def test_a_pre_hook_and_a_replaced_forward() -> None:
    hf = new_hf("llama")
    hf.model.layers[0].mlp.down_proj.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    refused(hf, "model.layers.0.mlp.down_proj has a forward pre-hook of its own", "handle.remove()")
    hf = new_hf("llama")
    mlp = hf.model.layers[0].mlp
    mlp.forward = lambda x: mlp.down_proj(mlp.act_fn(mlp.up_proj(x)) * mlp.gate_proj(x))
    refused(hf, "the forward of model.layers.0.mlp was replaced")


def test_numbers_that_the_dtype_cannot_hold() -> None:
    hf = new_hf("llama", torch.float16)
    hf.model.layers[1].mlp.down_proj.weight.mul_(3e4)
    hf.model.layers[1].mlp.up_proj.weight.mul_(1e4)
    refused(hf, "its values are not finite on a short input", "float16 cannot hold what it computes")


def test_two_dtypes() -> None:
    hf = new_hf("llama")
    hf.model.layers[1].mlp.to(torch.float64)
    refused(hf, "float64", "one dtype", "model.to(torch.float32)")
