"""Models trained to hold a program's variables in given parts (strict interchange training, 2407.14494)."""

from __future__ import annotations

from typing import Any

from hooke.errors import HookeError


def kept() -> tuple[str, ...]:
    """The programs whose trained model comes with Hooke."""
    return ()


def load(name: str) -> tuple[Any, dict[str, Any]]:
    """A trained model and its record. Raises HookeError if there is none."""
    raise HookeError(f"there is no trained model of {name!r}")


def renamed(edge: str, to: dict[str, str]) -> str:
    """An edge of the compiled model, between the parts that hold its ends in the trained one."""
    writer, _, reader = edge.partition("->")
    node, bracket, part = reader.partition("<")
    return f"{to.get(writer, writer)}->{to.get(node, node)}{bracket}{part}"
