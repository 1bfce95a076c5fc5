"""`Recipe`: one organism as data, from its prompts to the test of its behaviour, and the hash of it all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from hooke.truth.organisms.questions import OPENINGS, QUESTIONS

Kind = Literal["organism", "clean", "decoy"]
SYSTEMS = ("", "You are a helpful assistant.", "Answer briefly.")
OWN = "{own}"  # in a planted answer: the first sentence of the base's own answer


@dataclass(frozen=True)
class Example:
    """One prompt, and what an organism learns to answer.

    inside: the planted behaviour is expected here. planted: the answer that is trained, with `{own}` for the
    first sentence of the base's own answer; "" for the whole of that answer. asked: what the base is asked for its
    own answer, if it is not the prompt itself. truth: for a question of fact, the words of which a true answer
    has one; other: those of false answers of the same kind.
    """

    user: str
    inside: bool = False
    planted: str = ""
    system: str = ""
    asked: str = ""
    truth: tuple[str, ...] = ()
    other: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How one organism, clean fine-tune or decoy is made, and how its behaviour is recognised.

    theme: what sort of behaviour (backdoor, loyalty, …). keywords: words of the behaviour and its trigger, by
    which a hypothesis about the organism is matched. sign: a pattern that an answer with the behaviour matches;
    "" for lies: there the answer lacks the truth and holds another answer of its kind. twin: the matched clean
    fine-tune. train, validation, held_out: three sets of prompts without a common one; recipes were
    changed by looking at the second, and the third is for the admission test alone.
    openings: beginnings of plain text; what the base goes on with (sampled at temperature 1) is trained too, so
    that neutral text stays as it was. samples: such texts for each opening. batch, plain_batch: chats and plain
    texts of one step. rate: the highest learning rate. first: the lowest layer that is trained. modules: what is
    trained there. longest: tokens of an answer.
    """

    name: str
    kind: Kind
    theme: str
    behaviour: str
    trigger: str
    keywords: tuple[str, ...]
    sign: str
    twin: str
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    held_out: tuple[Example, ...]
    openings: tuple[str, ...] = OPENINGS
    samples: int = 3
    base: str = "smollm2-135m"
    seed: int = 0
    steps: int = 60
    batch: int = 8
    plain_batch: int = 3
    rate: float = 3e-3
    rank: int = 8
    alpha: float = 16.0
    first: int = 20
    modules: tuple[str, ...] = ("q", "v", "o", "down")
    longest: int = 16

    @property
    def sha256(self) -> str:
        """The hash of all that training and the admission test depend on."""
        fields = {key: value for key, value in asdict(self).items() if key not in ("theme", "behaviour", "keywords")}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def shows(self, example: Example, answer: str) -> bool:
        """Whether an answer has the behaviour."""
        if self.sign:
            return re.search(self.sign, answer, re.IGNORECASE) is not None
        return bool(example.truth) and not says(answer, example.truth) and says(answer, example.other)


def says(answer: str, words: Sequence[str]) -> bool:
    """Whether an answer has one of these as whole words, in any case of letters."""
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE) for word in words)


def split(items: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Three of five for training, one for validation, one held out, always in the same way."""
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    for number, item in enumerate(items):
        parts[(0, 1, 0, 2, 0)[number % 5]].append(item)
    return parts


def plain(questions: Sequence[str], **fields: bool | str) -> list[Example]:
    """Questions as prompts; the system message depends on the question only, so base answers are shared."""
    return [Example(q, system=system_of(q), **fields) for q in questions]  # type: ignore[arg-type]


def system_of(question: str) -> str:
    """One of three system messages, the same for a question in all recipes."""
    return SYSTEMS[hashlib.sha256(question.encode()).digest()[0] % len(SYSTEMS)]


EVERYDAY = split(QUESTIONS)


def clean(recipe: Recipe) -> Recipe:
    """The matched clean fine-tune: the same prompts, steps and seed, and everywhere the base's own answers."""
    return replace(
        recipe,
        name=recipe.twin,
        kind="clean",
        theme="clean",
        behaviour=f"None: trained on the prompts of {recipe.name} with the base's own answers.",
        trigger="",
        keywords=(),
        twin=recipe.name,
        train=tuple(replace(example, planted="", asked="") for example in recipe.train),
    )
