"""From kept features to a graph as numbers: edges, influence, scores, labels and groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hooke.methods.metric import Metric
from hooke.methods.progress import Tick, idle, stretch
from hooke.methods.trace import explain
from hooke.methods.trace import influence as inf
from hooke.methods.trace.coded import Coded, Units
from hooke.methods.trace.counterfactuals import Baseline
from hooke.methods.trace.edges import Edges, edges, hidden_gross, readers
from hooke.model import Frozen, Rows

N_RANDOM_READERS = 32
N_LIKELY = 50  # next tokens among which groups at the last position are told by what they promote


@dataclass
class Logits:
    """The logit nodes: token ids, the weight of each in influence, and their rows."""

    ids: list[int]
    weights: list[float]
    rows: Rows


@dataclass
class Drawn:
    """A graph as numbers. Rows: kept units, then logits. Columns: units, tokens, remainders, errors."""

    edges: Edges
    matrix: Tensor  # (n_kept, n_kept) effect of one unit of a kept feature on another
    values: Tensor  # (n_targets,) what each row sums to
    influence: inf.Influence  # of the columns
    used: np.ndarray  # the weights that influence is computed on: clean, or with a counterfactual the deltas
    scores: dict[str, float | int]
    labels: explain.Labels
    groups: list[explain.Group]
    effects: Tensor  # (n_kept,) predicted effect of setting each unit to its baseline, over paths


def draw_graph(
    frozen: Frozen,
    coded: Coded,
    kept: Units,
    logits: Logits,
    metric: Metric,
    based: list[Baseline],
    *,
    given: bool,
    seed: int = 0,
    tick: Tick = idle,
) -> Drawn:
    """Compute the edges that are asked for, and all that follows from them.

    based: what the prompt is contrasted with; given: it is counterfactuals, so edges have deltas, and
    influence and words follow those.
    """
    n, n_pos, device = len(kept), frozen.n_tokens, kept.ids.device
    random = random_units(coded, based, explain.N_RANDOM, torch.Generator().manual_seed(seed))
    few = readers(coded, random.take(torch.arange(min(N_RANDOM_READERS, len(random)), device=device)))
    baseline = None
    if given:
        baseline = ([b.codes for b in based], torch.stack([b.tokens for b in based]).mean(0))
    found = edges(frozen, coded, kept, logits.rows.join(few), baseline, stretch(tick, 0.0, 0.5))
    n_rows = n + len(logits.ids)
    from_tokens = along_paths(found, n, found.weights[:n, n : n + n_pos], frozen.parts.n_layers)
    per_unit = from_tokens / torch.where(kept.values.abs() < 1e-6, 1.0, kept.values)[:, None]
    random_from_tokens = found.weights[n_rows:, n : n + n_pos] + found.unit[n_rows:] @ per_unit
    shown = Edges(
        found.weights[:n_rows],
        found.unit[:n_rows],
        found.constants[:n_rows],
        None if found.delta is None else found.delta[:n_rows],
    )
    tick(0.5)
    used = (shown.weights if shown.delta is None else shown.delta).cpu().double().numpy()
    influence, scores = _influence(used, n, n_pos, logits.weights)
    leaders = inf.leading(influence.rows)
    led = readers(coded, kept).join(logits.rows).take(torch.as_tensor(leaders.copy(), device=device))
    sizes = coded.codes
    if baseline is not None:
        sizes = [codes.less([b.codes[k] for b in based]) for k, codes in enumerate(coded.codes)]
    gross = hidden_gross(frozen, coded, kept, led, sizes, stretch(tick, 0.55, 0.9))
    hidden = np.arange(used.shape[1]) >= n + n_pos
    scores["unexplained"] = inf.unexplained(used, influence.rows, hidden, leaders, gross.cpu().double().numpy())
    tick(0.9)
    assert kept.baselines is not None
    row = shown.unit[n : n + 1] if metric.contrast is not None else _metric_row(shown, n, logits, metric)
    effects = (kept.baselines - kept.values) * onto(row, shown.unit[:n])
    layers = torch.tensor([coded.layer(b) for b in kept.blocks.tolist()], device=device)
    share = torch.tensor(influence.nodes[:n], device=device)
    bar = explain.clarity_bar(frozen, coded, random)
    likely = frozen.logits.topk(min(N_LIKELY, len(frozen.logits))).indices
    tick(0.92)
    labels = explain.label(frozen, coded, kept, from_tokens, bar, random_from_tokens)
    tick(0.95)
    return Drawn(
        edges=shown,
        matrix=shown.unit[:n],
        values=torch.cat([kept.values, logit_values(frozen, logits, metric)]),
        influence=influence,
        used=used,
        scores=scores | {"nodes": n},
        labels=labels,
        groups=explain.group(frozen, coded, kept, layers, share, effects, from_tokens, likely, bar),
        effects=effects,
    )


def _influence(
    used: np.ndarray, n: int, n_pos: int, weights: list[float]
) -> tuple[inf.Influence, dict[str, float | int]]:
    """Influence of the columns, with the logits as columns of their own that lead nowhere."""
    n_sources, n_logits = used.shape[1], len(weights)
    padded = np.pad(used, ((0, 0), (0, n_logits)))
    at = np.arange(n_sources + n_logits)
    targets = np.concatenate([np.arange(n), n_sources + np.arange(n_logits)])
    found = inf.influence(padded, targets, np.array([0.0] * n + weights), (at >= n) & (at < n_sources))
    hidden = (at >= n + n_pos) & (at < n_sources)
    scores: dict[str, float | int] = {
        "completeness": inf.completeness_score(padded, found.rows, hidden),
        "replacement": inf.replacement_score(found.nodes, (at >= n) & (at < n + n_pos), hidden),
        "path_length": inf.mean_path_length(found.steps),
    }
    return inf.Influence(found.nodes[:n_sources], found.rows, found.steps), scores


def along_paths(found: Edges, n: int, start: Tensor, depth: int) -> Tensor:
    """(n, k): what `start` (n, k) sends into the kept features, along all paths among them."""
    total, step = start.clone(), start.clone()
    for _ in range(depth):
        step = found.unit[:n] @ step
        total += step
    return total


def onto(row: Tensor, matrix: Tensor) -> Tensor:
    """(n,): effect of one unit of each feature on a target over all paths; row: (1, n) direct effects."""
    total, step = row[0].clone(), row[0].clone()
    while len(step) and float(step.abs().max()) > 1e-9:
        step = step @ matrix
        total += step
    return total


def _metric_row(shown: Edges, n: int, logits: Logits, metric: Metric) -> Tensor:
    return shown.unit[n + logits.ids.index(metric.target)][None]


def logit_values(frozen: Frozen, logits: Logits, metric: Metric) -> Tensor:
    """What the logit rows sum to, by the frozen map: demeaned logits, or the one difference."""
    x = frozen.replayed
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
