"""What an intervention was predicted to do, what it did, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from hooke.methods.trace.coded import Units
from hooke.results import Verdict
from hooke.sites import Site

Place = tuple[Site, int]  # a site and a position


@dataclass
class Effect:
    """A set of features, what the graph predicts for setting them to their baseline (or doubling), and what came."""

    members: Units
    factor: float  # 0: set to baseline; 2: double
    once: bool = False  # against the first baseline only, and predicted for it; else the mean over all
    watch: Sequence[int] = ()  # tokens whose own log-probability is followed as well
    predicted: float = 0.0  # change of what the graph adds up to
    in_graph: float = 0.0  # the same, measured
    measured: float = 0.0  # change of what is reported
    spread: tuple[float, float] = (0.0, 0.0)  # least and greatest over baselines
    words: list[float] = field(default_factory=list)  # measured change of each of `watch`
    reads: list[dict[Place, Tensor]] = field(default_factory=list)  # one a baseline, kept if asked for


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
    paths: list[Effect]
    path_controls: list[list[float]]  # a path: what as many random features do
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
