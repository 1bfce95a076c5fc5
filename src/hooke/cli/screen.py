"""What reaches a terminal: text, and of control characters only those that Hooke's own pictures are made of.

Names, labels and messages come from files, models and the command line; an escape sequence in one of them could move
the cursor, rewrite what stands above, or set the title of the window.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# colours, and what progress bars move by; in a file or a pipe not even those
_OURS = re.compile(r"(\x1b\[[0-9;]*m|\x1b\[[0-9]*[AK]|\x1b\[\?25[lh]|\r(?!\n))")
_KEPT = "\n\t"


class Screen:
    """A stream of text without what could steer a terminal; all else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write, with a space for each character that is not to be seen, and escapes for those that the stream's
        encoding does not have."""
        if not all(c.isprintable() for c in text):
            parts = _OURS.split(text) if self.stream.isatty() else [text]
            text = "".join(part if k % 2 else _plain(part) for k, part in enumerate(parts))
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            code = self.stream.encoding
            self.stream.write(text.encode(code, "backslashreplace").decode(code))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() or c in _KEPT else " " for c in text)


@contextmanager
def screened() -> Iterator[None]:
    """Have all that is printed pass through screens; where a stream was closed by whoever started us, nowhere."""
    before = sys.stdout, sys.stderr
    with os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8") as nowhere:
        sys.stdout, sys.stderr = (Screen(nowhere if stream is None else stream) for stream in before)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def json_text(text: str) -> str:
    """JSON with escapes for what a screen does not show or its encoding does not have: the same values, whoever reads
    them."""
    wide = str(getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("_", "-").startswith("utf")
    if text.isprintable() and (wide or text.isascii()):
        return text
    return "".join(c if (c.isprintable() and (wide or c.isascii())) or c == "\n" else _escaped(c) for c in text)


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[k]:02x}{units[k + 1]:02x}" for k in range(0, len(units), 2))
