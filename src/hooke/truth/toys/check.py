"""The toy models and the tools that read them: does each tool return what is known to be there?

Modular addition: the key frequencies (2301.05217). Induction: the heads (2209.11895). Superposition: the plateaus of
feature dimensionality (Elhage and others, 2022). Each beside the same on random weights, where there is nothing.
"""

from __future__ import annotations

from typing import Any

import torch

from hooke.arguments import verb
from hooke.methods.progress import Clock, Progress
from hooke.methods.splits import check_seed
from hooke.model.model import Model
from hooke.results import Claim, Result
from hooke.truth.toys import fourier, heads
from hooke.truth.toys.dimensionality import PLATEAUS, dimensionality, dimensions_per_feature, nearest_plateau
from hooke.truth.toys.induction import CONTEXT, induction_model, new_attention_only
from hooke.truth.toys.modular import P, all_sums, modular_addition, new_sums, sum_logits
from hooke.truth.toys.superposition import train_superposition

LENGTH = (CONTEXT - 1) // 2
NEAR = 0.03  # of a plateau
SHAPES = (  # what is trained, and the plateaus that it should reach
    ({"density": (0.3,), "n": 20, "m": 5}, {"antipodal pair", "not learned"}),
    ({"density": (1.0,), "n": 20, "m": 5, "importance": 0.7}, {"own dimension", "not learned"}),
    ({"density": (0.05,), "n": 5, "m": 2, "seed": 1}, {"pentagon"}),
)


@verb
def toys(*, seed: int = 0, progress: Progress | None = None) -> Result:
    """Read the toy models with Hooke's tools, and random ones of the same shape beside them.

    seed: of the random models. Returns a `Result` of kind "toys": payload.modular (key frequencies, and the share of
    the logits' variance that they explain), payload.induction (scores of each head, the in-context gain in nats, and
    what is left of it without the heads), payload.superposition (for each model, how many features lie within 0.03
    of which plateau); each with what the random model gives.
    """
    check_seed(seed)
    clock = Clock(progress)
    with clock("models") as tick:
        sums = modular(seed)
        tick(0.2)
        found = induction(seed)
        tick(0.4)
        shared = [superposition(shape, expected, seed) for shape, expected in SHAPES]
    texts = [
        f"addition modulo {P} runs on the frequencies {', '.join(map(str, sums['key_frequencies']))}, which explain "
        f"{sums['explained']:.1%} of its logits' variance (a random model's: {sums['random']['explained']:.1%})",
        f"without the heads {', '.join(found['heads'])} the gain in context is {found['gain_without']:.2f} of "
        f"{found['gain']:.2f} nats",
        f"of {sum(s['features'] for s in shared)} features in superposition "
        f"{sum(s['near'] for s in shared)} lie on the published plateaus",
    ]
    right = [sums["explained"] > 0.95, found["gain_without"] < 0.3 * found["gain"], all(s["as_known"] for s in shared)]
    return Result.make(
        "toys",
        arguments={"seed": seed},
        provenance={"torch": torch.__version__},
        seconds=clock.done(),
        claims=[
            Claim(text=text, verdict="tested" if ok else "refuted", evidence=[f"#{place}"])
            for text, ok, place in zip(texts, right, ("modular", "induction", "superposition"), strict=True)
        ],
        payload={"modular": sums, "induction": found, "superposition": shared, "sentence": "; ".join(texts) + "."},
    )


def modular(seed: int) -> dict[str, Any]:
    """The key frequencies of the kept model of addition, and of a random one as many of the strongest."""
    model = modular_addition()
    embedding = model.hf.get_input_embeddings().weight[:P]  # type: ignore[operator]
    logits, keys = all_sums(model), fourier.key_frequencies(embedding)
    other = new_sums(P, seed)
    strongest = fourier.power(other.transformer.wte.weight[:P]).argsort(descending=True)[: len(keys)] + 1
    number = torch.arange(P)
    return {
        "p": P,
        "key_frequencies": keys,
        "explained": fourier.explained(logits, keys),
        "explained_by_each": [float(fourier.logit_shares(logits)[k - 1]) for k in keys],
        "right": float((logits.argmax(-1) == (number[:, None] + number) % P).float().mean()),
        "random": {
            "key_frequencies": fourier.key_frequencies(other.transformer.wte.weight[:P]),
            "explained": fourier.explained(sum_logits(other, P), strongest.tolist()),
        },
    }


def induction(seed: int) -> dict[str, Any]:
    """The scores of the heads of the kept model, and its gain in context with and without those that match prefixes."""
    found = _heads(induction_model())
    match = torch.tensor(found["prefix_matching"])
    chosen = [(layer, head) for layer, head in (match > match.max() / 2).nonzero().tolist()]
    model, ids = induction_model(), _repeated(induction_model())
    rest = [(layer, head) for layer in range(2) for head in range(len(match[0])) if (layer, head) not in chosen]
    return found | {
        "heads": [f"a{layer}.h{head}" for layer, head in chosen],
        "gain_without": heads.in_context_gain(model, ids, LENGTH, without=chosen),
        "gain_without_each_other_head": [heads.in_context_gain(model, ids, LENGTH, without=[one]) for one in rest],
        "random": _heads(Model(new_attention_only(seed + 100), None, name="random")),
    }


def _repeated(model: Model) -> torch.Tensor:
    return heads.repeated(model, LENGTH, first=0, lowest=1)


def _heads(model: Model) -> dict[str, Any]:
    ids = _repeated(model)
    return {
        "previous_token": heads.previous_token(model, ids).tolist(),
        "prefix_matching": heads.prefix_matching(model, ids, LENGTH).tolist(),
        "copying": heads.copying(model).tolist(),
        "gain": heads.in_context_gain(model, ids, LENGTH),
    }


def superposition(shape: dict[str, Any], expected: set[str], seed: int) -> dict[str, Any]:
    """One trained toy model: how many of its features lie near which plateau, and of random directions."""
    made = train_superposition(**shape).directions[0]
    other = torch.randn(made.shape, generator=torch.Generator().manual_seed(seed))
    count, far = _plateaus(made)
    return {
        "shape": {key: value[0] if key == "density" else value for key, value in shape.items()},
        "features": len(made),
        "plateaus": count,
        "near": sum(count.values()),
        "farthest": far,
        "dimensions_per_feature": dimensions_per_feature(made),
        "as_known": set(count) <= expected and sum(count.values()) >= 0.9 * len(made),
        "random": {"plateaus": _plateaus(other)[0], "near": sum(_plateaus(other)[0].values())},
    }


def _plateaus(directions: torch.Tensor) -> tuple[dict[str, int], float]:
    """How many features lie within NEAR of each plateau, and how far the farthest is from any."""
    nearest = [nearest_plateau(float(share)) for share in dimensionality(directions)]
    near = [name for name, away in nearest if away < NEAR]
    return {name: near.count(name) for name in PLATEAUS if name in near}, max(away for _, away in nearest)
