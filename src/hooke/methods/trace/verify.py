"""Interventions in the real model, set beside what the graph predicted for them.

The prediction is the signed sum over paths of the exported graph (kept features only), not the plain
gradient, which stands beside it as a baseline with |activation|. Controls are random active features
of similar activation, and random groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from hooke.methods.metric import Metric
from hooke.methods.metrics import WIDE_SPACINGS, rounding
from hooke.methods.progress import Tick, idle, stretch
from hooke.methods.trace.coded import Coded, Units
from hooke.methods.trace.counterfactuals import Baseline
from hooke.methods.trace.effects import Effect, Place, Verification, judge
from hooke.methods.trace.scores import unit_effects
from hooke.methods.trace.tries import Tries, tries
from hooke.model import Edit, Frozen, Model
from hooke.model.recorded import Recorded
from hooke.results import Verdict
from hooke.sites import Site

JOB_TOKENS = 1024  # of interventions run together: about a second's work on a small model
JOB_BYTES = 2**28  # of what is read of them: fewer together on a long prompt

ALONE: tuple[Verdict, str] = ("untested", "the graph leaves no feature outside it to compare with")


@dataclass
class Bench:
    """Everything that an intervention needs, made once."""

    model: Model
    run: Recorded  # of the unchanged model
    frozen: Frozen
    coded: Coded
    metric: Metric
    baselines: list[Baseline]

    @property
    def logits(self) -> Tensor:
        """(d_vocab,), of the unchanged model."""
        return self.run.logits

    @property
    def rounding(self) -> float:
        """What an effect may be though nothing is changed."""
        return rounding(self.logits, self.model.dtype)


def setting(bench: Bench, units: Units, factor: float, baseline: Baseline) -> list[Edit]:
    """Edits that set the units to their baseline (factor 0) or to a multiple of their value."""
    out: list[Edit] = []
    for b in units.blocks.unique().tolist():
        here = units.blocks == b
        ids, at = units.ids[here], units.positions[here]
        value = baseline.codes[b].at(at, ids) if factor == 0 else factor * units.values[here]
        out += bench.coded.basis[b].edits(ids, value, at)
    return out


def measure(bench: Bench, effects: Sequence[Effect], *, places: Sequence[Place] = (), tick: Tick = idle) -> None:
    """Carry the interventions out in the live model, as many at once as memory holds; fills what was measured and, of
    the places, `reads`."""
    sites = sorted({site for site, _ in places})
    several = [bench.baselines if e.factor == 0 and not e.once else bench.baselines[:1] for e in effects]
    jobs = [(e, b) for e, chosen in zip(effects, several, strict=True) for b in chosen]
    found: dict[int, list[tuple[float, float]]] = {}
    words: dict[int, list[list[float]]] = {}
    before = bench.logits.float().log_softmax(-1)
    for start, end in _batches(bench, len(jobs), sites):
        tick(start / len(jobs))
        part = jobs[start:end]
        sets = [setting(bench, e.members, e.factor, b) for e, b in part]
        logits, reads = bench.model.run_each(bench.run, sets, read=sites)
        changes = (bench.metric(logits) - bench.metric(bench.logits)).tolist()
        inside = (bench.metric.graph(logits) - bench.metric.graph(bench.logits)).tolist()
        for k, ((effect, _), got) in enumerate(zip(part, reads, strict=True)):
            found.setdefault(id(effect), []).append((changes[k], inside[k]))
            if effect.watch:
                ids = list(effect.watch)
                change = logits[k].float().log_softmax(-1)[ids] - before[ids]
                words.setdefault(id(effect), []).append(change.tolist())
            if places:  # copies: what was read is a view of the whole batch
                effect.reads.append({(site, p): got[site][p].clone() for site, p in places if site in got})
    for effect in effects:
        values = [change for change, _ in found[id(effect)]]
        effect.measured = float(np.mean(values))
        effect.spread = (min(values), max(values))
        effect.in_graph = float(np.mean([inside for _, inside in found[id(effect)]]))
        effect.words = np.mean(words[id(effect)], axis=0).tolist() if effect.watch else []


def _batches(bench: Bench, n_jobs: int, sites: Sequence[Site]) -> list[tuple[int, int]]:
    """Where batches of jobs begin and end: what is read of them is held until they are done."""
    n_pos = bench.frozen.n_tokens
    read = len(sites) * n_pos * bench.model.parts.d_model * bench.model.dtype.itemsize
    size = max(1, min(max(32, JOB_TOKENS // n_pos), JOB_BYTES // max(1, read)))
    return [(start, min(start + size, n_jobs)) for start in range(0, n_jobs, size)]


def predict(bench: Bench, effects: Sequence[Effect], unit: list[Tensor], kept: Units, matrix: Tensor) -> None:
    """Signed sums over paths of the graph. Members are held at their new values, so for a group the
    paths from one member through another do not count.

    unit: per block, the effect on the metric of one unit of every active feature through the kept ones.
    matrix: (n_kept, n_kept) effect of one unit of a kept feature on another.
    """
    n_pos = bench.frozen.n_tokens
    place = {key: i for i, key in enumerate(triples(kept))}
    direct = _direct(bench, kept, unit, matrix)
    for effect in effects:
        m = effect.members
        change = (effect.factor - 1) * m.values
        if effect.factor == 0:
            change = _baseline(bench, effect) - m.values
        if len(m) == 1:
            effect.predicted = float(bench.coded.at_units(unit, m)[0] * change[0])
            continue
        where = [place.get(key, -1) for key in triples(m)]
        if min(where) < 0:  # a control group outside the graph: its members' own sums
            effect.predicted = float((bench.coded.at_units(unit, m) * change).sum())
            continue
        at = torch.tensor(where, device=matrix.device)
        moved = torch.zeros(len(kept), dtype=matrix.dtype, device=matrix.device)
        moved[at] = change.to(moved.dtype)
        held = moved.clone()
        for _ in range(n_pos * bench.model.parts.n_layers):
            after = matrix @ moved
            after[at] = held[at]
            if float((after - moved).abs().max()) < 1e-7:
                break
            moved = after
        effect.predicted = float(direct @ moved)


def _baseline(bench: Bench, effect: Effect) -> Tensor:
    """(n,): what an ablation sets the members to, averaged over the baselines it is run against."""
    m = effect.members
    if not effect.once:
        assert m.baselines is not None
        return m.baselines
    return bench.coded.values_at(bench.baselines[0].codes, m)


def _direct(bench: Bench, kept: Units, unit: list[Tensor], matrix: Tensor) -> Tensor:
    """Direct effect of one unit of each kept feature on the metric: total minus what goes through others."""
    total = bench.coded.at_units(unit, kept)
    return total - total @ matrix


def gradient(bench: Bench) -> list[Tensor]:
    """The plain gradient of what the graph adds up to, for every active feature; per block (n_entries,)."""
    sites = bench.coded.cuts  # the slope at a site is that of something that is added there
    added = [torch.zeros_like(bench.frozen.tokens(), dtype=bench.model.dtype).requires_grad_() for _ in sites]
    edits = [Edit(site, "add", zero) for site, zero in zip(sites, added, strict=True)]
    run = bench.model.run(bench.run.tokens, edits=edits, grad=True, logits="last")
    assert run.logits is not None
    grads = dict(zip(sites, torch.autograd.grad(bench.metric.graph(run.logits[0]), added), strict=True))
    out = []
    for block, codes, x in zip(bench.coded.basis, bench.coded.codes, bench.coded.inputs, strict=True):
        worth = torch.zeros_like(codes.values)
        for site in block.writes:
            worth += block.effects(codes, site, grads[site].to(worth.dtype), x)
        out.append(worth)
    return out


def verify(
    bench: Bench,
    kept: Units,
    matrix: Tensor,
    named: Sequence[Tensor],
    words: Sequence[Sequence[int]] = (),
    paths: Sequence[Sequence[int]] = (),
    *,
    seed: int = 0,
    tick: Tick = idle,
) -> Verification:
    """Test the strongest nodes, the named groups, paths and samples of nodes and groups against the live model.

    matrix: (n_kept, n_kept), effect of one unit of a kept feature (column) on another (row).
    named: indices of kept units for each group that the sentence names; words: tokens that each may promote.
    paths: indices of kept units on each path.
    """
    unit, _ = unit_effects(bench.frozen, bench.coded, bench.metric.row(bench.frozen), keep=bench.coded.masks(kept))
    made = tries(bench, kept, bench.coded.at_units(unit, kept), named, words, paths, seed)
    tick(0.1)
    predict(bench, made.predicted(), unit, kept, matrix)
    pairs = _pairs(bench, kept, matrix, made.strongest)
    watched = [made.singles[int(i)] for i in made.strongest] + made.controls
    places = [p for target in sorted({target for _, target, _ in pairs}) for p in _places(bench, kept, target)]
    measure(bench, watched, places=places, tick=stretch(tick, 0.15, 0.5))
    seen = set(map(id, watched))
    measure(bench, [e for e in made.all() if id(e) not in seen], tick=stretch(tick, 0.5, 0.9))
    tick(0.9)

    least = bench.rounding
    bar = _bar(made.controls, least)
    verdicts = {i: judge(e.predicted, e.in_graph, bar, e.measured) for i, e in made.singles.items()}
    if not made.controls:
        verdicts = dict.fromkeys(verdicts, ALONE)
    edge_verdicts = _edges(bench, kept, pairs, made.singles, made.controls)
    summary = _summary(bench, made, gradient(bench))
    for prefix, said in (("", [v for v, _ in verdicts.values()]), ("edges_", list(edge_verdicts.values()))):
        for verdict in ("as-predicted", "not-as-predicted", "no-effect"):
            summary[prefix + verdict.replace("-", "_")] = said.count(verdict)
    summary |= {
        "untested": len(kept) - len(verdicts),
        "control_95th_percentile": bar,
        "doubling_spearman": _rank([e.predicted for e in made.doubles], [e.in_graph for e in made.doubles], least),
    }
    group_verdicts, promoted = _groups(made, least)
    return Verification(
        summary,
        verdicts,
        edge_verdicts,
        made.named,
        group_verdicts,
        made.named_doubles,
        promoted,
        made.paths,
        [[c.measured for c in random] for random in made.path_controls],
        least,
    )


def _bar(controls: Sequence[Effect], least: float) -> float:
    """What 95 % of the controls stay under, and rounding at least."""
    return max(least, float(np.quantile([abs(c.measured) for c in controls], 0.95)) if controls else 0.0)


def _groups(made: Tries, least: float) -> tuple[list[tuple[Verdict, str]], list[list[int]]]:
    """The verdict of each named group, and of its words those that switching it off makes less likely."""
    verdicts: list[tuple[Verdict, str]] = []
    promoted = []
    for effect, random in zip(made.named, made.named_controls, strict=True):
        found = judge(effect.predicted, effect.in_graph, _bar(random, least), effect.measured)
        verdicts.append(found if random else ALONE)
        less = [min([-least, *(c.words[k] for c in random)]) for k in range(len(effect.watch))]
        promoted.append([w for w, by, bar in zip(effect.watch, effect.words, less, strict=True) if by < bar])
    return verdicts, promoted


def triples(units: Units) -> list[tuple[int, int, int]]:
    return list(zip(units.blocks.tolist(), units.positions.tolist(), units.ids.tolist(), strict=True))


def _rank(a: Sequence[float], b: Sequence[float], least: float) -> float | None:
    """Rank correlation of predictions and measured effects; None where these are all the same but for rounding."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) <= least:
        return None
    return float(spearmanr(a, b).statistic)


def _signs(effects: Sequence[Effect], least: float) -> float | None:
    """In what share of the effects that are more than rounding the prediction has their sign."""
    found = [e.predicted * e.in_graph > 0 for e in effects if abs(e.in_graph) > least]
    return float(np.mean(found)) if found else None


def _mean_size(effects: Sequence[Effect]) -> float | None:
    return float(np.mean([abs(e.measured) for e in effects])) if effects else None


def _summary(bench: Bench, made: Tries, grads: list[Tensor]) -> dict[str, object]:
    """Predictions are compared with what was measured in their own quantity; mean effects are in the reported one."""
    tried, groups, n_kept = made.sampled() + made.controls, made.groups, len(made.sample)
    measured = [e.in_graph for e in tried]
    plain = [_by_gradient(bench, grads, e) for e in tried]
    size = [abs(float(e.members.values[0])) for e in tried]
    together, least = [e.in_graph for e in groups], bench.rounding
    spreads = [hi - lo for e in tried if not e.once for lo, hi in [e.spread]]
    return {
        "spearman": _rank([e.predicted for e in tried], measured, least),
        "spearman_kept": _rank([e.predicted for e in tried[:n_kept]], measured[:n_kept], least),
        "sign_agreement": _signs(tried[:n_kept], least),
        "gradient_spearman": _rank(plain, measured, least),
        "activation_spearman": _rank(size, [abs(x) for x in measured], least),
        "groups_spearman": _rank([e.predicted for e in groups], together, least),
        "groups_gradient_spearman": _rank([_by_gradient(bench, grads, e) for e in groups], together, least),
        "groups_sign_agreement": _signs(groups, least),
        "random_groups_mean_effect": _mean_size(made.group_controls),
        "groups_mean_effect": _mean_size(groups),
        "named_sign_agreement": _signs(made.named, least),
        "nodes_tried": len(tried),
        "groups_tried": len(groups),
        "baselines": [{"ids": b.ids.tolist(), "text": b.name} for b in bench.baselines],
        "mean_range_over_baselines": float(np.mean(spreads)) if spreads and len(bench.baselines) > 1 else None,
    }


def _by_gradient(bench: Bench, grads: list[Tensor], effect: Effect) -> float:
    """What the plain gradient predicts for setting the members to their baseline."""
    change = _baseline(bench, effect) - effect.members.values
    return float((bench.coded.at_units(grads, effect.members) * change).sum())


def _pairs(
    bench: Bench, kept: Units, matrix: Tensor, strongest: Tensor, per_source: int = 5
) -> list[tuple[int, int, float]]:
    """Of each of the strongest the kept ones that it moves most by the graph: source, target, predicted change.

    Only those whose own edge is tested by that, and so the sign it is drawn with: where the total effect has the sign
    of the weight that is shown.
    """
    if not len(kept):
        return []
    assert kept.baselines is not None
    sources = strongest.tolist()
    moved = torch.zeros(len(kept), len(sources), dtype=matrix.dtype, device=matrix.device)
    change = (kept.baselines - kept.values)[strongest].to(matrix.dtype)
    moved[strongest, torch.arange(len(sources), device=matrix.device)] = change
    start, total = moved.clone(), moved.clone()
    for _ in range(bench.model.parts.n_layers + 1):
        moved = matrix @ moved
        total += moved
    total -= start
    relative = total.abs() / kept.values.abs().clamp(min=1e-6)[:, None]
    pairs = []
    for column, source in enumerate(sources):
        weight = relative[:, column] * (kept.values.abs() > 1e-3)
        for target in weight.topk(min(per_source, len(kept))).indices.tolist():
            predicted = float(total[target, column])
            shown = float(matrix[target, source] * kept.values[source])  # taking it away must change the other way
            if abs(predicted) > 1e-6 and shown * predicted < 0:
                pairs.append((source, target, predicted))
    return pairs


def _edges(
    bench: Bench,
    kept: Units,
    pairs: Sequence[tuple[int, int, float]],
    singles: dict[int, Effect],
    controls: Sequence[Effect],
) -> dict[tuple[int, int], Verdict]:
    """Compare the change of each target when its source was set to its baseline in the live model with the graph's."""
    out: dict[tuple[int, int], Verdict] = {}
    eps = WIDE_SPACINGS * torch.finfo(bench.model.dtype).eps
    sources: dict[int, list[int]] = {}
    for source, target, _ in pairs:
        sources.setdefault(target, []).append(source)
    changes: dict[int, list[float]] = {}
    for target, several in sources.items():
        changes[target] = _changes(bench, kept, target, [*(singles[s] for s in several), *controls])
    for source, target, predicted in pairs:
        several = sources[target]
        random = [abs(x) for x in changes[target][len(several) :]]
        bar = float(np.quantile(random, 0.95)) if random else 0.0
        bar = max(bar, eps * abs(float(kept.values[target])))
        out[(source, target)] = judge(predicted, changes[target][several.index(source)], bar)[0]
    return out


def _places(bench: Bench, kept: Units, target: int) -> list[Place]:
    """Where a unit reads."""
    return [(site, int(kept.positions[target])) for site in bench.coded.basis[int(kept.blocks[target])].reads]


def _changes(bench: Bench, kept: Units, target: int, effects: Sequence[Effect]) -> list[float]:
    """How far each intervention moved a kept feature, averaged over baselines."""
    b, own = int(kept.blocks[target]), int(kept.positions[target])
    block, places = bench.coded.basis[b], _places(bench, kept, target)
    clean = {site: x[own] for site, x in bench.coded.inputs[b].items()}
    reads = [got for effect in effects for got in effect.reads]  # a site before the first edit has its clean value
    rows = {s: torch.stack([got.get((s, p), clean[s]).to(bench.frozen.dtype) for got in reads]) for s, p in places}
    feature = kept.ids[target].expand(len(reads))
    values = block.encode(rows).at(torch.arange(len(reads), device=feature.device), feature)
    moved = iter((values - kept.values[target]).tolist())
    return [float(np.mean([next(moved) for _ in effect.reads])) if effect.reads else 0.0 for effect in effects]
