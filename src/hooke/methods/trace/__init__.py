"""`trace`: which parts of the model produced the next token, as a tested graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import verb
from hooke.dictionaries import Dictionary, Neurons, neurons
from hooke.errors import HookeError
from hooke.methods.asking import Asked, recorded, several
from hooke.methods.intervene import OPS, Op, Prepared, Unit, interventions
from hooke.methods.metric import Metric, logit_targets
from hooke.methods.progress import Clock, Progress, Tick, stretch
from hooke.methods.trace import explain, select
from hooke.methods.trace import verify as ver
from hooke.methods.trace.against import Against
from hooke.methods.trace.coded import Coded, Units, check_basis, encode
from hooke.methods.trace.counterfactuals import Baseline, baselines
from hooke.methods.trace.draw import Drawn, Logits, draw_graph
from hooke.methods.trace.edges import ROW_BYTES
from hooke.methods.trace.effects import Verification, weigh
from hooke.methods.trace.fit import faithfulness
from hooke.methods.trace.report import build_graph, payload_of, tensors_of
from hooke.methods.trace.tries import FULL_TOKENS
from hooke.model import Frozen, Model, Tokens, freeze
from hooke.model.checks import TOLERANCE, off
from hooke.model.frozen import held_sites
from hooke.model.model import Prompt
from hooke.model.recorded import Recorded
from hooke.results import Claim, Graph, Result

MEMORY_SHARE = 0.6  # of what is free, which a graph may take
N_CONTROLS = 5  # random groups beside each intervention on a named group; fewer on long prompts
SUMS = 1e-3  # of a target's edges, by which their sum may miss what it reads
N_HELD_OUT = 3  # counterfactuals of Hooke's own making that the answer is tested against


@verb
def trace(
    model: Model,
    prompt: Prompt,
    *,
    basis: str | Sequence[Dictionary] = "neurons",
    target: str | int | None = None,
    contrast: str | int | None = None,
    counterfactual: Prompt | Sequence[Prompt] | None = None,
    nodes: int = 1000,
    verify: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Trace the next token to its causes: tokens, features and their direct effects, tested.

    prompt: a text, token ids in any form, or a chat question (`hooke.ask`).
    basis: "neurons" (any model, no training), or dictionaries, one block a layer.
    target: the token to explain, its leading space included, or its id (None: the model's own choice, or of a
        question the token that was asked for).
    contrast: explain why `target` rather than this token, as one difference.
    counterfactual: one or several prompts of equal token length; their activations become the
        baseline of scores and ablations. None: prompts that Hooke makes by changing content words where
        that changes the answer, some held out from the selection (passages of the same length for a prompt
        over 192 tokens).
    nodes: how many (layer, feature, position) to draw; the rest is counted in remainder nodes.
    verify: intervene in the live model and compare with what the graph predicts; the groups that the
        sentence names are also switched off and doubled beside random groups.
    progress: called often with a stage and how much of it is done, 0 to 1; what it raises stops the work.
    Returns a `Result` of kind "trace"; payload: top, target, contrast, quantity (what effects are changes of),
    graph_quantity (what predictions are changes of), counterfactuals (ids, and whether the answer hangs on what they
    change), scores, checks, verification, sentence, groups, paths, notes, units (what its features are called, where
    they are not neurons), graph (the interchange form), interventions. tensors: weights (targets by nodes), constants,
    targets.
    The result's status is "failed", with the reason first in the sentence, if the edges do not sum to what their
    targets read, or the linear view does not give the model's logits.
    Raises HookeError for an empty or too long prompt, a target of several tokens, a counterfactual of
    another length, a dictionary that no graph can be drawn in, or a budget that would not fit in memory.
    """
    clock = Clock(progress)
    tokens = model.one(prompt, "trace explains")
    if nodes < 1:
        raise HookeError("the node budget must be at least 1")
    dictionaries = _basis(model, basis)
    check_basis(model, dictionaries)
    check_memory(model, tokens.ids.shape[1], nodes, dictionaries)
    counterfactuals = several(counterfactual)
    with clock("forward") as tick:
        # the one clean run: all that follows takes it
        clean = model.record(tokens, read=[*held_sites(model), *(site for d in dictionaries for site in d.reads)])
        frozen = freeze(model, tokens, clean.acts)
        tick(0.5)
        coded = encode(frozen, dictionaries)
        given = baselines(model, tokens, counterfactuals, dictionaries, frozen.dtype) if counterfactuals else []
    probabilities = clean.logits.float().softmax(-1)
    chosen = target is not None or isinstance(prompt, Asked)
    metric = _metric(model, prompt, target, contrast, int(probabilities.argmax()))
    with clock("select") as tick:
        based, rows, by = _baselines(model, tokens, metric, given, dictionaries, frozen.dtype, seed, tick)
        order = select.ranking(model, tokens, frozen, coded, metric, based, rows, stretch(tick, 0.4, 1.0))
        kept = select.units_at(coded, order[:nodes], based)
    with clock("graph") as tick:
        logits = _logit_nodes(frozen, probabilities, metric, chosen)
        drawn = draw_graph(frozen, coded, kept, logits, metric, based, given=by != "passages", seed=seed, tick=tick)
        paths = explain.strongest_paths(drawn.used[: len(kept)], drawn.used[len(kept)], len(kept), frozen.n_tokens)
    verification: Verification | None = None
    summary: dict[str, Any] = {}
    if verify:
        with clock("verification") as tick:
            bench = ver.Bench(model, clean, frozen, coded, metric, based)
            verification, summary = _verified(bench, kept, drawn, paths, seed, tick)
    moves = [float(metric(b.logits) - metric(clean.logits)) for b in based]
    against = Against(by, select.searched(tokens), based, moves, metric)
    kept_prompt = recorded(model, prompt, tokens)
    checks = _checks(frozen, coded, drawn)
    fault = _fault(checks, model.dtype)
    graph = build_graph(model, frozen, coded, kept, drawn, logits, probabilities, verification, metric.target)
    replays: list[dict[str, Any]] = []
    if verification is not None and basis == "neurons":
        with clock("interventions") as tick:
            ready = _ready(model, clean, graph, coded, metric)
            named_nodes = [[graph.nodes[i].id for i in g.members.tolist()] for g in drawn.groups]
            replays = _replays(ready, named_nodes, frozen.n_tokens, seed, tick)
            weigh(verification, replays[:: len(OPS)])
    with clock("write"):
        payload, claims = payload_of(
            model, frozen, graph, kept, drawn, logits, metric, probabilities, verification, summary,
            checks, fault, paths, against, nodes, str(kept_prompt["prompt"]), explain.called(dictionaries),
        )  # fmt: skip
        tensors = tensors_of(graph, drawn)
    payload["interventions"] = replays
    for k in range(len(replays) // len(OPS)):  # each group was switched off first
        claims[k].evidence.insert(1, f"#interventions.{len(OPS) * k}")
    if fault:
        text = f"The graph holds together: refuted, as {fault}"
        claims.insert(0, Claim(text=text, verdict="refuted", evidence=["#checks"]))
    return Result.make(
        "trace",
        arguments={
            **kept_prompt,
            "basis": basis if isinstance(basis, str) else [d.hash for d in basis],
            "target": metric.target if chosen else None,
            "contrast": metric.contrast,
            "counterfactual": [b.name for b in based] if counterfactuals else [],
            "nodes": nodes,
            "verify": verify,
            "seed": seed,
        },
        status="failed" if fault else "complete",
        provenance=model.provenance() | {"dictionaries": sorted({d.hash for d in dictionaries})},
        seconds=clock.done(),
        claims=claims,
        payload=payload,
        tensors=tensors,
    )


def _basis(model: Model, basis: str | Sequence[Dictionary]) -> Sequence[Dictionary]:
    if isinstance(basis, str):
        if basis != "neurons":
            raise HookeError(f"no basis called {basis!r}; use 'neurons', or give dictionaries")
        return neurons(model)
    if not basis:
        raise HookeError("no dictionaries given; use 'neurons', or give one for each layer")
    return tuple(basis)


def _metric(model: Model, prompt: Prompt, target: str | int | None, contrast: str | int | None, own: int) -> Metric:
    """What is explained. own: the model's choice. Raises HookeError for a contrast that is the target."""
    if target is None and isinstance(prompt, Asked):
        target = prompt.next
    wanted = own if target is None else model.token(target)
    other = None if contrast is None else model.token(contrast)
    if other == wanted:
        raise HookeError("the target and the contrast are the same token")
    return Metric(wanted, other, model.parts.softcap)


def _baselines(
    model: Model,
    tokens: Tokens,
    metric: Metric,
    given: list[Baseline],
    basis: Sequence[Dictionary],
    dtype: torch.dtype,
    seed: int,
    tick: Tick,
) -> tuple[list[Baseline], list[Tensor], Literal["given", "made", "passages"]]:
    """What the prompt is contrasted with, what the ranking is learned against, and who chose the former: a person, or
    some of Hooke's own counterfactuals that the ranking does not see, or passages."""
    others, extra = [b.ids for b in given], 0 if given else N_HELD_OUT
    part = stretch(tick, 0.0, 0.35)
    rows = select.contrasts(model, tokens, metric.target, others, extra=extra, seed=seed, tick=part)
    tick(0.36)
    if given:
        return given, rows, "given"
    few = max(1, min(N_HELD_OUT, len(rows) // 2))
    held_out = [Tokens(row[None], tokens.mask) for row in rows[:few]]
    return baselines(model, tokens, held_out, basis, dtype), rows[few:], "made" if rows else "passages"


def _verified(
    bench: ver.Bench, kept: Units, drawn: Drawn, paths: Sequence[explain.Path], seed: int, tick: Tick
) -> tuple[Verification, dict[str, Any]]:
    """What interventions say of a graph, with how much of the effect its nodes carry alone."""
    named, words = [g.members for g in drawn.groups], [g.promotes for g in drawn.groups]
    found = ver.verify(
        bench, kept, drawn.matrix, named, words, [p.units for p in paths], seed=seed, tick=stretch(tick, 0.0, 0.8)
    )
    fits: list[dict[str, float]] = []
    for b in bench.baselines:
        tick(0.8 + 0.2 * len(fits) / len(bench.baselines))
        fits.append(faithfulness(bench, kept, b, seed=seed))
    means = {key: float(np.mean([f[key] for f in fits if key in f])) for key in fits[0]}
    return found, {"fit": None, "random_fit": None} | found.summary | means


def needed_bytes(model: Model, n_pos: int, nodes: int, basis: Sequence[Dictionary]) -> float:
    """What a trace takes at its peak beside the model, from what it keeps and the largest of what passes: measured
    against the peaks of real runs in the neuron basis (tests/test_memory.py), a quarter more at most."""
    parts, size, n_blocks = model.parts, 8 if model.dtype == torch.float64 else 4, len(basis)
    patterns = size * parts.n_layers * parts.n_heads * n_pos**2
    # of trained dictionaries a tenth of the features is active at most; one block is encoded at a time
    codes = size * n_pos * sum(d.n_features if isinstance(d, Neurons) else d.n_features / 10 for d in basis)
    codes += size * n_pos * max(0 if isinstance(d, Neurons) else d.n_features for d in basis)
    stream = size * parts.n_layers * n_pos * parts.d_model
    kept = 1.1 * patterns + 8 * codes + 8 * stream
    rows = nodes + 64  # with logits and random readers
    entries = rows * (nodes + n_pos * (2 + n_blocks))
    down = 8 * min(ROW_BYTES, size * rows * n_pos * parts.d_model)
    across = (2 + 7 * parts.d_model / parts.d_mlp) * min(ROW_BYTES, size * rows * n_pos * parts.d_mlp)
    graph = max(16 * entries + max(down, across), 44 * entries)  # edges, then influence in double precision
    masks = 0.0
    if n_pos <= select.LONGEST:
        count = select.N_VARIANTS if n_pos <= select.SHORT else select.N_VARIANTS // 2
        backward = 5 * size * n_pos * parts.n_layers * (10 * parts.d_model + 6 * parts.d_mlp)
        masks = (count + 17) * codes + backward
    together = size * min(8192, 170 * n_pos) * (4 * parts.d_mlp + 8 * parts.d_model)  # of runs with interventions
    tests = 0.6 * min(ver.JOB_BYTES, 160 * codes) + together
    return 2**25 + 7400.0 * parts.d_vocab + kept + max(graph, masks, tests)


def check_memory(model: Model, n_pos: int, nodes: int, basis: Sequence[Dictionary]) -> None:
    """Raise HookeError before starting if the graph would not fit, saying what would."""
    free = _free_bytes(model)

    def need(n: int) -> float:
        return needed_bytes(model, n_pos, n, basis)

    if need(nodes) > free:
        fits = nodes
        while fits > 1 and need(fits) > free:
            fits //= 2
        raise HookeError(
            f"{nodes} nodes on {n_pos} tokens would take about {need(nodes) / 2**30:.1f} GB and {free / 2**30:.1f} GB "
            f"are free; " + (f"--nodes {fits} would fit" if fits > 1 else "a shorter prompt would fit")
        )


def _free_bytes(model: Model) -> float:
    if model.device.type == "cuda":
        return MEMORY_SHARE * torch.cuda.mem_get_info(model.device)[0]
    import psutil

    return MEMORY_SHARE * psutil.virtual_memory().available


def _logit_nodes(frozen: Frozen, probabilities: Tensor, metric: Metric, given: bool) -> Logits:
    """One demeaned logit for a given target, one difference for a contrast, else the likeliest tokens."""
    if given or metric.contrast is not None:
        return Logits([metric.target], [1.0], metric.row(frozen))
    ids = logit_targets(probabilities)
    return Logits(ids.tolist(), probabilities[ids].tolist(), frozen.unembed_rows(ids))


def _ready(model: Model, clean: Recorded, graph: Graph, coded: Coded, metric: Metric) -> Prepared:
    """The graph's neurons, ready for interventions on the run that it was drawn from."""
    features = [node for node in graph.nodes if node.kind == "feature"]
    units = {}
    for node in features:
        value = node.value or 0.0
        baseline = 0.0 if node.delta is None else value - node.delta
        units[node.id] = Unit(node.layer or 0, node.position or 0, node.index or 0, value, baseline)
    against_zero = all(node.delta is None for node in features)
    acts = [codes.dense().float() for codes in coded.codes]
    return Prepared(model, "", clean, metric, units, {}, against_zero, acts, model.weights_hash())


def _replays(
    ready: Prepared, groups: Sequence[Sequence[str]], n_tokens: int, seed: int, tick: Tick
) -> list[dict[str, Any]]:
    """Each named group switched off and doubled beside random groups, so that a saved file can show it."""
    controls = max(2, round(N_CONTROLS * min(1.0, FULL_TOKENS / n_tokens)))
    wanted: list[tuple[Sequence[str], Op]] = [(nodes, op) for nodes in groups for op in OPS]
    size = max(1, ver.JOB_TOKENS // (n_tokens * (1 + controls)))
    out = []
    for start in range(0, len(wanted), size):
        tick(start / len(wanted))
        out += interventions(ready, wanted[start : start + size], controls=controls, seed=seed)
    return out


def _checks(frozen: Frozen, coded: Coded, drawn: Drawn) -> dict[str, float]:
    """How exactly the map reproduces the model, and the edges their targets; and what the basis leaves over where it
    leaves most."""
    weights, constants = drawn.edges.weights.double(), drawn.edges.constants.double()
    off_by = (weights.sum(1) + constants - drawn.values.double()).abs()
    size = weights.abs().sum(1) + constants.abs()
    shares = [float(left.norm() / frozen.value(site).norm().clamp(min=1e-12)) for site, left in coded.errors.items()]
    return {
        "replacement_max_abs_diff": float((frozen.replayed - frozen.logits).abs().max()),
        "replacement_max_rel_diff": off(frozen.replayed, frozen.logits),
        "edge_sum_max_rel_error": float((off_by / size.clamp(min=1e-12)).max()),
        "left_over": max(shares, default=0.0),
    }


def _fault(checks: dict[str, float], dtype: torch.dtype) -> str:
    """Why nothing in this graph can be relied on, in one line; empty where the checks hold."""
    sums, replaced = checks["edge_sum_max_rel_error"], checks["replacement_max_rel_diff"]
    if not sums <= SUMS:
        return f"its edges do not sum to what their targets read: they are off by {sums:.2g} of it (allowed {SUMS:g})"
    if not replaced <= 2 * TOLERANCE.get(dtype, 6e-2):
        return f"the linear view does not give the model's logits: it is off by {replaced:.2g} of their size"
    return ""
