"""Texts as passages: what is installed, files, folders; every kind of bad input is one line."""

from __future__ import annotations

import ast
import gzip
import inspect
import json
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from hooke import HookeError
from hooke.data.texts import Passage, installed, passages, texts_about
from hooke.data.texts import files as text_files
from hooke.data.texts.pieces import MOST, clean, parts

LONG = "All in the golden afternoon full leisurely we glide. " * 6


def texts(*sources: str | Path) -> list[str]:
    return [passage.text for passage in passages([str(source) for source in sources])]


# ---- what is installed ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def docs() -> list[Passage]:
    return list(islice(passages(["docs"], seed=0), 150))


def test_docs_are_clean_varied_and_once(docs: list[Passage]) -> None:
    assert len(docs) == 150 and len({passage.source for passage in docs}) > 100
    for text, source in docs:
        assert installed.FEWEST <= len(text) <= MOST and text == clean(text) and source
        assert sum(c.isalpha() or c.isspace() for c in text) > 0.7 * len(text)
    assert len({" ".join(text.split()) for text, _ in docs}) == 150


def test_docs_are_the_same_for_a_seed_and_in_another_process(docs: list[Passage]) -> None:
    assert list(islice(passages(["docs"], seed=0), 150)) == docs
    assert list(islice(passages(["docs"], seed=1), 20)) != docs[:20]
    code = (
        "from itertools import islice; from hooke.data.texts import passages, texts_about; "
        "print(texts_about(['docs'], islice(passages(['docs'], seed=0), 150))['sha256'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert done.stdout.strip() == texts_about(["docs"], docs)["sha256"], done.stderr


def test_docs_begin_at_once_and_import_nothing() -> None:
    code = (
        "import sys, time; from hooke.data.texts import passages; start = time.perf_counter(); before = set(sys.modules); "
        "next(passages(['docs'])); print(time.perf_counter() - start); "
        "print([name for name in set(sys.modules) - before if name.split('.')[0] in ('torch', 'transformers', 'scipy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, modules = done.stdout.splitlines()
    assert float(seconds) < 10 and modules == "[]"  # 0.2 s where nobody else works


def test_docstrings_are_those_that_python_has() -> None:
    import json.decoder as module

    found = installed.docstrings(Path(inspect.getsourcefile(module) or "").read_bytes())
    plain = inspect.getdoc(module.JSONDecoder.raw_decode)
    assert inspect.getdoc(module) in found and plain in found
    assert installed.docstrings(b'def f():\n    """One line."""\n') == ["f: One line."]
    assert installed.docstrings(b"def f(:") == [] and installed.docstrings(b"\xff\xfe") == []
    assert installed.docstrings(b"x = '''\\d'''\n'''a'''") == []  # a string with an escape that Python warns of
    assert installed.docstrings(ast.unparse(ast.parse("'''all'''\nclass A:\n  '''one\n  two'''")).encode()) == [
        "all",
        "one\ntwo",
    ]


def test_short_docstrings_are_joined_and_none_lost() -> None:
    short = [f"f{i}: does the thing that number {i} does." for i in range(100)]
    made = list(installed.joined(short))
    assert "\n\n".join(made) == "\n\n".join(short)
    assert all(len(text) >= installed.JOINED for text in made[:-1]) and len(made) > 2


def test_docs_of_a_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "SYSTEM", tmp_path)
    for name, data in {
        "a/README": LONG.encode(),
        "a/copyright": b"licence " * 99,
        "a/changelog.txt": b"changed " * 99,
        "b/guide.md.gz": gzip.compress((LONG + "second").encode()),
        "b/broken.txt.gz": b"\x1f\x8b broken",
        "c/latin.txt": (LONG + "caf\xe9").encode("latin-1"),
        "c/numbers.txt": b"12 34 56 78 90 " * 99,
        "c/short.txt": b"short",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "d").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "linked.txt").symlink_to(tmp_path / "b" / "guide.md.gz")
    os.mkfifo(tmp_path / "c" / "pipe.txt")
    found = {label: list(made()) for label, made in installed.places(0).items() if label.startswith("doc/")}
    assert found == {"doc/a": [clean(LONG)], "doc/b": [clean(LONG + "second")], "doc/c": []}


def test_a_package_more_moves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "SYSTEM", tmp_path)
    before = [label for _, label in islice(installed.documentation(0), 60)]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "README").write_text(LONG)
    after = [label for _, label in islice(installed.documentation(0), 61)]
    assert [label for label in after if label != "doc/new"][:59] == before[:59]


# ---- files and folders ---------------------------------------------------------------------------


def test_long_text_is_cut_between_paragraphs_and_nothing_is_lost() -> None:
    text = "\n".join(["word " * 40] * 5 + [""]) * 30 + "x" * 20_000 + "\n" + "y z " * 5_000
    made = list(parts(text.splitlines(keepends=True)))
    assert "".join(made) == text and max(map(len, made)) <= MOST and len(made) > 5
    assert made[0].endswith("\n\n") or made[0].endswith("\n")
    assert list(parts([])) == []


def test_plain_text_and_markdown(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffOne\x00 text  \r\nof two lines\n\n\n\nand more\n", encoding="utf-8")
    assert texts(tmp_path / "a.txt") == ["One text\nof two lines\n\nand more"]
    (tmp_path / "b.MD").write_text("# Title\n\n" + "".join(f"Paragraph {i} of text.\n\n" for i in range(1000)))
    found = texts(tmp_path / "b.MD")
    assert 3 < len(found) < 10 and found[0].startswith("# Title")


@pytest.mark.parametrize("column", ["text", "content"])
@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"])
def test_tables(tmp_path: Path, suffix: str, column: str) -> None:
    rows = ['First, of "all".', "Second\nof two lines", "", "Third", "Third"]
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pyarrow.table({"n": range(5), column: rows, "other": ["x"] * 5}), path)
    elif suffix in (".csv", ".tsv"):
        import csv

        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",")
            writer.writerows([["n", column], *enumerate(rows)])
    else:
        path.write_text("".join(json.dumps({"n": 1, column: row, "other": {}}) + "\n" for row in rows))
    found = list(passages([str(path)]))
    assert [passage.text for passage in found] == ['First, of "all".', "Second\nof two lines", "Third"]
    assert {passage.source for passage in found} == {path.name}


def test_the_only_column_of_strings(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"n": [1], "story": ["Once."]}), tmp_path / "one.parquet")
    assert texts(tmp_path / "one.parquet") == ["Once."]
    parquet.write_table(pyarrow.table({"n": [1], "a": ["x"], "b": ["y"]}), tmp_path / "two.parquet")
    with pytest.raises(HookeError, match=r"no column 'text' and 2 of strings \('a', 'b'\)"):
        texts(tmp_path / "two.parquet")
    (tmp_path / "one.csv").write_text("story\nOnce\n")
    assert texts(tmp_path / "one.csv") == ["Once"]


def test_a_folder_is_all_of_its_files_in_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/y.jsonl", ".hidden.txt", ".git/x.txt", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"text": name}) if name.endswith("jsonl") else name)
    found = list(passages([str(tmp_path)]))
    assert [tuple(passage) for passage in found] == [
        ("b.txt", "b.txt"),
        ("a/y.jsonl", "a/y.jsonl"),
        ("a/z.md", "a/z.md"),
    ]
    (tmp_path / "c.txt").symlink_to(tmp_path / "b.txt")
    assert len(list(passages([str(tmp_path)]))) == 3  # the same text, once


def test_links_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir(), outside.mkdir()
    (inside / "a.txt").write_text("a")
    (outside / "secret.txt").write_text("secret")
    (inside / "b.txt").symlink_to(outside / "secret.txt")
    with pytest.raises(HookeError, match="leads out of its folder"):
        passages([str(inside)])
    (inside / "b.txt").unlink()
    (inside / "more").symlink_to(outside)
    with pytest.raises(HookeError, match="leads out of its folder"):
        passages([str(inside)])


def test_sources_take_turns_and_give_equal_shares(tmp_path: Path) -> None:
    for name, size in (("short", 10), ("long", 1000)):
        rows = (json.dumps({"text": f"{name} {i} " + "x" * size}) for i in range(400 if name == "short" else 20))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    found = list(islice(passages([str(tmp_path / "short.jsonl"), str(tmp_path / "long.jsonl")]), 300))
    size = {name: sum(len(p.text) for p in found if p.source == f"{name}.jsonl") for name in ("short", "long")}
    assert abs(size["short"] - size["long"]) < 1100
    assert len(list(passages([str(tmp_path / "short.jsonl"), str(tmp_path / "long.jsonl")]))) == 420


def test_what_was_used_is_counted_and_hashed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "three"}\n')
    name = str(tmp_path / "a.jsonl")
    about = texts_about([name], passages([name]))
    assert about["sources"] == ["a.jsonl"] and about["passages"] == 2 and about["characters"] == 8
    first = texts_about([name], islice(passages([name]), 1))
    assert first["sha256"] != about["sha256"]
    assert texts_about([name], [Passage("onet", "a.jsonl"), Passage("hree", "a.jsonl")])["sha256"] != about["sha256"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "holds no text"),
        ("a.txt", b" \n\n\x00", "holds no text"),
        ("a.txt", "caf\xe9".encode("latin-1"), r"a.txt, line 1: byte 4 \(0xe9\) is not UTF-8"),
        ("a.txt", "text".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("a.jsonl", b"{", "no JSON"),
        ("a.jsonl", b"[1]", "every line is an object"),
        ("a.jsonl", b'{"words": "x", "label": 1}', r"no column 'text' \('words', 'label'\)"),
        ("a.jsonl", b'{"text": 3}', "text is a int, not text"),
        ("a.jsonl", b'{"text": "\\ud800"}', "half of a surrogate pair"),
        ("a.jsonl", b'{"text": "x"}\n{"content": "x"}', "line 2: no column 'text'"),
        ("a.csv", b"a,b\n1,2\n", r"no column 'text' \('a', 'b'\)"),
        ("a.csv", b"text,b\n1\n", "1 values for 2 columns"),
        ("a.parquet", b"PAR1", "no Parquet file that can be read"),
        ("a.pdf", b"%PDF", r"ends in .pdf; texts are read from .txt"),
        ("a", b"text", "ends in nothing"),
        ("a.txt.gz", b"x", "is compressed; unpack it"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(HookeError, match=message) as caught:
        texts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_bad_sources_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    for source, message in (
        ([], "no text is named"),
        (["doc"], "no file or folder 'doc', and no text source of that name; did you mean docs?"),
        (["slef"], r"did you mean self\?"),
        ([str(tmp_path / "no.txt")], "no file or folder"),
        (["x" * 5000], "is no path"),
        (["a\0b"], "is no path"),
        ([""], "has no name"),
        (["self"], "there is no model here"),
        (["self:0.1"], "there is no model here"),
        ([str(tmp_path / "empty")], "holds no file with text"),
        ([str(tmp_path / "pipe.txt")], "is a named pipe, not a file"),
        (["hub:nothing"], "is no data set on the hub"),
        (["hub:some/thing"], "cannot be fetched offline"),
    ):
        with pytest.raises(HookeError, match=message) as caught:
            passages(source)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    monkeypatch.setattr(text_files, "MOST_BYTES", 10)
    (tmp_path / "large.txt").write_text("much too large")
    with pytest.raises(HookeError, match="at most 0 MB are read, so cut it in parts"):
        passages([str(tmp_path / "large.txt")])


def test_a_data_set_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "part.jsonl").write_text('{"text": "From the hub."}\n')
    monkeypatch.setattr(text_files, "fetch", lambda name: ([tmp_path / "part.jsonl"], f"{name}, commit 0"))
    assert list(passages(["hub:org/name"])) == [Passage("From the hub.", "hub:org/name")]


def test_reading_is_lazy(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "first"}\nno json\n')
    found = passages([str(tmp_path / "a.jsonl")])
    assert next(found).text == "first"
    with pytest.raises(HookeError, match="line 2"):
        next(found)
    start = time.perf_counter()
    list(islice(passages(["docs"]), 3))
    assert time.perf_counter() - start < 10
