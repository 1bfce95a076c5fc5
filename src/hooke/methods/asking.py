"""What is asked of a model: a chat question with the answer as far as it matters, and how prompts are recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hooke.arguments import checked
from hooke.errors import HookeError
from hooke.model import Model, Tokens
from hooke.model.model import Prompt
from hooke.model.prompts import is_chat

LONGEST = 48  # tokens of an answer that are looked at
LIKELY, MUCH = 0.01, 10.0  # when the same word with another space is what a person may have meant


@dataclass(frozen=True)
class Asked:
    """A chat question, the model's answer, and the prompt that ends where one token of it is chosen.

    tokens: the prompt. answer: the ids of the whole answer. which: the token that comes next, counted from 1.
    """

    question: str
    system: str | None
    answer: tuple[int, ...]
    which: int
    tokens: Tokens

    @property
    def next(self) -> int:
        """The id of the token that the model says next."""
        return self.answer[self.which - 1]

    def at(self, which: int) -> Asked:
        """The same, ending before another token of the answer."""
        if not 1 <= which <= len(self.answer):
            raise HookeError(f"the answer has {len(self.answer)} tokens; token {which} is past its end")
        start = self.tokens.ids.shape[1] - (self.which - 1)
        head = Tokens(self.tokens.ids[:, :start], self.tokens.mask[:, :start])
        return Asked(self.question, self.system, self.answer, which, _longer(head, self.answer[: which - 1]))


@checked
def ask(model: Model, question: str, *, system: str | None = None, which: int = 1) -> Asked:
    """Let a model answer a question greedily; what comes back is a prompt for `trace` and the other verbs.

    system: a message before the question. which: the token of the answer that comes next, counted from 1.
    Raises HookeError for a question that fills the context, a template that takes no system message, or a token past
    the end of the answer.
    """
    prompt = model.chat(question, system=system)
    room = model.parts.context - prompt.ids.shape[1]
    if room < 1:
        raise HookeError("the question fills the model's context; shorten it")
    answer = model.generate(prompt, max_new_tokens=min(LONGEST, room)).tokens[0].tolist()
    return Asked(question, system, tuple(answer), 1, prompt).at(which)


def like(model: Model, asked: Asked, question: str) -> Tokens:
    """Another question with the same system message, followed by the same beginning of an answer."""
    return _longer(model.chat(question, system=asked.system), asked.answer[: asked.which - 1])


def is_one(prompt: Any) -> bool:
    """Whether this is one prompt by itself, in any form, and not a list of prompts."""
    if isinstance(prompt, (str, Tokens, Asked, Mapping)) or is_chat(prompt):
        return True
    if isinstance(prompt, (list, tuple)):
        return bool(prompt) and all(getattr(each, "shape", None) == () or isinstance(each, int) for each in prompt)
    texts = getattr(getattr(prompt, "dtype", None), "kind", "") == "U"  # an array of them
    return getattr(prompt, "ndim", 1) <= (0 if texts else 1)


def several(prompts: Any) -> list[Any]:
    """One or several prompts as a list; of none, an empty one."""
    if prompts is None:
        return []
    return [prompts] if is_one(prompts) else list(prompts)


def recorded(model: Model, prompt: Prompt, tokens: Tokens, name: str = "prompt") -> dict[str, Any]:
    """A prompt as the arguments of a result keep it: its text, the ids that ran, and what was asked of a chat."""
    ids = tokens.ids[0].tolist()
    text = prompt if isinstance(prompt, str) else model.said(ids)
    kept: dict[str, Any] = {name: text, f"{name}_ids": ids}
    if isinstance(prompt, Asked):
        chat = {"question": prompt.question, "system": prompt.system, "answer": model.said(prompt.answer)}
        kept["chat"] = chat | {"answer_ids": list(prompt.answer), "answer_token": prompt.which}
    return kept


def data_hash(value: Any) -> str:
    """The hash of plain data, for arguments that are too long to be kept whole."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def lookalike(model: Model, token: int, probabilities: Tensor) -> str | None:
    """A line for a reader whose token is unlikely where the same word with a space, or without one, is not.

    probabilities: of the next token, (d_vocab,).
    """
    text = model.text([token])[0]
    other = model.single(text[1:] if text.startswith(" ") else f" {text}") if model.tokenizer is not None else None
    if other is None or other == token:
        return None
    own, its = float(probabilities[token]), float(probabilities[other])
    if its < LIKELY or its < MUCH * own:
        return None
    said = model.text([other])[0]
    return f"{said!r} (id {other}) is another token than {text!r} and has {its:.1%}, not {own:.2%}; did you mean it?"


def lookalikes(model: Model, tokens: Sequence[int], logits: Tensor) -> list[str]:
    """`lookalike` of several tokens. logits: of the next token, (d_vocab,)."""
    probabilities = logits.float().softmax(-1)
    return [line for token in dict.fromkeys(tokens) if (line := lookalike(model, token, probabilities))]


def _longer(prompt: Tokens, ids: tuple[int, ...]) -> Tokens:
    more = torch.tensor([ids], dtype=torch.long, device=prompt.ids.device).reshape(1, len(ids))
    whole = torch.cat([prompt.ids, more], 1)
    return Tokens(whole, torch.ones_like(whole, dtype=torch.bool))
