"""Where the evidence of a claim lies: a result, or a place in one.

An entry is the id of a result, `id#key` for a place in that result, or `#key` for one in the result that claims it. A
key is the id of a node of the result's graph (`12_345_3`), or a path into its payload (`interventions.3`,
`tokens. Paris`): a part of a path is a key, a number in a list, or the `id`, `name`, `key` or `token` of a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hooke.errors import HookeError

if TYPE_CHECKING:
    from hooke.results.result import Result

ENTRY = re.compile(r"([0-9a-f]{32})?(?:#(.{1,300}))?", re.DOTALL)
NAMED_BY = ("id", "name", "key", "token")  # fields by which a row of a table is found


class Place(NamedTuple):
    """What an entry leads to inside a result: a node of its graph, or a value of its payload."""

    node: str | None
    value: Any


def parse(entry: str) -> tuple[str | None, str | None]:
    """An entry as the id of a result (None: the one that claims it) and the place in it (None: all of it). Raises
    HookeError for anything else, as paths."""
    found = ENTRY.fullmatch(entry) if isinstance(entry, str) and entry else None
    if found is None:
        raise HookeError(f"{str(entry)[:80]!r} is not an evidence id: 32 hexadecimal digits, #key for a place, or both")
    return found[1], found[2]


def resolve(entry: str, result: Result, others: Mapping[str, Result]) -> Place:
    """What an entry of a claim of `result` leads to. others: the results it was made from, by id. Raises HookeError if
    that result is not there, or has no such place."""
    number, key = parse(entry)
    at = result if number in (None, result.id) else others.get(str(number))
    if at is None:
        raise HookeError(f"evidence {number} is not among the results that are here")
    return Place(None, at.payload) if key is None else locate(at, key)


def locate(result: Result, key: str) -> Place:
    """The place that the part of an entry after `#` names. Raises HookeError if there is none in the result."""
    graph = result.payload.get("graph")
    nodes = graph.get("nodes") if isinstance(graph, dict) else None
    for node in nodes if isinstance(nodes, list) else []:
        if isinstance(node, dict) and node.get("id") == key:
            return Place(key, None)
    found = _walk(result.payload, key.split("."))
    if found is None:
        raise HookeError(f"evidence {result.id} ({result.kind}) has no place {key[:80]!r}: no such node, row or key")
    return Place(None, found[0])


def _walk(value: Any, parts: list[str]) -> tuple[Any] | None:
    """The value at a path, wrapped; None if there is none. Keys may have dots of their own, like `resid_post.17`."""
    if not parts:
        return (value,)
    for n in range(len(parts), 0, -1):
        name = ".".join(parts[:n])
        for inside in _inside(value, name):
            found = _walk(inside, parts[n:])
            if found is not None:
                return found
    return None


def _inside(value: Any, name: str) -> list[Any]:
    if isinstance(value, dict):
        return [value[name]] if name in value else []
    if not isinstance(value, list):
        return []
    if re.fullmatch(r"[0-9]{1,9}", name) and int(name) < len(value):
        return [value[int(name)]]
    return [row for row in value if isinstance(row, dict) and any(row.get(field) == name for field in NAMED_BY)]
