"""A headless Chromium for tests of the page. Without one, those tests are skipped and say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("HOOKE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("NO BROWSER: install Debian's chromium (or set HOOKE_CHROMIUM) to test the page")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("NO BROWSER TESTS: playwright is not installed (pip install -e '.[dev]')")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def expect(what: Any) -> Any:
    """Assertions that wait: `expect(page.locator("a")).to_have_count(2)`."""
    from playwright.sync_api import expect as wait_for

    return wait_for(what)


class Tab:
    """A page that remembers what it asked for and what went wrong."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def open(self, path: Path, state: str = "") -> Any:
        """Open a file of ours and wait until its picture stands."""
        self.page.goto(path.as_uri() + state)
        self.page.wait_for_selector(".hooke main")
        return self.page

    def downloaded(self, press: Any, folder: Path) -> Path:
        with self.page.expect_download() as waiting:
            press()
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def close(self) -> None:
        self.context.close()


def violations(page: Any) -> list[str]:
    """What axe finds wrong, a line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{v['id']} ({v['impact']}): {v['nodes'][0]['html'][:160]} ×{len(v['nodes'])}" for v in found]


def overflow(page: Any) -> int:
    """Pixels by which the document is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


CONTROLS = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")]
    .filter((e) => !e.disabled && e.checkVisibility() && !e.closest("dialog:not([open])"))
    .filter((e) => !(e.closest("details:not([open])") && e.tagName !== "SUMMARY"))
    .map((e, i) => { e.dataset.k = i; return (e.getAttribute("aria-label") || e.textContent || e.placeholder || e.tagName).slice(0, 40) })"""


def out_of_reach(page: Any) -> list[str]:
    """Controls on screen that the Tab key does not lead to, or that do not show that they have the focus."""
    wanted = page.evaluate(CONTROLS)
    reached = set()
    page.evaluate("document.activeElement.blur()")
    bare = []
    for _ in range(len(wanted) + 20):
        page.keyboard.press("Tab")
        k, ring = page.evaluate(
            "[document.activeElement?.dataset?.k ?? null, getComputedStyle(document.activeElement).outlineStyle]"
        )
        if k is None:
            continue
        reached.add(int(k))
        if ring == "none":
            bare.append(f"{wanted[int(k)]} shows no focus")
    # of radio buttons in a group, one is a stop and arrow keys lead to the others
    radios = set(page.evaluate("[...document.querySelectorAll('input[type=radio]')].map((e) => Number(e.dataset.k))"))
    return bare + [name for k, name in enumerate(wanted) if k not in reached and k not in radios]
