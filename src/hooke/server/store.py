"""Results in a folder: `<id>.json`, `.safetensors` and `.state.json`, with a small `.info.json` for the listing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from hooke.errors import HookeError
from hooke.results import Result, load_result, tensor_path, write_atomic
from hooke.viewer import page_bytes, read_file, title

ID = re.compile(r"[0-9a-f]{32}")
MAX_STATE_BYTES = 2**20
MAX_CHILDREN = 200  # interventions that a page takes along, the newest
CACHED_PAGES = 4
INFO_VERSION = 1


class Info(NamedTuple):
    """What a listing says of one result, and the results it was made from."""

    id: str
    kind: str
    title: str
    sentence: str
    prompt: str
    model: str
    created: str  # ISO 8601, UTC
    bytes: int
    parents: list[str]


class Store:
    """A folder of results. Several processes may share it: files appear whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: dict[str, str] = {}  # file name -> why it is left out
        self._lock = threading.RLock()
        self._infos: dict[str, tuple[tuple[int, int], Info | None]] = {}
        self._pages: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HookeError(
                f"cannot keep results in {folder}: {error.strerror}; choose another folder with --results"
            ) from None

    def save(self, result: Result) -> str:
        """Keep a result that was made here; its id is its content, so an older copy is the same."""
        result.save(self._path(result.id))
        with contextlib.suppress(HookeError):  # the listing can do without: it reads the result itself then
            self._info(result.id, result)
        return result.id

    def open(self, path: Path) -> str:
        """Keep what a file holds, if it is one that Hooke reads. Raises HookeError, and keeps nothing, if it is not,
        or if no page can be made of it."""
        try:
            return self._adopt(read_file(path))
        except (ValueError, RecursionError):  # from serialisers, at a depth that parsers let pass
            raise HookeError(f"{path} nests too deeply to be shown") from None

    def _adopt(self, result: Result) -> str:
        """Nothing is believed: the id that a file claims is taken only if it can be one and no other result has it."""
        if not ID.fullmatch(result.id):
            result.id = result.content_id()
        if self.has(result.id):
            if _same(self.result(result.id), result):
                return result.id
            result.id = result.content_id()
        page = page_bytes([result])
        self.save(result)
        self._keep(self._key(result.id), page)
        return result.id

    def has(self, name: str) -> bool:
        return bool(ID.fullmatch(name)) and self._path(name).is_file()

    def result(self, name: str) -> Result:
        """Raises HookeError for an id that is not here, or a damaged file."""
        if not self.has(name):
            raise HookeError(f"no result {name[:40]!r}")
        result = load_result(self._path(name))
        if result.id != name:
            raise HookeError(f"the file of result {name} holds another one; delete it")
        return result

    def listing(self) -> list[Info]:
        """All results but interventions, which belong to their trace; newest first."""
        return [info for info in self._all() if info.kind != "intervention"]

    def children(self, name: str) -> list[str]:
        """Ids of the interventions on a trace, oldest first."""
        found = [info.id for info in self._all() if info.kind == "intervention" and name in info.parents]
        return found[:MAX_CHILDREN][::-1]

    def family(self, name: str) -> list[Result]:
        """A result and the interventions on it; a damaged one of these is left out."""
        results = [self.result(name)]
        for child in self.children(name):
            with contextlib.suppress(HookeError):
                results.append(self.result(child))
        return results

    def page(self, name: str) -> bytes:
        """The page of a result with the interventions on it and what a person did."""
        if not self.has(name):
            raise HookeError(f"no result {name[:40]!r}")
        key = self._key(name)
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
                return self._pages[key]
        try:
            page = page_bytes(self.family(name), state=self.state(name))
        except (ValueError, RecursionError):
            raise HookeError("this result nests too deeply to be shown") from None
        self._keep(key, page)
        return page

    def delete(self, name: str) -> None:
        """Delete a result, what belongs to it, and the interventions on it."""
        if not self.has(name):
            raise HookeError(f"no result {name[:40]!r}")
        for each in (*self.children(name), name):
            path = self._path(each)
            for file in (path, tensor_path(path), self._beside(each, "state"), self._beside(each, "info")):
                try:
                    file.unlink(missing_ok=True)
                except OSError as error:
                    raise HookeError(f"cannot delete {file}: {error.strerror}") from None
            with self._lock:
                self._infos.pop(each, None)

    def state(self, name: str) -> dict[str, Any] | None:
        """What a person did with a result; None if nothing, or if the file is damaged."""
        if not self.has(name):
            raise HookeError(f"no result {name[:40]!r}")
        try:
            found = json.loads(self._beside(name, "state").read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def set_state(self, name: str, state: dict[str, Any] | None) -> None:
        if not self.has(name):
            raise HookeError(f"no result {name[:40]!r}")
        if state is None:
            self._beside(name, "state").unlink(missing_ok=True)
            return
        data = json.dumps(state, ensure_ascii=True, allow_nan=False).encode()
        if len(data) > MAX_STATE_BYTES:
            raise HookeError(
                f"the state of a page may have {MAX_STATE_BYTES >> 20} MB, and this has {len(data):,} bytes"
            )
        write_atomic(self._beside(name, "state"), data)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _beside(self, name: str, what: str) -> Path:
        return self.folder / f"{name}.{what}.json"

    def _all(self) -> list[Info]:
        """What is known of every result in the folder, newest first; damaged files are left out and named."""
        names = []
        try:
            with os.scandir(self.folder) as entries:
                names = [e.name[:-5] for e in entries if e.name.endswith(".json") and ID.fullmatch(e.name[:-5])]
        except OSError as error:
            raise HookeError(f"cannot read {self.folder}: {error.strerror}") from None
        found = [info for name in names if (info := self._info(name)) is not None]
        return sorted(found, key=lambda info: (info.created, info.id), reverse=True)

    def _info(self, name: str, result: Result | None = None) -> Info | None:
        """From memory, the file beside the result, or the result itself."""
        path = self._path(name)
        try:
            stat = path.stat()
        except OSError:
            return None
        stamp = (stat.st_mtime_ns, stat.st_size)
        with self._lock:
            known = self._infos.get(name)
            if known is not None and known[0] == stamp and result is None:
                return known[1]
        info = None if result is not None else self._read_info(name, stamp)
        if info is None:
            try:
                info = self._make_info(result or self.result(name), path)
                data = {"version": INFO_VERSION, "stamp": stamp, **info._asdict()}
                with contextlib.suppress(HookeError):  # a folder that cannot be written can still be read
                    write_atomic(self._beside(name, "info"), json.dumps(data).encode())
            except HookeError as error:
                self.damaged[path.name] = str(error)
        with self._lock:
            self._infos[name] = (stamp, info)
            if info is not None:
                self.damaged.pop(path.name, None)
        return info

    def _read_info(self, name: str, stamp: tuple[int, int]) -> Info | None:
        try:
            data = json.loads(self._beside(name, "info").read_bytes())
            if data.pop("version") != INFO_VERSION or tuple(data.pop("stamp")) != stamp:
                return None
            info = Info(**data)
            whole = all(isinstance(x, str) for x in info[:7]) and isinstance(info.bytes, int) and info.id == name
            return info if whole and isinstance(info.parents, list) else None
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return None

    def _make_info(self, result: Result, path: Path) -> Info:
        stat = path.stat()
        beside = tensor_path(path)
        graph = result.payload.get("graph")
        metadata = graph.get("metadata") if isinstance(graph, dict) else None
        metadata = metadata if isinstance(metadata, dict) else {}
        sentence = result.payload.get("sentence") or next((claim.text for claim in result.claims), "")
        prompt = result.arguments.get("prompt") or metadata.get("prompt") or ""
        model = result.provenance.get("model") or metadata.get("scan") or ""
        return Info(
            id=result.id,
            kind=result.kind[:100],
            title=title(result)[:300],
            sentence=str(sentence)[:1000],
            prompt=str(prompt)[:300],
            model=str(model)[:200],
            created=datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="milliseconds"),
            bytes=stat.st_size + (beside.stat().st_size if beside.exists() else 0),
            parents=result.parents[:100],
        )

    def _key(self, name: str) -> tuple[Any, ...]:
        """What a page depends on: the files of the result, its state and the interventions on it."""
        return (name, _stamp(self._path(name)), _stamp(self._beside(name, "state")), *self.children(name))

    def _keep(self, key: tuple[Any, ...], page: bytes) -> None:
        with self._lock:
            self._pages[key] = page
            while len(self._pages) > CACHED_PAGES:
                self._pages.popitem(last=False)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)


def _same(one: Result, two: Result) -> bool:
    """Whether two results say the same, whatever tensors lie beside them."""
    return one.model_dump_json(exclude={"seconds"}) == two.model_dump_json(exclude={"seconds"})
