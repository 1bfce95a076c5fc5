"""Programs in which parts stand in for each other, cancel, never act, or act on one input of many: where single cuts
and a few random inputs say the wrong thing about a circuit."""

from __future__ import annotations

from hooke.truth.programs.definition import Program
from hooke.truth.programs.rasp import TOKENS, Inverse, Map, SequenceMap, SOp, aggregate, selector_width
from hooke.truth.programs.values import back, having, same


def some(value: object, least: int = 1) -> Map:
    """Whether a token has come so often: a head and a layer of neurons of its own each time that it is asked for."""
    return Map(lambda share: round(1 / share) - 1 >= least, Inverse(having(TOKENS, value), numeric=True))


def two_of_three() -> SOp:
    """Three heads find an a, and two of them are enough."""
    votes = SequenceMap(lambda a, b: a + b, some("a"), some("a"))
    return SequenceMap(lambda n, c: n + c >= 2, votes, some("a"))


def chain_of_three() -> SOp:
    """The token two back over three chains of heads, of which two are enough."""
    one, two, three = (aggregate(back(1), aggregate(back(1), TOKENS)) for _ in range(3))
    agreed = SequenceMap(lambda a, b: a if a == b else "differ", one, two)
    return SequenceMap(lambda a, c: c if a == "differ" else a, agreed, three)


def either_of_two() -> SOp:
    """Whether two a's have come, by two heads that find the same: each of them can make it true."""
    return SequenceMap(lambda a, b: a or b, some("a", 2), some("a", 2))


def plus_minus() -> SOp:
    """How often this token has come, plus how many a's, less how many a's."""
    more = SequenceMap(lambda n, a: n + a, selector_width(same()), selector_width(having(TOKENS, "a")))
    return SequenceMap(lambda n, a: n - a, more, selector_width(having(TOKENS, "a")))


def never_both() -> SOp:
    """How often this token has come, and 9 more if there are three a's and three b's, for which there is no room."""
    both = SequenceMap(lambda a, b: a and b, some("a", 3), some("b", 3))
    return SequenceMap(lambda n, f: n + 9 * f, selector_width(same()), both)


def eight_a() -> SOp:
    """This token, but where eight a's have come."""
    return SequenceMap(lambda t, f: "all" if f else t, TOKENS, some("a", 8))


PROGRAMS = (
    Program("two-of-three", "redundancy", "whether an a has come, by two of three heads", two_of_three),
    Program("chain-of-three", "redundancy", "the token two back, by two of three chains", chain_of_three),
    Program("either-of-two", "redundancy", "whether two a's have come, by either of two heads", either_of_two),
    Program("plus-minus", "redundancy", "how often this token has come, plus the a's, less the a's", plus_minus),
    Program("never-both", "redundancy", "how often this token has come, with a branch that never acts", never_both),
    Program("eight-a", "redundancy", "this token, but for one input of 256", eight_a, ("a", "b"), 8),
)
