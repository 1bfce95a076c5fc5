"""`trace`: which parts of the model produced the next token, as a tested graph.

coded            a prompt in a basis: its run, its linear view, its codes, and what they leave over
counterfactuals  what it is contrasted with, and whether the answer hangs on that
select, masks    which features and which links of attention to draw
hold_links       links held at what they bring
edges            direct effects between them, by one pass down the linear view
answer           edges into the answer that add up to its difference, and what follows from each feature in all
draw             from features to a graph as numbers: influence, scores, groups
explain          words for it: what nodes read and promote, the strongest paths
parts, flows     the parts of the story, and what passes between them
tries            which interventions it is tested by, and what came of each
verify           carrying them out in the live model, beside what the graph predicted
links            where attention looked, what came of it, and why it looked there
along, ways      the same of single edges and paths, each along its own way alone
story            the sentence and the parts as a result has them
report           from all that to the nodes, claims and payload of a result
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
from hooke.methods.trace.answer import POINTS, derivative_error
from hooke.methods.trace.coded import Baseline, Case, Form, Units, check_basis, encode
from hooke.methods.trace.counterfactuals import Against, baselines
from hooke.methods.trace.draw import Drawn, Logits, draw_graph, tell_parts
from hooke.methods.trace.edges import chunk_bytes, reader_error
from hooke.methods.trace.found import Found
from hooke.methods.trace.links import Slopes, attention_links, links_by_slope
from hooke.methods.trace.parts import NAMED
from hooke.methods.trace.report import build_graph, payload_of, tensors_of
from hooke.methods.trace.tries import FULL_TOKENS, Verification, weigh
from hooke.methods.trace.verify import faithfulness, verify_graph
from hooke.model import Model, Tokens, held_view, live_view
from hooke.model.budget import budget, pass_tokens, token_bytes
from hooke.model.checks import TOLERANCE, off
from hooke.model.linear_view import held_sites
from hooke.model.live import LiveView
from hooke.model.model import Prompt
from hooke.results import Claim, Graph, Result

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
    form: Form | None = None,
    nodes: int = 300,
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
    form: what edges are of. "live": how far a target moves as its source comes from the counterfactuals to the prompt,
        attention patterns, norms and gates moving with it. "held": what its source adds to it, with these held, as
        other tools draw graphs. None: live, unless nothing but passages is there to compare with.
    nodes: how many features and links of attention to draw; the features left are counted in remainder nodes.
    verify: intervene in the live model and compare; parts that the sentence names also beside random groups.
    progress: called often with a stage and how much of it is done, 0 to 1; what it raises stops the work.
    Returns a `Result` of kind "trace" (payload: docs/results.md; tensors: weights (targets by nodes), constants,
    targets). Its status is "failed", with the reason first in the sentence, if the edges do not sum to what their
    targets read, or the linear view does not give the model's logits.
    Raises HookeError for an empty or too long prompt, a target of several tokens, a counterfactual of
    another length, a dictionary that no graph can be drawn in, or a budget that would not fit in memory.
    """
    clock = Clock(progress)
    tokens = model.one(prompt, "trace explains")
    others = several(counterfactual)
    dictionaries = _basis(model, basis, tokens.ids.shape[1], nodes, form, bool(others))
    # 1. The one clean run, which all that follows takes, and what it looks like in the basis.
    with clock("forward") as tick:
        case, chosen = _case(model, prompt, tokens, dictionaries, target, contrast, tick)
        given = baselines(model, tokens, others, dictionaries, case.view.dtype) if others else []
    # 2. What it is contrasted with, and which features to draw.
    with clock("select") as tick:
        case.baselines, rows, by = _baselines(case, given, seed, tick)
        case.live = _live(case, form, by)
        kept, slopes = _chosen(case, rows, nodes, stretch(tick, 0.4, 1.0))
    # 3. The graph: edges, what they add up to, and whether they do.
    with clock("graph") as tick:
        found = _found(case, kept, by, chosen, seed, tick)
        _tell_story(found, slopes, seed, verify, tick)
    # 4. Interventions in the live model, and what random features do there.
    if verify:
        with clock("verification") as tick:
            found.verification, found.summary = _verified(found, seed, tick)
    graph = build_graph(found)
    replays: list[dict[str, Any]] = []
    if found.verification is not None and basis == "neurons":
        with clock("interventions") as tick:
            replays = _replays(found, graph, seed, tick)
            weigh(found.verification, replays[:: len(OPS)])
    # 5. All of it in words.
    kept_prompt = recorded(model, prompt, tokens)
    with clock("write"):
        payload, claims = _told(found, graph, replays, str(kept_prompt["prompt"]))
    asked = {"basis": basis if isinstance(basis, str) else [d.hash for d in basis], "nodes": nodes, "seed": seed}
    asked |= {**_asked(case, chosen, bool(others)), "verify": verify}
    return Result.make(
        "trace",
        arguments=kept_prompt | asked,
        status="failed" if found.fault else "complete",
        provenance=model.provenance() | {"dictionaries": sorted({d.hash for d in dictionaries})},
        seconds=clock.done(),
        claims=claims,
        payload=payload,
        tensors=tensors_of(graph, found.drawn),
    )


def _asked(case: Case, chosen: bool, given: bool) -> dict[str, Any]:
    """What a result records of what was asked, as it came out."""
    return {
        "target": case.metric.target if chosen else None,
        "contrast": case.metric.contrast,
        "counterfactual": [b.name for b in case.baselines] if given else [],
        "form": case.form,
    }


def _live(case: Case, form: Form | None, by: str) -> LiveView | None:
    """The live view, if edges are to be of it; then features that counterfactuals alone have are taken in. Raises
    HookeError for a form that there is not."""
    if form not in (None, "live", "held"):
        raise HookeError(f"no form of a graph called {form!r}; it is 'live' or 'held'")
    if form == "held" or (form is None and by == "passages"):
        return None
    case.coded.widen(case.baselines)  # what is not there adds nothing to a held graph
    return live_view(case.model, case.view)


def _basis(
    model: Model, basis: str | Sequence[Dictionary], n_pos: int, nodes: int, form: Form | None, given: bool
) -> Sequence[Dictionary]:
    """The dictionaries to draw in. Raises HookeError for what no graph can be drawn in, or would not fit in memory."""
    if nodes < 1:
        raise HookeError("the node budget must be at least 1")
    if isinstance(basis, str) and basis != "neurons":
        raise HookeError(f"no basis called {basis!r}; use 'neurons', or give dictionaries")
    if not basis:
        raise HookeError("no dictionaries given; use 'neurons', or give one for each layer")
    found = neurons(model) if isinstance(basis, str) else tuple(basis)
    check_basis(model, found)
    live = form == "live" or (form is None and (given or n_pos <= select.LONGEST))
    check_memory(model, n_pos, nodes, found, live)
    return found


def _case(
    model: Model,
    prompt: Prompt,
    tokens: Tokens,
    basis: Sequence[Dictionary],
    target: str | int | None,
    contrast: str | int | None,
    tick: Tick,
) -> tuple[Case, bool]:
    """The prompt, run and encoded, with what is explained of it; and whether a person chose the target."""
    clean = model.record(tokens, read=[*held_sites(model), *(site for d in basis for site in d.reads)])
    view = held_view(model, tokens, clean.acts)
    tick(0.5)
    metric = _metric(model, prompt, target, contrast, int(clean.logits.argmax()))
    case = Case(model, clean, view, encode(view, basis), metric, [])
    return case, target is not None or isinstance(prompt, Asked)


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
    case: Case, given: list[Baseline], seed: int, tick: Tick
) -> tuple[list[Baseline], list[Tensor], Literal["given", "made", "passages"]]:
    """What the prompt is contrasted with, what the ranking is learned against, and who chose the former: a person, or
    some of Hooke's own counterfactuals that the ranking does not see, or passages."""
    model, tokens = case.model, case.run.tokens
    others, extra = [b.ids for b in given], 0 if given else N_HELD_OUT
    part = stretch(tick, 0.0, 0.35)
    rows = select.contrasts(model, tokens, case.metric.target, others, extra=extra, seed=seed, tick=part)
    tick(0.36)
    if given:
        return given, rows, "given"
    few = max(1, min(N_HELD_OUT, len(rows) // 2))
    held_out = [Tokens(row[None], tokens.mask) for row in rows[:few]]
    found = baselines(model, tokens, held_out, case.coded.basis, case.view.dtype)
    return found, rows[few:], "made" if rows else "passages"


def _chosen(case: Case, rows: list[Tensor], nodes: int, tick: Tick) -> tuple[Units, Slopes | None]:
    """The features to draw, with the links beside them put in place; and `links_by_slope`."""
    slopes = None if case.live is None else links_by_slope(case, case.live)
    ranked = select.ranking(case, rows, tick)
    entries, links = ranked.first(nodes, alone=case.live is None)
    kept = select.units_at(case.coded, entries, case.baselines)
    if slopes is not None and len(links):
        case.coded.links = replace(slopes[1](links), ranks=ranked.link_ranks(nodes).tolist())
    return kept, slopes


def _found(
    case: Case, kept: Units, by: Literal["given", "made", "passages"], chosen: bool, seed: int, tick: Tick
) -> Found:
    """The graph, and whether it holds together."""
    logits = _logit_nodes(case, chosen)
    drawn = draw_graph(case, kept, logits, given=by != "passages", seed=seed, tick=stretch(tick, 0.0, 0.6))
    paths = explain.strongest_paths(*drawn.along(kept), case.view.n_tokens)
    checks = _checks(case, kept, drawn)
    moves = [float(case.metric(b.logits) - case.metric(case.run.logits)) for b in case.baselines]
    against = Against(by, select.searched(case.run.tokens), case.baselines, moves, case.metric)
    fault = _fault(checks, case.model.dtype)
    return Found(case, kept, drawn, logits, paths, against, checks, fault)


def _tell_story(found: Found, slopes: Slopes | None, seed: int, verify: bool, tick: Tick) -> None:
    """Put where attention looked in, and the parts."""
    found.links = attention_links(found.case, found.kept, slopes, seed, measure=verify)
    tell_parts(found.case, found.kept, found.drawn, found.attention, stretch(tick, 0.7, 1.0))


def _verified(found: Found, seed: int, tick: Tick) -> tuple[Verification, dict[str, Any]]:
    """What interventions say of a graph, with how much of the effect its nodes carry alone."""
    case = found.case
    tested = verify_graph(case, found.kept, found.drawn, found.paths, seed=seed, tick=stretch(tick, 0.0, 0.8))
    fits: list[dict[str, float]] = []
    for b in case.baselines:
        tick(0.8 + 0.2 * len(fits) / len(case.baselines))
        places = None if case.coded.links is None else case.coded.links.places
        fits.append(faithfulness(case, found.kept, b, places, seed=seed))
    means = {key: float(np.mean([f[key] for f in fits if key in f])) for key in fits[0]}
    return tested, {"fit": None, "random_fit": None} | tested.summary | means


def needed_bytes(model: Model, n_pos: int, nodes: int, basis: Sequence[Dictionary], live: bool) -> float:
    """What a trace takes at its peak beside the model, from what it keeps and the largest of what passes: measured
    against the peaks of real runs in the neuron basis (tests/methods/trace/test_memory.py), a quarter more at most."""
    parts, size, n_blocks = model.parts, 8 if model.dtype == torch.float64 else 4, len(basis)
    patterns = size * parts.n_layers * parts.n_heads * n_pos**2
    # of trained dictionaries a tenth of the features is active at most; one block is encoded at a time
    codes = size * n_pos * sum(d.n_features if isinstance(d, Neurons) else d.n_features / 10 for d in basis)
    codes += size * n_pos * max(0 if isinstance(d, Neurons) else d.n_features for d in basis)
    stream = size * parts.n_layers * n_pos * parts.d_model
    kept = 1.7 * patterns + 16 * codes + 14 * stream
    rows = nodes + 64  # with logits and random readers
    entries = rows * (nodes + n_pos * (2 + n_blocks))
    chunk = chunk_bytes(model.device)
    down = 6 * min(chunk, size * rows * n_pos * parts.d_model)
    across = (2 + 7 * parts.d_model / parts.d_mlp) * min(chunk, size * rows * n_pos * parts.d_mlp)
    masks = 0.0
    if live:
        kept += 5 * patterns  # those of counterfactuals, and an estimate for each link
        down += 9 * min(chunk, size * rows * n_pos * parts.n_heads * n_pos)  # what each row makes of patterns
        points = min(POINTS, max(1, pass_tokens(model) // n_pos))
        masks = points * size * n_pos * parts.n_layers * (12.0 * parts.d_model + 6 * parts.d_mlp)  # into the answer
    graph = max(16 * entries + down + across / 4, 44 * entries)  # edges, then influence in double precision
    if n_pos <= select.LONGEST:
        backward = 5 * size * n_pos * parts.n_layers * (10 * parts.d_model + 6 * parts.d_mlp)
        backward += 30 * patterns  # of five rows, and of what each link brings in them
        masks = max(masks, (select.N_VARIANTS + 17) * codes + backward)
    tests = 3 * min(budget(model.device).block, 170 * n_pos * token_bytes(model))  # of runs with interventions
    return 2**25 + 7400.0 * parts.d_vocab + kept + max(graph, masks, tests)


def check_memory(model: Model, n_pos: int, nodes: int, basis: Sequence[Dictionary], live: bool) -> None:
    """Raise HookeError before starting if the graph would not fit, saying what would."""
    free = budget(model.device).free

    def need(n: int) -> float:
        return needed_bytes(model, n_pos, n, basis, live)

    if need(nodes) > free:
        fits = nodes
        while fits > 1 and need(fits) > free:
            fits //= 2
        raise HookeError(
            f"{nodes} nodes on {n_pos} tokens would take about {need(nodes) / 2**30:.1f} GB and {free / 2**30:.1f} GB "
            f"are free; " + (f"--nodes {fits} would fit" if fits > 1 else "a shorter prompt would fit")
        )


def _logit_nodes(case: Case, chosen: bool) -> Logits:
    """One demeaned logit for a chosen target, one difference for a contrast, else the likeliest tokens."""
    metric, view = case.metric, case.view
    if chosen or metric.contrast is not None:
        return Logits([metric.target], [1.0], metric.row(view))
    probabilities = case.run.logits.float().softmax(-1)
    ids = logit_targets(probabilities)
    return Logits(ids.tolist(), probabilities[ids].tolist(), view.unembed_rows(ids))


def _replays(found: Found, graph: Graph, seed: int, tick: Tick) -> list[dict[str, Any]]:
    """Each part that the sentence names switched off and doubled beside random groups: a saved file shows it."""
    case, n_tokens = found.case, found.case.view.n_tokens
    features = [node for node in graph.nodes if node.kind == "feature"]
    units = {n.id: Unit.of(n.layer or 0, n.position or 0, n.index or 0, n.value or 0.0, n.delta) for n in features}
    acts = [codes.dense().float() for codes in case.coded.codes]
    ready = Prepared(
        case.model, "", case.run, case.metric, units, {}, all(n.delta is None for n in features), acts,
        case.model.weights_hash(),
    )  # fmt: skip
    controls = max(2, round(N_CONTROLS * min(1.0, FULL_TOKENS / n_tokens)))
    groups = [[graph.nodes[i].id for i in g.members.tolist()] for g in found.drawn.groups[:NAMED]]
    wanted: list[tuple[Sequence[str], Op]] = [(nodes, op) for nodes in groups for op in OPS]
    size = max(1, budget(case.model.device).busy // (n_tokens * (1 + controls)))
    out = []
    for start in range(0, len(wanted), size):
        tick(start / len(wanted))
        out += interventions(ready, wanted[start : start + size], controls=controls, seed=seed)
    return out


def _told(
    found: Found, graph: Graph, replays: Sequence[dict[str, Any]], prompt: str
) -> tuple[dict[str, Any], list[Claim]]:
    """The payload and the claims, each with what says so."""
    payload, claims = payload_of(found, graph, prompt)
    payload["interventions"] = list(replays)
    for k in range(len(replays) // len(OPS)):  # each group was switched off first
        claims[k].evidence.insert(1, f"#interventions.{len(OPS) * k}")
    if found.fault:
        text = f"The graph holds together: refuted, as {found.fault}"
        claims.insert(0, Claim(text=text, verdict="refuted", evidence=["#checks"]))
    return payload, claims


def _checks(case: Case, kept: Units, drawn: Drawn) -> dict[str, float]:
    """How exactly the map reproduces the model, and the edges their targets; and what the basis leaves over where it
    leaves most."""
    view, coded = case.view, case.coded
    shares = [float(left.norm() / view.value(site).norm().clamp(min=1e-12)) for site, left in coded.errors.items()]
    found = {
        "replacement_max_abs_diff": float((view.replayed - view.logits).abs().max()),
        "replacement_max_rel_diff": off(view.replayed, view.logits),
        "left_over": max(shares, default=0.0),
    }
    if case.live is not None:
        error = reader_error(coded, kept)
        return found | {"reader_max_rel_error": error, "derivative_max_rel_error": derivative_error(case, case.live)}
    weights, constants = drawn.edges.weights.double(), drawn.edges.constants.double()
    off_by = (weights.sum(1) + constants - drawn.values.double()).abs()
    size = weights.abs().sum(1) + constants.abs()
    return found | {"edge_sum_max_rel_error": float((off_by / size.clamp(min=1e-12)).max())}


def _fault(checks: dict[str, float], dtype: torch.dtype) -> str:
    """Why nothing in this graph can be relied on, in one line; empty where the checks hold."""
    sums, replaced = checks.get("edge_sum_max_rel_error", 0.0), checks["replacement_max_rel_diff"]
    readers = checks.get("reader_max_rel_error", 0.0)
    if not readers <= SUMS:
        return f"its features are not what their readers give: they are off by {readers:.2g} of it (allowed {SUMS:g})"
    derivative, allowed = checks.get("derivative_max_rel_error", 0.0), 2 * TOLERANCE.get(dtype, 6e-2)
    if not derivative <= max(SUMS, allowed):
        return f"the linear view is not the model's derivative: it is off by {derivative:.2g} of it"
    if not sums <= SUMS:
        return f"its edges do not sum to what their targets read: they are off by {sums:.2g} of it (allowed {SUMS:g})"
    if not replaced <= 2 * TOLERANCE.get(dtype, 6e-2):
        return f"the linear view does not give the model's logits: it is off by {replaced:.2g} of their size"
    return ""
