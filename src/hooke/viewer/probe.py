"""The view of a probe and of its test: bars, a curve by layer, worst mistakes; everything else stays a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooke.results.payloads.common import Area
from hooke.results.payloads.probe import Mistaken, Probe, ProbeTest
from hooke.viewer.schema import Bar, Curve, Mistake, ProbeView

MOST_MISTAKES = 30


def probe_view(p: Probe) -> ProbeView:
    """How a probe did in validation and on each part that was held out; its curve by layer."""
    bars = [Bar(name="in validation", auroc=p.validation.auroc, own=True)]
    for test in p.tests:
        bars += _compared(f"{test.part}: ", test.auroc, test.interval, test.baselines)
    curve = p.layer_curve
    layers = [layer for layer in curve.layers if layer is not None]
    drawn = len(layers) == len(curve.layers)  # else a site has no layer
    rest = p.model_dump(exclude={"sentence", "positive", "notes"})
    for row, test in zip(rest["tests"], p.tests, strict=True):
        if test.auroc is not None:
            del row["baselines"]  # they stand among the bars
    if drawn:
        rest["layer_curve"] = curve.model_dump(include={"sites", "kind", "pool"})
    return ProbeView(
        sentence=p.sentence,
        positive=p.positive,
        notes=p.notes,
        bars=bars,
        curve=Curve(layers=layers, auroc=[*curve.auroc], random_direction=[*curve.random_direction]) if drawn else None,
        roc=None,
        mistakes=[],
        mistakes_of=0,
        rest=rest,
    )


def probe_test_view(p: ProbeTest) -> ProbeView:
    """A probe beside what it is compared with, its ROC curve, and its worst mistakes."""
    names = (p.negative, p.positive)
    drawn = {"sentence", "positive", "notes", "baselines", "roc", "mistakes"}
    return ProbeView(
        sentence=p.sentence,
        positive=p.positive,
        notes=p.notes,
        bars=_compared("", p.auroc, p.auroc_interval, p.baselines),
        curve=None,
        roc=p.roc,
        mistakes=[_mistake(row, names) for row in p.mistakes[:MOST_MISTAKES]],
        mistakes_of=len(p.mistakes),
        rest=_folded(p.model_dump(exclude=drawn)),
    )


def _mistake(row: Mistaken, names: tuple[str, str]) -> Mistake:
    both = min(len(row.tokens), len(row.token_scores))
    return Mistake(
        text=row.text,
        label=names[row.label],
        score=row.score,
        tokens=row.tokens[:both],
        token_scores=[*row.token_scores[:both]],
    )


def _folded(rest: dict[str, Any]) -> dict[str, Any]:
    """A number and its interval as one entry: `gain` and `gain_interval`."""
    out = dict(rest)
    for key, value in rest.items():
        ends = rest.get(f"{key}_interval")
        if ends is not None:
            out[key] = f"{value:.3g} ({ends[0]:.3g} to {ends[1]:.3g})"
            del out[f"{key}_interval"]
    return out


def _compared(prefix: str, auroc: float | None, interval: list[float] | None, others: Mapping[str, Area]) -> list[Bar]:
    """The probe, then what it is compared with, best first."""
    if auroc is None:
        return []
    found = [
        Bar(name=f"{prefix}{name}".replace("_", " "), auroc=row.auroc, interval=row.interval, own=False)
        for name, row in others.items()
        if row.auroc is not None
    ]
    own = Bar(name=f"{prefix}this probe", auroc=auroc, interval=interval, own=True)
    return [own, *sorted(found, key=lambda bar: -bar.auroc)]
