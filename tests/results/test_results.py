"""`Result`: ids, files, and the refusals."""

from __future__ import annotations

import json
import os
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from pydantic.fields import FieldInfo
from safetensors.numpy import save

from hooke.errors import HookeError
from hooke.results import Claim, Result, load_result, write_atomic
from hooke.results.payloads import KINDS, Part, numbers
from made_up import filled, unknown
from pages import ROOT, script_of


def make(**fields):
    return unknown(
        tensors={"x": np.arange(6.0).reshape(2, 3)},
        payload={"a": 1.5, "text": "</script>\u202e\n"},
        claims=[Claim(text="it is so", verdict="tested", evidence=["#a"])],
        **fields,
    )


def test_id_is_the_content_and_not_the_time():
    assert make(seconds={"total": 1.0}).id == make(seconds={"total": 2.0}).id
    assert make().id != make(arguments={"n": 1}).id
    other = unknown(tensors={"x": np.ones(2)}, payload=make().payload, claims=make().claims)
    assert other.id != make().id


def test_saves_and_loads(tmp_path):
    result = make()
    path = result.save(tmp_path / "deep" / "r.json")
    back = load_result(path)
    assert back.id == result.id and back.payload == result.payload and back.claims == result.claims
    assert np.array_equal(back.tensors["x"], result.tensors["x"])
    assert back.content_id() == back.id
    assert sorted(p.name for p in path.parent.iterdir()) == ["r.json", "r.safetensors"]


def test_tensors_of_another_result_are_left_alone(tmp_path):
    first, second = make(), make(arguments={"n": 1})
    first.save(tmp_path / "r.json")
    (tmp_path / "r.json").write_text(second.to_json())
    assert load_result(tmp_path / "r.json").tensors == {}


@pytest.mark.parametrize("content, message", [
    ("", "not JSON"), ("{", "not JSON"), ("[]", "not a Hooke result"), ("{}", "not a Hooke result"),
    ('{"kind": "trace", "payload": {}, "surprise": 1}', "surprise"),
    ('{"kind": "trace", "payload": {}, "version": 99}', "newer"),
    ('{"kind": "trace", "payload": []}', "payload"),
    ('{"kind": "trace", "payload": {}}', r"trace that this version of Hooke does not read \(top: .*make it again \(hooke trace\)"),
    ('{"kind": "note", "payload": {}, "id": "1"}', "was altered after it was made.*make it again"),
    ("[" * 100_000, "not JSON"),
])  # fmt: skip
def test_what_is_no_result_is_one_line(tmp_path, content, message):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(HookeError, match=message) as error:
        load_result(path)
    assert "\n" not in str(error.value)


def test_missing_too_large_and_damaged(tmp_path, monkeypatch):
    with pytest.raises(HookeError, match="no file"):
        load_result(tmp_path / "none.json")
    path = make().save(tmp_path / "r.json")
    (tmp_path / "r.safetensors").write_bytes(b"\x05")
    with pytest.raises(HookeError, match="damaged"):
        load_result(path)
    monkeypatch.setattr("hooke.files.MAX_JSON_BYTES", 10)
    with pytest.raises(HookeError, match="are not read"):
        load_result(path)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"payload": {"x": {"y": [1.0, float("nan")]}}}, r"payload\.x\.y\[1\]"),
        ({"payload": {"x": np.float32("inf")}}, r"payload\.x"),
        ({"payload": {"x": np.array([1.0, np.nan])}}, r"payload\.x"),
        ({"arguments": {"x": (-float("inf"),)}}, r"arguments\.x\[0\]"),
        ({"tensors": {"a": np.ones(3), "b": np.array([np.inf], np.float16)}}, r"tensors\.b"),
    ],
)
@pytest.mark.parametrize("kind", ["trace", "patch", "attribution", "circuit"])
def test_numbers_that_are_not_finite_are_refused_for_every_verb(kind, fields, says):
    for dtype, do in (("float16", "float32 or bfloat16"), ("bfloat16", "in float32"), ("float32", "the weights")):
        with pytest.raises(HookeError, match=f"{kind} gives numbers that are not finite .{says}.*{do}"):
            Result.make(kind, provenance={"dtype": dtype}, **{"payload": {}, **fields})


def test_what_is_not_a_number_is_said_by_none_or_declared(tmp_path):
    holes = np.array([1.0, np.nan])
    result = Result.make("graph", payload=filled("graph", {"metadata": {"x": None}}), tensors={"a": holes}, gaps=["a"])
    result.save(tmp_path / "r.json")
    np.testing.assert_array_equal(load_result(tmp_path / "r.json").tensors["a"], holes)
    data = json.loads(result.to_json())
    data["payload"]["metadata"] = {"x": [0.0, float("nan")]}
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(HookeError, match="NaN is no number"):
        load_result(tmp_path / "r.json")


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    write_atomic(path, b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HookeError, match="cannot write"):
        make().save(tmp_path / "file" / "r.json")


# ---- payloads have models --------------------------------------------------------------------------


def test_a_kind_without_a_model_and_a_payload_that_does_not_fit_are_faults_of_the_caller():
    with pytest.raises(TypeError, match="no kind of result called 'note'"):
        Result.make("note", payload={})
    good = filled("tasks", {"tasks": [{"name": "ioi"}]})
    assert Result.make("tasks", payload=good).payload == good
    for change, says in (
        ({"count": "8"}, "tasks does not fit its model: count: .*integer"),
        ({"more": 1}, "more: Extra inputs"),
        ({"tasks": [{}]}, r"tasks\.0\.name: Field required"),
    ):
        with pytest.raises(TypeError, match=says):
            Result.make("tasks", payload=good | change)


def test_a_model_may_be_given_and_is_kept_as_plain_data():
    good = filled("tasks", {"tasks": [{"name": "ioi"}]})
    made = Result.make("tasks", payload=KINDS["tasks"].model_validate(good))
    assert made.payload == good and made.id == Result.make("tasks", payload=good).id
    assert made.typed().tasks[0].name == "ioi" and unknown().typed() is None


def test_arrays_that_were_left_elsewhere_are_no_alteration_and_others_are(tmp_path):
    path = make().save(tmp_path / "r.json")
    other = {"x": np.arange(6.0).reshape(3, 2)}
    (tmp_path / "r.safetensors").write_bytes(save(other, metadata={"result": make().id}))
    with pytest.raises(HookeError, match="was altered"):
        load_result(path)
    (tmp_path / "r.safetensors").unlink()
    alone = load_result(path)
    assert alone.is_unaltered() and not alone.is_whole() and alone.tensors == {}
    path.write_text(path.read_text().replace('"a":1.5', '"a":1.6'))
    with pytest.raises(HookeError, match="was altered after it was made"):
        load_result(path)


def test_every_field_says_what_it_is_its_unit_and_its_axes():
    """Numbers have units, lists and mappings have axes, and everything has words."""
    seen = set()

    def walk(model):
        if model in seen:
            return
        seen.add(model)
        assert model.__doc__ and model.__doc__ != Part.__doc__, model
        for name, field in model.model_fields.items():
            said, where = field.json_schema_extra or {}, f"{model.__name__}.{name}"
            kinds = set(parts_of(field.annotation))
            assert field.description, where
            assert bool(said.get("unit")) == bool(kinds & {int, float}), f"{where}: a number has a unit"
            assert bool(said.get("axes")) == bool(kinds & {list, dict}) or Any in kinds, f"{where}: a list has axes"
            for kind in kinds:
                if isinstance(kind, type) and issubclass(kind, Part):
                    walk(kind)

    for kind, model in KINDS.items():
        assert model.made_by, kind
        walk(model)
    assert len(seen) > 100


def parts_of(annotation):
    """The plain types and models in an annotation; a literal is none."""
    if get_origin(annotation) in (list, dict):
        yield get_origin(annotation)
    inside = () if get_origin(annotation) is Literal else get_args(annotation)
    if get_origin(annotation) is dict:
        inside = inside[1:]
    if (not inside and isinstance(annotation, type)) or annotation is Any:
        yield annotation
    for inner in inside:
        if not isinstance(inner, FieldInfo):
            yield from parts_of(inner)


def test_the_page_of_results_is_that_of_the_models():
    script = script_of("results_page")
    assert script.PAGE.read_text(encoding="utf-8") == script.page_text(), "run `python scripts/results_page.py`"
    parts = {part for model in KINDS.values() for part in script.inside(model)}
    heads = [line[4:].lower() for line in script.page_text().splitlines() if line.startswith("### ")]
    assert len(heads) == len(set(heads)) == len(parts), "two models have one name, and so one anchor"


def test_numbers_of_a_payload_are_told_with_their_units():
    payload = KINDS["toys"].model_validate(filled("toys", {"superposition": [{"near": 3}]}))
    told = {n.place: n for n in numbers(payload)}
    assert told["superposition.0.near"][1:] == (3, "features", "features near any")
    assert told["induction.random.gain"].unit == "nats" and "superposition.0.as_known" not in told


def test_the_command_that_makes_a_result_again_is_one():
    import typer.main

    from hooke.cli import app

    for kind, model in KINDS.items():
        program, *words = model.made_by.split()
        if program != "hooke":
            assert (ROOT / words[0]).is_file(), kind
            continue
        at = typer.main.get_command(app)
        for word in words:
            if word.startswith("--"):
                assert word in {option for p in at.params for option in p.opts}, model.made_by
            else:
                at = at.commands[word]
