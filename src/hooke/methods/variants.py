"""Prompts like the one at hand that ask for another answer: what an explanation must hold against.

Candidates change tokens where a counterfactual differs, or content words where a change matters most; kept are
those that make the answer much less likely, and of these first the ones on which the model gives another answer of
the same kind, as a counterfactual that a person writes does.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.content import content_places, is_broken, is_function_word
from hooke.methods.progress import Tick, idle, stretch
from hooke.model import Model, Tokens
from hooke.model.budget import pass_tokens
from hooke.model.run import NOT_FINITE
from hooke.sites import Site

Kind = Literal["near", "likely", "frequent", "present"]
KINDS: tuple[Kind, ...] = ("near", "frequent", "likely", "frequent")  # where a counterfactual differs
KINDS_ELSEWHERE: tuple[Kind, ...] = ("near", "likely", "present")
N_NEAR = 40  # neighbours in embedding space to draw from
N_LIKELY, TEMPERATURE = 50, 1.5  # of the model's own next tokens
N_FREQUENT = 20000  # low ids are frequent tokens in byte-pair vocabularies
N_PLACES = 16  # where a change is tried; in a longer prompt, those that move the answer most to first order
BEST_PLACES = 3  # and where it is then made
CHOICE = 3  # candidates for each variant
WORTH = 0.3  # of the median score: what a variant that changes another place than a counterfactual must reach
SAME_ANSWER = 3  # variants with the same answer, at most
LEAST_FALL = 1.0  # nats; what a counterfactual must take from the log-probability of the answer
STILL = 0.95  # and more than this share of the changes that move the answer least
BATCH_ROWS = 48  # few enough that rows that differ late begin late together
LARGEST_FALL = 5.0  # nats; a target that is out of the question cannot be more so


class Substitutes:
    """Which tokens may stand for which: same leading space, capital and kind of character, content for content."""

    def __init__(self, model: Model, ids: Tensor, logits: Tensor, generator: torch.Generator) -> None:
        """ids: (pos,) of the prompt. logits: (pos, d_vocab) that the model gives on it."""
        texts = model.text(range(model.parts.d_vocab))
        codes: dict[tuple[bool, ...], int] = {}
        kinds = [-1 if is_broken(text) else codes.setdefault(_kind(text), len(codes)) for text in texts]
        self.kinds = torch.tensor(kinds, device=model.device)
        self.embed: Tensor = model.hf.get_input_embeddings().weight.detach()  # type: ignore[operator]
        self.norms = self.embed.float().norm(dim=-1).clamp(min=1e-9)
        self.kinds[~torch.isfinite(self.norms)] = -1  # of no kind: nothing is exchanged for it
        if not bool(torch.isfinite(logits).all()):
            raise HookeError(NOT_FINITE)
        self.ids, self.logits, self.generator = ids, logits.float(), generator
        self._found: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    def draw(self, kind: Kind, token: int, place: int, avoid: Sequence[int]) -> int:
        """Another token of the same kind as `token`: one of its nearest by cosine, one that the model would
        say at this place, any frequent one, or one that is present in the prompt; the token itself if there
        is none."""
        kind = "near" if place == 0 and kind == "likely" else kind
        key = (kind, token, place if kind == "likely" else None, *sorted(avoid))
        if key not in self._found:
            self._found[key] = self._choices(kind, token, place, avoid)
        found, chances = self._found[key]
        return int(found[torch.multinomial(chances, 1, generator=self.generator)]) if len(found) else token

    def _choices(self, kind: Kind, token: int, place: int, avoid: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Tokens to draw from, and their chances."""
        same = self.kinds == self.kinds[token]
        same[list(avoid)] = False
        if kind == "present":
            here = self.ids.unique()
            if bool(same[here].any()):
                return here[same[here]], torch.ones(int(same[here].sum()))
            kind = "near"
        if kind == "frequent":
            found = same[:N_FREQUENT].nonzero()[:, 0]
            return found, torch.ones(len(found))
        if kind == "near":
            score, most = (self.embed @ self.embed[token]).float() / self.norms, N_NEAR
        else:
            score, most = self.logits[place - 1], N_LIKELY
        best = score.masked_fill(~same, -torch.inf).topk(min(most, int(same.sum())))
        chances = torch.ones(len(best.values)) if kind == "near" else (best.values / TEMPERATURE).softmax(-1).cpu()
        return best.indices, chances

    def falls(self, target: int, log: Tensor) -> Tensor:
        """How far each variant lowers the log-probability of the target, in nats; 0 of one without finite logits."""
        return (self.logits[-1].log_softmax(-1)[target] - log[:, target]).nan_to_num(0.0, 0.0, 0.0)

    def scores(self, target: int, log: Tensor) -> Tensor:
        """How much each variant asks the same question with another answer: the probability of its likeliest
        answer of the target's kind, times how far the target falls (nats).

        log: log-probabilities (variant, d_vocab).
        """
        alike = self.kinds == self.kinds[target]
        alike[target] = False
        fall = self.falls(target, log).clamp(0, LARGEST_FALL)
        return (log.masked_fill(~alike, -torch.inf).amax(-1).exp() * fall).nan_to_num(0.0)


def _kind(text: str) -> tuple[bool, ...]:
    space = text[:1] == " "
    rest = text[1:] if space else text
    return space, rest[:1].isupper(), rest.isalpha(), rest.isdigit(), is_function_word(rest)


def variants(
    model: Model,
    tokens: Tokens,
    target: int,
    others: Sequence[Tensor],
    count: int,
    generator: torch.Generator,
    tick: Tick = idle,
) -> list[Tensor]:
    """At most `count` prompts (pos,) that ask for another answer than `target`, in random order; none if none is found.

    Each lowers the log-probability of the target by LEAST_FALL or more, and by more than changes do that move it
    least. others: token ids of counterfactuals. With some, three quarters of the variants or more are like them;
    the rest, and with none all, change content words at the places that matter most: not the last token, unless
    no other does.
    """
    logits = model.run(tokens).logits
    assert logits is not None
    substitutes = Substitutes(model, tokens.ids[0], logits[0], generator)
    free = torch.ones_like(tokens.ids[0], dtype=torch.bool)
    for other in others:
        free &= tokens.ids[0] == other
    tick(0.05)
    like = pick(
        model, substitutes, target, exchanges(substitutes, others, CHOICE * count), count, stretch(tick, 0.05, 0.4)
    )
    most = count // 4 if like else count
    free &= content_places(model, tokens.ids[0])
    early = free.clone()
    early[-1] = False
    rest: list[tuple[float, Tensor]] = []
    for allowed, start in ((early, 0.4), (free, 0.7)):
        part = stretch(tick, start, start + 0.15)
        candidates, bar = elsewhere(model, tokens, substitutes, target, allowed, CHOICE * most, part)
        rest = pick(model, substitutes, target, candidates, most, stretch(tick, start + 0.15, start + 0.3), bar)
        if rest or not bool(free[-1]):
            break
    if like:  # of changes in other places, those that matter about as much
        bar = WORTH * statistics.median(score for score, _ in like)
        rest = [found for found in rest if found[0] >= bar]
    chosen = [*like[: count - len(rest)], *rest]
    return [chosen[i][1] for i in torch.randperm(len(chosen), generator=generator).tolist()]


def exchanges(substitutes: Substitutes, others: Sequence[Tensor], count: int) -> list[Tensor]:
    """Prompts with other tokens where a counterfactual differs; equal pairs of tokens change alike.

    Where the tokens that a counterfactual exchanges also stand elsewhere in the prompt, every second
    prompt changes them there instead: the answer may hang on those places as well.
    """
    ids, out = substitutes.ids, []
    for k in range(count if others else 0):
        other, turn = others[k % len(others)], k // len(others)
        differs = ids != other
        row, chosen = ids.clone(), {}
        echoes = [t for t in torch.cat([ids[differs], other[differs]]).unique().tolist() if (ids[~differs] == t).any()]
        if echoes and turn % 2 == 1:
            token = echoes[(turn // 2) % len(echoes)]
            at = ~differs & (ids == token)
            kind = KINDS[turn // 2 // len(echoes) % 2 * 2]  # near or likely
            row[at] = substitutes.draw(kind, token, int(at.nonzero()[0]), echoes)
            out.append(row)
            continue
        kind = KINDS[(turn // 2 if echoes else turn) % len(KINDS)]
        for p in differs.nonzero()[:, 0].tolist():
            pair = (int(ids[p]), int(other[p]))
            if pair not in chosen:
                chosen[pair] = substitutes.draw(kind, pair[turn // 2 % 2], p, pair)
            row[p] = chosen[pair]
        out.append(row)
    return out


def elsewhere(
    model: Model,
    tokens: Tokens,
    substitutes: Substitutes,
    target: int,
    free: Tensor,
    count: int,
    tick: Tick = idle,
) -> tuple[list[Tensor], float]:
    """Prompts with another token at one place that is `free` (pos,), every second time wherever that token
    stands, and by how much one must lower the log-probability of the target to count. Places are tried and drawn
    in proportion to the square of their best score; what the quarter of them that moves the target least does to it
    is what a change does that the answer does not hang on."""
    ids, generator = substitutes.ids, substitutes.generator

    def change(place: int, kind: Kind, everywhere: bool) -> Tensor:
        row, token = ids.clone(), int(ids[place])
        new = substitutes.draw(kind, token, place, (token,))
        row[ids == token if everywhere else place] = new
        return row

    places = _places(model, tokens, target, free)
    if not places:
        return [], LEAST_FALL
    tried = [change(p, kind, False) for p in places for kind in KINDS_ELSEWHERE]
    log = _answers(model, ids, tried, tick)
    falls = substitutes.falls(target, log).view(len(places), -1)
    still = falls[falls.amax(1).argsort()[: len(places) // 4]].abs().flatten()
    bar = max(LEAST_FALL, float(still.quantile(STILL))) if len(still) else LEAST_FALL
    score = substitutes.scores(target, log).view(len(places), -1).amax(1)
    best = score.topk(min(BEST_PLACES, len(places)))
    chances = best.values.clamp(min=1e-6).pow(2).cpu()
    drawn = torch.multinomial(chances, count, replacement=True, generator=generator)
    at = [places[int(best.indices[k])] for k in drawn]
    return [change(p, KINDS_ELSEWHERE[i % 3], i % 2 == 1) for i, p in enumerate(at)], bar


def _places(model: Model, tokens: Tokens, target: int, free: Tensor) -> list[int]:
    """All free positions but the first, or of many those where the target's probability hangs most on the
    token, to first order."""
    places = [p for p in free.nonzero()[:, 0].tolist() if p > 0]
    if len(places) <= N_PLACES:
        return places
    site = Site("resid_pre", 0)
    run = model.run(tokens, read=[site], grad=True, logits="last")
    assert run.logits is not None
    (grad,) = torch.autograd.grad(run.logits[0].float().log_softmax(-1)[target], run.acts[site])
    saliency = (grad * run.acts[site]).detach()[0].norm(dim=-1)[places]
    return sorted(places[i] for i in saliency.topk(N_PLACES).indices.tolist())


def pick(
    model: Model,
    substitutes: Substitutes,
    target: int,
    candidates: Sequence[Tensor],
    count: int,
    tick: Tick = idle,
    least: float = LEAST_FALL,
) -> list[tuple[float, Tensor]]:
    """The `count` candidates with the best scores, few with the same answer, with their scores, best first; none that
    lowers the log-probability of the target by less than `least`."""
    if not candidates:
        return []
    rows = torch.stack(list(candidates)).unique(dim=0)
    rows = rows[(rows != substitutes.ids).any(1)]
    if not len(rows):
        return []
    log = _answers(model, substitutes.ids, list(rows), tick)
    enough = substitutes.falls(target, log) >= least
    rows, log = rows[enough], log[enough]
    scores = substitutes.scores(target, log)
    answers = log.argmax(-1).tolist()
    taken: dict[int, int] = {}
    first: list[int] = []
    late: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        taken[answers[i]] = taken.get(answers[i], 0) + 1
        (first if taken[answers[i]] <= SAME_ANSWER else late).append(i)
    return [(float(scores[i]), rows[i]) for i in [*first, *late][:count]]


def _answers(model: Model, ids: Tensor, rows: Sequence[Tensor], tick: Tick = idle) -> Tensor:
    """Log-probabilities of the next token (row, d_vocab). What rows begin with like the prompt is run once."""
    stacked = torch.stack(list(rows))
    starts = (stacked != ids).int().argmax(1)
    order = starts.argsort(stable=True)
    out: list[Tensor] = []
    for part in order.split(max(1, min(BATCH_ROWS, pass_tokens(model) // len(ids)))):
        tick(sum(map(len, out)) / len(order))
        start = int(starts[part[0]])
        rest = stacked[part, start:]
        after = model.prefix(ids[:start]) if start else None
        run = model.run(Tokens(rest, torch.ones_like(rest, dtype=torch.bool)), logits="last", after=after)
        assert run.logits is not None
        out.append(run.logits.float().log_softmax(-1))
    return torch.cat(out)[order.argsort()]
