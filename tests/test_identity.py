"""Content ids are of what was done and found: not of how long it took, on which device, or where files lay."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hooke
from families import CONFIGS
from hooke.data.circuit_tasks import Example
from hooke.data.labelled import Dataset, Row
from hooke.data.readers import read_rows
from hooke.methods.probe_score import load_probe
from hooke.results import Result, load_result
from hooke.safety.evidence import keep, load_evidence
from hooke.truth.plain import word_tokenizer

PROMPT = "w1 w2 w3 w4"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The same tiny model from two folders."""
    import torch
    import transformers

    first = tmp_path_factory.mktemp("one") / "model"
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(CONFIGS["llama"]()).save_pretrained(first)
    word_tokenizer([f"w{k}" for k in range(97)]).save_pretrained(first)
    second = Path(shutil.copytree(first, tmp_path_factory.mktemp("two") / "moved"))
    return hooke.load(first, device="cpu"), hooke.load(second, device="cpu")


def rows() -> Dataset:
    rng = random.Random(0)
    made = []
    for k in range(60):
        words = [f"w{rng.randrange(10, 90)}" for _ in range(4)]
        made.append(Row(" ".join([*words, f"w{1 + k % 2}"]), k % 2, f"g{k}", f"t{k // 2 % 6}", f"g{k}"))
    return Dataset("words", "Which word is last.", ("one", "two"), tuple(made), ("t5",))


def pairs() -> list[Example]:
    return [Example(f"w{k} w2 w3", f"w{k} w5 w3", ("w7",), ("w8",)) for k in range(20, 32)]


VERBS: dict[str, tuple[Callable[..., Result], dict[str, Any]]] = {
    "trace": (lambda m, **o: hooke.trace(m, PROMPT, **{"nodes": 12, **o}), {"nodes": 13}),
    "lens": (lambda m, **o: hooke.lens(m, PROMPT, **o), {"top": 3}),
    "patch": (lambda m, **o: hooke.patch(m, PROMPT, "w1 w9 w3 w4", **{"sites": ["resid_post"], "target": "w7", **o}), {"target": "w8"}),
    "attribute": (
        lambda m, **o: hooke.attribute(m, PROMPT, "w1 w9 w3 w4", **{"sites": ["z"], "target": "w7", "contrast": "w8", **o}),
        {"contrast": "w9"},
    ),
    "circuit": (lambda m, **o: hooke.circuit(m, pairs(), **{"method": "eap", "tests": 3, **o}), {"seed": 1}),
    "probe": (
        lambda m, data=None, **o: hooke.probe(m, data or rows(), **{"kind": "means", "site": "resid_post.1", "pool": "last", **o}),
        {"site": "resid_post.2"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("verb", list(VERBS))
def test_equal_work_has_an_equal_id(models, verb):
    """A probe's was another in every run: microseconds were in what was hashed."""
    do, other = VERBS[verb]
    first, again, moved, changed = do(models[0]), do(models[0]), do(models[1]), do(models[0], **other)
    different = {k: (a, b) for k, a, b in flat(first, again) if a != b}
    assert first.id == again.id, different
    assert first.provenance["model"] != moved.provenance["model"]
    assert first.id == moved.id
    assert changed.id != first.id
    for result in (first, moved):
        assert result.is_whole()


def test_an_intervention_and_what_is_made_of_a_probe(models):
    ids: list[list[str]] = []
    for model in (models[0], models[0], models[1]):
        trace = hooke.trace(model, PROMPT, nodes=12, verify=False)
        node = next(n["node_id"] for n in trace.payload["graph"]["nodes"] if n["hooke"]["kind"] == "feature")
        fitted = VERBS["probe"][0](model)
        tested = hooke.probe_test(model, fitted, rows(), benign=0)
        ids.append([hooke.intervene(model, trace, [node]).id, fitted.id, tested.id])
    assert ids[0] == ids[1] == ids[2]


def test_where_a_file_of_rows_lies_is_not_in_a_probe(models, tmp_path):
    ids = []
    for place in (tmp_path / "one", tmp_path / "another"):
        place.mkdir()
        lines = [json.dumps({"text": row.text, "label": row.label, "group": row.group}) for row in rows().rows]
        (place / "facts.jsonl").write_text("\n".join(lines))
        data = read_rows(place / "facts.jsonl")
        assert data.name == "facts.jsonl"
        fitted = VERBS["probe"][0](models[0], data)
        tested = hooke.probe_test(models[0], fitted, data, benign=0)
        assert str(tmp_path) not in fitted.to_json() + tested.to_json()
        ids.append([fitted.id, tested.id])
    assert ids[0] == ids[1]


def flat(one: Result, two: Result) -> list[tuple[str, Any, Any]]:
    """Where two results may differ, to be read when a test fails."""

    def walk(a: Any, b: Any, place: str) -> list[tuple[str, Any, Any]]:
        if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
            return [x for key in a for x in walk(a[key], b[key], f"{place}.{key}")]
        if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            return [x for k in range(len(a)) for x in walk(a[k], b[k], f"{place}.{k}")]
        return [(place, a, b)]

    return walk(json.loads(one.to_json()), json.loads(two.to_json()), "")


TIMED = {
    "attribution": ({"seconds": {"atp": 1.0}, "scores": {"seconds": 1.0}}, ["payload", "seconds", "atp"]),
    "probe": ({"cost": {"microseconds_per_token": 1.0, "flops_per_token": 2.0}}, ["payload", "cost", "microseconds_per_token"]),
    "scoreboard": ({"methods": [{"name": "a", "seconds": 1.0, "kinds": {"k": {"seconds": 2.0}}}], "each": [{"methods": {"a": {"seconds": 3.0}}}]},
                   ["payload", "each", 0, "methods", "a", "seconds"]),
    "organisms": ({"organisms": [{"name": "a", "seconds": 1.0}]}, ["payload", "organisms", 0, "seconds"]),
    "trained": ({"seconds": {"total": 3.0}, "name": "a"}, ["payload", "seconds", "total"]),
    "models": ({"models": [{"name": "a", "path": "/home/a"}]}, ["payload", "models", 0, "path"]),
    "trace": ({"graph": {"metadata": {"scan": "mine", "hooke": {"scan": "/home/a/mine"}}}}, ["provenance", "device"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(TIMED))
def test_times_and_places_are_kept_and_not_hashed(tmp_path, kind):
    payload, place = TIMED[kind]
    provenance = {"model": "/home/a/mine", "weights_sha256": "1" * 64, "device": "cpu", "threads": {"used": 1}}
    made = Result.make(kind, payload=payload, provenance=provenance, tensors={"x": np.ones(2)}, seconds={"total": 1.0})
    data = json.loads(made.to_json())
    inside: Any = data
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = "elsewhere" if isinstance(inside[place[-1]], str) else 9.0
    (tmp_path / "r.json").write_text(json.dumps(data))
    made.save(tmp_path / "whole.json")
    (tmp_path / "r.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes())
    assert load_result(tmp_path / "r.json").is_whole()
    # and everything else is hashed
    for change in ({"parents": ["a"]}, {"arguments": {"n": 1}}, {"payload": {**payload, "more": 1}}, {"status": "partial"},
                   {"provenance": {**provenance, "dtype": "float16"}}, {"provenance": {**provenance, "weights_sha256": "2" * 64}}):  # fmt: skip
        (tmp_path / "r.json").write_text(json.dumps({**data, **change}))
        assert not load_result(tmp_path / "r.json").is_whole(), change


def test_a_word_called_seconds_is_hashed():
    assert Result.make("patch", payload={"seconds": 1}).id != Result.make("patch", payload={"seconds": 2}).id
    one, two = ({"scores": {"seconds": n}, "seconds": {}} for n in (1, 2))
    assert Result.make("attribution", payload=one).id != Result.make("attribution", payload=two).id


def test_the_name_of_a_model_counts_where_it_is_no_place():
    def made(**provenance: Any) -> str:
        return Result.make("lens", provenance=provenance, payload={}).id

    assert made(model="a", weights_sha256="1") != made(model="b", weights_sha256="1")
    assert made(model="/home/a") != made(model="/home/b")  # nothing else says which it was
    assert made(model="/home/a", weights_sha256="1") == made(model="/home/b", weights_sha256="1")
    assert made(model="/home/a", weights_sha256="1") != made(model="/home/a", weights_sha256="2")


def test_files_with_earlier_ids_still_open(models, tmp_path):
    """Ids were once of the times too, and of the threads."""
    fitted = VERBS["probe"][0](models[0])
    for number, out in enumerate(({}, {"provenance": {"threads"}})):
        fitted.id = fitted._hash({"id": True, "seconds": True, **out})
        assert fitted.id != fitted.content_id()
        again = load_probe(fitted.save(tmp_path / str(number) / "probe.json").parent)
        assert again.id == fitted.id
        name = keep(tmp_path / f"a{number}", fitted)
        assert load_evidence(tmp_path / f"a{number}", name).id == fitted.id
    fitted.payload["n_candidates"] += 1
    with pytest.raises(hooke.HookeError, match="altered"):
        load_probe(fitted.save(tmp_path / "x" / "probe.json").parent)
