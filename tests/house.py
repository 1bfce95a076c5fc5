"""The files of the package, as syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src" / "hooke"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in FILES}


def kinds_made(tree: ast.AST) -> Iterator[str]:
    """The kinds that `Result.make` is called with: always written out, so that they can be found."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Result.make":
            assert node.args and isinstance(node.args[0], ast.Constant), ast.unparse(node)
            yield node.args[0].value
