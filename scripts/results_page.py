"""Write docs/results.md from the models of payloads.

python scripts/results_page.py
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hooke.results import write_atomic
from hooke.results.payloads import KINDS, Part

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results.md"
PLAIN = {str: "text", int: "whole number", float: "number", bool: "yes or no", Any: "anything", type(None): "null"}
HEAD = """# What results hold

This page is made of the models in `hooke.results.payloads`, by `scripts/results_page.py`.

Every verb returns a `Result`, and `--out` saves it as JSON, with its arrays beside it as safetensors:

| field | what it is |
| --- | --- |
| kind | which verb made it, and so which of the tables below its payload follows |
| version | of the form of the file |
| id | hash of what was done and found: equal work has an equal id, whatever it took and wherever files lay |
| parents | ids of the results it was made from |
| arguments | everything that was asked; data that is too long to stand there, by its hash |
| provenance | the model with the hash of its weights, versions, device, threads |
| status | complete, partial or failed |
| seconds | how long it took, by stage; no part of the id |
| claims | sentences, each with a verdict ([quantities](quantities.md)) and its evidence |
| payload | what was found: see below |
| arrays | hashes of the arrays beside it, by name |

A file is held against the model of its kind when it is opened. One that does not fit is of another version of Hooke, or
damaged; one whose content is not what its id says was altered. Either is refused, in a line that says how to make it
again. Arrays may have been left elsewhere; those that are there must be the ones that were saved.

## Evidence

Every claim that was tested, however that ended, cites what says so. An entry of `claims[].evidence` is

| entry | leads to |
| --- | --- |
| `0f3a…` (32 digits) | the result with this id |
| `0f3a…#key` | a place in that result |
| `#key` | a place in the result that makes the claim |

A key is the id of a node of the result's graph, as `12_345_3`, or a path into its payload, as `groups.0`,
`interventions.3` or `values.resid_post.7.4`: a part of a path is a key, a number in a list, or the `id`, `name`, `key`
or `token` of a row. In Python: `hooke.results.evidence.resolve(entry, result, others)`.

## Units and axes

Every number has a unit. `metric`, `quantity` and `graph_quantity` are that of the metric or quantity that the result
names. Axes say what is counted along each level of a list or object, the outermost first. Of what is marked *not in the
id*, equal work may give another.
"""


def page_text() -> str:
    """The whole page: what all results share, a table for each kind, and one for each part that occurs in them."""
    parts = sorted({part for model in KINDS.values() for part in inside(model)}, key=lambda part: part.__name__)
    lines = [HEAD, "## Kinds", ""]
    lines.append(" ·\n".join(f"[{kind}](#{kind})" for kind in KINDS))
    for kind, model in KINDS.items():
        lines += ["", f"### {kind}", "", f"{first(model)} Made by `{model.made_by}`.", "", *table(model)]
    lines += ["", "## Parts"]
    for part in (part for part in parts if part not in KINDS.values()):
        lines += ["", f"### {part.__name__}", "", first(part), "", *table(part)]
    return "\n".join(lines) + "\n"


def first(model: type[Part]) -> str:
    """The docstring as one paragraph."""
    return " ".join((model.__doc__ or "").split())


def table(model: type[Part]) -> Iterator[str]:
    """A row for each field."""
    yield "| field | type | unit | axes | what it is |"
    yield "| --- | --- | --- | --- | --- |"
    for name, field in model.model_fields.items():
        says = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        text = str(field.description) + (" *(not in the id)*" if says.get("timed") or says.get("place") else "")
        of = kind_of(field.annotation) + ("" if field.is_required() else ", may be absent")
        cells = (f"`{name}`", of, says.get("unit", ""), says.get("axes", ""), text)
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def kind_of(annotation: Any) -> str:
    """A type in words, with links to parts."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(args[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind_of(arm) for arm in args))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in args)
    if origin is list:
        return f"list of {kind_of(args[0])}"
    if origin is dict:
        return "object" if args[1] is Any else f"object of {kind_of(args[1])}"
    if annotation in PLAIN:
        return PLAIN[annotation]
    name = next((kind for kind, model in KINDS.items() if model is annotation), annotation.__name__)
    return f"[{annotation.__name__}](#{name.lower()})"


def inside(annotation: Any) -> Iterator[type[Part]]:
    """All models that occur in one, itself included."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
        for field in annotation.model_fields.values():
            yield from inside(field.annotation)
    for inner in get_args(annotation):
        yield from inside(inner)


if __name__ == "__main__":
    write_atomic(PAGE, page_text().encode())
