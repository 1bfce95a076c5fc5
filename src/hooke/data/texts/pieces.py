"""Clean text, and long text in parts that end where a paragraph does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

ENOUGH = 4_000  # characters from which on a part ends with its paragraph
MOST = 8_000  # characters that no part exceeds
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\ufffe\uffff]")


def clean(text: str) -> str:
    """The text without control characters, spaces at the ends of lines, and more than one empty line together."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = re.sub(r"[^\S\n]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def parts(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a text (each with its end) in parts of at most `MOST` characters: nothing is left out."""
    held: list[str] = []
    size = 0
    for line in lines:
        for piece in _cut(line):
            if size + len(piece) > MOST:
                yield "".join(held)
                held, size = [], 0
            held.append(piece)
            size += len(piece)
            if size >= ENOUGH and not piece.strip():
                yield "".join(held)
                held, size = [], 0
    if held:
        yield "".join(held)


def _cut(line: str) -> Iterator[str]:
    """One line in pieces of at most `MOST` characters, each ending with a space where there is one."""
    while len(line) > MOST:
        at = line.rfind(" ", 0, MOST) + 1 or MOST
        yield line[:at]
        line = line[at:]
    yield line
