"""Every public verb with arguments of wrong types: it takes them, or refuses in one line, and never breaks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import count, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hooke
from families import model_of, one_thread, random_ids  # noqa: F401  (used by all tests here)
from hooke import Edit, HookeError, Result, Site
from hooke.data.labelled.rows import Dataset, Row
from hooke.methods.patch.path import path_patch
from hooke.model import Model, Tokens
from made_up import unknown
from vocabularies import speaking

CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
SLOW = ("progress",)  # called by the verb: whatever it raises is the caller's


class Odd:
    """Something that nobody expects."""


def values() -> Iterator[Any]:
    """Of every kind that a person may hand over by mistake."""
    yield from (None, True, 3, -1, 10**30, 2.5, float("nan"), float("inf"), 1j)
    yield from ("", "x", "resid_post.1", "\ud800", "a\nb", b"x", Path("x"))
    yield from ([], [None], [[]], ["a"], [1, "a"], [1.5], [[1, 2], [3]], (), (1, 2), {}, {"a": 1}, {"input_ids": "x"})
    yield from (
        set(),
        {1},
        range(3),
        range(10**12),
        torch.zeros(0, 3, dtype=torch.long),
        Odd(),
        Odd,
        Odd.__init__,
        lambda *a, **k: 3,
        Ellipsis,
    )
    yield from (np.zeros(0), np.ones(2), np.array("x"), np.array([1, 2]), np.array([[1]]), np.array([None]))
    yield from (np.float32(2), np.int64(2), np.bool_(True))
    yield from (torch.ones(2), torch.tensor(2), torch.tensor([1, 2]), torch.tensor([True]), torch.zeros(0))
    yield from (torch.ones(1, 1, 1, dtype=torch.long), torch.ones(2, device="meta"), torch.ones(2).to_sparse())
    yield Tokens(torch.ones(1, 2), torch.ones(3, 4, 5))
    yield Tokens("x", None)  # type: ignore[arg-type]
    yield (Site("resid_post", 0), Edit("resid_post.0"))
    yield Edit("resid_post.0")
    yield unknown("odd", payload={"type": "odd"})
    yield Dataset("odd", "", ("a", "b"), ())


def ids(n: int = 5, seed: int = 0) -> torch.Tensor:
    return random_ids(n, seed=seed)


@cache
def model() -> Model:
    return model_of("llama")


@cache
def traced() -> Result:
    return hooke.trace(model(), ids(), target=5, contrast=7, nodes=5, verify=False)


@cache
def fitted() -> Result:
    mine = Dataset("mine", "parity", ("no", "yes"), rows())
    return hooke.probe(
        speaking("byte-level"), mine, kind="means", site="resid_post.1", pool="last", random_weights=False
    )


def rows() -> tuple[Row, ...]:
    return tuple(Row(f"the text {n} of {n % 2}", n % 2, f"g{n // 2}", f"t{n // 2 % 5}") for n in range(40))


def examples() -> list[tuple[Any, ...]]:
    return [(ids(seed=n), ids(seed=n + 50), 5 + n, 40 + n) for n in range(4)]


def base() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Each verb with arguments that are right and cheap."""
    clean, corrupt = ids(seed=1), ids(seed=2)
    pair = {"model": model(), "clean": clean, "corrupt": corrupt, "target": 5, "contrast": 7}
    return {
        "trace": (
            hooke.trace,
            {"model": model(), "prompt": clean, "target": 5, "contrast": 7, "counterfactual": corrupt, "nodes": 4,
             "verify": False, "basis": "neurons", "form": "held", "seed": 0},
        ),
        "doctor": (hooke.doctor, {"model": model()}),
        "lens": (hooke.lens, {"model": model(), "prompt": clean, "top": 2}),
        "intervene": (
            hooke.intervene,
            {"model": model(), "traced": traced(), "nodes": [neuron()], "op": "off", "controls": 1, "seed": 0,
             "prepared": None},
        ),
        "patch": (
            hooke.patch,
            {**pair, "sites": "resid_post.1", "positions": [0], "metric": None, "direction": None, "align": False,
             "ablation": "counterfactual", "data": (), "samples": 1, "seed": 0},
        ),
        "path_patch": (path_patch, {**pair, "edges": ["m0->logits"], "metric": None, "direction": "denoise"}),
        "attribute": (
            hooke.attribute,
            {**pair, "sites": "mlp_out", "method": "atp", "metric": None, "direction": "denoise", "steps": 1,
             "exact": False, "seed": 0},
        ),
        "circuit": (
            hooke.circuit,
            {"model": model(), "pairs": examples(), "method": "eap", "size": 3, "level": "nodes", "metric": None,
             "ablation": "counterfactual", "n_pairs": 2, "tests": 1, "source": None, "seed": 0},
        ),
        "tasks": (hooke.tasks, {"model": speaking("byte-level"), "names": ["ioi"], "count": 1, "seed": 0}),
        "probe": (
            hooke.probe,
            {"model": speaking("byte-level"), "dataset": Dataset("mine", "parity", ("no", "yes"), rows()), "kind": "means", "site": "resid_post.1",
             "pool": "last", "template": None, "dictionaries": (), "random_weights": False, "seed": 0, "keep": None},
        ),
        "probe_test": (
            hooke.probe_test,
            {"model": speaking("byte-level"), "fitted": fitted(), "dataset": Dataset("mine", "parity", ("no", "yes"), rows()), "benign": 5, "transfer": False,
             "dictionaries": ()},
        ),
        "assess": (
            hooke.assess,
            {"model": model(), "reference": None, "out": "nowhere", "quick": True, "fresh": False, "seed": 0,
             "settings": None, "shelf": None, "population": None},
        ),
        "scoreboard": (
            hooke.scoreboard,
            {"quick": True, "programs": (), "kinds": ["nothing"], "methods": ["eap"], "pairs": 1, "seed": 0},
        ),
        "ask": (hooke.ask, {"model": speaking("byte-level", CHAT), "question": "Why?", "system": None, "which": 1}),
        "view": (hooke.view, {"result": traced(), "model": None, "height": 300}),
        "load_result": (hooke.load_result, {"path": "nowhere.json"}),
        "load": (
            hooke.load,
            {"name": "nowhere", "revision": None, "device": "cpu", "dtype": "float32", "tokenizer": None, "base": None},
        ),
        "run": (
            model().run,
            {"tokens": clean, "read": ["resid_post.1"], "edits": (), "taps": None, "grad": False, "logits": "last",
             "after": None, "entering": None},
        ),
        "run_each": (
            model().run_each,
            {"tokens": clean, "edit_sets": [[]], "read": ()},
        ),
        "generate": (
            model().generate,
            {"tokens": clean, "max_new_tokens": 2, "read": (), "edits": (), "temperature": 0.0, "seed": 0},
        ),
        "prefix": (model().prefix, {"tokens": clean}),
        "tokens": (model().tokens, {"text": clean, "padding": "left"}),
        "chat": (speaking("byte-level", CHAT).chat, {"question": "Why?", "system": None}),
        "token": (model().token, {"token": 5}),
        "Site": (Site, {"point": "resid_post", "layer": 1, "other": False}),
        "Site.parse": (Site.parse, {"text": "resid_post.1"}),
        "Edit": (
            edited,
            {"site": "resid_post.1", "op": "set", "value": 0.0, "positions": None, "index": None, "rows": None,
             "weight": None, "when": None},
        ),
    }  # fmt: skip


def edited(**fields: Any) -> Any:
    """An edit that runs."""
    return model().run(ids(), edits=[Edit(**fields)])


def neuron() -> str:
    graph = traced().payload["graph"]
    return next(n["id"] for n in graph["nodes"] if n["kind"] == "feature")


VERBS = [
    "trace",
    "doctor",
    "lens",
    "intervene",
    "patch",
    "path_patch",
    "attribute",
    "circuit",
    "tasks",
    "probe",
    "probe_test",
    "assess",
    "scoreboard",
    "ask",
    "view",
    "load_result",
    "load",
    "run",
    "run_each",
    "generate",
    "prefix",
    "tokens",
    "chat",
    "token",
    "Site",
    "Site.parse",
    "Edit",
]


def refusal(call: Callable[[], Any]) -> str | None:
    """What it was refused with; anything but a HookeError is a fault."""
    try:
        call()
    except HookeError as error:
        return str(error)
    return None


def test_what_never_ends_is_refused() -> None:
    """An iterator without an end, where a list is asked for: not memory until there is none."""
    clean, corrupt = ids(seed=1), ids(seed=2)
    for call in (
        lambda: model().run(clean, edits=count()),
        lambda: model().run(clean, read=count()),
        lambda: model().run(clean, edits=Edit("resid_pre.0", index=range(10**12))),
        lambda: model().run_each(clean, count()),
        lambda: model().tokens(count()),
        lambda: Edit("resid_pre.0", positions=count()),
        lambda: Edit("resid_pre.0", rows=count()),
        lambda: hooke.patch(model(), clean, corrupt, target=5, positions=count()),
        lambda: hooke.patch(model(), clean, corrupt, target=5, sites=repeat("resid_post.1")),
    ):
        assert refusal(call)


def test_every_public_function_is_tried() -> None:
    classes = {"Claim", "Graph", "HookeError", "Model", "Node", "Result", "Edit", "Site"}
    elsewhere = {
        "train",
        "evaluate",
        "catalogue",
        "find_features",
        "visualise",
    }  # what they refuse stands in tests/methods
    assert set(hooke.__all__) - classes - elsewhere <= set(VERBS)
    for name, (verb, given) in base().items():
        if name in ("Edit", "run", "run_each", "generate"):
            continue
        assert set(inspect.signature(verb).parameters) - set(SLOW) == set(given), name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", VERBS)
def test_wrong_types_are_refused_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOKE_HOME", str(tmp_path / "home"))
    verb, given = base()[name]
    faults, refused = [], 0
    for argument in given:
        for value in values():
            if name == "load" and argument == "name" and value is None:
                continue  # which is the default model
            what = f"{name}({argument}={type(value).__name__} {str(value)[:60]!r})"
            try:
                said = refusal(partial(verb, **{**given, argument: value}))
            except Exception as error:
                faults.append(f"{what}: {type(error).__name__}: {str(error)[:120]}")
                continue
            if said is not None:
                refused += 1
                if "\n" in said or not said.strip() or len(said) > 800:
                    faults.append(f"{what}: not one line: {said[:200]!r}")
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)
    assert refused > 20
