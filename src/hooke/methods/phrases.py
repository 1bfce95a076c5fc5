"""Words for tokens and lists of them, in sentences that people read."""

from __future__ import annotations

from collections.abc import Sequence


def quote(text: str) -> str:
    """A token as text: quoted, with what cannot be seen made visible."""
    shown = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown) + '"'


def at(tokens: list[str], position: int) -> str:
    """A token of the prompt, with its place where it stands there several times."""
    place = quote(tokens[position])
    return place + (f" (token {position + 1})" if tokens.count(tokens[position]) > 1 else "")


def phrase(names: list[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else ""


def count(n: int, units: str) -> str:
    """How many of something, whose name is in the plural: 1 neuron, 2 neurons."""
    return f"{n} {units[:-1] if n == 1 else units}"


def layers(ends: Sequence[int], to: str = " to ") -> str:
    """layer 3, or layers 3 to 5."""
    low, high = ends
    return f"layer {low}" if low == high else f"layers {low}{to}{high}"
