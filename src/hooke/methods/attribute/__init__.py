"""`attribute`: estimate what every patch would do from a few passes, and score the estimates against real patches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import verb
from hooke.errors import HookeError
from hooke.methods.asking import is_one, lookalikes
from hooke.methods.attribute import gradients as by
from hooke.methods.metrics import Metric, check_varies, evaluate, hardly_apart, name_of, rounding_of
from hooke.methods.patch import sweep
from hooke.methods.patch.pair import Question, TokenLike, line_up, named, question
from hooke.methods.patch.places import Place, PlaceLike, find_places
from hooke.methods.progress import Clock, Progress
from hooke.methods.ranking import spread
from hooke.methods.splits import check_seed
from hooke.model import Model, Tokens
from hooke.model.attend import heads
from hooke.model.model import Prompt
from hooke.model.recorded import Recorded, record
from hooke.results import Claim, Result

METHODS = ("atp", "atp-qk", "atp-star", "relp", "ig-inputs", "ig-activations")
RESAMPLES = 1000
FEWEST = 3  # pairs of prompts for an interval
FEWEST_PLACES = 3  # for a correlation
MOST_STEPS = 10_000
PAIR = ("clean_text", "corrupt_text", "clean_ids", "corrupt_ids")  # what a pair is told by


class Case(NamedTuple):
    """One pair of prompts, run: the run that is patched, the other, and the metric at each."""

    base: Recorded
    other: Recorded
    asked: Question
    start: float
    end: float
    rounding: float  # what the metric may move by though nothing is changed


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
    odd = [m for m in methods if m not in METHODS] or ([] if methods else [""])
    if odd:
        raise HookeError(f"no method called {odd[0]!r}; there are {', '.join(METHODS)}")
    if len(set(methods)) < len(methods):
        raise HookeError("the same method is given twice")
    if metric == "accuracy":
        raise HookeError("accuracy is flat nearly everywhere, so no slope tells of it; use logit-difference")
    if direction not in ("denoise", "noise"):
        raise HookeError(f"no direction called {direction!r}; use 'denoise' or 'noise'")
    if not 1 <= steps <= MOST_STEPS:
        raise HookeError(f"a path has 1 to {MOST_STEPS:,} steps, not {steps:,}")
    check_seed(seed)
    pairs = _pairs(clean, corrupt, target, contrast)
    places = find_places(model, sites)
    estimates: dict[str, list[list[Tensor]]] = {m: [] for m in methods}  # by pair and place
    truth: list[list[Tensor]] = []
    changed: list[list[Tensor]] = []
    spent = dict.fromkeys([*methods, "exact"], 0.0)
    shown: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []  # the pairs as arguments
    least = 0.0
    with clock("patches") as tick:
        for number, pair in enumerate(pairs):
            case = _case(model, places, *pair, metric, direction)
            new = [place.values(case.other.acts) for place in places]
            least = max(least, case.rounding)
            shown.append(_about(model, case, direction))
            told.append({key: shown[-1][key] for key in PAIR} | case.asked.ids())
            changed.append([_differs(place, x, case.base) for place, x in zip(places, new, strict=True)])
            for name in methods:
                start = time.perf_counter()
                found = _estimate(model, name, case, places, new, steps)
                spent[name] += time.perf_counter() - start
                estimates[name].append([_laid_out(x, place) for x, place in zip(found, places, strict=True)])
            if exact:
                start = time.perf_counter()
                at = torch.arange(case.base.tokens.ids.shape[1])
                swept = sweep(model, case.base, places, [new], at, at, case.asked.metric)
                spent["exact"] += time.perf_counter() - start
                truth.append([x - case.start for x in swept.values])
            tick((number + 1) / len(pairs))
    agreement = {m: _agreement(estimates[m], truth, changed, seed, least) for m in methods} if exact else {}
    text = _sentence(agreement, len(pairs))
    tensors = {
        f"{name}:{place.name}:{i}": x.numpy()
        for name, rows in [*estimates.items(), *([("exact", truth)] if exact else [])]
        for i, row in enumerate(rows)
        for place, x in zip(places, row, strict=True)
    }
    return Result.make(
        "attribution",
        arguments={
            "pairs": told,
            "sites": [place.name for place in places],
            "methods": methods,
            "metric": name_of(case.asked.metric),
            "direction": direction,
            "steps": steps,
            "exact": exact,
            "seed": seed,
        },
        provenance=model.provenance(),
        seconds=clock.done() | {name: round(s, 3) for name, s in spent.items() if exact or name != "exact"},
        claims=[Claim(text=text, verdict="tested" if exact else "untested", evidence=["#agreement"] if exact else [])],
        payload={
            "pairs": shown,
            "base": "corrupt" if direction == "denoise" else "clean",
            "layers": {place.name: place.layers for place in places},
            "units": {place.name: place.units for place in places},
            "scores": {m: _by_place(places, rows[0]) for m, rows in estimates.items()},
            "exact": _by_place(places, truth[0]) if exact else None,
            "agreement": agreement,
            "sentence": text + ".",
        },
        tensors=tensors,
    )


def _pairs(clean: Any, corrupt: Any, target: Any, contrast: Any) -> list[tuple[Any, Any, TokenLike, TokenLike]]:
    """Clean, corrupt, target and contrast of each pair."""
    if is_one(clean):
        return [(clean, corrupt, target, contrast)]
    n = len(clean)
    columns = [clean, corrupt, [None] * n if target is None else target, [None] * n if contrast is None else contrast]
    if not n or any(isinstance(c, (str, Tokens, int)) or len(c) != n for c in columns):
        raise HookeError("give as many corrupt prompts, targets and contrasts as clean prompts, and at least one")
    return list(zip(*columns, strict=True))


def _case(
    model: Model,
    places: Sequence[Place],
    clean: Prompt,
    corrupt: Prompt,
    target: TokenLike | None,
    contrast: TokenLike | None,
    metric: str | Metric | None,
    direction: str,
) -> Case:
    pair = line_up(model, clean, corrupt)
    reads = by.wanted(places)
    good, bad = record(model, pair.clean, reads), record(model, pair.corrupt, reads)
    asked = question(model, metric, target, contrast, good.logits, bad.logits)
    clean_value, corrupt_value = evaluate(asked.metric, torch.stack([good.logits, bad.logits])).tolist()
    least = rounding_of(asked.metric, good.logits, model.dtype, max(abs(clean_value), abs(corrupt_value)))
    check_varies(asked.metric, clean_value, corrupt_value)
    if direction == "denoise":
        return Case(bad, good, asked, corrupt_value, clean_value, least)
    return Case(good, bad, asked, clean_value, corrupt_value, least)


def _estimate(model: Model, name: str, case: Case, places: Sequence[Place], new: by.Values, steps: int) -> by.Scores:
    """The scores of one method on one pair."""
    base, metric = case.base, case.asked.metric
    if name == "ig-inputs":
        return by.ig_inputs(model, base, case.other, places, new, metric, steps=steps)
    if name == "ig-activations":
        return by.ig_activations(model, base, places, new, metric, steps=steps)
    if name.startswith("atp-"):
        both = heads(model, base.tokens), heads(model, case.other.tokens)
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


def _agreement(
    estimates: list[list[Tensor]], truth: list[list[Tensor]], changed: list[list[Tensor]], seed: int, least: float
) -> dict[str, Any]:
    """Correlations over the places of all pairs, with intervals over pairs. least: what rounding may make a difference
    of."""
    rows = [
        np.stack(
            [np.concatenate([x[m].numpy() for x, m in zip(side, mask, strict=True)]) for side in (estimate, exact)]
        )
        for estimate, exact, mask in zip(estimates, truth, changed, strict=True)
    ]
    value = correlations(np.concatenate(rows, 1), least)
    out: dict[str, Any] = {**value, "n_places": sum(row.shape[1] for row in rows), "n_pairs": len(rows)}
    if len(rows) < FEWEST:
        return {**out, "intervals": None}
    drawn = np.random.default_rng(seed).integers(len(rows), size=(RESAMPLES, len(rows)))
    each = [correlations(np.concatenate([rows[i] for i in draw], 1), least) for draw in drawn]
    intervals = {}
    for name in value:
        found = [r for e in each if (r := e[name]) is not None]
        intervals[name] = spread(np.array(found), len(rows)) if found else None
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


def _about(model: Model, case: Case, direction: str) -> dict[str, Any]:
    clean = case.other if direction == "denoise" else case.base
    ids = [run.tokens.ids[0].tolist() for run in (case.other, case.base)]
    values = [case.end, case.start]
    if direction == "noise":
        ids, values = ids[::-1], values[::-1]
    tokens = [model.text(row) for row in ids]
    return {
        "clean_text": model.said(ids[0]),
        "corrupt_text": model.said(ids[1]),
        "clean_ids": ids[0],
        "corrupt_ids": ids[1],
        "tokens": {"clean": tokens[0], "corrupt": tokens[1]},
        "target": named(model, case.asked.target),
        "contrast": named(model, case.asked.contrast),
        "notes": lookalikes(model, [*case.asked.target, *case.asked.contrast], clean.logits)
        + hardly_apart(case.end - case.start, case.rounding),
        "clean": values[0],
        "corrupt": values[1],
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
