"""What is pinned: every direct dependency, within what the package's metadata admits."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("test_newest_script", ROOT / "scripts" / "test_newest.py")
assert SPEC and SPEC.loader
newest = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(newest)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = [*PROJECT["dependencies"], *(r for group in PROJECT["optional-dependencies"].values() for r in group)]


@pytest.mark.parametrize("line", sorted(set(DIRECT)))
def test_a_direct_dependency_is_pinned_within_its_bounds(line):
    wanted = Requirement(line)
    pins = {newest.plain(name): version for name, version in newest.pinned().items()}
    assert wanted.specifier.contains(pins[newest.plain(wanted.name)]), f"{line} and {pins[newest.plain(wanted.name)]}"


def test_what_has_a_newer_version_is_found():
    pins = newest.pinned()
    same = "\n".join(f"{name}=={version}" for name, version in pins.items() if name != "torch")
    listed = f"{same}\ntorch=={pins['torch']}+cpu\nsomething-else==9\n"
    assert newest.changed(listed) == {}
    moved = listed.replace(f"transformers=={pins['transformers']}", "transformers==5.99.0").replace(
        f"huggingface-hub=={pins['huggingface-hub']}", "huggingface_hub==99"
    )
    assert newest.changed(moved) == {
        "transformers": (pins["transformers"], "5.99.0"),
        "huggingface-hub": (pins["huggingface-hub"], "99"),
    }


def test_filters_silence_nothing_that_a_user_would_see():
    """Python shows a person every warning but DeprecationWarning and its kin from other people's modules."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    first, *others = options["filterwarnings"]
    assert first == "error"
    for line in others:
        assert re.fullmatch(r"ignore:[^:]*:(Pending)?DeprecationWarning(:.*)?", line), line
