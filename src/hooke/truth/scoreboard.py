"""The scoreboard: every circuit method on every model whose circuit is known.

A method orders the edges of a model; the truth says which of them are in the circuit. Edge AUROC is the chance that a
true edge stands before a false one (ties half), node AUROC the same for heads and MLPs by their strongest edge, and
precision the share of true edges among as many first ones as there are true edges (on average over the orders of
ties). Where edges stand in for each other a model has several minimal circuits (`labels.py`): a method is scored
against the one that it comes nearest to; the edges of the others count neither for nor against it, nor do those that
cancel. The controls: a random order, and the same architectures with random weights, in which nothing is the circuit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import hooke.methods
from hooke.arguments import verb
from hooke.errors import HookeError
from hooke.methods.circuit.find import DEFAULT, MEMBERS, METHODS, Found, combined, find_edges, find_method
from hooke.methods.computation_graph import ComputationGraph, ends_of, node_named
from hooke.methods.objective import Objective
from hooke.methods.progress import Clock, Progress
from hooke.methods.ranking import auroc
from hooke.methods.splits import check_seed
from hooke.model.store import hooke_home
from hooke.results import Claim, Result, read_json, write_atomic
from hooke.truth.known import KINDS, Known, compile_file, known, known_names, random_twin
from hooke.truth.labels import beside
from hooke.truth.mixed import mixed_logits
from hooke.truth.standings import Row, against, failure, sentence, summary

PAIRS = 24
TWINS = 8  # models of each kind that are also scored with random weights; two with quick
MORE_SEEDS = 2  # of other pairs, on which methods of few passes are scored too
SLOW = ("acdc", "masks", "ensemble")  # are scored on the pairs of one seed
CUT_ROWS = 2048  # rows at once that show in how many pairs edges act


@verb
def scoreboard(
    *,
    quick: bool = False,
    programs: Sequence[str | Path] = (),
    kinds: Sequence[str] = KINDS,
    methods: Sequence[str] = tuple(METHODS),
    pairs: int = PAIRS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Score methods on models with known circuits.

    quick: one model of each family and kind, instead of all. programs: files of programs (`truth/programs/text.py`);
    these alone are then compiled and scored. kinds: some of "compiled", "siit" and
    "nodes" (`truth/known.py`). pairs: of inputs, for each model.
    An interrupted run goes on where it stopped when it is asked for again.

    Returns a `Result` of kind "scoreboard". payload.methods: a row for each method, best first, with the median edge
    AUROC over all models, its 95 % interval over models, the tenth percentile, medians of node AUROC, precision,
    seconds and passes (forward passes for each pair, a backward counting two), and the same by kind (`kinds`) and
    family (`families`), and how far the edge AUROC of one model differs from seed to seed (`spread`); payload.each:
    every model by itself, with its edges by label (`_labels`); payload.failures: where each method fails, and why.
    Raises HookeError for unknown kinds and methods, and for a program that cannot be read or compiled.
    """
    clock = Clock(progress)
    check_seed(seed)
    _check(kinds, methods, pairs)
    makers = _makers(programs, kinds, quick)
    spec = {"methods": list(methods), "pairs": pairs, "seed": seed, "code": code_digest()}
    folder = hooke_home() / "bench" / hashlib.sha256(json.dumps(spec).encode()).hexdigest()[:16]
    each: list[Row] = []
    seen = dict.fromkeys(kinds, 0)
    with clock("models") as tick:
        for number, (name, make) in enumerate(makers):
            kind = name.split()[0]
            twin = not programs and seen[kind] < (2 if quick else TWINS)
            seen[kind] = seen.get(kind, 0) + 1
            each.append(_kept(folder, f"{name} {twin}", partial(_score, make, methods, pairs, seed, twin)))
            tick((number + 1) / len(makers))
    rows = [summary(name, each) for name in methods]
    rows.sort(key=lambda row: (-row["median_edge_auroc"], -row["p10_edge_auroc"], row["passes"]))
    default = DEFAULT if DEFAULT in methods else rows[0]["name"]
    told = sentence(rows, default)
    result = Result.make(
        "scoreboard",
        arguments={
            "quick": quick,
            "programs": [Path(path).name for path in programs],
            "programs_sha256": [_digest([Path(path)]) for path in programs],
            "kinds": list(kinds),
            "methods": list(methods),
            "pairs": pairs,
            "seed": seed,
        },
        provenance={"code": spec["code"], "torch": torch.__version__},
        seconds=clock.done(),
        claims=[Claim(text=told, verdict="tested", evidence=[f"#methods.{default}"])],
        payload={
            "default": default,
            "models": len(each),
            "methods": rows,
            "against_default": [against(default, name, each) for name in methods if name != default],
            "failures": [failure(name, each) for name in methods],
            "each": each,
            "sentence": told + ".",
        },
    )
    shutil.rmtree(folder, ignore_errors=True)
    return result


def _check(kinds: Sequence[str], methods: Sequence[str], pairs: int) -> None:
    """Raise HookeError for what cannot be scored."""
    for method in methods:
        find_method(method)
    if len({*methods}) < len(methods) or len({*kinds}) < len(kinds) or not kinds:
        raise HookeError("name each method and each kind once, and at least one kind")
    if not methods or not 2 <= pairs <= 512:
        raise HookeError("ask for at least one method, and for 2 to 512 pairs")


def _makers(programs: Sequence[str | Path], kinds: Sequence[str], quick: bool) -> list[tuple[str, Callable[[], Known]]]:
    """The models by kind and name, each made when it is its turn."""
    if programs:
        return [(f"file {path} {_digest([Path(path)])}", partial(compile_file, path)) for path in programs]
    return [
        (f"{kind} {name}", partial(_known_model, kind, name))
        for kind in kinds
        for name in (_one_a_family(kind) if quick else known_names(kind))
    ]


def objective_of(model: Known, base: Tensor, source: Tensor) -> Objective:
    """What the circuit of a known model is to keep: its outputs at every position on `base` (n, pos).

    The gain of a run is how much nearer it is to these than to the outputs on `source`; a tested cut is measured by
    the distance, since an edge is true if cutting it changes the output in any way.
    """
    with torch.no_grad():
        here, there = (model.model.run(ids).logits for ids in (base, source))
    assert here is not None and there is not None

    def distance(logits: Tensor, pairs: Tensor) -> Tensor:
        return model.metric(logits, here[pairs])

    def gain(logits: Tensor, pairs: Tensor) -> Tensor:
        return model.metric(logits, there[pairs]) - distance(logits, pairs)

    return Objective(gain, distance, distance, "all")


def _known_model(kind: str, name: str) -> Known:
    return next(known(kind, [name]))


def _score(make: Callable[[], Known], methods: Sequence[str], pairs: int, seed: int, twin: bool) -> Row:
    """One model: its size, and what every method scores on it; twin: on its architecture with random weights too."""
    model = make()
    row: Row = {"name": model.name, "kind": model.kind, "family": model.family}
    computation = ComputationGraph.of(model.model.parts)
    labels = model.labels
    row |= {
        "edges": int(computation.edges.sum()),
        "true_edges": len(labels.true),
        "redundant_edges": len(labels.redundant),
    }
    row["labels"] = _labels(model, pairs, seed)
    row["methods"] = _of_methods(model, methods, pairs, seed)
    quick = [name for name in methods if name not in SLOW]
    for more in range(1, 1 + MORE_SEEDS):
        for name, scores in _of_methods(model, quick, pairs, seed + more).items():
            row["methods"][name].setdefault("other_seeds", []).append(scores["edge_auroc"])
    if twin:
        other = _of_methods(random_twin(model, seed), methods, pairs, seed)
        row["random_weights"] = {name: scores["edge_auroc"] for name, scores in other.items()}
    return row


def _labels(model: Known, pairs: int, seed: int) -> Row:
    """The edges of a model by label, and in how many of the scored pairs each changes an output of this very model.

    Every edge is cut alone, a redundant one beside what can stand in for it. dead_together: in how many pairs an
    output changes when all dead edges are cut at once. unexercised: edges of circuits that act in no scored pair.
    alone: the labels of single cuts. inputs, pairs, enumerated, exhaustive: what the labels rest on (`Labels`).
    """
    labels, computation = model.labels, ComputationGraph.of(model.model.parts)
    base, source = model.pairs(pairs, seed)
    outside = computation.edges & ~computation.mask(sorted(labels.living | labels.cancelling))
    dead = sorted(computation.edge_names(outside))
    named = {
        "true": sorted(labels.true),
        "redundant": sorted(labels.redundant),
        "cancelling": sorted(labels.cancelling),
    }
    order = [edge for edges in named.values() for edge in edges] + dead
    cuts = [
        computation.mask(sorted({edge} | beside(labels, edge)) if edge in labels.redundant else [edge])
        for edge in order
    ]
    acts = _acting(model, base, source, [*cuts, outside])
    count = dict(zip(order, acts, strict=False))
    return {
        **{key: {edge: count[edge] for edge in edges} for key, edges in (*named.items(), ("dead", dead))},
        "dead_together": acts[-1],
        "unexercised": [edge for edge in sorted(labels.living) if not count[edge]],
        "alone": sorted(labels.alone),
        "circuits": [sorted(one) for one in labels.circuits],
        "scored_pairs": len(base),
        "inputs": labels.inputs,
        "pairs": labels.pairs,
        "enumerated": labels.enumerated,
        "exhaustive": labels.exhaustive,
    }


def _acting(model: Known, base: Tensor, source: Tensor, cuts: Sequence[Tensor]) -> list[int]:
    """In how many pairs each set of edges (n_readers, n_writers), cut at once, changes an output."""
    n, found = len(base), []
    size = max(1, CUT_ROWS // n)
    with torch.no_grad():
        clean = model.model.hf(input_ids=base).logits
        for start in range(0, len(cuts), size):
            masks = torch.stack([*cuts[start : start + size]]).float()
            ids = torch.cat([source, base.repeat(len(masks), 1)])
            logits = mixed_logits(model.model.hf, ids, masks.transpose(0, 1).repeat_interleave(n, 1))[n:]
            changed = model.changed(logits, clean.repeat(len(masks), 1, 1))
            found += changed.view(len(masks), n).sum(1).tolist()
    return found


def _of_methods(model: Known, methods: Sequence[str], pairs: int, seed: int) -> dict[str, Row]:
    """What each method scores; the ensemble is made of its members' answers where they were asked for too."""
    base, source = model.pairs(pairs, seed)
    clean, corrupt = model.model.tokens(base), model.model.tokens(source)
    objective = objective_of(model, base, source)
    own = zlib.crc32(f"{model.kind} {model.name} {seed}".encode())  # else all of one shape had the same random order
    found: dict[str, Found] = {}
    for name in methods:
        members = [found[m] for m in MEMBERS if m in found]
        if name == "ensemble" and len(members) == len(MEMBERS):
            sizes = combined([m.sizes() for m in members], ComputationGraph.of(model.model.parts).edges)
            cost = (sum(m.passes for m in members), sum(m.seconds for m in members))
            found[name] = Found(sizes, members[0].tested, *cost)
        else:
            found[name] = find_edges(model.model, clean, corrupt, objective, name, seed=own)
    return {name: _scores(model, one) for name, one in found.items()}


def _scores(model: Known, found: Found) -> Row:
    """Against the minimal circuit that a method comes nearest to; what only others of them need is left out."""
    computation, labels = ComputationGraph.of(model.model.parts), model.labels
    sizes = found.sizes() * computation.edges
    false = computation.edges & ~computation.mask(sorted(labels.living | labels.cancelling))
    best: tuple[float, frozenset[str], np.ndarray, np.ndarray] | None = None
    for circuit in labels.circuits:
        truth = computation.mask(sorted(circuit))
        own, true = sizes[truth | false].double().numpy(), truth[truth | false].numpy()
        value = auroc(own, true)
        if best is None or value > best[0]:
            best = (value, circuit, own, true)
    assert best is not None
    value, circuit, own, true = best
    by_single = computation.mask(sorted(labels.alone))[computation.edges].numpy()
    return {
        "edge_auroc": value,
        "edge_auroc_alone": auroc(sizes[computation.edges].double().numpy(), by_single),
        "node_auroc": _node_auroc(sizes, computation, _nodes(circuit), _nodes(labels.living | labels.cancelling)),
        "precision": _precision(own, true),
        "seconds": found.seconds,
        "passes": found.passes,
    }


def _nodes(edges: frozenset[str]) -> set[str]:
    return {node_named(end) for edge in edges for end in ends_of(edge)}


def _precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of true edges among as many first ones, on average over all orders of equal scores."""
    count = int(labels.sum())
    last = np.sort(scores)[::-1][count - 1]
    above, equal = scores > last, scores == last
    return float((labels[above].sum() + (count - above.sum()) * labels[equal].mean()) / count)


def _node_auroc(sizes: Tensor, computation: ComputationGraph, nodes: set[str], living: set[str]) -> float | None:
    """Heads and MLPs by their strongest edge, in or out; None if all are in it, or none."""
    strongest = sizes.amax(0).double()
    for r in range(len(computation.readers)):
        for name in computation.names(r):
            if name != "logits":
                at = computation.writers.index(node_named(name))
                strongest[at] = torch.maximum(strongest[at], sizes[r].max().double())
    counted = [i for i, name in enumerate(computation.writers) if i and (name in nodes or name not in living)]
    labels = np.array([computation.writers[i] in nodes for i in counted])
    return auroc(strongest[counted].numpy(), labels) if 0 < labels.sum() < len(counted) else None


# ---- what is done once -------------------------------------------------------------------------


def _one_a_family(kind: str) -> list[str]:
    return list({family: name for name, family in reversed(known_names(kind).items())}.values())[::-1]


def _kept(folder: Path, name: str, make: Callable[[], Row]) -> Row:
    """A row of an interrupted run, or a new one, which is kept until the run is done."""
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
    if path.exists():
        try:
            found: Row = read_json(path)
            return found
        except HookeError:
            pass  # damaged: made again
    row = make()
    write_atomic(path, json.dumps(row).encode())
    return row


def code_digest() -> str:
    """A hash of the code that scores depend on."""
    here = Path(__file__).parent
    methods = Path(hooke.methods.__file__).parent
    return _digest([*methods.rglob("*.py"), *here.rglob("*.py"), *methods.parent.joinpath("model").rglob("*.py")])


def _digest(paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()[:16]
