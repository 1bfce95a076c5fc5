"""RASP programs as text: one assignment a line, read by a small parser that runs no code.

    # how often this token has come so far, if more than once
    vocabulary = a b c
    length = 5
    counts = selector_width(select(tokens, tokens, ==))
    again = counts > 1

Expressions have `tokens`, `indices`, earlier names, numbers and "texts"; `select(keys, queries, ==)` with one of
== != < <= > >=; `aggregate(selector, x)`, `mean(selector, x)`, `selector_width(selector)`; and between s-ops or
with a constant + - * % == != < <= > >= and or not. The last line is the output.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hooke.errors import HookeError
from hooke.results import read_text
from hooke.truth.plain import BOS
from hooke.truth.programs import Program
from hooke.truth.programs.rasp import (
    INDICES,
    TOKENS,
    Map,
    Select,
    SequenceMap,
    SOp,
    aggregate,
    inputs_of,
    number,
    selector_width,
)

MAX_BYTES, MAX_TOKENS, MAX_LENGTH, MAX_DEPTH = 64_000, 12, 12, 40
RESERVED = {BOS, "none", "value", "yes", "no"}  # what the compiler calls the beginning, and outputs
MAX_OPS = 60  # operations of a program: each may take a layer
MAX_NUMBER, MAX_WORD = 1e6, 40  # what float32 tells apart, and letters of a word
_PIECE = re.compile(r'\s*(?:(\d+(?:\.\d+)?)|"([^"]*)"|(\w+)|(==|!=|<=|>=|[-+*%<>(),]))')
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# from the loosest to the tightest
_LEVELS: list[dict[str, Callable[[Any, Any], Any]]] = [
    {"or": lambda a, b: bool(a or b)},
    {"and": lambda a, b: bool(a and b)},
    _COMPARE,
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "%": operator.mod},
]
_WORDS = {"tokens": TOKENS, "indices": INDICES, "true": True, "false": False}
_KEPT = {*_WORDS, "select", "aggregate", "mean", "selector_width", "and", "or", "not", "vocabulary", "length"}


def read_program(path: str | Path) -> Program:
    """Read a program file. Raises HookeError naming the line that cannot be read."""
    path = Path(path)
    return parse_program(read_text(path, MAX_BYTES), name=path.stem, where=str(path))


def parse_program(text: str, *, name: str, where: str = "the program") -> Program:
    """A program from its text. Raises HookeError with `where` and the line."""
    names: dict[str, Any] = {}
    settings: dict[str, str] = {}
    output: Any = None
    for count, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        match = re.fullmatch(r"(\w+)\s*=(?!=)\s*(.+)", line)
        if match is None:
            raise HookeError(f"{where}:{count}: write `name = expression`, not {line[:60]!r}")
        target, expression = match.groups()
        if target in ("vocabulary", "length"):
            settings[target] = expression
            continue
        if target in _KEPT or target[0].isdigit():
            raise HookeError(f"{where}:{count}: {target!r} cannot be a name")
        try:
            output = names[target] = _Reader(expression, names).whole()
        except HookeError as error:
            raise HookeError(f"{where}:{count}: {error}") from None
    if not isinstance(output, SOp):
        raise HookeError(f"{where}: the last line must give a value at each position, as `x = indices + 1`")
    if len(_operations(output)) > MAX_OPS:
        raise HookeError(f"{where} has more than {MAX_OPS} operations; use fewer")
    program = Program(name, "file", f"read from {where}", lambda: output, *_settings(settings, where))
    return program


def _operations(output: SOp) -> set[SOp]:
    """All that an s-op is made of, itself among them."""
    found, left = {output}, [output]
    while left:
        new = set(inputs_of(left.pop())) - found
        found |= new
        left += new
    return found


def _settings(settings: dict[str, str], where: str) -> tuple[tuple[Any, ...], int]:
    vocabulary = tuple(int(w) if w.isdecimal() else w for w in settings.get("vocabulary", "a b c").split())
    length = settings.get("length", "5")
    if not 1 < len(set(vocabulary)) == len(vocabulary) <= MAX_TOKENS:
        raise HookeError(f"{where}: a vocabulary is 2 to {MAX_TOKENS} different words")
    if taken := RESERVED & set(vocabulary):
        raise HookeError(f"{where}: {', '.join(sorted(taken))} stand for other things in a model; use other words")
    if len({type(token) for token in vocabulary}) > 1:
        raise HookeError(f"{where}: a vocabulary is all words or all whole numbers")
    if not length.isdecimal() or not 2 <= int(length) <= MAX_LENGTH:
        raise HookeError(f"{where}: a length is a whole number from 2 to {MAX_LENGTH}")
    return vocabulary, int(length)


def _compared(f: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """A comparison for values that are alike; words and numbers are never equal and have no order."""

    def compare(a: Any, b: Any) -> bool:
        if isinstance(a, str) != isinstance(b, str):
            if f in (operator.eq, operator.ne):
                return f is operator.ne
            raise HookeError(f"{a!r} and {b!r} have no order")
        return bool(f(a, b))

    return compare


def _bounded(value: Any) -> Any:
    """A value that is not too large to be told from others."""
    if isinstance(value, str) and len(value) > MAX_WORD:
        raise HookeError(f"a word of more than {MAX_WORD} letters")
    if isinstance(value, (int, float)) and not abs(value) <= MAX_NUMBER:
        raise HookeError(f"a number beyond {MAX_NUMBER:,.0f}, which the model could not tell from others")
    return value


def _applied(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The same function with one clear error for values that it cannot take."""

    def apply(a: Any, b: Any) -> Any:
        words = isinstance(a, str), isinstance(b, str)
        if any(words) and not (all(words) and f is operator.add):  # "a" * 10**9, or "%9d" % 1, would fill the memory
            raise HookeError(f"cannot compute with {a!r} and {b!r}")
        try:
            return _bounded(f(a, b))
        except (TypeError, ZeroDivisionError):
            raise HookeError(f"cannot compute with {a!r} and {b!r}") from None

    return apply


class _Reader:
    """Reads one expression: an s-op, a selector or a constant."""

    def __init__(self, text: str, names: dict[str, Any]) -> None:
        self.names = names
        self.pieces: list[tuple[str, str]] = []  # kind (number, text, word, sign) and the piece
        self.at = self.depth = 0
        end = 0
        while text[end:].strip():
            match = _PIECE.match(text, end)
            if match is None:
                raise HookeError(f"cannot read {text[end:].strip()[:20]!r}")
            kind = ("number", "text", "word", "sign")[(match.lastindex or 1) - 1]
            self.pieces.append((kind, match[match.lastindex or 1]))
            end = match.end()

    def whole(self) -> Any:
        value = self.level(0)
        if self.at < len(self.pieces):
            raise HookeError(f"did not expect {self.pieces[self.at][1]!r}")
        return value

    def next(self) -> tuple[str, str]:
        if self.at == len(self.pieces):
            raise HookeError("the line ends too early")
        self.at += 1
        return self.pieces[self.at - 1]

    def expect(self, sign: str) -> None:
        found = self.next()
        if found != ("sign", sign):
            raise HookeError(f"expected {sign!r}, not {found[1]!r}")

    def level(self, number_of: int) -> Any:
        if number_of == len(_LEVELS):
            return self.atom()
        table = _LEVELS[number_of]
        value = self.level(number_of + 1)
        while self.at < len(self.pieces) and self.pieces[self.at][0] != "text" and self.pieces[self.at][1] in table:
            f = table[self.next()[1]]
            value = _joined(_compared(f) if table is _COMPARE else _applied(f), value, self.level(number_of + 1))
        return value

    def atom(self) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise HookeError("the expression is nested too deeply")
        try:
            kind, piece = self.next()
            if kind == "number":
                return _bounded(int(piece) if piece.isdecimal() and len(piece) < 20 else float(piece))
            if kind == "text":
                return _bounded(piece)
            if piece == "(":
                value = self.level(0)
                self.expect(")")
                return value
            if piece == "not":
                return _joined(lambda a, _: not a, self.level(2), True)
            if piece == "-":
                return _joined(_applied(operator.mul), self.atom(), -1)
            if piece in ("select", "aggregate", "mean", "selector_width"):
                return self.call(piece)
            if piece in _WORDS or piece in self.names:
                return _WORDS[piece] if piece in _WORDS else self.names[piece]
            raise HookeError(f"{piece!r} has no value here; names must be assigned on an earlier line")
        finally:
            self.depth -= 1

    def call(self, name: str) -> Any:
        self.expect("(")
        if name == "select":
            keys = _sop(self.level(0))
            self.expect(",")
            queries = _sop(self.level(0))
            self.expect(",")
            sign = self.next()[1]
            self.expect(")")
            if sign not in _COMPARE:
                raise HookeError(f"the third argument of select is one of {' '.join(_COMPARE)}, not {sign!r}")
            return Select(keys, queries, _compared(_COMPARE[sign]))
        selector = self.level(0)
        if not isinstance(selector, Select):
            raise HookeError(f"the first argument of {name} is a selector: select(keys, queries, ==)")
        if name == "selector_width":
            self.expect(")")
            return selector_width(selector)
        self.expect(",")
        x = _sop(self.level(0))
        self.expect(")")
        return aggregate(selector, x if name == "aggregate" or x.numeric else number(_number, x))


def _number(x: Any) -> float:
    if isinstance(x, str):
        raise HookeError(f'a mean needs numbers, not {x!r}; compare first, as `tokens == "{x}"`')
    return float(x)


def _sop(value: Any) -> SOp:
    """An s-op, or a constant as one."""
    if isinstance(value, Select):
        raise HookeError("a selector stands where a value is needed")
    return value if isinstance(value, SOp) else Map(lambda _: value, TOKENS)


def _joined(f: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """f of two s-ops, of one and a constant, or of two constants."""
    if isinstance(a, Select) or isinstance(b, Select):
        raise HookeError("a selector stands where a value is needed")
    if isinstance(a, SOp) and isinstance(b, SOp):
        return SequenceMap(f, a, b)
    if isinstance(a, SOp):
        return Map(lambda x: f(x, b), a)
    return Map(lambda x: f(a, x), b) if isinstance(b, SOp) else f(a, b)
