"""A clean and a corrupt prompt: their tokens lined up, the metric that tells them apart, and both of them run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hooke.arguments import argument
from hooke.errors import HookeError
from hooke.methods import metrics
from hooke.methods.asking import lookalikes
from hooke.methods.metrics import Metric, check_varies, evaluate, hardly_apart, rounding_of
from hooke.model import Model, Tokens
from hooke.model.model import Prompt
from hooke.model.recorded import Recorded, record
from hooke.sites import Site

NAMED = ("logit-difference", "log-probability", "logit", "probability", "kl", "accuracy")
OF_ONE = {"log-probability": metrics.log_probability, "logit": metrics.logit, "probability": metrics.probability}


@dataclass
class Pair:
    """Two prompts of one row. `clean_at[i]` and `corrupt_at[i]` are the positions that stand for each other."""

    clean: Tokens
    corrupt: Tokens  # the clean ones themselves where there is no corrupt prompt
    clean_at: Tensor
    corrupt_at: Tensor


def line_up(model: Model, clean: Prompt, corrupt: Prompt, *, align: bool | None = None) -> Pair:
    """The tokens of both prompts, position by position.

    align: prompts of different length are lined up by what they begin and end with in common; the tokens in
    between have no partner; None where the verb does not offer that. Raises HookeError, showing the tokens, for
    different lengths without it.
    """
    one, other = (model.one(prompt, "patching takes") for prompt in (clean, corrupt))
    a, b = one.ids[0], other.ids[0]
    if len(a) == len(b):
        if bool((a == b).all()):
            raise HookeError("the clean and the corrupt prompt are the same; change at least one token")
        at = torch.arange(len(a))
        return Pair(one, other, at, at)
    short = min(len(a), len(b))
    before = _common(a, b, short)
    after = min(_common(a.flip(0), b.flip(0), short), short - before)
    if not align:
        said = [
            "|".join(repr(piece)[1:-1] for piece in model.text(ids[before : len(ids) - after])) or "nothing"
            for ids in (a, b)
        ]
        hint = "" if align is None else ", or align what the prompts begin and end with (--align)"
        raise HookeError(
            f"the clean prompt has {len(a)} tokens and the corrupt one {len(b)}: they differ at {said[0]} against "
            f"{said[1]}; choose words of equal token length{hint}"
        )
    if not after:
        raise HookeError("the prompts do not end in the same token, so they cannot be aligned")
    where = [torch.cat([torch.arange(before), torch.arange(len(ids) - after, len(ids))]) for ids in (a, b)]
    return Pair(one, other, where[0], where[1])


def _common(a: Tensor, b: Tensor, most: int) -> int:
    """How many tokens two rows begin with in common."""
    different = (a[:most] != b[:most]).nonzero()
    return int(different[0]) if len(different) else most


TokenLike = str | int | Sequence[str | int]


@dataclass
class Question:
    """A metric with what it is about: ids of its tokens, if it was made of tokens."""

    metric: Metric
    target: list[int]
    contrast: list[int]

    def ids(self) -> dict[str, list[int]]:
        """Its tokens as the arguments of a result keep them."""
        return {"target": self.target, "contrast": self.contrast}


def question(
    model: Model,
    metric: str | Metric | None,
    target: TokenLike | None,
    contrast: TokenLike | None,
    clean: Tensor,
    corrupt: Tensor | None,
) -> Question:
    """The metric that was asked for, by name or as a callable; by default the logit difference.

    clean, corrupt: last logits (d_vocab,). Without a target, it is the clean prediction; without a contrast, the
    corrupt prediction. Raises HookeError where these are the same, or for an unknown name.
    """
    if not all(bool(torch.isfinite(x).all()) for x in (clean, corrupt) if x is not None):
        raise HookeError(
            f"{model.name} gives logits that are not finite; load it with another dtype, or mend its weights"
        )
    if callable(metric):
        if target is not None or contrast is not None:
            raise HookeError("a metric that is a function has its own tokens; leave target and contrast out")
        return Question(metric, [], [])
    name = "logit-difference" if metric is None else metric
    if name not in NAMED:
        raise HookeError(f"no metric called {name!r}; there are {', '.join(NAMED)}")
    if name == "kl":
        if target is not None or contrast is not None:
            raise HookeError("the metric kl compares whole predictions; leave target and contrast out")
        return Question(metrics.kl(clean), [], [])
    good = ids_of(model, target) if target is not None else [int(clean.argmax())]
    if name in OF_ONE and contrast is None:
        return Question(OF_ONE[name](good), good, [])
    if contrast is not None:
        bad = ids_of(model, contrast)
    elif corrupt is None:
        raise HookeError("say which token the target is compared with (contrast), or give a corrupt prompt")
    else:
        bad = [int(corrupt.argmax())]
    if both := set(good) & set(bad):
        said = repr(model.text([min(both)])[0])
        if target is None and contrast is None:
            raise HookeError(
                f"both prompts are answered with {said}; say which tokens tell them apart (--target, --contrast)"
            )
        raise HookeError(f"{said} is both target and contrast; name another contrast")
    if name in ("logit", "log-probability"):
        raise HookeError(f"the metric {name} takes no contrast; use logit-difference")
    made = {
        "logit-difference": metrics.logit_difference,
        "probability": metrics.probability,
        "accuracy": metrics.accuracy,
    }[name]
    return Question(made(good, bad), good, bad)


class Side(NamedTuple):
    """One prompt of a pair: its run, the positions that have a partner in the other one, and its metric."""

    run: Recorded
    at: Tensor
    value: float


@dataclass(frozen=True)
class Case:
    """A pair that was run. base: the side that is patched; other: the one whose values it gets.

    rounding: what the metric may move by though nothing is changed.
    """

    clean: Side
    corrupt: Side
    base: Side
    other: Side
    asked: Question
    rounding: float

    @property
    def denoises(self) -> bool:
        """Whether the corrupt run gets clean values, and not the reverse."""
        return self.base is self.corrupt

    @property
    def span(self) -> float | None:
        """How far the metric is from the base to the other prompt; None where there is no corrupt prompt."""
        return None if self.corrupt.run is self.clean.run else self.other.value - self.base.value

    def notes(self, model: Model, most: float = 0.0) -> list[str]:
        """Lines for a reader: tokens that may not be meant, and prompts that hardly differ. most: the largest change
        that a patch made."""
        found = lookalikes(model, [*self.asked.target, *self.asked.contrast], self.clean.run.logits)
        return found if self.span is None else found + hardly_apart(self.span, self.rounding, most)


def check_direction(direction: str) -> None:
    """Raise HookeError for a direction that there is not."""
    if direction not in ("denoise", "noise"):
        raise HookeError(f"no direction called {direction!r}; use 'denoise' or 'noise'")


def run_pair(
    model: Model,
    pair: Pair,
    reads: Sequence[Site],
    metric: str | Metric | None,
    target: TokenLike | None,
    contrast: TokenLike | None,
    direction: str,
) -> Case:
    """Both prompts run, with what is read of each. Raises HookeError for a metric by which they are the same."""
    alone = pair.corrupt is pair.clean
    good = record(model, pair.clean, reads)
    bad = good if alone else record(model, pair.corrupt, reads)
    asked = question(model, metric, target, contrast, good.logits, None if alone else bad.logits)
    values = evaluate(asked.metric, torch.stack([good.logits, bad.logits])).tolist()
    if not alone:
        check_varies(asked.metric, *values)
    least = rounding_of(asked.metric, good.logits, model.dtype, max(map(abs, values)))
    one, two = Side(good, pair.clean_at, values[0]), Side(bad, pair.corrupt_at, values[1])
    base, other = (two, one) if direction == "denoise" else (one, two)
    return Case(one, two, base, other, asked, least)


def ids_of(model: Model, tokens: TokenLike, *, exact: bool = False) -> list[int]:
    """Ids of one or several tokens given as texts or ids. exact: texts out of data, which mean what they say."""
    tokens = argument("a target or contrast", tokens, TokenLike)
    several = [tokens] if isinstance(tokens, (str, int)) else list(tokens)
    ids: list[int] = []
    for token in several:
        found = model.single(token) if exact and isinstance(token, str) else None
        ids.append(model.token(token) if found is None else found)
    if not ids:
        raise HookeError("the target or contrast is an empty list; name at least one token, or leave it out")
    return ids


def named(model: Model, ids: Sequence[int]) -> dict[str, Any] | None:
    """A token for a result: its text and id; of several the first, with how many there are."""
    if not ids:
        return None
    return {"token": model.text([ids[0]])[0], "id": ids[0], **({"of": len(ids)} if len(ids) > 1 else {})}


def texts_of(model: Model, tokens: Tokens) -> list[str]:
    """The tokens of one row as texts, or as numbers where there is no tokenizer."""
    return model.text(tokens.ids[0])
