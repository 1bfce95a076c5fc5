"""Tables and lists as text: as wide as the terminal, and as wide as they are in a pipe or a file.

Nothing is ever cut, and no word, number, name or path is broken. A table that is wider than the terminal goes on
below itself with its first column again. Widths are those of a terminal: a Chinese character takes two columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hooke.errors import visible

if TYPE_CHECKING:
    from rich.text import Text

GAP = 2
Cell = str | tuple[str, str]  # a text, or a text and its rich style


def columns_of_terminal() -> int | None:
    """The width of the terminal on standard output; None if that is a pipe or a file."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else None


def wide(text: str) -> int:
    """How many columns a text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def folded(pieces: Iterable[str], width: int | None, first: str = "", rest: str = "") -> list[str]:
    """Lines of at most `width` columns, broken between pieces only (words, or a path with its spaces); the first line
    begins with `first` and the others with `rest`. A piece that is wider than a line stands alone on one."""
    lines, line, empty = [], first, True
    for piece in pieces:
        piece = visible(piece)
        step = ("" if empty else " ") + piece
        if width is not None and not (empty and not line.strip()) and wide(line + step) > width:
            lines.append(line.rstrip())
            line, step = rest, piece
        line, empty = line + step, False
    return [*lines, line.rstrip()] if line.strip() else lines


# words, with a quoted token whole: its spaces are its own; the apostrophe of a word opens no quotation
_PIECES = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|(?<![^\W_])'(?:[^'\\]|\\.)*'|\S)+""")


def wrapped(text: str, most: int = 118, rest: str = "") -> str:
    """Text in lines that fit the terminal (in a file, `most`), broken at spaces but never inside a quoted token. Lines
    that fit stay as they are; those that a longer one is broken into begin with `rest`."""
    width = min(most, max(20, columns_of_terminal() or most))
    lines: list[str] = []
    for line in text.split("\n"):
        first = line[: len(line) - len(line.lstrip())]
        lines += [line] if wide(line) <= width else folded(_PIECES.findall(line), width, first, rest)
    return "\n".join(lines)


def entry(head: Iterable[str], *below: str, width: int | None, indent: str = "") -> list[str]:
    """One entry of a list: a line of pieces, and texts below it, further in."""
    lines = folded(head, width, indent, indent + "      ")
    for text in below:
        lines += folded(text.split(), width, indent + "    ", indent + "    ")
    return lines


def show_lines(lines: Iterable[str]) -> None:
    """Print lines as they are, without a wrap of anybody's."""
    for line in lines:
        print(line)


def show_table(
    heads: Sequence[Cell], rows: Sequence[Sequence[Cell]], *, left: int = 1, width: int | None = None
) -> None:
    """Print a table: cells are texts, or pairs of a text and a style. The first `left` columns start at the left, the
    others end at the right. Heads are broken between words, cells never.

    width: the columns that there are (None: those of the terminal).
    """
    from rich.console import Console

    width = columns_of_terminal() if width is None else width
    console = Console()
    for block, lines in enumerate(_blocks(heads, rows, left, width)):
        if block:
            print()
        for line in lines:
            console.print(line, soft_wrap=True, highlight=False)


def _blocks(heads: Sequence[Any], rows: Sequence[Sequence[Any]], left: int, width: int | None) -> list[list[Text]]:
    """The lines of a table, cut into blocks of columns that fit, each with the first column."""
    names = [_parts(head) for head in heads]
    cells = [[_parts(cell) for cell in row] for row in rows]
    need = []
    for c, (name, _) in enumerate(names):
        words = [name] if width is None else name.split() or [""]
        need.append(max([*(wide(word) for word in words), *(wide(row[c][0]) for row in cells)], default=0))
    if width is not None:  # room that is left goes to the heads, so that they need fewer lines
        spare = width - sum(need) - GAP * (len(need) - 1)
        for c, (name, _) in enumerate(names):
            more = min(max(0, spare), max(0, wide(name) - need[c]))
            need[c], spare = need[c] + more, spare - more
    blocks: list[list[int]] = [[0]]
    for c in range(1, len(need)):
        together = sum(need[i] + GAP for i in blocks[-1]) + need[c]
        if width is not None and together > width and len(blocks[-1]) > 1:
            blocks.append([0])
        blocks[-1].append(c)
    return [[*_heads(names, need, block, left), *_rows(cells, need, block, left)] for block in blocks]


def _parts(cell: Any) -> tuple[str, str]:
    text, style = (cell, "") if isinstance(cell, str) else cell
    return visible(text), style


def _heads(names: Sequence[tuple[str, str]], need: Sequence[int], block: Sequence[int], left: int) -> list[Text]:
    stacks = [folded(names[c][0].split(" "), need[c]) for c in block]
    tall = max((len(stack) for stack in stacks), default=0)
    lines = [["", *stack][-tall:] if len(stack) == tall else [""] * (tall - len(stack)) + stack for stack in stacks]
    return [_line([(stack[i], "bold") for stack in lines], need, block, left) for i in range(tall)]


def _rows(cells: Sequence[Sequence[tuple[str, str]]], need: Sequence[int], block: Sequence[int], left: int) -> Any:
    return [_line([row[c] for c in block], need, block, left) for row in cells]


def _line(parts: Sequence[tuple[str, str]], need: Sequence[int], block: Sequence[int], left: int) -> Text:
    from rich.text import Text

    line = Text()
    for i, ((text, style), c) in enumerate(zip(parts, block)):
        room = " " * (need[c] - wide(text))
        gap = " " * GAP if i else ""
        line.append(gap + ("" if c < left else room))
        line.append(text, style=style)
        if c < left and i + 1 < len(block):
            line.append(room)
    line.rstrip()
    return line


def percent(value: float | None) -> str:
    """A share in percent."""
    return "-" if value is None else f"{round(100 * value) or 0}%"  # no minus zero


def number(value: float | None) -> str:
    """A number with two digits after the point."""
    return "-" if value is None else f"{value:.2f}"


def span(values: Sequence[float]) -> str:
    """The least and the greatest."""
    return interval([min(values), max(values)])


def interval(ends: Sequence[float] | None) -> str:
    """From where to where."""
    return "-" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"
