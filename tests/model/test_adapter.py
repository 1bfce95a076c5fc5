"""LoRA adapters: the merged model is the base with the deltas, and everything else is refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import hooke
from hooke import HookeError, Model
from hooke.model import adapter as adapters
from hooke.model import zoo
from hooke.model.store import weights_hash

SHAPES = {  # of the tiny Llama: (out, in)
    "model.layers.1.self_attn.q_proj": (128, 128),
    "model.layers.3.mlp.down_proj": (128, 336),
}


def shapes(model: Model) -> dict[str, tuple[int, int]]:
    found = {}
    for name in SHAPES:
        weight = model.hf.get_submodule(name).weight
        found[name] = (weight.shape[0], weight.shape[1])
    return found


def deltas(model: Model, rank: int = 4) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = {}
    for name, (out, into) in shapes(model).items():
        a = torch.randn(rank, into, generator=generator) * 0.1
        made[name] = (a.half().float(), (torch.randn(out, rank, generator=generator) * 0.1).half().float())
    return made


@pytest.fixture
def folder(tmp_path: Path, glass: Model) -> Path:
    return adapters.save_adapter(tmp_path / "mine", deltas(glass), alpha=8, base="glassllm", about={"note": "test"})


def change(folder: Path, **fields: Any) -> Path:
    """Another configuration; without hooke.json, so that its hash is not what is refused."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    (folder / "hooke.json").unlink(missing_ok=True)
    return folder


def rewrite(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    tensors = load_file(folder / "adapter_model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "hooke.json").unlink(missing_ok=True)
    return folder


def logits(model: Model) -> torch.Tensor:
    found = model.run("Alice was beginning to get very tired").logits
    assert found is not None
    return found


def with_hooks(glass: Model, scale: dict[str, float]) -> torch.Tensor:
    """The base's logits with the deltas added by plain hooks, as the adapter's equation says."""
    handles = []
    for name, (a, b) in deltas(glass).items():

        def hook(module: Any, args: Any, out: Any, a: Any = a, b: Any = b, s: float = scale[name]) -> Any:
            return out + s * (args[0] @ a.T) @ b.T

        handles.append(glass.hf.get_submodule(name).register_forward_hook(hook))
    try:
        ids = glass.tokens("Alice was beginning to get very tired").ids
        with torch.no_grad():
            return glass.hf(input_ids=ids).logits  # plain transformers: Hooke refuses what is hung on like this
    finally:
        for handle in handles:
            handle.remove()


def test_the_merged_model_is_the_base_with_the_deltas(folder: Path, glass: Model) -> None:
    merged = hooke.load(folder, device="cpu")
    wanted = with_hooks(glass, dict.fromkeys(SHAPES, 2.0))
    torch.testing.assert_close(logits(merged), wanted, atol=1e-4, rtol=0)
    assert float((logits(glass) - wanted).abs().max()) > 0.1  # the deltas do something
    assert merged.info["base"] == "glassllm"
    assert merged.info["base_weights_sha256"] == glass.info["weights_sha256"] != merged.info["weights_sha256"]
    assert merged.info["adapter_sha256"] == json.loads((folder / "hooke.json").read_text())["adapter_sha256"]
    assert merged.provenance()["adapter"] == "mine"


@pytest.mark.parametrize(
    ("fields", "scales"),
    [
        ({"use_rslora": True}, (4.0, 4.0)),  # 8 / sqrt(4)
        ({"alpha_pattern": {"down_proj": 2}}, (2.0, 0.5)),
        ({"alpha_pattern": {"model.layers.1.self_attn.q_proj": 4}}, (1.0, 2.0)),
        ({"rank_pattern": {"q_proj": 4}, "r": 4}, (2.0, 2.0)),
        ({"lora_dropout": 0.1, "peft_version": "0.18.0", "eva_config": None, "megatron_config": None}, (2.0, 2.0)),
        ({"init_lora_weights": "gaussian", "layers_to_transform": [1, 3]}, (2.0, 2.0)),
    ],
)
def test_what_scales_the_deltas_is_honoured(
    folder: Path, glass: Model, fields: dict[str, Any], scales: tuple[float, float]
) -> None:
    merged = hooke.load(change(folder, **fields), device="cpu")
    wanted = with_hooks(glass, dict(zip(SHAPES, scales, strict=True)))
    torch.testing.assert_close(logits(merged), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"target_modules": ["q_proj"]}, r"holds deltas of model\.layers\.3\.mlp\.down_proj, which .* does not target"),
        (
            {"target_modules": ["q_proj", "down_proj"]},
            r"targets 8 modules and holds no deltas of 6 of them, as model\.",
        ),
        (
            {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1, 3]},
            r"targets 4 modules and holds no deltas of 2 of them, as model\.layers\.1\.mlp\.down_proj",
        ),
        ({"target_modules": ["q_proj", "down_proj"], "layers_to_transform": 3}, r"holds deltas of model\.layers\.1"),
        (
            {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
            "holds deltas",
        ),
        ({"exclude_modules": ["down_proj"]}, r"holds deltas of model\.layers\.3\.mlp\.down_proj"),
        ({"exclude_modules": r".*\.3\..*"}, r"holds deltas of model\.layers\.3\.mlp\.down_proj"),
        ({"target_modules": r".*(q_proj|v_proj)"}, r"holds deltas of model\.layers\.3"),
        ({"target_modules": "q_proj"}, r"holds deltas of model\.layers\.1"),  # as an expression it is the whole path
        ({"target_modules": "all-linear"}, r"targets 28 modules"),
        ({"target_modules": [3]}, "no list of module names"),
    ],
)
def test_targets_that_are_not_what_the_file_holds(folder: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(HookeError, match=says) as caught:
        hooke.load(change(folder, **fields), device="cpu")
    assert "\n" not in str(caught.value)


def test_targets_by_an_expression(folder: Path, glass: Model, capfd: pytest.CaptureFixture[str]) -> None:
    wanted = with_hooks(glass, dict.fromkeys(SHAPES, 2.0))
    merged = hooke.load(change(folder, target_modules=r"model\.layers\.(1.*q_proj|3.*down_proj)"), device="cpu")
    torch.testing.assert_close(logits(merged), wanted, atol=1e-4, rtol=0)
    assert "hooke:" not in capfd.readouterr().err
    merged = hooke.load(change(folder, target_modules=r"(a+)+(.*.*)*" + "x" * 9), device="cpu")  # would run for ever
    torch.testing.assert_close(logits(merged), wanted, atol=1e-4, rtol=0)
    assert "is not tried" in capfd.readouterr().err


def test_another_base_than_the_recorded_one_is_said(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    change(folder, base_model_name_or_path="someone/else")
    hooke.load(folder, base="glassllm", device="cpu")
    assert "was made for someone/else and is merged into glassllm, as asked" in capfd.readouterr().err


def test_deltas_that_half_precision_cannot_hold(folder: Path) -> None:
    rewrite(folder, lambda tensors: [value.mul_(1000) for value in tensors.values()])
    hooke.load(folder, device="cpu", dtype="bfloat16")
    with pytest.raises(HookeError, match="larger than float16 can hold"):
        hooke.load(folder, device="cpu", dtype="float16")


def test_layers_stored_the_other_way_round() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=32, n_positions=16)
    hf = GPT2LMHeadModel(config).eval()
    a, b = torch.randn(2, 8), torch.randn(24, 2)  # c_attn: 8 in, 24 out, its weight is (8, 24)
    before = hf.transformer.h[0].attn.c_attn.weight.detach().clone()
    with pytest.MonkeyPatch.context() as patch:
        import tempfile

        place = Path(tempfile.mkdtemp()) / "gpt"
        adapters.save_adapter(place, {"transformer.h.0.attn.c_attn": (a, b)}, alpha=2, base="x")
        patch.chdir(place.parent)
        adapters.merge(hf, adapters.read_adapter(place))
        shutil.rmtree(place.parent)
    change = hf.transformer.h[0].attn.c_attn.weight.detach() - before
    torch.testing.assert_close(change, (b.half().float() @ a.half().float()).T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "lora_only"}, "biases of the base were trained"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base's own weights"),
        ({"trainable_token_indices": [3]}, "'trainable_token_indices'"),
        ({"layer_replication": [[0, 2]]}, "'layer_replication'"),
        ({"something_new": 1}, "'something_new'"),
        ({"r": 0}, "r must be a whole number"),
        ({"r": True}, "r must be a whole number"),
        ({"r": 8}, "says rank 8"),
        ({"lora_alpha": "many"}, "lora_alpha must be a number"),
        ({"lora_alpha": float("nan")}, "NaN is no number"),
        ({"rank_pattern": {"q_.*": 8}}, "regular expression"),
        ({"alpha_pattern": {"q_proj": -1}}, "above zero"),
        ({"alpha_pattern": [1]}, "above zero"),
        ({"base_model_name_or_path": None}, "give it with base="),
        ({"base_model_name_or_path": "smollm-135"}, "did you mean smollm2-135m.*give it with base="),
        ({"base_model_name_or_path": "smollm2-135m"}, "for another base"),
    ],
)
def test_adapters_that_are_not_plain_lora_are_refused(folder: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(HookeError, match=says) as caught:
        hooke.load(change(folder, **fields), device="cpu")
    assert "\n" not in str(caught.value)


def nan(tensors: dict[str, torch.Tensor]) -> None:
    next(iter(tensors.values()))[0, 0] = float("nan")


def alone(tensors: dict[str, torch.Tensor]) -> None:
    tensors.pop(next(key for key in tensors if "lora_B" in key))


def whole(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.model.layers.1.self_attn.q_proj.lora_magnitude_vector"] = torch.ones(4)


def embedding(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.model.embed_tokens.lora_embedding_A"] = torch.ones(4, 4)


def integers(tensors: dict[str, torch.Tensor]) -> None:
    key = next(iter(tensors))
    tensors[key] = tensors[key].to(torch.int8)


def wide(tensors: dict[str, torch.Tensor]) -> None:
    key = next(key for key in tensors if "q_proj.lora_A" in key)
    tensors[key] = torch.ones(4, 999, dtype=torch.float16)


def elsewhere(tensors: dict[str, torch.Tensor]) -> None:
    for key in list(tensors):
        tensors[key.replace("layers.3", "layers.77")] = tensors.pop(key)


def norm(tensors: dict[str, torch.Tensor]) -> None:
    for key in list(tensors):
        tensors[key.replace("layers.3.mlp.down_proj", "norm")] = tensors.pop(key)


def nothing(tensors: dict[str, torch.Tensor]) -> None:
    tensors.clear()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (nan, "not finite"),
        (alone, "not its partner"),
        (whole, "is DoRA"),
        (embedding, "an embedding"),
        (integers, "only floating point"),
        (wide, r"for another base: its model\.layers\.1\.self_attn\.q_proj is \d+ x 999"),
        (elsewhere, r"there is no model\.layers\.77"),
        (norm, "not a linear layer"),
        (nothing, "is empty"),
    ],
)
def test_bad_tensors_are_refused(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None], says: str) -> None:
    with pytest.raises(HookeError, match=says) as caught:
        hooke.load(rewrite(folder, edit), device="cpu")
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_files(folder: Path, tmp_path: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(HookeError, match="was changed since it was made"):
        hooke.load(folder)
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(HookeError, match="cut short or damaged"):
        hooke.load(folder)
    weights.unlink()
    (folder / "adapter_model.bin").touch()
    with pytest.raises(HookeError, match="can run code and are refused"):
        hooke.load(folder)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(HookeError, match=r"no adapter_model\.safetensors"):
        hooke.load(folder)
    (folder / "adapter_config.json").write_text("{")
    weights.write_bytes(data)
    with pytest.raises(HookeError, match="is not JSON"):
        hooke.load(folder)
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(HookeError, match="not an adapter's configuration"):
        hooke.load(folder)


def test_a_refused_adapter_leaves_the_base_as_it_was(folder: Path, glass: Model) -> None:
    before = {name: p.clone() for name, p in glass.hf.named_parameters()}
    found = adapters.read_adapter(rewrite(folder, elsewhere))
    with pytest.raises(HookeError):
        adapters.merge(glass.hf, found)
    assert all(torch.equal(before[name], p) for name, p in glass.hf.named_parameters())


def test_the_base_by_argument(folder: Path, tmp_path: Path) -> None:
    base = zoo.fetch("glassllm")
    change(folder, base_model_name_or_path="/nowhere/at/all")
    with pytest.raises(HookeError, match=r"the base that .* names cannot be loaded \(there is no .*give it with base="):
        hooke.load(folder)
    merged = hooke.load(folder, base=base, device="cpu")
    assert merged.info["base_weights_sha256"] == weights_hash(base)
    with pytest.raises(HookeError, match="is an adapter itself"):
        hooke.load(folder, base=folder)
    with pytest.raises(HookeError, match="base= is for adapters"):
        hooke.load("glassllm", base="glassllm")
    with pytest.raises(HookeError, match="base= is a name or a path"):
        hooke.load(folder, base=3)
    with pytest.raises(HookeError, match=r"base= is for an adapter's folder"):
        hooke.load(torch.nn.Linear(1, 1), base="glassllm")


def test_an_adapter_that_records_another_base(tmp_path: Path, glass: Model) -> None:
    about = {"base_weights_sha256": "0" * 64}
    folder = adapters.save_adapter(tmp_path / "mine", deltas(glass), alpha=8, base="glassllm", about=about)
    with pytest.raises(HookeError, match=r"was made for weights 0000000000000000…, and those of glassllm are"):
        hooke.load(folder)


def test_weights_that_are_shared_are_not_merged_into(tmp_path: Path) -> None:
    pair = (torch.ones(2, 576), torch.ones(49152, 2))
    folder = adapters.save_adapter(tmp_path / "head", {"lm_head": pair}, alpha=2, base="smollm2-135m")
    with pytest.raises(HookeError, match="shares with another layer"):
        hooke.load(folder, device="cpu")


def test_writing(folder: Path, tmp_path: Path, glass: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]  # no temporary folder is left
    first = adapters.read_adapter(folder)
    again = adapters.save_adapter(folder, deltas(glass), alpha=8, base="glassllm")
    assert adapters.read_adapter(again).sha256 == first.sha256  # equal work, equal bytes
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(HookeError, match="exists and is not an adapter"):
        adapters.save_adapter(tmp_path / "full", deltas(glass), alpha=8, base="glassllm")
    with pytest.raises(HookeError, match="fp16 cannot hold"):
        adapters.save_adapter(tmp_path / "big", {"x": (torch.ones(2, 2) * 1e6, torch.ones(2, 2))}, alpha=1, base="x")
    with pytest.raises(HookeError, match="one rank"):
        adapters.save_adapter(tmp_path / "odd", {"x": (torch.ones(2, 2), torch.ones(2, 3))}, alpha=1, base="x")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(adapters.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        adapters.save_adapter(tmp_path / "killed", deltas(glass), alpha=8, base="glassllm")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "mine"]


def test_what_a_name_means(folder: Path) -> None:
    assert zoo.resolve(folder) == ("adapter", folder)
    known = adapters.packaged()
    assert known and all(zoo.resolve(name) == ("organism", name) for name in known)
    with pytest.raises(HookeError, match=f"did you mean {known[0]}"):
        zoo.resolve(known[0] + "x")
    assert not {row["name"] for row in zoo.known_models()} & set(known)
