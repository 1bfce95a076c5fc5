"""One grammar for evidence: every claim that was tested cites what says so, in every kind of result."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import pytest

import hooke
from hooke import Model, Result
from hooke.data.labelled.rows import Dataset, Row
from hooke.errors import HookeError
from hooke.methods.patch.path import path_patch
from hooke.methods.probe.explain import probe_explain
from hooke.methods.trace.parts import NAMED
from hooke.results import Claim
from hooke.results.evidence import Place, locate, parse, resolve
from hooke.results.payloads import KINDS
from house import FILES, TREES, kinds_made
from made_up import filled

PROMPT = "Alice was beginning to get very tired of sitting by her sister"
PAIR = ("Alice was beginning to get very", "Queen was beginning to get very")
CIRCUIT = ("was very", "said to", "had never", "looked at", "could not", "thought that")
ID = "0123456789abcdef" * 2

# results of kinds that assert nothing: listings, files from elsewhere, and what others are made of
SILENT = {"graph", "models", "datasets", "organisms", "trained", "answers", "scan_below"}


def probed() -> Dataset:
    rows = [
        Row(f"The {noun} {verb} in the wood.", int(verb == "walked"), noun, noun[0], noun)
        for noun in ("cat", "dog", "hare", "mouse", "queen", "king", "cook", "duchess", "gryphon", "turtle", "rabbit", "duck")
        for verb in ("walks", "walked")
    ]  # fmt: skip
    return Dataset("tense", "The past.", ("present", "past"), tuple(rows))


@pytest.fixture(scope="module")
def made(glass: Model) -> dict[str, tuple[Result, dict[str, Result]]]:
    """One small result of each verb, with what it was made from."""
    trace = hooke.trace(glass, PROMPT, nodes=60)
    node = next(n["id"] for n in trace.payload["graph"]["nodes"] if n["kind"] == "feature")
    fitted = hooke.probe(glass, probed(), kind="means", site="resid_post.2", pool="last", random_weights=False)
    whose = {"target": " so", "contrast": " the"}
    alone = {
        "trace": trace,
        "lens": hooke.lens(glass, PROMPT),
        "patch": hooke.patch(glass, *PAIR, sites=["resid_post", "z"], **whose),
        "path_patch": path_patch(glass, *PAIR, ["m0->logits", "a1.h0->m2"], **whose),
        "attribution": hooke.attribute(glass, *PAIR, sites=["mlp_out"], method="atp", **whose),
        "circuit": hooke.circuit(glass, [(f"Alice {words}", f"Queen {words}", " the", " a") for words in CIRCUIT], method="eap", tests=5),
        "tasks": hooke.tasks(glass, ["ioi"], count=4),
        "doctor": hooke.doctor(glass),
        "probe": fitted,
    }  # fmt: skip
    with_parents = {
        "intervention": (hooke.intervene(glass, trace, [node]), trace),
        "probe_test": (hooke.probe_test(glass, fitted, probed(), benign=0), fitted),
        "probe_explain": (probe_explain(glass, fitted, "The cat walked in the wood.", neurons=5, controls=2), fitted),
    }
    found: dict[str, tuple[Result, dict[str, Result]]] = {kind: (result, {}) for kind, result in alone.items()}
    return found | {kind: (result, {parent.id: parent}) for kind, (result, parent) in with_parents.items()}


def test_every_entry_leads_somewhere(made: dict[str, tuple[Result, dict[str, Result]]]) -> None:
    for kind, (result, others) in made.items():
        assert result.kind == kind and result.claims and kind not in SILENT
        for claim in result.claims:
            assert claim.evidence or claim.verdict == "untested"
            places = [resolve(entry, result, others) for entry in claim.evidence]
            assert all(place.node or place.value is not None for place in places), claim


def test_a_group_of_a_sentence_cites_the_intervention_on_it(made: dict[str, tuple[Result, dict[str, Result]]]) -> None:
    trace, _ = made["trace"]
    tested = [claim for claim in trace.claims if any(entry.startswith("#groups") for entry in claim.evidence)]
    named = trace.payload["groups"][:NAMED]
    assert len(tested) == len(named) > 1
    for claim, group in zip(tested, named, strict=True):
        own, run, *nodes = (resolve(entry, trace, {}) for entry in claim.evidence)
        assert own.value is group and run.value["op"] == "off" and set(run.value["nodes"]) == set(group["nodes"])
        assert [place.node for place in nodes] == group["nodes"] and claim.verdict == group["verdict"]
        assert run.value["change"] == pytest.approx(group["measured"], abs=1e-3)


def test_the_strongest_patch_is_the_cell_that_is_cited(made: dict[str, tuple[Result, dict[str, Result]]]) -> None:
    patch, _ = made["patch"]
    (entry,) = patch.claims[0].evidence
    start = patch.payload[patch.payload["base"]]

    def cells(value: Any) -> list[float]:
        return [x for inner in value for x in cells(inner)] if isinstance(value, list) else [value]

    effects = [abs(x - start) for grid in patch.payload["values"].values() for x in cells(grid)]
    assert abs(resolve(entry, patch, {}).value - start) == pytest.approx(max(effects))


def test_kinds_that_claim_nothing_are_the_silent_ones() -> None:
    """All others pass claims to `Result.make`, which refuses a tested one that cites nothing or a place that is not."""
    speaking = set()
    for path in FILES:
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Result.make":
                kind = next(kinds_made(ast.Expression(node)))
                speaking |= {kind} if "claims" in {word.arg for word in node.keywords} else set()
    assert speaking == KINDS.keys() - SILENT


@pytest.mark.parametrize(
    ("evidence", "says"),
    [
        ([], "is refuted and cites nothing"),
        (["#tasks.1"], "has no place 'tasks.1'"),
        (["#12_3_4"], "has no place"),
        (["n1"], "'n1' is not an evidence id"),
        (["../x#y"], "is not an evidence id"),
        ([ID.upper()], "is not an evidence id"),
        ([""], "is not an evidence id"),
    ],
)
def test_a_claim_that_cites_nothing_that_is_there_is_a_fault(evidence: list[str], says: str) -> None:
    payload = filled("tasks", {"tasks": [{"name": "ioi"}]})
    with pytest.raises(TypeError, match=says):
        Result.make("tasks", payload=payload, claims=[Claim(text="So.", verdict="refuted", evidence=evidence)])


def test_the_grammar() -> None:
    assert parse(ID) == (ID, None) and parse(f"{ID}#a.b c") == (ID, "a.b c") and parse("#a.0") == (None, "a.0")
    one, two = (
        Result.make("tasks", payload=filled("tasks", {"tasks": [{"name": name}], "count": n}))
        for n, name in enumerate(("ioi", "a.b"))
    )
    find: Callable[[str], Place] = lambda entry: resolve(entry, one, {two.id: two})  # noqa: E731
    assert find("#tasks.ioi.name") == (None, "ioi") and find(f"{two.id}#tasks.a.b.name") == (None, "a.b")
    assert find(one.id).value == one.payload and find(two.id).value == two.payload
    assert find(f"{one.id}#count") == (None, 0)
    for entry in (f"{ID}#tasks", ID):
        with pytest.raises(HookeError, match="not among the results"):
            find(entry)
    with pytest.raises(HookeError, match="has no place"):
        locate(one, "tasks.2")
