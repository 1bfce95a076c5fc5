"""No line reaches a person that is not Hooke's own: every command, with a real terminal and without, on tiny models.

The commands run in a process of their own, as a person has them: no filter of the tests is set there. Left out are
those that need the default model (`organisms train` and `admit`) and what an assessment does to organisms.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assess_models import tiny_chat
from families import NAMES, new_hf

HERE = Path(__file__).resolve().parents[1]
PROMPT, OTHER = "Alice was beginning to get very tired", "Alice was beginning to see very tired"
TINY = ["-m", "glassllm"]
ENDS = ["--target-id", "300", "--contrast-id", "301"]
ROWS = "".join(f"{'good' if i % 2 else 'bad'} thing number {i},{i % 2}\n" for i in range(24))
PROGRAM = """
vocabulary = a b c d
length = 4
counts = selector_width(select(tokens, tokens, ==))
again = counts > 1
"""
TEXT = ["--text", "text.jsonl", "--tokens", "900", "--context", "32"]
COMMANDS = [
    ["--version"],
    ["--help"],
    ["trace", "--help"],
    [],
    ["models"],
    ["doctor", *TINY],
    ["organisms"],
    ["probe", "list"],
    ["trace", PROMPT, *TINY, "--nodes", "30", "--out", "t.json", "--html", "t.html"],
    ["trace", "", *TINY],
    ["lens", PROMPT, *TINY],
    ["lens", PROMPT, "-m", "chat"],
    ["intervene", "t.json", "--group", "1", *TINY],
    ["patch", PROMPT, OTHER, *TINY, *ENDS],
    ["patch", PROMPT, OTHER, *TINY, *ENDS, "--edge", "a1.h0->m2"],
    ["attribute", PROMPT, OTHER, *TINY, *ENDS],
    ["tasks", "greater-than", "--count", "2", *TINY],
    ["circuit", "--data", "pairs.jsonl", "--method", "eap", "--tests", "2", *TINY],
    ["probe", "fit", "rows.csv", *TINY, "--kind", "means", "--out", "probe"],
    ["probe", "test", "probe", "--data", "other.csv", "--benign", "200", *TINY],
    ["probe", "explain", "probe", "a good thing", *TINY],
    ["harvest", "--site", "resid_post.1", "--text", "text.jsonl", "--tokens", "400", "--out", "kept", *TINY],
    ["train", "topk", "--site", "resid_post.1", *TEXT, "--features", "32", "--k", "4", "--out", "mine", *TINY],
    ["evaluate", "mine", *TEXT, "--measure", "reconstruction", *TINY],
    ["catalogue", "build", *TEXT, "--layers", "1", "--context", "64", "--out", "slides", *TINY],
    ["features", "numbers", "--catalogue", "slides"],
    ["visualise", "1_5-", *TEXT[:4], "--length", "6", "--steps", "2", *TINY],
    ["features", "The end", "--text", "--catalogue", "slides", *TINY],
    ["bench", "truth", "--program", "again.rasp", "--method", "eap", "--pairs", "4"],
    ["assess", "glassllm", "--out", "seen"],
    ["open", "t.json", "--no-browser"],
    ["app", "--no-browser"],
    ["surprise"],
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, glass):
    """What the commands read: rows, pairs, a program, and models of all families in folders of their own."""
    root = tmp_path_factory.mktemp("terminal")
    (root / "rows.csv").write_text("text,label\n" + ROWS)
    (root / "other.csv").write_text("text,label\n" + ROWS.replace("thing", "other thing"))
    texts = [f"Alice was beginning to {do} {how} tired" for do in ("get", "see", "go") for how in ("very", "so")]
    ends = {"target": ",", "contrast": "."}
    pairs = [{"clean": a, "corrupt": b, **ends} for a in texts for b in texts if a != b]
    (root / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (root / "again.rasp").write_text(PROGRAM)
    rows = [
        f"Passage {n}: " + f"The {n}th cat sat on the mat, and the dog lay down beside it. " * 5 for n in range(120)
    ]
    (root / "text.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    chat = tiny_chat(glass)
    chat.hf.save_pretrained(root / "chat")
    chat.tokenizer.save_pretrained(root / "chat")
    for name in NAMES:
        new_hf(name, vocab_size=glass.parts.d_vocab).save_pretrained(root / name)
        glass.tokenizer.save_pretrained(root / name)
    return root


def environment() -> dict[str, str]:
    """A person's: nothing that the tests set to be quiet."""
    quiet = ("PYTHONWARNINGS", "TOKENIZERS_PARALLELISM", "TRANSFORMERS_VERBOSITY", "PYTEST_CURRENT_TEST")
    kept = {name: value for name, value in os.environ.items() if name not in quiet}
    return {**kept, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join([str(HERE.parent / "src")])}


def read_all(master: int) -> str:
    """What a pseudo-terminal shows, until nobody has it open any more."""
    found = b""
    while True:
        try:
            more = os.read(master, 65536)
        except OSError:
            break
        if not more:
            break
        found += more
    return found.decode("utf-8", "replace").replace("\r\n", "\n")


def run(folder: Path, commands: list[list[str]], terminal: bool) -> dict:
    """The record of the commands, beside what stood on the terminal or in the pipes."""
    (folder / "commands.json").write_text(json.dumps(commands))
    record = folder / "record.json"
    record.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / "terminal_lines.py"), "commands.json", "record.json"]
    if not terminal:
        done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
        shown = {"stdout": done.stdout, "stderr": done.stderr}
    else:
        import pty
        from concurrent.futures import ThreadPoolExecutor

        (out, out_end), (err, err_end) = pty.openpty(), pty.openpty()
        with ThreadPoolExecutor(2) as pool:
            process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=out_end, stderr=err_end)
            os.close(out_end)
            os.close(err_end)
            texts = [pool.submit(read_all, end) for end in (out, err)]
            process.wait()
            shown = {"stdout": texts[0].result(), "stderr": texts[1].result()}
        os.close(out)
        os.close(err)
    assert record.exists(), shown["stderr"][-3000:]
    return {"shown": shown, **json.loads(record.read_text())}


def check(found: dict, codes: list[int]) -> None:
    assert found["codes"] == codes, found["stderr"][-3000:]
    assert found["foreign"] == []
    for name in ("stdout", "stderr"):  # nothing came past Python either
        assert found["shown"][name] == found[name].replace("\r\n", "\n")
    both = found["shown"]["stdout"] + found["shown"]["stderr"]
    for word in ("Warning", "site-packages", "Traceback", "deprecated", "it/s]"):
        assert word not in both, both[max(0, both.index(word) - 300) :][:600]


def expected(words: list[str]) -> int:
    return 2 if not words or words[0] in ("surprise", "assess") or words[:2] == ["trace", ""] else 0


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_every_line_is_hookes_own(folder, terminal):
    found = run(folder, COMMANDS, terminal)
    at = next(i for i, words in enumerate(COMMANDS) if words[:1] == ["circuit"])
    codes = [expected(words) for words in COMMANDS]
    codes[at] = found["codes"][at]  # a circuit of a model that has none may be refused; in one line, as everything
    check(found, codes)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_every_line_is_hookes_own_whatever_the_family(folder):
    commands = [["lens", PROMPT, "-m", f"./{name}"] for name in NAMES]
    check(run(folder, commands, True), [0] * len(commands))


def test_all_commands_are_tried():
    """A new command has to stand in the list."""
    import typer.main

    from hooke.cli import app

    tree = typer.main.get_command(app)
    names = {
        (name, *inner)
        for name, command in tree.commands.items()
        for inner in ([(x,) for x in command.commands] if hasattr(command, "commands") else [()])
    }
    tried = {tuple(words[:n]) for words in COMMANDS for n in (1, 2)}
    assert names - tried == {("organisms", "train"), ("organisms", "admit"), ("bench", "toys")}


@pytest.mark.parametrize(
    "line", ["import warnings; warnings.warn('old', FutureWarning)", "os.write(2, b'past Python')"]
)
def test_a_foreign_line_is_found(tmp_path, line):
    """The check can fail: a warning, and bytes that no Python stream saw."""
    code = (HERE / "terminal_lines.py").read_text().replace("    codes = []\n", f"    codes = []\n    {line}\n")
    assert line in code
    (tmp_path / "lines.py").write_text(code)
    (tmp_path / "commands.json").write_text('[["--version"]]')
    command = [sys.executable, "lines.py", "commands.json", "record.json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    found = json.loads((tmp_path / "record.json").read_text())
    with pytest.raises(AssertionError):
        check({"shown": {"stdout": done.stdout, "stderr": done.stderr}, **found}, [0])
