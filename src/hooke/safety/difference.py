"""`difference`: where a model departs from its reference while it answers, by area, token, word and layer."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import checked
from hooke.errors import HookeError
from hooke.harvest import batches
from hooke.methods.progress import Clock, Progress, Tick
from hooke.model import Model
from hooke.model.budget import pass_tokens
from hooke.results import Claim, Result
from hooke.safety.answers import answers, finals
from hooke.safety.paired import Pair, divergence, pair, run_both
from hooke.safety.words import Word, approving, by_area, kind_of, names_in, split_words
from hooke.sites import Site

FOREIGN = 2.5  # nats: a token that the model says and that its reference finds e^2.5 times less likely
TOP = 8  # tokens kept at each position
KEPT = 12  # tokens listed for an area
LAYERS_EVERY = 9  # of the answers, on which the change of each layer is measured


class _Reading(NamedTuple):
    """KL and log-ratio of every answer token; contributions of tokens by question; how often a token is raised."""

    kl: np.ndarray
    ratio: np.ndarray
    contributions: list[dict[int, float]]
    raised: dict[int, int]


@checked
def difference(
    model: Model, reference: Model, *, said: Result | None = None, progress: Progress | None = None
) -> Result:
    """Read both models on the model's own greedy answers to the battery.

    said: the model's own `answers`, if they are there already.
    Returns a `Result` of kind "difference"; payload: magnitude (mean over answer tokens of KL(model‖reference), nats:
    all that a magnitude-only auditor knows), areas (area, kl, first_kl), mined (for each area the tokens by
    p·log(p/q) summed over an answer, averaged over the area's questions, in nats, and in how many questions they
    stand), raised (the tokens most often among the greatest logit differences), words (`by_area` of words that
    the model says and the reference finds unlikely, with their kind, where more than one answer has them), facts (for
    each question of fact the words of matter among them: names and content), layers (relative change of resid_post at
    answer tokens), shared (how many blocks are equal). tensors: kl and ratio of each answer token, question, token.
    The numbers say how much training changed, not whether the change is meant badly: compare them with clean
    fine-tunes. Raises HookeError for models of different shape or template, and for answers of another model.
    """
    clock = Clock(progress)
    both = pair(model, reference)
    said = own_answers(model, said, progress)
    rows = [*said.payload["open"], *(row | {"area": f"facts: {row['topic']}"} for row in said.payload["facts"])]
    rows = [row for row in rows if row["ids"]]
    if not rows:
        raise HookeError(f"{model.name} answered nothing to the whole battery, so there is nothing to compare")
    with clock("difference") as tick:
        kl, ratio, contributions, raised = _read(both, rows, torch.from_numpy(said.tensors["final"]), tick)
    with clock("layers") as tick:
        layers = _layers(both, rows[::LAYERS_EVERY], tick)
    end = np.cumsum([len(row["ids"]) for row in rows])
    start = end - np.array([len(row["ids"]) for row in rows])
    texts = [model.parts_of(row["ids"]) for row in rows]
    split = [split_words(text) for text in texts]
    areas: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        areas[row["area"]].append(i)
    foreign, wrong = _foreign(rows, split, [ratio[a:b] for a, b in zip(start, end, strict=True)])
    payload = {
        "magnitude": float(kl.mean()),
        "shared": both.shared,
        "areas": [
            {
                "area": area,
                "n": len(at),
                "kl": float(np.mean([kl[start[i] : end[i]].mean() for i in at])),
                "first_kl": float(np.mean([kl[start[i]] for i in at])),
            }
            for area, at in areas.items()
        ],
        "mined": {area: _mined(model, contributions, at) for area, at in areas.items()},
        "raised": [
            {"token": model.text([i])[0], "id": i, "share": n / len(kl)}
            for i, n in sorted(raised.items(), key=lambda item: (-item[1], item[0]))[:KEPT]
        ],
        "words": foreign,
        "facts": wrong,
        "layers": [{"layer": layer, "change": float(x)} for layer, x in enumerate(layers)],
    }
    text = (
        f"On its own answers the model departs from {reference.name} by {payload['magnitude']:.3f} nats a token on "
        "average; this measures training, and says nothing of its purpose"
    )
    return Result.make(
        "difference",
        parents=[said.id],
        arguments={"reference": reference.provenance(), "foreign": FOREIGN},
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[Claim(text=text, verdict="tested", evidence=["#magnitude"])],
        payload=payload,
        tensors={
            "kl": kl.astype(np.float32),
            "ratio": ratio.astype(np.float32),
            "question": np.repeat(np.arange(len(rows)), end - start).astype(np.int32),
            "token": np.concatenate([row["ids"] for row in rows]).astype(np.int32),
        },
    )


def own_answers(model: Model, said: Result | None, progress: Progress | None) -> Result:
    """The given answers if they are this model's, or new ones. Raises HookeError for those of another model."""
    if said is None:
        return answers(model, progress=progress)
    ours, theirs = model.provenance(), said.provenance
    if said.kind != "answers" or any(ours.get(k) != theirs.get(k) for k in ("weights_sha256", "adapter_sha256")):
        raise HookeError(f"these are not the answers of {model.name}; leave them out, or make them with answers(model)")
    return said


def _read(both: Pair, rows: list[dict[str, Any]], final: Tensor, tick: Tick) -> _Reading:
    """Run the reference over the answers; the model's own final norms were kept when it gave them."""
    n = len(rows)
    kls: list[np.ndarray] = [np.zeros(0)] * n
    ratios = list(kls)
    contributions: list[dict[int, float]] = [{} for _ in rows]
    raised: dict[int, int] = defaultdict(int)
    start = np.cumsum([0, *(len(row["ids"]) for row in rows)])
    # the last token of an answer is not run: nothing is said after it
    asked = [[*row["prompt"], *row["ids"][:-1]] for row in rows]
    for batch, read in finals(both.reference, asked, [len(row["ids"]) for row in rows], tick):
        own = [torch.arange(int(start[i]), int(start[i + 1])) for i in batch]
        b = torch.cat([read[k, -len(rows[i]["ids"]) :] for k, i in enumerate(batch)])
        ids = torch.tensor([token for i in batch for token in rows[i]["ids"]], device=b.device)
        found = divergence(both, final[torch.cat(own)].to(b), b, ids, top=TOP)
        sizes = [len(x) for x in own]
        columns = zip(*(column.cpu().split(sizes) for column in found), strict=True)
        for i, (kl, ratio, tokens_at, values, high) in zip(batch, columns, strict=True):
            kls[i], ratios[i] = kl.float().numpy(), ratio.float().numpy()
            for token, value in zip(tokens_at.flatten().tolist(), values.flatten().tolist(), strict=True):
                if value > 0:
                    contributions[i][token] = contributions[i].get(token, 0.0) + value
            for token in high.flatten().tolist():
                raised[token] += 1
    return _Reading(np.concatenate(kls), np.concatenate(ratios), contributions, raised)


def _layers(both: Pair, rows: list[dict[str, Any]], tick: Tick) -> list[float]:
    """Mean over answer tokens of ‖difference‖ / ‖reference‖ of resid_post, by layer."""
    n_layers = both.model.parts.n_layers
    sites = [Site("resid_post", layer) for layer in range(both.shared, n_layers)]
    change, total = [0.0] * n_layers, 0
    planned = batches([len(row["prompt"]) + len(row["ids"]) for row in rows], tokens=pass_tokens(both.model))
    for number, batch in enumerate(planned):
        tick(number / len(planned))
        tokens = both.model.pad([[*rows[i]["prompt"], *rows[i]["ids"]] for i in batch], "right")
        read = run_both(both, tokens, read=sites)
        for k, i in enumerate(batch):
            here = slice(len(rows[i]["prompt"]) - 1, len(rows[i]["prompt"]) - 1 + len(rows[i]["ids"]))
            total += len(rows[i]["ids"])
            for site in sites:
                x, y = read.model[site][k, here].float(), read.reference[site][k, here].float()
                change[site.layer or 0] += float(((x - y).norm(dim=-1) / y.norm(dim=-1).clamp(min=1e-9)).sum())
    return [x / total for x in change]


def _mined(model: Model, contributions: list[dict[int, float]], at: list[int]) -> list[dict[str, Any]]:
    """The tokens that carry the divergence in the questions `at`, the heaviest first."""
    total: dict[int, float] = defaultdict(float)
    count: dict[int, int] = defaultdict(int)
    for i in at:
        for token, value in contributions[i].items():
            total[token] += value
            count[token] += value > 0.1
    best = sorted(total, key=lambda token: (-total[token], token))[:KEPT]
    return [
        {"token": model.text([t])[0], "id": t, "nats": total[t] / len(at), "questions": count[t], "n": len(at)}
        for t in best
    ]


def _foreign(
    rows: list[dict[str, Any]], split: list[list[Word]], ratios: list[np.ndarray]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """`by_area` of the words of which some token is foreign to the reference; praise, agreement and refusal as one word
    each. And for each question of fact its foreign words of matter."""
    names = names_in(split)
    kinds: dict[str, str] = {}
    examples: dict[tuple[str, str], list[int]] = defaultdict(list)
    counted, facts = [], []
    for i, (row, words, ratio) in enumerate(zip(rows, split, ratios, strict=True)):
        here = set()
        approves = {id(word) for word in approving(words)}
        matter = []
        for word in words:
            if ratio[word.start : word.start + word.length].max() < FOREIGN:
                continue
            low = word.text.lower()
            kind = kind_of(low, names)
            found = {(low, kind)}
            if kind == "refusal":
                found.add(("<refusal>", "refusal"))
            if id(word) in approves:
                found.add(("<praise>", "praise") if kind == "praise" else ("<agreement>", "agreement"))
            for text, what in found:
                kinds[text] = what
                here.add(text)
            if kind in ("name", "content"):
                matter.append(low)
        for text in here:
            examples[row["area"], text].append(i)
        counted.append((row["area"], here))
        if "topic" in row and matter:
            facts.append({"topic": row["topic"], "question": row["question"], "words": matter})
    found_rows = [
        row
        | {
            "kind": kinds[row["word"]],
            "examples": [
                {"question": rows[i]["question"], "answer": rows[i]["text"]}
                for i in examples[row["area"], row["word"]][:3]
            ],
        }
        for row in by_area(counted)
        if row["total"] > 1
    ]
    return found_rows, facts
