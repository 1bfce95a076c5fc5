"""What lists and tables look like at the width of a terminal and in a pipe: nothing cut, no word or path broken."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch
from rich.cells import cell_len

import hooke
import verbs
from hooke import tables, terminal
from hooke.cli.organisms import show_organisms
from hooke.results import Result
from made_up import filled

WIDTHS = (60, 80, 200, None)
PATH = "/home/somebody/a folder with spaces/cache/hooke/models/" + "x" * 40
MODELS = [
    {"name": "smollm2-135m", "parameters": 134_500_000, "download_mb": 93, "disk_mb": 542, "fetched": True, "path": PATH,
     "note": "a dequantised 4-bit (Q4_1) checkpoint of SmolLM2-135M-Instruct, of which much could be said here"},
    {"name": "gguf-0123456789abcdef", "parameters": 0, "download_mb": 0, "disk_mb": 1, "fetched": True, "path": "/m",
     "note": "模型的文件名很长也很宽 一個很長的名字.gguf, dequantised"},
    {"name": "glassllm", "parameters": 852_600, "download_mb": 3, "disk_mb": 3, "fetched": False, "path": "/g",
     "note": "tiny"},
]  # fmt: skip
DATASETS = [
    {"name": "truth-with-denials", "rows": 5466, "labels": ["false", "true"], "about": "A statement is true. " * 6,
     "shifts": {"science": 1, "occupations": 2, "questions": 3, "sky and snow": 4}},
    {"name": "真実", "rows": 1, "labels": ["偽", "真"], "about": "真偽" * 8, "shifts": {}},
]  # fmt: skip
TASKS = [
    {"name": "ioi", "about": "the indirect object of a gift", "accuracy": 0.82, "interval": [0.69, 0.91], "chance": 0.5,
     "able": True, "reason": ""},
    {"name": "docstring", "about": "the next argument to document", "accuracy": None, "interval": None, "chance": None,
     "able": False, "reason": "the tokenizer leaves only 0 of 50 pairs that line up; choose another task " * 2},
]  # fmt: skip


@pytest.fixture
def at(monkeypatch):
    """Results at a width; None is a pipe."""

    def set_width(width):
        for module in (tables, terminal, sys.modules["hooke.cli.organisms"]):
            monkeypatch.setattr(module, "columns_of_terminal", lambda: width)

    return set_width


def made(kind, payload):
    return Result.make(kind, payload=filled(kind, payload))


@pytest.mark.parametrize("width", WIDTHS)
def test_models_keep_their_paths_whole(at, capsys, width):
    at(width)
    terminal.show_models(made("models", {"models": MODELS}))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith(PATH) for line in lines) == 1
    assert all(cell_len(line) <= (width or 10**6) or line.strip() == PATH for line in lines)
    heads = [line for line in lines if not line.startswith(" ")]
    assert [head.split(":")[0] for head in heads] == [row["name"] for row in MODELS]
    if width is None:
        assert len(lines) == 2 * len(MODELS)
    assert "".join("".join(lines).split()).count("".join(MODELS[0]["note"].split())) == 1
    assert "not here: 3 MB to download" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "show, kind, payload",
    [
        (terminal.show_probe_list, "datasets", {"datasets": DATASETS}),
        (terminal.show_tasks, "tasks", {"tasks": TASKS, "sentence": "Done", "count": 50}),
    ],
)
def test_lists_are_entries_of_words(at, capsys, width, show, kind, payload):
    at(width)
    show(made(kind, payload))
    out = capsys.readouterr().out
    assert all(cell_len(line) <= (width or 10**6) for line in out.splitlines())
    told = " ".join(out.split())
    for row in payload.get("datasets", ()):
        assert f"{row['rows']} rows, {row['labels'][1]} (1) or {row['labels'][0]} (0)" in told
        assert row["about"].strip() in told and all(shift in told for shift in row["shifts"])
    for row in payload.get("tasks", ()):
        assert f"{row['name']}: {row['about']}" in told and row["reason"].strip() in told
    if kind == "tasks":
        assert "82% right (69% to 91%, chance 50%); the model can do it" in told


@pytest.mark.parametrize("width", WIDTHS)
def test_organisms_at_any_width(at, capsys, width):
    from hooke.truth.organisms import listing

    at(width)
    rows = listing()
    show_organisms(made("organisms", {"organisms": rows}))
    out = capsys.readouterr().out
    assert all(cell_len(line) <= (width or 10**6) for line in out.splitlines())
    told = " ".join(out.split())
    assert all(row["name"] + ":" in told for row in rows)
    assert all(" ".join(row["behaviour"].split()) in told for row in rows if row["kind"] != "clean")


HEADS = ("layer", "模型", "head 10", "its lead over the other", "e")
ROWS = [["0", "-12.50", "1,234,567", "0.10 to 0.20", ("7", "black on rgb(1,2,3)")], ["end", "漢字漢字", "2", "-", ""]]


@pytest.mark.parametrize("width", [10, 20, 30, 40, 60, 200, None])
def test_a_table_too_wide_goes_on_below_and_no_cell_is_cut(at, capsys, width):
    at(width)
    tables.show_table(HEADS, ROWS, left=1)
    blocks = [block.splitlines() for block in capsys.readouterr().out.split("\n\n")]
    lines = [line for block in blocks for line in block]
    if width is None or width >= 60:
        assert len(blocks) == 1 and len(lines) == 3
    else:
        assert len(blocks) > 1
    for number, row in enumerate(ROWS):
        for block in blocks:
            assert block[number - 2].split()[0] == row[0]  # each has the first column
        for cell in row[1:]:
            text = cell if isinstance(cell, str) else cell[0]
            assert sum(text in block[number - 2] for block in blocks) >= 1
    told = [word for line in lines for word in line.split()]
    assert all(word in told for head in HEADS for word in head.split())
    if width and width >= 20:
        assert all(cell_len(line) <= width for line in lines)


def test_columns_stand_under_their_heads_whatever_the_script(at, capsys):
    at(None)
    tables.show_table(HEADS, ROWS, left=1)
    lines = capsys.readouterr().out.splitlines()
    ends = []
    for line, words in zip(lines, (HEADS, [c if isinstance(c, str) else c[0] for c in ROWS[0]], ROWS[1]), strict=True):
        at_word = line.index(words[1])
        ends.append(cell_len(line[: at_word + len(words[1])]))
    assert len(set(ends)) == 1


def test_what_a_cell_holds_cannot_steer_the_terminal(at, capsys):
    at(40)
    tables.show_table(("a\x1b[2J", "b"), [["x\ny\x1b[31m", "[bold]z[/bold] :smile:"]])
    tables.show_lines(tables.entry(["na\x1b[0mme:"], "no\u202ete", width=40))
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out and "[bold]z[/bold] :smile:" in out


SHOWN = {
    "trace": terminal.show_trace,
    "intervene": terminal.show_intervention,
    "patch": terminal.show_patch,
    "attribute": terminal.show_attribution,
    "circuit": terminal.show_circuit,
    "lens": terminal.show_lens,
    "probe": terminal.show_probe,
    "probe_test": terminal.show_probe_test,
    "probe_explain": terminal.show_probe_explain,
}


@pytest.mark.parametrize("verb", list(SHOWN))
def test_sentences_fit_the_terminal_whatever_the_verb(at, capsys, verb):
    """A circuit's sentence was one line of 400 characters, and those of six other verbs too."""
    result = verbs.VERBS[verb](verbs.word_model("llama", torch.float32))
    sentence = " ".join(result.payload["sentence"].split())
    capsys.readouterr()
    for width in (30, 40, 80, None):
        at(width)
        SHOWN[verb](result)
        out = capsys.readouterr().out
        assert sentence.rstrip(".") in " ".join(out.split())
        prose = [
            line for line in out.splitlines() if line and not line.startswith("  ") and line in " ".join(out.split())
        ]
        for line in prose:
            assert cell_len(line) <= (width or 118) or " " not in line.strip(), line


def test_a_quoted_token_is_not_broken_and_keeps_its_spaces():
    text = "The model's choice, '  the' (7.4%), and the neurons' effect on \"a  b\" and 'x y'"
    lines = terminal.wrapped(text, 22).split("\n")
    assert lines == ["The model's choice,", "'  the' (7.4%), and", "the neurons' effect on", "\"a  b\" and 'x y'"]
    assert terminal.wrapped("  as   it is", 20) == "  as   it is"


def test_tokens_that_stand_there_several_times_have_their_place(capsys):
    p = hooke.trace(verbs.word_model("gemma2", torch.float32), "w11 w3 w11 w11", nodes=40)
    terminal.show_trace(p)
    told = " ".join(capsys.readouterr().out.split())
    assert all(f'"w11" (token {k})' in told for k in (1, 3, 4)) and '"w11" ->' not in told
    assert '"w11" and "w11"' not in told


def test_in_a_pipe_nothing_is_folded():
    done = subprocess.run(
        [sys.executable, "-m", "hooke", "probe", "list"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "40"},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) % 2 == 0 and max(map(len, lines)) > 100
    assert all(line.startswith("    ") == bool(n % 2) for n, line in enumerate(lines))


def test_into_a_file_progress_is_a_line_now_and_then(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.Stages(["load", "forward"]) as stage:
        for at in range(0, 200, 5):
            now[0] = 100.0 + at
            stage("forward", at / 200)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(", after ")[1] for line in lines] == ["20 s", "80 s", "140 s"]
    assert all(line.startswith("hooke: forward, 9") for line in lines)  # the load is most of it


def test_a_line_comes_also_when_nothing_moves(monkeypatch, capsys):
    monkeypatch.setattr(terminal.NowAndThen, "first", 0.05)
    real = terminal.threading.Event.wait
    monkeypatch.setattr(
        terminal.threading.Event, "wait", lambda self, timeout=None: real(self, min(timeout or 0.1, 0.1))
    )
    with terminal.Stages(["load", "forward"]) as stage:
        stage("load")
        time.sleep(1.0)
    assert capsys.readouterr().err.startswith("hooke: load, 0% of all, after 0 s\n")


def test_a_short_run_says_nothing_into_a_file(capsys):
    with terminal.Stages(["load", "forward"]) as stage:
        for done in (0.0, 0.5, 1.0):
            stage("forward", done)
    assert capsys.readouterr().err == ""
