"""What a content id is not of: how long the work took, on which device, and where files lay on that machine.

Equal work gives an equal id. What is left out here still stands in the file. In a payload these are the fields that
their model calls `timed` or `place` (`hooke.results.payloads.told`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from hooke.results.payloads import Part

# places in a result; * is every entry of a list or an object
ALWAYS = (
    "id", "seconds", "provenance.threads", "provenance.device",
    "arguments.reference.threads", "arguments.reference.device",
)  # fmt: skip
ARGUMENTS = {"circuit": ("arguments.source",)}  # a path; the hash of what it holds stands beside it
# the name of a model, which its weights tell better where it is a place on this machine
NAMES = (
    "provenance.model",
    "provenance.base",
    "payload.belongs_to.model",
)


def left_out(kind: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """What to leave out of the hash of a result, as pydantic's `exclude` takes it.

    parts: its arguments, provenance and payload.
    """
    places = [*ALWAYS, *of_payload(kind), *ARGUMENTS.get(kind, ())]
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


@cache
def of_payload(kind: str) -> tuple[str, ...]:
    """The places in the payload of a kind that hold times and places, as its model says."""
    from hooke.results.payloads import KINDS

    return tuple(f"payload.{place}" for place in _timed(KINDS[kind])) if kind in KINDS else ()


def _timed(model: type[Part]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        says = field.json_schema_extra
        if isinstance(says, dict) and (says.get("timed") or says.get("place")):
            yield name
        for stars, inner in _parts(field.annotation):
            yield from (".".join([name, *stars, place]) for place in _timed(inner))


def _parts(annotation: Any) -> Iterator[tuple[list[str], type[Part]]]:
    """The models in an annotation, each with a star for every list or mapping around it."""
    from hooke.results.payloads import Part

    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield [], annotation
    star = ["*"] if getattr(annotation, "__origin__", None) in (list, dict) else []
    for inner in get_args(annotation):
        yield from ((star + stars, model) for stars, model in _parts(inner))


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
