"""Labelled rows of a person's own, with every check: JSONL, CSV, TSV and Parquet files, and data sets on the hub."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hooke.data.labelled.hub import MOST_BYTES, SUFFIXES, fetch
from hooke.data.labelled.rows import Dataset, Row, check_rows
from hooke.errors import HookeError
from hooke.files import check_file, is_dir, open_file, path_of

MOST_ROWS = 1_000_000
MOST_CHARACTERS = 100_000  # of one value
MOST_LINE = 16 * 2**20
FIELDS = ("group", "topic", "pair", "user", "system")  # besides text and label
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
LABELS = {"0": ("0", "1"), "1": ("0", "1"), "false": ("false", "true"), "true": ("false", "true")}

Line = tuple[str, Mapping[str, Any]]  # where it stands ("facts.csv, line 17"), and its columns


def read_rows(
    path: str | Path,
    *,
    text: str = "text",
    label: str = "label",
    positive: str | None = None,
    one_class: bool = False,
) -> Dataset:
    """The labelled rows of a file (.jsonl, .csv, .tsv, .parquet) or of a data set on the hub, "hub:org/name[/split]".

    Columns: text and label, and where there are any group, topic, pair, user, system; others are left alone.
    text, label: what these two are called there. Labels are 0 and 1, or true and false, or two others of which
    `positive` is 1. Without groups every row is a group of its own, equal texts are one, and `about` says so.
    one_class: rows of one label are welcome and a column of labels is not needed (0 then), as for benign texts.
    Raises HookeError, naming the line, for everything that is not as it should be.
    """
    name = str(path)
    if name.startswith("hub:"):
        files, about = fetch(name)
    else:
        files, about = [path_of(path)], path_of(path).name  # where it lies is nothing that a result should hold
    lines: list[Line] = []
    size = 0
    for file in files:
        _check_file(file)
        for where, columns in read_lines(file, (text, label, *FIELDS)):
            size += sum(len(value) for value in columns.values() if isinstance(value, str))
            if len(lines) >= MOST_ROWS or size > MOST_BYTES:
                raise HookeError(f"{where}: more than {MOST_ROWS:,} rows or {MOST_BYTES >> 20} MB of text; give a part")
            lines.append((where, columns))
    if not lines:
        raise HookeError(f"{name} holds no rows")
    _check_columns(lines, text, label, one_class)
    values, names = _labels(lines, label, positive, one_class)
    fields = {field: [_words(columns.get(field), where, field) for where, columns in lines] for field in FIELDS}
    texts = [_text(columns.get(text), where, text) for where, columns in lines]
    grouped = any(fields["group"])
    fields["group"] = _groups(lines, texts, values, fields)
    rows = [Row(*row) for row in zip(texts, values, *(fields[field] for field in FIELDS), strict=True)]
    one = one_class and len(set(values)) == 1  # then all else is checked, beside a row of the other class
    check_rows([*rows, Row("other", 1 - values[0], "the other class", "the other class")] if one else rows, name)
    ending = "." if grouped else "; no groups were given, so every row is a group of its own."
    called = name if name.startswith("hub:") else about
    return Dataset(called, f"Rows of {about}{ending}", names, tuple(rows))


# ---- files -------------------------------------------------------------------------------------


def _check_file(file: Path) -> None:
    """Refuse what cannot be read before a byte of it is read."""
    if is_dir(file):
        raise HookeError(f"{file} is no file; give one that ends in {', '.join(SUFFIXES)}")
    if not os.path.lexists(file):
        raise HookeError(f"there is no file {file}")
    size = check_file(file)
    suffix = file.suffix.lower()
    if suffix in PACKED:
        raise HookeError(f"{file} is compressed; unpack it and give what is inside")
    if suffix not in SUFFIXES:
        raise HookeError(f"{file} ends in {suffix or 'nothing'}; rows are read from {', '.join(SUFFIXES)}")
    if size > MOST_BYTES:
        raise HookeError(f"{file} has {size >> 20:,} MB; at most {MOST_BYTES >> 20} MB are read, so give a part")
    if size == 0:
        raise HookeError(f"{file} is empty")


def read_lines(file: Path, wanted: tuple[str, ...]) -> Iterator[Line]:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return _parquet(file, wanted)
    if suffix in (".csv", ".tsv"):
        return _csv(file, "\t" if suffix == ".tsv" else ",")
    return _jsonl(file, wanted)


def utf8_lines(file: Path) -> Iterator[str]:
    """The lines of a UTF-8 file without its byte order mark; where a byte is wrong, the line is named."""
    try:
        with open_file(file, MOST_BYTES) as handle:
            for number, raw in enumerate(iter(lambda: handle.readline(MOST_LINE + 1), b""), 1):
                if len(raw) > MOST_LINE:
                    raise HookeError(f"{file}, line {number}: a line of more than {MOST_LINE >> 20} MB is not read")
                if number == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise HookeError(f"{file} is UTF-16; save it as UTF-8")
                try:
                    yield (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).decode("utf-8")
                except UnicodeDecodeError as error:
                    bad = f"byte {error.start + 1} (0x{error.object[error.start]:02x})"
                    raise HookeError(f"{file}, line {number}: {bad} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise HookeError(f"{file} cannot be read: {error.strerror}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, none of whose keys stands there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return found


def _jsonl(file: Path, wanted: tuple[str, ...]) -> Iterator[Line]:
    """Of other columns the names alone are kept: what stands in them may be large."""
    for number, line in enumerate(utf8_lines(file), 1):
        where = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            columns = json.loads(line, object_pairs_hook=_once)
        except json.JSONDecodeError as error:
            raise HookeError(f"{where}: no JSON: {error.msg} at column {error.colno}") from None
        except RecursionError:
            raise HookeError(f"{where}: nested too deeply") from None
        except ValueError as error:
            raise HookeError(f"{where}: {error}") from None
        if not isinstance(columns, dict):
            raise HookeError(f'{where}: every line is an object such as {{"text": "…", "label": 1}}')
        for column, value in columns.items():
            if column not in wanted:
                columns[column] = None
            elif isinstance(value, list | dict):  # refused by its kind, wherever it stands
                columns[column] = type(value)()
        yield where, columns


def _csv(file: Path, delimiter: str) -> Iterator[Line]:
    reader = csv.reader(utf8_lines(file), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        where = f"{file}, line {reader.line_num + 1}"  # where a row begins; a quoted value may hold several lines
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise HookeError(f"{where}: no CSV: {error}") from None
        if not row:
            continue
        if header is None:
            header = [column.strip() for column in row]
            _no_twins(header, file)
        elif len(row) != len(header):
            raise HookeError(f"{where}: {len(row)} values for {len(header)} columns; quote values with commas")
        else:
            yield where, dict(zip(header, row, strict=True))


def _parquet(file: Path, wanted: tuple[str, ...]) -> Iterator[Line]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with open_file(file, MOST_BYTES) as handle, ParquetFile(handle) as table:
            groups = [table.metadata.row_group(i) for i in range(table.metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            if table.metadata.num_rows > MOST_ROWS or size > 4 * MOST_BYTES:
                held = f"{table.metadata.num_rows:,} rows, {size >> 20:,} MB unpacked"
                raise HookeError(f"{file} holds {held}; at most {MOST_ROWS:,} rows are read, so give a part")
            names = table.schema_arrow.names
            _no_twins(names, file)
            columns = [column for column in names if column in wanted]
            number = 0
            for batch in table.iter_batches(batch_size=16, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    # columns that are not read are there, too: an error lists them
                    yield f"{file}, row {number}", {column: row.get(column) for column in names}
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise HookeError(f"{file} is no Parquet file that can be read: {str(error).splitlines()[0]}") from None


def _no_twins(header: list[str], file: Path) -> None:
    twins = [column for column in header if column and header.count(column) > 1]
    if twins:
        raise HookeError(f"{file} has two columns called {twins[0]!r}; rename one")


# ---- values ------------------------------------------------------------------------------------


def _check_columns(lines: list[Line], text: str, label: str, one_class: bool) -> None:
    """The two columns are in the first row, and none looks like a misspelt one."""
    where, first = lines[0]
    needed = {"text": text} if one_class else {"text": text, "label": label}
    for argument, column in needed.items():
        if column not in first:
            there = ", ".join(repr(name) for name in list(first)[:12]) or "none"
            raise HookeError(f"{where}: no column {column!r} ({there}); say which it is with {argument}=")
    for column in first:
        meant = column.strip().lower().removesuffix("s")
        if meant in FIELDS and column not in FIELDS and meant not in first and column not in (text, label):
            raise HookeError(f"{where}: column {column!r} is not read; rename it to {meant!r}, or to something else")


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _labels(lines: list[Line], column: str, positive: str | None, one_class: bool) -> tuple[list[int], tuple[str, str]]:
    """0 or 1 for every row, and what these two are called."""
    if one_class and all(column not in columns for _, columns in lines):
        return [0] * len(lines), ("0", "1")
    words = [_label(columns.get(column), where) for where, columns in lines]
    if positive is None:
        for word, (where, columns) in zip(words, lines, strict=True):
            if word.lower() not in LABELS:
                given = columns.get(column)
                raise HookeError(
                    f"{where}: label {given!r} is neither 0 nor 1; for others name the positive one with --positive"
                )
        names = LABELS[words[0].lower()]
        for word, (where, _) in zip(words, lines, strict=True):
            if LABELS[word.lower()] != names:
                raise HookeError(f"{where}: label {word!r}, and before it labels were {names[0]} and {names[1]}")
        return [names.index(word.lower()) for word in words], names
    others = [word for word in dict.fromkeys(words) if word != positive]
    if positive not in words and not one_class:
        raise HookeError(f"no row has the label {positive!r}; there are {', '.join(map(repr, others[:6]))}")
    if len(others) > 1:
        where = lines[words.index(others[1])][0]
        raise HookeError(f"{where}: label {others[1]!r} is neither {positive!r} nor {others[0]!r}; two are needed")
    return [int(word == positive) for word in words], (others[0] if others else f"not {positive}", positive)


def _label(value: Any, where: str) -> str:
    if _missing(value):
        raise HookeError(f"{where}: no label")
    if isinstance(value, bool | int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, str):
        return value.strip()
    raise HookeError(f"{where}: the label is a {type(value).__name__}; it has to be one value")


def _words(value: Any, where: str, column: str) -> str:
    """A value as text; whole numbers are welcome as names of groups and the like."""
    if _missing(value):
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and column in ("group", "topic", "pair"):
        return str(value)
    if not isinstance(value, str):
        raise HookeError(f"{where}: {column} is a {type(value).__name__}, not text")
    if len(value) > MOST_CHARACTERS:
        raise HookeError(f"{where}: {column} has {len(value):,} characters; at most {MOST_CHARACTERS:,} are read")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise HookeError(f"{where}: {column} holds half of a surrogate pair, which is no text")
    return value


def _text(value: Any, where: str, column: str) -> str:
    words = _words(value, where, column)
    if not words.strip():
        raise HookeError(f"{where}: {column} is empty")
    return words


def _groups(lines: list[Line], texts: list[str], values: list[int], fields: dict[str, list[str]]) -> list[str]:
    """The group of every row. Equal texts have one, or they would stand on both sides of a split."""
    named = any(fields["group"])
    groups: list[str] = []
    first: dict[tuple[str, str, str], int] = {}
    for at, ((where, _), group) in enumerate(zip(lines, fields["group"], strict=True)):
        before = first.setdefault((fields["system"][at], fields["user"][at], texts[at]), at)
        if values[before] != values[at]:
            raise HookeError(f"{where}: the same text stands in {_short(lines[before][0])} with the other label")
        if named and not group:
            raise HookeError(f"{where}: no group, and other rows have one; give all rows a group, or none")
        if named and before < at and groups[before] != group:
            other = f"{_short(lines[before][0])} in group {groups[before]!r}"
            raise HookeError(f"{where}: the same text stands in {other}; groups leak if they share a text")
        groups.append(group if named else fields["pair"][at] or f"row {before + 1}")
    return groups


def _short(where: str) -> str:
    return where.rsplit(", ", 1)[-1]
