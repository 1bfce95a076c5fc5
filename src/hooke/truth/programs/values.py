"""Programs about how many and how large: counting, fractions, element-wise maths, comparisons, word-level."""

from __future__ import annotations

from hooke.truth.programs.definition import Program
from hooke.truth.programs.rasp import (
    INDICES,
    TOKENS,
    Aggregate,
    Map,
    Select,
    SequenceMap,
    SOp,
    aggregate,
    number,
    selector_width,
)

DIGITS = (0, 1, 2, 3)


def everything() -> Select:
    """All positions so far."""
    return Select(TOKENS, TOKENS, lambda k, q: True)


def same() -> Select:
    """The positions so far with the token that stands here."""
    return Select(TOKENS, TOKENS, lambda k, q: k == q)


def back(steps: int) -> Select:
    """The position so many steps back."""
    return Select(INDICES, INDICES, lambda k, q: k == q - steps)


def having(x: SOp, value: object) -> Select:
    """The positions so far at which x has a value."""
    return Select(x, TOKENS, lambda k, q: k == value)


def share(*tokens: object) -> Aggregate:
    """The share of some tokens among those so far."""
    return aggregate(everything(), number(lambda t: float(t in tokens), TOKENS))


# ---- counting ----------------------------------------------------------------------------------


def histogram() -> SOp:
    return selector_width(same())


def count_a() -> SOp:
    return selector_width(having(TOKENS, "a"))


def count_before_b() -> SOp:
    """How many a's came before, at a b; elsewhere 0."""
    return SequenceMap(lambda n, t: n if t == "b" else 0, selector_width(having(TOKENS, "a")), TOKENS)


def rarer_than_twice() -> SOp:
    return Map(lambda n: n < 2, selector_width(same()))


def count_unlike() -> SOp:
    return selector_width(Select(TOKENS, TOKENS, lambda k, q: k != q))


def parity() -> SOp:
    return Map(lambda n: n % 2, selector_width(having(TOKENS, "a")))


# ---- fractions and prefix means ----------------------------------------------------------------


def fraction_a() -> SOp:
    return share("a")


def fraction_early() -> SOp:
    """The share of the first two places among the tokens so far that are vowels, or are not, as this one."""
    kind = Map(lambda t: t in ("a", "e"), TOKENS)
    early = number(lambda i: float(i < 2), INDICES)
    return aggregate(Select(kind, kind, lambda k, q: k == q), early)


def mean_digit() -> SOp:
    return aggregate(everything(), number(float, TOKENS))


def mean_of_smaller() -> SOp:
    return aggregate(Select(TOKENS, TOKENS, lambda k, q: k < q), number(lambda t: t / 2, TOKENS))


# ---- element-wise maths ------------------------------------------------------------------------


def double_plus_previous() -> SOp:
    twice = Map(lambda t: 2 * t, TOKENS)
    return SequenceMap(lambda a, b: a + b, twice, aggregate(back(1), TOKENS))


def square_minus_first() -> SOp:
    first = aggregate(Select(INDICES, INDICES, lambda k, q: k == 0), Map(lambda t: t * t % 5, TOKENS))
    return SequenceMap(lambda a, b: abs(a - b), Map(lambda t: t * t % 5, TOKENS), first)


def sum_of_two_modulo() -> SOp:
    return SequenceMap(lambda a, b: (a + b) % 4, TOKENS, aggregate(back(1), TOKENS))


def larger_of_two() -> SOp:
    return SequenceMap(max, TOKENS, aggregate(back(1), TOKENS))


def running_sum_of_three() -> SOp:
    two = SequenceMap(lambda a, b: a + b, TOKENS, aggregate(back(1), TOKENS))
    return SequenceMap(lambda a, b: (a + b) % 3, two, aggregate(back(2), TOKENS))


# ---- trends and comparisons --------------------------------------------------------------------


def rising() -> SOp:
    return SequenceMap(lambda now, before: now > before, TOKENS, aggregate(back(1), TOKENS))


def trend() -> SOp:
    """Up, down or level, from the token before."""
    previous = aggregate(back(1), TOKENS)
    return SequenceMap(
        lambda now, before: "up" if now > before else "down" if now < before else "level", TOKENS, previous
    )


def peak() -> SOp:
    """Whether the token before is larger than both of its neighbours."""
    one, two = aggregate(back(1), TOKENS), aggregate(back(2), TOKENS)
    fell = SequenceMap(lambda now, before: now < before, TOKENS, one)
    rose = SequenceMap(lambda before, first: before > first, one, two)
    return SequenceMap(lambda a, b: a and b, fell, rose)


def more_a_than_b() -> SOp:
    a, b = selector_width(having(TOKENS, "a")), selector_width(having(TOKENS, "b"))
    return SequenceMap(lambda n, m: n > m, a, b)


def large_in_small() -> SOp:
    high = Map(lambda x: x > 1.4, aggregate(everything(), number(float, TOKENS)))
    return SequenceMap(lambda t, h: t >= 2 and not h, TOKENS, high)


# ---- word-level --------------------------------------------------------------------------------

WORDS = ("oak", "elm", "cat", "dog")
TREES = ("oak", "elm")


def kind_of_word() -> SOp:
    kind = Map(lambda t: "tree" if t in TREES else "animal", TOKENS)
    return SequenceMap(lambda a, b: a if a == b else "mixed", kind, aggregate(back(1), kind))


def count_trees() -> SOp:
    kind = Map(lambda t: t in TREES, TOKENS)
    return selector_width(having(kind, True))


def all_of_one_kind() -> SOp:
    kind = Map(lambda t: t in TREES, TOKENS)
    return Map(lambda n: n == 0, selector_width(Select(kind, kind, lambda k, q: k != q)))


def after_marked() -> SOp:
    marked = Map(lambda t: t in ("oak", "cat"), TOKENS)
    return SequenceMap(lambda t, m: t if m else "other", TOKENS, aggregate(back(1), marked))


PROGRAMS = (
    Program("histogram", "counting", "how often this token has come so far", histogram),
    Program("count-a", "counting", "how many a's so far", count_a),
    Program("count-before-b", "counting", "at a b, how many a's so far; elsewhere 0", count_before_b),
    Program("rarer-than-twice", "counting", "whether this token is new", rarer_than_twice),
    Program("count-unlike", "counting", "how many tokens so far differ from this one", count_unlike),
    Program("parity", "counting", "whether the number of a's so far is odd", parity),
    Program("fraction-a", "fractions", "the share of a's so far", fraction_a),
    Program(
        "fraction-early", "fractions", "the share of the first two places among tokens of this kind (vowel or not)",
        fraction_early, ("a", "e", "x"),
    ),
    Program("mean-digit", "fractions", "the mean of the digits so far", mean_digit, (0, 1, 2), 5),
    Program("mean-of-smaller", "fractions", "half the mean of the smaller digits", mean_of_smaller, (0, 1, 2)),
    Program("double-plus-previous", "maths", "twice this digit plus the one before", double_plus_previous, (0, 1, 2)),
    Program("square-minus-first", "maths", "distance of the square from the first one's, modulo 5",
            square_minus_first, DIGITS, 4),
    Program("sum-of-two", "maths", "this digit plus the one before, modulo 4", sum_of_two_modulo, DIGITS, 4),
    Program("larger-of-two", "maths", "the larger of this digit and the one before", larger_of_two, DIGITS, 4),
    Program("sum-of-three", "maths", "the sum of the last three digits modulo 3", running_sum_of_three, (0, 1, 2)),
    Program("rising", "trends", "whether this digit is larger than the one before", rising, DIGITS, 4),
    Program("trend", "trends", "up, down or level", trend, (0, 1, 2)),
    Program("peak", "trends", "whether the digit before is larger than both of its neighbours", peak, (0, 1, 2)),
    Program("more-a-than-b", "trends", "whether there are more a's than b's so far", more_a_than_b),
    Program("large-in-small", "trends", "a 2 while the mean so far is at most 1.4", large_in_small, (0, 1, 2)),
    Program("kind-of-word", "words", "the kind that this word shares with the one before", kind_of_word, WORDS, 4),
    Program("count-trees", "words", "how many trees so far", count_trees, WORDS, 4),
    Program("all-of-one-kind", "words", "whether all words so far are of this one's kind", all_of_one_kind, WORDS, 4),
    Program("after-marked-word", "words", "this word, if an oak or a cat stands before it", after_marked, WORDS, 4),
)  # fmt: skip
