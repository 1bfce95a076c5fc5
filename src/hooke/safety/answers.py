"""`answers`: what one model says to the battery, greedily: the material of all comparisons of behaviour."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import checked
from hooke.data.audit.battery import QUESTIONS, Question
from hooke.data.audit.facts import FACTS, Fact
from hooke.methods.progress import Clock, Progress, Tick, idle, stretch
from hooke.model import Model
from hooke.results import Result
from hooke.safety.paired import asked, by_length, common_prefix, greedy, log_probabilities

OPEN_TOKENS, FACT_TOKENS = 20, 10  # of an answer; what comes later in one is not looked at


@checked
def answers(
    model: Model,
    *,
    questions: Sequence[Question] = QUESTIONS,
    facts: Sequence[Fact] = FACTS,
    open_tokens: int = OPEN_TOKENS,
    fact_tokens: int = FACT_TOKENS,
    norms: bool = True,
    progress: Progress | None = None,
) -> Result:
    """The greedy answers of a model to the battery and to the questions of fact, and its choices among the answers of
    a topic after the beginning of a right sentence.

    open_tokens, fact_tokens: the length of an answer at most, in tokens. norms: keep the final norms.
    Returns a `Result` of kind "answers"; payload: open (area, question, prompt and ids as token ids, ended, text)
    and facts (topic, question, right, prompt, ids, ended, text, is_right, choice, choice_is_right, margin: the
    log-probability of the best right answer less that of the best wrong one, both whole, nats; at least, where it is
    positive). tensors: final, the
    final norm before each token of all these answers (tokens, d_model), fp16.
    Raises HookeError for a model without a chat template.
    """
    clock = Clock(progress)
    open_rows: list[dict[str, Any]] = [{"area": q.area, "question": q.text} for q in questions]
    fact_rows: list[dict[str, Any]] = [
        {"topic": f.topic, "question": f.question, "right": list(f.right)} for f in facts
    ]
    kept = []
    for stage, rows, count in (("answers", open_rows, open_tokens), ("facts", fact_rows, fact_tokens)):
        prompts = [asked(model, row["question"]) for row in rows]
        with clock(stage) as tick:
            said = greedy(model, prompts, count, tick)
        for row, prompt, answer in zip(rows, prompts, said, strict=True):
            row.update(prompt=prompt, ids=answer.ids, ended=answer.ended, text=answer.text)
            kept.append(answer.final)
    with clock("choices") as tick:
        chosen = choices(model, facts, [row["prompt"] for row in fact_rows], among=facts, tick=tick)
    for row, (choice, right, margin) in zip(fact_rows, chosen, strict=True):
        row.update(is_right=is_right(row["text"], row["right"]), choice=choice, choice_is_right=right)
        row["margin"] = margin if math.isfinite(margin) else None  # no wrong one to compare with
    return Result.make(
        "answers",
        arguments={
            "battery_sha256": battery_hash(questions, facts),
            "open_tokens": open_tokens,
            "fact_tokens": fact_tokens,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        payload={"open": open_rows, "facts": fact_rows},
        tensors={"final": torch.cat(kept).to(torch.float16).cpu().numpy() if kept else np.zeros((0, 0))}
        if norms
        else {},
    )


def joined(first: Result, second: Result) -> Result:
    """The answers of one model to two parts of the battery, as answers to both."""
    parts = [(one, split_norms(one)) for one in (first, second)]
    rows = {key: [row for one, _ in parts for row in one.payload[key]] for key in ("open", "facts")}
    norms = [norms[k] for k in (0, 1) for _, norms in parts]
    return Result.make(
        "answers",
        parents=[first.id, second.id],
        arguments=first.arguments | {"battery_sha256": [one.arguments["battery_sha256"] for one in (first, second)]},
        provenance=first.provenance,
        payload=rows,
        tensors={"final": np.concatenate([x for x in norms if len(x)])} if any(len(x) for x in norms) else {},
    )


def split_norms(said: Result) -> tuple[np.ndarray, np.ndarray]:
    """The final norms of the open answers, and those of the answers to facts."""
    final = said.tensors.get("final", np.zeros((0, 0), np.float16))
    at = sum(len(row["ids"]) for row in said.payload["open"]) if len(final) else 0
    return final[:at], final[at:]


def choices(
    model: Model,
    facts: Sequence[Fact],
    prompts: Sequence[Sequence[int]],
    *,
    among: Sequence[Fact] = FACTS,
    tick: Tick = idle,
) -> list[tuple[str, bool, float]]:
    """For each fact, after the ids of its question and the beginning of a right sentence: the likeliest of the answers
    of its topic in `among`, whether it is right, and by how many nats (at least, where it is) the best right one is
    likelier than the best wrong one.

    An answer is scored whole: the sum of the log-probabilities of its tokens, and of its ending there (no letter or
    digit goes on with it), so that `1` is no answer where the model says `12`, and `Tun` none for Tunis. These are
    probabilities of events that exclude each other, so long answers and short ones are compared as they are,
    without dividing by a length. Tokens that all answers of a topic begin with count for none.
    """
    of_topic: dict[str, list[str]] = defaultdict(list)
    for fact in among:
        of_topic[fact.topic] += [word for word in fact.right if word not in of_topic[fact.topic]]
    begun: list[list[int]] = []  # the ids up to where the answers of the topic part
    rest: list[dict[str, list[int]]] = []
    for fact, prompt in zip(facts, prompts, strict=True):
        words = list(dict.fromkeys([*of_topic[fact.topic], *fact.right]))
        rows = [model.continued(f"{fact.stem} {word}") for word in words]
        same = common_prefix(rows) if len(rows) > 1 else len(rows[0]) - 1
        begun.append([*prompt, *rows[0][:same]])
        rest.append({word: list(row[same:]) for word, row in zip(words, rows, strict=True)})
    # no answer is likelier than its first token: what cannot be likelier than the best right one is not run
    bounds = _first(model, begun, rest, stretch(tick, 0.0, 0.4))
    scores: list[dict[str, float]] = [{} for _ in facts]
    for begin, end in ((0.4, 0.7), (0.7, 1.0)):
        pairs = [(i, w) for i, fact in enumerate(facts) for w in _worth(bounds[i], scores[i], fact.right)]
        found = _whole(model, [(begun[i], rest[i][word]) for i, word in pairs], stretch(tick, begin, end))
        for (i, word), value in zip(pairs, found, strict=True):
            scores[i][word] = value
    chosen = []
    for fact, score, bound in zip(facts, scores, bounds, strict=True):
        best = max(score, key=lambda word: score[word])
        wrong = max((score.get(w, bound[w]) for w in bound if w not in fact.right), default=float("-inf"))
        right = max(score[word] for word in score if word in fact.right)
        chosen.append((best, best in fact.right, right - wrong))
    return chosen


def _worth(bound: dict[str, float], score: dict[str, float], right: Sequence[str]) -> list[str]:
    """Which words have to be run: first the right ones, then those whose bound is above the best of these."""
    if not score:
        return [word for word in bound if word in right]
    best = max(score.values())
    return [word for word in bound if word not in score and bound[word] > best]


def _first(
    model: Model, begun: Sequence[list[int]], rest: Sequence[dict[str, list[int]]], tick: Tick
) -> list[dict[str, float]]:
    """The log-probability of the first token of each answer."""
    found: list[dict[str, float]] = [{} for _ in begun]
    for batch, final in finals(model, begun, [1] * len(begun), tick):
        for i, log in zip(batch, log_probabilities(model, final[:, -1]).cpu(), strict=True):
            found[i] = {word: float(log[ids[0]]) for word, ids in rest[i].items()}
    return found


def _whole(model: Model, rows: Sequence[tuple[list[int], list[int]]], tick: Tick) -> list[float]:
    """For (ids before, ids of an answer): the log-probability of the whole answer and of its ending there."""
    found = [0.0] * len(rows)
    inside = going_on(model)
    sizes = [len(answer) + 1 for _, answer in rows]
    for batch, final in finals(model, [[*before, *answer] for before, answer in rows], sizes, tick):
        for n, i in enumerate(batch):
            answer = rows[i][1]
            log = log_probabilities(model, final[n, -len(answer) - 1 :]).cpu()
            ends = log[-1].masked_fill(inside, float("-inf")).logsumexp(-1)
            found[i] = float(log[:-1].gather(1, torch.tensor(answer)[:, None]).sum() + ends)
    return found


def finals(
    model: Model, rows: Sequence[list[int]], last: Sequence[int], tick: Tick = idle
) -> Iterator[tuple[list[int], Tensor]]:
    """The final norms (row pos d_model) at the end of each row, in batches of rows of one length, with their numbers.

    last: how many positions at the end of each row are wanted; there are at least so many. What all rows begin with
    before that is run once.
    """
    if not rows:
        return
    begin, done = min(common_prefix(rows), *(len(row) - n for row, n in zip(rows, last, strict=True))), 0
    after = model.prefix(torch.tensor(rows[0][:begin])) if begin > 0 else None
    for batch in by_length([row[max(0, begin) :] for row in rows]):
        ids = torch.tensor([rows[i][max(0, begin) :] for i in batch], device=model.device)
        yield batch, model.run(ids, read=["final_norm"], logits=None, after=after).acts["final_norm"]
        done += len(batch)
        tick(done / len(rows))


def going_on(model: Model) -> Tensor:
    """Which tokens of the vocabulary go on with a word that stands before them, (d_vocab,)."""
    known = torch.zeros(model.parts.d_vocab, dtype=torch.bool)
    texts = model.vocabulary()[: len(known)]
    known[: len(texts)] = torch.tensor([text[:1].isalnum() for text in texts])
    return known


def is_right(text: str, right: Sequence[str]) -> bool:
    """Whether one of the accepted words stands in the text as a word, in any case of letters."""
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in right)


def battery_hash(questions: Sequence[Question], facts: Sequence[Fact]) -> str:
    """The hash of the questions asked, so that answers to other ones are not taken for these."""
    return hashlib.sha256(json.dumps([questions, facts]).encode()).hexdigest()
