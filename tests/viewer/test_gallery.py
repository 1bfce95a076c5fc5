"""Findings and failures of the gallery, by their own numbers; what scripts record of the built page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pages import script_of

GROUP = {
    "nodes": ["1_2_3"],
    "share": 0.5,
    "verdict": "as-predicted",
    "predicted": -2.0,
    "measured_in_graph": -2.1,
    "measured": -1.6,
}
LESS = {
    "nodes": ["1_3_3"],
    "share": 0.2,
    "verdict": "as-predicted",
    "predicted": -4.0,
    "measured_in_graph": -4.0,
    "measured": -4.0,
}


def view(fit: float | None = 0.9, **of_group: Any) -> dict[str, Any]:
    runs = [
        {"op": op, "nodes": nodes, "change": change, "sentence": f"{op} {nodes[0]}"}
        for op, nodes, change in (("off", ["1_3_3"], -4.0), ("double", ["1_2_3"], 1.0), ("off", ["1_2_3"], -2.0))
    ]
    return {"verification": {"fit": fit}, "groups": [GROUP | of_group, LESS], "interventions": runs}


def test_an_example_fails_unless_its_numbers_hold() -> None:
    finding = script_of("gallery").finding
    assert finding(view()) == ("off 1_2_3.", False)  # of the part that is told first
    for bad, said in (
        (view(fit=None), "not known"),
        (view(fit=0.49), "alone keep 49% of"),
        (view(fit=-0.3), "alone keep -30% of"),
        (view(fit=-0.004), "alone keep -0.4% of"),
        (view(verdict="no-effect"), "no effect beyond random neurons"),
        (view(verdict="not-as-predicted"), "matters, not as predicted (predicted -2.00, measured -2.10)"),
        (view(verdict="untested", measured=None), "was not tested"),
        (view() | {"groups": []}, "No part"),
    ):
        text, fails = finding(bad)
        assert fails and said in text, text


def test_the_index_says_what_the_pages_say() -> None:
    script = script_of("gallery")
    written = json.loads((script.FOLDER / "index.json").read_text(encoding="utf-8"))
    assert written == script.index(), "run `python scripts/gallery.py --index`"


def test_a_stray_file_beside_the_page_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = script_of("page_build")
    for name in (*build.BUILT, ".DS_Store", "page.js.orig"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(build, "STATIC", tmp_path)
    assert sorted(build.record()["files"]) == sorted(build.BUILT)
