"""The precomputed examples that come with Hooke: pages of real traces, made by scripts/gallery.py."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from hooke.errors import HookeError


def gallery() -> list[dict[str, Any]]:
    """The examples in order: name, title, question, finding, and whether the explanation fails."""
    index = files("hooke.viewer").joinpath("examples", "index.json")
    return json.loads(index.read_text(encoding="utf-8")) if index.is_file() else []


def gallery_page(name: str) -> bytes:
    """The page bytes of one example. Raises HookeError for a name that is not in the gallery."""
    if name not in {entry["name"] for entry in gallery()}:
        raise HookeError(f"no example called {name!r}")
    return files("hooke.viewer").joinpath("examples", f"{name}.page").read_bytes()
