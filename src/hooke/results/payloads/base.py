"""How a payload says what it holds: every field with its description, its unit where it is a number, its axes where it
is a list. No torch in here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A part of a payload, or of a page. Unknown keys are refused, and so is a text where a number is expected."""

    model_config = ConfigDict(
        extra="forbid", strict=True, defer_build=True, ser_json_inf_nan="null",
        json_schema_serialization_defaults_required=True,
    )  # fmt: skip


class Payload(Part):
    """What a result of one kind holds. made_by: how a person makes such a result again."""

    made_by: ClassVar[str] = ""


def told(
    text: str, unit: str = "", axes: str = "", *, default: Any = ..., timed: bool = False, place: bool = False
) -> Any:
    """A field of a payload.

    unit: of the number, or of the numbers in the list. axes: what is counted along each level of a nested list or
    mapping, outermost first, as "layer position". timed: it holds how long something took, or place: where a file lay;
    neither is part of what a content id is of (`results/identity.py`).
    """
    says = {"unit": unit, "axes": axes, "timed": timed, "place": place}
    extra: dict[str, Any] = {key: value for key, value in says.items() if value}
    return Field(default, description=text, json_schema_extra=extra or None)


class Number(NamedTuple):
    """A number of a payload: its place, what it is counted in, and what it is."""

    place: str
    value: float
    unit: str
    about: str


def numbers(part: Part, place: str = "") -> Iterator[Number]:
    """The single numbers of a payload and of the parts in it, in their order. Not those in lists of numbers."""
    for name, field in type(part).model_fields.items():
        value, where = getattr(part, name), f"{place}{name}"
        says = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield Number(where, value, str(says.get("unit", "")), str(field.description))
        for n, inner in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(inner, Part):
                yield from numbers(inner, f"{where}.{n}." if isinstance(value, list) else f"{where}.")
