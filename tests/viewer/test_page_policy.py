"""The page under its content policy, in a real browser: it works, and markup that slipped into it does nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import Tab, chromium
from hooke import Result, trace
from hooke.viewer import app_page, html_page, index_html, script
from serving import Client, model, running  # noqa: F401

EVIL = (
    "<script>window.evil = 'inline'</script><script type=\"module\">window.evil = 'module'</script>"
    "<img src=\"data:,\" onerror=\"window.evil = 'handler'\"><a id=\"lure\" href=\"javascript:window.evil = 'link'\">x</a>"
    "<script src=\"data:text/javascript,window.evil = 'data'\"></script><iframe srcdoc=\"<script>parent.evil = 1</script>\">"
    "</iframe><script src=\"/static/page.js?again\" onload=\"window.evil = 'own'\"></script>"
    "<style>body { background: rgb(1, 2, 3) !important }</style>"
)  # fmt: skip
DONE = """() => ({
    evil: window.evil ?? null,
    body: getComputedStyle(document.body).backgroundColor,
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def traced(glass) -> Result:
    return trace(glass, "Alice was beginning to get very", nodes=50, verify=False)


def nothing_ran(page: Any) -> None:
    page.evaluate("document.getElementById('lure').click()")
    page.wait_for_timeout(300)
    found = page.evaluate(DONE)
    assert found["evil"] is None
    assert found["body"] != "rgb(1, 2, 3)"


def blocked(tab: Tab) -> list[str]:
    return [line for line in tab.errors if "Content Security Policy" in line or "Content-Security-Policy" in line]


def test_the_hash_is_that_of_the_bundle(traced: Result) -> None:
    digest = base64.b64encode(hashlib.sha256(script()).digest()).decode()
    for text, said in ((html_page([traced]), None), app_page(index_html(), script())):
        said = said or re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
        assert f"script-src 'sha256-{digest}';" in said and "unsafe" not in said and "default-src 'none'" in said
        assert "style-src" not in said
        inside = re.findall(r'<script type="module"[^>]*>(.*?)</script>', text, re.DOTALL)
        assert [part.encode() for part in inside] == [script()]


def test_a_file_works_and_nothing_else_runs_in_it(browser: Any, traced: Result, tmp_path: Path) -> None:
    (tmp_path / "clean.html").write_text(html_page([traced]), encoding="utf-8")
    tab = Tab(browser)
    page = tab.open(tmp_path / "clean.html")
    page.wait_for_selector(".canvas[data-drawn]")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.hooke .bar')).display") == "flex"
    )  # the style is there
    assert tab.errors == []
    tab.close()
    for place in ('<div id="hooke"></div>', "</body>"):
        (tmp_path / "evil.html").write_text(html_page([traced]).replace(place, EVIL + place), encoding="utf-8")
        tab = Tab(browser)
        page = tab.open(tmp_path / "evil.html")
        page.wait_for_selector(".canvas[data-drawn]")
        nothing_ran(page)
        assert len(blocked(tab)) >= 5
        tab.close()


def test_a_bundle_that_was_changed_does_not_run(browser: Any, traced: Result, tmp_path: Path) -> None:
    text = html_page([traced])
    (tmp_path / "changed.html").write_text(text.replace("/*! Hooke,", "/*! Hooks,", 1), encoding="utf-8")
    tab = Tab(browser)
    tab.page.goto((tmp_path / "changed.html").as_uri())
    tab.page.wait_for_timeout(500)
    assert tab.page.locator(".hooke main").count() == 0 and blocked(tab)
    tab.close()


def test_the_served_page_works_and_nothing_else_runs_in_it(browser, traced, model, tmp_path, monkeypatch):  # noqa: F811
    with running(tmp_path) as server:
        name = server.store.save(traced)
        for evil in ("", EVIL):
            document = index_html().replace('<div id="hooke-app">', evil + '<div id="hooke-app">')
            monkeypatch.setattr("hooke.server.app.index_html", lambda document=document: document)
            tab = Tab(browser)
            tab.page.goto(server.link(f"/r/{name}"))
            tab.page.wait_for_selector(".canvas[data-drawn]")
            if evil:
                nothing_ran(tab.page)
                assert len(blocked(tab)) >= 5
            else:
                assert tab.errors == []
                assert tab.page.evaluate("getComputedStyle(document.querySelector('.hooke .bar')).display") == "flex"
                tab.page.goto(f"http://127.0.0.1:{server.port}/")
                tab.page.wait_for_selector("textarea")
                assert tab.errors == []
            tab.close()
        refused = Client(server).get("/", token=None)
        assert b"<style>" in refused.body and refused.status == 401
        tab = Tab(browser)
        tab.page.goto(f"http://127.0.0.1:{server.port}/")
        assert tab.page.evaluate("getComputedStyle(document.body).maxWidth") == "544px"
        tab.close()
