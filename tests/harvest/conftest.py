"""What tests of harvests share: a text."""

from __future__ import annotations

import json

import numpy as np
import pytest


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Passages of many lengths, one a line."""
    words = [
        "the",
        "white",
        "rabbit",
        "ran",
        "down",
        "the",
        "hole",
        "and",
        "Alice",
        "went",
        "after",
        "it",
        "as",
        "fast",
        "as",
        "she",
        "could",
        "go",
        "that",
        "day",
    ]
    generator = np.random.default_rng(0)
    rows = [" ".join(generator.choice(words, size=n)) + "." for n in (*range(3, 60, 3), 300, 170, 129, 250)]
    path = tmp_path_factory.mktemp("book") / "book.jsonl"
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return str(path)
