"""A text of two kinds, its plan on the tiny model, and one catalogue of its neurons."""

from __future__ import annotations

import pytest

import hooke
from catalogues import TOKENS, Built
from hooke import Model
from hooke.features import open_catalogue
from hooke.harvest import Plan, plan
from hooke.methods.catalogue.windows import Windows, windows_of


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files with Python's help topics."""
    from pydoc_data.topics import topics

    folder = tmp_path_factory.mktemp("text")
    for name in sorted(topics)[:60]:
        (folder / f"{name}.txt").write_text(topics[name][:1000], encoding="utf-8")
    return [str(folder)]


@pytest.fixture(scope="session")
def planned(glass: Model, texts: list[str]) -> Plan:
    return plan(glass, texts, n_tokens=TOKENS, context=64, shard_tokens=2000)


@pytest.fixture(scope="session")
def wins(planned: Plan) -> Windows:
    return windows_of(planned)


@pytest.fixture(scope="session")
def built(glass: Model, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Built:
    out = tmp_path_factory.mktemp("catalogue") / "neurons"
    result = hooke.catalogue(glass, out=out, text=texts, tokens=TOKENS, context=64)
    return Built(result, out, open_catalogue(out, glass))
