"""`hooke app` in a real browser: a prompt typed, watched, cancelled, run again; nodes changed in the live model; what a
person did saved and found again; a lost server, a second tab, a client without the token."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import Tab, chromium, expect, out_of_reach, overflow, violations
from graph_files import tracer_file
from hooke import Model, Result, lens, trace
from hooke.server.serve import Server
from hooke.server.store import Store
from hooke.viewer import gallery
from made_up import unknown
from serving import running

PROMPT = "Alice was beginning to get very"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def folder(glass: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two traces and a lens, as they lie after earlier visits."""
    folder = tmp_path_factory.mktemp("app")
    store = Store(folder)
    for result in (
        trace(glass, PROMPT, nodes=80),
        trace(glass, "Alice was", nodes=60),
        trace(glass, "Alice was beginning to get so", nodes=80),
        lens(glass, PROMPT),
    ):
        store.save(result)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running(folder) as server:
        yield server


@pytest.fixture
def tab(browser: Any, server: Server) -> Iterator[Tab]:
    tab = Tab(browser, viewport={"width": 1400, "height": 1000})
    tab.page.goto(server.link("/"))
    tab.page.get_by_label("Type the start of a sentence").wait_for()
    yield tab
    outside = [
        url for url in tab.requests if not url.startswith((f"http://127.0.0.1:{server.port}/", "blob:", "data:"))
    ]
    assert outside == []
    tab.close()


def ask(page: Any, prompt: str, **options: str) -> None:
    page.get_by_label("Type the start of a sentence").fill(prompt)
    if options and not page.get_by_label("How many parts to draw").is_visible():
        page.locator("summary", has_text="Options").click()
    for label, value in options.items():
        page.get_by_label(label.replace("_", " ")).fill(value)
    page.keyboard.press("Enter") if not options else page.get_by_role("button", name="Run", exact=True).click()


def open_trace(page: Any, prompt: str = PROMPT) -> None:
    page.get_by_role("link", name=f"trace: {prompt}", exact=True).first.click()
    page.wait_for_selector(".canvas[data-drawn]")


def test_a_trace_is_asked_for_watched_and_opens(tab: Tab) -> None:
    page = tab.page
    assert "token=" not in page.url
    ask(page, PROMPT + " tired", How_many_parts_to_draw="60")
    page.locator("progress").wait_for()
    page.wait_for_url("**/r/*")
    page.wait_for_selector(".canvas[data-drawn]")
    assert "tired" in page.title()
    page.go_back()
    page.get_by_role("link", name="tired").first.wait_for()  # it is among the recent results
    assert tab.errors == []


def test_cancelled_and_started_again(tab: Tab, server: Server) -> None:
    page = tab.page
    before = len(server.store.listing())
    ask(page, "the cat sat on the mat and " * 12, How_many_parts_to_draw="4000")
    page.locator("progress").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("ancelled", exact=False).last.wait_for()
    assert "/r/" not in page.url
    assert len(server.store.listing()) == before
    ask(page, "Alice was", How_many_parts_to_draw="20")
    page.wait_for_url("**/r/*")
    assert tab.errors == []


def test_more_runs_than_connections_leave_the_page_free(
    tab: Tab, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers allow six connections to a server, in all tabs together."""
    release = threading.Event()

    def slow(*_: Any, progress: Any, **__: Any) -> Result:
        while not release.wait(0.01):
            progress("select", 0.5)
        return unknown("note")

    monkeypatch.setattr("hooke.methods.trace.trace", slow)
    jobs = [server.jobs.submit("trace", {"prompt": f"Run number {k}"}) for k in range(8)]
    try:
        page, second = tab.page, tab.context.new_page()
        page.reload()
        expect(page.locator("progress")).to_have_count(8)
        second.goto(f"http://127.0.0.1:{server.port}/")
        expect(second.locator("progress")).to_have_count(8)
        page.bring_to_front()  # a page behind another draws nothing
        open_trace(page)
        page.go_back()
        last = page.get_by_role("listitem").filter(has_text="Run number 7")
        last.get_by_role("button", name="Cancel").click()
        expect(last).to_contain_text("Cancelled.")
        second.bring_to_front()
        expect(second.get_by_role("listitem").filter(has_text="Run number 7")).to_contain_text("Cancelled.")
        expect(second.locator("progress")).to_have_count(7)
        second.close()
    finally:
        for job in jobs:
            server.jobs.cancel(job.id)
        release.set()
    assert tab.errors == []


def test_a_node_is_changed_in_the_live_model(tab: Tab) -> None:
    page = tab.page

    def double_a_node() -> str:
        page.wait_for_selector(".canvas[data-drawn]")
        page.locator(".phrase").first.click()
        page.locator(".pane-detail .node").first.click()
        page.locator(".change").get_by_role("button", name="Double").click()
        page.locator(".change table").wait_for()
        return str(page.locator(".change .changed > p").inner_text())

    open_trace(page, "Alice was")  # a result of its own: what is done to it is kept
    said = double_a_node()
    assert "random" in said.lower() and "%" in said
    # a group of one's own as well
    page.locator(".pane-subgraph").get_by_role("button", name="Group", exact=True).click()
    page.locator(".canvas").focus()
    for key in ("ArrowDown", "Enter", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Make a group of").click()
    with page.expect_response(lambda answer: answer.url.endswith("/intervene")) as answer:
        page.locator(".change").get_by_role("button", name="Switch off").click()
    assert answer.value.ok
    expect(page.locator(".change .changed > p")).to_contain_text(answer.value.json()["view"]["sentence"])
    # what was run stays with the result: another visit finds it, and the model is not asked again
    asked = [url for url in tab.requests if url.endswith("/intervene")]
    assert len(asked) == 2
    page.goto(page.url.partition("#")[0])
    assert double_a_node() == said
    assert [url for url in tab.requests if url.endswith("/intervene")] == asked
    assert tab.errors == []


def test_what_a_person_did_is_saved_and_in_the_export(tab: Tab, browser: Any, tmp_path: Path) -> None:
    page = tab.page
    open_trace(page)
    page.get_by_role("button", name="Start from the parts").click()
    page.locator(".box").first.click()
    page.locator(".pane-detail input.name").fill("My own name")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("Saved with this result").wait_for()
    address = page.url.partition("#")[0]
    page.goto(address)
    page.wait_for_selector(".canvas[data-drawn]")
    page.locator(".box", has_text="My own name").wait_for()
    saved = tab.downloaded(lambda: page.get_by_role("button", name="Export HTML").click(), tmp_path)
    other = Tab(browser)
    other.open(saved)
    other.page.locator(".box", has_text="My own name").wait_for()
    assert other.errors == [] and other.requests == [saved.as_uri()]
    other.close()
    assert tab.errors == []


def test_what_a_person_did_is_kept_without_asking(tab: Tab, server: Server) -> None:
    """Groups are there again after leaving the page; of two tabs, the one that works keeps, and the other says so."""
    page = tab.page
    page.get_by_role("link", name="trace: Alice was beginning to get so", exact=True).first.click()
    page.wait_for_selector(".canvas[data-drawn]")
    address = page.url.partition("#")[0]
    other = tab.context.new_page()
    other.goto(address)
    other.wait_for_selector(".canvas[data-drawn]")
    page.get_by_role("button", name="Start from the parts").click()
    page.locator(".box").first.wait_for()
    page.get_by_role("button", name="Hooke", exact=True).click()
    page.get_by_label("Type the start of a sentence").wait_for()
    page.get_by_role("link", name="trace: Alice was beginning to get so", exact=True).first.click()
    page.locator(".box").first.wait_for()
    other.get_by_text("changed in another tab").wait_for()
    other.get_by_role("button", name="Save", exact=True).click()
    other.get_by_text("changed in another tab").wait_for(state="hidden")
    page.get_by_text("changed in another tab").wait_for()
    page.goto(address)
    page.wait_for_selector(".canvas[data-drawn]")
    page.wait_for_timeout(200)
    assert page.locator(".box").count() == 0  # what the other tab saved by hand
    other.close()
    assert tab.errors == []


def test_the_gallery_and_the_tour(tab: Tab) -> None:
    page = tab.page
    failing = next(e for e in gallery() if e["fails"])
    page.get_by_text(failing["question"]).first.wait_for()
    expect(page.get_by_text("The explanation fails here")).to_have_count(sum(e["fails"] for e in gallery()))
    page.get_by_role("button", name="Take the tour").click()
    page.wait_for_selector(".canvas[data-drawn]")
    seen = []
    steps = 6 + page.locator(".story").count()  # examples of before have no story
    for step in range(1, steps + 1):
        expect(page.get_by_role("dialog").first).to_contain_text(f"{step} of {steps}")
        seen.append(page.get_by_role("dialog").first.inner_text())
        assert len(seen[-1].split()) < 60
        page.keyboard.press("Enter")
    assert len(set(seen)) == steps
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert tab.errors == []


def test_two_results_side_by_side(tab: Tab) -> None:
    """Of the two traces; what is selected in one is selected in the other, or said to be missing there."""
    page = tab.page
    for prompt in (PROMPT, "Alice was beginning to get so"):
        row = page.get_by_role("listitem").filter(has=page.get_by_role("link", name=f"trace: {prompt}", exact=True))
        row.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/compare/**")
    page.locator(".graph-view").nth(1).wait_for()
    expect(page.locator("nav [role=status]")).to_contain_text("features are in both graphs")
    left, right = page.locator(".hooke-pair > .hooke").nth(0), page.locator(".hooke-pair > .hooke").nth(1)
    left.get_by_role("button", name="Table").click()
    left.locator(".table-twin .node", has_text="“Alice” token").first.click()  # of both prompts
    expect(left.locator(".detail h3").first).to_contain_text("Alice")
    expect(right.locator(".detail h3").first).to_contain_text("Alice")
    left.get_by_role("button", name="Expert").click()
    expect(right.get_by_role("button", name="Expert")).to_have_attribute("aria-pressed", "true")
    assert violations(page) == []
    assert overflow(page) <= 0
    assert tab.errors == []


def test_a_graph_of_another_tool_is_opened_from_the_page(tab: Tab, tmp_path: Path) -> None:
    path = tmp_path / "austin.json"
    path.write_text(json.dumps(tracer_file()), encoding="utf-8")
    tab.page.get_by_label("Open a file").set_input_files(path)
    tab.page.wait_for_selector(".canvas[data-drawn]")
    tab.page.get_by_role("button", name="Table").click()
    tab.page.locator(".table-twin .node", has_text="my label").first.click()
    expect(tab.page.locator(".change")).to_contain_text("This graph was made elsewhere")
    expect(tab.page.locator(".change").get_by_role("button", name="Double")).to_be_disabled()
    bad = tmp_path / "bad.json"
    bad.write_text("{", encoding="utf-8")
    tab.page.goto(tab.page.url.split("/r/")[0] + "/")
    tab.page.get_by_label("Open a file").set_input_files(bad)
    tab.page.get_by_text("is not JSON").wait_for()


def test_a_second_tab_and_a_client_without_the_token(tab: Tab, browser: Any, server: Server) -> None:
    second = tab.context.new_page()
    second.goto(f"http://127.0.0.1:{server.port}/")
    second.get_by_label("Type the start of a sentence").wait_for()
    second.close()
    stranger = Tab(browser)
    answer = stranger.page.goto(f"http://127.0.0.1:{server.port}/")
    assert answer.status == 401 and "link" in stranger.page.inner_text("body")
    stranger.close()


def test_a_lost_server_is_said_and_found_again(browser: Any, folder: Path) -> None:
    with running(folder) as server:
        tab = Tab(browser)
        tab.page.goto(server.link("/"))
        tab.page.get_by_role("link", name=PROMPT).first.wait_for()
        port, token = server.port, server.token
    tab.page.get_by_label("Type the start of a sentence").fill("Alice")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_text("does not answer").first.wait_for()
    with running(folder, port=port, token=token):
        tab.page.get_by_role("button", name="Try again").first.click()
        tab.page.get_by_text("does not answer").first.wait_for(state="hidden")
        tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_home_and_lens_are_accessible(browser: Any, server: Server, scheme: str, width: int) -> None:
    tab = Tab(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = tab.page
    page.goto(server.link("/"))
    page.get_by_role("link", name=PROMPT).first.wait_for()
    page.locator("summary", has_text="Options").click()
    assert violations(page) == []
    assert overflow(page) <= 0
    assert out_of_reach(page) == []
    page.locator("main a[href^='/r/']", has_text="lens").first.click()
    page.wait_for_url("**/r/*")
    page.locator(".hooke main").wait_for()
    page.wait_for_timeout(300)
    assert violations(page) == []
    assert overflow(page) <= 0
    assert out_of_reach(page) == []
    assert tab.errors == []
    tab.close()
