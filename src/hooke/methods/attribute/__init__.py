"""`attribute`: estimate what every patch would do from a few passes, and score the estimates against real patches.

gradients  the scores: gradients and local rules, times what a patch would change
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import verb
from hooke.errors import HookeError
from hooke.methods.asking import is_one
from hooke.methods.attribute import gradients as by
from hooke.methods.metrics import Metric, name_of
from hooke.methods.patch.pair import Case, TokenLike, check_direction, line_up, named, run_pair
from hooke.methods.patch.places import Place, PlaceLike, find_places, wanted
from hooke.methods.patch.sweeping import sweep
from hooke.methods.progress import Clock, Progress
from hooke.methods.ranking import spread
from hooke.methods.splits import check_seed
from hooke.model import Model, Tokens
from hooke.model.attend import heads
from hooke.model.model import Prompt
from hooke.model.recorded import Recorded
from hooke.results import Claim, Result

METHODS = ("atp", "atp-qk", "atp-star", "relp", "ig-inputs", "ig-activations")
RESAMPLES = 1000
FEWEST = 3  # pairs of prompts for an interval
FEWEST_PLACES = 3  # for a correlation
MOST_STEPS = 10_000
PAIR = ("clean_text", "corrupt_text", "clean_ids", "corrupt_ids")  # what a pair is told by


class Scored(NamedTuple):
    """What was found of one pair of prompts.

    about: what a result tells of the pair; ids: of the tokens that its metric reads. scores: by method and place, laid
    out as `patch` has its values, those of the patches themselves as "exact"; seconds: what each took. changed: by
    place, where the two runs differ. rounding: what the metric may move by though nothing is changed.
    """

    about: dict[str, Any]
    ids: dict[str, list[int]]
    metric: str
    scores: dict[str, list[Tensor]]
    seconds: dict[str, float]
    changed: list[Tensor]
    rounding: float


@verb
def attribute(
    model: Model,
    clean: Prompt | Sequence[Prompt],
    corrupt: Prompt | Sequence[Prompt],
    *,
    sites: PlaceLike | Sequence[PlaceLike] = "mlp_out",
    method: str | Sequence[str] = ("atp", "atp-star", "relp"),
    metric: str | Metric | None = None,
    target: Any = None,
    contrast: Any = None,
    direction: str = "denoise",
    steps: int = by.STEPS,
    exact: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Estimate the effect of patching each place, by each method, and compare with the patches themselves.

    clean, corrupt: a pair of prompts of equal token length, or as many of one as of the other. With several pairs,
        target and contrast are sequences with an entry (a token, or a list of tokens) for each.
    sites: as for `patch`. method: "atp" (gradient times change), "atp-qk" (the softmax of queries and keys computed
        exactly), "atp-star" (that with GradDrop), "relp" (local rules; none for q, k, pattern), "ig-inputs" and
        "ig-activations" (the gradient averaged over `steps` points); several at once.
    exact: also patch every place, and say how well each method agrees.
    Returns a `Result` of kind "attribution". payload.scores[method][site] estimates the change of the metric by
    [layer][position], or [layer][unit][position], for the first pair; payload.exact[site] is the change itself;
    payload.agreement[method] has pearson, spearman (signed) and spearman_size (of sizes) over all places whose value
    differs, of all pairs, with 95 % intervals by bootstrap over pairs where there are at least three. tensors hold
    the scores of all pairs. seconds has what each method and the patches took.
    Raises HookeError as `patch` does, and for a method that has no score for a site.
    """
    clock = Clock(progress)
    methods = [method] if isinstance(method, str) else list(method)
    _check(methods, metric, direction, steps)
    check_seed(seed)
    pairs = _pairs(clean, corrupt, target, contrast)
    places = find_places(model, sites)
    found: list[Scored] = []
    with clock("patches") as tick:
        for good, bad, right, wrong in pairs:
            case = run_pair(model, line_up(model, good, bad), wanted(places), metric, right, wrong, direction)
            found.append(_scored(model, case, places, methods, steps, exact))
            tick(len(found) / len(pairs))
    agreement = {m: _agreement(found, m, seed) for m in methods} if exact else {}
    text = _sentence(agreement, len(pairs))
    spent = {name: round(sum(pair.seconds[name] for pair in found), 3) for name in found[0].seconds}
    return Result.make(
        "attribution",
        arguments={
            "pairs": [{key: pair.about[key] for key in PAIR} | pair.ids for pair in found],
            "sites": [place.name for place in places],
            "methods": methods,
            "metric": found[-1].metric,
            "direction": direction,
            "steps": steps,
            "exact": exact,
            "seed": seed,
        },
        provenance=model.provenance(),
        seconds=clock.done() | spent,
        claims=[Claim(text=text, verdict="tested" if exact else "untested", evidence=["#agreement"] if exact else [])],
        payload={
            "pairs": [pair.about for pair in found],
            "base": "corrupt" if direction == "denoise" else "clean",
            "layers": {place.name: place.layers for place in places},
            "units": {place.name: place.units for place in places},
            "scores": {m: _by_place(places, found[0].scores[m]) for m in methods},
            "exact": _by_place(places, found[0].scores["exact"]) if exact else None,
            "agreement": agreement,
            "sentence": text + ".",
        },
        tensors={
            f"{name}:{place.name}:{i}": x.numpy()
            for name in found[0].scores
            for i, pair in enumerate(found)
            for place, x in zip(places, pair.scores[name], strict=True)
        },
    )


def _check(methods: list[str], metric: str | Metric | None, direction: str, steps: int) -> None:
    """Raise HookeError for what cannot be asked for."""
    odd = [m for m in methods if m not in METHODS] or ([] if methods else [""])
    if odd:
        raise HookeError(f"no method called {odd[0]!r}; there are {', '.join(METHODS)}")
    if len(set(methods)) < len(methods):
        raise HookeError("the same method is given twice")
    if metric == "accuracy":
        raise HookeError("accuracy is flat nearly everywhere, so no slope tells of it; use logit-difference")
    check_direction(direction)
    if not 1 <= steps <= MOST_STEPS:
        raise HookeError(f"a path has 1 to {MOST_STEPS:,} steps, not {steps:,}")


def _pairs(clean: Any, corrupt: Any, target: Any, contrast: Any) -> list[tuple[Any, Any, TokenLike, TokenLike]]:
    """Clean, corrupt, target and contrast of each pair."""
    if is_one(clean):
        return [(clean, corrupt, target, contrast)]
    n = len(clean)
    columns = [clean, corrupt, [None] * n if target is None else target, [None] * n if contrast is None else contrast]
    if not n or any(isinstance(c, (str, Tokens, int)) or len(c) != n for c in columns):
        raise HookeError("give as many corrupt prompts, targets and contrasts as clean prompts, and at least one")
    return list(zip(*columns, strict=True))


def _scored(
    model: Model, case: Case, places: Sequence[Place], methods: Sequence[str], steps: int, exact: bool
) -> Scored:
    """The scores of every method on one pair, and the patches themselves."""
    new = [place.values(case.other.run.acts) for place in places]
    changed = [_differs(place, x, case.base.run) for place, x in zip(places, new, strict=True)]
    scores: dict[str, list[Tensor]] = {}
    seconds: dict[str, float] = {}
    for name in methods:
        start = time.perf_counter()
        found = _estimate(model, name, case, places, new, steps)
        seconds[name] = time.perf_counter() - start
        scores[name] = [_laid_out(x, place) for x, place in zip(found, places, strict=True)]
    asked = case.asked
    if exact:
        start = time.perf_counter()
        at = torch.arange(case.base.run.tokens.ids.shape[1])
        swept = sweep(model, case.base.run, places, [new], at, at, asked.metric)
        seconds["exact"] = time.perf_counter() - start
        scores["exact"] = [x - case.base.value for x in swept.values]
    return Scored(_about(model, case), asked.ids(), name_of(asked.metric), scores, seconds, changed, case.rounding)


def _estimate(model: Model, name: str, case: Case, places: Sequence[Place], new: by.Values, steps: int) -> by.Scores:
    """The scores of one method on one pair."""
    base, other, metric = case.base.run, case.other.run, case.asked.metric
    if name == "ig-inputs":
        return by.ig_inputs(model, base, other, places, new, metric, steps=steps)
    if name == "ig-activations":
        return by.ig_activations(model, base, places, new, metric, steps=steps)
    if name.startswith("atp-"):
        both = heads(model, base.tokens), heads(model, other.tokens)
        return by.atp_star(model, base, places, new, metric, heads=both, drop=name == "atp-star")
    plain: dict[str, Callable[..., by.Scores]] = {"atp": by.atp, "relp": by.relp}
    return plain[name](model, base, places, new, metric)


def _laid_out(layers: list[Tensor], place: Place) -> Tensor:
    """(layer, position), or (layer, unit, position), as `patch` has its values."""
    x = torch.stack([layer.detach().double().cpu() for layer in layers])
    return x if place.units is None else x.transpose(1, 2)


def _differs(place: Place, new: list[Tensor], base: Recorded) -> Tensor:
    """Where the values of the two runs differ, laid out like the scores."""
    return _laid_out(
        [
            (x != y).flatten(2 if place.units is not None else 1).any(-1)
            if x.ndim > (2 if place.units is not None else 1)
            else x != y
            for x, y in zip(new, place.values(base.acts), strict=True)
        ],
        place,
    ).bool()


def _agreement(found: Sequence[Scored], method: str, seed: int) -> dict[str, Any]:
    """Correlations over the places of all pairs, with intervals over pairs."""
    least = max(pair.rounding for pair in found)
    rows = [
        np.stack(
            [
                np.concatenate([x[m].numpy() for x, m in zip(side, pair.changed, strict=True)])
                for side in (pair.scores[method], pair.scores["exact"])
            ]
        )
        for pair in found
    ]
    value = correlations(np.concatenate(rows, 1), least)
    out: dict[str, Any] = {**value, "n_places": sum(row.shape[1] for row in rows), "n_pairs": len(rows)}
    if len(rows) < FEWEST:
        return {**out, "intervals": None}
    drawn = np.random.default_rng(seed).integers(len(rows), size=(RESAMPLES, len(rows)))
    each = [correlations(np.concatenate([rows[i] for i in draw], 1), least) for draw in drawn]
    intervals = {}
    for name in value:
        known = [r for e in each if (r := e[name]) is not None]
        intervals[name] = spread(np.array(known), len(rows)) if known else None
    return {**out, "intervals": intervals}


def correlations(both: np.ndarray, least: float = 0.0) -> dict[str, float | None]:
    """Of (2, n): Pearson, Spearman, and Spearman of sizes; None of fewer than three places, and where one side is
    constant.

    least: values that differ by no more than rounding does are the same.
    """
    from scipy.stats import rankdata

    def pearson(x: np.ndarray, y: np.ndarray) -> float | None:
        x, y = x - x.mean(), y - y.mean()
        scale = np.sqrt((x * x).sum() * (y * y).sum())
        return float((x * y).sum() / scale) if scale > 0 else None

    def flat(x: np.ndarray) -> bool:
        return bool((np.ptp(x, axis=1) <= np.maximum(least, 1e-12 * np.abs(x).max(1))).any())

    if both.shape[1] < FEWEST_PLACES or flat(both):
        return {"pearson": None, "spearman": None, "spearman_size": None}
    told = np.round(both / least) if least > 0 else both
    sizes = np.abs(told)
    return {
        "pearson": pearson(*both),
        "spearman": pearson(*rankdata(told, axis=1)),
        "spearman_size": None if flat(np.abs(both)) else pearson(*rankdata(sizes, axis=1)),
    }


def _about(model: Model, case: Case) -> dict[str, Any]:
    ids = [side.run.tokens.ids[0].tolist() for side in (case.clean, case.corrupt)]
    tokens = [model.text(row) for row in ids]
    return {
        "clean_text": model.said(ids[0]),
        "corrupt_text": model.said(ids[1]),
        "clean_ids": ids[0],
        "corrupt_ids": ids[1],
        "tokens": {"clean": tokens[0], "corrupt": tokens[1]},
        "target": named(model, case.asked.target),
        "contrast": named(model, case.asked.contrast),
        "notes": case.notes(model),
        "clean": case.clean.value,
        "corrupt": case.corrupt.value,
    }


def _by_place(places: Sequence[Place], values: Sequence[Tensor]) -> dict[str, Any]:
    return {place.name: x.tolist() for place, x in zip(places, values, strict=True)}


def _sentence(agreement: dict[str, dict[str, Any]], n_pairs: int) -> str:
    """Which method came closest, if that was measured."""
    known = {m: a["spearman"] for m, a in agreement.items() if a["spearman"] is not None}
    if not agreement:
        return "Estimates that were not compared with patches"
    if not known:
        return (
            "No estimate could be compared with the patches: too few places differ, or one side is the same everywhere"
        )
    best = max(known, key=lambda m: known[m])
    others = ", ".join(f"{m} {r:.2f}" for m, r in known.items() if m != best)
    prompts = f"{n_pairs} pairs" if n_pairs > 1 else "one pair"
    n = agreement[best]["n_places"]
    text = f"Over {n:,} places of {prompts} of prompts, {best} agrees with the patches best: "
    text += f"rank correlation {known[best]:.2f}"
    return text + (f" ({others})" if others else "")
