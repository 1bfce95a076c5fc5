"""Content ids are of what was done and found: not of how long it took, on which device, or where files lay."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hooke
from families import CONFIGS
from hooke.data.labelled.readers import read_rows
from hooke.data.labelled.rows import Dataset, Row
from hooke.data.prompts.circuit_tasks import Example
from hooke.dictionaries import neurons
from hooke.methods.patch.path import path_patch
from hooke.methods.probe.score import load_probe
from hooke.results import Result, load_result
from hooke.results.identity import of_payload
from hooke.results.payloads import KINDS
from hooke.safety.audit import RECORDED
from hooke.safety.evidence import keep, load_evidence
from hooke.truth.plain import word_tokenizer
from made_up import filled

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


def pairs(at: Iterable[int]) -> list[Example]:
    return [Example(f"w{k} w2 w3", f"w{k} w5 w3", ("w7",), ("w8",)) for k in at]


PATCHED = {"sites": ["resid_post"], "target": "w7"}
ESTIMATED = {"sites": ["z"], "target": "w7", "contrast": "w8"}
# a verb, and what it is asked otherwise, one argument at a time: every change is another result
VERBS: dict[str, tuple[Callable[..., Result], list[dict[str, Any]]]] = {
    "trace": (
        lambda m, prompt=PROMPT, **o: hooke.trace(m, prompt, **{"nodes": 12, **o}),
        [{"nodes": 13}, {"prompt": "w1 w2 w3 w5"}, {"target": "w7"}, {"contrast": "w8"}, {"seed": 1}, {"verify": False},
         {"counterfactual": "w1 w9 w3 w4"}, {"basis": "dictionaries"}],
    ),
    "lens": (lambda m, prompt=PROMPT, **o: hooke.lens(m, prompt, **o), [{"top": 3}, {"prompt": "w1 w2 w3 w5"}]),
    "patch": (
        lambda m, prompt=PROMPT, corrupt="w1 w9 w3 w4", **o: hooke.patch(m, prompt, corrupt, **{**PATCHED, **o}),
        [{"prompt": "w1 w2 w3 w5", "corrupt": "w1 w9 w3 w5"}, {"corrupt": "w1 w8 w3 w4"}, {"target": "w8"}, {"contrast": "w9"},
         {"target": ["w7", "w9"]}, {"target": ["w7", "w10"]}, {"metric": "logit"}, {"direction": "noise"},
         {"positions": [1]}, {"positions": "all"}, {"sites": ["mlp_out"]}, {"align": True},
         {"ablation": "zero"}, {"ablation": "mean", "data": ["w5 w6 w7 w8"]}, {"ablation": "mean", "data": ["w5 w6 w7 w9"]},
         {"ablation": "resample", "data": ["w5 w6 w7 w8", "w6 w6 w7 w8"], "samples": 2}],
    ),
    "path_patch": (
        lambda m, edges=("m0->logits",), **o: path_patch(m, PROMPT, "w1 w9 w3 w4", list(edges), **{"target": "w7", **o}),
        [{"edges": ("m1->logits",)}, {"target": "w8"}, {"contrast": "w9"}, {"metric": "logit"}, {"direction": "noise"}],
    ),
    "attribute": (
        lambda m, clean=PROMPT, corrupt="w1 w9 w3 w4", **o: hooke.attribute(m, clean, corrupt, **{**ESTIMATED, **o}),
        [{"contrast": "w9"}, {"target": "w9"}, {"exact": False}, {"steps": 7, "method": "ig-inputs"}, {"method": "atp"},
         {"steps": 8, "method": "ig-inputs"}, {"direction": "noise"}, {"sites": ["mlp_out"]}, {"metric": "probability"},
         *({"clean": [PROMPT, f"w1 w2 w3 w{k}"], "corrupt": ["w1 w9 w3 w4", f"w1 w9 w3 w{k}"], "target": ["w7", "w7"],
            "contrast": ["w8", "w8"]} for k in (5, 6))],
    ),
    "circuit": (
        lambda m, at=range(20, 32), **o: hooke.circuit(m, pairs(at), **{"method": "eap", "tests": 3, **o}),
        [{"seed": 1}, {"at": range(21, 33)}, {"at": [*range(20, 31), 60]}, {"size": 9}, {"tests": 2}, {"n_pairs": 5},
         {"method": "exact"}, {"level": "nodes"}, {"metric": "probability"}],
    ),
    "probe": (
        lambda m, data=None, **o: hooke.probe(m, data or rows(), **{"kind": "means", "site": "resid_post.1", "pool": "last", **o}),
        [{"site": "resid_post.2"}, {"kind": "lda"}, {"pool": "mean"}, {"seed": 1}, {"random_weights": False},
         {"template": "w1 {text}"}, {"data": "other"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("verb", list(VERBS))
def test_equal_work_has_an_equal_id_and_other_work_another(models, verb):
    """A probe's was another in every run: microseconds were in what was hashed. Patches of several targets, estimates
    of several pairs and circuits of one's own pairs did not say which."""
    do, others = VERBS[verb]
    first, again, moved = do(models[0]), do(models[0]), do(models[1])
    different = {k: (a, b) for k, a, b in flat(first, again) if a != b}
    assert first.id == again.id, different
    assert first.provenance["model"] != moved.provenance["model"]
    assert first.id == moved.id
    told = {json.dumps(first.arguments): "nothing changed"}
    for change in others:
        given = dict(change)
        if given.get("basis"):
            given["basis"] = neurons(models[0])
        if given.get("data") == "other":
            given["data"] = replace(rows(), rows=rows().rows[:-1])
        changed = do(models[0], **given)
        assert changed.id != first.id
        # the arguments say it by themselves, whatever came of it
        assert json.dumps(changed.arguments) not in told, (change, told[json.dumps(changed.arguments)])
        told[json.dumps(changed.arguments)] = str(change)
    for result in (first, moved):
        assert result.is_whole()


def test_a_token_is_the_same_by_its_text_and_by_its_id(models):
    for name in ("trace", "patch", "attribute"):
        do, _ = VERBS[name]
        by_text, by_id = (do(models[0], target=t, contrast=c) for t, c in (("w7", "w8"), (ids("w7"), ids("w8"))))
        assert by_text.id == by_id.id, name


def ids(word: str) -> int:
    """Its number in the vocabulary of `models`."""
    return int(word_tokenizer([f"w{k}" for k in range(97)]).convert_tokens_to_ids(word))


def test_an_intervention_and_what_is_made_of_a_probe(models):
    ids: list[list[str]] = []
    for model in (models[0], models[0], models[1]):
        trace = hooke.trace(model, PROMPT, nodes=12, verify=False)
        node = next(n["id"] for n in trace.payload["graph"]["nodes"] if n["kind"] == "feature")
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


SUMS = {"name": "a", "seconds": 1.0}
# what a payload of the kind holds, a place that is not hashed, and one that is
TIMED = {
    "probe": ({"cost": {"microseconds_per_token": 1.0}}, ["cost", "microseconds_per_token"], ["cost", "flops_per_token"]),
    "scoreboard": (
        {"methods": [SUMS | {"kinds": {"k": {"seconds": 2.0}}}], "each": [{"methods": {"a": {"seconds": 3.0}}}]},
        ["each", 0, "methods", "a", "seconds"], ["each", 0, "methods", "a", "passes"],
    ),
    "organisms": ({"organisms": [SUMS]}, ["organisms", 0, "seconds"], ["organisms", 0, "size"]),
    "models": ({"models": [{"name": "a", "path": "/home/a"}]}, ["models", 0, "path"], ["models", 0, "name"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(TIMED))
def test_times_and_places_are_kept_and_not_hashed(tmp_path, kind):
    given, left, held = TIMED[kind]
    provenance = {"model": "/home/a/mine", "weights_sha256": "1" * 64, "device": "cpu", "threads": {"used": 1}}
    made = Result.make(
        kind, payload=filled(kind, given), provenance=provenance, tensors={"x": np.ones(2)}, seconds={"total": 1.0}
    )
    data = json.loads(made.to_json())
    data["provenance"]["device"], data["seconds"]["total"] = "cuda", 2.0
    alter(data["payload"], left)
    (tmp_path / "r.json").write_text(json.dumps(data))
    made.save(tmp_path / "whole.json")
    (tmp_path / "r.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes())
    assert load_result(tmp_path / "r.json").is_whole()
    # and everything else is hashed
    other = json.loads(json.dumps(data["payload"]))
    alter(other, held)
    for change in ({"parents": ["a"]}, {"arguments": {"n": 1}}, {"payload": other}, {"status": "partial"}, {"arrays": {}},
                   {"provenance": {**provenance, "dtype": "float16"}}, {"provenance": {**provenance, "weights_sha256": "2" * 64}}):  # fmt: skip
        (tmp_path / "r.json").write_text(json.dumps({**data, **change}))
        with pytest.raises(hooke.HookeError, match="altered after it was made"):
            load_result(tmp_path / "r.json")


def alter(inside: Any, place: list[Any]) -> None:
    """Put another value of the same type there."""
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = "/elsewhere" if isinstance(inside[place[-1]], str) else (inside[place[-1]] or 0) + 9


def test_what_is_not_hashed_stands_in_the_models_alone():
    """The list in `identity` was a second one."""
    assert {place for kind in KINDS for place in of_payload(kind)} == {
        "payload.cost.microseconds_per_token", "payload.methods.*.seconds", "payload.methods.*.kinds.*.seconds",
        "payload.each.*.methods.*.seconds", "payload.organisms.*.seconds", "payload.models.*.path",
        "payload.dictionary",
    }  # fmt: skip


def test_a_word_called_seconds_is_hashed():
    one, two = (
        filled(
            "scoreboard",
            {"methods": [{"name": "a", "families": {"seconds": n}, "kinds": {"seconds": {"seconds": 1.0}}}]},
        )
        for n in (0.1, 0.2)
    )
    assert Result.make("scoreboard", payload=one).id != Result.make("scoreboard", payload=two).id


def test_the_name_of_a_model_counts_where_it_is_no_place():
    def made(**provenance: Any) -> str:
        return Result.make("tasks", provenance=provenance, payload=filled("tasks")).id

    assert made(model="a", weights_sha256="1") != made(model="b", weights_sha256="1")
    assert made(model="/home/a") != made(model="/home/b")  # nothing else says which it was
    assert made(model="/home/a", weights_sha256="1") == made(model="/home/b", weights_sha256="1")
    assert made(model="/home/a", weights_sha256="1") != made(model="/home/a", weights_sha256="2")


def test_files_with_earlier_ids_still_open(models, tmp_path):
    """Ids were once of the bytes of arrays, and before that of the times too, and of the threads."""
    fitted = VERBS["probe"][0](models[0])
    fitted.version, fitted.arrays = 1, {}
    earlier = (
        {"id": True, "seconds": True},
        {"id": True, "seconds": True, "provenance": {"threads"}},
        fitted._left_out(),
    )
    for number, out in enumerate(earlier):
        fitted.id = fitted._hash({**out, "arrays": True}, fitted.tensors)
        assert fitted.id != fitted.content_id()
        again = load_probe(fitted.save(tmp_path / str(number) / "probe.json").parent)
        assert again.id == fitted.id
        name = keep(tmp_path / f"a{number}", fitted)
        assert load_evidence(tmp_path / f"a{number}", name).id == fitted.id
    fitted.payload["n_candidates"] += 1
    with pytest.raises(hooke.HookeError, match="altered"):
        load_probe(fitted.save(tmp_path / "x" / "probe.json").parent)


def test_what_came_with_hooke_still_opens():
    """Made by version 1."""
    files = sorted(RECORDED.glob("*/*.json"))
    assert len(files) > 30
    assert {load_result(path).version for path in files} == {1}
