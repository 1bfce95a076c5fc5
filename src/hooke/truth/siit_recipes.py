"""The recipes of all kept models that were trained to hold a program."""

from __future__ import annotations

from hooke.truth.siit import Recipe

RECIPES: dict[str, Recipe] = {
    **{
        name: Recipe(name)
        for name in (
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
    },
}
