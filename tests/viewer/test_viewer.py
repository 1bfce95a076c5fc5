"""From results to the page's bytes and the single file: numbers kept, nothing hidden uncounted, hostile text inert."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

from graph_files import held, opened, small_graph
from hooke import HookeError, Model, Result, lens, load_result, trace
from hooke.results.formats.graph_file import file_of, write_graph_file
from hooke.viewer import gallery, gallery_page, html_page, page_bytes, read_file, script, title, view
from hooke.viewer.page import MAX_LINKS
from made_up import filled, forged, unknown
from pages import HOSTILE, script_of, unpacked

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def traced(glass: Model) -> Result:
    return trace(glass, "Alice was beginning to get very", nodes=60)


def test_a_trace_keeps_its_numbers(traced: Result) -> None:
    page, tensors = unpacked(page_bytes([traced]))
    shown = page["results"][0]
    assert shown["id"] == traced.id and shown["kind"] == "trace"
    v = shown["view"]
    file = file_of(traced, "t")
    assert v["type"] == "graph" and v["live"]
    assert v["sentence"] == traced.payload["sentence"]
    assert [g["text"] for g in v["groups"]] == [g.get("text", "") for g in traced.payload["groups"]]
    assert set(v["nodes"]["id"]) == {n["node_id"] for n in file["nodes"]}
    place = {name: i for i, name in enumerate(v["nodes"]["id"])}
    offsets, source, weight = (tensors[f"0.links.{n}"] for n in ("offsets", "source", "weight"))
    told = {(link["source"], link["target"]): link["weight"] for link in file["links"]}
    assert len(weight) == len(told) == v["links"]["shown"]
    for name, t in place.items():
        for e in range(offsets[t], offsets[t + 1]):
            want = told[v["nodes"]["id"][source[e]], name]
            assert abs(weight[e] - want) <= 2e-4 * abs(want)


def test_links_and_what_is_left_out_add_up_to_the_value(traced: Result) -> None:
    """Leaving links out moves their sum into `dropped`: nothing disappears."""
    for most in (MAX_LINKS, 500, 0):
        page, tensors = unpacked(page_bytes([traced], max_links=most))
        v = page["results"][0]["view"]
        offsets, weight = tensors["0.links.offsets"], tensors["0.links.weight"]
        assert v["links"]["shown"] == len(weight) <= most
        for t, kind in enumerate(v["nodes"]["kind"]):
            if kind == "feature":
                total = float(weight[offsets[t] : offsets[t + 1]].sum(dtype=np.float64)) + v["nodes"]["dropped"][t]
                assert total == pytest.approx(v["nodes"]["value"][t], abs=1e-4, rel=1e-4)
    full = unpacked(page_bytes([traced]))[0]["results"][0]["view"]["links"]
    few = unpacked(page_bytes([traced], max_links=500))[0]["results"][0]["view"]["links"]
    assert few["of"] == full["of"] >= full["shown"] > few["shown"] == 500


def test_the_strongest_links_are_kept(traced: Result) -> None:
    """By share of the target's input times what the target matters, as a slow version has it."""
    file = file_of(traced, "t")
    matter = {
        n["node_id"]: n["hooke"]["share"] + (n["token_prob"] if n["hooke"]["kind"] == "logit" else 0)
        for n in file["nodes"]
    }
    into: dict[str, float] = {}
    for link in file["links"]:
        into[link["target"]] = into.get(link["target"], 0.0) + abs(link["weight"])
    score = {
        (x["source"], x["target"]): abs(x["weight"]) / into[x["target"]] * matter[x["target"]] for x in file["links"]
    }
    page, tensors = unpacked(page_bytes([traced], max_links=300))
    ids = page["results"][0]["view"]["nodes"]["id"]
    offsets, source = tensors["0.links.offsets"], tensors["0.links.source"]
    kept = {(ids[source[e]], ids[t]) for t in range(len(ids)) for e in range(offsets[t], offsets[t + 1])}
    weakest = min(score[pair] for pair in kept)
    assert len(kept) == 300
    assert all(value <= weakest * (1 + 1e-5) for pair, value in score.items() if pair not in kept)


def test_groups_of_a_sentence_have_names_of_their_own() -> None:
    group = {"nodes": ["1_7_1"], "position": 1, "token": "go", "layers": [0, 0], "verdict": "tested", "text": "x"}
    groups = [group | {"position": 0}, group, group, group | {"token": " B", "layers": [0, 3]}]
    payload = filled("trace", {"graph": held(small_graph(tokens=("go", "go"))), "groups": groups})
    v = unpacked(page_bytes([Result.make("trace", payload=payload)]))[0]["results"][0]["view"]
    assert [g["name"] for g in v["groups"]] == [
        "“go” (token 1) layer 0", "“go” (token 2) layer 0", "“go” (token 2) layer 0, 2", "“ B” layers 0–3",
    ]  # fmt: skip


def test_shares_of_other_writers_stop_where_their_file_was_cut() -> None:
    """They give only what all stronger nodes hold together. Past the cut a step belongs to nodes that are not there."""
    file = small_graph()
    for node, value in zip(file["nodes"], (0.0, 0.0, 0.3, 0.95, 0.7), strict=True):
        node["influence"] = value
        del node["hooke"]
    v = unpacked(page_bytes([Result.make("graph", payload=opened(file))]))[0]["results"][0]["view"]
    shares = dict(zip(v["nodes"]["cumulative"], v["nodes"]["share"], strict=True))
    assert shares[0.3] == pytest.approx(0.3) and shares[0.7] == pytest.approx(0.4)
    assert shares[0.95] == 0.0


def test_equal_results_give_equal_bytes(traced: Result) -> None:
    assert page_bytes([traced]) == page_bytes([traced])


def test_a_lens_keeps_its_numbers(glass: Model) -> None:
    result = lens(glass, "Alice was", top=3)
    page, tensors = unpacked(page_bytes([result]))
    v = page["results"][0]["view"]
    cells = result.payload["next"]
    shape = (len(cells), len(cells[0]), 3)
    ids = tensors["0.lens.ids"].reshape(shape)
    chances = tensors["0.lens.probabilities"].reshape(shape)
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            assert [v["names"][k] for k in ids[i, j]] == [t["token"] for t in cell]
            np.testing.assert_allclose(chances[i, j], [t["probability"] for t in cell], rtol=1e-6)
    assert v["layers"][0] == -1 and v["choice"] == result.payload["choice"]


def test_a_result_that_the_page_never_heard_of_is_shown_as_it_is() -> None:
    result = unknown("novelty", payload={"rows": [{"a": 1}], "series": [1.0, 2.5], "text": HOSTILE})
    v = unpacked(page_bytes([result]))[0]["results"][0]["view"]
    assert v == {"type": "generic", "payload": {"rows": [{"a": 1}], "series": [1.0, 2.5], "text": HOSTILE}}


def test_a_damaged_payload_is_one_line(glass: Model, traced: Result) -> None:
    """Also of a result that was changed in memory, which no file is."""
    read = lens(glass, "Alice was", top=3)
    for result, payload in (
        (read, {"next": [], "entropy": []}),
        (read, {"next": [row[:-1] for row in read.payload["next"]]}),
        (read, {"entropy": [[1e300] * 3] * len(read.payload["layers"])}),
        (traced, {"graph": {"nodes": 7}}),
        (traced, {"graph": held(small_graph()), "groups": [{"nodes": []}]}),
        (traced, {"interventions": [{"nodes": 3}]}),
    ):
        with pytest.raises(HookeError) as error:
            page_bytes([forged(result, payload={**result.payload, **payload})])
        assert "\n" not in str(error.value)


def test_the_single_file_holds_hostile_text_only_as_data(tmp_path: Path) -> None:
    result = Result.make("graph", arguments={"prompt": HOSTILE}, payload=opened(small_graph(HOSTILE, (HOSTILE, " B"))))
    page = html_page([result], state={"find": HOSTILE})
    outside = page.replace(script().decode(), "")
    assert "alert(" not in re.sub(r"<title>.*?</noscript>", "", outside, flags=re.S)
    assert outside.count("<script") == 2 and outside.count("</script>") == 2
    assert "&lt;/script&gt;" in outside  # the title, as text
    data = re.search(r'id="hooke-data">([^<]*)</script>', page)
    assert data
    held, _ = unpacked(base64.b64decode(data[1]))
    assert held["results"][0]["view"]["tokens"][0] == HOSTILE.encode("utf-16", "surrogatepass").decode(
        "utf-16", "replace"
    )
    assert held["state"] == {"find": HOSTILE}
    assert "connect-src" not in page and "default-src 'none'" in page


def test_the_bundle_cannot_be_closed_by_its_own_text() -> None:
    assert b"</script" not in script().lower() and b"<!--" not in script()


def test_files_of_both_kinds_are_read(tmp_path: Path, traced: Result) -> None:
    traced.save(tmp_path / "t.json")
    assert read_file(tmp_path / "t.json").id == traced.id
    write_graph_file(small_graph(), tmp_path / "g.json")
    result = read_file(tmp_path / "g.json")
    assert result.kind == "graph" and result.arguments["file"] == "g.json"
    v = unpacked(page_bytes([result]))[0]["results"][0]["view"]
    assert v["target"]["token"] == " C" and not v["live"] and v["scores"]["completeness"] == 0.75
    assert read_file(tmp_path / "g.json").id == result.id


def test_what_is_no_result_is_refused_in_one_line(tmp_path: Path) -> None:
    cases = {
        "no.json": None,
        "text.json": "hello",
        "list.json": "[1, 2]",
        "other.json": '{"a": 1}',
        "half.json": '{"kind": "trace", "payl',
        "newer.json": '{"kind": "trace", "version": 99, "payload": {}}',
        "graph.json": '{"nodes": [], "links": []}',
        "nodes.json": json.dumps(small_graph() | {"nodes": [{"node_id": "x"}]}),
        "deep.json": "[" * 100_000,
        "bytes.json": "\x00\x01",
    }
    for name, text in cases.items():
        path = tmp_path / name
        if text is not None:
            path.write_text(text, encoding="utf-8")
        with pytest.raises(HookeError) as error:
            page_bytes([read_file(path)])
        assert "\n" not in str(error.value) and name in str(error.value), name


def test_a_file_of_300_mb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)
    with pytest.raises(HookeError, match="300 MB"):
        read_file(path)


def test_titles_are_short() -> None:
    assert (
        title(Result.make("tasks", payload=filled("tasks"), arguments={"prompt": "x" * 500}))
        == "tasks: " + "x" * 79 + "…"
    )
    assert title(Result.make("models", payload=filled("models"))) == "models"


def test_a_notebook_gets_a_frame_without_any_package(traced: Result) -> None:
    shown = view(traced)._repr_html_()
    assert shown.startswith("<iframe sandbox=") and "allow-same-origin" not in shown
    assert "<script" not in shown  # inside the attribute it is escaped
    assert "beginning" in repr(view(traced))


def test_the_gallery_is_complete_and_shows_a_failure() -> None:
    entries = gallery()
    assert len(entries) >= 6 and any(e["fails"] for e in entries) and not all(e["fails"] for e in entries)
    for entry in entries:
        page, _ = unpacked(gallery_page(entry["name"]))
        v = page["results"][0]["view"]
        assert v["type"] == "graph" and v["interventions"]
        assert entry["question"] and entry["finding"] and entry["title"]
    for name in ("", "../index", "capital.page", "nothing"):
        with pytest.raises(HookeError, match="no example"):
            gallery_page(name)


def test_the_types_of_the_page_are_those_of_the_schema() -> None:
    """`make web` writes web/schema.json and the TypeScript types from it."""
    written = (ROOT / "web" / "schema.json").read_text(encoding="utf-8")
    assert written == script_of("page_schema").schema_text(), "run `make web` and commit what it changes"


def test_the_built_page_is_that_of_its_sources() -> None:
    build = script_of("page_build")
    written = json.loads(build.BUILD.read_text(encoding="utf-8"))
    assert written == build.record(), "run `make web` and commit what it changes"
    assert len(gzip.compress(script(), 9)) < 72_000  # the story of a trace took 7.7 kB


def test_a_saved_trace_gives_the_page_of_the_trace(tmp_path: Path, traced: Result) -> None:
    traced.save(tmp_path / "t.json")
    assert page_bytes([load_result(tmp_path / "t.json")]) == page_bytes([traced])
