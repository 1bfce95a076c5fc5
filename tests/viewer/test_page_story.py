"""The story picture of a trace in a real browser: nothing overlaps, nothing leaves the page, boxes and lines open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Tab, chromium, expect, out_of_reach, overflow, violations
from hooke import Result
from hooke.results.drawn import drawn_graph
from hooke.results.graph import Graph, Node
from hooke.viewer import html_page
from made_up import filled
from pages import HOSTILE

WIDTHS = (360, 700, 800, 1280, 1920)
VERDICTS = ("as-predicted", "not-as-predicted", "no-effect", "untested")

# pairs of boxes, tokens and answer that overlap, and what reaches out of the story or has text beyond its edge
TROUBLE = """() => {
    const story = document.querySelector(".story").getBoundingClientRect();
    const all = [...document.querySelectorAll(".story :is(.part, .answer, .word)")];
    const name = (e) => e.textContent.slice(0, 30);
    const found = [];
    all.forEach((e, k) => {
        const a = e.getBoundingClientRect();
        if (a.left < story.left || a.right > story.right || a.top < story.top || a.bottom > story.bottom) found.push("outside: " + name(e));
        if (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1) found.push("too long: " + name(e));
        for (const other of all.slice(0, k)) {
            const b = other.getBoundingClientRect();
            if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.5)
                found.push(name(e) + " over " + name(other));
        }
    });
    return found;
}"""


def story_result(parts: int = 6, words: int = 8, label: str = "of ", seed: int = 0) -> Result:
    """A trace with a story: random flows between parts that stand at random words of a prompt."""
    rng = np.random.default_rng(seed)
    tokens = ["The", *(f" {label}{k}" for k in range(1, words))][:words]
    layers = [int(x) for x in np.sort(rng.integers(0, 12, parts))]
    places = [int(x) for x in rng.integers(0, words, parts)]
    nodes = [Node("", "token", None, 0, 1, tokens[0])]
    nodes += [
        Node("", "feature", layer, place, k, f"{label}neuron {k}", value=1.0, influence=0.5 / parts, cumulative=0.5)
        for k, (layer, place) in enumerate(zip(layers, places, strict=True))
    ]
    nodes.append(Node("", "logit", 12, words - 1, 9, " C", probability=0.9, is_target=True))
    graph = Graph(nodes, np.array([parts + 1]), np.ones((1, parts + 2), np.float32), np.zeros(1), tokens=tokens)
    drawn = drawn_graph(graph, prompt="".join(tokens), edge_threshold=1.0, n_layers=12).model_dump()
    ids = [node["id"] for node in drawn["nodes"] if node["kind"] == "feature"]
    groups = [
        {"name": f'" {label}{k}" (token {places[k] + 1}), early: reads " {label}", for " C"', "nodes": [ids[k]], "token": tokens[places[k]],
         "layers": [layers[k], layers[k]], "position": places[k], "positions": [places[k]], "share": 0.1, "reads": [], "promotes": [],
         "text": f"claim {k}" if k < 2 else "", "reason": f"reason {k}", "verdict": VERDICTS[k % 4],
         "predicted": -1.5, "measured_in_graph": None if k % 4 == 3 else -1.25}
        for k in range(parts)
    ]  # fmt: skip
    amount = iter(rng.normal(0, 1, 1000))
    flows = [{"token": int(rng.integers(words)), "target": k, "amount": next(amount), "direct": 0.0} for k in range(parts)]  # fmt: skip
    flows += [{"source": k, "amount": next(amount), "direct": 0.5} for k in range(parts)]
    flows += [{"source": a, "target": b, "amount": next(amount), "direct": 0.1} for a in range(parts) for b in range(a + 1, parts)]  # fmt: skip
    flows += [{"token": 0, "target_link": 0, "by": "key", "amount": -4.0, "direct": -4.0}, {"source_link": 0, "amount": -5.0, "direct": 0.0}]  # fmt: skip
    attention = [
        {"layer": 3, "head": k, "query": words - 1, "key": int(rng.integers(words)), "pattern": 0.5, "predicted": 1.0, "measured": 1.0,
         "verdict": "as-predicted", "score": 2.0, "pairs": [], "text": f"head {k} of layer 3 looks there"}
        for k in range(4)
    ]  # fmt: skip
    target = {"token": " C", "id": 9, "probability": 0.9}
    quantity = {"name": "centred logit", "equation": "", "unit": "logits", "about": "a score"}
    given = {"graph": drawn, "groups": groups, "flows": flows, "attention": attention, "target": target, "sentence": "It is: claim 0; claim 1.",
             "graph_quantity": quantity, "quantity": quantity, "units": "neurons"}  # fmt: skip
    return Result.make(
        "trace", arguments={"prompt": "".join(tokens), "basis": "neurons"}, payload=filled("trace", given)
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stories")
    results = {
        "small": story_result(),
        "least": story_result(1, 1),
        "large": story_result(15, 100, "a rather long word ", seed=1),
        "hostile": story_result(9, 12, HOSTILE + "w" * 90, seed=2),
    }
    for name, result in results.items():
        (folder / f"{name}.html").write_text(html_page([result]), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in results}


@pytest.mark.parametrize("name", ["small", "least", "large", "hostile"])
def test_nothing_overlaps_or_leaves_the_page(browser: Any, files: dict[str, Path], name: str) -> None:
    tab = Tab(browser, viewport={"width": WIDTHS[0], "height": 900})
    page = tab.open(files[name])
    for width in (*WIDTHS, WIDTHS[0]):
        page.set_viewport_size({"width": width, "height": 900})
        expect(page.locator(".story-picture")).to_have_count(int(width >= 700))
        for depth in ("Plain", "Standard"):
            page.get_by_role("button", name=depth).click()
            page.wait_for_timeout(60)
            assert page.evaluate(TROUBLE) == [], (width, depth)
            assert overflow(page) <= 0, (width, depth)
    assert tab.errors == [] and tab.requests == [files[name].as_uri()]
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed').length") == 0
    tab.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_a_box_opens_its_panel_and_the_address_opens_it_again(browser: Any, files: dict[str, Path], width: int) -> None:
    tab = Tab(browser, viewport={"width": width, "height": 900})
    page = tab.open(files["small"])
    box = page.locator(".part[data-key^='group:\" of 1\"']")
    panel = page.locator(".story-panel")
    box.click()
    expect(panel).to_contain_text("claim 1")
    expect(panel).to_contain_text("neuron 1")
    expect(page.locator(".pane-detail h3").first).to_contain_text('" of 1"')
    assert page.locator(".phrase[aria-pressed=true]").count() == 1
    address = page.url
    box.click()
    expect(panel).to_have_count(0)
    box.press("Enter")
    expect(panel).to_have_count(1)
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    page.goto(address)
    page.reload()
    expect(panel).to_contain_text("claim 1")
    page.get_by_role("button", name="Close (Esc)").click()
    expect(panel).to_have_count(0)
    expect(box).to_be_focused()
    page.locator(".part[data-key^='group:\" of 4\"']").click()  # the sentence leaves it out
    expect(panel).to_contain_text("reason 4")
    panel.locator(".node").first.click()
    expect(page.locator(".pane-detail h3").first).to_contain_text("neuron 4")
    expect(panel).to_have_count(1)
    assert tab.errors == []
    tab.close()


def test_lines_say_what_they_are(browser: Any, files: dict[str, Path]) -> None:
    tab = Tab(browser, viewport={"width": 1280, "height": 1400})
    page = tab.open(files["small"])
    flows = page.locator("g.flow")
    assert 3 < flows.count() <= 25
    assert page.locator(".part").count() == 6 + 1  # a link of attention that flows pass through
    assert f"{flows.count()} of " in page.locator(".story").inner_text().replace("\u202f", "")
    flows.first.focus()
    first = page.locator(".told").inner_text()
    assert "changes the centred logit by" in first and first == flows.first.get_attribute("aria-label")
    page.keyboard.press("ArrowRight")
    assert page.locator(".told").inner_text() == flows.nth(1).get_attribute("aria-label")
    # for and against differ by more than colour
    dash = "(e) => getComputedStyle(e).strokeDasharray"
    assert page.locator("g.flow.for .line").first.evaluate(dash) == "none"
    assert page.locator("g.flow.against .line").first.evaluate(dash) != "none"
    look = page.locator("g.look").first
    look.focus()
    assert "looks at" in page.locator(".told").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator(".story-panel")).to_contain_text("of layer 3 looks there")
    assert tab.errors == []
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_accessibility(browser: Any, files: dict[str, Path], width: int, scheme: str) -> None:
    tab = Tab(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = tab.open(files["small"])
    page.locator(".part[data-key^='group:\" of 1\"']").click()
    for depth in ("Plain", "Expert"):
        page.get_by_role("button", name=depth).click()
        page.wait_for_timeout(150)
        assert violations(page) == [], depth
    if scheme == "light":
        assert out_of_reach(page) == []
    tab.close()
