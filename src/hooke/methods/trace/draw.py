"""From kept features to a graph as numbers: edges, influence, scores, labels and groups.

Influence is that of "Circuit Tracing" (Ameisen et al. 2025): rows of |weights| are normalised to one; influence is
w (Â + Â² + …) with w the weight of each logit. The graph is acyclic, so the sum ends by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hooke.methods.metric import Metric
from hooke.methods.progress import Tick, idle, stretch
from hooke.methods.trace import explain
from hooke.methods.trace.answer import gradient, into_answer
from hooke.methods.trace.coded import SEEN, Baseline, Case, Coded, Units
from hooke.methods.trace.edges import WAYS, Edges, edges, hidden_edges, link_readers, readers, rows_of
from hooke.methods.trace.flows import Flows, held_flows, live_flows, onto_answers
from hooke.methods.trace.links import Link
from hooke.methods.trace.parts import Group, Profiles, parts
from hooke.model import LinearView, Rows

N_RANDOM_READERS = 32
LEAST = 1e-3  # of a logit: a difference of which no share is told
N_TARGETS = 64  # targets at which what is hidden is looked at feature by feature
N_CANDIDATES = 5  # next tokens whose movers are told apart
N_LIKELY = 50  # next tokens among which groups at the last position are told by what they promote


@dataclass
class Logits:
    """The logit nodes: token ids, the weight of each in influence, and their rows."""

    ids: list[int]
    weights: list[float]
    rows: Rows

    def answer(self, n: int, metric: Metric) -> int:
        """The row of the answer, after n rows of units."""
        return n if metric.contrast is not None else n + self.ids.index(metric.target)


@dataclass
class Closure:
    """How far the answer is from the counterfactuals, and what of that its edges leave: averaged, and at one point."""

    difference: float
    left: float
    one_point: float

    @property
    def curvature(self) -> float | None:
        """What is left, as a share; none of a difference that is next to nothing."""
        return None if abs(self.difference) < LEAST else abs(self.left / self.difference)


@dataclass
class Drawn:
    """A graph as numbers. Rows: nodes, which are kept units and then links, and logits. Columns: nodes, tokens,
    remainders, errors."""

    edges: Edges
    matrix: Tensor  # (n_nodes, n_nodes) effect of one unit of a node on another
    values: Tensor  # (n_targets,) what each row and its constant sum to: a value, or live a difference
    influence: Influence  # of the columns
    used: np.ndarray  # the weights that influence is computed on: clean, or with a counterfactual the deltas
    scores: dict[str, float | int]
    labels: explain.Labels
    from_tokens: Tensor  # (n_nodes, pos) what each token gives each node, along paths of the graph
    bar: float  # how far the best token of a unit must stand out to be told
    effects: Tensor  # (n_nodes,) predicted effect of setting each to its baseline: live, all that follows from it
    groups: list[Group] = field(default_factory=list)  # the parts of the story
    flows: Flows | None = None  # between them; None of nothing drawn
    averaged: Tensor | None = None  # (n_kept,) live: the same by slopes averaged over the way to the counterfactuals
    slopes: list[Tensor] | None = None  # live: per block, effect of one unit of each entry of the codes, all told
    closure: Closure | None = None  # live
    answer: int = 0  # the target of what is explained
    passing: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n_links,): whether anything goes on from it
    by_way: Tensor | None = None  # (ways · n_links, n_sources): edges into links by value, then by query, then by key

    def along(self, kept: Units) -> tuple[np.ndarray, np.ndarray]:
        """What paths are made of: edges into the nodes and, in the last row, into the answer, (n_nodes + 1, n_sources),
        and the same for one unit of each source, (n_nodes + 1, n_nodes)."""
        n = len(self.matrix)
        rows = [*range(n), self.answer]
        unit = self.edges.unit[rows].cpu().double().numpy()
        if self.closure is not None and kept.baselines is not None:  # into the answer they are averaged
            change = (kept.values - kept.baselines).cpu().double().numpy()
            known = (change != 0).nonzero()[0]
            unit[-1, known] = self.used[self.answer, known] / change[known]
            worth = self.values[len(kept) : n].cpu().double().numpy()  # of links; of some nothing goes on
            seen = len(kept) + (self.passing != 0).nonzero()[0]
            unit[-1, seen] = self.used[self.answer, seen] / worth[seen - len(kept)]
        return self.used[rows], unit


def draw_graph(case: Case, kept: Units, logits: Logits, *, given: bool, seed: int = 0, tick: Tick = idle) -> Drawn:
    """Compute the edges that are asked for, and all that follows from them.

    given: the prompt is contrasted with counterfactuals, so edges have deltas, and influence and words follow those.
    """
    view, coded, based = case.view, case.coded, case.baselines
    links = coded.links if case.live is not None else None
    n_units, n_links, n_pos, device = len(kept), 0 if links is None else len(links), view.n_tokens, kept.ids.device
    n, n_rows = n_units + n_links, n_units + n_links + len(logits.ids)
    random = random_units(coded, based, explain.N_RANDOM, torch.Generator().manual_seed(seed))
    few = readers(case.map, coded, random.take(torch.arange(min(N_RANDOM_READERS, len(random)), device=device)))
    rows = readers(case.map, coded, kept)
    if links is not None and case.live is not None:
        rows = rows.join(link_readers(case.live, links))
    rows = rows.join(logits.rows).join(few)
    split = edges(case.map, coded, kept, rows, based if given or case.live else (), stretch(tick, 0.0, 0.6))
    found = split.merged(n_units, n_links)
    from_tokens = along_paths(found, n, found.tokens[:n], view.parts.n_layers)
    random_from_tokens = found.tokens[n_rows:] + found.unit[n_rows:] @ from_tokens
    shown, closure = found.first(n_rows), None
    values = torch.cat([kept.values, logit_values(view, logits, case.metric)])
    assert kept.baselines is not None
    if case.live is None:
        row = shown.unit[logits.answer(n, case.metric)]
        effects = (kept.baselines - kept.values) * onto(row, shown.unit[:n])
        slopes = None
    else:
        values = _differences(case, kept, logits)
        closure = _close(case, kept, shown, values, logits.answer(n, case.metric), stretch(tick, 0.6, 0.75))
        slopes = gradient(case)
        effects = (kept.baselines - kept.values) * coded.at_units(slopes, kept)
        if links is not None:
            effects = torch.cat([effects, -links.deltas])
    used = (shown.weights if shown.delta is None else shown.delta).cpu().double().numpy()
    influence, scores = _influence(used, n, n_pos, logits.weights)
    scores["unexplained"] = _unexplained(case, kept, rows, used, influence.rows, given or case.live is not None)
    bar = explain.clarity_bar(view, coded, random)
    tick(0.8)
    labels = explain.label(case, kept, from_tokens[:n_units], bar, random_from_tokens)
    tick(0.85)
    return Drawn(
        edges=shown,
        matrix=shown.unit[:n],
        values=values,
        influence=influence,
        used=used,
        scores=scores | {"nodes": n},
        labels=labels,
        from_tokens=from_tokens,
        bar=bar,
        effects=effects,
        slopes=slopes,
        closure=closure,
        answer=logits.answer(n, case.metric),
        passing=np.zeros(0) if links is None else (links.seen.abs() >= SEEN).cpu().numpy(),
        by_way=None if n_links == 0 else split.weights[n_units : n_units + len(WAYS) * n_links],
    )


def tell_parts(case: Case, kept: Units, drawn: Drawn, links: Sequence[Link], tick: Tick = idle) -> None:
    """Put the parts of the story in, what passes between them and the links of attention, and what follows of it for
    each unit."""
    assert kept.baselines is not None
    if not len(kept):
        return
    view, n, device = case.view, len(kept), kept.ids.device  # links are parts of their own
    layers = torch.tensor([case.coded.layer(b) for b in kept.blocks.tolist()], device=device)
    share = torch.tensor(drawn.influence.nodes[:n], device=device)
    likely = view.logits.topk(min(N_LIKELY, len(view.logits))).indices
    change = kept.baselines - kept.values
    others = [] if case.live is None else [int(other.logits.argmax()) for other in case.baselines]
    own = [case.metric.target] + ([] if case.metric.contrast is None else [case.metric.contrast])
    candidates = list(dict.fromkeys([*own, *likely[:N_CANDIDATES].tolist(), *others]))
    answers = drawn.effects[:, None] if case.live is None else onto_answers(case, kept, candidates)
    found = Profiles(layers, share, answers[:, 0], drawn.from_tokens[:n], answers)
    drawn.groups = parts(case, kept, found, likely, drawn.bar)
    members = [group.members for group in drawn.groups]
    if case.live is None:
        row, unit = drawn.edges.unit[drawn.answer], drawn.matrix
        lost = -torch.tensor(drawn.used[[*range(n), drawn.answer], n : n + view.n_tokens], device=device)
        drawn.flows = held_flows(unit, onto(row, unit), row, lost.to(unit.dtype), change, members)
        return
    drawn.flows = live_flows(case, kept, members, links, stretch(tick, 0.2, 1.0))
    drawn.averaged = drawn.flows.through[:n].sum(1)
    for link, out in zip(links, drawn.flows.through[n:].sum(1).tolist(), strict=False):
        link.predict(out)  # averaged over the way: a slope at one point may be far off


def _differences(case: Case, kept: Units, logits: Logits) -> Tensor:
    """(n_targets,): how far each target is from its mean over the counterfactuals."""
    assert kept.baselines is not None
    (part,) = logits.rows.parts
    ends = case.view.final() - torch.stack([other.final for other in case.baselines]).mean(0)
    links = [] if case.coded.links is None else [case.coded.links.deltas]
    return torch.cat([kept.values - kept.baselines, *links, part.vectors.to(ends.dtype) @ ends])


def _close(case: Case, kept: Units, shown: Edges, values: Tensor, answer: int, tick: Tick) -> Closure:
    """Put averaged edges into the answer in place, and what is left of each difference with the constants."""
    shown.constants.copy_(values - shown.weights.sum(1))
    one_point = float(shown.constants[answer])
    if not any(block.skips for block in case.coded.basis):  # what skips past features is theirs at one point only
        (into,), (left,) = into_answer(case, kept, case.metric.row(case.view), tick=tick)
        shown.weights[answer], shown.constants[answer] = into, left
    return Closure(float(values[answer]), float(shown.constants[answer]), one_point)


def _influence(used: np.ndarray, n: int, n_pos: int, weights: list[float]) -> tuple[Influence, dict[str, float | int]]:
    """Influence of the columns, with the logits as columns of their own that lead nowhere."""
    n_sources, n_logits = used.shape[1], len(weights)
    padded = np.pad(used, ((0, 0), (0, n_logits)))
    at = np.arange(n_sources + n_logits)
    targets = np.concatenate([np.arange(n), n_sources + np.arange(n_logits)])
    found = influence(padded, targets, np.array([0.0] * n + weights), (at >= n) & (at < n_sources))
    hidden = (at >= n + n_pos) & (at < n_sources)
    scores: dict[str, float | int] = {
        "completeness": completeness_score(padded, found.rows, hidden),
        "replacement": replacement_score(found.nodes, (at >= n) & (at < n + n_pos), hidden),
        "path_length": mean_path_length(found.steps),
    }
    return Influence(found.nodes[:n_sources], found.rows, found.steps), scores


def along_paths(found: Edges, n: int, start: Tensor, depth: int) -> Tensor:
    """(n, k): what `start` (n, k) sends into the kept features, along all paths among them."""
    total, step = start.clone(), start.clone()
    for _ in range(depth):
        step = found.unit[:n] @ step
        total += step
    return total


def onto(row: Tensor, matrix: Tensor) -> Tensor:
    """(n,): effect of one unit of each feature on a target over all paths; row: (n,) direct effects."""
    total, step = row.clone(), row.clone()
    while len(step) and float(step.abs().max()) > 1e-9:
        step = step @ matrix
        total += step
    return total


def logit_values(view: LinearView, logits: Logits, metric: Metric) -> Tensor:
    """What the logit rows sum to, by the linear map: demeaned logits, or the one difference."""
    x = view.replayed
    if metric.contrast is not None:
        return (x[metric.target] - x[metric.contrast])[None]
    return x[logits.ids] - x.mean()


def random_units(coded: Coded, based: list[Baseline], count: int, generator: torch.Generator) -> Units:
    """Active features drawn at random over blocks, positions and features."""
    rows = [dict(codes.by_position()) for codes in coded.codes]
    n_pos, device, picks = coded.codes[0].shape[0], coded.codes[0].values.device, []
    for _ in range(count):
        block = int(torch.randint(len(rows), (1,), generator=generator))
        position = int(torch.randint(n_pos, (1,), generator=generator))
        here = rows[block].get(position)
        if here is not None:
            entry = here.start + int(torch.randint(here.stop - here.start, (1,), generator=generator))
            picks.append((block, position, coded.codes[block].id_of(entry)))
    b, p, i = (torch.tensor(x, dtype=torch.long, device=device) for x in (zip(*picks) if picks else ((), (), ())))
    return coded.units(b, p, i, [other.codes for other in based])


# rows: targets; columns: nodes
Matrix = np.ndarray


@dataclass
class Influence:
    """nodes: influence of each node; rows: influence plus logit weight of each target;
    steps: by number of edges, the influence that ends in tokens, errors and remainders."""

    nodes: np.ndarray
    rows: np.ndarray
    steps: np.ndarray


def normalised(weights: Matrix) -> Matrix:
    """|weights| with each target's row summing to one; constants are not in it."""
    size = np.abs(weights)
    size /= np.maximum(size.sum(1, keepdims=True), 1e-8)
    return size


def influence(weights: Matrix, targets: np.ndarray, logit_weights: np.ndarray, ends: np.ndarray) -> Influence:
    """weights: (n_targets, n_nodes); targets: node index of each row; logit_weights: (n_targets,), zero
    for features; ends: (n_nodes,) True for nodes without incoming edges."""
    a = normalised(weights)
    total = np.zeros(weights.shape[1])
    rows = logit_weights.astype(float).copy()
    p = rows.copy()
    steps = []
    for _ in range(len(targets) + 1):
        reached = p @ a
        total += reached
        steps.append(reached[ends].sum())
        p = np.where(ends[targets], 0.0, reached[targets])
        rows += p
        if p.sum() < 1e-12:
            break
    return Influence(total, rows, np.array(steps))


def replacement_score(nodes: np.ndarray, tokens: np.ndarray, hidden: np.ndarray) -> float:
    """Share of the influence ending in the input that comes from tokens and not from hidden parts or errors."""
    from_tokens, from_hidden = nodes[tokens].sum(), nodes[hidden].sum()
    return float(from_tokens / max(from_tokens + from_hidden, 1e-12))


def completeness_score(weights: Matrix, rows: np.ndarray, hidden: np.ndarray) -> float:
    """Share of the targets' input, weighted by influence, that does not come from hidden parts or errors."""
    left = normalised(weights)[:, hidden].sum(1)
    return float(((1 - left) * rows).sum() / max(rows.sum(), 1e-12))


def leading(rows: np.ndarray, share: float = 0.95) -> np.ndarray:
    """Indices of the targets that carry `share` of the influence, the largest first."""
    order = np.argsort(-rows, kind="stable")
    reach = np.cumsum(rows[order]) / max(rows.sum(), 1e-12)
    return order[: int(np.searchsorted(reach, share)) + 1]


def spread(leaders: np.ndarray, rows: np.ndarray, most: int = N_TARGETS) -> tuple[np.ndarray, np.ndarray]:
    """Some of the leaders, at equal steps along their influence, and how much each of them stands for; all of them, by
    their own influence, if there are no more than `most`."""
    if len(leaders) <= most:
        return leaders, rows[leaders]
    reach = np.cumsum(rows[leaders])
    steps = (np.arange(most) + 0.5) / most * reach[-1]
    chosen, times = np.unique(np.searchsorted(reach, steps), return_counts=True)
    return leaders[chosen], times.astype(float)


def _unexplained(case: Case, kept: Units, rows: Rows, used: np.ndarray, of_rows: np.ndarray, changes: bool) -> float:
    """1 − completeness over the leading targets with hidden parts counted gross: features that remainders and errors
    stand for one by one, since net remainders cancel and would flatter. changes: edges are of changes."""
    some, weights = spread(leading(of_rows), of_rows)
    n_links = 0 if case.live is None or case.coded.links is None else len(case.coded.links)
    at, of = rows_of(torch.tensor(some, device=kept.ids.device), len(kept), n_links)
    others = case.baselines if changes else ()
    each = hidden_edges(case.map, case.coded, kept, rows.take(at), others)
    gross = each.new_zeros(len(some)).index_add(0, of, each).cpu().double().numpy()
    seen = np.abs(used[some, : len(kept) + n_links + case.view.n_tokens]).sum(1)
    left = gross / np.maximum(gross + seen, 1e-12)
    return float((left * weights).sum() / max(weights.sum(), 1e-12))


def cumulative(nodes: np.ndarray) -> np.ndarray:
    """For each node the share of all influence held by nodes at least as influential (small: important)."""
    order = np.argsort(-nodes, kind="stable")
    out = np.empty(len(nodes))
    out[order] = np.cumsum(nodes[order]) / max(nodes.sum(), 1e-12)
    return out


def mean_path_length(steps: np.ndarray) -> float:
    """Average number of edges from an end to the logit, weighted by influence."""
    return float((steps * np.arange(1, len(steps) + 1)).sum() / max(steps.sum(), 1e-12))
