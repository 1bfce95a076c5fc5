"""What tests of evaluations share: texts of words, and of real sentences."""

from __future__ import annotations

import json

import numpy as np
import pytest


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory) -> str:
    """150 passages of 40 to 60 words w3 to w96, in which most words follow from the one before."""
    generator = np.random.default_rng(0)
    after = generator.integers(3, 97, size=(97, 2))
    rows = []
    for _ in range(150):
        word, row = int(generator.integers(3, 97)), []
        for _ in range(int(generator.integers(40, 60))):
            row.append(f"w{word}")
            word = (
                int(generator.integers(3, 97)) if generator.random() < 0.2 else int(after[word, generator.integers(2)])
            )
        rows.append(" ".join(row))
    path = tmp_path_factory.mktemp("book") / "book.jsonl"
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def topics(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Python's help topics, as one file."""
    from pydoc_data.topics import topics

    path = tmp_path_factory.mktemp("text") / "topics.txt"
    path.write_text("\n\n".join(topics[name] for name in sorted(topics)[:60]), encoding="utf-8")
    return str(path)
