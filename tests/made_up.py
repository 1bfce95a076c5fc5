"""Results for tests: payloads filled up to what the model of their kind wants, and results of a kind that nobody knows."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np

from hooke.results import Result
from hooke.results.payloads import KINDS, Part
from hooke.results.result import _hashes


def filled(kind: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A payload of this kind: what is given, and nothing much wherever the model wants more."""
    return _of_model(KINDS[kind], given or {})


def unknown(kind: str = "note", *, payload: Mapping[str, Any] | None = None, tensors: Mapping[str, np.ndarray] | None = None, **fields: Any) -> Result:  # fmt: skip
    """A result of a kind that this version has no model for, as one from a file of another version."""
    assert kind not in KINDS
    result = Result(kind=kind, payload=dict(payload or {}), **fields)
    result._tensors = dict(tensors or {})
    result.arrays = _hashes(result._tensors)
    result.id = result.content_id()
    return result


def forged(result: Result, **changes: Any) -> Result:
    """The same with other fields, unchecked, and an id that fits them: what another program may write."""
    made = result.model_copy(update={**changes, "arrays": _hashes(result.tensors)})
    made.id = made.content_id()
    return made


def _of_model(model: type[Part], given: Mapping[str, Any]) -> dict[str, Any]:
    odd = given.keys() - model.model_fields.keys()
    assert not odd, f"{model.__name__} has no {sorted(odd)}"
    out = {}
    for name, field in model.model_fields.items():
        if name in given:
            out[name] = _within(field.annotation, given[name])
        elif field.is_required():
            out[name] = _least(field.annotation, [getattr(m, "min_length", 0) for m in field.metadata])
    return out


def _within(annotation: Any, value: Any) -> Any:
    """A given value, with the models inside it filled up."""
    for arm in _arms(annotation):
        if isinstance(value, dict) and isinstance(arm, type) and issubclass(arm, Part):
            return _of_model(arm, value)
        if isinstance(value, dict) and get_origin(arm) is dict:
            return {key: _within(get_args(arm)[1], inside) for key, inside in value.items()}
        if isinstance(value, list) and get_origin(arm) is list:
            return [_within(get_args(arm)[0], inside) for inside in value]
    return value


def _least(annotation: Any, lengths: list[int] = []) -> Any:  # noqa: B006
    """The least that an annotation allows."""
    arms = _arms(annotation)
    if type(None) in arms:
        return None
    arm = arms[0]
    if isinstance(annotation, type(Annotated[int, 1])):
        lengths = [getattr(m, "min_length", 0) for part in annotation.__metadata__ for m in [part, *part.metadata]]
    if isinstance(arm, type) and issubclass(arm, Part):
        return _of_model(arm, {})
    if get_origin(arm) is list:
        return [_least(get_args(arm)[0])] * max([0, *lengths])
    if get_origin(arm) is Literal:
        return get_args(arm)[0]
    return {} if get_origin(arm) is dict else arm()


def _arms(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for arm in get_args(annotation) for inner in _arms(arm)]
    if isinstance(annotation, type(Annotated[int, 1])):
        return _arms(annotation.__origin__)
    return [annotation]
