"""ACDC in batches is the sequential algorithm; learned masks find a circuit that is known by construction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from families import model_of, random_tokens
from hooke.methods.circuit.acdc import acdc_edges, acdc_scores
from hooke.methods.circuit.masks import Learning, edge_masks, gates, open_chance
from hooke.methods.computation_graph import ComputationGraph, written
from hooke.methods.objective import Objective
from hooke.model import Model, Tokens
from slow_cuts import slow_edges


def kl_to(model: Model, prompts: Tokens) -> Objective:
    log = model.run(prompts, logits="last").logits.log_softmax(-1)  # type: ignore[union-attr]

    def distance(logits: Tensor, pairs: Tensor) -> Tensor:
        own = log[pairs]
        return (own.exp() * (own - logits.log_softmax(-1))).sum(-1)

    return Objective(distance, distance, distance)


def sequential(model: Model, clean: Tokens, corrupt: Tokens, objective: Objective, threshold: float) -> Tensor:
    """The algorithm as it is written down: one edge, one run."""
    computation, other = ComputationGraph.of(model.parts), written(model, corrupt)
    keep, value = torch.ones(1, *computation.edges.shape), 0.0
    with torch.no_grad():
        for reader, writer in computation.edges.nonzero().flip(0).tolist():
            keep[0, reader, writer] = 0
            logits = slow_edges(model, clean, keep, other, logits="last")
            found = float(objective.distance(logits, torch.arange(len(clean.ids))).mean())
            if found - value < threshold:
                value = found
            else:
                keep[0, reader, writer] = 1
    return (keep[0] > 0) & computation.edges


@pytest.mark.parametrize("threshold", [1e-4, 3e-3, 1.0])
def test_batches_are_the_sequential_algorithm(threshold: float) -> None:
    model = model_of("gpt2")
    clean, corrupt = random_tokens(2, 5), random_tokens(2, 5, seed=1)
    objective = kl_to(model, clean)
    expected = sequential(model, clean, corrupt, objective, threshold)
    for rows in (2, 64):
        assert torch.equal(acdc_edges(model, clean, corrupt, objective, threshold=threshold, max_rows=rows), expected)
    if threshold == 1.0:
        assert not bool(expected.any())


def test_scores_count_the_thresholds_survived() -> None:
    model = model_of("gpt2")
    clean, corrupt = random_tokens(1, 5), random_tokens(1, 5, seed=1)
    objective = kl_to(model, clean)
    each = [acdc_edges(model, clean, corrupt, objective, threshold=t) for t in (1e-4, 1e-2)]
    found = acdc_scores(model, clean, corrupt, objective, thresholds=[1e-2, 1e-4])
    assert torch.equal(found, each[0].float() + each[1].float())


def test_gates_open_and_close() -> None:
    logits = torch.tensor([-8.0, 0.0, 8.0])
    assert gates(logits, None).tolist() == [0.0, 0.5, 1.0]
    noise = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0)).clamp(1e-6, 1 - 1e-6)
    share = (gates(logits.expand(20_000, 3), noise) > 0).float().mean(0)
    assert torch.allclose(share, open_chance(logits), atol=0.01)


def test_masks_keep_what_matters() -> None:
    """One pair, all weight on few edges: the mask's order is that of a slow search by hand, at its top."""
    model = model_of("gpt2")
    clean, corrupt = random_tokens(4, 5), random_tokens(4, 5, seed=1)
    objective = kl_to(model, clean)
    computation, other = ComputationGraph.of(model.parts), written(model, corrupt)
    found = edge_masks(model, clean, corrupt, objective, Learning(penalty=0.3, steps=60, rows=4))
    order = found[computation.edges].argsort(descending=True)
    places = computation.edges.nonzero()

    def left(chosen: Tensor) -> float:
        keep = torch.zeros(1, *computation.edges.shape)
        keep[0, chosen[:, 0], chosen[:, 1]] = 1
        with torch.no_grad():
            return float(
                objective.distance(slow_edges(model, clean, keep, other, logits="last"), torch.arange(4)).mean()
            )

    half = len(places) // 2
    shuffled = [
        left(places[torch.randperm(len(places), generator=torch.Generator().manual_seed(s))[:half]]) for s in range(5)
    ]
    assert left(places[order[:half]]) < 0.5 * min(shuffled)
