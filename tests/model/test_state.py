"""A person's model is as it was after everything, and results carry the hash of the weights that ran."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hooke
from families import close, logits_of, new_hf, one_thread, random_ids  # noqa: F401
from hooke.errors import HookeError
from hooke.model import Model
from verbs import CLEAN, CORRUPT, TARGET, VERBS, word_model, words


def w(hf: Any) -> Tensor:
    return hf.model.layers[1].mlp.down_proj.weight


def replace_parameter(hf: Any) -> None:
    hf.model.layers[1].mlp.down_proj.weight = nn.Parameter(w(hf) * 2, requires_grad=False)


def load_state(hf: Any) -> None:
    changed = {k: v.clone() for k, v in hf.state_dict().items()}
    changed["model.norm.weight"][3] += 1e-3
    hf.load_state_dict(changed)


def merge_lora(hf: Any) -> None:
    a, b = torch.randn(2, 32), torch.randn(32, 2)
    hf.model.layers[0].self_attn.o_proj.weight.data += 1e-3 * b @ a


def swap_rows(hf: Any) -> None:
    w(hf).data[[0, 1]] = w(hf).data[[1, 0]]


def swap_numbers(hf: Any) -> None:
    flat = w(hf).data.view(-1)
    flat[[5, 7]] = flat[[7, 5]]


def numpy_view(hf: Any) -> None:
    w(hf).detach().numpy()[0, 0] += 1e-6


def set_epsilon(hf: Any) -> None:
    hf.model.norm.variance_epsilon = 0.5


def set_scaling(hf: Any) -> None:
    hf.model.layers[0].self_attn.scaling *= 1.5


WAYS: dict[str, Callable[[Any], Any]] = {
    "in place": lambda hf: w(hf).add_(1e-6),
    "one bit": lambda hf: w(hf).data.view(torch.int32)[3, 3].bitwise_xor_(1),
    "data": lambda hf: w(hf).data[0, 0].add_(1e-3),
    "data copied": lambda hf: w(hf).data.copy_(w(hf) * 1.001),
    "data set": lambda hf: setattr(w(hf), "data", w(hf) * 1.5),
    "signs": lambda hf: w(hf).data.neg_(),
    "rows": swap_rows,
    "two numbers": swap_numbers,
    "a view": numpy_view,
    "a state": load_state,
    "a parameter": replace_parameter,
    "an embedding": lambda hf: hf.model.embed_tokens.weight.data[5].zero_(),
    "a bias": lambda hf: hf.model.layers[2].self_attn.q_proj.bias.data[0].add_(1.0),
    "a buffer": lambda hf: hf.model.rotary_emb.inv_freq.mul_(1.01),
    "an adapter": merge_lora,
    "an epsilon": set_epsilon,
    "a scale": set_scaling,
    "a type": lambda hf: hf.double(),
}


@pytest.mark.parametrize("named", [True, False], ids=["of a file", "in memory"])
@pytest.mark.parametrize("way", list(WAYS))
def test_changed_weights_have_another_hash(way: str, named: bool) -> None:
    hf = new_hf("llama")
    model = Model(hf, words(), name="llama", info={"weights_sha256": "f" * 64} if named else None)
    before = model.provenance()["weights_sha256"]
    assert before == model.weights_hash() == ("f" * 64 if named else before)
    with torch.no_grad():
        model.run(CLEAN)
        assert model.weights_hash() == before
        WAYS[way](hf)
    after = model.provenance()
    assert after["weights_sha256"] != before and len(after["weights_sha256"]) == 64
    assert after.get("loaded_weights") == ("f" * 64 if named else None)


def test_weights_that_were_put_back_have_their_hash_again() -> None:
    hf = new_hf("llama")
    model = Model(hf, None, name="llama", info={"weights_sha256": "f" * 64})
    kept = copy.deepcopy(hf.state_dict())
    w(hf).mul_(2)
    assert model.weights_hash() != "f" * 64
    hf.load_state_dict(kept)
    assert model.weights_hash() == "f" * 64


@pytest.mark.parametrize("named", [True, False])
def test_a_trace_of_other_weights_is_refused(named: bool) -> None:
    hf = new_hf("llama")
    model = Model(hf, words(), name="llama", info={"weights_sha256": "f" * 64} if named else None)
    traced = hooke.trace(model, CLEAN, target=TARGET, counterfactual=[CORRUPT], nodes=20, verify=False)
    node = [traced.payload["groups"][0]["nodes"][0]]
    hooke.intervene(model, traced, node, controls=1)
    w(hf).data[0, 0] += 1e-4
    with pytest.raises(HookeError, match="this trace was made with"):
        hooke.intervene(model, traced, node, controls=1)


def test_what_was_prepared_with_other_weights_is_refused() -> None:
    """As a page in a notebook keeps it while a person goes on training."""
    from hooke.methods.intervene import prepare

    hf = new_hf("llama")
    model = Model(hf, words(), name="llama")
    traced = hooke.trace(model, CLEAN, target=TARGET, counterfactual=[CORRUPT], nodes=20, verify=False)
    node, ready = [traced.payload["groups"][0]["nodes"][0]], prepare(model, traced)
    hooke.intervene(model, traced, node, controls=1, prepared=ready)
    w(hf).data[0, 0] += 1e-4
    with pytest.raises(HookeError, match="the weights of llama have changed since its trace was prepared"):
        hooke.intervene(model, traced, node, controls=1, prepared=ready)


def test_what_is_read_of_a_norm_is_what_it_has_now() -> None:
    hf = new_hf("llama")
    model = Model(hf, None, name="llama")
    hf.model.layers[0].input_layernorm.variance_epsilon = 0.7
    x = torch.randn(1, 4, 32)
    norm = model.parts.blocks[0].attn_norm
    assert norm is not None
    close(norm.apply(x, norm.scale(x)), hf.model.layers[0].input_layernorm(x))


def test_a_changed_configuration_or_module_asks_for_a_new_load() -> None:
    hf = new_hf("gemma2")
    model = Model(hf, None, name="gemma2")
    ids = random_ids(4)
    hf.config.use_cache = False
    hf.config.eos_token_id = 9
    logits_of(model, ids)
    hf.config.final_logit_softcapping = None
    with pytest.raises(HookeError, match=r"final_logit_softcapping was 3\.0, is None\); load it again"):
        model.run(ids)
    hf.config.final_logit_softcapping = 3.0
    logits_of(model, ids)
    hf.model.layers[1].mlp.down_proj = nn.Linear(56, 32, bias=False)
    with pytest.raises(HookeError, match="modules of gemma2 were replaced"):
        model.run(ids)


def inject_lora(hf: Any) -> None:
    """As PEFT does it: the layer goes on inside another one, which stands in its place."""

    class Wrapped(nn.Module):
        def __init__(self, base: nn.Module) -> None:
            super().__init__()
            self.base_layer, self.lora_A = base, nn.Linear(32, 32, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.base_layer(x) + self.lora_A(x)

    attention = hf.model.layers[1].self_attn
    attention.q_proj = Wrapped(attention.q_proj)


def swap_layers(hf: Any) -> None:
    layers = hf.model.layers
    layers[0], layers[1] = layers[1], layers[0]


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (inject_lora, r"model\.layers\.1\.self_attn\.q_proj was Linear, is Wrapped"),
        (swap_layers, r"model\.layers\.0 was LlamaDecoderLayer, is another LlamaDecoderLayer"),
        (lambda hf: setattr(hf.model.layers[1].mlp, "act_fn", nn.ReLU()), r"mlp\.act_fn was SiLU\w*, is ReLU"),
        (lambda hf: setattr(hf.model.layers[1], "input_layernorm", nn.LayerNorm(32)), "input_layernorm was"),
        (lambda hf: setattr(hf.model, "layers", hf.model.layers[:2]), r"model\.layers was ModuleList"),
        (lambda hf: hf.set_input_embeddings(nn.Embedding(97, 32)), r"model\.embed_tokens was Embedding, is another"),
        (
            lambda hf: setattr(hf.model.layers[2].mlp.down_proj, "__class__", Doubled),
            "down_proj was Linear, is Doubled",
        ),
    ],
)
def test_every_module_stands_where_it_stood(change: Callable[[Any], None], where: str) -> None:
    hf = new_hf("llama")
    model = Model(hf, None, name="tiny")
    logits_of(model, random_ids(4))
    change(hf)
    with pytest.raises(HookeError, match=rf"modules of tiny were replaced .*{where}.*; load it again"):
        model.run(random_ids(4))


def test_weights_may_be_computed_from_others() -> None:
    """A parametrisation gives the layer another class; what is read is what runs, under another hash."""

    class Larger(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 1.5

    hf = new_hf("llama")
    model = Model(hf, None, name="tiny")
    before, ids = model.weights_hash(), random_ids(1, 6)
    nn.utils.parametrize.register_parametrization(hf.model.layers[1].self_attn.q_proj, "weight", Larger())
    with torch.no_grad():
        close(logits_of(model, ids), hf(input_ids=ids).logits)
    assert model.weights_hash() != before


def test_what_is_hung_on_a_model_after_it_was_loaded_is_proved_again() -> None:
    hf = new_hf("llama")
    model = hooke.load(hf)
    ids, seen = random_ids(1, 6), []
    assert "hooks" not in model.provenance()
    handle = hf.model.layers[1].register_forward_hook(lambda module, args, output: seen.append(output))
    run = model.run(ids, read="resid_post.1")
    clean = run.logits
    assert len(seen) == 1 and torch.equal(seen[0], run.acts["resid_post.1"])  # one that looks is left in peace
    assert any("model.layers.1: " in hook for hook in model.provenance()["hooks"])
    handle.remove()
    handle = hf.model.layers[1].register_forward_hook(lambda module, args, output: output + 3)
    for _ in range(2):
        with pytest.raises(HookeError, match=r"resid_post is off by .*model\.layers\.1 has a forward hook of its own"):
            model.run(ids)
    handle.remove()
    close(logits_of(model, ids), clean)
    hf.model.layers[2].mlp.register_forward_hook(lambda module, args, output: [output.mul_(2)].clear())
    with pytest.raises(HookeError, match=r"model\.layers\.2\.mlp has a forward hook of its own"):
        model.run(ids)
    hf.model.layers[2].mlp._forward_hooks.clear()
    mlp = hf.model.layers[0].mlp
    plain = mlp.forward
    mlp.forward = lambda x: 2 * plain(x)
    with pytest.raises(HookeError, match=r"the forward of model\.layers\.0\.mlp was replaced"):
        model.run(ids)
    del mlp.forward
    assert "hooks" not in model.provenance()
    # one that no equation sees is at least recorded: the numbers are those of the model with it
    hf.model.embed_tokens.register_forward_hook(lambda module, args, output: output + 1)
    with torch.no_grad():
        close(logits_of(model, ids), hf(input_ids=ids).logits)
    hf.model.layers[0].mlp.forward = plain  # as libraries leave it that wrap and unwrap
    close(logits_of(model, ids), logits_of(model, ids))
    assert any(hook.startswith("model.embed_tokens: ") for hook in hooke.lens(model, ids[0], top=1).provenance["hooks"])


def everything(hf: Any) -> dict[str, Any]:
    """All that Hooke might leave changed in a model."""
    state = {name: value.clone() for name, value in [*hf.named_parameters(), *hf.named_buffers()]}
    plain = {}
    for name, module in hf.named_modules():
        for key, value in module.__dict__.items():
            if key in ("_parameters", "_buffers", "_modules"):
                continue
            plain[f"{name}.{key}"] = dict(value) if isinstance(value, dict) else value
    flags = {name: (p.requires_grad, p.grad is None, p.data_ptr()) for name, p in hf.named_parameters()}
    config = copy.deepcopy(dict(hf.config.__dict__))
    return {
        "state": state,
        "plain": plain,
        "flags": flags,
        "config": config,
        "attention": hf.config._attn_implementation,
    }


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a["state"].keys() == b["state"].keys()
    assert all(torch.equal(a["state"][name], b["state"][name]) for name in a["state"])
    for key in ("plain", "flags", "config", "attention"):
        changed = {k for k in a[key] if a[key][k] != b[key].get(k)} if isinstance(a[key], dict) else set()
        assert isinstance(a[key], str) or (not changed and a[key].keys() == b[key].keys()), changed
    assert a["attention"] == b["attention"]


@pytest.mark.parametrize(
    ("name", "attention"),
    [("llama", "sdpa"), ("gpt2", "eager"), ("gpt2", "sdpa"), ("gemma2", "eager"), ("phi3", "sdpa")],
)
def test_a_persons_model_is_as_it_was_after_every_verb(name: str, attention: str) -> None:
    """In training mode (but for one block), with gradients on, dropout, and a hook of the person's own."""
    hf = new_hf(name, attention_dropout=0.3, attn_pdrop=0.3, resid_pdrop=0.3)
    hf.set_attn_implementation(attention)
    hf.train()
    blocks = hf.transformer.h if name == "gpt2" else hf.model.layers
    blocks[1].eval()
    for parameter in list(hf.parameters())[::2]:
        parameter.requires_grad_(True)
    seen: list[int] = []
    blocks[0].register_forward_hook(lambda module, args, output: seen.append(1))
    before = everything(hf)
    model = hooke.load(hf, tokenizer=words())
    same(before, everything(hf))
    clean = word_model(name, torch.float32)
    for verb, call in VERBS.items():
        call(model)
        same(before, everything(hf))
        assert seen, verb
    close(logits_of(model, CLEAN), logits_of(clean, CLEAN))
    made = [hooke.patch(model, CLEAN, CORRUPT, target=TARGET).id for _ in range(2)]
    assert made[0] == made[1]


def test_changing_rotations_are_left_as_they_were() -> None:
    changes = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 4.0}}
    hf = new_hf("llama", max_position_embeddings=8, **changes)
    with torch.no_grad():
        hf(input_ids=random_ids(1, 30))
    before = everything(hf)
    model = hooke.load(hf)
    mark = model.weights_hash()
    for n in (5, 8, 20, 31):
        model.run(random_ids(n))
        same(before, everything(hf))
    assert model.weights_hash() == mark
