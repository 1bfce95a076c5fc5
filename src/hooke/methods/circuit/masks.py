"""Learned masks over edges: which may be cut while the output stays (edge pruning 2406.16778, subnetwork probing
2104.03514, with hard-concrete gates, 1712.01312)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hooke.methods.circuit.scores import everything_cut
from hooke.methods.computation_graph import ComputationGraph
from hooke.methods.edge_runs import pair_runs, run_edges
from hooke.methods.objective import Objective
from hooke.methods.progress import Tick, idle
from hooke.model import Model, Tokens

STRETCH = (-0.1, 1.1)  # of the concrete distribution, so that gates reach 0 and 1
TEMPERATURE = 2 / 3
RATE = 0.1  # of Adam


class Learning(NamedTuple):
    """How gates are learned: what their expected share of open ones costs, how many steps are made, and on how many
    pairs of prompts each, drawn anew."""

    penalty: float = 0.1
    steps: int = 200
    rows: int = 16


def gates(logits: Tensor, noise: Tensor | None) -> Tensor:
    """Hard-concrete gates in [0, 1] of their logits; noise: uniform in (0, 1), or None for the middle."""
    low, high = STRETCH
    shift = 0.0 if noise is None else noise.log() - (1 - noise).log()
    return (((logits + shift) / TEMPERATURE).sigmoid() * (high - low) + low).clamp(0, 1)


def open_chance(logits: Tensor) -> Tensor:
    """The chance that a gate is not 0: what the penalty adds up."""
    low, high = STRETCH
    return (logits - TEMPERATURE * math.log(-low / high)).sigmoid()


def edge_masks(
    model: Model,
    clean: Tokens,
    corrupt: Tokens,
    objective: Objective,
    learning: Learning = Learning(),  # noqa: B008
    *,
    start: Tensor | None = None,
    seed: int = 0,
    tick: Tick = idle,
) -> Tensor:
    """(n_readers, n_writers): the learned logit of each edge's gate; larger means that it is needed.

    Minimises the mean distance of the gated model's outputs from the whole one's, in units of the distance with all
    edges cut, plus the penalty times the expected share of open gates, by Adam. start: scores of the edges, by whose
    ranks gates begin (a warm start).
    """
    penalty, steps, rows = learning
    computation = ComputationGraph.of(model.parts)
    edges = computation.edges.to(model.device)
    generator = torch.Generator(device=model.device).manual_seed(seed)
    logits = torch.full(edges.shape, 1.0, device=model.device)
    if start is not None:
        rank = torch.zeros_like(logits)
        order = start.to(model.device)[edges].argsort().argsort().float()
        rank[edges] = order / max(1, len(order) - 1)
        logits = 3 * rank  # the least begin half open
    logits.requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=RATE)
    with torch.no_grad():
        runs = pair_runs(model, clean, corrupt)
        unit = everything_cut(model, runs, objective) or 1.0
    batch = len(clean.ids)
    for step in range(steps):
        chosen = torch.randint(batch, (min(rows, batch),), generator=generator, device=model.device)
        noise = torch.rand(len(chosen), *edges.shape, generator=generator, device=model.device).clamp(1e-6, 1 - 1e-6)
        out = run_edges(model, runs.rows(chosen), gates(logits, noise), grad=True, logits=objective.logits)
        loss = objective.distance(out, chosen).mean() / unit + penalty * open_chance(logits)[edges].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        tick((step + 1) / steps)
    return torch.where(edges, logits.detach(), logits.detach().min())
