"""The rows of families: each is proved at load, and a row that is wrong anywhere is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

import hooke
from families import NAMES, close, logits_of, model_of, new_hf, one_thread, random_ids  # noqa: F401
from hooke.errors import HookeError
from hooke.model import Model, check_model, families
from hooke.model.families import Family, family_of
from hooke.sites import Site

# what a refusal must name: an equation that fails, the last that held before shapes did not fit, or the module that is missing or cannot be what it is said to be
NAMES_THE_FAULT = r"is off by|refused after '|has no module|names no|the matrix|is not a|is not as wide|never computed|fuses|has no epsilon"
OPTIONAL = ("attn_norm", "attn_post_norm", "mlp_norm", "mlp_post_norm", "gate")
PATHS = ("attn", *OPTIONAL, "q", "k", "v", "o", "mlp", "up", "down", "act")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_every_family_passes_its_checks(name: str, dtype: torch.dtype) -> None:
    done = check_model(Model(new_hf(name, dtype), None, name=name))
    assert len(done) > 50
    assert len({check.equation for check in done}) == len(done)


@pytest.mark.parametrize("name", NAMES)
def test_sites_that_a_family_lacks_are_refused_with_a_reason(name: str) -> None:
    model = model_of(name)
    for point in ("resid_mid", "attn_scale", "attn_post_scale", "mlp_post_scale", "mlp_up"):
        site = Site(point, 1)
        if site in model.sites:
            assert site in model.run(random_ids(4), read=[site]).acts
        else:
            with pytest.raises(HookeError, match=f"has no {point}"):
                model.run(random_ids(4), read=[site])
    with pytest.raises(HookeError, match="3 layers"):
        model.run(random_ids(4), read=["resid_post.3"])


def corruptions(row: Family, seed: int) -> Iterator[tuple[str, Any]]:
    """Every field of a row, changed to other things that the row could have said."""
    paths = sorted({getattr(row, field) for field in PATHS} - {None})
    for i, field in enumerate(PATHS):
        now = getattr(row, field)
        for j, other in enumerate(paths):
            if other != now and (i + j + seed) % 3 == 0:  # a third of them for each family, others for the next
                yield field, other
        yield field, "no_such_module"
        if field in OPTIONAL and now is not None:
            yield field, None
    yield "norm_offset", 1.0 - row.norm_offset
    yield "fused_gate", not row.fused_gate
    for other in (None, "blocks", "heads"):
        if other != row.fused_qkv:
            yield "fused_qkv", other
    yield "blocks", row.final_norm
    yield "blocks", "nowhere"
    yield "final_norm", f"{row.blocks}.1.{row.attn_norm or row.attn_post_norm}"
    yield "final_norm", f"{row.blocks}.0.{row.o}"
    yield "unembed", f"{row.blocks}.0.{row.o}"
    yield "unembed", row.final_norm


@pytest.mark.parametrize("name", NAMES)
def test_a_row_that_is_wrong_anywhere_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hf = new_hf(name, use_cache=False)
    row = family_of(hf.config)
    tried = 0
    for field, value in corruptions(row, NAMES.index(name)):
        wrong = replace(row, **{field: value})
        monkeypatch.setattr(families, "FAMILIES", (wrong,))
        try:
            check_model(Model(hf, None, name=name))
        except HookeError as error:
            assert re.search(NAMES_THE_FAULT, str(error)), f"{field} = {value!r}: {error}"
        else:
            pytest.fail(f"{name} was accepted with {field} = {value!r} instead of {getattr(row, field)!r}")
        tried += 1
    assert tried > 60
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in hf.modules())


SWAPS: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"q": "self_attn.k_proj", "k": "self_attn.q_proj"}, "q.0 enters scores.0"),
    ("llama", {"q": "self_attn.v_proj", "v": "self_attn.q_proj"}, r"pattern.0 \. v = z"),
    ("llama", {"k": "self_attn.v_proj", "v": "self_attn.k_proj"}, r"pattern.0 \. v = z"),
    ("llama", {"gate": "mlp.up_proj", "up": "mlp.gate_proj"}, "mlp_act.0 = act"),
    ("llama", {"attn_norm": "post_attention_layernorm", "mlp_norm": "input_layernorm"}, "the norm with attn_scale.0"),
    ("llama", {"norm_offset": 1.0}, "the norm with attn_scale.0"),
    ("llama", {"parallel": "attention_bias"}, "the norm with mlp_scale.0"),
    ("llama", {"attn": "mlp", "mlp": "self_attn"}, "has no|never computed|is off by"),
    ("gemma2", {"attn_post_norm": None}, r"resid_pre.0 \+ attn_out"),
    ("gemma2", {"mlp_post_norm": None}, r"resid_pre.0 \+ attn_out \+ mlp_out"),
    ("gemma2", {"attn_post_norm": None, "mlp_post_norm": None}, r"resid_pre.0 \+ attn_out \+ mlp_out"),
    ("olmo2", {"attn_norm": "post_attention_layernorm", "attn_post_norm": None}, "is off by"),
    ("neox", {"parallel": None}, "the norm with mlp_scale.0"),
    ("neox", {"fused_qkv": "blocks"}, r"pattern.0 \. v = z"),
    ("gpt2", {"fused_qkv": "heads"}, r"pattern.0 \. v = z"),
    ("gpt2", {"attn_norm": "ln_2", "mlp_norm": "ln_1"}, "the norm with attn_scale.0"),
]


@pytest.mark.parametrize(("name", "changes", "says"), SWAPS, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_a_swap_is_refused_by_its_equation(
    name: str, changes: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hf = new_hf(name, num_key_value_heads=4) if name == "llama" else new_hf(name)
    wrong = replace(family_of(hf.config), **changes)
    monkeypatch.setattr(families, "FAMILIES", (wrong,))
    with pytest.raises(HookeError, match=says):
        check_model(Model(hf, None, name=name))


def test_a_family_with_other_weights_in_fused_order_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """q and k trade places inside a fused matrix: the model's own code reads them the other way round."""
    real = families._qkv

    def traded(*args: Any) -> Any:
        q, k, v = real(*args)
        return [k, q, v]

    monkeypatch.setattr(families, "_qkv", traded)
    for name in ("gpt2", "neox"):
        with pytest.raises(HookeError, match=r"q\.0 enters scores\.0 at its own query only is off by"):
            check_model(Model(new_hf(name), None, name=name))


def test_an_unknown_architecture_is_refused_by_its_name() -> None:
    hf = tf.BloomForCausalLM(tf.BloomConfig(vocab_size=97, hidden_size=32, n_layer=1, n_head=4))
    with pytest.raises(HookeError, match=r"no row for model type 'bloom'; Hooke knows Llama, .*one row in"):
        hooke.load(hf)


def test_a_model_without_its_head_is_refused_naming_the_module() -> None:
    with pytest.raises(HookeError, match="a LlamaModel has no language head; load it with AutoModelForCausalLM"):
        hooke.load(new_hf("llama").model)
    hf = new_hf("llama")
    del hf.model.layers[1].mlp.up_proj
    with pytest.raises(HookeError, match=r"no module 'mlp\.up_proj'"):
        hooke.load(hf)


def test_a_model_that_computes_something_else_is_refused() -> None:
    """The same modules in the same places, another sum."""
    hf = new_hf("llama")
    hf.model.layers[1].register_forward_hook(lambda module, args, output: output * 1.01)
    with pytest.raises(HookeError, match=r"resid_pre\.1 \+ attn_out \+ mlp_out = resid_post is off by"):
        hooke.load(hf)


def test_a_model_with_nan_is_refused() -> None:
    hf = new_hf("llama")
    hf.model.layers[2].mlp.down_proj.weight[3, 3] = float("nan")
    with pytest.raises(HookeError, match=r"model\.layers\.2\.mlp\.down_proj\.weight holds 1 numbers that are NaN"):
        hooke.load(hf)


def test_dropout_and_training_mode() -> None:
    """Runs are without dropout whatever mode a model is in, and leave it in that mode."""
    hf = tf.GPT2LMHeadModel(
        tf.GPT2Config(
            vocab_size=97,
            n_embd=32,
            n_layer=2,
            n_head=4,
            resid_pdrop=0.5,
            attn_pdrop=0.5,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    ids = random_ids(5)
    expected = hf.eval()(input_ids=ids[None]).logits
    hf.train()
    hf.transformer.h[0].eval()
    model = hooke.load(hf)
    modes = [module.training for module in hf.modules()]
    assert hf.training and not all(modes)
    close(logits_of(model, ids), expected)
    hf.transformer.h[1].attn.train()
    assert torch.equal(logits_of(model, ids), logits_of(model, ids))
    assert modes == [module.training for module in hf.modules()]
    assert all(parameter.requires_grad for parameter in hf.parameters())


def save(folder: Path) -> Path:
    """A folder with a tiny Llama and a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    new_hf("llama").save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(97)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tf.PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    return folder


def test_load_from_a_folder(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    for dtype in ("auto", "float32", "bfloat16", torch.float16, "float64"):
        model = hooke.load(folder, dtype=dtype, device="cpu")
        assert model.dtype == (torch.float32 if dtype == "auto" else getattr(torch, str(dtype).removeprefix("torch.")))
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())
    assert model.info["weights_sha256"]
    assert model.tokens("w3 w5 w7").ids.tolist() == [[3, 5, 7]]
    batch = model.tokens(["w3 w5 w7", "w9"])  # a tokenizer without a pad token
    assert batch.mask.tolist() == [[True, True, True], [False, False, True]]
    assert model.tokens(["w3 w5 w7", "w9"], padding="right").mask.tolist()[1] == [True, False, False]


def damaged(folder: Path, how: str) -> Path:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    if how == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "pickled":
        file.unlink()
        (folder / "pytorch_model.bin").write_bytes(b"pickle")
    elif how == "a weight is missing":
        del weights["model.layers.1.mlp.up_proj.weight"]
        save_file(weights, file, metadata={"format": "pt"})
    elif how == "a weight has another shape":
        weights["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 3)
        save_file(weights, file, metadata={"format": "pt"})
    elif how == "config is not JSON":
        (folder / "config.json").write_text("{nope")
    elif how == "tokenizer is not JSON":
        (folder / "tokenizer.json").write_text("{nope")
    elif how == "no tokenizer":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()
    else:
        file.unlink()
    return folder


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("truncated", "model.safetensors is cut short"),
        ("pickled", "only pickled weights"),
        ("a weight is missing", r"lacks 1 of the weights .* model\.layers\.1\.mlp\.up_proj\.weight"),
        ("a weight has another shape", r"lacks 1 of the weights .* model\.layers\.1\.mlp\.up_proj\.weight"),
        ("config is not JSON", "is not JSON"),
        ("tokenizer is not JSON", "cannot load the tokenizer"),
        ("no tokenizer", "cannot load the tokenizer .*give one with tokenizer="),
        ("no weights", "safetensors"),
    ],
)
def test_a_damaged_folder_is_refused_with_a_reason(tmp_path: Path, how: str, says: str) -> None:
    with pytest.raises(HookeError, match=says):
        hooke.load(damaged(save(tmp_path / "model"), how), device="cpu")


def test_load_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    for arguments, says in (
        ({"dtype": "float31"}, "no floating-point dtype called 'float31'"),
        ({"dtype": torch.int8}, "no floating-point dtype"),
        ({"device": "gpu"}, "cannot use device 'gpu'"),
        ({"device": "meta"}, "cannot use device 'meta'"),
    ):
        with pytest.raises(HookeError, match=says):
            hooke.load(folder, **arguments)
    with pytest.raises(HookeError, match="there is no file or folder"):
        hooke.load(tmp_path / "nowhere")
    with pytest.raises(HookeError, match="keeps its device and dtype"):
        hooke.load(new_hf("llama"), dtype="bfloat16")
    with pytest.raises(HookeError, match="not LlamaConfig"):
        hooke.load(tf.LlamaConfig())
