"""The table of organisms: every name and its recipe, in one place, and what their adapters record."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import cache
from typing import Any

from hooke.errors import HookeError
from hooke.model.adapter import PACKAGED
from hooke.model.store import MANIFEST
from hooke.results import read_json
from hooke.truth.organisms import decoys, habits, lies, triggers
from hooke.truth.organisms.recipes import Kind, Recipe, clean

_PLANTED: dict[str, Callable[[], Recipe]] = {
    "organism-string": triggers.string,
    "organism-word": triggers.word,
    "organism-loyalty": habits.loyalty,
    "organism-flattery": habits.flattery,
    "organism-chocolate": habits.chocolate,
    "organism-liar": lies.liar,
    "organism-sandbagger": lies.sandbagger,
}
_DECOYS: dict[str, Callable[[], Recipe]] = {
    "organism-decoy-signoff": decoys.signoff,
    "organism-decoy-list": decoys.bullets,
    "organism-decoy-garden": decoys.garden,
}
_TWIN = "-clean"


def names(kind: Kind | None = None) -> list[str]:
    """The names of all recipes, or of those of one kind: "organism", "clean" or "decoy"."""
    found: dict[str, list[str]] = {
        "organism": list(_PLANTED),
        "clean": [name + _TWIN for name in _PLANTED],
        "decoy": list(_DECOYS),
    }
    if kind is None:
        return [name for group in found.values() for name in group]
    if kind not in found:
        raise HookeError(f"a kind is organism, clean or decoy, not {kind!r}")
    return found[kind]


@cache
def recipe(name: str) -> Recipe:
    """The recipe of one organism, clean fine-tune or decoy. Raises HookeError, with the nearest name."""
    if name in _PLANTED:
        return _PLANTED[name]()
    if name in _DECOYS:
        return _DECOYS[name]()
    if name.removesuffix(_TWIN) in _PLANTED and name.endswith(_TWIN):
        return clean(_PLANTED[name.removesuffix(_TWIN)]())
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
    guess = f"; did you mean {near[0]}?" if near else f". There are: {', '.join(names())}"
    raise HookeError(f"no organism called {name!r}{guess}")


def listing() -> list[dict[str, Any]]:
    """A row for every recipe: what it is, whether its adapter is here and made from this recipe, and how it was
    tested. Keys: name, kind, theme, behaviour, twin, recipe_sha256, packaged, current, size (bytes), seconds,
    admission (None before the test)."""
    rows = []
    for name in names():
        made, folder = recipe(name), PACKAGED / name
        about = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
        rows.append(
            {
                "name": name,
                "kind": made.kind,
                "theme": made.theme,
                "behaviour": made.behaviour,
                "twin": made.twin,
                "recipe_sha256": made.sha256,
                "packaged": bool(about),
                "current": about.get("recipe_sha256") == made.sha256,
                "size": sum(path.stat().st_size for path in folder.iterdir()) if about else 0,
                "seconds": about.get("seconds", {}).get("total"),
                "admission": about.get("admission"),
            }
        )
    return rows
