"""What reaches a terminal: nothing of a name, a label or a message can steer it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooke.cli.interrupt import heeded
from hooke.cli.screen import Screen, json_text
from hooke.errors import HookeError
from hooke.terminal import Stages
from made_up import unknown

EVIL = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e\x00\r\nhooke: all is well"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(text: str, stream: io.StringIO) -> str:
    Screen(stream).write(text)
    return stream.getvalue()


@given(st.text())
def test_a_file_or_a_pipe_gets_text_and_lines(text):
    got = shown(text, io.StringIO())
    assert len(got) == len(text) and all(c.isprintable() or c in "\n\t" for c in got)
    assert [c for c in got if c.isprintable() and c != " "] == [c for c in text if c.isprintable() and c != " "]


def test_a_terminal_gets_colours_and_bars_and_nothing_else():
    ours = "\x1b[1mbold\x1b[0m \x1b[38;2;1;2;3mred\x1b[39m\r\x1b[2K\x1b[1A\x1b[?25l|###|\x1b[?25h"
    assert shown(ours, Terminal()) == ours
    got = shown("\x1b[2J\x1b[10;10H\x1b]0;title\x07\x1bc\x1b[6n\x9b31m\x00\x08x\u202ey", Terminal())
    assert not set(got) & set("\x1b\x07\x9b\x00\x08\u202e") and "x" in got and "y" in got
    assert shown("\x1b[1mbold", io.StringIO()) == " [1mbold"


def test_other_things_of_a_stream_are_its_own():
    stream = io.StringIO()
    screen = Screen(stream)
    print("a\x1b[2J", end="", file=screen)
    screen.writelines(["b\x00", "c\n"])
    screen.flush()
    assert stream.getvalue() == "a [2Jb c\n" and screen.isatty() is False and screen.closed is False


@given(st.dictionaries(st.text(), st.text()))
def test_json_says_the_same_and_can_be_shown(value):
    for text in (
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        json.dumps(value, ensure_ascii=False, indent=1),
    ):
        got = json_text(text)
        assert json.loads(got) == json.loads(text) and all(c.isprintable() or c == "\n" for c in got)


def test_json_of_a_result():
    made = unknown("note", payload={"text": EVIL + "😀 é\u2028\U000e0041"})
    got = json_text(made.to_json())
    assert json.loads(got)["payload"] == made.payload and got.isprintable()


def test_an_error_is_one_line_whatever_is_in_it():
    text = str(HookeError(f"no file {EVIL}"))
    assert text.isprintable() and text.startswith("no file ") and text.endswith("hooke: all is well")
    assert str(HookeError()) == "" and str(HookeError(HookeError("a"))) == "a"


def hooke(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hooke", *arguments], capture_output=True, text=True, timeout=120,
        env={**os.environ, "HOOKE_HOME": str(home), "COLUMNS": "200"},
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [
    ("open", "evil\x1b[2J\nhooke: fine\r.json"), ("open", "~nobody-of-this-name/a.json"), ("open", "a" * 900), ("open", "{pipe}"),
    ("open", "{socket}"), ("open", "/dev/zero"), ("open", "/dev/stdin"), ("evil\x1b[31m\nverb",), ("lens", "x", "--model", "evil\x1b[2J\nx"),
    ("lens", "x", "--model", "~nobody-of-this-name"), ("lens", "x", "--model", "m" * 900), ("lens", "x", "--model", "{pipe}"),
    ("trace", "x", "--out", "o" * 900), ("models", "--out", "{pipe}/x\x1b[2J.json"), ("bench", "truth", "--program", "{pipe}"),
    ("circuit", "--data", "{pipe}"), ("probe", "fit", "{pipe}.csv"), ("probe", "test", "{pipe}", "--data", "truth"),
    ("patch", "--prompts", "{pipe}"), ("assess", "{pipe}"), ("assess", "m" * 900),
])  # fmt: skip
def test_the_command_line_with_hostile_names_is_one_line(tmp_path, monkeypatch, capsys, arguments):
    import socket

    from hooke.cli import main

    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        where = os.path.relpath(tmp_path / "s")
        server.bind(where if len(where) < 100 else str(tmp_path / "s"))
        given_ = [
            a.replace("{pipe}", str(tmp_path / "pipe")).replace("{socket}", str(tmp_path / "s")) for a in arguments
        ]
        monkeypatch.setenv("HOOKE_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(sys, "argv", ["hooke", *given_])
        with pytest.raises(SystemExit) as end:
            main()
    said = capsys.readouterr().err
    assert end.value.code == 2, said
    assert len(said.splitlines()) == 1 and said.strip().isprintable(), said
    assert said.startswith("hooke: ") and len(said) < 3500


def test_a_converted_model_with_a_hostile_name_in_the_list(tmp_path):
    folder = tmp_path / "models" / "gguf-0123456789abcdef"
    folder.mkdir(parents=True)
    about = {"format": 1, "parameters": 1, "licence": EVIL, "note": f"note {EVIL}", "files": {}}
    (folder / "hooke.json").write_text(json.dumps(about))
    for more in ((), ("--json",)):
        done = hooke("models", *more, home=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not set(done.stdout) & set("\x1b\x07\x9b\u202e\x00\r")
    assert any(row["note"] == about["note"] for row in json.loads(done.stdout)["payload"]["models"])


@pytest.mark.parametrize("code", ["ascii", "latin-1", "cp1252"])
def test_an_encoding_that_lacks_letters_gets_escapes(code, monkeypatch):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=code, newline="")
    Screen(stream).write("模 é 🙂\n")
    stream.flush()
    said = raw.getvalue().decode(code)
    assert said == ("\\u6a21 \\xe9 \\U0001f642\n" if code == "ascii" else "\\u6a21 é \\U0001f642\n")
    monkeypatch.setattr(sys, "stdout", stream)
    assert json.loads(json_text(json.dumps("模 é 🙂", ensure_ascii=False)).encode(code)) == "模 é 🙂"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_a_stream_that_was_closed_is_no_fault(closed):
    """It ended in a traceback: what is not there has no `write`."""
    for words, code in (("models", 0), ("open /nowhere", 2)):
        done = subprocess.run(
            ["/bin/sh", "-c", f'"{sys.executable}" -m hooke {words} {closed}'], capture_output=True, text=True
        )
        assert done.returncode == code and "Traceback" not in done.stdout + done.stderr


def test_letters_that_the_terminal_lacks_from_end_to_end():
    done = subprocess.run(
        [sys.executable, "-m", "hooke", "lens", "日本 é", "--model", "glassllm", "--json"],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0 and json.loads(done.stdout.decode("ascii"))["arguments"]["prompt"] == "日本 é"


def test_an_interrupt_that_python_drops_ends_the_work_all_the_same(capsys):
    """Where it comes while an object is tidied away, a traceback was printed and the work went on."""

    class Tidied:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with heeded():
            tick = Stages(("forward",))
            tick("forward", 0.1)
            Tidied()  # is gone at once, and what it raises with it
            with pytest.raises(KeyboardInterrupt):
                tick("forward", 0.2)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        Stages(("forward",))("forward", 0.3)  # the next command begins anew
    finally:
        signal.signal(signal.SIGINT, before[0])
    assert sys.unraisablehook is before[1] and "Traceback" not in capsys.readouterr().err
