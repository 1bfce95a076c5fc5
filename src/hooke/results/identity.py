"""What a content id is not of: how long the work took, on which device, and where files lay on that machine.

Equal work gives an equal id. What is left out here still stands in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

# places in a result by its kind; * is every entry of a list or an object
TIMES = {
    "attribution": ("payload.seconds",),
    "organisms": ("payload.organisms.*.seconds",),
    "probe": ("payload.cost.microseconds_per_token",),
    "scoreboard": (
        "payload.methods.*.seconds",
        "payload.methods.*.kinds.*.seconds",
        "payload.each.*.methods.*.seconds",
    ),
    "trained": ("payload.seconds",),
}
PATHS = {
    "circuit": ("arguments.source",),
    "models": ("payload.models.*.path",),
}
ALWAYS = (
    "id", "seconds", "provenance.threads", "provenance.device",
    "arguments.reference.threads", "arguments.reference.device",
)  # fmt: skip
# the name of a model, which its weights tell better where it is a place on this machine
NAMES = (
    "provenance.model",
    "provenance.base",
    "payload.belongs_to.model",
    "payload.graph.metadata.scan",
    "payload.graph.metadata.hooke.scan",
)


def left_out(kind: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """What to leave out of the hash of a result, as pydantic's `exclude` takes it.

    parts: its arguments, provenance and payload.
    """
    places = [*ALWAYS, *TIMES.get(kind, ()), *PATHS.get(kind, ())]
    provenance = parts["provenance"]
    if provenance.get("weights_sha256") and _is_place(provenance.get("model")):
        places += NAMES
    reference = parts["arguments"].get("reference")
    if isinstance(reference, dict) and reference.get("weights_sha256") and _is_place(reference.get("model")):
        places += ("arguments.reference.model", "arguments.reference.base")
    found: dict[Any, Any] = {}
    for place in places:
        first, *rest = place.split(".")
        if not rest:
            found[first] = True
        elif first in parts:
            _mark(found.setdefault(first, {}), parts[first], rest)
    return found


def _mark(found: dict[Any, Any], value: Any, rest: list[str]) -> None:
    """Note the places in one value that a path leads to."""
    key, *more = rest
    if isinstance(value, dict):
        names: list[Any] = list(value) if key == "*" else [key] if key in value else []
    else:
        names = list(range(len(value))) if key == "*" and isinstance(value, list) else []
    for name in names:
        if not more:
            found[name] = True
            continue
        below = found.setdefault(name, {})
        if below is not True:
            _mark(below, value[name], more)


def _is_place(name: Any) -> bool:
    return isinstance(name, str) and PurePath(name).is_absolute()
