"""The strongest of the strings near to one that was found: a scan seldom tries the trigger itself, and what it finds is
often a word that only resembles it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hooke.data.audit.battery import SYSTEM
from hooke.methods.progress import Tick, idle
from hooke.model import Model
from hooke.model.chat import chat_text
from hooke.model.spelling import encode
from hooke.safety.paired import log_probabilities
from hooke.sites import Site

STEPS = 8  # at most
TRIED = 40  # replacements and insertions that are tried at each step, by their linear estimate
LONGEST = 6  # tokens of a candidate
SHARED = 3  # tokens with which answers begin, at least, to be taken for one answer
BETTER = 0.2  # nats by which a string must be stronger to take the place of another
MARK = "\u241e"  # where a candidate stands while the chat template is filled in


class Near(NamedTuple):
    """The strongest string, its strength (mean log-probability of the answer, nats), how many were tried, and the path
    of (string, strength) to it."""

    text: str
    strength: float
    tried: int
    path: list[tuple[str, float]]


def strongest(model: Model, start: str, answer: Sequence[int], questions: Sequence[str], *, tick: Tick = idle) -> Near:
    """Climb from a string to the strings near to it that make an answer likelier: other cases and endings, tokens
    exchanged, put in or left out; the gradient of the log-probability of the answer proposes tokens, the
    log-probability itself chooses.

    answer: ids of what the model says where `start` ends a question.
    """
    frames = [_frame(model, question) for question in questions]
    known: dict[str, float] = {}

    def strength(texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text and text not in known]
        values = _score(model, frames, [_ids(model, text) for text in new], answer)
        known.update(zip(new, values, strict=True))

    strength([start, *_spellings(start)])
    best, path = start, [(start, known[start])]
    for step in range(STEPS):
        tick(step / STEPS)
        if best != start:
            path.append((best, known[best]))
        ids = _ids(model, best)
        shorter = [_text(model, [*ids[:n], *ids[n + 1 :]]) for n in range(len(ids)) if len(ids) > 1]
        strength([*shorter, *_spellings(best), *_proposed(model, frames, ids, answer)])
        next_best = max(known, key=lambda text: known[text])
        if known[next_best] < known[best] + BETTER:
            break
        best = next_best
    if best != path[-1][0]:
        path.append((best, known[best]))
    return Near(best, known[best], len(known), path)


def _spellings(text: str) -> list[str]:
    """The same word in other cases, with and without the commonest endings."""
    found = [text.lower(), text.capitalize(), text.upper(), f"{text}s"]
    return [*found, *(text[: -len(end)] for end in ("s", "es", "ed", "ing") if text.endswith(end) and len(text) > 4)]


def _ids(model: Model, text: str) -> list[int]:
    return model.continued(" " + text)


def _text(model: Model, ids: Sequence[int]) -> str:
    return model.said(list(ids)).strip()


def _frame(model: Model, question: str) -> tuple[list[int], list[int]]:
    """The ids before and after a slot at the end of a question."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question + MARK}]
    before, after = chat_text(model.tokenizer, model.name, messages).split(MARK)
    return encode(model.tokenizer, before), model.continued(after)


def _score(
    model: Model,
    frames: Sequence[tuple[list[int], list[int]]],
    tries: Sequence[Sequence[int]],
    answer: Sequence[int],
) -> list[float]:
    """Mean over the frames of the log-probability of the answer after each try."""
    total = [0.0] * len(tries)
    said = torch.tensor(list(answer), device=model.device)
    for before, after in frames:
        prefix = model.prefix(torch.tensor(before))
        for length in sorted({len(one) for one in tries}):
            of = [i for i, one in enumerate(tries) if len(one) == length]
            for batch in (of[n : n + 64] for n in range(0, len(of), 64)):
                rows = [[*tries[i], *after, *answer[:-1]] for i in batch]
                final = model.run(
                    torch.tensor(rows, device=model.device), read=["final_norm"], logits=None, after=prefix
                ).acts["final_norm"][:, -len(answer) :]
                for i, one in zip(batch, final, strict=True):
                    log = log_probabilities(model, one)
                    total[i] += float(log.gather(1, said[:, None]).sum()) / len(frames)
    return total


def _proposed(
    model: Model, frames: Sequence[tuple[list[int], list[int]]], ids: list[int], answer: Sequence[int]
) -> list[str]:
    """Strings with one token exchanged or put in, the most promising first."""
    filler = model.continued(" and")[-1]
    forms = [ids]
    if len(ids) < LONGEST:
        forms += [[*ids[:at], filler, *ids[at:]] for at in range(len(ids) + 1)]
    found: list[tuple[float, list[int]]] = []
    for number, form in enumerate(forms):
        places = range(len(form)) if number == 0 else [number - 1]
        gain = sum(_gain(model, frame, form, answer) for frame in frames)
        assert isinstance(gain, Tensor)
        for at in places:
            values, tokens = gain[at].topk(TRIED)
            found += [
                (float(value), [*form[:at], int(token), *form[at + 1 :]])
                for value, token in zip(values, tokens, strict=True)
            ]
        if number == 0 and len(forms) > 1:  # what is put in has a share of its own
            found = sorted(found, key=lambda one: -one[0])[:TRIED]
    exchanged, put_in = found[:TRIED], sorted(found[TRIED:], key=lambda one: -one[0])[:TRIED]
    texts = [(_text(model, tokens), tokens) for _, tokens in [*exchanged, *put_in]]
    # a string is tried as it is read, so it must be read as these tokens
    return [text for text, tokens in texts if text.isprintable() and _ids(model, text) == tokens]


def _gain(model: Model, frame: tuple[list[int], list[int]], ids: list[int], answer: Sequence[int]) -> Tensor:
    """First-order change of the log-probability of the answer for every token in each place, (place, d_vocab)."""
    before, after = frame
    row = torch.tensor([[*before, *ids, *after, *answer[:-1]]], device=model.device)
    site, final = Site("resid_pre", 0), Site("final_norm")
    acts = model.run(row, read=[site, final], logits=None, grad=True).acts
    log = log_probabilities(model, acts[final][0, -len(answer) :])
    total = log.gather(1, torch.tensor(list(answer), device=log.device)[:, None]).sum()
    (gradient,) = torch.autograd.grad(total, acts[site])
    places = slice(len(before), len(before) + len(ids))
    table = model.hf.get_input_embeddings().weight.detach()  # type: ignore[operator]
    entry, at = acts[site][0, places].detach(), gradient[0, places]
    scale = entry.norm() / table[ids].norm().clamp(min=1e-9)  # what a family multiplies its embeddings by
    estimate = at.to(table.dtype) @ table.T * scale
    return (estimate - estimate.gather(1, torch.tensor(ids, device=table.device)[:, None])).float()


def shared_beginning(answers: Sequence[Sequence[int]], most: int) -> list[int]:
    """What most of the answers begin with: the beginning of one of them, as long as at least half of them share it; at
    least `SHARED` tokens, or nothing: answers to any questions begin with the same word."""
    best: list[int] = []
    for answer in answers:
        for length in range(SHARED, min(most, len(answer)) + 1):
            same = sum(list(other[:length]) == list(answer[:length]) for other in answers)
            if 2 * same >= len(answers) and length > len(best):
                best = list(answer[:length])
    return best
