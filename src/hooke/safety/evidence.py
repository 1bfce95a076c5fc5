"""The evidence folder of an assessment: results under their content ids, which are computed again when they are read.

An evidence id is the id of a result, or `id#key` for one place in it: a node of its graph, or a path into its payload
(`rows.3`, `by_area.recipes`, `tokens. Paris`). A part of a path is a key, a number in a list, or the `id`, `name`,
`key` or `token` of a row. No torch in here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from hooke.errors import HookeError
from hooke.files import within
from hooke.results import Result, load_result

ID = re.compile(r"[0-9a-f]{32}")
REFERENCE = re.compile(r"([0-9a-f]{32})(?:#(.{1,300}))?", re.DOTALL)
NAMED_BY = ("id", "name", "key", "token")  # fields by which a row of a table is found


class Place(NamedTuple):
    """What an evidence id leads to inside a result: a node of its graph, or a value of its payload."""

    node: str | None
    value: Any


def keep(folder: str | Path, result: Result) -> str:
    """Write a result into the evidence of the assessment at `folder`, atomically, and give its id. Twice is once.

    Raises HookeError for a result that was changed after it was made, and if the folder cannot be written.
    """
    if not result.is_whole():
        raise HookeError(f"this {result.kind} was changed after it was made, so it is no evidence; make it again")
    result.save(evidence_path(folder, result.id))
    return result.id


def load_evidence(folder: str | Path, name: str) -> Result:
    """The result that an evidence id (`id` or `id#key`) names, with its tensors; its content is hashed again.

    Raises HookeError for what is no evidence id, for a missing file, and for one whose content is not what its id
    says, tensors included: altered, or of another result.
    """
    number, _ = split(name)
    path = evidence_path(folder, number)
    if not path.is_file():
        raise HookeError(f"evidence {number} is missing: there is no {path}")
    within(path, Path(folder))
    result = load_result(path)
    if result.id != number:
        raise HookeError(f"{path} holds another result, {result.id[:40]!r}, and not evidence {number}")
    if not result.is_whole():
        raise HookeError(
            f"{path}, evidence {number}, was altered: its content (tensors included) is not what its id says"
        )
    return result


def split(name: str) -> tuple[str, str | None]:
    """An evidence id as the id of a result and the place in it. Raises HookeError for anything else, as paths."""
    found = REFERENCE.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise HookeError(
            f"{str(name)[:80]!r} is not an evidence id: 32 hexadecimal digits, and #key for a place inside"
        )
    return found[1], found[2]


def locate(result: Result, key: str) -> Place:
    """The place that the part of an evidence id after `#` names. Raises HookeError if there is none in the result."""
    graph = result.payload.get("graph")
    nodes = graph.get("nodes") if isinstance(graph, dict) else None
    for node in nodes if isinstance(nodes, list) else []:
        if isinstance(node, dict) and node.get("node_id") == key:
            return Place(key, None)
    found = _walk(result.payload, key.split("."))
    if found is None:
        raise HookeError(f"evidence {result.id} ({result.kind}) has no place {key[:80]!r}: no such node, row or key")
    return Place(None, found[0])


def evidence_path(folder: str | Path, number: str) -> Path:
    """Where the evidence with this id lies. Raises HookeError for what is no id."""
    if not ID.fullmatch(number):
        raise HookeError(f"{number[:80]!r} is not the id of a result")
    return Path(folder) / "evidence" / f"{number}.json"


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
