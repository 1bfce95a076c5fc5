"""`patch`: put values of one run into another, place by place, and measure what that does to the answer.

Activation patching (causal mediation, 2004.12265; "Towards best practices", 2309.16042). Every value is exact:
what cannot change is not computed, and nothing else is left out (`model/run_each.py`).

pair      a clean and a corrupt prompt: lined up, run, and the metric that tells them apart
places    where patches are made
sources   what they put there
sweeping  each patch by itself, and the metric after it
path      `path_patch`: one node's output into one other node's input
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import verb
from hooke.errors import HookeError
from hooke.methods.asking import recorded
from hooke.methods.metrics import Metric, name_of
from hooke.methods.patch.pair import Case, Pair, TokenLike, check_direction, line_up, named, run_pair, texts_of
from hooke.methods.patch.places import Place, PlaceLike, find_places, wanted
from hooke.methods.patch.sources import data_recorded, sources_of
from hooke.methods.patch.sweeping import Sweep, sweep
from hooke.methods.progress import Clock, Progress
from hooke.model import Model
from hooke.model.model import Prompt
from hooke.results import Claim, Result

Direction = Literal["denoise", "noise"]
Ablation = Literal["counterfactual", "resample", "mean", "zero"]
ABLATIONS: tuple[Ablation, ...] = ("counterfactual", "resample", "mean", "zero")
SAME = 1e-3  # share of the effect under which a sentence says that nothing moved it


@verb
def patch(
    model: Model,
    clean: Prompt,
    corrupt: Prompt | None = None,
    *,
    sites: PlaceLike | Sequence[PlaceLike] = "resid_post",
    positions: Sequence[int] | Literal["all"] | None = None,
    metric: str | Metric | None = None,
    target: TokenLike | None = None,
    contrast: TokenLike | None = None,
    direction: Direction | None = None,
    ablation: Ablation = "counterfactual",
    data: Sequence[Prompt] = (),
    samples: int = 8,
    align: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Patch each place by itself and give the metric after each patch.

    clean, corrupt: two prompts of equal token length, or of any length with `align`.
    sites: points, for all their layers ("resid_post"), a layer ("z.9"), a head or neuron ("z.9.6"), or
        (dictionary, ids) for features; heads are patched one at a time.
    positions: each position by itself (None), these by themselves, or "all" of them in one patch.
    metric: a function of last logits (batch, d_vocab) -> (batch,), or "logit-difference" (the default),
        "log-probability", "logit", "probability", "kl" (minus the divergence from the clean prediction), "accuracy".
    target, contrast: tokens (or several) that a named metric compares; by default what each prompt is answered with.
    direction: "denoise" runs the corrupt prompt with clean values (is the place sufficient?), "noise" the clean
        prompt with other values (is it necessary?). Denoise by default for a counterfactual, else noise.
    ablation: where the values come from: the other prompt; "mean" over `data` by position; "resample", from
        `samples` prompts of `data`, drawn with `seed`, the metric averaged over them; or "zero".
    Returns a `Result` of kind "patch". payload.values[name] is the metric itself after each patch, by [layer]
    [position], or [layer][head][position] for points with heads (a single entry for positions "all"; null where
    the prompts have no common position); payload.normalised the same as a share, 0 the unpatched run and 1 the
    other one; payload.clean and payload.corrupt are the metric of the two prompts. The same values are tensors.
    Raises HookeError for prompts that do not line up, a metric by which they are the same, a site that the model
    lacks, or numbers that are not finite.
    """
    clock = Clock(progress)
    direction = _direction(direction, ablation)
    places = find_places(model, sites)
    with clock("forward"):
        pair = _pair(model, clean, corrupt, ablation, align)
        case = run_pair(model, pair, wanted(places), metric, target, contrast, direction)
        sources = sources_of(model, places, case, ablation, data, samples, seed)
    with clock("patches") as tick:
        at = _chosen(positions, case.base.run.tokens.ids.shape[1])
        swept = sweep(model, case.base.run, places, sources, case.base.at, at, case.asked.metric, tick=tick)
    sentence, cell = _sentence(case, places, swept.values, texts_of(model, case.base.run.tokens), at, ablation)
    return Result.make(
        "patch",
        arguments={
            **recorded(model, clean, pair.clean, "clean"),
            **(recorded(model, corrupt, pair.corrupt, "corrupt") if corrupt is not None else {"corrupt": None}),
            "sites": [place.name for place in places],
            "positions": positions if positions is None or isinstance(positions, str) else list(positions),
            "metric": name_of(case.asked.metric),
            **case.asked.ids(),
            "direction": direction,
            "ablation": ablation,
            "samples": samples if ablation == "resample" else None,
            **data_recorded(model, data),
            "align": align,
            "seed": seed,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[Claim(text=sentence, verdict="tested", evidence=[cell])],
        payload=_payload(model, case, places, swept, at, sentence),
        tensors={place.name: x.cpu().numpy() for place, x in zip(places, swept.values, strict=True)},
        gaps=[place.name for place in places],  # positions that the other prompt lacks
    )


def _direction(direction: str | None, ablation: str) -> Direction:
    if ablation not in ABLATIONS:
        raise HookeError(f"no ablation called {ablation!r}; there are {', '.join(ABLATIONS)}")
    if direction is None:
        return "denoise" if ablation == "counterfactual" else "noise"
    check_direction(direction)
    if direction == "denoise" and ablation != "counterfactual":
        raise HookeError(f"{ablation} ablation damages the clean run; its direction is 'noise'")
    return direction  # type: ignore[return-value]


def _pair(model: Model, clean: Prompt, corrupt: Prompt | None, ablation: str, align: bool) -> Pair:
    """Both prompts lined up, or the clean one alone."""
    if corrupt is not None:
        return line_up(model, clean, corrupt, align=align)
    if ablation == "counterfactual":
        raise HookeError("a counterfactual patch needs a corrupt prompt; give one, or choose zero ablation")
    tokens = model.one(clean, "patch takes")
    at = torch.arange(tokens.ids.shape[1])
    return Pair(tokens, tokens, at, at)


def _chosen(positions: Sequence[int] | str | None, n_pos: int) -> Tensor | None:
    if positions == "all":
        return None
    if isinstance(positions, str):
        raise HookeError(f"positions are numbers, or 'all' for one patch of all of them, not {positions!r}")
    if positions is None:
        return torch.arange(n_pos)
    at = [int(p) for p in positions]
    if not at or not all(-n_pos <= p < n_pos for p in at):
        raise HookeError(f"positions must lie between {-n_pos} and {n_pos - 1}, not {list(positions)}")
    found = [p % n_pos for p in at]
    if len(set(found)) < len(found):
        raise HookeError("the same position is given twice")
    return torch.tensor(found)


# ---- what is said ------------------------------------------------------------------------------


def _payload(
    model: Model, case: Case, places: Sequence[Place], swept: Sweep, at: Tensor | None, sentence: str
) -> dict[str, Any]:
    start, span = case.base.value, case.span
    texts = [texts_of(model, side.run.tokens) for side in (case.clean, case.corrupt)]
    by_name = {place.name: x for place, x in zip(places, swept.values, strict=True)}
    most = max((_most(x - start) for x in swept.values), key=abs)
    return {
        "tokens": {"clean": texts[0], "corrupt": None if span is None else texts[1]},
        "base": "corrupt" if case.denoises else "clean",
        "positions": None if at is None else at.tolist(),
        "target": named(model, case.asked.target),
        "contrast": named(model, case.asked.contrast),
        "clean": case.clean.value,
        "corrupt": None if span is None else case.corrupt.value,
        "layers": {place.name: place.layers for place in places},
        "units": {place.name: place.units for place in places},
        "values": {name: _nested(x) for name, x in by_name.items()},
        "normalised": {name: None if span is None else _nested((x - start) / span) for name, x in by_name.items()},
        "patches": swept.n_patches,
        "runs": swept.n_runs,
        "notes": case.notes(model, most),
        "sentence": sentence + ".",
    }


def _nested(x: Tensor) -> Any:
    """Lists for JSON, with null where there is no number."""
    array = x.cpu().numpy().astype(object)
    array[x.isnan().cpu().numpy()] = None
    return array.tolist()


def _most(effects: Tensor) -> float:
    """The largest effect in size, with its sign."""
    flat = effects.nan_to_num(0.0).flatten()
    return float(flat[flat.abs().argmax()])


def _sentence(
    case: Case, places: Sequence[Place], values: Sequence[Tensor], texts: list[str], at: Tensor | None, ablation: str
) -> tuple[str, str]:
    """The strongest patch in words, and its place in the payload as evidence. texts: the tokens of the base."""
    start, span = case.base.value, case.span
    best: tuple[float, Place, tuple[int, ...]] | None = None
    for place, x in zip(places, values, strict=True):
        effects = (x - start).nan_to_num(0.0)
        index = tuple(int(i) for i in np.unravel_index(int(effects.abs().argmax()), tuple(x.shape)))
        if best is None or abs(float(effects[index])) > abs(best[0]):
            best = (float(effects[index]), place, index)
    assert best is not None
    effect, place, index = best
    scale = abs(span) if span is not None else max(abs(start), 1e-9)
    if abs(effect) < SAME * scale:
        return "No patch of these sites moves the metric", "#values"
    cell = f"#values.{'.'.join(map(str, (place.name, *index)))}"
    site = str(place.sites[index[0]])
    unit = (
        ""
        if place.units is None
        else f" {'head' if site.split('.')[0] in 'qkvz pattern' else 'unit'} {place.units[index[1]]}"
    )
    where = "all positions" if at is None else f"{texts[int(at[index[-1]])]!r} (position {int(at[index[-1]])})"
    what = f"{site}{unit} at {where}"
    if ablation != "counterfactual":
        word = {"zero": "zero", "mean": "its mean", "resample": "that of other prompts"}[ablation]
        return f"Setting {what} to {word} moves the metric most: by {effect:+.3g} from {start:.3g}", cell
    verb, does = ("Restoring", "brings back") if case.denoises else ("Corrupting", "takes away")
    share = effect / span if span else 0.0
    if share < 0:
        return f"{verb} {what} moves the metric most, and the wrong way: by {share:.0%} of the difference", cell
    text = f"{verb} {what} {does} {share:.0%} of the difference, the most of any single patch"
    arrives = None if span is None or at is None else _arrival(places, values, start, span, at, len(texts))
    return (text if arrives is None else f"{text}; at the last token more than half {arrives}"), cell


def _arrival(
    places: Sequence[Place], values: Sequence[Tensor], start: float, span: float, at: Tensor, n_pos: int
) -> str | None:
    """From which layer on the stream at the last position carries more than half, if the whole stream was swept."""
    for place, x in zip(places, values, strict=True):
        if not place.name.startswith("resid_") or len(place.sites) < 2 or n_pos - 1 not in at.tolist():
            continue
        over = ((x[:, at.tolist().index(n_pos - 1)] - start) / span > 0.5).tolist()
        first = len(over) - over[::-1].index(False) if False in over else 0
        if 0 < first < len(over):
            return f"is there from {place.sites[first]} on"
    return None
