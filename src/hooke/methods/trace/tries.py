"""Which interventions a graph is tested by: the strongest nodes, samples of nodes and groups, what the sentence
names, and beside each as many random features; what each was predicted to do, what it did, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from hooke.methods.trace.coded import Case, Units
from hooke.results import Verdict

N_SAMPLE, N_GROUPS, GROUP_SIZE, N_STRONGEST = 50, 30, 10, 20
N_GROUP_CONTROLS, N_NAMED_CONTROLS = 10, 5
NEAR = 8  # features of near size, of which one is drawn
FULL_TOKENS = 128  # a longer prompt is tested on fewer nodes and groups, in proportion, at least a fifth of them


@dataclass
class Effect:
    """A set of features, what the graph predicts for setting them to their baseline (or doubling), and what came."""

    members: Units
    factor: float  # 0: set to baseline; 2: double
    once: bool = False  # in one run, set to the mean over the baselines; else in one a baseline, and the mean of these
    watch: Sequence[int] = ()  # tokens whose own log-probability is followed as well
    predicted: float = 0.0  # change of what the graph adds up to
    in_graph: float = 0.0  # the same, measured
    measured: float = 0.0  # change of what is reported
    spread: tuple[float, float] = (0.0, 0.0)  # least and greatest over baselines
    words: list[float] = field(default_factory=list)  # measured change of each of `watch`


class Trial(NamedTuple):
    """One thing that a graph predicted. units: kept ones, of an edge its source and its target (none: the answer), of a
    path those on it from the first, `token`, on. predicted, measured: changes of what the graph adds up to."""

    kind: Literal["node", "group", "edge", "path"]
    units: list[int]
    predicted: float
    measured: float
    token: int | None = None


@dataclass
class PartPath:
    """A path through parts of a story. token: the position that it begins at. parts: from the first on. predicted,
    measured: changes of what the graph adds up to when the token is set to what stands there in the counterfactuals."""

    token: int
    parts: list[int]
    predicted: float
    measured: float = 0.0


@dataclass
class Verification:
    """Figures for the result, and the verdicts they rest on."""

    summary: dict[str, object]
    verdicts: dict[int, tuple[Verdict, str]]  # index of a kept unit -> verdict and what was measured
    edge_verdicts: dict[tuple[int, int], Verdict]  # (source, target) indices of kept units
    groups: list[Effect]
    group_verdicts: list[tuple[Verdict, str]]
    doubles_named: list[Effect]
    promoted: list[list[int]]  # a group: of its words those that switching it off makes less likely
    trials: list[Trial] = field(default_factory=list)
    part_paths: list[PartPath] = field(default_factory=list)
    rounding: float = 0.0  # what an effect may be though nothing is changed


def judge(predicted: float, measured: float, control: float, reported: float | None = None) -> tuple[Verdict, str]:
    """Whether an effect is beyond the controls, and whether it is as predicted: in sign, and 0.5 to 2 times in size.

    predicted, measured: in the quantity of the prediction. control: what 95 % of random features stay under.
    reported: the effect in the quantity that controls are in, where that is another one.
    """
    size = measured if reported is None else reported
    said = f"predicted {predicted:+.3g}, measured {measured:+.3g}"
    if reported is not None:
        said += f" in the graph's quantity and {reported:+.3g} in the reported one"
    said += f"; 95% of random ones stay under {control:.2g}"
    if abs(size) <= control:
        return "no-effect", said
    if predicted * measured <= 0:
        return "not-as-predicted", said + ": wrong sign"
    if not 0.5 <= measured / predicted <= 2:
        return "not-as-predicted", said + ": right sign, wrong size"
    return "as-predicted", said


def weigh(verification: Verification, replays: Sequence[Mapping[str, Any]]) -> bool:
    """Say "no effect" of a group whose ablation did no more than the same push on random neurons at its own layers and
    positions: a harder control than neurons of similar activation set to their own baseline. replays: `intervene`
    payloads of switching each named group off, in order. Returns whether a verdict changed."""
    changed = False
    for k, replay in enumerate(replays):
        verdict, reason = verification.group_verdicts[k]
        least, greatest = replay["control_least"], replay["control_greatest"]
        if least is None or verdict not in ("as-predicted", "not-as-predicted"):
            continue
        if least <= replay["change"] <= greatest:
            said = f"{reason}; random neurons pushed as far do as much ({least:+.2g} to {greatest:+.2g})"
            verification.group_verdicts[k] = ("no-effect", said)
            changed = True
    return changed


class Tries(NamedTuple):
    """What is tried, with indices of kept units where a name says so."""

    strongest: Tensor  # indices
    sample: Tensor  # indices
    singles: dict[int, Effect]  # by index: each of the strongest and of the sample, switched off
    doubles: list[Effect]  # the strongest
    controls: list[Effect]  # one for each of the sample
    groups: list[Effect]
    group_controls: list[Effect]
    named: list[Effect]  # what the sentence names, switched off
    named_doubles: list[Effect]
    named_controls: list[list[Effect]]

    def sampled(self) -> list[Effect]:
        """Those of the sample."""
        return [self.singles[int(i)] for i in self.sample]

    def predicted(self) -> list[Effect]:
        """Those that the graph predicts."""
        single, several = [*self.singles.values(), *self.doubles, *self.controls], [*self.groups, *self.group_controls]
        return [*single, *several, *self.named, *self.named_doubles]

    def all(self) -> list[Effect]:
        """Every one."""
        return [*self.predicted(), *(control for controls in self.named_controls for control in controls)]


def tries(
    case: Case,
    kept: Units,
    totals: Tensor,
    named: Sequence[Tensor],
    words: Sequence[Sequence[int]],
    seed: int,
) -> Tries:
    """Draw what is tried. totals: (n_kept,) the effect of one unit of each by the graph. The rest as for `verify`."""
    generator = torch.Generator().manual_seed(seed)
    thin = max(0.2, min(1.0, FULL_TOKENS / case.view.n_tokens))
    n_sample, n_groups, n_strongest = (round(thin * n) for n in (N_SAMPLE, N_GROUPS, N_STRONGEST))
    assert kept.baselines is not None
    ranked = (totals * (kept.baselines - kept.values)).abs().argsort(descending=True)
    strongest = ranked[:n_strongest]
    # the rest, and groups, are drawn from what the baselines change: elsewhere nothing is done
    movable = ranked[kept.positions[ranked] >= first_change(case)]
    sample = movable[torch.linspace(0, max(len(movable) - 1, 0), min(n_sample, len(movable))).round().long().unique()]

    rows = by_size(case)

    def chance(like: Units, count: int, watch: Sequence[int] = ()) -> list[Effect]:
        """Random groups outside the graph; none where it leaves no feature."""
        found = [matched(case, like, kept, rows, generator) for _ in range(count)]
        return [Effect(members, 0.0, once=True, watch=watch) for members in found if len(members)]

    # what is claimed (the strongest nodes, the named groups) is run against every baseline, samples against their mean
    claimed = set(strongest.tolist())
    both = torch.cat([strongest, sample]).unique().tolist()
    singles = {i: Effect(kept.take(torch.tensor([i])), 0.0, once=i not in claimed) for i in both}
    doubles = [Effect(kept.take(i[None]), 2.0) for i in strongest]
    others = matched(case, kept.take(sample), kept, rows, generator)
    controls = [Effect(others.take(torch.tensor([i])), 0.0, once=True) for i in range(len(others))]
    groups: list[Effect] = []
    group_controls: list[Effect] = []
    for _ in range(n_groups if len(movable) > 1 else 0):
        members = kept.take(movable[torch.randperm(len(movable), generator=generator)[:GROUP_SIZE].to(movable.device)])
        groups.append(Effect(members, 0.0, once=True))
        if len(group_controls) < thin * N_GROUP_CONTROLS:
            group_controls += chance(members, 1)
    follow = [list(w) for w in words] or [[] for _ in named]
    named_effects = [Effect(kept.take(at), 0.0, watch=w) for at, w in zip(named, follow, strict=True)]
    named_controls = []
    for at, w in zip(named, follow, strict=True):
        like = kept.take(at[torch.randperm(len(at), generator=generator)[:200].to(at.device)])
        named_controls.append(chance(like, N_NAMED_CONTROLS, w))
    return Tries(
        strongest,
        sample,
        singles,
        doubles,
        controls,
        groups,
        group_controls,
        named_effects,
        [Effect(kept.take(at), 2.0) for at in named],
        named_controls,
    )


def first_change(case: Case) -> int:
    """The first position at which some baseline differs from the prompt: before it, nothing can."""
    ids = torch.stack([other.ids for other in case.baselines])
    differs = (ids != case.view.ids).any(0).nonzero()
    return int(differs[0]) if len(differs) else 0


BySize = dict[int, tuple[np.ndarray, np.ndarray]]


def matched(case: Case, like: Units, kept: Units, rows: Sequence[BySize], generator: torch.Generator) -> Units:
    """For each unit, a random feature outside the graph whose |activation| is close to its own, at a position
    that the baselines change. rows: `by_size`."""
    picks = []
    taken = set(zip(kept.blocks.tolist(), kept.positions.tolist(), kept.ids.tolist()))
    n_pos = case.view.n_tokens
    start = max(first_change(case), 1 if n_pos > 1 else 0)
    draws = torch.randint(2**31, (len(like), 4, 3), generator=generator).tolist()
    for value, tried in zip(like.values.abs().tolist(), draws, strict=True):
        best: tuple[float, tuple[int, int, int]] | None = None
        for at_block, at_position, at_near in tried:
            b, p = at_block % len(rows), start + at_position % (n_pos - start)
            if p not in rows[b]:
                continue
            sizes, entries = rows[b][p]
            first = max(0, min(int(np.searchsorted(sizes, value)) - NEAR // 2, len(sizes) - NEAR))
            k = first + at_near % min(NEAR, len(sizes))
            gap = abs(float(sizes[k]) - value)
            i = case.coded.codes[b].id_of(int(entries[k]))
            if (b, p, i) not in taken and (best is None or gap < best[0]):
                best = (gap, (b, p, i))
        if best is not None:
            taken.add(best[1])
            picks.append(best[1])
    return units_of(case, picks) if picks else kept.take(kept.ids.new_empty(0))


def by_size(case: Case) -> list[BySize]:
    """Per block and position the sizes of active features, from the smallest on, and their entries in the codes."""
    out: list[BySize] = []
    for codes in case.coded.codes:
        rows: BySize = {}
        for p, here in codes.by_position():
            sizes = codes.values[here].abs().cpu().numpy()
            order = np.argsort(sizes, kind="stable")
            rows[p] = (sizes[order], order + here.start)
        out.append(rows)
    return out


def units_of(case: Case, picks: Sequence[tuple[int, int, int]]) -> Units:
    """Units from (block, position, feature) triples."""
    b, p, i = (torch.tensor(x, dtype=torch.long, device=case.view.ids.device) for x in zip(*picks, strict=True))
    return case.coded.units(b, p, i, [other.codes for other in case.baselines])


def rank(a: Sequence[float], b: Sequence[float], least: float) -> float | None:
    """Rank correlation of predictions and measured effects; None where these are all the same but for rounding."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) <= least:
        return None
    return float(spearmanr(a, b).statistic)
