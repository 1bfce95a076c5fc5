"""`Result`: ids, files, and the refusals."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from hooke.errors import HookeError
from hooke.results import Claim, Result, load_result, write_atomic


def make(**fields):
    return Result.make(
        "trace",
        tensors={"x": np.arange(6.0).reshape(2, 3)},
        payload={"a": 1.5, "text": "</script>\u202e\n"},
        claims=[Claim(text="it is so", verdict="tested", evidence=["n1"])],
        **fields,
    )


def test_id_is_the_content_and_not_the_time():
    assert make(seconds={"total": 1.0}).id == make(seconds={"total": 2.0}).id
    assert make().id != make(arguments={"n": 1}).id
    other = Result.make("trace", tensors={"x": np.ones(2)}, payload=make().payload, claims=make().claims)
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
@pytest.mark.parametrize("kind", ["trace", "patch", "attribute", "circuit", "any"])
def test_numbers_that_are_not_finite_are_refused_for_every_verb(kind, fields, says):
    for dtype, do in (("float16", "float32 or bfloat16"), ("bfloat16", "in float32"), ("float32", "the weights")):
        with pytest.raises(HookeError, match=f"{kind} gives numbers that are not finite .{says}.*{do}"):
            Result.make(kind, provenance={"dtype": dtype}, **fields)


def test_what_is_not_a_number_is_said_by_none_or_declared(tmp_path):
    holes = np.array([1.0, np.nan])
    result = Result.make("patch", payload={"x": None}, tensors={"a": holes}, gaps=["a"])
    result.save(tmp_path / "r.json")
    np.testing.assert_array_equal(load_result(tmp_path / "r.json").tensors["a"], holes)
    data = json.loads(result.to_json())
    data["payload"] = {"x": [0.0, float("nan")]}
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
