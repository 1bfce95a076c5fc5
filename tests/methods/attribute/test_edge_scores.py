"""Scores of edges: equal to derivatives of cutting them, to slow loops, and to what mathematics says of the rules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from families import CONFIGS, close, model_of, random_tokens
from hooke import Model
from hooke.methods import edge_cuts
from hooke.methods.circuit import scores as edge_scores
from hooke.methods.circuit.scores import (
    eap,
    eap_ig_activations,
    eap_ig_inputs,
    exact,
    flow,
    gradients,
    pull,
    relp,
    secant,
)
from hooke.methods.computation_graph import ComputationGraph, terms, write_sites, written
from hooke.methods.edge_cuts import cut_each
from hooke.methods.objective import Objective
from hooke.model import Tokens
from hooke.sites import Site
from slow_cuts import slow_edges

FAMILIES = sorted(CONFIGS)


def difference(logits: Tensor, _: object = None) -> Tensor:
    return logits[:, 5] - logits[:, 9]


OBJECTIVE = Objective(difference, difference, difference)


def keep_all(model: Model, batch: int = 1) -> Tensor:
    return torch.ones(batch, *ComputationGraph.of(model.parts).edges.shape, dtype=model.dtype)


@pytest.mark.parametrize("family", FAMILIES)
def test_eap_is_the_derivative_of_cutting(family: str) -> None:
    model = model_of(family, torch.float64)
    clean, corrupt = random_tokens(2, 6), random_tokens(2, 6, seed=1)
    keep = keep_all(model, 2).requires_grad_()
    value = difference(slow_edges(model, clean, keep, written(model, corrupt), grad=True, logits="last")).sum()
    (expected,) = torch.autograd.grad(value, keep)
    close(eap(model, clean, corrupt, OBJECTIVE), -expected, 1e-5)  # RMS norms compute in fp32


def test_exact_is_one_run_for_each_edge() -> None:
    model = model_of("llama")
    clean, corrupt = random_tokens(2, 6), random_tokens(2, 6, seed=1)
    computation, other = ComputationGraph.of(model.parts), written(model, corrupt)
    found = exact(model, clean, corrupt, OBJECTIVE, max_rows=7)
    base = difference(model.run(clean, logits="last").logits)  # type: ignore[arg-type]
    expected = torch.zeros_like(found)
    for r, u in computation.edges.nonzero().tolist():
        keep = keep_all(model)
        keep[0, r, u] = 0
        expected[:, r, u] = difference(slow_edges(model, clean, keep, other, logits="last")) - base
    close(found, expected)
    some = computation.mask(["m0->m2", "input->a1.h0<q>"])
    only = exact(model, clean, corrupt, OBJECTIVE, edges=some)
    close(only, torch.where(some, found, 0.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_cuts_are_runs_with_an_edge_out(family: str) -> None:
    """Prompts of several lengths, padded, which differ from different positions on."""
    model = model_of(family)
    clean = random_tokens(3, 7)
    clean = Tokens(clean.ids, torch.arange(7) >= torch.tensor([0, 2, 0])[:, None])
    ids = clean.ids.clone()
    ids[0, 0], ids[1, 4], ids[2, 6] = 11, 12, 13
    corrupt = Tokens(ids, clean.mask)
    computation = ComputationGraph.of(model.parts)
    tried = computation.edges.nonzero()[::3]
    found = cut_each(model, clean, corrupt, OBJECTIVE, tried)
    other = written(model, corrupt)
    for n, (r, u) in enumerate(tried.tolist()):
        keep = keep_all(model)
        keep[0, r, u] = 0
        close(found[:, n], difference(slow_edges(model, clean, keep, other, logits="last")))


def test_exact_is_the_same_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("gpt2")
    clean, corrupt = random_tokens(2, 6), random_tokens(2, 6, seed=1)

    def effect(logits: Tensor, pairs: Tensor) -> Tensor:  # one that knows which pair it measures
        return difference(logits) * (pairs + 1)

    objective = Objective(difference, difference, effect)
    monkeypatch.setattr(edge_cuts, "TOGETHER", 50)
    found, ticks = [], []
    for worth in (0, 10**12):
        monkeypatch.setattr(edge_cuts, "WORTH", worth)
        found.append(exact(model, clean, corrupt, objective, tick=ticks.append))
    close(found[0], found[1])
    assert float(found[0].abs().max()) > 0.01
    assert ticks.count(1.0) == 2 and min(ticks) > 0


def test_what_cannot_be_packed_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    monkeypatch.setattr(edge_cuts, "WORTH", 96 * 5)
    tokens = random_tokens(2, 6)
    padded = Tokens(tokens.ids, torch.arange(6) > torch.tensor([[-1], [0]]))
    assert edge_cuts.packs(model, tokens, tokens, OBJECTIVE, 5)
    assert not edge_cuts.packs(model, tokens, tokens, OBJECTIVE, 4)
    assert not edge_cuts.packs(model, tokens, padded, OBJECTIVE, 5)
    assert not edge_cuts.packs(model, tokens, tokens, Objective(difference, difference, difference, "all"), 5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "neox"])
def test_one_backward_pass_gives_values_too(family: str) -> None:
    """What the run of `gradients` read is what `written` gives, padding and all."""
    model = model_of(family)
    clean, corrupt = random_tokens(2, 6), random_tokens(2, 6, seed=1)
    clean, corrupt = (Tokens(t.ids, torch.arange(6) >= torch.tensor([[0], [2]])) for t in (clean, corrupt))
    slopes, acts = edge_scores.backward(model, clean, OBJECTIVE, read=write_sites(model))
    close(slopes, gradients(model, clean, OBJECTIVE))
    own, other = written(model, clean), written(model, corrupt)
    close(terms(model, acts), own)
    expected = torch.einsum("ubpd,rbpd->bru", other - own, slopes) * ComputationGraph.of(model.parts).edges
    close(eap(model, clean, corrupt, OBJECTIVE), expected)


def test_a_small_change_is_what_eap_says() -> None:
    """To first order they agree: the corrupt run as near to the clean one as numbers allow."""
    model = model_of("gpt2", torch.float64)
    clean = random_tokens(1, 6)
    own = written(model, clean)
    other = own + 1e-6 * torch.randn(own.shape, dtype=own.dtype, generator=torch.Generator().manual_seed(0))
    computation = ComputationGraph.of(model.parts)
    g = gradients(model, clean, OBJECTIVE)
    for r, u in computation.edges.nonzero()[::17].tolist():
        keep = keep_all(model)
        keep[0, r, u] = 0
        change = difference(slow_edges(model, clean, keep, other, logits="last")) - difference(
            model.run(clean, logits="last").logits
        )  # type: ignore[arg-type]
        assert float(change) == pytest.approx(float(((other - own)[u] * g[r]).sum()), rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_integrated_gradients_are_averages(family: str) -> None:
    model = model_of(family)
    clean, corrupt = random_tokens(2, 6), random_tokens(2, 6, seed=1)
    plain = eap(model, clean, corrupt, OBJECTIVE)
    close(eap_ig_inputs(model, clean, corrupt, OBJECTIVE, steps=1), plain)
    close(eap_ig_activations(model, clean, corrupt, OBJECTIVE, steps=1), plain)
    # of the logits' edges: the metric is linear behind the final norm, so with many steps along the last MLP the
    # score of its edge to the logits is the whole change
    computation = ComputationGraph.of(model.parts)
    last = computation.mlp(model.parts.n_layers - 1)
    found = eap_ig_activations(model, clean, corrupt, OBJECTIVE, steps=60)[:, -1, last]
    expected = exact(model, clean, corrupt, OBJECTIVE)[:, -1, last]
    close(found, expected, 2e-2)


@pytest.mark.parametrize("family", ["mistral", "qwen3", "phi3"])
def test_relevance_is_conserved(family: str) -> None:
    """Without biases, what the rules pass back from a logit adds up to it at the embedded tokens."""
    model = model_of(family, torch.float64)
    ids = random_tokens(1, 6)

    def logit(logits: Tensor, _: object = None) -> Tensor:
        return logits[:, 5]

    if any(linear.bias is not None for b in model.parts.blocks for linear in (b.q, b.k, b.v, b.o, b.up, b.down)):
        pytest.skip("this family has biases")
    g = gradients(model, ids, Objective(logit, logit, logit), rules=True)
    terms = written(model, ids)
    value = logit(model.run(ids, logits="last").logits)  # type: ignore[arg-type]
    close((g[-1] * terms.sum(0)).sum()[None], value, 1e-6)
    assert float((g * terms[0]).sum()) == pytest.approx(float(value[0]), rel=1e-6)


def test_rules_leave_the_values_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for family in FAMILIES:
        model = model_of(family)
        ids = random_tokens(2, 6)
        taps = edge_scores._rules(model)
        close(model.run(ids, taps=taps).logits, model.run(ids).logits)


def test_relp_gives_queries_and_keys_nothing() -> None:
    model = model_of("llama")
    computation = ComputationGraph.of(model.parts)
    found = relp(model, random_tokens(1, 6), random_tokens(1, 6, seed=1), OBJECTIVE)
    for layer in range(3):
        assert float(found[:, computation.rows(layer, "q")].abs().max()) == 0
        assert float(found[:, computation.rows(layer, "k")].abs().max()) == 0
    assert float(found.abs().max()) > 0


def test_secant_keeps_the_value_and_has_the_slope_to_the_origin() -> None:
    z = torch.tensor([-2.0, 0.0, 0.5, 3.0], requires_grad=True)
    value = torch.nn.functional.silu(z).detach()
    y = secant(z, value)
    close(y, value)
    (slope,) = torch.autograd.grad(y.sum(), z)
    close(slope[[0, 2, 3]], (value / z.detach())[[0, 2, 3]])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_pull_is_the_transposed_jacobian_of_a_norm(family: str) -> None:
    norm = model_of(family, torch.float64).parts.blocks[1].attn_norm
    assert norm is not None
    x = torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    g = torch.randn(3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (expected,) = torch.autograd.grad((norm.apply(x, norm.scale(x)) * g).sum(), x)
    close(pull(norm, g, x.detach()), expected, 1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_flow_in_half_precision(dtype: torch.dtype) -> None:
    """A reader that nothing flows to has a share of zero, not of zero by zero."""
    ids = random_tokens(2, 6)
    found, expected = (flow(model_of("llama", d), ids, ids, OBJECTIVE).float() for d in (dtype, torch.float32))
    close(found.mean(0), expected.mean(0), 0.1)


def test_flow_spreads_one_from_the_logits() -> None:
    model = model_of("gpt2")
    found = flow(model, random_tokens(2, 6), random_tokens(2, 6), OBJECTIVE)
    assert bool((found >= 0).all())
    close(found[:, -1].sum(-1), torch.ones(2))
    names: Any = ComputationGraph.of(model.parts)
    assert float((found * ~names.edges).abs().max()) == 0
    assert Site("pattern", 0) in model.sites
