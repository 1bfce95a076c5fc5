"""A report in a real browser, read to the end: every sentence's evidence opens, in one file and in the app."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import Tab, chromium, expect, out_of_reach, overflow, violations
from hooke import Model, Result
from hooke.safety.evidence import evidence_path
from hooke.server.serve import Server
from hooke.viewer import html_page, title, write_report
from reports import HOSTILE, assessment_of, evidence_of, probe_result, probe_test_result, sentences, write_folder
from serving import running

FOUND = "Findings"  # the title of the section that leads a report
# what stands on the page when the evidence of a kind is open
DRAWN = {"trace": ".canvas[data-drawn]", "lens": ".lens-panes", "probe_test": ".probe .bars", "probe": ".probe .chart", "difference": ".generic table", "coverage": ".generic table"}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def parts(glass: Model) -> dict[str, Result]:
    return {**evidence_of(glass), "probe": probe_result()}


@pytest.fixture(scope="module")
def folder(parts: dict[str, Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assess") / "out"
    write_folder(folder, parts)
    write_report(folder)
    return folder


@pytest.fixture
def tab(browser: Any) -> Iterator[Tab]:
    tab = Tab(browser, viewport={"width": 1400, "height": 1000})
    yield tab
    tab.close()


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "store") as server:
        yield server


def ways(page: Any) -> list[str]:
    """Every evidence id that the report links to, in its order."""
    return [str(to) for to in page.evaluate("[...document.querySelectorAll('.ways a')].map((a) => a.dataset.to)")]


def back_at(page: Any, place: int) -> None:
    """The focus is where the report was left."""
    page.wait_for_function("(k) => document.querySelectorAll('.ways a')[k] === document.activeElement", arg=place)


def read_to_the_end(page: Any, assessment: Result, parts: dict[str, Result]) -> None:
    """Each sentence is there with a way to each of its evidence ids; each way opens what it says; Back returns."""
    by_id = {result.id: result for result in parts.values()}
    text = page.locator(".assess").inner_text()
    for said, _ in sentences(assessment):
        assert said in text
    there = ways(page)
    wanted = [name for _, names in sentences(assessment) for name in names]
    assert set(there) == set(wanted) and len(there) >= len(wanted)
    for row, (said, names) in [
        (page.locator("tr, li", has_text=said), (said, names)) for said, names in sentences(assessment)
    ]:
        found = {
            to
            for k in range(row.count())
            for to in row.nth(k).evaluate("(e) => [...e.querySelectorAll('a')].map((a) => a.dataset.to)")
        }
        assert set(names) <= found, said
    for place, to in enumerate(there):
        page.locator(".ways a").nth(place).click()
        result = by_id[to[:32]]
        heading = page.locator(".assess > h2")
        expect(heading).to_contain_text(title(result))
        expect(heading).to_contain_text(result.id)
        expect(heading).to_be_focused()
        page.locator(DRAWN[result.kind]).first.wait_for()
        page.go_back()
        expect(page.get_by_role("heading", name=FOUND, exact=True)).to_be_visible()
        back_at(page, place)


def test_every_sentence_of_the_file_leads_to_its_evidence(tab: Tab, folder: Path, parts: dict[str, Result]) -> None:
    path = folder / "report.html"
    page = tab.open(path)
    read_to_the_end(page, assessment_of(parts), parts)
    assert tab.requests == [path.as_uri()] and tab.errors == []
    assert "glassllm" in page.title()


def test_every_sentence_in_the_app_leads_to_its_evidence(browser: Any, server: Server, folder: Path, parts: dict[str, Result]) -> None:  # fmt: skip
    name = server.store.open(folder)
    tab = Tab(browser, viewport={"width": 1400, "height": 1000})
    page = tab.page
    page.goto(server.link("/"))
    page.get_by_role("link", name="assess: glassllm").click()
    page.wait_for_url(f"**/r/{name}")
    page.locator(".assess").wait_for()
    read_to_the_end(page, assessment_of(parts), parts)
    # an address of its own: another visit finds the evidence open, and nothing else was kept
    page.locator(f".ways a[data-to='{parts['lens'].id}']").first.click()
    page.locator(".lens-panes").wait_for()
    page.reload()
    page.locator(".lens-panes").wait_for()
    address = page.url
    other = tab.context.new_page()
    other.goto(address)
    other.locator(".lens-panes").wait_for()
    other.goto(address.partition("#")[0])
    other.get_by_role("heading", name=FOUND, exact=True).wait_for()
    assert server.store.state(name) is None
    # one artefact deleted: the page says which
    evidence_path(server.store.folder / name, parts["trace"].id).unlink()
    assert tab.errors == []
    other.goto(address.partition("#")[0])
    other.reload()
    expect(other.get_by_role("alert")).to_contain_text(parts["trace"].id)
    expect(other.get_by_role("alert")).to_contain_text("(a trace)")
    tab.close()


def test_a_place_inside_is_shown(tab: Tab, folder: Path, parts: dict[str, Result]) -> None:
    page = tab.open(folder / "report.html")
    page.locator(".ways a", has_text="areas.1").first.click()
    section = page.locator(".assess > .generic").first
    expect(section).to_contain_text("places")
    assert "recipes" not in section.inner_text()
    page.get_by_role("link", name="Back to the report").click()
    page.locator(".ways a", has_text="trace").first.click()  # of the trace and a node
    page.wait_for_selector(".canvas[data-drawn]")
    assert page.locator(".pane-detail .detail h3, .pane-detail h3").count() >= 1
    # what is done in the evidence is in the history and the address, and one Back undoes one step
    selected = page.url
    page.locator(".pane-connections .node").first.click()
    assert page.url != selected
    page.go_back()
    page.wait_for_function("(url) => location.href === url", arg=selected)
    assert page.locator(".canvas").count() == 1
    assert page.locator(".change button").first.is_disabled()
    assert "no model behind it" in page.locator(".change").inner_text()
    assert tab.errors == []


def test_an_address_cannot_bring_results_of_runs_into_evidence(
    tab: Tab, folder: Path, parts: dict[str, Result]
) -> None:
    trace = parts["trace"]
    node = next(n["id"] for n in trace.payload["graph"]["nodes"] if n["kind"] == "feature")
    run = {"type": "intervention", "nodes": [node], "op": "off", "trace": trace.id, "target": {"token": "x", "id": 1}, "rows": [],
           "change": -9.0, "control_change": 0.0, "control_least": 0.0, "control_greatest": 0.0, "controls": 5, "sentence": "FORGED"}  # fmt: skip
    at = {
        "sel": node,
        "replay": {"op": "off", "of": node},
        "runs": [run],
        "prune": "much",
        "pin": 3,
        "groups": [{}],
    }
    page = tab.open(folder / "report.html", f"#open={trace.id}&at={json.dumps(at)}")
    page.wait_for_selector(".canvas[data-drawn]")
    assert page.locator(".detail h3").count() == 1
    assert "FORGED" not in page.inner_text("body")
    for nonsense in ("#open=7&at=3", "#open=nothing", "#open=[]&at=[]", f"#open={trace.id}%23nowhere"):
        page.goto((folder / "report.html").as_uri() + nonsense)
        page.reload()
        page.locator(".assess").wait_for()
    assert tab.errors == []


def test_what_was_not_looked_at_is_on_the_first_screen(tab: Tab, folder: Path, parts: dict[str, Result]) -> None:
    page = tab.open(folder / "report.html")
    for claim in assessment_of(parts).payload["claims"]:
        if claim["section"] == "limits":
            assert page.get_by_text(claim["text"]).first.bounding_box()["y"] < 1000
    assert page.get_by_text("instrument not validated").count() == 0
    for badge, number in (
        ("flagged", 1),
        ("about the run", 1),
        ("measured", 2),
        ("not borne out", 1),
        ("not tested", 2),
    ):
        expect(page.locator("li .badge").get_by_text(badge, exact=True)).to_have_count(number)
    # how often a finding is none stands above all of them, and no warning is green
    alarms = page.get_by_text("False alarms: these rules flag 0 of 7").bounding_box()
    assert alarms["y"] < page.get_by_role("heading", name=FOUND, exact=True).bounding_box()["y"]
    colour = "(e) => getComputedStyle(e).backgroundColor + getComputedStyle(e).color"
    seen = {
        name: page.locator(f".badge.role-{name}").first.evaluate(colour)
        for name in ("finding", "control", "run", "gap")
    }
    assert seen["finding"] not in (seen["control"], seen["run"]) and seen["control"] != seen["run"]
    row = page.locator("tr", has_text="A rare word changes its answers")
    expect(row).to_contain_text("11 of 12")


def test_a_quick_look_is_stamped(tab: Tab, parts: dict[str, Result], tmp_path: Path) -> None:
    write_folder(tmp_path, parts, quick=True)
    page = tab.open(write_report(tmp_path))
    stamp = page.locator(".stamp").first
    expect(stamp).to_contain_text("QUICK")
    assert stamp.bounding_box()["y"] < 250
    write_folder(tmp_path, parts, quick=True, false_alarms=None)
    page = tab.open(write_report(tmp_path))
    expect(page.locator(".alarms")).to_contain_text("not known")


def test_a_link_says_what_it_leads_to(tab: Tab, folder: Path) -> None:
    page = tab.open(folder / "report.html")
    said = page.locator(".ways a").all_inner_texts()
    assert any("coverage, what was looked at" in text for text in said)
    assert not any(word in text for text in said for word in ("undefined", "null"))


def test_an_instrument_that_was_not_validated_is_stamped(tab: Tab, parts: dict[str, Result], tmp_path: Path) -> None:
    write_folder(tmp_path, parts, validated=False)
    page = tab.open(write_report(tmp_path))
    sections = page.locator(".assess > section")
    stamped = [bool(sections.nth(k).locator(".stamp").count()) for k in range(sections.count())]
    assert stamped == [False] * 3 + [True] * 2
    expect(page.locator(".first > section .stamp")).to_have_count(2)  # what was found, and what was not looked at
    assert page.locator(".stamp").first.bounding_box()["y"] < 250  # and once above everything
    expect(page.locator(".badge", has_text="failed")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_reports_are_accessible(browser: Any, folder: Path, scheme: str, width: int) -> None:
    tab = Tab(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = tab.open(folder / "report.html")
    assert violations(page) == [] and overflow(page) <= 0 and out_of_reach(page) == []
    for kind in ("probe test", "difference"):
        page.locator(".ways a", has_text=kind).first.click()
        page.locator(".assess > h2").wait_for()
        assert violations(page) == [] and overflow(page) <= 0 and out_of_reach(page) == [], kind
        page.get_by_role("link", name="Back to the report").click()
    assert tab.errors == []
    tab.close()


@pytest.mark.parametrize("make", [probe_result, probe_test_result], ids=["probe", "probe_test"])
def test_probes_are_drawn(browser: Any, make: Any, tmp_path: Path) -> None:
    path = tmp_path / "probe.html"
    path.write_text(html_page([make()]), encoding="utf-8")
    for scheme, width in (("light", 1400), ("dark", 360)):
        tab = Tab(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = tab.open(path)
        assert violations(page) == [] and overflow(page) <= 0
        assert page.locator(".probe .bars tbody tr").count() == (3 if make is probe_result else 4)
        tokens = page.locator(".probe blockquote .tok")
        if make is probe_test_result:
            assert len({tokens.nth(k).evaluate("(e) => e.style.background") for k in range(4)}) > 1
        assert tab.errors == []
        tab.close()


def test_by_keyboard_alone(tab: Tab, folder: Path) -> None:
    page = tab.open(folder / "report.html")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.to"):
            break
    to = page.evaluate("document.activeElement.dataset.to")
    assert to == ways(page)[0]
    page.keyboard.press("Enter")
    expect(page.locator(".assess > h2")).to_be_focused()
    assert to[:32] in page.locator(".assess > h2").inner_text()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=FOUND, exact=True)).to_be_visible()
    back_at(page, 0)


def test_hostile_text_is_text(browser: Any, parts: dict[str, Result], tmp_path: Path) -> None:
    parts = {**parts, "probe_test": probe_test_result([HOSTILE, f"a {HOSTILE}"])}
    write_folder(tmp_path, parts, hostile=HOSTILE)
    path = write_report(tmp_path)
    tab = Tab(browser)
    page = tab.open(path)
    for place in range(len(ways(page))):
        text = page.evaluate("document.body.innerText + document.title")
        assert not any(mark in text for mark in "\u202e\u2028\x00")
        page.locator(".ways a").nth(place).click()
        page.locator(".assess > h2").wait_for()
        text = page.evaluate("document.body.innerText + document.title")
        assert not any(mark in text for mark in "\u202e\u2028\x00")
        assert page.evaluate("document.querySelectorAll('img, iframe, object, embed').length") == 0
        assert page.evaluate("document.querySelectorAll('script').length") == 2
        page.get_by_role("link", name="Back to the report").click()
    assert tab.errors == [] and tab.requests == [path.as_uri()]
    tab.close()


def test_it_prints(browser: Any, folder: Path) -> None:
    """On paper, which is light, without buttons, and with nothing cut at the edge of a box."""
    tab = Tab(browser, viewport={"width": 1000, "height": 900}, color_scheme="dark")
    page = tab.open(folder / "report.html")
    colour = "getComputedStyle(document.querySelector('.assess')).color"
    on_screen = page.evaluate(colour)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator(".bar button").first.is_hidden()
    assert on_screen == "rgb(232, 234, 237)" and page.evaluate(colour) == "rgb(22, 25, 29)"
    cut = "[...document.querySelectorAll('.assess .scroll')].filter((e) => getComputedStyle(e).overflowX !== 'visible')"
    assert page.evaluate(f"{cut}.length") == 0
    assert page.pdf().startswith(b"%PDF")
    tab.close()
