"""Texts in files, folders and data sets on the hub, read row by row; every failure is one clear line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hooke.data.labelled.hub import MOST_BYTES, fetch
from hooke.data.labelled.readers import PACKED, read_lines, utf8_lines
from hooke.data.texts.pieces import clean, parts
from hooke.errors import HookeError
from hooke.files import check_file, is_dir, open_file, path_of, within

PLAIN = (".txt", ".md", ".rst")
TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
COLUMNS = ("text", "content")  # where the text of a row stands
MOST_FILES = 100_000


def opened(name: str) -> list[tuple[Path, str]]:
    """The files that a name means, each with its label: one file, all of a folder in their order, or the files of
    hub:org/name. Raises HookeError if there are none, or one of them cannot be read: nothing of them is read yet."""
    if name.startswith("hub:"):
        files, _ = fetch(name)
        return [(file, name) for file in files]
    path = path_of(name)
    if is_dir(path):
        return [(file, file.relative_to(path).as_posix()) for file in _below(path)]
    if not os.path.lexists(path):
        raise HookeError(f"there is no file {path}")
    _check(path)
    return [(path, path.name)]


def rows(file: Path) -> Iterator[str]:
    """The texts of a file: of a table its rows, each whole, of plain text parts of some thousand characters."""
    suffix = file.suffix.lower()
    if suffix in PLAIN:
        yield from filter(None, map(clean, parts(utf8_lines(file))))
        return
    column = _column(file) if suffix == ".parquet" else None
    for where, columns in read_lines(file, COLUMNS if column is None else (column,)):
        if column is None:
            column = next((name for name in COLUMNS if name in columns), None)
            column = next(iter(columns)) if column is None and len(columns) == 1 else column
        if column is None or column not in columns:
            there = ", ".join(repr(name) for name in list(columns)[:12]) or "none"
            raise HookeError(f"{where}: no column {column or 'text'!r} ({there}); rename the one that holds the text")
        text = _text(where, column, columns)
        if text:
            yield text


def _text(where: str, column: str, columns: Mapping[str, Any]) -> str:
    value = columns[column]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise HookeError(f"{where}: {column} is a {type(value).__name__}, not text")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise HookeError(f"{where}: {column} holds half of a surrogate pair, which is no text")
    return clean(value)


def _column(file: Path) -> str:
    """The column of a Parquet file that holds the text: `text`, `content`, or the only one of strings."""
    import pyarrow
    from pyarrow.parquet import read_schema

    try:
        with open_file(file, MOST_BYTES) as handle:
            schema = read_schema(handle)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise HookeError(f"{file} is no Parquet file that can be read: {str(error).splitlines()[0]}") from None
    strings = [field.name for field in schema if pyarrow.types.is_string(field.type)]
    strings += [field.name for field in schema if pyarrow.types.is_large_string(field.type)]
    for name in COLUMNS:
        if name in strings:
            return name
    if len(strings) != 1:
        there = ", ".join(map(repr, strings[:12])) or "none"
        raise HookeError(f"{file} has no column 'text' and {len(strings)} of strings ({there}); rename one to 'text'")
    return strings[0]


def _check(file: Path, folder: Path | None = None) -> None:
    """Refuse what cannot be read before a byte of it is read."""
    suffix = file.suffix.lower()
    if suffix in PACKED:
        raise HookeError(f"{file} is compressed; unpack it and give what is inside")
    size = check_file(file, folder=folder)  # what it is comes before what it is called
    if suffix not in PLAIN + TABLES:
        raise HookeError(f"{file} ends in {suffix or 'nothing'}; texts are read from {', '.join(PLAIN + TABLES)}")
    if size > MOST_BYTES:
        raise HookeError(f"{file} has {size >> 20:,} MB; at most {MOST_BYTES >> 20} MB are read, so cut it in parts")


def _below(folder: Path) -> list[Path]:
    """All files with text below a folder, in order. Hidden ones are left out; a link may not leave the folder."""
    found: list[Path] = []
    try:
        for parent, folders, names in os.walk(folder, onerror=_refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in folders:
                within(Path(parent, name), folder)
            for name in sorted(names):
                if not name.startswith(".") and name.lower().endswith(PLAIN + TABLES):
                    _check(Path(parent, name), folder)
                    found.append(Path(parent, name))
            if len(found) > MOST_FILES:
                raise HookeError(f"{folder} holds more than {MOST_FILES:,} files with text; give a part of it")
    except OSError as error:
        raise HookeError(f"{folder} cannot be read: {error.strerror}") from None
    if not found:
        raise HookeError(f"{folder} holds no file with text; texts are read from {', '.join(PLAIN + TABLES)}")
    return found


def _refuse(error: OSError) -> None:
    raise error
