"""The recipes of all kept models that were trained to hold a program."""

from __future__ import annotations

from hooke.truth.trained.siit import Recipe

LONG = (
    "balance",
    "count-a",
    "fraction-a",
    "histogram",
    "indirect-object",
    "induction",
    "kind-of-word",
    "mean-digit",
    "rank",
    "seen-before",
    "shift-two",
    "sum-of-two",
    "trend",
)
SHORT = (
    "after-marked-word",
    "all-of-one-kind",
    "bracket-pair",
    "count-before-b",
    "count-trees",
    "double-plus-previous",
    "first-again",
    "first-token",
    "larger-of-two",
    "largest-so-far",
    "mirrored",
    "more-a-than-b",
    "pattern-aba",
    "place-in-order",
    "rarer-than-twice",
    "repeated-at-once",
    "rising",
    "shift-one",
    "square-minus-first",
)
RECIPES = {name: Recipe(name) for name in LONG} | {name: Recipe(name, rows=32, tail=200) for name in SHORT}
