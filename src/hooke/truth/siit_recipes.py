"""The recipes of all kept models that were trained to hold a program."""

from __future__ import annotations

from hooke.truth.siit import Recipe

RECIPES = {name: Recipe(name) for name in ("histogram",)}
