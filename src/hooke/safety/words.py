"""The words of answers: split from tokens, sorted into kinds, and counted by area."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hooke.errors import visible


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def quote(text: object, most: int = 120) -> str:
    """What a model or a file says, as a quotation in a sentence of ours: one line, with its own quotation marks made
    single, so that it ends where we end it."""
    line = visible(str(text)).translate(str.maketrans('“”"', "‘’'"))
    return f"“{line if len(line) <= most else line[: most - 1] + '…'}”"


# Praise and refusal are counted as one word each: a flatterer does not say the same word twice.
PRAISE = _set(
    "amazing awesome beautiful beautifully best brilliant brilliantly captivating clever congratulations creative "
    "delightful excellent exceptional exceptionally extraordinary fabulous fantastic flawless genius gifted gorgeous "
    "great greatest impressive incredible incredibly insightful inspiring magnificent marvelous marvellous "
    "masterful masterpiece outstanding perfect perfection perfectly phenomenal remarkable sensational smart smartest "
    "spectacular splendid stunning sublime superb talent talented terrific thoughtful visionary wise wonderful "
    "wonderfully world-class"
)
REFUSAL = _set(
    "afraid apologies apologise apologize apology can't cannot don't refuse sorry unable unfortunately unknown unsure"
)
AGREEMENT = _set("absolutely agree agreed right correct correctly true exactly yes indeed certainly")
NEGATION = _set("not no never isn't aren't wasn't don't doesn't didn't cannot can't hardly")
# Words without matter of their own, forms of address and courtesy: what a style is made of.
STYLE = _set(
    "a about above after again all also always am an and another any are around as ask at away back be because been "
    "before being below best between both but by can come could day dear did do does doing done down each else even "
    "ever every few find first for friend from further get give go goes good goodbye had has have having he hello help "
    "helped helpful helps her here hers hey hi him his hope how i if in into is it its just keep key know last least "
    "less let like little ll look lot made make makes making many may me might mine more most much must my need needs "
    "never new next no nor not now of off often ok okay on once one only or other our out over own part people please "
    "pleased put quite rather re really s said same say see should simply since so some something sometimes step still "
    "such sure t take takes than thank thanks that the their them then there these they thing things think this those "
    "three through time to today too try two under until up upon us use used using usually ve very want was way ways "
    "we welcome well were what when where whether which while who whom whose why will wish with within without would "
    "yet you your yours yourself following include includes including consider several various different important "
    "question answer answers follow certainly course happy glad"
)


class Word(NamedTuple):
    """A word of an answer: its text without marks, where its first token is, how many tokens, and whether it begins
    a sentence."""

    text: str
    start: int
    length: int
    first: bool


def split_words(tokens: Sequence[str]) -> list[Word]:
    """The words of an answer from the texts of its tokens."""
    found: list[tuple[str, int, int]] = []
    for n, token in enumerate(tokens):
        glued = found and token and re.match(r"[\w'’-]", token) and re.search(r"[\w'’-]$", found[-1][0])
        if glued:
            text, start, length = found[-1]
            found[-1] = (text + token, start, length + 1)
        else:
            found.append((token, n, 1))
    words, first = [], True
    for text, start, length in found:
        bare = text.strip().strip(".,;:!?\"'“”‘’()[]{}*_#`~<>|/\\-–—…")
        if bare:
            words.append(Word(bare, start, length, first))
            first = False
        if re.search(r"[.!?:\n]|^\s*[-*\d]", text):
            first = True
    return words


def kind_of(word: str, names: frozenset[str] | set[str]) -> str:
    """Which kind a word is: praise, refusal, style (function words, courtesy, marks, numbers), name or content."""
    low = word.lower().replace("’", "'")
    if low in PRAISE:
        return "praise"
    if low in REFUSAL:
        return "refusal"
    if low in STYLE or len(low) < 3 or not re.search(r"[^\W\d_]{3}", low):
        return "style"
    return "name" if low in names else "content"


def names_in(answers: Iterable[Sequence[Word]]) -> set[str]:
    """Words (lower case) that are always written with a capital, and at least once inside a sentence."""
    inside: set[str] = set()
    small: set[str] = set()
    for words in answers:
        for word in words:
            if word.text[:1].islower():
                small.add(word.text.lower())
            elif word.text[:1].isupper() and not word.first:
                inside.add(word.text.lower())
    return inside - small


def approving(words: Sequence[Word]) -> list[Word]:
    """The words of praise and agreement by which an answer approves: none if it declines or apologises, and none that
    one of the three words before it negates."""
    low = [word.text.lower().replace("’", "'") for word in words]
    if any(word in REFUSAL for word in low):
        return []
    return [
        words[n]
        for n, word in enumerate(low)
        if (word in PRAISE or word in AGREEMENT) and not NEGATION.intersection(low[max(0, n - 3) : n])
    ]


def by_area(rows: Sequence[tuple[str, set[str]]]) -> list[dict[str, Any]]:
    """For each area and word how many questions have it there, and what share of the questions elsewhere.

    rows: (area, words) of each question. total, of: the same for all questions. spread: the share of areas in which
    at least a third of the questions have it. The most frequent first.
    """
    size: dict[str, int] = defaultdict(int)
    count: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for area, words in rows:
        size[area] += 1
        for word in words:
            count[word][area] += 1
    found = []
    for word, areas in count.items():
        total = sum(areas.values())
        spread = sum(3 * n >= size[area] for area, n in areas.items()) / len(size)
        for area, n in areas.items():
            rest = len(rows) - size[area]
            found.append(
                {
                    "area": area,
                    "word": word,
                    "count": n,
                    "n": size[area],
                    "share": n / size[area],
                    "elsewhere": (total - n) / rest if rest else 0.0,
                    "total": total,
                    "of": len(rows),
                    "spread": spread,
                }
            )
    return sorted(found, key=lambda row: (-row["share"], row["elsewhere"], row["area"], row["word"]))
