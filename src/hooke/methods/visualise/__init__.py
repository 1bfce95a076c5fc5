"""`visualise`: prompts that make a feature fire most, at every price in likeliness, beside what a text has.

epo      the search, for any aim; random_search: the same without slopes
feature  a side of a feature as an aim
seen     what a text has of a feature: the largest activation, and starts
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hooke.arguments import verb
from hooke.dictionaries import Dictionary, neurons
from hooke.errors import HookeError
from hooke.features.names import Name, named
from hooke.harvest.plans import special_tokens
from hooke.kernels import exact_products
from hooke.methods.catalogue import layer_of
from hooke.methods.catalogue.sweep import sides
from hooke.methods.progress import Clock, Progress
from hooke.methods.visualise.epo import Front, Prompt, epo, random_search
from hooke.methods.visualise.feature import FeatureAim
from hooke.methods.visualise.seen import Found, in_text
from hooke.model import Model
from hooke.results import Claim, Result

MEMBERS = 8
FAR = 2.0  # nats above the text's own cost: a string that nobody writes


@verb
def visualise(
    model: Model,
    feature: str,
    *,
    basis: str | Sequence[Dictionary] = "neurons",
    text: Sequence[str] = ("docs",),
    tokens: int = 20_000,
    length: int = 12,
    steps: int = 60,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Prompts that make one side of a feature fire most at their last token, by EPO (2402.01702).

    feature: "12_345", or "12_345-" for its side below zero. basis: "neurons", or dictionaries, one block a layer.
    text: what its largest activation is looked for in, and how likely text is; tokens: how much of it. length: tokens
    of a prompt. steps: of the search. seed: of the text's order and of the search. progress: with a stage and how much
    of it is done.

    Returns a `Result` of kind "visualisation": payload.front has the prompts that none beats in activation and in
    cost, payload.best the strongest that is as likely as the text; beside it the text's own maximum and a random search
    over as many prompts. Raises HookeError for a feature that is not there, and for sizes that cannot be.
    """
    name, block = _feature(model, feature, basis)
    before = torch.from_numpy(special_tokens(model)).long()
    if not 2 <= length <= model.parts.context - len(before) or steps < 1:
        raise HookeError(
            f"a prompt of {length} tokens and {steps} steps: {model.name} reads 2 to {model.parts.context}"
        )
    clock, sign = Clock(progress), -1 if name.sign == "-" else 1
    aim = FeatureAim(model, block, name.number, sign, before)
    with clock("text") as tick:
        seen = in_text(aim, text, tokens=tokens, length=length, seed=seed, tick=tick)
    with clock("search") as tick, exact_products():
        generator = torch.Generator().manual_seed(seed)
        weights = _weights(seen)
        front = epo(aim, seen.starts[:MEMBERS], weights, steps=steps, generator=generator, tick=tick)
    with clock("random search"), exact_products():
        vocabulary = torch.unique(seen.ids)
        other = random_search(
            aim, seen.starts[:MEMBERS], weights, passes=front.passes, generator=generator, vocabulary=vocabulary
        )
    payload = _payload(model, name, seen, front, other)
    return Result.make(
        "visualisation",
        arguments={
            "feature": str(name), "basis": basis if isinstance(basis, str) else [b.hash for b in basis],
            "text": list(text), "tokens": tokens, "length": length, "steps": steps, "seed": seed,
        },
        provenance=model.provenance() | {"dictionaries": [block.hash]},
        seconds=clock.done(),
        claims=[
            Claim(
                text=payload["sentence"],
                verdict="tested" if payload["exceeds"] else "refuted",
                evidence=["#best", "#text_largest", "#random"],
            )
        ],
        payload=payload,
    )  # fmt: skip


def _feature(model: Model, feature: str, basis: str | Sequence[Dictionary]) -> tuple[Name, Dictionary]:
    """The feature's name, with a side, and its block."""
    if isinstance(basis, str) and basis != "neurons":
        raise HookeError(f"no basis called {basis[:40]!r}; use 'neurons', or give dictionaries")
    name = named(feature)
    blocks = {layer_of(block): block for block in (neurons(model) if isinstance(basis, str) else basis)}
    block = blocks.get(name.layer)
    if block is None or name.number >= block.n_features:
        raise HookeError(f"there is no feature {name}: layers {min(blocks)} to {max(blocks)} have features")
    if name.sign == "-" and sides(block) == 1:
        raise HookeError(f"{name}: these features are never negative; leave the sign out")
    return name._replace(sign=name.sign or ("+" if sides(block) == 2 else "")), block


def _weights(seen: Found) -> list[float]:
    """Weights of cost against activation, evenly on a logarithmic scale: from a thirtieth to three times what makes a
    nat worth the largest activation of the text, spread over its cost."""
    unit = max(seen.largest, 1e-6) / max(seen.cost, 1e-6)
    return (unit * torch.logspace(-1.5, 0.5, MEMBERS)).tolist()


def _payload(model: Model, name: Name, seen: Found, front: Front, other: Front) -> dict[str, Any]:
    best, random = front.best(seen.cost), other.best(seen.cost)
    strongest = front.prompts[-1]
    notes = list(seen.notes)
    if strongest.cost > seen.cost + FAR:
        notes.append(
            f"The strongest prompt of all costs {strongest.cost:.1f} nats a token, and the text {seen.cost:.1f}: a "
            "string that nobody writes says little of what the feature is for."
        )
    value = best.value if best is not None else None
    exceeds = value is not None and value > seen.largest
    found: dict[str, Any] = {
        "feature": str(name),
        "front": [_told(model, one) for one in front.prompts],
        "best": None if best is None else _told(model, best),
        "random": None if random is None else _told(model, random),
        "text_largest": seen.largest,
        "text_example": seen.example,
        "text_cost": seen.cost,
        "text_tokens": len(seen.ids),
        "exceeds": exceeds,
        "passes": front.passes,
        "notes": notes,
    }
    there = "no prompt as likely as the text was found"
    if value is not None:
        there = f"a prompt as likely as the text reaches {value:.2f}"
    by_chance = "none" if random is None else f"{random.value:.2f}"
    found["sentence"] = (
        f"{name}: {there}, where the largest activation in {len(seen.ids):,} tokens of text is {seen.largest:.2f} and "
        f"a random search over as many prompts reaches {by_chance}."
    )
    return found


def _told(model: Model, one: Prompt) -> dict[str, Any]:
    ids = list(one.ids)
    return {"text": model.said(ids), "ids": ids, "activation": one.value, "cost": one.cost}
