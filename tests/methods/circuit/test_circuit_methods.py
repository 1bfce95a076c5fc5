"""Every circuit method under one signature; the sieve is exact patching of the edges that can matter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from families import close, model_of, random_tokens
from hooke import HookeError
from hooke.methods.circuit.find import DEFAULT, METHODS, find_edges
from hooke.methods.circuit.scores import eap_ig_inputs, exact, flow
from hooke.methods.circuit.sieve import node_effects, sieve
from hooke.methods.computation_graph import ComputationGraph, written
from hooke.methods.objective import Objective
from hooke.model import Model, Tokens
from hooke.truth.known import known
from hooke.truth.scoreboard import objective_of
from slow_cuts import slow_edges


def difference(logits: Tensor, _: object = None) -> Tensor:
    return logits[:, 5] - logits[:, 9]


def divergence(model: Model, clean: Tokens) -> Objective:
    own = model.run(clean, logits="last").logits
    assert own is not None
    log = own.detach().log_softmax(-1)

    def distance(logits: Tensor, pairs: Tensor) -> Tensor:
        return (log[pairs].exp() * (log[pairs] - logits.log_softmax(-1))).sum(-1)

    return Objective(difference, distance, difference)


def test_cutting_nodes_is_a_slow_loop() -> None:
    model = model_of("llama")
    clean, corrupt = random_tokens(2, 5), random_tokens(2, 5, seed=1)
    objective, computation = divergence(model, clean), ComputationGraph.of(model.parts)
    out, into = node_effects(model, clean, corrupt, objective, max_rows=7)
    other, base = written(model, corrupt), difference(model.run(clean, logits="last").logits)  # type: ignore[arg-type]
    for found, dim in ((out, 1), (into, 0)):
        for node in range(0, len(found), 5):
            keep = torch.ones(1, *computation.edges.shape)
            keep.select(dim + 1, node).zero_()
            moved = difference(slow_edges(model, clean, keep, other, logits="last")) - base
            assert float(found[node]) == pytest.approx(float(moved.abs().mean()), abs=1e-5)


def test_the_sieve_is_exact_where_something_moves() -> None:
    known_model = next(known("compiled", ["count-new"]))
    base, source = known_model.pairs(16, seed=0)
    model, objective = known_model.model, objective_of(known_model, base, source)
    given = (model, model.tokens(base), model.tokens(source), objective)
    close(sieve(*given, budget=10_000).effects, exact(*given))
    tested = sieve(*given, budget=10_000).tested
    assert (
        bool((exact(*given, edges=tested) == exact(*given)).all())
        and 0 < tested.sum() < ComputationGraph.of(model.parts).edges.sum()
    )
    a, b = (find_edges(*given, method) for method in ("sieve", "exact"))
    assert a.passes < b.passes / 2
    close(a.effects, b.effects)
    idle = ComputationGraph.of(model.parts).edges & (b.sizes() == 0)
    assert float(a.effects.mean(0)[idle].max()) <= 0, "what carries much is the last to be left out"
    order, carried = a.sizes()[idle], flow(*given).mean(0)[idle]
    assert float(order.max()) < 1e-6 * float(a.sizes().max()), "what does nothing stays below all else"
    close(order / order.max(), carried / carried.max())


def test_beyond_the_budget_the_sieve_is_an_estimate() -> None:
    model = model_of("gpt2")
    clean, corrupt = random_tokens(3, 5), random_tokens(3, 5, seed=1)
    given = (model, clean, corrupt, divergence(model, clean))
    found = sieve(*given, budget=20)
    estimate, real, edges = eap_ig_inputs(*given), exact(*given), ComputationGraph.of(model.parts).edges
    cut = found.tested
    assert int(cut.sum()) == 20
    close(found.effects[:, cut], real[:, cut])
    assert float(estimate.abs().mean(0)[cut].min()) >= float(estimate.abs().mean(0)[edges & ~cut].max())
    left = edges & ~found.tested
    close(found.effects[:, left], estimate[:, left])
    assert find_edges(*given, "sieve", budget=20).tested.sum() == found.tested.sum()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_one_signature(method: str) -> None:
    known_model = next(known("compiled", ["count-a"]))
    base, source = known_model.pairs(4, seed=0)
    model, objective = known_model.model, objective_of(known_model, base, source)
    given = (model, model.tokens(base), model.tokens(source), objective, method)
    found = find_edges(*given, seed=3)
    edges = ComputationGraph.of(model.parts).edges
    assert found.effects.shape[1:] == edges.shape and len(found.effects) in (1, 4)
    assert found.sizes().shape == edges.shape and float(found.sizes()[edges].max()) > 0
    assert found.seconds > 0 and (found.passes > 0) == (method != "random")
    assert bool(found.tested.any()) == (method in ("sieve", "exact"))
    close(found.effects, find_edges(*given, seed=3).effects)
    text = METHODS[method]
    assert text.about and text.fails and (text.source or method == "random")


def test_what_a_method_costs() -> None:
    model = model_of("gpt2")
    clean, corrupt = random_tokens(2, 5), random_tokens(2, 5, seed=1)
    objective, n_edges = divergence(model, clean), int(ComputationGraph.of(model.parts).edges.sum())
    cost = {name: find_edges(model, clean, corrupt, objective, name).passes for name in ("exact", "eap", "random")}
    assert n_edges <= cost["exact"] <= n_edges + 3
    assert cost["eap"] == pytest.approx(4)  # one run of each, and a backward pass
    assert cost["random"] == 0


def test_padding_on_the_left_changes_nothing() -> None:
    model = model_of("llama")
    rows = [random_tokens(1, n, seed=n).ids[0].tolist() for n in (4, 6)]
    others = [random_tokens(1, n, seed=n + 9).ids[0].tolist() for n in (4, 6)]
    clean, corrupt = model.pad(rows), model.pad(others)
    methods = ("eap", "exact", "eap-ig", "eap-ig-activations", "relp", "ifr")
    together = {m: find_edges(model, clean, corrupt, divergence(model, clean), m).effects for m in methods}
    for i, (a, b) in enumerate(zip(rows, others, strict=True)):
        one, other = model.tokens(torch.tensor(a)), model.tokens(torch.tensor(b))
        for method, effects in together.items():
            alone = find_edges(model, one, other, divergence(model, one), method).effects
            close(effects[i : i + 1], alone)


def test_unknown_methods_and_broken_numbers_are_refused() -> None:
    model = model_of("gpt2")
    clean, corrupt = random_tokens(1, 4), random_tokens(1, 4, seed=1)
    with pytest.raises(HookeError, match="no circuit method called 'best'; there are sieve, exact"):
        find_edges(model, clean, corrupt, divergence(model, clean), "best")
    nan = Objective(*[lambda logits, _: difference(logits) * torch.nan] * 3)
    for method in ("eap", "exact"):
        with pytest.raises(HookeError, match="not finite"):
            find_edges(model, clean, corrupt, nan, method)
    assert DEFAULT in METHODS
