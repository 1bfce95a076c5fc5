"""Tasks that circuits are looked for in: pairs of prompts that differ in what decides the answer, and in little else.

Each generator writes a clean prompt, a corrupt one with another answer, the tokens that answer the clean one and
those that do not. Whether a pair lines up under a tokenizer is for the caller to see (`methods/tasks.py`): a draw may
be thrown away. The answers of a task are balanced, so that no constant answer does better than chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

from hooke.data.prompts.circuit_words import (
    ADJECTIVES,
    ARGUMENTS,
    CAPITALS,
    COLOURS,
    EVENTS,
    FEMALE,
    GIFTS,
    MALE,
    NAMES,
    NOUNS,
    PLACES,
    THINGS,
    VERBS,
    WORDS,
)

OneToken = Callable[[str], bool]  # whether a text is a single token of the model


class Example(NamedTuple):
    """One pair of prompts. target: tokens that answer `clean`; contrast: tokens that do not."""

    clean: str
    corrupt: str
    target: tuple[str, ...]
    contrast: tuple[str, ...]


@dataclass(frozen=True)
class CircuitTask:
    """A generator with its metric.

    metric: "logit-difference" (targets less contrasts) or "probability" (summed, of targets less contrasts).
    """

    name: str
    about: str
    metric: Literal["logit-difference", "probability"]
    draw: Callable[[Random, OneToken], Example]
    source: str


def indirect_object(rng: Random, one_token: OneToken) -> Example:
    """Who is given something is the name that the giver does not have."""
    a, b = rng.sample(NAMES, 2)
    first, second = rng.sample((a, b), 2)
    start = f"When {first} and {second} went to the {rng.choice(PLACES)}, "
    end = f" gave a {rng.choice(GIFTS)} to"
    return Example(start + b + end, start + a + end, (f" {a}",), (f" {b}",))


def greater_than(rng: Random, one_token: OneToken) -> Example:
    """What ends later than it began; the corrupt start is the first year of the century, which any end exceeds.

    Where years are read digit by digit, the answer is the digit of the decade.
    """
    start = f"The {rng.choice(EVENTS)} lasted from the year {(century := rng.randint(11, 19))}"
    if one_token("52"):
        year = rng.randint(2, 98)
        corrupt, later, earlier = "01", range(year + 1, 100), range(2, year + 1)
        ends = [tuple(f"{y:02d}" for y in side if one_token(f"{y:02d}")) for side in (later, earlier)]
    else:
        decade = rng.randint(1, 8)
        year, corrupt = 10 * decade + rng.randint(0, 9), f"0{rng.randint(1, 9)}"
        ends = [tuple(str(d) for d in side) for side in (range(decade + 1, 10), range(decade))]
    end = f" to the year {century}"
    return Example(f"{start}{year:02d}{end}", f"{start}{corrupt}{end}", ends[0], ends[1])


def docstring(rng: Random, one_token: OneToken) -> Example:
    """The next documented argument is the next of the signature; in the corrupt prompt the signature has others."""
    names = rng.sample(ARGUMENTS, 9)
    verb, told = rng.choice(VERBS), rng.sample(NOUNS, 2)
    first, second, third = names[:3]
    rest = names[3:5]

    def written(arguments: list[str]) -> str:
        lines = [f"def {verb}(self, {', '.join(arguments)}):", f'    """{verb} the {told[0][0]}', ""]
        lines += [f"    :param {first}: the {told[0][0]}", f"    :param {second}: the {told[1][0]}", "    :param"]
        return "\n".join(lines)

    clean = [*rest, first, second, third]
    corrupt = [*rest, first, second, names[5]]
    return Example(written(clean), written(corrupt), (f" {third}",), tuple(f" {x}" for x in (names[5], *rest)))


def subject_verb(rng: Random, one_token: OneToken) -> Example:
    """The verb agrees with the subject, whatever number the noun before it has."""
    subject, other = rng.sample(NOUNS, 2)
    number = rng.randint(0, 1)
    between = f" {rng.choice(('near', 'behind', 'beside', 'under'))} the {rng.choice(other)}"
    verbs = ((" is", " was"), (" are", " were"))
    return Example(
        f"The {subject[number]}{between}", f"The {subject[1 - number]}{between}", verbs[number], verbs[1 - number]
    )


def induction(rng: Random, one_token: OneToken) -> Example:
    """A list of words begins again: what followed the last word before follows it now."""
    *words, other = rng.sample(WORDS, 9)
    at = rng.randint(2, 6)
    changed = [*words]
    changed[at] = other
    again = words[:at]
    return Example(" ".join([*words, *again]), " ".join([*changed, *again]), (f" {words[at]}",), (f" {other}",))


def capitals(rng: Random, one_token: OneToken) -> Example:
    """The capital of a country."""
    (country, capital), (other, wrong) = rng.sample(CAPITALS, 2)
    wording = rng.choice(("The capital of {} is the city of", "The capital city of {} is", "In {}, the capital is"))
    clean, corrupt = (wording.format(name) for name in (country, other))
    return Example(clean, corrupt, (f" {capital}",), (f" {wrong}",))


def pronoun(rng: Random, one_token: OneToken) -> Example:
    """The pronoun that goes with a first name."""
    pair = (rng.choice(MALE), rng.choice(FEMALE))
    which = rng.randint(0, 1)
    end = f" is a really great {rng.choice(('friend', 'cook', 'dancer', 'teacher', 'neighbour', 'singer'))}, isn't"
    words = (" he", " she")
    return Example(f"So {pair[which]}{end}", f"So {pair[1 - which]}{end}", (words[which],), (words[1 - which],))


def colour_object(rng: Random, one_token: OneToken) -> Example:
    """Which colour the thing that is asked for has, of several."""
    things, colours = rng.sample(THINGS, 3), rng.sample(COLOURS, 3)
    seen = [f"a {c} {t}" for c, t in zip(colours, things, strict=True)]
    start = f"On the table there are {seen[0]}, {seen[1]} and {seen[2]}. The colour of the "
    i, j = rng.sample(range(3), 2)
    return Example(f"{start}{things[i]} is", f"{start}{things[j]} is", (f" {colours[i]}",), (f" {colours[j]}",))


def addition(rng: Random, one_token: OneToken) -> Example:
    """Sums of two-digit numbers under a hundred; where digits are read one by one, the first digit of the sum."""
    a, b, c = (rng.randint(10, 49) for _ in range(3))
    shots = "".join(f"{x}+{y}={x + y}\n" for x, y in ((rng.randint(10, 49), rng.randint(10, 49)) for _ in range(3)))
    sums = (str(a + b), str(c + b))
    answers = sums if all(one_token(s) for s in sums) else (sums[0][0], sums[1][0])
    return Example(f"{shots}{a}+{b}=", f"{shots}{c}+{b}=", (answers[0],), (answers[1],))


def antonyms(rng: Random, one_token: OneToken) -> Example:
    """The opposite of a word, after two examples."""
    (word, opposite), (other, wrong), *shots = (rng.sample(pair, 2) for pair in rng.sample(ADJECTIVES, 4))
    start = "".join(f"The opposite of {x} is {y}. " for x, y in shots)
    return Example(
        f"{start}The opposite of {word} is", f"{start}The opposite of {other} is", (f" {opposite}",), (f" {wrong}",)
    )


CIRCUIT_TASKS: dict[str, CircuitTask] = {
    task.name: task
    for task in (
        CircuitTask("ioi", "the indirect object of a gift", "logit-difference", indirect_object, "2211.00593"),
        CircuitTask("greater-than", "a year later than another", "probability", greater_than, "2305.00586"),
        CircuitTask("docstring", "the next argument to document", "logit-difference", docstring, "Heimersheim 2023"),
        CircuitTask("agreement", "a verb in the number of its subject", "logit-difference", subject_verb, "1611.01368"),
        CircuitTask("induction", "what followed this word before", "logit-difference", induction, "2209.11895"),
        CircuitTask("capitals", "the capital of a country", "logit-difference", capitals, "2308.09124"),
        CircuitTask("pronoun", "he or she, by a first name", "logit-difference", pronoun, "Mathwin et al. 2023"),
        CircuitTask("colours", "the colour of one of three things", "logit-difference", colour_object, "2310.08744"),
        CircuitTask("addition", "sums of two-digit numbers", "logit-difference", addition, "2305.15054"),
        CircuitTask("antonyms", "the opposite of a word", "logit-difference", antonyms, "2310.15213"),
    )
}
