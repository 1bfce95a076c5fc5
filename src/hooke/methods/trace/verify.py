"""Interventions in the real model, set beside what the graph predicted for them.

The prediction is what the graph says: of a node of a live graph its total effect, of a held one the signed sum over
paths of kept features. The plain gradient stands beside it, and |activation|. Controls are random active features of
similar activation, and random groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hooke.dictionaries import Neurons
from hooke.methods.progress import Tick, idle, stretch
from hooke.methods.trace.answer import gradient
from hooke.methods.trace.coded import Baseline, Case, Units
from hooke.methods.trace.draw import Drawn
from hooke.methods.trace.explain import Path
from hooke.methods.trace.hold_links import Looks, hold_places, looks
from hooke.methods.trace.part_paths import strongest_part_paths, try_part_paths
from hooke.methods.trace.select import unit_effects
from hooke.methods.trace.tries import Effect, Trial, Tries, Verification, judge, rank, tries
from hooke.methods.trace.ways import try_ways
from hooke.model import Edit, Tokens
from hooke.model.budget import budget
from hooke.results import Verdict

ALONE: tuple[Verdict, str] = ("untested", "the graph leaves no feature outside it to compare with")


def setting(case: Case, units: Units, factor: float, baseline: Baseline | None) -> list[Edit]:
    """Edits that set the units to a baseline (None: the mean of all) at factor 0, else to a multiple of their value."""
    assert units.baselines is not None
    if factor:
        return case.coded.edits(units, factor * units.values)
    there = units.baselines if baseline is None else case.coded.values_at(baseline.codes, units)
    return case.coded.edits(units, there)


def measure(case: Case, effects: Sequence[Effect], *, tick: Tick = idle) -> None:
    """Carry the interventions out in the live model, as many at once as memory holds; fills in what was measured."""
    each: list[Baseline | None] = [*case.baselines]
    several = [each if e.factor == 0 and not e.once else [None] for e in effects]
    jobs = [(e, b) for e, chosen in zip(effects, several, strict=True) for b in chosen]
    found: dict[int, list[tuple[float, float]]] = {}
    words: dict[int, list[list[float]]] = {}
    before = case.logits.float().log_softmax(-1)
    size = max(32, budget(case.model.device).busy // case.view.n_tokens)
    for start in range(0, len(jobs), size):
        tick(start / len(jobs))
        part = jobs[start : start + size]
        logits, _ = case.model.run_each(case.run, [setting(case, e.members, e.factor, b) for e, b in part])
        changes = (case.metric(logits) - case.metric(case.logits)).tolist()
        inside = (case.metric.graph(logits) - case.metric.graph(case.logits)).tolist()
        for k, (effect, _) in enumerate(part):
            found.setdefault(id(effect), []).append((changes[k], inside[k]))
            if effect.watch:
                ids = list(effect.watch)
                change = logits[k].float().log_softmax(-1)[ids] - before[ids]
                words.setdefault(id(effect), []).append(change.tolist())
    for effect in effects:
        values = [change for change, _ in found[id(effect)]]
        effect.measured = float(np.mean(values))
        effect.spread = (min(values), max(values))
        effect.in_graph = float(np.mean([inside for _, inside in found[id(effect)]]))
        effect.words = np.mean(words[id(effect)], axis=0).tolist() if effect.watch else []


def predict(case: Case, effects: Sequence[Effect], unit: list[Tensor], kept: Units, matrix: Tensor) -> None:
    """Signed sums over paths of the graph. Members are held at their new values, so for a group the
    paths from one member through another do not count.

    unit: per block, the effect on the metric of one unit of every active feature through the kept ones.
    matrix: (n_nodes, n_nodes) effect of one unit of a node, kept features and then links, on another.
    """
    n_pos = case.view.n_tokens
    place = {key: i for i, key in enumerate(triples(kept))}
    direct = _direct(case, kept, unit, matrix)
    for effect in effects:
        m = effect.members
        change = (effect.factor - 1) * m.values
        if effect.factor == 0:
            assert m.baselines is not None
            change = m.baselines - m.values
        if len(m) == 1:
            effect.predicted = float(case.coded.at_units(unit, m)[0] * change[0])
            continue
        where = [place.get(key, -1) for key in triples(m)]
        if min(where) < 0:  # a control group outside the graph: its members' own sums
            effect.predicted = float((case.coded.at_units(unit, m) * change).sum())
            continue
        at = torch.tensor(where, device=matrix.device)
        moved = torch.zeros(len(matrix), dtype=matrix.dtype, device=matrix.device)
        moved[at] = change.to(moved.dtype)
        held = moved.clone()
        for _ in range(n_pos * case.model.parts.n_layers):
            after = matrix @ moved
            after[at] = held[at]
            if float((after - moved).abs().max()) < 1e-7:
                break
            moved = after
        effect.predicted = float(direct @ moved)


def _direct(case: Case, kept: Units, unit: list[Tensor], matrix: Tensor) -> Tensor:
    """Direct effect of one unit of each node on the metric: total minus what goes through others."""
    total = case.coded.at_units(unit, kept)
    total = torch.cat([total, total.new_ones(len(matrix) - len(kept))])  # a unit of a link is what is worth one
    return total - total @ matrix


def verify_graph(
    case: Case, kept: Units, drawn: Drawn, paths: Sequence[Path], *, seed: int = 0, tick: Tick = idle
) -> Verification:
    """Test the strongest nodes, the parts of the story, paths, edges, and samples of nodes and groups
    against the live model."""
    matrix, unit = drawn.matrix, drawn.slopes
    if unit is None:
        unit, _ = unit_effects(case.view, case.coded, case.metric.row(case.view), keep=case.coded.masks(kept))
    held = None if drawn.slopes is None else unit_effects(case.view, case.coded, case.metric.row(case.view))[0]
    named, words = [g.members for g in drawn.groups], [g.promotes for g in drawn.groups]
    made = tries(case, kept, case.coded.at_units(unit, kept), named, words, seed)
    tick(0.1)
    predict(case, made.predicted(), unit, kept, matrix)
    if drawn.closure is not None and drawn.flows is not None:  # of hundreds of nodes a slope at one point says little
        through, _ = drawn.flows.of(named)
        for k, effect in enumerate(made.named):  # its own nodes are held, so nothing goes through them
            effect.predicted = float(through[k].sum() - through[k, k])
    measure(case, made.all(), tick=stretch(tick, 0.15, 0.6))
    least = case.rounding
    bar = _bar(made.controls, least)
    verdicts = {i: judge(e.predicted, e.in_graph, bar, e.measured) for i, e in made.singles.items()}
    if not made.controls:
        verdicts = dict.fromkeys(verdicts, ALONE)
    ways, edge_verdicts, told = try_ways(case, kept, drawn, unit, held, paths, seed, stretch(tick, 0.6, 0.9))
    summary = _summary(case, made, gradient(case) if drawn.slopes is None else drawn.slopes)
    summary |= told
    part_paths = [] if drawn.flows is None else strongest_part_paths(drawn.flows, named)
    try_part_paths(case, kept, named, part_paths, stretch(tick, 0.9, 1.0))
    signs = [path.predicted * path.measured > 0 for path in part_paths if abs(path.measured) > least]
    summary |= {
        "parts_spearman": rank([e.predicted for e in made.named], [e.in_graph for e in made.named], least),
        "part_paths_sign": float(np.mean(signs)) if signs else None,
        "part_paths_tried": len(part_paths),
        "part_paths_spearman": rank([p.predicted for p in part_paths], [p.measured for p in part_paths], least),
    }
    if drawn.closure is not None and held is not None:
        summary |= {"curvature": drawn.closure.curvature} | _held(case, made, held)
    for prefix, said in (("", [v for v, _ in verdicts.values()]), ("edges_", list(edge_verdicts.values()))):
        for verdict in ("as-predicted", "not-as-predicted", "no-effect"):
            summary[prefix + verdict.replace("-", "_")] = said.count(verdict)
    summary |= {
        "untested": len(kept) - len(verdicts),
        "control_95th_percentile": bar,
        "doubling_spearman": rank([e.predicted for e in made.doubles], [e.in_graph for e in made.doubles], least),
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
        _trials(made, kept) + ways,
        part_paths,
        least,
    )


def _trials(made: Tries, kept: Units) -> list[Trial]:
    """The nodes and groups that were tried, one by one."""
    place = {key: i for i, key in enumerate(triples(kept))}
    nodes = [Trial("node", [i], e.predicted, e.in_graph) for i, e in made.singles.items()]
    return nodes + [
        Trial("group", [place[key] for key in triples(e.members)], e.predicted, e.in_graph) for e in made.groups
    ]


def _held(case: Case, made: Tries, unit: list[Tensor]) -> dict[str, float | None]:
    """The same correlations by the held view, with the rule for gates: what graphs with held attention predict by."""
    tried, least = made.sampled() + made.controls, case.rounding
    return {
        "held_spearman": rank([_by_gradient(case, unit, e) for e in tried], [e.in_graph for e in tried], least),
        "held_groups_spearman": rank(
            [_by_gradient(case, unit, e) for e in made.groups], [e.in_graph for e in made.groups], least
        ),
    }


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


def _signs(effects: Sequence[Effect], least: float) -> float | None:
    """In what share of the effects that are more than rounding the prediction has their sign."""
    found = [e.predicted * e.in_graph > 0 for e in effects if abs(e.in_graph) > least]
    return float(np.mean(found)) if found else None


def _mean_size(effects: Sequence[Effect]) -> float | None:
    return float(np.mean([abs(e.measured) for e in effects])) if effects else None


def _summary(case: Case, made: Tries, grads: list[Tensor]) -> dict[str, object]:
    """Predictions are compared with what was measured in their own quantity; mean effects are in the reported one."""
    tried, groups, n_kept = made.sampled() + made.controls, made.groups, len(made.sample)
    measured = [e.in_graph for e in tried]
    plain = [_by_gradient(case, grads, e) for e in tried]
    size = [abs(float(e.members.values[0])) for e in tried]
    together, least = [e.in_graph for e in groups], case.rounding
    spreads = [hi - lo for e in tried if not e.once for lo, hi in [e.spread]]
    return {
        "spearman": rank([e.predicted for e in tried], measured, least),
        "spearman_kept": rank([e.predicted for e in tried[:n_kept]], measured[:n_kept], least),
        "sign_agreement": _signs(tried[:n_kept], least),
        "gradient_spearman": rank(plain, measured, least),
        "activation_spearman": rank(size, [abs(x) for x in measured], least),
        "groups_spearman": rank([e.predicted for e in groups], together, least),
        "groups_gradient_spearman": rank([_by_gradient(case, grads, e) for e in groups], together, least),
        "groups_sign_agreement": _signs(groups, least),
        "random_groups_mean_effect": _mean_size(made.group_controls),
        "groups_mean_effect": _mean_size(groups),
        "named_sign_agreement": _signs(made.named, least),
        "nodes_tried": len(tried),
        "groups_tried": len(groups),
        "baselines": [{"ids": b.ids.tolist(), "text": b.name} for b in case.baselines],
        "mean_range_over_baselines": float(np.mean(spreads)) if spreads and len(case.baselines) > 1 else None,
    }


def _by_gradient(case: Case, grads: list[Tensor], effect: Effect) -> float:
    """What the plain gradient predicts for setting the members to their baseline."""
    assert effect.members.baselines is not None
    change = effect.members.baselines - effect.members.values
    return float((case.coded.at_units(grads, effect.members) * change).sum())


LEAST_SPAN = 0.01  # nats; of an effect that is smaller a share says nothing


def faithfulness(
    case: Case, kept: Units, baseline: Baseline, links: Tensor | None = None, *, seed: int = 0
) -> dict[str, float]:
    """f = (m(C) − m(∅)) / (m(M) − m(∅)) with every feature outside C at its baseline, the links (n, 4) in C at what
    they bring on the prompt, and all others live; beside it a random set of as many features and links, the complement
    (all in C at its baseline), and the KL from the model's own next-token distribution in nats. No shares of an effect
    that is next to nothing."""
    generator = torch.Generator().manual_seed(seed)
    sizes, inside = [len(codes) for codes in case.coded.codes], case.coded.masks(kept)
    random = torch.zeros(sum(sizes), dtype=torch.bool)
    random[torch.randperm(sum(sizes), generator=generator)[: len(kept)]] = True
    chance = [r.to(here.device) for r, here in zip(random.split(sizes), inside, strict=True)]
    none = [torch.zeros_like(here) for here in inside]
    edits = [hold_others(case, mask, baseline) for mask in (none, inside, chance)]
    edits += [case.coded.edits(kept, case.coded.values_at(baseline.codes, kept)), []]
    if links is not None and len(links):
        rows = torch.stack([case.view.ids, baseline.ids])
        found = looks(case.model, Tokens(rows, torch.ones_like(rows, dtype=torch.bool)))
        for k, row, places in ((1, 0, links), (2, 0, _random_links(found, len(links), generator)), (3, 1, links)):
            edits[k] = [*edits[k], *hold_places(found, row, places)]
    logits, _ = case.model.run_each(case.run, edits)
    m = case.metric(logits).tolist()
    span = m[4] - m[0]
    log = logits.float().log_softmax(-1)
    kl = (log[4].exp() * (log[4] - log)).sum(-1).tolist()
    if abs(span) <= max(LEAST_SPAN, case.rounding):
        return {"range": span, "kl": kl[1]}
    return {
        "fit": (m[1] - m[0]) / span,
        "random_fit": (m[2] - m[0]) / span,
        "complement": (m[3] - m[0]) / span,
        "range": span,
        "kl": kl[1],
        "kl_nothing_kept": kl[0],
        "kl_random": kl[2],
    }


def _random_links(found: Sequence[Looks], n: int, generator: torch.Generator) -> Tensor:
    """(n, 4): places of links drawn from all that carry any attention on the prompt."""
    there = torch.stack([look.pattern[0] for look in found]).nonzero()
    return there[torch.randperm(len(there), generator=generator)[:n].to(there.device)]


def hold_others(case: Case, keep: Sequence[Tensor], baseline: Baseline) -> list[Edit]:
    """Edits that hold every feature outside `keep` (per block, of the entries of the codes) at its baseline value, also
    those that are active in neither run."""
    out: list[Edit] = []
    for block, codes, other, kept in zip(case.coded.basis, case.coded.codes, baseline.codes, keep, strict=True):
        if isinstance(block, Neurons) and codes.keys is None and bool(kept.all()):
            continue
        entries, stays = codes.beside([other]), codes.take(kept)
        weight = torch.ones_like(entries.values)
        weight[entries.find(stays.positions, stays.ids)] = 0.0
        out += block.hold(entries, weight, other.at(entries.positions, entries.ids))
    return out
