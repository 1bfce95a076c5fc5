"""The folder of long work: what was asked (of a training `training.json`), which tokens (`plan.safetensors`), where it
stands (`checkpoint.safetensors`), and at the end what was made and the result (`result.json`).

Of several processes the first alone has the folder, and tells the others what is in it.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from hooke.dictionaries.spread import WHOLE, Axis, Spread
from hooke.errors import HookeError
from hooke.files import check_file, path_of, read_bytes, read_json, scratch, write_atomic
from hooke.harvest import Plan, load_plan, save_plan
from hooke.results import Result, load_result

R = TypeVar("R", Result, "Result | None")
MOST_PLAN = 2**38  # bytes
PLAN, RESULT = "plan.safetensors", "result.json"


class Work(NamedTuple):
    """What is done in a folder. name: as in "another training". doing: as in "is training in". asked: the file that
    says what was asked. stands: the file that says where it stands. begun: further files that hold nothing worth
    keeping while that is not there."""

    name: str
    doing: str
    asked: str
    stands: str
    begun: tuple[str, ...] = ()


@dataclass
class Kept:
    """A folder whose lock is held. asked: what its file says."""

    path: Path
    asked: dict[str, Any]
    work: Work
    spread: Spread = WHOLE

    @property
    def world(self) -> Axis:
        """All processes that train here."""
        return self.spread.world

    def result(self) -> Result | None:
        """That of a finished training."""
        found = self.path / RESULT
        return agreed(self.world, lambda: load_result(found) if found.exists() else None)

    def plan(self, make: Callable[[], Plan]) -> Plan:
        """The tokens that it began with; made at the first call."""
        path = self.path / PLAN

        def there() -> None:
            if not path.exists():
                save_plan(make(), path)

        self.world.led(there)
        if self.world.size == 1:
            return load_plan(path)
        data = self.world.bytes(read_bytes(path, check_file(path, MOST_PLAN)) if self.spread.leads else b"")
        with scratch(Path(tempfile.gettempdir())) as own:
            (own / PLAN).write_bytes(data)
            return load_plan(own / PLAN)

    def threads(self, now: int) -> int:
        """How many threads it began with, on as many processes."""
        return int(self._once("threads", now))

    def rough(self, now: torch.dtype) -> torch.dtype:
        """The precision that it began with."""
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[self._once("rough", str(now).split(".")[1])]

    def goes_on(self, spread: Spread) -> None:
        """Note over which processes it is divided now. It may be others than before, with another number of threads:
        sums then differ in the last bit. A finished one stays as it is."""
        if (self.path / RESULT).exists():
            return
        if self.asked.get("spread", "1x1") != spread.shape:
            self.asked.pop("threads", None)
        if self.asked.get("spread") != spread.shape:
            self.asked["spread"] = spread.shape
            self.write()

    def _once(self, key: str, value: Any) -> Any:
        def there() -> Any:
            if key not in self.asked:
                self.asked[key] = value
                self.write()
            return self.asked[key]

        return self.world.led(there)

    def write(self) -> None:
        """Keep what was asked."""
        write_atomic(self.path / self.work.asked, (json.dumps(self.asked, indent=1) + "\n").encode())

    def finish(self, result: Result) -> Result:
        """Keep the result; where training stood is needed no more."""
        result.save(self.path / RESULT)
        (self.path / self.work.stands).unlink(missing_ok=True)
        return result


def agreed(world: Axis, make: Callable[[], R]) -> R:
    """The result that the first process makes, on all."""
    if world.size == 1:
        return make()
    made: list[R] = []

    def told() -> str:
        made.append(make())
        return "" if made[0] is None else made[0].to_json()

    text = world.led(told)
    return made[0] if made else Result.model_validate_json(text) if text else None  # type: ignore[return-value]


@contextlib.contextmanager
def kept(
    folder: Path, work: Work, arguments: Mapping[str, Any], belongs: Mapping[str, Any], spread: Spread = WHOLE
) -> Iterator[Kept]:
    """The folder for this work; nobody else's until the block ends. Raises HookeError as `_locked` does."""
    path = path_of(folder)
    with contextlib.ExitStack() as stack:
        own: list[Kept] = []

        def opened() -> dict[str, Any]:
            own.append(stack.enter_context(_locked(path, work, arguments, belongs)))
            own[0].goes_on(spread)
            return own[0].asked

        asked = spread.world.led(opened)
        found = own[0] if own else Kept(path, asked, work)
        found.spread = spread
        yield found


@contextlib.contextmanager
def _locked(path: Path, work: Work, arguments: Mapping[str, Any], belongs: Mapping[str, Any]) -> Iterator[Kept]:
    """The folder for this work, made if it is not there; nobody else's until the block ends.

    Raises HookeError if other work or something else is in it, if another process works there, and if it cannot be
    written.
    """
    from filelock import FileLock, Timeout

    wanted = {"arguments": json.loads(json.dumps(dict(arguments))), "belongs_to": dict(belongs)}
    try:
        if path.exists() and not path.is_dir():
            raise HookeError(f"{path} is a file; give --out a folder")
        if path.is_dir() and any(path.iterdir()) and not (path / work.asked).exists() and not _only_lock(path):
            raise HookeError(f"{path} has something else in it; give --out a new folder")
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise HookeError(f"another process {work.doing} {path}; wait for it, or give --out another folder") from None
    except OSError as error:
        raise HookeError(f"cannot write to {path}: {error.strerror}; choose another place with --out") from None
    found = Kept(path, wanted, work)
    try:
        if (path / work.asked).exists():
            found.asked = _read(path / work.asked, work)
            _same(found.asked, wanted, path, work)
    except HookeError:
        lock.release()
        raise
    try:
        if not (path / work.asked).exists():
            found.write()
        yield found
    except HookeError:
        if not (path / work.stands).exists():  # nothing was made: the folder is free for another command
            for name in (work.asked, PLAN, *work.begun):
                (path / name).unlink(missing_ok=True)
        raise
    finally:
        lock.release()


def _only_lock(path: Path) -> bool:
    return all(entry.name == ".lock" or entry.name.startswith(".hooke-tmp-") for entry in path.iterdir())


def _read(path: Path, work: Work) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("arguments"), dict):
        raise HookeError(f"{path} does not say of which {work.name} it is; give --out a new folder")
    return found


def _same(there: Mapping[str, Any], wanted: Mapping[str, Any], path: Path, work: Work) -> None:
    """Raise HookeError, naming what differs, if the folder is of other work."""
    old, new = there["arguments"], wanted["arguments"]
    differ = [f"{key} ({old.get(key)} there, {new.get(key)} here)" for key in new if old.get(key) != new[key]]
    known = there.get("belongs_to") or {}
    differ += [f"{key} of the model" for key in wanted["belongs_to"] if known.get(key) != wanted["belongs_to"][key]]
    if differ:
        what = ", ".join(differ[:4])
        raise HookeError(f"{path} holds another {work.name}: it differs in {what}; give --out a new one")
