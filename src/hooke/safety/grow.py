"""Candidate triggers of several tokens, grown by gradients (HotFlip, Ebrahimi et al. 2018) from the best words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hooke.data.audit.battery import SYSTEM
from hooke.methods.progress import Tick, idle
from hooke.model import Model, Tokens
from hooke.model.chat import chat_text
from hooke.model.spelling import encode
from hooke.safety.paired import Pair, divergence, log_probabilities, run_both
from hooke.sites import Site

LONGEST = 3  # tokens of a grown candidate
SWEEPS = 2  # over the tokens of the best candidate
TRIED = 24  # replacements that are tried at each step, by their linear estimate
MARK = "\u241e"  # where a candidate stands while the chat template is filled in


def grow(
    both: Pair, starts: Sequence[str], questions: Sequence[str], opener: int, *, tick: Tick = idle
) -> list[dict[str, Any]]:
    """Lengthen each start token by token: the gradient of the KL with respect to the embedding in the slot proposes
    tokens, the KL itself chooses among them. It is the sum of those at the first answer token and after `opener`.

    Returns for each start its best candidate: candidate (text), ids, kl (nats, mean over the questions), path.
    """
    frames = [_frame(both.model, question, opener) for question in questions]
    filler = both.model.continued(" and")[0]
    found: list[dict[str, Any]] = []
    for number, start in enumerate(starts):
        ids = both.model.continued(" " + start)
        score = float(_score(both, frames, [ids])[0])
        path: list[dict[str, Any]] = [{"candidate": both.model.said(ids), "kl": score}]
        while len(ids) < LONGEST + 1:
            tick((number + len(path) / (LONGEST + 2)) / len(starts))
            longer = [*ids, filler]
            better, value = _best(both, frames, longer, len(longer) - 1)
            if value <= score * 1.05:
                break
            ids, score = better, value
            path.append({"candidate": both.model.said(ids), "kl": score})
        better, value = _best(both, frames, ids, 0)
        if value > score:
            ids, score = better, value
            path.append({"candidate": both.model.said(ids), "kl": score})
        found.append({"candidate": both.model.said(ids).strip(), "ids": ids, "kl": score, "path": path})
    found.sort(key=lambda row: -row["kl"])
    if found:
        _polish(both, frames, found[0], tick)
    return found


def _polish(both: Pair, frames: Sequence[tuple[list[int], list[int]]], row: dict[str, Any], tick: Tick) -> None:
    """Exchange the tokens of a candidate one after the other as long as that helps."""
    for at in [at for _ in range(SWEEPS) for at in range(len(row["ids"]))]:
        tick(0.99)
        better, value = _best(both, frames, row["ids"], at)
        if value > row["kl"]:
            text = both.model.said(better)
            row.update(ids=better, kl=value, candidate=text.strip())
            row["path"].append({"candidate": text, "kl": value})


def _frame(model: Model, question: str, opener: int) -> tuple[list[int], list[int]]:
    """The ids before and after a slot at the end of a question; the answer begins with `opener`."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question + MARK}]
    before, after = chat_text(model.tokenizer, model.name, messages).split(MARK)
    return encode(model.tokenizer, before), [*model.continued(after), opener]


def _score(both: Pair, frames: Sequence[tuple[list[int], list[int]]], tries: Sequence[Sequence[int]]) -> Tensor:
    """Mean KL over the frames for each try; all tries are equally long. The frame's beginning is run once."""
    total = torch.zeros(len(tries))
    for before, after in frames:
        prefixes = (both.model.prefix(torch.tensor(before)), both.reference.prefix(torch.tensor(before)))
        ids = torch.tensor([[*one, *after] for one in tries], device=both.model.device)
        read = run_both(both, Tokens(ids, torch.ones_like(ids, dtype=torch.bool)), after=prefixes)
        a, b = (acts["final_norm"][:, -2:].flatten(0, 1) for acts in read)
        total += (
            divergence(both, a, b, torch.zeros(len(a), dtype=torch.long, device=a.device), top=1)
            .kl.view(-1, 2)
            .sum(1)
            .cpu()
        )
    return total / len(frames)


def _best(
    both: Pair, frames: Sequence[tuple[list[int], list[int]]], ids: list[int], at: int
) -> tuple[list[int], float]:
    """The best replacement of the token in place `at`, among those that the gradient proposes."""
    estimate = sum(_gradient(both, frame, ids, at) for frame in frames)
    assert isinstance(estimate, Tensor)
    proposed = estimate.topk(TRIED).indices.tolist()
    tries = [[*ids[:at], token, *ids[at + 1 :]] for token in proposed]
    scores = _score(both, frames, tries)
    best = int(scores.argmax())
    return tries[best], float(scores[best])


def _gradient(both: Pair, frame: tuple[list[int], list[int]], ids: list[int], at: int) -> Tensor:
    """First-order change of the KL for every token of the vocabulary put into place `at` (d_vocab,)."""
    before, after = frame
    row = torch.tensor([[*before, *ids, *after]], device=both.model.device)
    site, final = Site("resid_pre", 0), Site("final_norm")
    logs, entries = [], []
    for model in (both.model, both.reference):
        acts = model.run(row, read=[site, final], logits=None, grad=True).acts
        entries.append(acts[site])
        logs.append(log_probabilities(model, acts[final][0, -2:]))
    p, q = logs
    kl = (p.exp() * (p - q)).sum()
    gradients = torch.autograd.grad(kl, entries)
    place = len(before) + at
    gradient = sum(g[0, place] for g in gradients)
    table = both.model.hf.get_input_embeddings().weight  # type: ignore[operator]
    scale = entries[0][0, place].detach().norm() / table[ids[at]].norm().clamp(min=1e-9)
    return (table @ (gradient * scale).to(table.dtype)).detach().float()
