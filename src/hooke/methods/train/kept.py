"""The folder of a training: what was asked (`training.json`), which tokens (`plan.safetensors`), where it stands
(`checkpoint.safetensors`, `log.jsonl`), and at the end the dictionaries and the result (`result.json`)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hooke.dictionaries.checkpoint import NAME as CHECKPOINT
from hooke.dictionaries.training import LOG
from hooke.errors import HookeError
from hooke.files import path_of, read_json, write_atomic
from hooke.harvest import Plan, load_plan, save_plan
from hooke.results import Result, load_result

ASKED, PLAN, RESULT = "training.json", "plan.safetensors", "result.json"


@dataclass
class Kept:
    """A folder whose lock is held. asked: what `training.json` says."""

    path: Path
    asked: dict[str, Any]

    def result(self) -> Result | None:
        """That of a finished training."""
        return load_result(self.path / RESULT) if (self.path / RESULT).exists() else None

    def plan(self, make: Callable[[], Plan]) -> Plan:
        """The tokens that it began with; made at the first call."""
        path = self.path / PLAN
        if not path.exists():
            save_plan(make(), path)
        return load_plan(path)

    def threads(self, now: int) -> int:
        """How many threads it began with."""
        return int(self._once("threads", now))

    def rough(self, now: torch.dtype) -> torch.dtype:
        """The precision that it began with."""
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[self._once("rough", str(now).split(".")[1])]

    def _once(self, key: str, value: Any) -> Any:
        if key not in self.asked:
            self.asked[key] = value
            self.write()
        return self.asked[key]

    def write(self) -> None:
        """Keep what was asked."""
        write_atomic(self.path / ASKED, (json.dumps(self.asked, indent=1) + "\n").encode())

    def finish(self, result: Result) -> None:
        """Keep the result; where training stood is needed no more."""
        result.save(self.path / RESULT)
        (self.path / CHECKPOINT).unlink(missing_ok=True)


@contextlib.contextmanager
def kept(folder: Path, arguments: Mapping[str, Any], belongs: Mapping[str, Any]) -> Iterator[Kept]:
    """The folder for this training, made if it is not there; nobody else's until the block ends.

    Raises HookeError if another training or something else is in it, if another process trains there, and if it cannot
    be written.
    """
    from filelock import FileLock, Timeout

    path = path_of(folder)
    wanted = {"arguments": json.loads(json.dumps(dict(arguments))), "belongs_to": dict(belongs)}
    try:
        if path.exists() and not path.is_dir():
            raise HookeError(f"{path} is a file; give --out a folder")
        if path.is_dir() and any(path.iterdir()) and not (path / ASKED).exists() and not _only_lock(path):
            raise HookeError(f"{path} has something else in it; give --out a new folder")
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise HookeError(f"another process is training in {path}; wait for it, or give --out another folder") from None
    except OSError as error:
        raise HookeError(f"cannot write to {path}: {error.strerror}; choose another place with --out") from None
    found = Kept(path, wanted)
    try:
        if (path / ASKED).exists():
            found.asked = _read(path / ASKED)
            _same(found.asked, wanted, path)
    except HookeError:
        lock.release()
        raise
    try:
        if not (path / ASKED).exists():
            found.write()
        yield found
    except HookeError:
        if not (path / CHECKPOINT).exists():  # nothing was made: the folder is free for another command
            for name in (ASKED, PLAN, LOG):
                (path / name).unlink(missing_ok=True)
        raise
    finally:
        lock.release()


def _only_lock(path: Path) -> bool:
    return all(entry.name == ".lock" or entry.name.startswith(".hooke-tmp-") for entry in path.iterdir())


def _read(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("arguments"), dict):
        raise HookeError(f"{path} does not say what was trained here; give --out a new folder")
    return found


def _same(there: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Raise HookeError, naming what differs, if the folder is of another training."""
    old, new = there["arguments"], wanted["arguments"]
    differ = [f"{key} ({old.get(key)} there, {new.get(key)} here)" for key in new if old.get(key) != new[key]]
    known = there.get("belongs_to") or {}
    differ += [f"{key} of the model" for key in wanted["belongs_to"] if known.get(key) != wanted["belongs_to"][key]]
    if differ:
        raise HookeError(f"{path} holds another training: it differs in {', '.join(differ[:4])}; give --out a new one")
