"""A report is rendered from claims alone: what has no evidence, or not the evidence it was made from, is refused by name."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hooke import HookeError, Model, Result
from hooke.cli import main
from hooke.results import tensor_path
from hooke.results.evidence import locate
from hooke.safety.evidence import evidence_path, keep, load_evidence, split
from hooke.safety.report import ASSESSMENT, NOT_VALIDATED, check, read_report
from hooke.server.store import Store
from hooke.viewer import html_page, page_bytes, read_file, script, write_report
from made_up import filled, forged, unknown
from pages import unpacked
from reports import HOSTILE, assessment_of, evidence_of, probe_result, probe_test_result, sentences, write_folder
from serving import Client, running


@pytest.fixture(scope="module")
def parts(glass: Model) -> dict[str, Result]:
    return evidence_of(glass)


@pytest.fixture
def folder(parts: dict[str, Result], tmp_path: Path) -> Path:
    write_folder(tmp_path / "out", parts)
    return tmp_path / "out"


def refusal(work: Callable[[], Any]) -> str:
    with pytest.raises(HookeError) as error:
        work()
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- evidence -----------------------------------------------------------------------------------


def test_evidence_comes_back_as_it_was_kept(parts: dict[str, Result], tmp_path: Path) -> None:
    for result in parts.values():
        assert keep(tmp_path, result) == keep(tmp_path, result) == result.id
        back = load_evidence(tmp_path, result.id + "#anything")
        assert back.model_dump() == json.loads(result.to_json())
        assert back.tensors.keys() == result.tensors.keys()


@pytest.mark.parametrize("name", ["", "x", "../" + "a" * 29, "A" * 32, "a" * 31, "a" * 33, "a" * 32 + "/..", "a" * 32 + "#", "\n" * 32])  # fmt: skip
def test_what_is_no_id_is_no_path(name: str, tmp_path: Path) -> None:
    for work in (split, lambda n: load_evidence(tmp_path, n)):
        assert "is not an evidence id" in refusal(lambda work=work: work(name))
    if "#" not in name:
        assert "is not the id" in refusal(lambda: evidence_path(tmp_path, name))


def test_a_result_that_was_changed_after_it_was_made_is_not_kept(tmp_path: Path) -> None:
    result = unknown("table", payload={"a": 1})
    result.payload["a"] = 2
    assert "changed after it was made" in refusal(lambda: keep(tmp_path, result))
    assert not list(tmp_path.iterdir())


def test_altered_evidence_is_refused(tmp_path: Path) -> None:
    """A number in the JSON, a number in the tensors, tensors taken away, another result under this name."""
    result = unknown("table", payload={"a": 1}, tensors={"x": np.arange(3.0)})
    keep(tmp_path, result)
    path = evidence_path(tmp_path, result.id)
    whole, arrays = path.read_bytes(), tensor_path(path).read_bytes()
    path.write_bytes(whole.replace(b'"a":1', b'"a":2'))
    assert "was altered" in refusal(lambda: load_evidence(tmp_path, result.id))
    path.write_bytes(whole)
    tensor_path(path).write_bytes(arrays[:-1] + b"\x01")
    assert "was altered" in refusal(lambda: load_evidence(tmp_path, result.id))
    tensor_path(path).unlink()
    assert "was altered" in refusal(lambda: load_evidence(tmp_path, result.id))
    tensor_path(path).write_bytes(arrays)
    assert load_evidence(tmp_path, result.id).tensors["x"].tolist() == [0, 1, 2]
    other = unknown("table", payload={"a": 3})
    other.save(path)
    assert "holds another result" in refusal(lambda: load_evidence(tmp_path, result.id))


def test_places_inside(parts: dict[str, Result]) -> None:
    graph = parts["trace"].payload["graph"]
    node = graph["nodes"][5]["id"]
    assert locate(parts["trace"], node) == (node, None)
    table = unknown("table", payload={"rows": [{"name": "a.b", "x": [1, 2]}, {"token": " Paris"}], "by": {"resid_post.3": {"kl": 0.5}, "none": None}})  # fmt: skip
    for key, value in {
        "rows.0.x.1": 2, "rows.a.b.x": [1, 2], "rows. Paris": {"token": " Paris"}, "by.resid_post.3.kl": 0.5, "by.none": None,
    }.items():  # fmt: skip
        assert locate(table, key) == (None, value), key
    for key in ("rows.2", "rows.-1", "rows.0.y", "nothing", "by.none.x", "rows.²"):
        assert "has no place" in refusal(lambda key=key: locate(table, key))


# ---- what a report refuses ----------------------------------------------------------------------


def test_a_report_is_read_and_written(folder: Path, parts: dict[str, Result]) -> None:
    assessment, evidence = read_report(folder)
    assert list(evidence) == assessment.parents == [result.id for result in parts.values()]
    path = write_report(str(folder))
    assert path == folder / "report.html"
    text = path.read_text(encoding="utf-8")
    held, _ = unpacked(base64.b64decode(re.search(r'id="hooke-data">([^<]*)</script>', text)[1]))  # type: ignore[index]
    main, *others = held["results"]
    assert main["view"]["type"] == "assess" and [r["id"] for r in others] == assessment.parents
    assert [r["view"]["type"] for r in others] == ["lens", "graph", "generic", "probe", "generic"]
    assert [f["rank"] for f in main["view"]["findings"]] == [1, 2]
    places = main["view"]["places"]
    assert {name.partition("#")[2]: place["value"] for name, place in places.items() if not place["node"]} == {
        "areas.1": {"area": "places", "n": 0, "kl": 0.5, "first_kl": 0.0}, "looked_at.questions": 300,
    }  # fmt: skip
    assert [place["node"] for place in places.values() if place["node"]]
    outside = re.sub(r'id="hooke-data">[^<]*<', "", text.replace(script().decode(), ""))
    assert "[refuted] The change is spread over all areas" in outside  # for those without scripts, with its verdict
    assert "http:" not in outside and "https:" not in outside and "connect-src" not in outside


def test_each_missing_artefact_is_named_with_its_kind_and_a_sentence(folder: Path, parts: dict[str, Result]) -> None:
    write_report(folder)
    page = (folder / "report.html").read_bytes()
    assessment, _ = read_report(folder)
    for result in parts.values():
        path = evidence_path(folder, result.id)
        kept = path.read_bytes()
        path.unlink()
        for work in (read_report, write_report):
            line = refusal(lambda work=work: work(folder))
            assert result.id in line and f"(a {result.kind})" in line and "missing" in line
            assert any(
                f"“{text}”" in line for text, names in sentences(assessment) if any(result.id in n for n in names)
            )
        path.write_bytes(kept)
    assert (folder / "report.html").read_bytes() == page
    read_report(folder)


def test_the_command_says_what_is_missing(
    folder: Path, parts: dict[str, Result], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:  # fmt: skip
    evidence_path(folder, parts["trace"].id).unlink()
    monkeypatch.setenv("HOOKE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["hooke", "open", str(folder), "--no-browser"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    line = capsys.readouterr().err
    assert parts["trace"].id in line and "(a trace)" in line and "missing" in line and line.count("\n") == 1
    assert not list((tmp_path / "home" / "results").glob("*"))


def test_altered_evidence_and_assessments_are_refused_by_name(folder: Path, parts: dict[str, Result]) -> None:
    path = evidence_path(folder, parts["difference"].id)
    path.write_text(path.read_text().replace("0.12", "0.02"))
    assert str(path) in refusal(lambda: read_report(folder)) and "was altered" in refusal(lambda: read_report(folder))
    path.write_text(path.read_text().replace("0.02", "0.12"))
    main = folder / ASSESSMENT
    main.write_text(main.read_text().replace('"refuted"', '"tested"'))
    assert "assessment.json was altered" in refusal(lambda: read_report(folder))
    main.unlink()
    assert "holds no assessment" in refusal(lambda: read_report(folder))
    parts["lens"].save(main)
    assert "of kind 'lens'" in refusal(lambda: read_report(folder))


def test_evidence_of_another_assessment_is_foreign(folder: Path, parts: dict[str, Result]) -> None:
    foreign = Result.make("difference", payload=filled("difference"))
    keep(folder, foreign)
    assessment = assessment_of(parts)
    claims = [*assessment.payload["claims"][:-1], assessment.payload["claims"][-1] | {"evidence": [foreign.id]}]
    assessment_of(parts, claims=claims).save(folder / ASSESSMENT)
    line = refusal(lambda: read_report(folder))
    assert foreign.id in line and "not of this assessment" in line and claims[-1]["text"] in line


def broken(parts: dict[str, Result], change: Callable[[dict[str, Any]], None]) -> str:
    """What is said of an assessment whose payload somebody made otherwise."""
    whole = assessment_of(parts)
    payload = json.loads(json.dumps(whole.payload))
    change(payload)
    return refusal(lambda: check(forged(whole, payload=payload), {r.id: r for r in parts.values()}))


def test_sentences_need_evidence(parts: dict[str, Result]) -> None:
    for key, text in (("claims", "The stream"), ("controls", "organism-one"), ("findings", "It flatters")):
        assert re.search(f"{text}.*names no evidence", broken(parts, lambda p, key=key: p[key][0].update(evidence=[])))
    assert "is not an evidence id" in broken(parts, lambda p: p["claims"][0].update(evidence=["../../x"]))
    missing_place = f"{parts['trace'].id}#no such node"
    assert "no such node" in broken(parts, lambda p: p["claims"][0].update(evidence=[missing_place]))


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda p: p["claims"][0].update(text="The model is safe"), "uses the word “safe”"),
        (lambda p: p["claims"][0].update(text="It is unsafe to use"), "uses the word “safe”"),
        (lambda p: p["claims"][0].update(text="It isn't known that it's safe, that's all"), "uses the word “safe”"),
        (lambda p: p["controls"][0].update(found="Safe"), "uses the word “safe”"),
        (lambda p: p["sections"][0].update(title="Is it safe?"), "uses the word “safe”"),
        (lambda p: p["claims"][0].update(verdict="safe"), "claims.0.verdict"),
        (lambda p: p.update(score=0.9), "Extra inputs are not permitted"),
        (lambda p: p.update(overall="good"), "Extra inputs are not permitted"),
        (lambda p: p.update(risk_score=3), "Extra inputs are not permitted"),
        (lambda p: p["findings"][1].update(score=0.2), "without a score that reaches"),
        (lambda p: p["claims"][0].update(section="elsewhere"), "not among the sections"),
        (lambda p: p["sections"][0].update(key="load"), "the same key"),
        (lambda p: p.update(controls=[]), "calls its instrument validated"),
        (lambda p: p["controls"][1].update(passed=False), "calls its instrument validated"),
        (lambda p: p["controls"].pop(), "calls its instrument validated"),
        (lambda p: p.update(validated=False), "lacks the stamp"),
        (lambda p: p["sections"][4].update(stamp=NOT_VALIDATED), "carries the stamp"),
        (lambda p: p.pop("validated"), "validated: Field required"),
    ],
)
def test_what_a_report_may_not_say(parts: dict[str, Result], change: Any, says: str) -> None:
    assert says in broken(parts, change)


def test_quoted_words_of_a_model_are_its_own(parts: dict[str, Result]) -> None:
    claims = assessment_of(parts).payload["claims"]
    claims[0]["text"] = "Asked for a verdict it answers “this is safe”, and on ' safe' it turns"
    check(assessment_of(parts, claims=claims), {r.id: r for r in parts.values()})


def test_claims_of_the_result_are_those_of_the_report(parts: dict[str, Result]) -> None:
    one = assessment_of(parts)
    two = forged(one, claims=one.claims[1:])
    assert "are not the same" in refusal(lambda: check(two, {r.id: r for r in parts.values()}))


def test_failed_controls_stamp_what_follows(parts: dict[str, Result], tmp_path: Path) -> None:
    write_folder(tmp_path, parts, validated=False)
    assessment, _ = read_report(tmp_path)
    stamps = [section["stamp"] for section in assessment.payload["sections"]]
    assert stamps == [None] * 3 + [NOT_VALIDATED] * 4


# ---- pages --------------------------------------------------------------------------------------


def test_no_page_without_the_evidence(parts: dict[str, Result]) -> None:
    assessment = assessment_of(parts)
    some = [result for result in parts.values() if result.kind != "lens"]
    for work in (page_bytes, html_page):
        assert parts["lens"].id in refusal(lambda work=work: work([assessment, *some]))


def test_large_evidence_is_cut_and_says_so(parts: dict[str, Result]) -> None:
    rows = [{"step": k, "text": "x" * 100} for k in range(50_000)]
    large = unknown("large", payload={"rows": rows, "short": [1, 2]}, tensors={"states": np.zeros((3, 4))})
    parts = {**parts, "large": large}
    page, _ = unpacked(page_bytes([assessment_of(parts), *parts.values()]))
    left = page["results"][0]["view"]["evidence"][-1]["left_out"]
    assert left == ["rows: the first 1,000 of 50,000 entries are here", "array states, 3 × 4"]
    shown = page["results"][-1]["view"]["payload"]
    assert len(shown["rows"]) == 1000 and shown["short"] == [1, 2] and page["results"][-1]["id"] == large.id
    huge = unknown("huge", payload={str(k): {"text": "y" * 3000} for k in range(5000)})
    parts["large"] = huge
    page, _ = unpacked(page_bytes([assessment_of(parts), *parts.values()]))
    left = page["results"][0]["view"]["evidence"][-1]["left_out"]
    assert any("of 5,000 keys" in line for line in left) and len(left) <= 21
    assert len(json.dumps(page["results"][-1])) < 2**20


def test_probes_have_a_view_of_their_own() -> None:
    view = unpacked(page_bytes([probe_test_result()]))[0]["results"][0]["view"]
    assert [bar["name"] for bar in view["bars"]] == ["this probe", "log probability", "bag of words", "length"]
    assert view["bars"][0]["interval"] == [0.86, 0.94] and view["roc"]["tpr"] == [0.0, 0.8, 1.0]
    assert view["mistakes"][0]["label"] == "false" and view["mistakes_of"] == 2
    assert view["rest"]["gain"] == "0.2 (0.12 to 0.28)" and not {"mistakes", "baselines", "roc"} & set(view["rest"])
    view = unpacked(page_bytes([probe_result()]))[0]["results"][0]["view"]
    assert view["curve"]["layers"][-1] == 29 and len(view["curve"]["random_direction"]) == 30
    assert [bar["name"] for bar in view["bars"]] == ["in validation", "everyday: this probe", "everyday: length"]
    assert view["rest"]["tests"] == [
        {"part": "everyday", "n": 80, "groups": 40, "auroc": 0.81, "interval": [0.74, 0.87]}
    ]
    # a site without a layer has no place in a curve
    whole = probe_result()
    curve = {**whole.payload["layer_curve"], "layers": [None] * 30}
    bare = forged(whole, payload={**whole.payload, "layer_curve": curve})
    view = unpacked(page_bytes([bare]))[0]["results"][0]["view"]
    assert view["curve"] is None and view["rest"]["layer_curve"] == curve


# ---- the app ------------------------------------------------------------------------------------


def test_the_store_takes_the_folder_with_its_evidence(folder: Path, parts: dict[str, Result], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    name = store.open(folder)
    assert store.open(folder / ASSESSMENT) == name
    shutil.rmtree(folder)
    assert [(info.id, info.kind, info.title) for info in store.listing()] == [(name, "assess", "assess: glassllm")]
    assert len(unpacked(store.page(name))[0]["results"]) == 1 + len(parts)
    assert store.listing()[0].bytes > sum(len(r.to_json()) for r in parts.values())
    path = evidence_path(store.folder / name, parts["lens"].id)
    whole = path.read_bytes()
    for work in (path.unlink, lambda: path.write_bytes(whole.replace(b"Alice", b"Carol"))):
        work()
        for ask in (store.page, store.family):
            line = refusal(lambda ask=ask: ask(name))
            assert parts["lens"].id in line and "(a lens)" in line
    path.write_bytes(whole)
    store.page(name)
    store.delete(name)
    assert not list(store.folder.iterdir())


def test_an_assessment_without_its_folder_is_not_taken(parts: dict[str, Result], tmp_path: Path) -> None:
    assessment_of(parts).save(tmp_path / "alone.json")
    store = Store(tmp_path / "store")
    assert "open the folder" in refusal(lambda: store.open(tmp_path / "alone.json"))
    assert "holds no assessment" in refusal(lambda: store.open(tmp_path / "store"))
    assert read_file(tmp_path / "alone.json").kind == "assess"


def test_the_server_refuses_and_says_which(folder: Path, parts: dict[str, Result], tmp_path: Path) -> None:
    with running(tmp_path / "store") as server:
        ask = Client(server)
        name = server.store.open(folder)
        assert ask.get(f"/api/results/{name}").status == 200
        assert ask.post(f"/api/results/{name}/html").status == 200
        evidence_path(server.store.folder / name, parts["trace"].id).unlink()
        for answer in (ask.get(f"/api/results/{name}"), ask.post(f"/api/results/{name}/html")):
            assert (
                answer.status == 400
                and parts["trace"].id in answer.json["error"]
                and "(a trace)" in answer.json["error"]
            )
        assert ask.get("/api/results").status == 200
        sent = ask.post("/api/open", (folder / ASSESSMENT).read_bytes(), x_name="assessment.json")
        assert sent.status == 400 and "open the folder" in sent.json["error"]


def test_hostile_text_is_only_data(parts: dict[str, Result], tmp_path: Path) -> None:
    write_folder(tmp_path, parts, hostile=HOSTILE)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    outside = text.replace(script().decode(), "")
    assert outside.count("<script") == 2 and outside.count("</script>") == 2 and "<img" not in outside
