"""`docs`: the documentation that is on this machine. Nothing is imported or fetched, and little is read before it is
asked for.

Docstrings of the standard library and of installed packages, the packages' own descriptions, Python's help topics, and
the plain texts of the system's documentation. Places take turns, so that the first tokens are of many subjects; their
order, and that of the files in each, is that of a hash with the seed: another package changes no other's place.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import os
import stat
import sys
import sysconfig
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from hooke.data.texts.pieces import MOST, clean, parts
from hooke.errors import HookeError
from hooke.files import read_bytes

FEWEST = 200  # characters of a passage
JOINED = 1_000  # characters from which on docstrings of one file make a passage
MOST_FILE = 2**20  # bytes of a file that is read
MOST_FILES = 5_000  # files of one place
PROSE = 0.72  # least share of letters and spaces: a table of numbers or codes has less
SYSTEM = Path("/usr/share/doc")
SYSTEM_SUFFIXES = (".txt", ".md", ".rst")
DULL = ("copyright", "changelog", "authors", "thanks", "todo", "license", "copying", "contributors", "maintainers")
LEFT_OUT = {"test", "tests", "testing", "idlelib", "turtledemo", "lib2to3", "pydoc_data", "site-packages", "hooke"}
VENDORED = {"_vendor", "vendor", "_vendored", "vendored", "__pycache__", "node_modules"}

Place = Callable[[], Iterator[str]]


def documentation(seed: int) -> Iterator[tuple[str, str]]:
    """(text, label) of passages: each place gives one in turn, until none has any left."""
    found = places(seed)
    waiting = [(label, found[label]()) for label in sorted(found, key=lambda label: _order(seed, label))]
    while waiting:
        left = []
        for label, texts in waiting:
            text = next(texts, None)
            if text is not None:
                left.append((label, texts))
                yield text, label
        waiting = left


def places(seed: int) -> dict[str, Place]:
    """Where there is documentation, by label; only the names of folders are looked at."""
    found: dict[str, Place] = {"python/topics": partial(_topics, seed)}
    library = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names - LEFT_OUT):
        if not name.startswith("_") and (path := _module(library / name)):
            found[f"python/{name}"] = partial(_docstrings, path, seed)
    for home in sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}):
        for entry in _listed(Path(home)):
            if entry.name.endswith(".dist-info"):
                name = entry.name.split("-")[0]
                found[f"about/{name}"] = partial(_description, entry / "METADATA")
            elif entry.stem.isidentifier() and entry.stem not in LEFT_OUT and (path := _module(entry.with_suffix(""))):
                found[entry.stem] = partial(_docstrings, path, seed)
    for entry in _listed(SYSTEM):
        found[f"doc/{entry.name}"] = partial(_system, entry, seed)
    return found


def _order(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode(errors="replace")).digest()


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder that can be read, links left out."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if not entry.is_symlink())
    except OSError:
        return []


def _module(path: Path) -> Path | None:
    """The folder of a package, or the file of a module; None for what is compiled."""
    if path.is_dir():
        return path
    file = path.with_name(path.name + ".py")
    return file if file.is_file() else None


def _files(folder: Path, fits: Callable[[str], bool], seed: int) -> list[Path]:
    """The regular files below a folder whose name fits, in the order of the seed."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT | VENDORED and name[:1] != ".")
        found += [Path(parent, name) for name in sorted(names) if fits(name)]
        if len(found) > MOST_FILES:
            break
    return sorted(found, key=lambda path: _order(seed, path.relative_to(folder).as_posix()))


def _read(path: Path) -> bytes:
    """The bytes of a file; none where it is a link, too large, or not to be read."""
    try:
        return read_bytes(path, MOST_FILE) if stat.S_ISREG(os.lstat(path).st_mode) else b""
    except (HookeError, OSError):
        return b""


def _fit(texts: Iterable[str]) -> Iterator[str]:
    """Long texts in parts, all clean; what is short or no prose is left out."""
    for text in texts:
        for part in parts(text.splitlines(keepends=True)) if len(text) > MOST else (text,):
            part = clean(part)
            letters = sum(c.isalpha() or c.isspace() for c in part)
            if len(part) >= FEWEST and letters >= PROSE * len(part):
                yield part


# ---- each kind of place -------------------------------------------------------------------------


def _topics(seed: int) -> Iterator[str]:
    """What Python's `help` says of keywords and the like."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return iter(())
    return _fit(topics[name] for name in sorted(topics, key=lambda name: _order(seed, name)))


def _docstrings(path: Path, seed: int) -> Iterator[str]:
    """Docstrings of a module or of all modules of a package."""
    files = _files(path, lambda name: name.endswith(".py"), seed) if path.is_dir() else [path]
    for file in files:
        source = _read(file)
        if b'"""' in source or b"'''" in source:
            yield from _fit(joined(docstrings(source)))


def docstrings(source: bytes) -> list[str]:
    """The docstrings of a Python file in its order, those of one line with the name before them; none if it is not
    Python that this version reads."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and not isinstance(node, ast.Module) and "\n" not in text:
                text = f"{node.name}: {text}"
            if text:
                found.append((getattr(node, "lineno", 0), text))
    return [text for _, text in sorted(found, key=lambda pair: pair[0])]


def joined(texts: Iterable[str]) -> Iterator[str]:
    """Texts one after another until they are long enough for a passage."""
    held: list[str] = []
    for text in texts:
        held.append(text)
        if sum(map(len, held)) >= JOINED:
            yield "\n\n".join(held)
            held = []
    if held:
        yield "\n\n".join(held)


def _description(path: Path) -> Iterator[str]:
    """What a package says of itself on the index: the body of its metadata, without pictures and tags."""
    body = _decoded(_read(path)).replace("\r\n", "\n").partition("\n\n")[2]
    lines = [line for line in body.splitlines(keepends=True) if not line.lstrip().startswith(("[!", "![", "<", ".. "))]
    return _fit(["".join(lines)])


def _system(folder: Path, seed: int) -> Iterator[str]:
    """The plain texts in a folder of the system's documentation, packed ones too."""

    def fits(name: str) -> bool:
        bare = name.removesuffix(".gz").lower()
        return not bare.startswith(DULL) and (bare.endswith(SYSTEM_SUFFIXES) or bare.startswith("readme"))

    for file in _files(folder, fits, seed) if folder.is_dir() else []:
        data = _read(file)
        if file.suffix == ".gz":
            data = _unpacked(data)
        yield from _fit([_decoded(data)])


def _unpacked(data: bytes) -> bytes:
    """What a gzip file holds, as far as it is not too long."""
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, MOST_FILE)
    except (zlib.error, gzip.BadGzipFile):
        return b""


def _decoded(data: bytes) -> str:
    """Text in UTF-8; none where it is in another encoding, or no text."""
    try:
        return "" if b"\x00" in data else data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""
