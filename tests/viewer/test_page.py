"""The graph page in a real browser, as one HTML file opened from disk: the whole first visit, by pointer and by keys."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import Tab, chromium, out_of_reach, overflow, violations
from graph_files import neuronpedia_file, opened, small_graph, tracer_file
from hooke import Model, Result, trace
from hooke.viewer import gallery_page, html_page, read_file
from hooke.viewer.html import wrap
from pages import HOSTILE
from transcoders import Transcoder

SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"


def expect(page: Any) -> Any:
    from playwright.sync_api import expect as wait_for

    return wait_for(page)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def tab(browser: Any) -> Iterator[Tab]:
    tab = Tab(browser, viewport={"width": 1400, "height": 1000})
    yield tab
    tab.close()


@pytest.fixture(scope="module")
def traced(glass: Model) -> Result:
    return trace(glass, "Alice was beginning to get very", nodes=150)


@pytest.fixture(scope="module")
def file(traced: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "alice.html"
    path.write_text(html_page([traced]), encoding="utf-8")
    return path


def drawn(page: Any) -> None:
    page.wait_for_selector(".canvas[data-drawn]")


def state_of(page: Any) -> dict[str, str]:
    return dict(p.split("=", 1) for p in page.url.partition("#")[2].split("&") if p)


def test_from_disk_it_shows_the_graph_asks_for_nothing_and_logs_nothing(tab: Tab, file: Path, traced: Result) -> None:
    page = tab.open(file)
    drawn(page)
    assert tab.requests == [file.as_uri()]
    assert tab.errors == []
    shown = page.locator(".shown").inner_text()
    n = len(traced.payload["graph"]["nodes"])
    assert re.fullmatch(rf"showing \d+ of {n} nodes, .* links.* · \d+ % unexplained", shown.replace("\u202f", "")), (
        shown
    )
    # something was painted: the canvas is not one colour
    colours = page.evaluate(
        "() => { const c = document.querySelector('.canvas canvas'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " const s = new Set(); for (let i = 0; i < d.length; i += 4) s.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]); return s.size; }"
    )
    assert colours > 20
    assert "very" in page.title()


def test_the_whole_first_visit(tab: Tab, file: Path, tmp_path: Path) -> None:
    """select, pin, group, name, move, search, prune; export; reopen with everything as it was."""
    page = tab.open(file)
    drawn(page)
    page.locator(".phrase").first.click()
    assert state_of(page)["sel"].startswith("group%3A")
    assert page.locator(".phrase[aria-pressed=true]").count() == 1
    page.get_by_role("button", name="Add to the subgraph").click()
    assert page.locator(".subgraph .box").count() >= 2
    page.locator(".pane-connections .node").first.click()
    page.keyboard.press("p")
    assert page.get_by_role("button", name="Unpin").count() == 1
    page.get_by_label("Name").fill("my <b>token</b>")
    page.keyboard.press("Enter")
    # a group of two nodes, from the list of connections
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator(".pane-subgraph").get_by_role("button", name="Group", exact=True).click()
    canvas = page.locator(".canvas")
    canvas.focus()
    for key in ("ArrowDown", "Enter", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Make a group of 2").click()
    page.locator(".pane-detail input.name").fill("Two of them")
    page.keyboard.press("Enter")
    page.get_by_label("Influence shown").fill("0.5")
    page.get_by_label("Find").fill("layer")
    page.wait_for_timeout(100)
    kept = json.loads(
        page.evaluate("JSON.stringify([...document.querySelectorAll('.box .name, .shown')].map((e) => e.textContent))")
    )
    assert any("Two of them" in text for text in kept)
    assert any("my <b>token</b>" in text for text in kept)
    saved = tab.downloaded(lambda: page.get_by_role("button", name="Export HTML").click(), tmp_path)
    again = Tab(tab.context.browser, viewport={"width": 1400, "height": 1000})
    page = again.open(saved)
    drawn(page)
    page.wait_for_timeout(100)
    now = json.loads(
        page.evaluate("JSON.stringify([...document.querySelectorAll('.box .name, .shown')].map((e) => e.textContent))")
    )
    assert now == kept
    assert page.locator(".pane-detail input.name").input_value() == "Two of them"
    assert page.get_by_label("Influence shown").input_value() == "0.5"
    assert page.get_by_label("Find").input_value() == "layer"
    assert again.errors == [] and again.requests == [saved.as_uri()]
    # a copy of the copy holds one state, the last
    page.keyboard.press("Escape")
    page.get_by_label("Find").fill("")
    third = again.downloaded(lambda: page.get_by_role("button", name="Export HTML").click(), tmp_path / "third")
    page.goto(third.as_uri())
    page.wait_for_selector(".hooke main")
    assert page.evaluate("document.querySelectorAll('#hooke-state').length") == 1
    assert page.get_by_label("Find").input_value() == ""
    again.close()
    assert tab.errors == []


def test_pictures(tab: Tab, file: Path, tmp_path: Path) -> None:
    page = tab.open(file, "#edges=5000&prune=1")
    drawn(page)
    svg = tab.downloaded(lambda: page.get_by_role("button", name="SVG").click(), tmp_path)
    root = ET.fromstring(svg.read_text(encoding="utf-8"))
    tags = [element.tag.split("}")[1] for element in root.iter()]
    assert tags.count("path") > 5 and "script" not in tags and "foreignObject" not in tags
    png = tab.downloaded(lambda: page.get_by_role("button", name="PNG").click(), tmp_path)
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and png.stat().st_size > 10_000
    assert tab.errors == []


def test_interventions_replay_in_a_saved_file(tab: Tab, file: Path, traced: Result) -> None:
    page = tab.open(file)
    run = traced.payload["interventions"][0]
    place = next(k for k, g in enumerate(traced.payload["groups"]) if set(g["nodes"]) == set(run["nodes"]))
    page.locator(".phrase").nth(place).click()
    button = page.locator(".change").get_by_role("button", name="Switch off")
    assert button.is_enabled()
    button.click()
    assert run["sentence"][:30] in page.locator(".change").inner_text()
    # a single node was never run here, and the page says why it cannot be
    page.locator(".pane-detail .node").first.click()
    assert page.locator(".change").get_by_role("button", name="Switch off").is_disabled()
    assert "no model behind it" in page.locator(".change").inner_text()


def test_back_undoes_a_selection_and_the_address_restores_it(tab: Tab, file: Path) -> None:
    page = tab.open(file)
    page.locator(".phrase").nth(0).click()
    page.locator(".phrase").nth(1).click()
    address = page.url
    page.go_back()
    page.wait_for_function("document.querySelectorAll('.phrase')[0].getAttribute('aria-pressed') === 'true'")
    other = Tab(tab.context.browser)
    other.page.goto(address)
    other.page.wait_for_selector(".phrase[aria-pressed=true]")
    assert other.page.locator(".phrase").nth(1).get_attribute("aria-pressed") == "true"
    other.close()


def test_groups_survive_back_and_reload(tab: Tab, file: Path) -> None:
    """They are too long for an address: the history holds them."""
    page = tab.open(file)
    drawn(page)
    page.get_by_role("button", name="Start from the parts").click()
    page.locator(".box").first.wait_for()
    before = page.locator(".box").count()
    page.locator(".phrase").nth(1).click()
    page.go_back()
    page.wait_for_timeout(300)
    assert page.locator(".box").count() == before
    page.reload()
    page.locator(".box").first.wait_for()
    assert page.locator(".box").count() == before
    assert tab.errors == []


def test_an_address_cannot_bring_results_of_runs(tab: Tab, file: Path, traced: Result) -> None:
    node = next(n["id"] for n in traced.payload["graph"]["nodes"] if n["kind"] == "feature")
    run = {"type": "intervention", "nodes": [node], "op": "off", "trace": "", "target": {"token": "x", "id": 1}, "rows": [],
           "change": -9.0, "control_change": 0.0, "control_least": 0.0, "control_greatest": 0.0, "controls": 5, "sentence": "FORGED"}  # fmt: skip
    page = tab.open(file, f"#sel={node}&replay=" + json.dumps({"op": "off"}) + "&runs=" + json.dumps([run]))
    drawn(page)
    assert "FORGED" not in page.inner_text("body")
    assert page.locator(".change").get_by_role("button", name="Switch off").is_disabled()


def test_nonsense_inside_the_state_does_not_blank_the_page(tab: Tab, file: Path, traced: Result) -> None:
    node = next(n["id"] for n in traced.payload["graph"]["nodes"] if n["kind"] == "feature")
    for state in (
        {"names": {node: 5}},
        {"spots": {node: ["a", "b"]}, "pin": [node]},
        {"names": {"__proto__": "x"}},
        {"groups": [{}, {"name": "x", "nodes": [{}]}]},
    ):
        page = tab.open(file, "#sel=" + node + "&" + "&".join(f"{k}={json.dumps(v)}" for k, v in state.items()))
        page.reload()
        drawn(page)
        assert page.locator(".detail h3").count() == 1
    assert tab.errors == []


def test_pictures_are_of_what_is_on_screen(tab: Tab, file: Path) -> None:
    page = tab.open(file)
    drawn(page)
    page.get_by_role("button", name="Table").click()
    page.get_by_role("button", name="SVG").click()
    page.get_by_text("Show the graph first").first.wait_for()


def test_undo(tab: Tab, file: Path) -> None:
    page = tab.open(file)
    page.locator(".phrase").first.click()
    page.get_by_role("button", name="Add to the subgraph").click()
    before = page.locator(".box").count()
    page.get_by_role("button", name="Ungroup").click()
    assert page.locator(".box").count() < before
    page.keyboard.press("z")
    assert page.locator(".box").count() == before


def test_every_control_is_reached_with_the_tab_key(tab: Tab, file: Path) -> None:
    page = tab.open(file)
    drawn(page)
    page.locator(".phrase").first.click()
    assert out_of_reach(page) == []


def test_the_graph_by_keys_alone(tab: Tab, file: Path) -> None:
    page = tab.open(file)
    drawn(page)
    page.keyboard.press("Tab")
    page.locator(".canvas").focus()
    page.keyboard.press("ArrowDown")
    first = page.locator(".hint").inner_text()
    assert first  # said to screen readers too: the region is live
    page.keyboard.press("ArrowDown")
    assert page.locator(".hint").inner_text() != first
    page.keyboard.press("Enter")
    assert "sel" in state_of(page)
    page.keyboard.press("[")
    page.keyboard.press("Enter")
    page.keyboard.press("p")
    assert "pin" in state_of(page)
    page.keyboard.press("+")
    expect(page).to_have_url(re.compile("zoom="))
    page.keyboard.press("0")
    page.keyboard.press("t")
    assert page.locator(".table-twin").is_visible()
    page.keyboard.press("t")
    page.keyboard.press("f")
    assert page.locator(".pane-graph.full").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(".pane-graph.full").count() == 0
    page.keyboard.press("?")
    assert page.locator("dialog.keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog.keys").is_visible()
    page.keyboard.press("/")
    page.keyboard.type("layer 1")
    assert page.get_by_label("Find").input_value() == "layer 1"
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    assert page.locator(".pane-subgraph header button[aria-pressed=true]").count() == 1
    assert tab.errors == []


def test_the_table_says_what_the_picture_says(tab: Tab, file: Path, traced: Result) -> None:
    page = tab.open(file, "#prune=1&table=true")
    rows = page.locator(".table-twin tbody tr").count()
    n = len(traced.payload["graph"]["nodes"])
    assert rows == min(200, n)
    assert f"showing {n} of {n} nodes" in page.locator(".shown").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(browser: Any, file: Path, scheme: str) -> None:
    tab = Tab(browser, viewport={"width": 1400, "height": 1000}, color_scheme=scheme)
    page = tab.open(file)
    assert page.locator(".hooke").get_attribute("data-theme") == scheme
    page.locator(".phrase").first.click()
    for depth in ("Plain", "Standard", "Expert"):
        page.get_by_role("button", name=depth).click()
        page.wait_for_timeout(150)
        assert violations(page) == [], f"{scheme}, {depth}"
    page.keyboard.press("t")
    page.wait_for_timeout(100)
    assert violations(page) == [], f"{scheme}, table"
    page.keyboard.press("?")
    assert violations(page) == [], f"{scheme}, keys"
    tab.close()


@pytest.mark.parametrize("width", [360, 1920])
def test_narrow_and_wide(browser: Any, file: Path, width: int) -> None:
    tab = Tab(browser, viewport={"width": width, "height": 800})
    page = tab.open(file)
    drawn(page)
    page.locator(".phrase").first.click()
    for depth in ("Plain", "Standard", "Expert"):
        page.get_by_role("button", name=depth).click()
        page.wait_for_timeout(100)
        assert overflow(page) <= 0, depth
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, summary")].filter((e) => e.checkVisibility() && !e.closest("dialog:not([open])"))
        .filter((e) => { const b = e.getBoundingClientRect(); return b.height < 18 || b.width < 18; }).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert small == []
    assert tab.errors == []
    tab.close()


def test_hostile_text_is_text(browser: Any, tmp_path: Path) -> None:
    result = Result.make(
        "graph", arguments={"prompt": HOSTILE}, payload=opened(small_graph(HOSTILE, (HOSTILE, "\u202e\u2066 B\n")))
    )
    path = tmp_path / "hostile.html"
    path.write_text(html_page([result]), encoding="utf-8")
    tab = Tab(browser)
    page = tab.open(path)
    drawn(page)
    for depth in ("Plain", "Expert"):
        page.get_by_role("button", name=depth).click()
        page.keyboard.press("t")
        page.locator(".table-twin .node").first.click()
        page.keyboard.press("t")
    assert tab.errors == [] and tab.requests == [path.as_uri()]
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed').length") == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    text = page.evaluate("document.body.innerText + document.title")
    for mark in "\u202e\u2066\u2028\x00":
        assert mark not in text
    drawn(page)  # the picture came back after the table
    svg = tab.downloaded(lambda: page.get_by_role("button", name="SVG").click(), tmp_path)
    ET.fromstring(svg.read_text(encoding="utf-8"))
    tab.close()


def test_a_graph_in_dictionaries_speaks_of_features(glass: Model, tab: Tab, tmp_path: Path) -> None:
    """Everywhere on the page, with all that can be opened open; one of neurons speaks of neurons."""
    layers, width = range(glass.parts.n_layers), glass.parts.d_model
    basis = [Transcoder(f"mlp_in.{n}", [f"mlp_out.{n}"], width, 200, seed=n) for n in layers]
    prompt, other = "Alice was beginning to get very", "Alice was beginning to look very"
    seen: dict[str, str] = {}
    for word, given in (("features", basis), ("neurons", "neurons")):
        path = tmp_path / f"{word}.html"
        path.write_text(
            html_page([trace(glass, prompt, basis=given, counterfactual=other, nodes=60)]), encoding="utf-8"
        )
        said = []
        for state in ("", "#depth=plain", "#depth=expert", "#table=true"):
            page = tab.open(path, state)
            page.reload()
            page.wait_for_selector(".hooke main .detail, .hooke main .pane-detail, .hooke main .table-twin")
            for selected in (page.locator(".phrase").first, page.locator("button.node", has_text="not drawn").first):
                if selected.count():
                    selected.click()
                page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
                said.append(page.locator("main").inner_text())
        seen[word] = "\n".join(said)
    for text in ("{} at “", "{} that were kept", "random {} stay under", "{} of layer 0 that are not drawn"):
        assert text.format("features") in seen["features"] and text.format("neurons") in seen["neurons"], text
    lines = [line for line in seen["features"].splitlines() if "neuron" in line]
    assert set(lines) == {"Only a trace in the basis of neurons can be changed: this one is made of dictionaries."}
    assert tab.errors == []


@pytest.mark.parametrize("make", [tracer_file, neuronpedia_file], ids=["circuit-tracer", "neuronpedia"])
def test_graphs_of_other_tools_open(browser: Any, make: Any, tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(json.dumps(make()), encoding="utf-8")
    path = tmp_path / "graph.html"
    path.write_text(html_page([read_file(tmp_path / "graph.json")]), encoding="utf-8")
    tab = Tab(browser, viewport={"width": 1400, "height": 1000})
    page = tab.open(path)
    drawn(page)
    n = len(make()["nodes"])
    assert f"of {n} nodes" in page.locator(".shown").inner_text()
    assert (
        "not tested" in page.locator(".sentence").inner_text()
        or "nothing in it was tested" in page.locator(".sentence").inner_text()
    )
    page.get_by_role("button", name="Table").click()
    page.locator(".table-twin .node", has_text="layer").first.click()
    assert page.locator(".change button").first.is_disabled()
    page.get_by_role("button", name="Table").click()
    if make is tracer_file:  # what somebody did on that tool's page is there
        page.locator(".box", has_text="say").wait_for()
        page.locator(".box", has_text="my label").wait_for()
        assert page.get_by_label("Influence shown").input_value() == "0.6"
    assert tab.errors == []
    tab.close()


def test_damaged_data_says_so(browser: Any, file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    at = text.index('id="hooke-data">') + len('id="hooke-data">')
    for name, broken in (
        ("cut", text[:at] + text[at : at + 4000] + text[text.index("</script>", at) :]),
        ("junk", text[:at] + "@@@" + text[at:]),
    ):
        path = tmp_path / f"{name}.html"
        path.write_text(broken, encoding="utf-8")
        tab = Tab(browser)
        tab.page.goto(path.as_uri())
        assert tab.page.get_by_role("alert").inner_text().strip(), name
        tab.close()


def test_state_that_makes_no_sense_is_ignored(tab: Tab, file: Path) -> None:
    page = tab.open(
        file,
        '#sel=nothing&pin=["no"]&groups=[{"name":"x","nodes":["no"]}]&prune=hello&zoom=[1,2]&minus=a|b&edges=-4&depth=silly&theme=9&hide=7&names=3&spots=[]&runs=5',
    )
    drawn(page)
    assert "showing" in page.locator(".shown").inner_text()
    assert tab.errors == []


def test_contrast_of_two_outputs(tab: Tab, file: Path) -> None:
    page = tab.open(file)
    drawn(page)
    names = page.get_by_label("Contrast: this output").locator("option").all_inner_texts()
    assert len(names) > 2
    page.get_by_label("Contrast: this output").select_option(index=1)
    assert "minus that on" in page.locator(".pane-connections").inner_text()
    assert page.locator(".pane-connections .node").count() > 0


def test_pictures_of_the_readme(browser: Any, tmp_path: Path) -> None:
    """Screenshots of an example, in build/screenshots; `make pictures` puts them into docs/images."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    file = tmp_path / "capital.html"
    file.write_text(wrap(gallery_page("capital"), "capital", ""), encoding="utf-8")
    for scheme in ("light", "dark"):
        tab = Tab(browser, viewport={"width": 1400, "height": 2600}, color_scheme=scheme)
        page = tab.open(file, "#edges=400")
        drawn(page)
        page.get_by_role("button", name="Start from the parts").click()
        page.locator(".phrase").first.click()
        page.locator(".change").get_by_role("button", name="Switch off").click()
        page.mouse.move(0, 0)  # what is pointed at fades the rest
        page.wait_for_timeout(200)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=SHOTS / f"graph-{scheme}.png")
        page.set_viewport_size({"width": 1400, "height": 1000})
        page.get_by_role("button", name="Plain").click()
        page.mouse.move(0, 0)
        page.wait_for_timeout(200)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=SHOTS / f"plain-{scheme}.png")
        tab.close()
    assert (SHOTS / "graph-dark.png").stat().st_size > 20_000


@pytest.mark.parametrize("name", ["capital", "names", "copy", "years"])
def test_pictures_of_the_story(browser: Any, tmp_path: Path, name: str) -> None:
    """The story of four examples; `make pictures` puts them into docs/images."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    file = tmp_path / f"{name}.html"
    file.write_text(wrap(gallery_page(name), name, ""), encoding="utf-8")
    for scheme, width in (("light", 1280), ("dark", 390)):
        tab = Tab(browser, viewport={"width": width, "height": 1200}, color_scheme=scheme)
        page = tab.open(file)
        drawn(page)
        story = page.locator(".story")
        assert story.locator(".part").count() >= 5
        page.wait_for_timeout(300)
        story.screenshot(path=SHOTS / f"story-{name}{'' if width > 700 else '-narrow'}.png")
        tab.close()
