"""`circuit`: the edges that carry what a model does for a task, how much of it they carry, and how sure that is.

pairs         what a circuit is found and measured on, and what it is to keep
levels        what it is made of: edges, nodes, neurons
find          every way to order edges, under one name and one signature
scores        what cutting an edge does: estimates from gradients and flow, and the cuts themselves
sieve         whole nodes are cut first, then edges between those that matter
acdc          edges are taken out one after another
masks         gates on edges are learned
chosen        which units are kept
measure       how faithful a circuit is at every size, and what its units do
faithfulness  the curve against size; edges that carry nothing
run           many circuits on the same pairs at once
stability     what other circuits of the same task have in common with it
report        its sentence, claims and payload
graph         the same as a graph
file          circuits in the JSON form of EAP-IG and MIB
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hooke.arguments import verb
from hooke.data.prompts.circuit_tasks import Example
from hooke.errors import HookeError
from hooke.methods.circuit import measure
from hooke.methods.circuit.chosen import Chosen, choose
from hooke.methods.circuit.file import read_circuit
from hooke.methods.circuit.levels import Level, check_names, level_of
from hooke.methods.circuit.measure import Measured
from hooke.methods.circuit.pairs import Asked, ask
from hooke.methods.circuit.report import payload_of, said, tensors_of
from hooke.methods.circuit.stability import in_common
from hooke.methods.metrics import Metric
from hooke.methods.progress import Clock, Progress, stretch
from hooke.methods.splits import check_seed
from hooke.model import Model
from hooke.results import Result

TESTS = 100


@verb
def circuit(
    model: Model,
    pairs: str | Sequence[Example],
    *,
    method: str | None = None,
    size: int | float | None = None,
    level: str = "edges",
    metric: str | Metric | None = None,
    ablation: str = "counterfactual",
    n_pairs: int | None = None,
    tests: int = TESTS,
    source: str | Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Find the circuit of a task, and measure it on other pairs of prompts than it was found on.

    pairs: the name of a task (`hooke tasks`), or examples (clean, corrupt, target, contrast); clean and corrupt of one
        pair have the same number of tokens, and pairs may differ in length.
    method: how edges are ordered (`METHODS`); by default the one that does best on models whose circuit is known, or
        EAP-IG, which takes a few passes, in a model of more than 10,000 edges.
    size: how many edges are kept (a whole number) or which share of all (a fraction); by default the fewest, of those
        tried, that keep 85 % of the effect on the pairs of the ranking. Edges that lead nowhere are left out after.
    level: "edges" between heads and MLPs, queries, keys and values apart; "nodes" for heads and MLPs; "neurons" for
        heads and single neurons. What is not kept has the values of the corrupt prompt.
    metric: "logit-difference" (the default) or "probability" of target and contrast, or a function of last logits
        (batch, d_vocab) -> (batch,) with a gradient. A task has its own.
    n_pairs: on how many pairs edges are ordered: of a task 8, and as many again are drawn for what is reported; of
        given examples half, and the rest is for what is reported.
    tests: how many edges at most are cut one by one in the whole model, and how many are taken out of the circuit.
    source: a circuit that was found elsewhere, a JSON file of EAP-IG or MIB, which is measured instead of finding one.
        Of a file with scores alone, or with a size, the circuit is made of the edges of the largest scores, whichever
        sign.
    Returns a `Result` of kind "circuit". payload.graph is the graph, weights below 0 where an edge supports the
    answer; payload.faithfulness the curve against size, beside random circuits of as many edges; payload.circuit the
    same of the circuit itself; payload.cpr, cmd; payload.stability; payload.minimality; payload.tests. Tensors: the
    effect of every edge (effects) and which are kept (kept), both (n_readers, n_writers), or by node.
    Raises HookeError for a task that the model cannot do, pairs that do not line up, a metric that is the same on
    clean and corrupt prompts, numbers that are not finite, and for a method, level or size that there is not.
    """
    clock = Clock(progress)
    _check(ablation, tests, source, level, method)
    check_seed(seed)
    check_names(level, method)
    space = level_of(model, level)
    wanted = measure.check_size(size, space.n)
    given = None if source is None else read_circuit(model, source)
    with clock("answers"):
        asked = ask(model, pairs, metric, n_pairs, seed)
    chosen = choose(space, asked.find, method, given, wanted, seed, clock)
    found = _measured(space, asked, chosen, tests, seed, clock)
    sentence, claims = said(space, asked, found)
    return Result.make(
        "circuit",
        arguments={
            "pairs": asked.task,
            "pairs_sha256": asked.sha256,
            "method": chosen.method,
            "level": level,
            "size": size,
            "metric": asked.metric,
            "ablation": ablation,
            "n_pairs": len(asked.find),
            "tests": tests,
            "source": None if given is None else given.source,
            "source_sha256": None if given is None else given.sha256,
            "seed": seed,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=claims,
        payload=payload_of(model, space, asked, chosen, found, sentence),
        tensors=tensors_of(space, chosen),
    )


def _check(ablation: str, tests: int, source: str | Path | None, level: str, method: str | None) -> None:
    """Raise HookeError for what cannot be asked of a circuit."""
    if ablation != "counterfactual":
        raise HookeError(
            f"no ablation called {ablation!r} for circuits: what they cut has the corrupt prompt's values "
            "(counterfactual); zero, mean and resample ablation are for patch"
        )
    if tests < 1:
        raise HookeError("at least one edge must be tested")
    if source is not None and (level != "edges" or method is not None):
        raise HookeError("a circuit from a file has its own edges; leave the method and the level out")


def _measured(space: Level, asked: Asked, chosen: Chosen, tests: int, seed: int, clock: Clock) -> Measured:
    """How much the circuit carries, whether there is one, and whether its parts matter: all but the second on pairs
    that did not choose it."""
    pairs, keep, strength = asked.report, chosen.keep, chosen.strength
    drawn = seed + 1  # random circuits other than those that stability compares
    with clock("curve") as tick:
        own = measure.at_size(space, pairs, keep, drawn, tick=stretch(tick, 0, 0.1))
        curve = measure.curves(space, pairs, chosen.effects, strength, chosen.signed, drawn, tick=stretch(tick, 0.1, 1))
    with clock("stability") as tick:
        stable = in_common(space, asked.find, chosen, seed, tick)
    with clock("cuts") as tick:
        cut = measure.cuts(space, pairs, keep, strength, tests, seed, tick=stretch(tick, 0, 0.5))
        minimal = measure.minimality(space, pairs, keep, tests, seed, tick=stretch(tick, 0.5, 1))
    return Measured(own, curve, stable, cut, minimal)
