"""Every way to find the edges of a circuit, under one name and one signature."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.circuit.acdc import acdc_scores
from hooke.methods.circuit.masks import edge_masks
from hooke.methods.circuit.scores import eap, eap_ig_activations, eap_ig_inputs, everything_cut, exact, flow, relp
from hooke.methods.circuit.sieve import sieve
from hooke.methods.computation_graph import ComputationGraph
from hooke.methods.edge_runs import pair_runs
from hooke.methods.objective import Objective
from hooke.methods.progress import Tick, idle
from hooke.model import Model, Tokens
from hooke.results import read_json

BUDGET = 2000  # edges that the sieve cuts one by one
THRESHOLDS = tuple(10 ** (-5 + i / 2) for i in range(11))  # of ACDC, as shares of the distance with all edges cut


class Found(NamedTuple):
    """What a method says of every edge.

    effects: (batch or 1, n_readers, n_writers), what cutting an edge alone changes the metric by, an estimate of
        that, or, of methods without a sign, how much it is needed.
    tested: (n_readers, n_writers) True where the effect is exact.
    passes: forward passes that it took for each pair of prompts, a backward pass counting as two.
    """

    effects: Tensor
    tested: Tensor
    passes: float
    seconds: float

    def sizes(self) -> Tensor:
        """(n_readers, n_writers): how much each edge matters, whichever way: the mean size over the pairs."""
        return self.effects.abs().mean(0).cpu()


@dataclass(frozen=True)
class CircuitMethod:
    """signed: whether effects say which way an edge works. fails: where it is known to go wrong, and why."""

    name: str
    about: str
    source: str
    signed: bool
    fails: str


METHODS: dict[str, CircuitMethod] = {
    m.name: m
    for m in (
        CircuitMethod(
            "sieve",
            "whole nodes are cut, then edges between those that matter; what is left stands by information flow",
            "exact cuts, ours",
            True,
            "edges that stand in for each other: each alone changes nothing; beyond its budget it is EAP-IG",
        ),
        CircuitMethod(
            "exact",
            "every edge is cut by itself, really",
            "path patching, 2304.05969",
            True,
            "edges that stand in for each other: each alone changes nothing; one run for each edge",
        ),
        CircuitMethod(
            "eap",
            "edge attribution patching: the gradient at the clean run times the change",
            "2310.10348",
            True,
            "saturated attention and nonlinearities have no gradient where the clean run stands",
        ),
        CircuitMethod(
            "eap-ig",
            "EAP with the gradient averaged over embeddings on the way from corrupt to clean",
            "2403.17806",
            True,
            "steps that jump over a narrow switch; queries and keys of sharp attention",
        ),
        CircuitMethod(
            "eap-ig-activations",
            "EAP with the gradient averaged over each layer's outputs on the way from corrupt to clean",
            "2403.17806",
            True,
            "as EAP-IG, less so; takes passes for every layer",
        ),
        CircuitMethod(
            "relp",
            "EAP with the backward rules of relevance propagation",
            "2508.21258",
            True,
            "patterns are held, so edges into queries and keys get nothing",
        ),
        CircuitMethod(
            "ifr",
            "information flow routes: how near each term comes to what is read, spread back from the logits",
            "2403.00824",
            False,
            "large is not important: it sees neither the counterfactual nor the metric",
        ),
        CircuitMethod(
            "acdc",
            "edges are taken out from the logits back while the output hardly moves, at eleven thresholds",
            "2304.14997",
            False,
            "depends on the order; of edges that stand in for each other keeps the last",
        ),
        CircuitMethod(
            "masks",
            "gates on edges, learned to keep the output with few open, begun at the order of EAP-IG",
            "2406.16778, 2104.03514",
            False,
            "edges that are open at no cost stay in the order they began in",
        ),
        CircuitMethod(
            "ensemble",
            "the mean of the standardised sizes of EAP, EAP-IG on inputs and activations, and masks",
            "2510.06811",
            False,
            "what all its members miss, queries and keys of sharp attention among it",
        ),
        CircuitMethod("random", "a random order: the control", "", False, "everywhere"),
    )
}
DEFAULT = "sieve"
SCORES = Path(__file__).with_name("truth_scores.json")  # written by scripts/publish_scoreboard.py
MEMBERS = ("eap", "eap-ig", "eap-ig-activations", "masks")  # of the ensemble


def find_method(name: str) -> CircuitMethod:
    """A method by its name. Raises HookeError listing what there is."""
    if name not in METHODS:
        raise HookeError(f"no circuit method called {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]


def scores_on_truth(name: str) -> dict[str, Any] | None:
    """What a method scored on models whose circuit is known (docs/scoreboard.md), or None."""
    found: dict[str, Any] = read_json(SCORES)
    return found.get(name)


def find_edges(
    model: Model,
    clean: Tokens,
    corrupt: Tokens,
    objective: Objective,
    method: str = DEFAULT,
    *,
    budget: int = BUDGET,
    seed: int = 0,
    tick: Tick = idle,
) -> Found:
    """Score every edge by one method, on pairs of prompts that line up token by token.

    budget: edges that the sieve may cut one by one. seed: of masks and of the random order. Raises HookeError for an
    unknown method, and for scores that are not finite.
    """
    find_method(method)
    edges = ComputationGraph.of(model.parts).edges
    given = (model, clean, corrupt, objective)
    tested = torch.zeros_like(edges)
    start = time.perf_counter()
    with _counted(model) as tokens:
        if method == "sieve":
            effects, tested = sieve(*given, budget=budget, tick=tick)
        elif method == "exact":
            effects, tested = exact(*given, tick=tick), edges.clone()
        elif method == "acdc":
            unit = everything_cut(model, pair_runs(model, clean, corrupt), objective)
            effects = acdc_scores(*given, thresholds=[unit * t for t in THRESHOLDS], tick=tick)[None]
        elif method == "masks":
            effects = _masks(*given, start=eap_ig_inputs(*given).detach().abs().mean(0), seed=seed, tick=tick)
        elif method == "ensemble":
            members = [find_edges(*given, name, seed=seed, tick=tick).sizes() for name in MEMBERS]
            effects = combined(members, edges)
        elif method == "random":
            effects = torch.rand(1, *edges.shape, generator=torch.Generator().manual_seed(seed))
        else:
            gradual: dict[str, Callable[[], Tensor]] = {
                "eap": lambda: eap(*given),
                "eap-ig": lambda: eap_ig_inputs(*given),
                "eap-ig-activations": lambda: eap_ig_activations(*given),
                "relp": lambda: relp(*given),
                "ifr": lambda: flow(*given),
            }
            effects = gradual[method]()
    seconds = time.perf_counter() - start
    effects = effects.detach()
    if not bool(torch.isfinite(effects).all()):
        raise HookeError(f"{method} gave numbers that are not finite on {model.name}")
    return Found(effects, tested, sum(tokens) / clean.ids.numel(), seconds)


def combined(members: Sequence[Tensor], edges: Tensor) -> Tensor:
    """(1, n_readers, n_writers): what the ensemble makes of the sizes that its members give, each over the edges with
    mean 0 and deviation 1; moved above 0, so that sizes keep their order."""
    total = torch.zeros(edges.shape)
    for x in members:
        total += (x - x[edges].mean()) / x[edges].std().clamp(min=1e-12) / len(members)
    return ((total - total[edges].min()) * edges)[None]


def _masks(
    model: Model, clean: Tokens, corrupt: Tokens, objective: Objective, *, start: Tensor, seed: int, tick: Tick
) -> Tensor:
    """(1, n_readers, n_writers), from 0 up: learned logits less the smallest."""
    found = edge_masks(model, clean, corrupt, objective, start=start, seed=seed, tick=tick)
    return (found - found.min())[None]


@contextmanager
def _counted(model: Model) -> Iterator[list[int]]:
    """Tokens that pass through the model, three times over where a backward pass follows."""
    seen: list[int] = []

    def count(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        ids = kwargs.get("inputs_embeds")[..., 0] if ids is None else ids  # type: ignore[index]
        seen.append(ids.numel() * (3 if torch.is_grad_enabled() else 1))

    hook = model.hf.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()
