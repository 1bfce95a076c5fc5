"""Statements about numbers, made by counting: sums, differences, products, what is larger, what is even."""

from __future__ import annotations

from hooke.data.labelled.statements.reading import Block, Order, Relation

SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

SAY = ("{S} is {a}.", "{S} equals {a}.", "If you work out {s}, you get {a}.", "The result of {s} is {a}.")
NEGATED = ("{S} is not {a}.", "{S} does not equal {a}.", "The result of {s} is not {a}.")
THAN = (
    ("{X} is larger than {y}.", "{X} is smaller than {y}."),
    ("{X} is more than {y}.", "{X} is less than {y}."),
    ("When you count upwards, you get to {x} later than to {y}.", "When you count upwards, you get to {x} before {y}."),
    ("{X} is not smaller than {y}.", "{X} is not larger than {y}."),
    ("{X} is not less than {y}.", "{X} is not more than {y}."),
)


def words(number: int) -> str:
    """A number below one hundred in words."""
    if number < 20:
        return SMALL[number]
    ten, one = TENS[number // 10 - 2], number % 10
    return f"{ten}-{SMALL[one]}" if one else ten


def number_facts() -> tuple[Block, ...]:
    """Relations and orders of the topics sums, differences, products, numbers and parity."""
    sums = [(a, b) for a in range(1, 10) for b in range(1, a + 1) if (a + 2 * b) % 3 != 1]
    differences = [(a + b, b) for a in range(1, 10) for b in range(1, 10) if (a * b + a) % 3 == 0 and a != 5]
    products = [(a, b) for a in range(2, 8) for b in range(2, 11) if (a + b) % 3 != 1 and a != b]
    in_words = [(words(a), "plus", words(b), words(a + b)) for a, b in sums[::2]]
    in_words += [(words(a), "minus", words(b), words(a - b)) for a, b in differences[::2]]
    in_words += [(words(a), "times", words(b), words(a * b)) for a, b in products[::2]]
    in_digits = [(str(a), "plus", str(b), str(a + b)) for a, b in sums[1::2]]
    in_digits += [(str(a), "minus", str(b), str(a - b)) for a, b in differences[1::2]]
    in_digits += [(str(a), "times", str(b), str(a * b)) for a, b in products[1::2]]
    topics = {"plus": "sums", "minus": "differences", "times": "products"}
    blocks: list[Block] = []
    for sign, topic in topics.items():
        for rows in (in_words, in_digits):
            facts = tuple((f"{a} {sign} {b}", (answer,)) for a, by, b, answer in rows if by == sign)
            blocks.append(Relation(topic, SAY, NEGATED, facts))
    small = (words(90), words(71), words(52), words(36), words(24), words(15), words(8), words(3))
    large = ("1000", "640", "310", "99", "60", "41", "18", "5")
    blocks.append(Order("numbers", THAN, (small, large)))
    parity = tuple((words(n), ("even" if n % 2 == 0 else "odd",)) for n in (*range(2, 14), 20, 21, 33, 38))
    say = ("{S} is an {a} number.", "The number {s} is {a}.", "Among the {a} numbers there is {s}.")
    blocks.append(Relation("parity", say, ("{S} is not an {a} number.", "The number {s} is not {a}."), parity))
    return tuple(blocks)
