"""Dictionaries that other tools wrote, copied and changed, for the tests of foreign formats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from hooke.dictionaries.formats import read_dictionary, recognise
from hooke.errors import HookeError

FILES = Path(__file__).parent / "dictionaries" / "formats_files"


def found_in(case: Path) -> Path:
    """The dictionary of a case, however deep it lies."""
    while True:
        try:
            recognise(case)
            return case
        except HookeError:
            (case,) = (folder for folder in case.iterdir() if folder.is_dir())


def copied(case: str, tmp_path: Path) -> Path:
    """A case's dictionary, with the folders above it that say what it is."""
    shutil.copytree(FILES / case, tmp_path / Path(case).name)
    return found_in(tmp_path / Path(case).name)


def refused(folder: Path, says: str, **options: Any) -> None:
    """What is read there gives one clear line."""
    with pytest.raises(HookeError, match=says) as told:
        read_dictionary(folder, **options)
    assert "\n" not in str(told.value) and len(str(told.value)) < 600


def config(folder: Path, name: str = "cfg.json", **changes: Any) -> None:
    """A config with other values; None takes a key out, `metadata__x` changes one inside."""
    values = json.loads((folder / name).read_text())
    for key, value in changes.items():
        *outer, last = key.split("__")
        inside = values
        for part in outer:
            inside = inside[part]
        if value is None:
            inside.pop(last, None)
        else:
            inside[last] = value
    (folder / name).write_text(json.dumps(values))


def weights(path: Path, **changes: Any) -> None:
    """Weights with other tensors; None takes one out."""
    found = {name: x for name, x in (load_file(path) | changes).items() if x is not None}
    save_file({name: x.contiguous() for name, x in found.items()}, str(path))
