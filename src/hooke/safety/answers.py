"""`answers`: what one model says to the battery, greedily: the material of all comparisons of behaviour."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hooke.arguments import checked
from hooke.data.battery import QUESTIONS, Question
from hooke.data.battery_facts import FACTS, Fact
from hooke.methods.progress import Clock, Progress, Tick, idle
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
    progress: Progress | None = None,
) -> Result:
    """The greedy answers of a model to the battery and to the questions of fact, and its choices among the answers of
    a topic after the beginning of a right sentence.

    open_tokens, fact_tokens: the length of an answer at most, in tokens.
    Returns a `Result` of kind "answers"; payload: open (area, question, prompt and ids as token ids, ended, text)
    and facts (topic, question, right, prompt, ids, ended, text, is_right, choice, choice_is_right, margin: the
    log-probability of the best right first token less that of the best wrong one, nats). tensors: final, the final
    norm before each token of all these answers (tokens, d_model), fp16.
    Raises HookeError for a model without a chat template.
    """
    clock = Clock(progress)
    open_rows: list[dict[str, Any]] = [{"area": q.area, "question": q.text} for q in questions]
    fact_rows: list[dict[str, Any]] = [
        {"topic": f.topic, "question": f.question, "right": list(f.right)} for f in facts
    ]
    finals = []
    for stage, rows, count in (("answers", open_rows, open_tokens), ("facts", fact_rows, fact_tokens)):
        prompts = [asked(model, row["question"]) for row in rows]
        with clock(stage) as tick:
            said = greedy(model, prompts, count, tick)
        for row, prompt, answer in zip(rows, prompts, said, strict=True):
            row.update(prompt=prompt, ids=answer.ids, ended=answer.ended, text=answer.text)
            finals.append(answer.final)
    with clock("choices") as tick:
        chosen = choices(model, facts, [row["prompt"] for row in fact_rows], among=facts, tick=tick)
    for row, (choice, right, margin) in zip(fact_rows, chosen, strict=True):
        row.update(is_right=is_right(row["text"], row["right"]), choice=choice, choice_is_right=right, margin=margin)
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
        tensors={"final": torch.cat(finals).to(torch.float16).cpu().numpy() if finals else np.zeros((0, 0))},
    )


def choices(
    model: Model,
    facts: Sequence[Fact],
    prompts: Sequence[Sequence[int]],
    *,
    among: Sequence[Fact] = FACTS,
    tick: Tick = idle,
) -> list[tuple[str, bool, float]]:
    """For each fact, after the ids of its question and the beginning of a right sentence: the likeliest first token
    among the right answers of its topic in `among`, whether it is right, and the margin over the best wrong one."""

    def first(word: str) -> int:
        return model.continued(" " + word)[0]

    of_topic: dict[str, dict[int, str]] = defaultdict(dict)
    for fact in among:
        for word in fact.right:
            of_topic[fact.topic].setdefault(first(word), word)
    rows = [[*prompt, *model.continued(fact.stem)] for fact, prompt in zip(facts, prompts, strict=True)]
    found: list[tuple[str, bool, float]] = [("", False, 0.0)] * len(facts)
    begin, done = common_prefix(rows), 0  # long where one question is asked with many words: it is run once
    after = model.prefix(torch.tensor(rows[0][:begin])) if begin else None
    tails = [row[begin:] for row in rows]
    for batch in by_length(tails):
        ids = torch.tensor([tails[i] for i in batch], device=model.device)
        final = model.run(ids, read=["final_norm"], logits=None, after=after).acts["final_norm"][:, -1]
        for i, log in zip(batch, log_probabilities(model, final), strict=True):
            words = of_topic[facts[i].topic]
            right = {first(word) for word in facts[i].right}
            best = max(words, key=lambda token: float(log[token]))
            wrong = [float(log[token]) for token in words if token not in right]
            margin = max(float(log[token]) for token in right) - max(wrong, default=float("-inf"))
            found[i] = (words[best], best in right, margin)
        done += len(batch)
        tick(done / len(rows))
    return found


def is_right(text: str, right: Sequence[str]) -> bool:
    """Whether one of the accepted words stands in the text as a word, in any case of letters."""
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in right)


def battery_hash(questions: Sequence[Question], facts: Sequence[Fact]) -> str:
    """The hash of the questions asked, so that answers to other ones are not taken for these."""
    return hashlib.sha256(json.dumps([questions, facts]).encode()).hexdigest()
