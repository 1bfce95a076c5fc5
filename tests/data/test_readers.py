"""Rows of a person's own: every form that is read, and every way in which a file can be wrong."""

from __future__ import annotations

import csv
import http.server
import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hooke.data.labelled import hub, readers
from hooke.data.labelled.readers import read_rows
from hooke.errors import HookeError

ROWS = [
    {"text": "Ice is cold.", "label": 1, "group": "ice", "topic": "things"},
    {"text": "Ice is hot.", "label": 0, "group": "ice", "topic": "things"},
    {"text": "Fire is “hot”, they say.", "label": 1, "group": "fire", "topic": "things"},
]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def csv_file(path: Path, rows: list[dict[str, Any]], delimiter: str = ",", bom: bool = False) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig" if bom else "utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], Path]] = {
    ".jsonl": jsonl,
    ".csv": csv_file,
    ".tsv": lambda path, rows: csv_file(path, rows, "\t"),
    ".parquet": parquet,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_all_forms_give_the_same_rows(tmp_path: Path, suffix: str) -> None:
    found = read_rows(WRITERS[suffix](tmp_path / f"facts{suffix}", ROWS))
    assert [(row.text, row.label, row.group, row.topic) for row in found.rows] == [tuple(row.values()) for row in ROWS]
    assert found.labels == ("0", "1") and found.shifts == ()
    assert "no groups" not in found.about


@pytest.mark.parametrize("suffix", WRITERS)
def test_columns_may_have_other_names_and_labels_be_words(tmp_path: Path, suffix: str) -> None:
    rows = [{"claim": row["text"], "verdict": ("no", "yes")[row["label"]]} for row in ROWS]
    file = WRITERS[suffix](tmp_path / f"claims{suffix}", rows)
    found = read_rows(file, text="claim", label="verdict", positive="yes")
    assert [row.label for row in found.rows] == [1, 0, 1] and found.labels == ("no", "yes")
    assert len({row.group for row in found.rows}) == 3 and "every row is a group of its own" in found.about
    with pytest.raises(HookeError, match=r"no column 'text' .*'claim'.*text="):
        read_rows(file)
    with pytest.raises(HookeError, match=r"label .yes. is neither 0 nor 1; .*--positive"):
        read_rows(file, text="claim", label="verdict")
    with pytest.raises(HookeError, match="no row has the label 'Yes'; there are 'yes', 'no'"):
        read_rows(file, text="claim", label="verdict", positive="Yes")


def test_chats_with_their_system_message(tmp_path: Path) -> None:
    rows = [
        {"text": t, "label": i, "user": "Is ice cold?", "system": "Be brief."} for i, t in enumerate(["No.", "Yes."])
    ]
    found = read_rows(jsonl(tmp_path / "chat.jsonl", rows)).rows
    assert [(row.user, row.system) for row in found] == [("Is ice cold?", "Be brief.")] * 2


def test_byte_order_mark_and_values_over_several_lines(tmp_path: Path) -> None:
    rows = [
        {"text": 'One,\ntwo "three".', "label": "true"},
        {"text": "Four.", "label": "False"},
        {"text": "5", "label": "x"},
    ]
    file = csv_file(tmp_path / "a.csv", rows[:2], bom=True)
    assert [(row.text, row.label) for row in read_rows(file).rows] == [('One,\ntwo "three".', 1), ("Four.", 0)]
    file = csv_file(tmp_path / "b.csv", rows)
    with pytest.raises(HookeError, match="line 5: label 'x' is neither"):  # the first value stands on lines 2 and 3
        read_rows(file)
    (tmp_path / "c.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"text": "a", "label": 1}\n\n{"text": "b", "label": 0}\n')
    assert len(read_rows(tmp_path / "c.jsonl").rows) == 2


A, B = {"text": "a", "label": 1}, {"text": "b", "label": 0}
BAD_ROWS = {
    "label": ([A, B, {"text": "c", "label": "maybe"}], "line 3: label 'maybe' is neither 0 nor 1"),
    "number": ([A, B, {"text": "c", "label": 2}], "line 3: label 2 is neither"),
    "fraction": ([A, B, {"text": "c", "label": 0.5}], "line 3: label 0.5 is neither"),
    "no label": ([A, B, {"text": "c"}], "line 3: no label"),
    "null": ([A, B, {"text": "c", "label": None}], "line 3: no label"),
    "nan": ([A, B, {"text": "c", "label": float("nan")}], "line 3: no label"),
    "infinite": ([A, B, {"text": "c", "label": float("inf")}], "line 3: label inf is neither"),
    "nested label": ([A, B, {"text": "c", "label": [1]}], "line 3: the label is a list"),
    "mixed labels": ([A, B, {"text": "c", "label": True}], "line 3: label 'true', and before it labels were 0 and 1"),
    "no text": ([A, {"label": 0}], "line 2: text is empty"),
    "blank text": ([A, {"text": " \n", "label": 0}], "line 2: text is empty"),
    "number as text": ([A, {"text": 7, "label": 0}], "line 2: text is a int, not text"),
    "nested text": ([A, {"text": {"en": "b"}, "label": 0}], "line 2: text is a dict, not text"),
    "nested group": ([A, {**B, "group": ["g"]}], "line 2: group is a list, not text"),
    "long": ([A, {"text": "x" * 100_001, "label": 0}], "line 2: text has 100,001 characters"),
    "surrogate": ([A, {"text": "x\ud800", "label": 0}], "line 2: text holds half of a surrogate pair"),
    "some groups": ([{**A, "group": "g"}, B], "line 2: no group, and other rows have one"),
    "leaking group": (
        [{**A, "group": "g"}, {**B, "group": "h"}, {**A, "group": "h"}],
        "line 3: .* line 1 in group 'g'",
    ),
    "both labels": ([A, B, {"text": "a", "label": 0}], "line 3: the same text stands in line 1 with the other label"),
    "two topics": (
        [{**A, "group": "g", "topic": "s"}, {**B, "group": "g", "topic": "t"}],
        "group 'g' stands in topics",
    ),
    "one class": ([A, {"text": "b", "label": 1}], "rows of label 1 only"),
    "misspelt": ([{**A, "Groups": "g"}, {**B, "Groups": "g"}], "column 'Groups' is not read; rename it to 'group'"),
    "array": ([A, ["b", 0]], "line 2: every line is an object"),
    "no columns": ([{}], r"line 1: no column 'text' \(none\)"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_named_by_their_line(tmp_path: Path, case: str) -> None:
    rows, message = BAD_ROWS[case]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(HookeError, match=message) as caught:
        read_rows(file)
    assert "\n" not in str(caught.value)


BAD_FILES = {
    "empty.jsonl": (b"", "is empty"),
    "blank.jsonl": (b"\n \n", "holds no rows"),
    "header.csv": (b"text,label\n", "holds no rows"),
    "utf16.csv": ("text,label\na,1\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "latin.csv": ("text,label\ncafé,1\n".encode("latin-1"), r"line 2: byte 4 \(0xe9\) is not UTF-8"),
    "twins.csv": (b"text,label,text\na,1,b\n", "two columns called 'text'"),
    "ragged.csv": (b"text,label\na,1\nb,0,c\n", "line 3: 3 values for 2 columns"),
    "short.tsv": (b"text\tlabel\na\t1\nb\n", "line 3: 1 values for 2 columns"),
    "quote.csv": (b'text,label\n"a,1\nb,0\n', "line 2: no CSV: unexpected end of data"),
    "broken.jsonl": (b'{"text": "a", "label": 1}\n{"text": "b" "label": 0}\n', "line 2: no JSON: .* at column 14"),
    "twice.jsonl": (b'{"text": "a", "label": 1, "label": 0}\n', "line 1: 'label' stands there twice"),
    "deep.jsonl": (b"[" * 100_000 + b"\n", "line 1: "),
    "digits.jsonl": (b'{"text": "a", "label": ' + b"9" * 5_000 + b"}\n", "line 1: "),
    "rows.jsonl.gz": (b"\x1f\x8b", "is compressed; unpack it"),
    "rows.txt": (b"a", "ends in .txt; rows are read from .jsonl"),
    "rows": (b"a", "ends in nothing"),
    "rows.parquet": (b"PAR1 and no more", "no Parquet file that can be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HookeError, match=message) as caught:
        read_rows(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(HookeError, match="there is no file"):
        read_rows(tmp_path / "nothing.jsonl")
    with pytest.raises(HookeError, match="is no file"):
        read_rows(tmp_path)
    with pytest.raises(HookeError, match=r"is no path"):
        read_rows("a\0b.jsonl")


def test_parquet_says_which_row(tmp_path: Path) -> None:
    rows = [{"text": f"row {i}", "label": i % 2} for i in range(600)]
    assert len(read_rows(parquet(tmp_path / "a.parquet", rows)).rows) == 600
    rows[400]["label"] = 7
    with pytest.raises(HookeError, match="row 401: label 7 is neither"):
        read_rows(parquet(tmp_path / "b.parquet", rows))
    table = pa.table([["a", "b"], [0, 1], [2, 3]], names=["text", "label", "label"])
    pq.write_table(table, tmp_path / "c.parquet")
    with pytest.raises(HookeError, match="two columns called 'label'"):
        read_rows(tmp_path / "c.parquet")
    with pytest.raises(HookeError, match=r"row 1: no column 'text' .*'prompt'"):
        read_rows(parquet(tmp_path / "d.parquet", [{"prompt": "a", "label": 1}]))
    nested = parquet(tmp_path / "e.parquet", [{"text": {"en": "a"}, "label": 1}, {"text": {"en": "b"}, "label": 0}])
    with pytest.raises(HookeError, match="row 1: text is a dict"):
        read_rows(nested)


def test_sizes_are_bounded_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = tmp_path / "big.jsonl"
    with big.open("wb") as handle:
        handle.truncate(readers.MOST_BYTES + 1)  # a hole: it takes no space
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(HookeError, match="512 MB are read"):
        read_rows(big)


def test_what_stands_in_other_columns_is_not_kept(tmp_path: Path) -> None:
    """A file of 72 MB with lists in a column that is not read took 1.7 GB."""
    path = tmp_path / "lists.jsonl"
    lists = "[" + "[]," * 100_000 + "[]]"
    path.write_text("".join(f'{{"text": "a{i}", "label": {i % 2}, "x": {lists}}}\n' for i in range(8)))
    tracemalloc.start()
    rows = read_rows(path).rows
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_line = 100_000 * (56 + 8 + 3)
    assert len(rows) == 8 and peak < 2.5 * one_line


@pytest.mark.parametrize("suffix", WRITERS)
def test_too_many_rows(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MOST_ROWS", 2)
    with pytest.raises(HookeError, match=r"2 rows"):
        read_rows(WRITERS[suffix](tmp_path / f"a{suffix}", ROWS))


def test_one_class_is_welcome_where_it_is_said(tmp_path: Path) -> None:
    texts = [{"text": "Hello there."}, {"text": "Good day."}]
    found = read_rows(jsonl(tmp_path / "benign.jsonl", texts), one_class=True)
    assert [row.label for row in found.rows] == [0, 0]
    spam = [{"text": "a", "label": "spam"}, {"text": "b", "label": "spam"}]
    found = read_rows(jsonl(tmp_path / "spam.jsonl", spam), one_class=True, positive="spam")
    assert [row.label for row in found.rows] == [1, 1]
    with pytest.raises(HookeError, match="line 2: text is empty"):
        read_rows(jsonl(tmp_path / "blank.jsonl", [{"text": "a"}, {"text": ""}]), one_class=True)


def test_equal_texts_are_one_group(tmp_path: Path) -> None:
    found = read_rows(jsonl(tmp_path / "a.jsonl", [A, B, A])).rows
    assert found[0].group == found[2].group != found[1].group


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.dictionaries(st.sampled_from(["text", "label", "group", "user", "x"]), VALUES), max_size=5))
def test_whatever_stands_in_a_file_gives_rows_or_one_line(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    file = tmp_path / "any.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    try:
        found = read_rows(file)
    except HookeError as error:
        assert "\n" not in str(error).strip()
    else:
        assert len(found.rows) == len(rows) and {row.label for row in found.rows} == {0, 1}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".jsonl", ".csv", ".tsv", ".parquet"]))
def test_whatever_bytes_a_file_has(tmp_path: Path, content: bytes, suffix: str) -> None:
    file = tmp_path / f"any{suffix}"
    file.write_bytes(content)
    with pytest.raises(HookeError):
        read_rows(file)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=6, unique=True)
)
def test_texts_come_back_as_they_were(tmp_path: Path, texts: list[str]) -> None:
    rows = [{"text": f"x{text}", "label": at % 2} for at, text in enumerate(texts)]
    for suffix, write in WRITERS.items():
        found = read_rows(write(tmp_path / f"same{suffix}", rows))
        assert [row.text for row in found.rows] == [row["text"] for row in rows], suffix


# ---- the hub -----------------------------------------------------------------------------------


def test_which_files_of_a_data_set() -> None:
    pieces = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    files = [*pieces, "data/test-00000-of-00001.parquet", "README.md"]
    assert hub.choose(files, "hub:a/b/train", "train") == pieces
    assert hub.choose(files[2:], "hub:a/b", "") == files[2:3]
    with pytest.raises(HookeError, match=r"has 2 tables: data/test.parquet, data/train.parquet; say which"):
        hub.choose(files, "hub:a/b", "")
    with pytest.raises(HookeError, match=r"no file of the split 'dev'; there are data/test.parquet"):
        hub.choose(files, "hub:a/b/dev", "dev")
    with pytest.raises(HookeError, match="holds no file that can be read"):
        hub.choose(["README.md", "script.py"], "hub:a/b", "")


@pytest.mark.parametrize("name", ["hub:", "hub:a", "hub:a/b/c/d", "hub:a/../b", "hub:a b/c", "hub:/a/b"])
def test_names_that_are_no_data_sets(name: str) -> None:
    with pytest.raises(HookeError, match="write hub:org/name"):
        read_rows(name)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client asks for: a data set's files and sizes, and the files."""

    files: dict[str, bytes] = {}  # noqa: RUF012 # set by the fixture
    sizes: dict[str, int] = {}  # noqa: RUF012
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        head: dict[str, str] = {}
        if path.startswith("/api/datasets/org/facts"):
            names = [{"rfilename": n, "size": self.sizes.get(n, len(b))} for n, b in self.files.items()]
            status, body = 200, json.dumps({"id": "org/facts", "sha": self.commit, "siblings": names}).encode()
        elif path.startswith(f"/datasets/org/facts/resolve/{self.commit}/"):
            status, body = 200, self.files[path.split("/", 6)[6]]
            head = {"ETag": f'"{hash(body)}"', "X-Repo-Commit": self.commit}
        else:
            status, body = 404, b"{}"
            head = {"X-Error-Code": "RepoNotFound"}
        self.send_response(status)
        for key, value in {**head, "Content-Length": str(len(body)), "Content-Type": "application/json"}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    import huggingface_hub.constants as constants

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Hub, "files", {})
    monkeypatch.setattr(Hub, "sizes", {})
    yield Hub
    server.shutdown()
    server.server_close()


def test_a_data_set_on_the_hub(tmp_path: Path, stub: type[Hub]) -> None:
    halves = [parquet(tmp_path / "a", ROWS[:2]).read_bytes(), parquet(tmp_path / "b", ROWS[2:]).read_bytes()]
    stub.files.update({f"data/train-0000{i}-of-00002.parquet": half for i, half in enumerate(halves)})
    stub.files["test.jsonl"] = b'{"text": "a", "label": 1}\n{"text": "b", "label": "?"}\n'
    found = read_rows("hub:org/facts/train")
    assert [row.text for row in found.rows] == [row["text"] for row in ROWS]
    assert found.about == "Rows of hub:org/facts/train, commit 0123456789ab."
    with pytest.raises(HookeError, match="line 2: label"):
        read_rows("hub:org/facts/test")
    with pytest.raises(HookeError, match="has 2 tables"):
        read_rows("hub:org/facts")


def test_the_hub_says_no(stub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HookeError, match="there is no data set org/fiction on the hub"):
        read_rows("hub:org/fiction")
    stub.files["train.csv"] = b"text,label\n"
    stub.sizes["train.csv"] = readers.MOST_BYTES + 2**20
    with pytest.raises(HookeError, match="has 513 MB; at most 512 MB"):
        read_rows("hub:org/facts")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HookeError, match="cannot be fetched"):
        read_rows("hub:org/facts")


def test_the_hub_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HookeError, match="cannot be fetched offline"):
        read_rows("hub:org/facts")
