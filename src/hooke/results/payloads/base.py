"""How a payload says what it holds: every field with its description, its unit where it is a number, its axes where it
is a list. No torch in here."""

from __future__ import annotations

from typing import Any, ClassVar

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
