"""`patch`: put values of one run into another, place by place, and measure what that does to the answer.

Activation patching (causal mediation, 2004.12265; "Towards best practices", 2309.16042). Every value is exact:
what cannot change is not computed, and nothing else is left out (`model/run_each.py`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import verb
from hooke.errors import HookeError
from hooke.methods.asking import data_hash, lookalikes, recorded
from hooke.methods.metrics import Metric, check_varies, evaluate, hardly_apart, measure, name_of, rounding_of
from hooke.methods.patch.pair import Pair, TokenLike, line_up, named, question, texts_of
from hooke.methods.patch.places import Place, PlaceLike, find_places
from hooke.methods.progress import Clock, Progress, Tick, idle, stretch
from hooke.model import Model
from hooke.model.model import Prompt
from hooke.model.packed import MAX_BYTES
from hooke.model.recorded import Recorded, record
from hooke.model.run_each import Writes
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
    reads = sorted({site for place in places for site in place.reads()})
    with clock("forward"):
        if corrupt is None:
            if ablation == "counterfactual":
                raise HookeError("a counterfactual patch needs a corrupt prompt; give one, or choose zero ablation")
            tokens = model.one(clean, "patch takes")
            at = torch.arange(tokens.ids.shape[1])
            pair = Pair(tokens, tokens, at, at)
        else:
            pair = line_up(model, clean, corrupt, align=align)
        good = record(model, pair.clean, reads)
        bad = good if corrupt is None else record(model, pair.corrupt, reads)
        base, base_at = (bad, pair.corrupt_at) if direction == "denoise" else (good, pair.clean_at)
        asked = question(model, metric, target, contrast, good.logits, None if corrupt is None else bad.logits)
        ends = evaluate(asked.metric, torch.stack([good.logits, bad.logits])).tolist()
        if corrupt is not None:
            check_varies(asked.metric, *ends)
        other, other_at = (good, pair.clean_at) if direction == "denoise" else (bad, pair.corrupt_at)
        sources = _sources(model, places, base, other, other_at, base_at, ablation, data, samples, seed)
    with clock("patches") as tick:
        chosen = _chosen(positions, base.tokens.ids.shape[1])
        swept = sweep(model, base, places, sources, base_at, chosen, asked.metric, tick=tick)
    start, end = (ends[1], ends[0]) if direction == "denoise" else (ends[0], ends[1])
    span = end - start if corrupt is not None else None
    values = {place.name: _nested(x) for place, x in zip(places, swept.values, strict=True)}
    normalised = {
        place.name: None if span is None else _nested((x - start) / span)
        for place, x in zip(places, swept.values, strict=True)
    }
    notes = lookalikes(model, [*asked.target, *asked.contrast], good.logits)
    if span is not None:
        least = rounding_of(asked.metric, good.logits, model.dtype, max(map(abs, ends)))
        notes += hardly_apart(span, least, max((_most(x - start) for x in swept.values), key=abs))
    texts = [texts_of(model, t) for t in (pair.clean, pair.corrupt)]
    sentence, cell = _sentence(
        places, swept.values, start, span, texts[direction == "denoise"], chosen, direction, ablation
    )
    return Result.make(
        "patch",
        arguments={
            **recorded(model, clean, pair.clean, "clean"),
            **(recorded(model, corrupt, pair.corrupt, "corrupt") if corrupt is not None else {"corrupt": None}),
            "sites": [place.name for place in places],
            "positions": positions if positions is None or isinstance(positions, str) else list(positions),
            "metric": name_of(asked.metric),
            **asked.ids(),
            "direction": direction,
            "ablation": ablation,
            "samples": samples if ablation == "resample" else None,
            "n_data": len(data),
            "data_sha256": data_hash([x if isinstance(x, str) else _ids(model, x) for x in data]) if data else None,
            "align": align,
            "seed": seed,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[Claim(text=sentence, verdict="tested", evidence=[cell])],
        payload={
            "tokens": {"clean": texts[0], "corrupt": texts[1] if corrupt is not None else None},
            "base": "corrupt" if direction == "denoise" else "clean",
            "positions": None if chosen is None else chosen.tolist(),
            "target": named(model, asked.target),
            "contrast": named(model, asked.contrast),
            "clean": ends[0],
            "corrupt": ends[1] if corrupt is not None else None,
            "layers": {place.name: place.layers for place in places},
            "units": {place.name: place.units for place in places},
            "values": values,
            "normalised": normalised,
            "patches": swept.n_patches,
            "runs": swept.n_runs,
            "notes": notes,
            "sentence": sentence + ".",
        },
        tensors={place.name: x.cpu().numpy() for place, x in zip(places, swept.values, strict=True)},
        gaps=[place.name for place in places],  # positions that the other prompt lacks
    )


def _direction(direction: str | None, ablation: str) -> Direction:
    if ablation not in ABLATIONS:
        raise HookeError(f"no ablation called {ablation!r}; there are {', '.join(ABLATIONS)}")
    if direction is None:
        return "denoise" if ablation == "counterfactual" else "noise"
    if direction not in ("denoise", "noise"):
        raise HookeError(f"no direction called {direction!r}; use 'denoise' or 'noise'")
    if direction == "denoise" and ablation != "counterfactual":
        raise HookeError(f"{ablation} ablation damages the clean run; its direction is 'noise'")
    return direction  # type: ignore[return-value]


# ---- what is put in ----------------------------------------------------------------------------

Source = list[list[Tensor]]  # values by place and layer, lined up with `base_at`: (aligned pos, …)


def _sources(
    model: Model,
    places: list[Place],
    base: Recorded,
    other: Recorded,
    other_at: Tensor,
    base_at: Tensor,
    ablation: str,
    data: Sequence[Prompt],
    samples: int,
    seed: int,
) -> list[Source]:
    """What the patches put in: one source, or as many as are drawn."""
    if ablation == "counterfactual":
        if len(other.tokens.ids[0]) != len(base.tokens.ids[0]) and any(p.sites[0].point == "pattern" for p in places):
            raise HookeError("patterns of prompts of different length have different keys and cannot be patched")
        return [[[x[other_at.to(x.device)] for x in place.values(other.acts)] for place in places]]
    if ablation == "zero":
        return [[[torch.zeros_like(x)[base_at.to(x.device)] for x in place.values(base.acts)] for place in places]]
    if not data:
        raise HookeError(f"{ablation} ablation needs data: prompts of the same token length as the clean one")
    chosen = list(data)
    if ablation == "resample":
        if samples < 1:
            raise HookeError("resampling needs at least one sample")
        drawn = random.Random(seed)
        chosen = drawn.sample(chosen, samples) if samples <= len(chosen) else drawn.choices(chosen, k=samples)
    reads = sorted({site for place in places for site in place.reads()})
    found: list[Source] = []
    for text in chosen:
        tokens = model.one(text, "each row of the data is")
        if tokens.ids.shape != base.tokens.ids.shape:
            raise HookeError(
                f"{ablation} ablation goes by position: {_quoted(text)} has {tokens.ids.shape[1]} tokens and the "
                f"prompt has {base.tokens.ids.shape[1]}"
            )
        run = record(model, tokens, reads)
        here = [[x[base_at.to(x.device)] for x in place.values(run.acts)] for place in places]
        if ablation == "mean" and found:
            found = [[[a + b for a, b in zip(*p, strict=True)] for p in zip(found[0], here, strict=True)]]
        else:
            found.append(here)
    return [[[x / len(chosen) for x in place] for place in found[0]]] if ablation == "mean" else found


# ---- the sweep ---------------------------------------------------------------------------------


@dataclass
class Sweep:
    """values: by place, (layer, position) or (layer, unit, position), NaN where prompts have no common position."""

    values: list[Tensor]
    n_patches: int
    n_runs: int  # how many of them had to be run


def sweep(
    model: Model,
    base: Recorded,
    places: Sequence[Place],
    sources: Sequence[Source],
    base_at: Tensor,
    at: list[int] | Tensor | None,
    metric: Metric,
    *,
    max_bytes: int = MAX_BYTES,
    tick: Tick = idle,
) -> Sweep:
    """The metric after each patch by itself, averaged over the sources.

    at: the positions of the base that are patched, each by itself; None: all of them together in one patch.
    A patch whose new value is the old one bit for bit changes nothing, so it is not run.
    """
    n_pos, device = base.tokens.ids.shape[1], model.device
    partner = torch.full((n_pos,), -1)
    partner[base_at] = torch.arange(len(base_at))
    together = at is None
    wanted = torch.arange(n_pos) if at is None else torch.as_tensor(at, dtype=torch.long)
    before = float(evaluate(metric, base.logits[None])[0])
    totals = [
        torch.zeros(
            len(p.sites), 1 if p.units is None else len(p.units), 1 if together else len(wanted), dtype=torch.float64
        )
        for p in places
    ]
    n_runs = 0
    for number, source in enumerate(sources):
        writes: list[Writes] = []
        runs: list[tuple[int, Tensor]] = []  # place, and (n, 3) layer, unit, column of the runs in order
        count = 0
        for i, place in enumerate(places):
            for layer, (new, old) in enumerate(zip(source[i], place.values(base.acts), strict=True)):
                if not bool(torch.isfinite(new).all() and torch.isfinite(old).all()):
                    raise HookeError(f"{place.sites[layer]} holds numbers that are not finite")
                cells = _changed(new, old, partner, wanted, place.units is not None)  # (n, 2) column, unit
                if not len(cells):
                    continue
                keys = cells[:, 1] if together else cells[:, 0] * totals[i].shape[1] + cells[:, 1]
                kept, run = keys.unique(return_inverse=True)
                column = torch.zeros_like(kept) if together else kept // totals[i].shape[1]
                runs.append((i, torch.stack([torch.full_like(kept, layer), kept % totals[i].shape[1], column], 1)))
                positions = wanted[cells[:, 0]]
                entry = torch.stack([positions, cells[:, 1]], 1).to(device)
                pick = (entry[:, 0],) if place.units is None else (entry[:, 0], entry[:, 1])
                from_new = (partner[positions].to(device), *pick[1:])
                writes += place.writes(base, layer, new[from_new], old[pick], (count + run).to(device), entry)
                count += len(kept)
        part = stretch(tick, number / len(sources), (number + 1) / len(sources))
        found = measure(model, base, count, writes, metric, max_bytes=max_bytes, tick=part)
        for total in totals:
            total += before
        done = 0
        for i, where in runs:
            moved = found[done : done + len(where)].double().cpu()
            totals[i][where[:, 0], where[:, 1], where[:, 2]] += moved - before
            done += len(where)
        n_runs += count
    lost = partner[wanted] < 0
    values = []
    for place, total in zip(places, totals, strict=True):
        mean = total / len(sources)
        if not together:
            mean[..., lost] = torch.nan
        values.append(mean[:, 0] if place.units is None else mean)
    n_patches = len(sources) * sum(int(v.isfinite().sum()) for v in values)
    return Sweep(values, n_patches, n_runs)


def _changed(new: Tensor, old: Tensor, partner: Tensor, wanted: Tensor, by_unit: bool) -> Tensor:
    """(n, 2): column of `wanted` and unit, of those whose new value is not the old one."""
    new, old = new.cpu(), old.cpu()
    shared = partner[wanted]
    here = (shared >= 0).nonzero()[:, 0]
    a, b = new[shared[here]], old[wanted[here]]
    different = (a != b).flatten(2 if by_unit else 1).any(-1) if a.ndim > (2 if by_unit else 1) else a != b
    if not by_unit:
        different = different[:, None]
    cells = different.nonzero()
    return torch.stack([here[cells[:, 0]], cells[:, 1]], 1)


# ---- what is said ------------------------------------------------------------------------------


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


def _nested(x: Tensor) -> Any:
    """Lists for JSON, with null where there is no number."""
    array = x.cpu().numpy().astype(object)
    array[x.isnan().cpu().numpy()] = None
    return array.tolist()


def _most(effects: Tensor) -> float:
    """The largest effect in size, with its sign."""
    flat = effects.nan_to_num(0.0).flatten()
    return float(flat[flat.abs().argmax()])


def _ids(model: Model, prompt: Prompt) -> list[int]:
    return model.one(prompt, "each row of the data is").ids[0].tolist()


def _quoted(text: Prompt) -> str:
    return repr(text[:60]) if isinstance(text, str) else "a prompt"


def _sentence(
    places: Sequence[Place],
    values: Sequence[Tensor],
    start: float,
    span: float | None,
    texts: list[str],
    at: Tensor | None,
    direction: str,
    ablation: str,
) -> tuple[str, str]:
    """The strongest patch in words, and its place in the payload as evidence."""
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
    verb = "Restoring" if direction == "denoise" else "Corrupting"
    does = "brings back" if direction == "denoise" else "takes away"
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
