"""Runs: what is read, gradients, many edits of one prompt, and that the user's model is left as it was.

Expected values come from plain forward hooks, transformers' own outputs, finite differences, or loops
over rows and positions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families import (
    N_LAYERS,
    NAMES,
    VOCAB,
    WINDOW,
    close,
    logits_of,
    model_of,
    new_hf,
    one_thread,  # noqa: F401
    padded,
    random_ids,
    untouched,
)
from hooke.errors import HookeError
from hooke.model import Edit, Model, Tokens
from hooke.sites import Site

F64 = torch.float64
SLIDING = ("mistral", "gemma2", "gemma3")


# Reads


@pytest.mark.parametrize("name", NAMES)
def test_reads_equal_what_transformers_gives(name: str) -> None:
    model = Model(new_hf(name), None, name=name)  # its own: output_attentions leaves transformers' hooks behind
    ids = random_ids(2, 6)
    sites = [s for s in model.sites if s.point in ("resid_pre", "resid_post", "pattern", "final_norm")]
    run = model.run(ids, read=sites)
    with torch.no_grad():
        plain = model.hf(ids, output_hidden_states=True, output_attentions=True)
    close(run.logits, plain.logits, 1e-5)
    for layer in range(N_LAYERS):
        close(run.acts[f"resid_pre.{layer}"], plain.hidden_states[layer], 1e-5)
        close(run.acts[f"pattern.{layer}"], plain.attentions[layer], 1e-5)
        after = "final_norm" if layer == N_LAYERS - 1 else f"resid_post.{layer}"
        close(run.acts[after], plain.hidden_states[layer + 1], 1e-5)


def test_reads_equal_plain_hooks() -> None:
    """Every point of a Llama, against hooks written by hand on its modules."""
    model, ids = model_of("llama"), random_ids(2, 6)
    found: dict[str, Tensor] = {}

    def keep(name: str, output: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, out: Any = None) -> None:
            value = (out[0] if isinstance(out, tuple) else out) if output else (args or list(kwargs.values()))[0]
            found[name] = value.detach().clone()

        return hook

    removers = []
    for i, layer in enumerate(model.hf.model.layers):
        a, m = layer.self_attn, layer.mlp
        for name, module in (("resid_pre", layer), ("z", a.o_proj), ("mlp_in", m.gate_proj), ("mlp_act", m.down_proj)):
            removers.append(module.register_forward_pre_hook(keep(f"{name}.{i}", False), with_kwargs=True))
        for name, module in (
            ("resid_post", layer),
            ("attn_in", layer.input_layernorm),
            ("q", a.q_proj),
            ("k", a.k_proj),
            ("v", a.v_proj),
            ("attn_out", a.o_proj),
            ("mlp_pre", m.gate_proj),
            ("mlp_up", m.up_proj),
            ("mlp_out", m.down_proj),
            ("mlp_proj", m),
        ):
            removers.append(module.register_forward_hook(keep(f"{name}.{i}", True), with_kwargs=True))
    with torch.no_grad():
        model.hf(ids)
    for remover in removers:
        remover.remove()
    assert len(found) == 14 * N_LAYERS
    acts = model.run(ids, read=list(found)).acts
    for name, value in found.items():
        close(acts[name].flatten(2), value.flatten(2), 1e-5)
    for i in range(N_LAYERS):
        x = found[f"resid_pre.{i}"]
        mid = x + found[f"attn_out.{i}"]
        extra = model.run(ids, read=[f"resid_mid.{i}", f"attn_scale.{i}", f"mlp_scale.{i}"]).acts
        close(extra[f"resid_mid.{i}"], mid, 1e-6)
        close(extra[f"attn_scale.{i}"], (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt(), 1e-5)
        close(extra[f"mlp_scale.{i}"], (mid.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt(), 1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gemma2"])  # whose soft cap needs eager
def test_a_model_with_another_attention_gives_the_same(name: str) -> None:
    hf = new_hf(name)
    hf.config._attn_implementation = "sdpa"
    model, batch = Model(hf, None, name=name), padded([random_ids(7), random_ids(4, seed=1)], "left")
    for read in ([], ["pattern.1", "resid_post.1"]):
        run, expected = model.run(batch, read=read), model_of(name).run(batch, read=read)
        close(run.logits, expected.logits, 1e-5)
        for site in read:
            close(run.acts[site], expected.acts[site], 1e-5)
    assert hf.config._attn_implementation == "sdpa"


def test_shapes_are_those_of_the_table() -> None:
    model = model_of("llama")
    parts = model.parts
    sizes = {"batch": 2, "pos": 5, "query": 5, "key": 5, "head": parts.n_heads, "kv_head": parts.n_kv_heads}
    sizes |= {"d_head": parts.d_head, "d_model": parts.d_model, "d_mlp": parts.d_mlp, "1": 1}
    for site, x in model.run(random_ids(2, 5), read=model.sites).acts.items():
        assert x.shape == tuple(sizes[axis] for axis in site.shape.split()), site


@pytest.mark.parametrize("name", NAMES)
def test_padding_on_either_side_changes_nothing(name: str) -> None:
    model = model_of(name)
    rows = [random_ids(n, seed=n) for n in (7, 4, 1)]
    alone = [model.run(row, read=model.sites) for row in rows]
    for side in ("left", "right"):
        batch = padded(rows, side)
        run = model.run(batch, read=model.sites)
        last = logits_of(model, batch, logits="last")
        assert run.logits is not None
        for i, row in enumerate(rows):
            n = len(row)
            real = slice(7 - n, 7) if side == "left" else slice(0, n)
            padding = ~batch.mask[i]
            assert torch.equal(batch.ids[i, real], row)
            close(run.logits[i, real], logits_of(model, row)[0])
            close(last[i], logits_of(model, row)[0, -1])
            assert not run.logits[i, padding].any()
            for site, x in run.acts.items():
                expected = alone[i].acts[site][0]
                if site.point in ("scores", "pattern"):
                    low = torch.finfo(x.dtype).min / 2
                    close(x[i][:, real, real].clamp(min=low), expected.clamp(min=low))
                    assert not x[i][:, padding].any(), site
                    if site.point == "pattern":
                        assert not x[i][:, real][:, :, padding].any()
                else:
                    close(x[i][real], expected)
                    assert not x[i][padding].any(), site


@pytest.mark.parametrize("name", NAMES)
def test_patterns_are_causal_sum_to_one_and_keep_their_window(name: str) -> None:
    model = model_of(name)
    kinds = getattr(model.hf.config, "layer_types", None) or ["sliding_attention"] * N_LAYERS
    batch = padded([random_ids(9, seed=1), random_ids(6, seed=2)], "left")
    acts = model.run(batch, read=[f"pattern.{layer}" for layer in range(N_LAYERS)]).acts
    for layer in range(N_LAYERS):
        windowed = name in SLIDING and kinds[layer] == "sliding_attention"
        for row in range(2):
            for query in range(9):
                if not batch.mask[row, query]:
                    continue
                weights = acts[f"pattern.{layer}"][row, :, query]
                close(weights.sum(-1), torch.ones(4), 1e-5)
                for key in range(9):
                    seen = key <= query and bool(batch.mask[row, key]) and (not windowed or query - key < WINDOW)
                    assert bool((weights[:, key] > 0).all()) == seen, (layer, row, query, key)
    assert any(name in SLIDING and kind == "sliding_attention" for kind in kinds) == (name in SLIDING)


def test_without_logits_the_run_stops_after_the_last_read() -> None:
    model = Model(new_hf("llama"), None, name="llama")
    calls: list[str] = []
    for i, layer in enumerate(model.hf.model.layers):
        layer.self_attn.register_forward_pre_hook(lambda *_, i=i: calls.append(f"attn{i}"))
        layer.mlp.register_forward_pre_hook(lambda *_, i=i: calls.append(f"mlp{i}"))
    model.hf.lm_head.register_forward_pre_hook(lambda *_: calls.append("head"))
    ids = random_ids(5)
    run = model.run(ids, read=["attn_out.1", "resid_post.0"], logits=None)
    assert run.logits is None and set(run.acts) == {Site("attn_out", 1), Site("resid_post", 0)}
    assert calls == ["attn0", "mlp0", "attn1"]
    calls.clear()
    model.run(ids, read=["attn_out.1"])
    assert calls == ["attn0", "mlp0", "attn1", "mlp1", "attn2", "mlp2", "head"]
    with pytest.raises(HookeError, match="nothing to compute"):
        model.run(ids, logits=None)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "neox"])
def test_last_logits_compute_only_what_they_give(name: str) -> None:
    model = Model(new_hf(name), None, name=name)
    widths: list[int] = []
    model.parts.unembed.module.register_forward_pre_hook(lambda _, args: widths.append(args[0].shape[1]))
    for batch, width in (
        (random_ids(2, 6), 1),
        (padded([random_ids(6), random_ids(3, seed=3)], "left"), 1),
        (padded([random_ids(6), random_ids(3, seed=3)], "right"), 2),
    ):
        widths.clear()
        last = logits_of(model, batch, logits="last")
        every = logits_of(model, batch)
        ends = model.tokens(batch).mask.long().cumsum(1).argmax(1)
        close(last, every[torch.arange(2), ends], 1e-5)
        assert widths == [width, 6]


def test_reads_by_name_and_by_site() -> None:
    acts = model_of("llama").run(random_ids(3), read=["q.1"]).acts
    assert acts["q.1"] is acts[Site("q", 1)]
    assert "q.1" in acts and Site("q", 1) in acts and "k.1" not in acts
    with pytest.raises(KeyError):
        acts["k.1"]


def test_bad_inputs_are_refused_with_a_reason() -> None:
    model = model_of("llama")
    for given, says in (
        (torch.zeros(0, dtype=torch.long), "the prompt is empty"),
        (torch.tensor([1, VOCAB]), "must lie between 0 and 96"),
        (torch.tensor([-1, 3]), "must lie between 0 and 96"),
        (torch.full((65,), 3), "65 tokens and the context of llama is 64"),
        (torch.tensor([1.0, 2.0]), "must be integers"),
        (torch.ones(2, 2, 2, dtype=torch.long), "must be integers"),
        (Tokens(torch.ones(1, 3, dtype=torch.long), torch.ones(1, 4)), "rows of the mask 1 of 4"),
        (3, "not 3"),
        ([], "no prompt given"),
        ("", "the prompt is empty"),
        ("some text", "has no tokenizer"),
    ):
        with pytest.raises(HookeError, match=says):
            model.run(given)


# Gradients


@pytest.mark.parametrize("name", ["gpt2", "neox"])  # LayerNorm in fp64; the RMS norms of transformers round to fp32
def test_gradients_equal_finite_differences(name: str) -> None:
    model, ids = model_of(name, F64), random_ids(1, 5)
    value = torch.randn(32, dtype=F64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    edits = [
        Edit("resid_post.0", "add", value, positions=[2]),
        Edit("mlp_act.1", "scale", 0.5, index=[1, 2]),
        Edit("pattern.1", "scale", 0.5, index=(1, 0)),
        Edit("z.1", "set", 0.1, index=(2, 3)),
        Edit("attn_out.2", "project_out", torch.ones(32, dtype=F64)),
    ]
    sites = [Site.parse(s) for s in ("resid_pre.0", "mlp_act.0", "z.1", "pattern.2", "resid_post.2", "final_norm")]
    run = model.run(ids, read=sites, edits=edits, grad=True)
    assert run.logits is not None
    metric = (run.logits[0, -1] * torch.linspace(-1, 1, VOCAB, dtype=F64)).sum()
    grads = torch.autograd.grad(metric, [value, *(run.acts[s] for s in sites)])

    def at(extra: list[Edit], v: Tensor) -> float:
        now = [Edit("resid_post.0", "add", v, positions=[2]), *edits[1:], *extra]
        return float((logits_of(model, ids, edits=now)[0, -1] * torch.linspace(-1, 1, VOCAB, dtype=F64)).sum())

    step = 1e-5
    generator = torch.Generator().manual_seed(2)
    v = value.detach()
    u = torch.randn(v.shape, generator=generator, dtype=F64)
    slope = (at([], v + step * u) - at([], v - step * u)) / (2 * step)
    assert abs(slope - float((grads[0] * u).sum())) < 1e-6 * max(1, abs(slope))
    for site, grad in zip(sites, grads[1:], strict=True):
        u = torch.randn(grad.shape, generator=generator, dtype=F64)
        slope = (at([Edit(site, "add", step * u)], v) - at([Edit(site, "add", -step * u)], v)) / (2 * step)
        assert abs(slope - float((grad * u).sum())) < 1e-6 * max(1, abs(slope)), site
        assert float(grad.abs().max()) > 0


def test_grad_is_off_unless_asked_for() -> None:
    hf = new_hf("llama")
    for parameter in hf.parameters():
        parameter.requires_grad_(True)
    model = Model(hf, None, name="llama")
    run = model.run(random_ids(1, 4), read=["resid_post.1"])
    assert not run.logits.requires_grad and not run.acts["resid_post.1"].requires_grad
    with torch.no_grad():
        assert model.run(random_ids(1, 4), grad=True).logits.requires_grad


# The user's model


@pytest.mark.parametrize("name", NAMES)
def test_the_users_model_is_left_as_it_was(name: str) -> None:
    hf = new_hf(name)
    before = {key: value.clone() for key, value in hf.state_dict().items()}
    with torch.no_grad():
        plain = hf(random_ids(1, 6)).logits
    model = Model(hf, None, name=name)
    ids = random_ids(1, 6)
    model.run(ids, read=model.sites, edits=[Edit("resid_post.1", "scale", 2.0)])
    model.run(ids, read=["z.1"], logits=None)
    model.run_each(ids, [[Edit("z.2")], [Edit("z.1")]])
    stream = model.stream(ids, max_new_tokens=3, read=["z.1"])
    next(stream)
    assert untouched(hf)  # also between the steps of a stream
    with pytest.raises(HookeError):
        model.run(ids, edits=[Edit("resid_post.1", value=torch.zeros(7))])
    assert untouched(hf)
    with torch.no_grad():
        assert torch.equal(hf(ids).logits, plain)
    assert all(torch.equal(value, before[key]) for key, value in hf.state_dict().items())


def test_an_exception_inside_leaves_the_model_as_it_was() -> None:
    hf = new_hf("llama")
    model, ids = Model(hf, None, name="llama"), random_ids(1, 5)
    own = hf.model.layers[0].forward
    hf.model.layers[0].forward = own  # as libraries that wrap forward leave it

    class Boom:
        reads = (Site("resid_post", 1),)

        def encode(self, x: Any) -> Any:
            raise ZeroDivisionError

    def calls() -> None:
        model.run(ids, read=model.sites, edits=[Edit("resid_post.2", when=(Boom(), 0.0))])

    with pytest.raises(ZeroDivisionError):
        calls()
    assert hf.config._attn_implementation == "eager"
    base = model.record(ids)
    handle = hf.model.layers[2].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.run_each(base, [[Edit("mlp_act.2")]])
    handle.remove()
    assert hf.model.layers[0].__dict__["forward"] is own and "forward" not in hf.model.layers[1].__dict__
    del hf.model.layers[0].__dict__["forward"]
    assert untouched(hf)
    assert torch.equal(model.run(ids).logits, model.run(ids).logits)


def test_two_models_at_once_and_one_configuration_between_them() -> None:
    """Threads over two models that share a configuration, and over two views of one model."""
    from transformers import LlamaForCausalLM

    first = new_hf("llama")
    second = LlamaForCausalLM(first.config).eval()
    assert second.config is first.config
    models = [Model(first, None, name="a"), Model(second, None, name="b"), Model(first, None, name="again")]
    ids = [random_ids(1, 8, seed=i) for i in range(3)]
    sites = [f"pattern.{layer}" for layer in range(N_LAYERS)]
    expected = [m.run(x, read=sites) for m, x in zip(models, ids, strict=True)]
    wrong: list[str] = []

    def work(i: int) -> None:
        try:
            for turn in range(15):
                edits = [Edit("resid_post.1", "scale", 1.0 + turn)] if turn % 2 else []
                run = models[i].run(ids[i], read=sites, edits=edits)
                for site in sites:
                    changed = bool(edits) and site == "pattern.2"
                    if torch.equal(run.acts[site], expected[i].acts[site]) == changed and turn:
                        wrong.append(f"{i} {turn} {site}")
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(i % 3,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert untouched(first) and untouched(second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_runs_edits_and_generates(name: str, dtype: torch.dtype) -> None:
    model, full = model_of(name, dtype), model_of(name)
    batch = padded([random_ids(6), random_ids(4, seed=1)], "left")
    edits = [
        Edit("resid_post.0", "add", torch.ones(32), positions=[-1]),
        Edit("mlp_act.1", "scale", 0.5, index=[1]),
        Edit("pattern.1", index=(0, 0)),
        Edit("resid_post.1", "project_out", torch.ones(32)),
    ]
    run = model.run(batch, read=model.sites, edits=edits)
    assert run.logits is not None and run.logits.dtype == dtype
    close(run.logits.float(), logits_of(full, batch, edits=edits), 0.08)
    assert all(x.dtype == (torch.float32 if s.point.endswith("scale") else dtype) for s, x in run.acts.items())
    assert float((run.acts["resid_post.1"].float().sum(-1)).abs().max()) < 0.2
    assert model.generate(batch, max_new_tokens=2, edits=edits[:2]).tokens.shape == (2, 2)


def test_a_prefix_serves_the_weights_that_made_it() -> None:
    """What it left in the cache belongs to them, and edits do not reach it any more."""
    ids = random_ids(10)
    model = Model(new_hf("llama"), None, name="llama")
    prefix = model.prefix(ids[:6])
    close(logits_of(model, ids[6:], after=prefix), logits_of(model, ids)[:, 6:])
    with pytest.raises(HookeError, match="made by another model"):
        model_of("mistral").run(ids[6:], after=prefix)
    for positions in ([2], [7, 5], [-5], torch.tensor([0])):
        with pytest.raises(HookeError, match="lies in the prefix of 6 tokens"):
            model.run(ids[6:], after=prefix, edits=Edit("resid_pre.0", positions=positions))
    for positions in ([6], [-4], [9, -1]):
        edit = Edit("resid_pre.0", positions=positions)
        close(logits_of(model, ids[6:], after=prefix, edits=edit), logits_of(model, ids, edits=edit)[:, 6:])
    weight = model.hf.model.layers[0].self_attn.k_proj.weight  # type: ignore[union-attr, index]
    for change in (
        lambda: weight.data.mul_(1.5),
        lambda: weight.mul_(1.5),
        lambda: setattr(weight, "data", weight * 2),
    ):
        prefix = model.prefix(ids[:6])
        with torch.no_grad():
            change()
        with pytest.raises(HookeError, match="the weights have changed since"):
            model.run(ids[6:], after=prefix)
    close(logits_of(model, ids[6:], after=model.prefix(ids[:6])), logits_of(model, ids)[:, 6:])
