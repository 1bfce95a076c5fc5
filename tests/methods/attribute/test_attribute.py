"""Estimates of patches: exact where mathematics says so, first order everywhere, and the published parts by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import LayerNorm

import hooke
from families import close, model_of, new_hf, one_thread, random_ids  # noqa: F401
from hooke import Edit, Model
from hooke.dictionaries import Direction, neurons
from hooke.errors import HookeError
from hooke.methods import metrics
from hooke.methods.attribute import correlations
from hooke.methods.attribute import gradients as by
from hooke.methods.patch.places import find_places, wanted
from hooke.methods.patch.sweeping import sweep
from hooke.methods.trace.coded import encode
from hooke.methods.trace.select import unit_effects
from hooke.model import Tokens, held_view
from hooke.model.attend import heads
from hooke.model.recorded import Recorded, record
from hooke.sites import Site

F64 = torch.float64
N_POS, GOOD, BAD = 5, 11, 45
METRIC = metrics.logit_difference(GOOD, BAD)


def row(seed: int) -> Tokens:
    ids = random_ids(1, N_POS, seed=seed)
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


def straight(n_layer: int, *, attention: bool) -> Model:
    """A GPT-2 whose norms and MLPs are linear (a norm's epsilon swamps its variance); without `attention` its
    patterns are uniform, so that nothing in it is bent."""
    hf = new_hf("gpt2", F64, n_layer=n_layer, activation_function="linear")
    eps = 1e10
    for module in hf.modules():
        if isinstance(module, LayerNorm):
            module.eps = eps
            module.weight.mul_(eps**0.5)
    for block in hf.transformer.h:
        if attention:  # sharp enough that its softmax is far from a straight line
            block.attn.c_attn.weight[:, :64] *= 30
        else:
            block.attn.c_attn.weight[:, :64] = 0
            block.attn.c_attn.bias[:64] = 0
    return Model(hf, None, name="straight")


def both(model: Model, places: Any) -> tuple[Recorded, Recorded]:
    reads = wanted(places)
    return record(model, row(2), reads), record(model, row(1), reads)


def exact(model: Model, base: Recorded, places: Any, new: Any) -> list[Tensor]:
    at = torch.arange(N_POS)
    return [x - float(METRIC(base.logits[None])) for x in sweep(model, base, places, [new], at, at, METRIC).values]


def laid_out(scores: by.Scores, places: Any) -> list[Tensor]:
    found = [torch.stack(x) for x in scores]
    return [x if p.units is None else x.transpose(1, 2) for x, p in zip(found, places, strict=True)]


@pytest.mark.parametrize("method", ["atp", "atp-qk", "relp", "ig-inputs", "ig-activations"])
def test_on_a_linear_model_every_estimate_is_exact(method: str) -> None:
    model = straight(3, attention=False)
    result = hooke.attribute(
        model,
        row(1),
        row(2),
        sites=["resid_pre", "v", "z", "mlp_act", "mlp_out", "resid_mid"],
        method=method,
        target=GOOD,
        contrast=BAD,
    )
    for name, want in result.payload["exact"].items():
        assert np.abs(want).max() > 1e-2
        assert np.allclose(result.payload["scores"][method][name], want, atol=1e-4 * np.abs(want).max()), name
    agreement = result.payload["agreement"][method]
    assert agreement["pearson"] == pytest.approx(1) and agreement["intervals"] is None


def test_queries_and_keys_are_exact_where_only_their_softmax_is_bent() -> None:
    model = straight(1, attention=True)
    result = hooke.attribute(
        model, row(1), row(2), sites=["q", "k"], method=["atp", "atp-qk", "atp-star"], target=GOOD, contrast=BAD
    )
    for name, want in result.payload["exact"].items():
        size = np.abs(want).max()
        for method in ("atp-qk", "atp-star"):
            assert np.allclose(result.payload["scores"][method][name], want, atol=1e-5 * size), (name, method)
        assert np.abs(np.array(result.payload["scores"]["atp"][name]) - want).max() > 1e-2 * size


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3", "neox", "gpt2"])
def test_small_patches_are_what_the_gradients_say(name: str) -> None:
    """At every kind of site, plain and with the exact softmax."""
    model = Model(new_hf(name, F64), None, name=name)
    direction = Direction(Site("resid_post", 1), torch.randn(32, generator=torch.Generator().manual_seed(1)).double())
    points = ["resid_pre", "q", "k", "v", "z", "pattern", "attn_out", "mlp_in", "mlp_act.1", "mlp_out", "mlp_act.2.7"]
    points += [] if model.parts.parallel else ["resid_mid"]
    places = find_places(model, [*points, (direction, [0])])
    base, other = both(model, places)
    small = 1e-5
    new = [
        [y + small * (x - y) for x, y in zip(place.values(other.acts), place.values(base.acts), strict=True)]
        for place in places
    ]
    want = exact(model, base, places, new)
    grads = laid_out(by.atp(model, base, places, new, METRIC), places)
    for place, x, y in zip(places, grads, want, strict=True):
        assert float(y.abs().max()) > 0, place.name
        close(x.double(), y, 2e-3)


def test_the_exact_softmax_equals_runs_that_change_only_the_pattern() -> None:
    """Slow and obvious: patch a query or key, read the patterns that come out, and take their product with dm/dA."""
    for name in ("llama", "gemma2", "qwen3"):
        model = Model(new_hf(name, F64), None, name=name)
        places = find_places(model, ["q.1", "k.1"])
        base, other = both(model, places)
        new = [place.values(other.acts) for place in places]
        hand = heads(model, base.tokens), heads(model, other.tokens)
        found = by.atp_star(model, base, places, new, METRIC, heads=hand, drop=False)
        site = Site("pattern", 1)
        slope = by.gradients(model, base.tokens, [site], METRIC)[site]
        before = model.run(base.tokens, read=[site]).acts[site]
        for place, scores in zip(places, found, strict=True):
            for position in range(N_POS):
                for unit in place.units or []:
                    value = new[places.index(place)][0][position, unit]
                    edit = Edit(place.sites[0], value=value, positions=[position], index=[unit])
                    after = model.run(base.tokens, read=[site], edits=[edit]).acts[site]
                    want = float(((after - before) * slope).sum())
                    assert float(scores[0][position, unit]) == pytest.approx(want, abs=1e-9, rel=1e-6)


def test_dropped_gradients_are_those_of_runs_with_the_layer_held() -> None:
    model = Model(new_hf("llama", F64), None, name="llama")
    places = find_places(model, ["mlp_out", "resid_pre", "resid_post"])
    base, other = both(model, places)
    new = [place.values(other.acts) for place in places]
    found = by.atp_star(model, base, places, new, METRIC, heads=([], []), drop=True)
    sizes = [[torch.zeros_like(x) for x in place] for place in found]
    for layer in range(3):
        outs = [Site(point, layer) for point in ("attn_out", "mlp_out")]
        held = model.run(base.tokens, read=outs).acts
        edits = [Edit(site, value=held[site][0].clone().requires_grad_()) for site in outs]
        run = model.run(base.tokens, read=wanted(places), edits=edits, grad=True, logits="last")
        values = [run.acts[s] for s in wanted(places)]
        grads = torch.autograd.grad(METRIC(run.logits).sum(), values, allow_unused=True)
        by_site = {s: torch.zeros_like(v) if g is None else g for s, v, g in zip(wanted(places), values, grads)}
        by_site[Site("mlp_out", layer)] = torch.zeros_like(base.resid[0])[
            None
        ]  # what the layer itself writes has no score in its own pass
        for passes, total, part in zip((2, 3, 3), sizes, by.linear(places, base, new, by_site), strict=True):
            for x, y in zip(total, part, strict=True):
                x += y.abs() / passes
    plain = by.atp(model, base, places, new, METRIC)
    close(found[2][2], plain[2][2])  # nothing that could be dropped follows the last layer
    for place, size, sign in zip(found, sizes, plain, strict=True):
        for x, y, z in zip(place, size, sign, strict=True):
            close(x, y * z.sign())


def test_integrated_gradients_add_up() -> None:
    model = Model(new_hf("llama", F64), None, name="llama")
    places = find_places(model, ["resid_pre.0", "resid_post.2"])
    base, other = both(model, places)
    new = [place.values(other.acts) for place in places]
    whole = float((METRIC(other.logits[None]) - METRIC(base.logits[None]))[0])
    inputs = by.ig_inputs(model, base, other, places, new, METRIC, steps=200)
    assert float(inputs[0][0].sum()) == pytest.approx(whole, rel=1e-3)
    along = by.ig_activations(model, base, places, new, METRIC, steps=200)
    assert float(along[0][0].sum()) == pytest.approx(whole, rel=1e-3)
    assert float(along[1][0][-1]) == pytest.approx(whole, rel=1e-3)  # all of the answer goes through it


@pytest.mark.parametrize("name", ["llama", "gemma2", "neox", "gpt2"])
def test_relp_equals_the_frozen_map(name: str) -> None:
    """Of neurons, as the trace has it; of the tokens, what the map gives when one is doubled."""
    model = Model(new_hf(name, F64), None, name=name)
    tokens = row(2)
    found = by.relp_cotangents(model, tokens, lambda logits: logits[:, GOOD] - logits[:, BAD])
    view = held_view(model, tokens)
    basis = neurons(model)
    coded = encode(view, basis)
    vector = view.unembed_rows(torch.tensor([GOOD, BAD]), torch.tensor([1.0, -1.0]))
    if model.parts.softcap is not None:
        return  # the map ends before the cap, whose slope the cotangents have
    effects, down = unit_effects(view, coded, vector)
    for layer, effect in enumerate(effects):
        close(found[Site("mlp_act", layer)][0], effect.view(coded.codes[layer].shape))
    close(found[Site("resid_pre", 0)][0], down)
    close(found[Site("resid_post", 0)], found[Site("resid_pre", 1)])


@pytest.mark.parametrize("method", by.RELP_POINTS[:-1])
def test_relp_has_a_score_wherever_it_says(method: str) -> None:
    """With everything bent held, RelP is the gradient: so where the model is straight they are the same."""
    model = straight(2, attention=False)
    places = find_places(model, [method])
    base, other = both(model, places)
    new = [place.values(other.acts) for place in places]
    a = laid_out(by.relp(model, base, places, new, METRIC), places)
    b = laid_out(by.atp(model, base, places, new, METRIC), places)
    assert float(b[0].abs().max()) > 1e-3
    close(a[0], b[0])


def test_correlations_by_hand() -> None:
    got = correlations(np.array([[1.0, 2.0, 3.0, -4.0], [1.0, 4.0, 9.0, -16.0]]))
    assert got["spearman"] == pytest.approx(1) and got["spearman_size"] == pytest.approx(1)
    assert got["pearson"] == pytest.approx(np.corrcoef([1, 2, 3, -4], [1, 4, 9, -16])[0, 1])
    assert correlations(np.array([[1.0, 1.0], [1.0, 2.0]]))["pearson"] is None


def test_several_pairs_have_intervals() -> None:
    model = model_of("llama")
    clean, corrupt = [row(i) for i in (1, 3, 5, 7)], [row(i) for i in (2, 4, 6, 8)]
    result = hooke.attribute(
        model, clean, corrupt, sites="z", method=["atp", "relp"], target=[GOOD] * 4, contrast=[BAD] * 4
    )
    a = result.payload["agreement"]["atp"]
    assert a["n_pairs"] == 4 and a["intervals"]["pearson"][0] <= a["pearson"] <= a["intervals"]["pearson"][1]
    assert result.tensors["exact:z:3"].shape == (3, 4, N_POS) == result.tensors["relp:z:0"].shape
    alone = hooke.attribute(model, clean[3], corrupt[3], sites="z", method="atp", target=GOOD, contrast=BAD)
    assert np.allclose(alone.tensors["atp:z:0"], result.tensors["atp:z:3"])


def test_what_attribute_refuses() -> None:
    model = model_of("llama")
    ok: dict[str, Any] = {"target": GOOD, "contrast": BAD}
    for options, says in (
        ({"method": "lrp"}, "no method called 'lrp'"),
        ({"method": []}, "no method"),
        ({"sites": "q", "method": "relp"}, "no score for q.0"),
        ({"method": ["atp", "atp"]}, "method is given twice"),
        ({"metric": "accuracy"}, "no slope"),
        ({"seed": -1}, "a seed is"),
        ({"steps": 0}, "1 to 10,000 steps"),
        ({"steps": 10**9}, "1 to 10,000 steps"),
        ({"direction": "up"}, "denoise"),
        ({"sites": "nowhere"}, "cannot read site"),
    ):
        with pytest.raises(HookeError, match=says):
            hooke.attribute(model, row(1), row(2), **{**ok, **options})
    with pytest.raises(HookeError, match=r"equal token length$"):  # patch alone can align them
        hooke.attribute(model, row(1), Tokens(row(2).ids[:, 1:], row(2).mask[:, 1:]), **ok)
    with pytest.raises(HookeError, match="as many corrupt prompts"):
        hooke.attribute(model, [row(1), row(3)], [row(2)], target=[GOOD] * 2, contrast=[BAD] * 2)
