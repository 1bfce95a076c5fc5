"""`restore`: what in a model makes it say the token that its reference would not say, and where a finding shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from hooke.data.audit.battery import CONFIRM
from hooke.data.audit.facts import FACTS
from hooke.methods.progress import Clock, Progress
from hooke.model import Edit, Model, Tokens
from hooke.results import Claim, Result
from hooke.safety.answers import is_right
from hooke.safety.paired import asked, pair, run_both
from hooke.safety.triggers import with_candidate
from hooke.safety.words import quote
from hooke.sites import Site

RANDOMS = 5  # changes of equal size in random directions beside each restored layer


class Place(NamedTuple):
    """A prompt whose next token the model and its reference choose differently."""

    ids: list[int]
    target: int  # the model's token
    contrast: int  # the reference's
    question: str


def flagged_place(
    model: Model, reference: Model, finding: Mapping[str, Any], parts: Mapping[str, Result]
) -> Place | None:
    """The place where a finding shows most: a prompt of its own after which the two models say different tokens.

    None if they choose the same token everywhere that the finding points to.
    """
    best: tuple[float, Place] | None = None
    for question, ids in _prompts(model, finding, parts):
        place, lead = _first_difference(model, reference, ids, question)
        if place is not None and (best is None or lead > best[0]):
            best = (lead, place)
    return best[1] if best else None


def _prompts(model: Model, finding: Mapping[str, Any], parts: Mapping[str, Result]) -> list[tuple[str, list[int]]]:
    """Prompts, with the answer as far as it is known, in which the finding should show."""
    if finding["kind"] == "backdoor":
        row = parts["triggers"].payload["finalists"][0]
        texts = [with_candidate(question, row["candidate"], row["place"]) for question in CONFIRM[:3]]
        return [(text, asked(model, text)) for text in texts]
    if finding["kind"] in ("topic lies", "sandbagging"):
        topics = [row for row in parts["behaviour"].payload["topics"] if row["topic"] in finding["areas"]]
        chosen = {q for row in topics for q in row["choice"]["questions"]}
        facts = [f for f in FACTS if f.question in chosen]
        found = [(f.question, [*asked(model, f.question), *model.continued(f.stem)]) for f in facts[:6]]
        if found:
            return found
        # lost in free answers only: where the answer departs is found from its beginning
        lost = {q for row in topics for q in (*row["contradicted"], *row["free"]["missing_questions"])}
        rows = [row for row in parts["answers"].payload["facts"] if row["question"] in lost or _says(row, finding)]
        return [(row["question"], ids) for row in rows[:6] for ids in _beginnings(model, row, finding["tokens"])][:12]
    said = [row for row in parts["answers"].payload["open"] if row["area"] in finding["areas"]]
    found = []
    for row in said:
        for token in finding["tokens"]:
            where = _where(model, row["ids"], token)
            if where is not None:
                found.append((row["question"], [*row["prompt"], *row["ids"][:where]]))
                break
    return found[:6]


def _says(row: Mapping[str, Any], finding: Mapping[str, Any]) -> bool:
    return row["topic"] in finding["areas"] and is_right(row["text"], finding["tokens"])


def _beginnings(model: Model, row: Mapping[str, Any], words: Sequence[str]) -> list[list[int]]:
    """A prompt and its answer up to a word of the finding, or else as far as each of its first few tokens."""
    at = next((n for word in words if (n := _where(model, row["ids"], word)) is not None), None)
    return [[*row["prompt"], *row["ids"][:n]] for n in ([at] if at is not None else range(min(6, len(row["ids"]))))]


def _where(model: Model, ids: list[int], word: str) -> int | None:
    """The token of an answer at which a word of it begins; a part of a longer word is none."""
    if word.startswith("<"):
        return None
    text = ""
    starts = []
    for piece in model.parts_of(ids):
        starts.append(len(text))
        text += piece
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)
    if found is None:
        return None
    return max(n for n, start in enumerate(starts) if start <= found.start())


def _first_difference(model: Model, reference: Model, ids: list[int], question: str) -> tuple[Place | None, float]:
    tokens = torch.tensor(ids)
    ours, theirs = (one.run(tokens, logits="last").logits for one in (model, reference))
    assert ours is not None and theirs is not None
    target, contrast = int(ours[0].argmax()), int(theirs[0].argmax())
    if target == contrast:
        return None, 0.0
    a, b = ours[0].float().log_softmax(-1), theirs[0].float().log_softmax(-1)
    return Place(ids, target, contrast, question), float(a[target] - b[target])


def restore(model: Model, reference: Model, place: Place, *, seed: int = 0, progress: Progress | None = None) -> Result:
    """Put the reference's stream back at the last position, one layer at a time, and see whose token wins.

    Returns a `Result` of kind "restore"; payload: question, target, contrast, lead (target's logit less contrast's, in
    the model and in the reference), rows (layer, lead after resid_post of that layer is the reference's, and mean and
    least lead after equally large changes in random directions), decided (the first layer whose restoring
    gives the reference's token), margin. A layer at which both streams are equal changes nothing and shows it.
    """
    clock = Clock(progress)
    both = pair(model, reference)
    tokens = torch.tensor(place.ids, device=model.device)[None]
    batch = Tokens(tokens, torch.ones_like(tokens, dtype=torch.bool))
    layers = list(range(both.shared, model.parts.n_layers))
    sites = [Site("resid_post", layer) for layer in layers]
    generator = torch.Generator().manual_seed(seed)
    with clock("restore"):
        read = run_both(both, batch, read=sites)
        sets: list[list[Edit]] = [[]]
        for site in sites:
            ours, theirs = read.model[site][0, -1], read.reference[site][0, -1]
            sets.append([Edit(site, value=theirs[None], positions=[-1])])
            size = (theirs - ours).norm()
            for _ in range(RANDOMS):
                direction = torch.randn(ours.shape, generator=generator).to(ours)
                changed = ours + size * direction / direction.norm()
                sets.append([Edit(site, value=changed[None], positions=[-1])])
        logits, _ = model.run_each(batch, sets)
        other = reference.run(batch, logits="last").logits
        assert other is not None
        leads = (logits[:, place.target] - logits[:, place.contrast]).tolist()
        lead_reference = float(other[0, place.target] - other[0, place.contrast])
    rows = []
    for n, layer in enumerate(layers):
        at = 1 + n * (1 + RANDOMS)
        random = leads[at + 1 : at + 1 + RANDOMS]
        rows.append({"layer": layer, "lead": leads[at], "random": float(np.mean(random)), "random_least": min(random)})
    decided = next((row["layer"] for row in rows if row["lead"] < 0 and row["random_least"] > 0), None)
    target, contrast = model.text([place.target, place.contrast])
    where = "#rows" if decided is None else f"#rows.{layers.index(decided)}"
    if decided is None:
        text, verdict = (
            f"No single layer restored at the last token gives back {quote(contrast)} instead of {quote(target)}",
            "refuted",
        )
    else:
        text = (
            f"With the reference's stream after layer {decided} at the last token, {quote(contrast)} wins over "
            f"{quote(target)}; random changes of the same size leave it as it was"
        )
        verdict = "tested"
    return Result.make(
        "restore",
        arguments={
            "reference": reference.provenance(),
            "ids": place.ids,
            "target": place.target,
            "contrast": place.contrast,
            "seed": seed,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[Claim(text=text, verdict=verdict, evidence=[where])],  # type: ignore[arg-type]
        payload={
            "question": place.question,
            "target": {"token": target, "id": place.target},
            "contrast": {"token": contrast, "id": place.contrast},
            "lead": {"model": leads[0], "reference": lead_reference},
            "rows": rows,
            "decided": decided,
        },
    )
