"""The evidence folder of an assessment: results under their content ids, which are computed again when they are read.

An evidence id is that of `hooke.results.evidence`, always with the id of the result. No torch in here.
"""

from __future__ import annotations

import re
from pathlib import Path

from hooke.errors import HookeError
from hooke.files import within
from hooke.results import Result, load_result
from hooke.results.evidence import parse

ID = re.compile(r"[0-9a-f]{32}")


def keep(folder: str | Path, result: Result) -> str:
    """Write a result into the evidence of the assessment at `folder`, atomically, and give its id. Twice is once.

    Raises HookeError for a result that was changed after it was made, and if the folder cannot be written.
    """
    if not result.is_whole():
        raise HookeError(f"this {result.kind} was changed after it was made, so it is no evidence; make it again")
    result.save(evidence_path(folder, result.id))
    return result.id


class Book:
    """The evidence of one assessment: results by id, each written when it is added."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.kept: dict[str, Result] = {}

    def add(self, result: Result) -> Result:
        if result.id not in self.kept:
            keep(self.out, result)
            self.kept[result.id] = result
        return result


def load_evidence(folder: str | Path, name: str) -> Result:
    """The result that an evidence id (`id` or `id#key`) names, with its tensors; its content is hashed again.

    Raises HookeError for what is no evidence id, for a missing file, and for one whose content is not what its id
    says, tensors included: altered, or of another result.
    """
    number, _ = split(name)
    path = evidence_path(folder, number)
    if not path.is_file():
        raise HookeError(f"evidence {number} is missing: there is no {path}")
    within(path, Path(folder))
    result = load_result(path)
    if result.id != number:
        raise HookeError(f"{path} holds another result, {result.id[:40]!r}, and not evidence {number}")
    if not result.is_whole():
        raise HookeError(
            f"{path}, evidence {number}, was altered: its content (tensors included) is not what its id says"
        )
    return result


def split(name: str) -> tuple[str, str | None]:
    """An evidence id as the id of a result and the place in it. Raises HookeError for anything else, as paths; a
    report is made of many results, so its evidence always says of which."""
    number, key = parse(name)
    if number is None:
        raise HookeError(f"{name[:80]!r} is not an evidence id: it does not say in which result")
    return number, key


def evidence_path(folder: str | Path, number: str) -> Path:
    """Where the evidence with this id lies. Raises HookeError for what is no id."""
    if not ID.fullmatch(number):
        raise HookeError(f"{number[:80]!r} is not the id of a result")
    return Path(folder) / "evidence" / f"{number}.json"
