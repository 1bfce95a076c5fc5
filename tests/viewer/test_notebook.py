"""A result in notebooks: executed headless and shown without any extra package; the live widget, also in marimo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import Tab, chromium
from hooke import HookeError, Model, Result, trace, view
from hooke.viewer import notebook

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def traced(glass: Model) -> Result:
    return trace(glass, "Alice was beginning to get very", nodes=60)


@pytest.fixture(scope="module")
def saved(traced: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return traced.save(tmp_path_factory.mktemp("nb") / "alice.json")


def environment() -> dict[str, str]:
    """The tests' own, with the package on the path and nothing of the user's."""
    places = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": places, "JUPYTER_PLATFORM_DIRS": "1"}


def test_an_executed_notebook_shows_the_view_with_no_extra_package(browser: Any, saved: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="NO NOTEBOOK TESTS: pip install -e '.[dev]'")
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter

    code = [
        "import sys; sys.modules['anywidget'] = sys.modules['ipywidgets'] = None  # as if they were not installed",
        f"import hooke; result = hooke.load_result({str(saved)!r})",
        "assert 'torch' not in sys.modules\nhooke.view(result)",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in code])
    before = dict(os.environ)
    os.environ.update(environment())
    try:
        NotebookClient(
            book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    exporter = HTMLExporter()
    exporter.embed_images = True
    body, _ = exporter.from_notebook_node(book)
    path = tmp_path / "book.html"
    path.write_text(body, encoding="utf-8")
    tab = Tab(browser, viewport={"width": 1200, "height": 900})
    tab.page.route(
        "http*://**", lambda route: route.abort()
    )  # the exporter's own template asks for its fonts and maths
    tab.page.goto(path.as_uri())
    frame = tab.page.frame_locator("iframe")
    frame.locator(".canvas[data-drawn]").wait_for()
    frame.locator(".phrase").first.click()
    assert frame.locator(".phrase[aria-pressed=true]").count() == 1
    tab.close()


def test_without_anywidget_it_says_what_to_install(traced: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(HookeError, match="pip install"):
        view(traced).widget()


def test_the_widget_answers_interventions(glass: Model, traced: Result) -> None:
    pytest.importorskip("anywidget", reason="NO WIDGET TESTS: pip install -e '.[dev]'")
    shown = view(traced, model=glass)
    widget = shown.widget()
    assert widget.live and widget.data and widget.state == {}
    said: list[Any] = []
    widget.send = said.append
    nodes = traced.payload["groups"][0]["nodes"]
    shown._answer(widget, {"request": 1, "nodes": nodes, "op": "off"}, None)
    assert said[0]["request"] == 1 and said[0]["view"]["sentence"]
    for message in (
        {"request": 2, "nodes": ["no"], "op": "off"},
        {"request": 3, "nodes": nodes, "op": "explode"},
        {"request": 4},
    ):
        shown._answer(widget, message, None)
        assert said[-1]["request"] == message["request"] and said[-1]["error"]
    assert notebook.view(traced).widget().live is False


MARIMO = """
import marimo
app = marimo.App()

@app.cell
def _():
    import hooke, marimo as mo
    result = hooke.load_result({path!r})
    widget = mo.ui.anywidget(hooke.view(result).widget())
    return mo, widget

@app.cell
def _(widget):
    widget
    return

@app.cell
def _(mo, widget):
    mo.md("python sees: " + str(widget.state.get("sel", "nothing")).replace(":", " is "))
    return

if __name__ == "__main__":
    app.run()
"""


def test_the_live_widget_in_marimo(browser: Any, saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("marimo", reason="NO MARIMO TEST: pip install -e '.[dev]'")
    book = tmp_path / "book.py"
    book.write_text(MARIMO.format(path=str(saved)), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "marimo",
        "run",
        str(book),
        "--headless",
        "--no-token",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    log = tmp_path / "marimo.log"
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment(), cwd=tmp_path)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        tab = Tab(browser, viewport={"width": 1200, "height": 900})
        tab.page.goto(f"http://127.0.0.1:{port}/")
        phrase = tab.page.locator(".phrase").first
        phrase.wait_for(timeout=60_000)
        phrase.click()
        tab.page.get_by_text("python sees: group is").wait_for(timeout=30_000)
        outside = [url for url in tab.requests if not url.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:"))]
        assert not [url for url in outside if "hooke" in url], outside  # what marimo itself asks for is marimo's
        tab.close()
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"no answer from marimo: {log.read_text()}")
