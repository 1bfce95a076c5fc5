"""`probe_explain`: why a probe gave a text its score: which tokens, which layers, which neurons, and is it so?

A probe's value is linear in the stream, and the stream is a sum: the embedded token plus what every
attention and every MLP has written. So the score splits exactly over them, and an MLP's part over its
neurons. That split is of what is written directly; switching the neurons off in the live model tests it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import verb
from hooke.data.labelled.rows import Row
from hooke.errors import HookeError
from hooke.harvest import prompts
from hooke.methods.probe.parts import EMA, VECTOR_POOLS, WINDOW, Block, pooled, token_values
from hooke.methods.probe.score import blocks_of, check_belongs
from hooke.methods.progress import Clock, Progress
from hooke.model import Edit, Model
from hooke.results import Claim, Result
from hooke.sites import Site

MEASURED = ("#measured", "#share", "#share_of_random_directions")  # what the claim rests on


@verb
def probe_explain(
    model: Model,
    fitted: Result,
    text: str | Row,
    *,
    neurons: int = 20,
    controls: int = 5,
    seed: int = 0,
    transfer: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Split the score of one text over tokens, layers and MLP neurons, and test the strongest neurons.

    neurons: how many of the strongest (by direct contribution, towards the side the score is on) to switch
        off in the live model, all at once, at the tokens that the pool takes. controls: how many draws to
        compare with: of as many random neurons of the same layers, and of random directions at the same sites,
        each with its own strongest neurons.
    That the score falls when its strongest neurons are off follows in part from arithmetic (`by_construction`:
    what they write directly in the probe's own last layer), and any direction has strongest neurons. So the reading
    counts as confirmed only if the share of all neurons' contributions that goes with them is larger than for
    every random direction.
    Returns a `Result` of kind "probe_explain" with the probe as its parent; payload: tokens with their
    values and pool weights, score, parts (embedding, attention and MLP of each layer, which add up to the
    score), neurons (layer, neuron, contribution), predicted and measured change, and the controls' changes.
    Raises HookeError for a probe that reads elsewhere than the residual stream, or belongs to another model.
    """
    clock = Clock(progress)
    row = Row(text, 0, "text") if isinstance(text, str) else text
    check_belongs(model, fitted, transfer=transfer)
    blocks = blocks_of(fitted)
    if fitted.payload.get("dictionaries") or any(b.site.point != "resid_post" for b in blocks):
        raise HookeError("only a probe of the residual stream (resid_post) splits over what writes to it")
    template = fitted.payload.get("template")
    (prompt,) = prompts(model, [row], template=template)
    ids = torch.tensor([prompt.ids])
    top = max(b.site.layer or 0 for b in blocks)
    layers = range(top + 1)
    points = ["attn_out", "mlp_out", "mlp_act"]
    points += ["mlp_post_scale"] if model.parts.blocks[0].mlp_post_norm is not None else []
    sites = [Site("resid_pre", 0), *(Site(p, layer) for layer in layers for p in points)]
    with clock("forward"):
        acts = model.run(ids, read=[*sites, *{b.site for b in blocks}], logits=None).acts
    held = [_pool_weights(b, acts[b.site][0].float().cpu().numpy(), prompt.start, prompt.stop) for b in blocks]
    score = float(sum((w * token_values(b, x)).sum() for b, w, x in zip(blocks, held, _streams(blocks, acts))))
    parts = _parts(blocks, held, acts)
    each = _neurons(model, blocks, held, acts)
    side = 1.0 if score >= 0 else -1.0
    chosen = _strongest(side * each, neurons)
    used = sorted({t for w in held for t in np.flatnonzero(w >= 0.1 * w.max()).tolist()})
    rng = np.random.default_rng(seed)
    with clock("interventions") as tick:
        after = _rescored(model, ids, blocks, prompt, chosen, used)
        chance, others = [], []
        for n in range(controls):
            tick((n + 1) / (controls + 1))
            drawn = [(layer, int(rng.integers(each.shape[1]))) for layer, _ in chosen]
            chance.append(_rescored(model, ids, blocks, prompt, drawn, used) - score)
            others.append(_share_of_random(model, ids, blocks, held, prompt, acts, neurons, used, rng))
    predicted, measured = -float(sum(each[i] for i in chosen)), after - score
    built_in = -float(sum(each[i] for i in chosen if i[0] == top))
    share = -side * measured / float(np.abs(each).sum())
    holds = share > max([0.0, *others]) and abs(measured) > max((abs(c) for c in chance), default=0.0)
    texts = model.text(prompt.ids)
    values = np.sum([token_values(b, x) for b, x in zip(blocks, _streams(blocks, acts))], axis=0)
    strongest = int(np.argmax(np.sum(held, axis=0) * np.abs(values)))
    says = fitted.payload["positive"] if score > 0 else fitted.payload["negative"]
    verb = "is confirmed" if holds else "is not confirmed"
    sentence = (
        f"The probe says {says} ({score:+.2f}), most of it at {texts[strongest]!r}; switching off the {len(chosen)} "
        f"strongest neurons behind it moves the score by {measured:+.2f} (predicted {predicted:+.2f}, of which "
        f"{built_in:+.2f} by construction; random neurons at most {max((abs(c) for c in chance), default=0.0):.2f}). "
        f"That is {share:.0%} of what all neurons write into it, against at most {max(others):.0%} for a random "
        f"direction: this reading {verb}."
    )
    payload: dict[str, Any] = {
        "text": row.text,
        "score": score,
        "tokens": texts[prompt.start :],
        "token_scores": values[prompt.start :].round(4).tolist(),
        "token_weights": np.mean(held, axis=0)[prompt.start :].round(4).tolist(),
        "parts": parts,
        "remainder": score - sum(part["value"] for part in parts),
        "neurons": [{"layer": a, "neuron": b, "contribution": float(each[a, b])} for a, b in chosen],
        "predicted": predicted,
        "measured": measured,
        "by_construction": built_in,
        "random": chance,
        "share": share,
        "share_of_random_directions": others,
        "sentence": sentence,
    }
    return Result.make(
        "probe_explain",
        parents=[fitted.id],
        arguments={
            "text": row.text,
            "user": row.user,
            "system": row.system,
            "neurons": neurons,
            "controls": controls,
            "seed": seed,
            "transfer": transfer,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[
            Claim(
                text=sentence,
                verdict="tested" if holds else "refuted",
                evidence=["#measured", "#share_of_random_directions", fitted.id],
            )
        ],
        payload=payload,
    )


def _streams(blocks: Sequence[Block], acts: Any) -> list[np.ndarray]:
    return [acts[b.site][0].float().cpu().numpy() for b in blocks]


def _pool_weights(block: Block, x: np.ndarray, start: int, stop: int) -> np.ndarray:
    """(pos,): how much each token's value counts in the pooled one, held at this text."""
    weight = np.zeros(len(x))
    values = token_values(block, x[start:])
    if block.pool == "last":
        weight[-1] = 1
    elif block.pool == "mean":
        weight[start:stop] = 1 / (stop - start)
    elif block.pool == "max":
        weight[start + int(values.argmax())] = 1
    elif block.pool == "rolling":
        width = min(WINDOW, len(values))
        first = int(np.convolve(values, np.ones(width), "valid").argmax())
        weight[start + first : start + first + width] = 1 / width
    elif block.pool == "ema":
        from hooke.methods.probe.parts import smoothed

        end = int(smoothed(values).argmax())
        weight[start : start + end + 1] = (1 - EMA) * EMA ** np.arange(end, -1, -1)
        weight[start] += EMA ** (end + 1)  # it starts there
    else:
        assert block.query is not None
        logits = x[start:] @ block.query
        grown = np.exp(logits - logits.max())
        weight[start:] = grown / grown.sum()
    return weight


def _parts(blocks: Sequence[Block], held: Sequence[np.ndarray], acts: Any) -> list[dict[str, Any]]:
    """What the embedding and each layer's attention and MLP wrote into the score; the bias last."""
    found: dict[str, float] = {}
    for block, weight in zip(blocks, held):
        for site in acts:
            if site.point == "resid_pre" or (
                site.point in ("attn_out", "mlp_out") and (site.layer or 0) <= (block.site.layer or 0)
            ):
                value = float(weight @ (acts[site][0].float().cpu().numpy() @ block.direction))
                name = "embedding" if site.point == "resid_pre" else str(site)
                found[name] = found.get(name, 0.0) + value
        found["bias"] = found.get("bias", 0.0) + float(weight.sum()) * block.bias
    return [{"part": name, "value": value} for name, value in found.items()]


def _neurons(model: Model, blocks: Sequence[Block], held: Sequence[np.ndarray], acts: Any) -> np.ndarray:
    """(layer, neuron): what each neuron wrote directly into the score, post-norms held."""
    top = max(b.site.layer or 0 for b in blocks)
    total = torch.zeros(top + 1, model.parts.d_mlp)
    for block, weight in zip(blocks, held):
        direction = torch.from_numpy(block.direction)
        w = torch.from_numpy(weight).float()
        for layer in range((block.site.layer or 0) + 1):
            parts = model.parts.blocks[layer]
            act, down = acts[Site("mlp_act", layer)][0].float().cpu(), parts.down.weight.float().cpu().T
            if parts.mlp_post_norm is None:
                total[layer] += (w @ act) * (down @ direction)
                continue
            scale = acts[Site("mlp_post_scale", layer)][0].float().cpu()
            for t in weight.nonzero()[0].tolist():
                total[layer] += w[t] * act[t] * (down @ parts.mlp_post_norm.pull(direction, scale[t]).float())
    return total.numpy()


def _strongest(each: np.ndarray, count: int) -> list[tuple[int, ...]]:
    """(layer, neuron) of the largest contributions."""
    order = np.argsort(-each, axis=None)[:count]
    return [tuple(int(i) for i in np.unravel_index(i, each.shape)) for i in order]


def _share_of_random(
    model: Model,
    ids: Tensor,
    blocks: Sequence[Block],
    held: Sequence[np.ndarray],
    prompt: Any,
    acts: Any,
    neurons: int,
    used: list[int],
    rng: np.random.Generator,
) -> float:
    """The same for a random direction of the same size at each block's site, read with the same weights of tokens."""
    noise = []
    for block in blocks:
        w = rng.standard_normal(len(block.direction))
        w *= np.linalg.norm(block.direction) / np.linalg.norm(w)
        noise.append(replace(block, direction=w.astype(np.float32), bias=0.0))
    each = _neurons(model, noise, held, acts)
    before = sum(float(w @ token_values(b, x)) for b, w, x in zip(noise, held, _streams(noise, acts)))
    side = 1.0 if before >= 0 else -1.0
    edits = _off(_strongest(side * each, neurons), used)
    changed = model.run(ids, read={b.site for b in noise}, edits=edits, logits=None).acts
    after = sum(float(w @ token_values(b, x)) for b, w, x in zip(noise, held, _streams(noise, changed)))
    return -side * (after - before) / float(np.abs(each).sum())


def _off(neurons: Sequence[tuple[int, ...]], at: list[int]) -> list[Edit]:
    """Edits that set neurons to zero at some positions."""
    by_layer: dict[int, list[int]] = {}
    for layer, neuron in neurons:
        by_layer.setdefault(layer, []).append(neuron)
    return [Edit(Site("mlp_act", layer), "set", 0.0, at, sorted(set(own))) for layer, own in by_layer.items()]


def _rescored(
    model: Model, ids: Tensor, blocks: Sequence[Block], prompt: Any, neurons: Sequence[tuple[int, ...]], at: list[int]
) -> float:
    """The score with these neurons at zero at some positions, pooled anew."""
    acts = model.run(ids, read={b.site for b in blocks}, edits=_off(neurons, at), logits=None).acts
    total = 0.0
    for block, x in zip(blocks, _streams(blocks, acts)):
        own = x[prompt.start :] if block.pool not in VECTOR_POOLS else x[prompt.start : prompt.stop]
        if block.pool == "last":
            own = x[-1:]
        values = token_values(block, own)
        total += pooled(block.pool, values, None if block.query is None else own @ block.query)
    return total
