"""Programs about which and where: sorting, shifts, brackets and patterns, duplicates, the indirect object."""

from __future__ import annotations

import itertools

from hooke.truth.programs.definition import Program
from hooke.truth.programs.rasp import INDICES, TOKENS, Map, Select, SequenceMap, SOp, aggregate, number, selector_width
from hooke.truth.programs.values import DIGITS, back, everything, having, same

# ---- sorting and ranking -----------------------------------------------------------------------


def rank() -> SOp:
    return selector_width(Select(TOKENS, TOKENS, lambda k, q: k < q))


def largest_so_far() -> SOp:
    """Whether nothing larger came before."""
    return Map(lambda n: n == 0, selector_width(Select(TOKENS, TOKENS, lambda k, q: k > q)))


def place_in_order() -> SOp:
    at_most = selector_width(Select(TOKENS, TOKENS, lambda k, q: k <= q))
    return SequenceMap(lambda n, i: "first" if n == i + 1 else "last" if n == 1 else "between", at_most, INDICES)


def middle() -> SOp:
    """Whether there are as many smaller as larger ones."""
    less = selector_width(Select(TOKENS, TOKENS, lambda k, q: k < q))
    more = selector_width(Select(TOKENS, TOKENS, lambda k, q: k > q))
    return SequenceMap(lambda n, m: n == m, less, more)


# ---- shifts and mirrors ------------------------------------------------------------------------


def shift_one() -> SOp:
    return aggregate(back(1), TOKENS)


def shift_two() -> SOp:
    """The token two back, by two single steps."""
    return aggregate(back(1), aggregate(back(1), TOKENS))


def first_token() -> SOp:
    return aggregate(Select(INDICES, INDICES, lambda k, q: k == 0), TOKENS)


def mirror() -> SOp:
    """The token at the same distance from the other end of five, if it has come already."""
    return aggregate(Select(INDICES, INDICES, lambda k, q: k == 4 - q), TOKENS)


def mirrored() -> SOp:
    """Whether the token at the mirror place is the same."""
    return SequenceMap(lambda a, b: a == b, TOKENS, mirror())


# ---- brackets and patterns ---------------------------------------------------------------------


def balance() -> SOp:
    """Open brackets less closed ones: even, open or closed."""
    opened, closed = selector_width(having(TOKENS, "(")), selector_width(having(TOKENS, ")"))
    return SequenceMap(lambda n, m: "open" if n > m else "closed" if n < m else "even", opened, closed)


def bracket_pair() -> SOp:
    """Whether this bracket closes the one directly before it."""
    return SequenceMap(lambda a, b: a == ")" and b == "(", TOKENS, aggregate(back(1), TOKENS))


def never_closed_first() -> SOp:
    """Whether closing brackets have never outnumbered opening ones."""
    step = number(lambda t: 1.0 if t == "(" else -1.0, TOKENS)
    below = Map(lambda x: x < 0, aggregate(everything(), step))
    return Map(lambda n: n == 0, selector_width(having(below, True)))


def pattern_aba() -> SOp:
    """Whether the last three tokens are a, b, a."""
    ab = SequenceMap(lambda a, b: a == "b" and b == "a", TOKENS, aggregate(back(1), TOKENS))
    return SequenceMap(lambda t, before: t == "a" and before, TOKENS, aggregate(back(1), ab))


# ---- duplicates and firsts ---------------------------------------------------------------------


def seen_before() -> SOp:
    return Map(lambda n: n > 1, selector_width(same()))


def repeated_at_once() -> SOp:
    return SequenceMap(lambda a, b: a == b, TOKENS, aggregate(back(1), TOKENS))


def first_again() -> SOp:
    """Whether the first token is here again."""
    return SequenceMap(lambda a, b: a == b, TOKENS, first_token())


def any_repeat() -> SOp:
    """Whether any token so far has come twice."""
    again = Map(lambda n: n > 1, selector_width(same()))
    return Map(lambda n: n > 0, selector_width(having(again, True)))


def count_new() -> SOp:
    """How many different tokens so far."""
    new = Map(lambda n: n == 1, selector_width(same()))
    return selector_width(having(new, True))


# ---- copying -----------------------------------------------------------------------------------


def induction() -> SOp:
    """What came after this token before; sequences hold never two different tokens after the same one."""
    before = aggregate(back(1), TOKENS)
    return aggregate(Select(before, TOKENS, lambda k, q: k == q), TOKENS)


def induction_texts() -> list[tuple[str, ...]]:
    """Sequences of five tokens in which no token has followed the same token twice differently."""
    tokens = ("a", "b", "c", "d")
    texts = []
    for text in itertools.product(tokens, repeat=5):
        after: dict[str, set[str]] = {}
        for one, two in itertools.pairwise(text):
            after.setdefault(one, set()).add(two)
        if all(len(found) == 1 for found in after.values()):
            texts.append(text)
    return texts


NAMES = ("Ann", "Bob", "Cat", "Dan")


def indirect_object() -> SOp:
    """The simplified graph of indirect-object identification (2211.00593): duplicate, S-inhibition, name mover."""
    is_name = Map(lambda t: t in NAMES, TOKENS)
    duplicate = SequenceMap(lambda name, n: name and n > 1, is_name, selector_width(same()))
    subject = aggregate(Select(duplicate, TOKENS, lambda k, q: k and q == "to"), TOKENS)
    return aggregate(Select(TOKENS, subject, lambda k, q: k in NAMES and k != q), TOKENS)


def indirect_object_texts() -> list[tuple[str, ...]]:
    """`A and B then B to`, `A and B B then to` and so on: a name comes twice, and so may `and`."""
    texts: list[tuple[str, ...]] = []
    for a, b in itertools.permutations(NAMES, 2):
        for subject, filler in itertools.product((a, b), ("then", "and")):
            texts += [(a, "and", b, filler, subject, "to"), (a, "and", b, subject, filler, "to")]
    return texts


BRACKETS = ("(", ")")
PROGRAMS = (
    Program("rank", "sorting", "how many smaller digits so far", rank, DIGITS, 4),
    Program("largest-so-far", "sorting", "whether nothing larger came before", largest_so_far, DIGITS, 4),
    Program("place-in-order", "sorting", "whether this digit is first or last in order", place_in_order, DIGITS, 4),
    Program("middle", "sorting", "whether as many so far are smaller as larger", middle, (0, 1, 2)),
    Program("shift-one", "shifts", "the token before", shift_one),
    Program("shift-two", "shifts", "the token two back, in two steps", shift_two),
    Program("first-token", "shifts", "the first token", first_token),
    Program("mirrored", "shifts", "whether the token at the mirror place is the same", mirrored),
    Program("mirror", "shifts", "the token at the mirror place, if it has come", mirror),
    Program("balance", "patterns", "more brackets opened, closed, or even", balance, BRACKETS, 7),
    Program("bracket-pair", "patterns", "whether this bracket closes the one before it", bracket_pair, BRACKETS, 7),
    Program("never-closed-first", "patterns", "whether closing brackets never outnumbered opening ones",
            never_closed_first, BRACKETS, 7),
    Program("pattern-aba", "patterns", "whether the last three tokens are a b a", pattern_aba),
    Program("seen-before", "duplicates", "whether this token came before", seen_before),
    Program("repeated-at-once", "duplicates", "whether the token before is the same", repeated_at_once),
    Program("first-again", "duplicates", "whether this is the first token", first_again),
    Program("any-repeat", "duplicates", "whether any token so far has come twice", any_repeat, ("a", "b", "c", "d"), 4),
    Program("count-new", "duplicates", "how many different tokens so far", count_new),
    Program("induction", "copying", "what came after this token before", induction, ("a", "b", "c", "d"), 5,
            induction_texts),
    Program("indirect-object", "copying", "the name that does not come twice, at `to`", indirect_object,
            (*NAMES, "and", "then", "to"), 6, indirect_object_texts),
)  # fmt: skip
