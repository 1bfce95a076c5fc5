"""`probe_explain`: why a probe gave a text its score: which tokens, which layers, which neurons, and is it so?

A probe's value is linear in the stream, and the stream is a sum: the embedded token plus what every
attention and every MLP has written. So the score splits exactly over them, and an MLP's part over its
neurons. That split is of what is written directly; switching the neurons off in the live model tests it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import verb
from hooke.data.labelled.rows import Row
from hooke.errors import HookeError
from hooke.harvest import Prompt, prompts
from hooke.methods.probe.parts import EMA, VECTOR_POOLS, WINDOW, Block, pooled, smoothed, token_values
from hooke.methods.probe.score import blocks_of, check_belongs
from hooke.methods.progress import Clock, Progress, Tick
from hooke.model import Edit, Model
from hooke.model.run import Activations
from hooke.results import Claim, Result
from hooke.sites import Site


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
    (prompt,) = prompts(model, [row], template=fitted.payload.get("template"))
    with clock("forward"):
        reading = _read(model, blocks, prompt)
    each = _neurons(model, blocks, reading.held, reading.acts)
    chosen = _strongest((1.0 if reading.score >= 0 else -1.0) * each, neurons)
    with clock("interventions") as tick:
        tested = _tested(model, reading, each, chosen, controls, seed, tick)
    sentence = _sentence(model, fitted, reading, len(chosen), tested)
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
                verdict="tested" if tested.holds else "refuted",
                evidence=["#measured", "#share_of_random_directions", fitted.id],
            )
        ],
        payload={
            "text": row.text,
            **_told(model, reading),
            "neurons": [{"layer": a, "neuron": b, "contribution": float(each[a, b])} for a, b in chosen],
            **tested._asdict(),
            "sentence": sentence,
        },
    )


class Text(NamedTuple):
    """One text as a probe reads it: its ids (1, pos), where it lies in them, and what the run has.

    held: for each block how much each token counts in the pooled value (pos,), held at this text. values: the sum of
    the blocks' values at each token; score: of their pooled values.
    """

    blocks: list[Block]
    prompt: Prompt
    ids: Tensor
    acts: Activations
    held: list[np.ndarray]
    values: np.ndarray
    score: float


class Tested(NamedTuple):
    """What switching the strongest neurons off does to the score, as it was predicted and as it was measured; what
    switching others off does; and the share of all neurons' contributions that goes, for the probe and for random
    directions."""

    predicted: float
    measured: float
    by_construction: float
    random: list[float]
    share: float
    share_of_random_directions: list[float]

    @property
    def most_by_chance(self) -> float:
        """What random neurons move the score by at most."""
        return max((abs(c) for c in self.random), default=0.0)

    @property
    def holds(self) -> bool:
        """Whether more goes than for every random direction, and than with random neurons."""
        return self.share > max([0.0, *self.share_of_random_directions]) and abs(self.measured) > self.most_by_chance


def _read(model: Model, blocks: list[Block], prompt: Prompt) -> Text:
    """Run a text, and read all that writes to the stream up to the last block's layer."""
    ids = torch.tensor([prompt.ids])
    points = ["attn_out", "mlp_out", "mlp_act"]
    points += ["mlp_post_scale"] if model.parts.blocks[0].mlp_post_norm is not None else []
    sites = [Site("resid_pre", 0), *(Site(p, layer) for layer in range(_top(blocks) + 1) for p in points)]
    acts = model.run(ids, read=[*sites, *{b.site for b in blocks}], logits=None).acts
    streams = _streams(blocks, acts)
    held = [_pool_weights(b, x, prompt.start, prompt.stop) for b, x in zip(blocks, streams)]
    values = [token_values(b, x) for b, x in zip(blocks, streams)]
    score = float(sum((w * v).sum() for w, v in zip(held, values)))
    return Text(blocks, prompt, ids, acts, held, np.sum(values, axis=0), score)


def _top(blocks: Sequence[Block]) -> int:
    """The last layer that is read."""
    return max(b.site.layer or 0 for b in blocks)


def _tested(
    model: Model, read: Text, each: np.ndarray, chosen: list[tuple[int, ...]], controls: int, seed: int, tick: Tick
) -> Tested:
    """The chosen neurons switched off, as many random ones of the same layers, and those of random directions."""
    score, top = read.score, _top(read.blocks)
    used = sorted({t for w in read.held for t in np.flatnonzero(w >= 0.1 * w.max()).tolist()})
    rng = np.random.default_rng(seed)
    measured = _rescored(model, read, chosen, used) - score
    chance, others = [], []
    for n in range(controls):
        tick((n + 1) / (controls + 1))
        drawn = [(layer, int(rng.integers(each.shape[1]))) for layer, _ in chosen]
        chance.append(_rescored(model, read, drawn, used) - score)
        others.append(_share_of_random(model, read, len(chosen), used, rng))
    predicted = -float(sum(each[i] for i in chosen))
    built_in = -float(sum(each[i] for i in chosen if i[0] == top))
    share = -(1.0 if score >= 0 else -1.0) * measured / float(np.abs(each).sum())
    return Tested(predicted, measured, built_in, chance, share, others)


def _told(model: Model, read: Text) -> dict[str, Any]:
    """The score of the text, over its tokens and over what wrote to the stream."""
    start, parts = read.prompt.start, _parts(read.blocks, read.held, read.acts)
    return {
        "score": read.score,
        "tokens": model.text(read.prompt.ids)[start:],
        "token_scores": read.values[start:].round(4).tolist(),
        "token_weights": np.mean(read.held, axis=0)[start:].round(4).tolist(),
        "parts": parts,
        "remainder": read.score - sum(part["value"] for part in parts),
    }


def _sentence(model: Model, fitted: Result, read: Text, n_chosen: int, tested: Tested) -> str:
    strongest = int(np.argmax(np.sum(read.held, axis=0) * np.abs(read.values)))
    says = fitted.payload["positive"] if read.score > 0 else fitted.payload["negative"]
    verb = "is confirmed" if tested.holds else "is not confirmed"
    return (
        f"The probe says {says} ({read.score:+.2f}), most of it at {model.text(read.prompt.ids)[strongest]!r}; "
        f"switching off the {n_chosen} strongest neurons behind it moves the score by {tested.measured:+.2f} "
        f"(predicted {tested.predicted:+.2f}, of which {tested.by_construction:+.2f} by construction; random neurons "
        f"at most {tested.most_by_chance:.2f}). That is {tested.share:.0%} of what all neurons write into it, against "
        f"at most {max(tested.share_of_random_directions):.0%} for a random direction: this reading {verb}."
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
    total = torch.zeros(_top(blocks) + 1, model.parts.d_mlp)
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


def _share_of_random(model: Model, read: Text, neurons: int, used: list[int], rng: np.random.Generator) -> float:
    """The same for a random direction of the same size at each block's site, read with the same weights of tokens."""
    noise = []
    for block in read.blocks:
        w = rng.standard_normal(len(block.direction))
        w *= np.linalg.norm(block.direction) / np.linalg.norm(w)
        noise.append(replace(block, direction=w.astype(np.float32), bias=0.0))
    each = _neurons(model, noise, read.held, read.acts)
    before = sum(float(w @ token_values(b, x)) for b, w, x in zip(noise, read.held, _streams(noise, read.acts)))
    side = 1.0 if before >= 0 else -1.0
    edits = _off(_strongest(side * each, neurons), used)
    changed = model.run(read.ids, read={b.site for b in noise}, edits=edits, logits=None).acts
    after = sum(float(w @ token_values(b, x)) for b, w, x in zip(noise, read.held, _streams(noise, changed)))
    return -side * (after - before) / float(np.abs(each).sum())


def _off(neurons: Sequence[tuple[int, ...]], at: list[int]) -> list[Edit]:
    """Edits that set neurons to zero at some positions."""
    by_layer: dict[int, list[int]] = {}
    for layer, neuron in neurons:
        by_layer.setdefault(layer, []).append(neuron)
    return [Edit(Site("mlp_act", layer), "set", 0.0, at, sorted(set(own))) for layer, own in by_layer.items()]


def _rescored(model: Model, read: Text, neurons: Sequence[tuple[int, ...]], at: list[int]) -> float:
    """The score with these neurons at zero at some positions, pooled anew."""
    acts = model.run(read.ids, read={b.site for b in read.blocks}, edits=_off(neurons, at), logits=None).acts
    total = 0.0
    for block, x in zip(read.blocks, _streams(read.blocks, acts)):
        own = x[read.prompt.start :] if block.pool not in VECTOR_POOLS else x[read.prompt.start : read.prompt.stop]
        if block.pool == "last":
            own = x[-1:]
        values = token_values(block, own)
        total += pooled(block.pool, values, None if block.query is None else own @ block.query)
    return total
