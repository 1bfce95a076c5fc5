"""Results in a folder: `<id>.json`, `.safetensors` and `.state.json`, with a small `.info.json` for the listing.

An assessment has its evidence in a folder `<id>`, as it was made; no page of it is given without all of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from hooke.errors import HookeError
from hooke.files import is_dir, parse_json, read_json, sweep
from hooke.results import Result, load_result, tensor_path, write_atomic
from hooke.safety.evidence import keep
from hooke.safety.report import ASSESSMENT, read_evidence, read_report
from hooke.viewer import page_bytes, read_file, title
from hooke.viewer.html import HTML_LINKS
from hooke.viewer.page import MAX_LINKS
from hooke.viewer.schema import Page

ID = re.compile(r"[0-9a-f]{32}")
MAX_STATE_BYTES = 2**20
MAX_STATE_DEPTH = 50
MAX_CHILDREN = 200  # interventions that a page takes along, the newest
CACHED_PAGES = 4
AT_ONCE = 2  # large files in memory
INFO_VERSION = 2


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
        self._damaged: dict[str, str] = {}
        self._lock = threading.RLock()
        self.heavy = threading.Semaphore(AT_ONCE)  # held while files are read whole and pages are made
        self._infos: dict[str, tuple[tuple[int, int], Info | None]] = {}
        self._pages: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
        except OSError as error:
            raise HookeError(
                f"cannot keep results in {folder}: {error.strerror}; choose another folder with --results"
            ) from None

    @property
    def damaged(self) -> dict[str, str]:
        """File name -> why it is left out, as of the last listing."""
        with self._lock:
            return dict(self._damaged)

    def save(self, result: Result, *, on: str | None = None) -> str:
        """Keep a result that was made here; its id is its content, so an older copy is the same.

        on: the trace of an intervention. Raises HookeError if it has been deleted since.
        """
        with self._lock:
            if on is not None and not self.has(on):
                raise HookeError("this trace was deleted in the meantime, so the intervention on it is not kept")
            result.save(self._path(result.id))
            with contextlib.suppress(HookeError):  # the listing can do without: it reads the result itself then
                self._info(result.id, result)
        return result.id

    def open(self, path: Path) -> str:
        """Keep what a file holds, or an assessment's folder, if it is one that Hooke reads. Raises HookeError, and
        keeps nothing, if it is not, or if no page can be made of it."""
        try:
            if path.name == ASSESSMENT and is_dir(path.parent / "evidence"):
                path = path.parent
            with self.heavy:
                return self._adopt_report(path) if is_dir(path) else self._adopt(read_file(path))
        except (ValueError, RecursionError):  # from serialisers, at a depth that parsers let pass
            raise HookeError(f"{path} nests too deeply to be shown") from None

    def _adopt(self, result: Result) -> str:
        """Nothing is believed: an intervention belongs to no trace here unless it was made here. That a result is what
        its id says was seen when it was read."""
        if result.kind == "assess":
            raise HookeError("an assessment is a folder with its evidence: open the folder, `hooke open FOLDER`")
        if result.kind == "intervention" and not self.has(result.id):
            result.parents = []  # the payload still says which trace it is about
            result.id = result.content_id()
        if self.has(result.id):
            return self.result(result.id).id
        page = page_bytes([result])
        self.save(result)
        self._keep(self._key(result.id), page)
        return result.id

    def _adopt_report(self, folder: Path) -> str:
        """The evidence first: an assessment in the list has all of it."""
        assessment, evidence = read_report(folder)
        page = page_bytes([assessment, *evidence.values()], max_links=HTML_LINKS)
        for result in evidence.values():
            keep(self.folder / assessment.id, result)
        self.save(assessment)
        self._keep(self._key(assessment.id), page)
        return assessment.id

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
        """All results but interventions on a trace that is here, which belong to it; newest first."""
        found = self._all()
        here = {info.id for info in found}
        return [info for info in found if info.kind != "intervention" or here.isdisjoint(info.parents)]

    def children(self, name: str) -> list[str]:
        """Ids of the interventions on a trace, oldest first; damaged ones are left out and named in `damaged`."""
        return [info.id for info in self._all() if info.kind == "intervention" and name in info.parents][::-1]

    def family(self, name: str) -> list[Result]:
        """A result and the newest interventions on it; a note says how many older ones there are. Of an assessment: it
        and all its evidence; raises HookeError if any is missing or altered."""
        results = [self.result(name)]
        if results[0].kind == "assess":
            return [*results, *read_evidence(self.folder / name, results[0]).values()]
        children = self.children(name)
        older = len(children) - MAX_CHILDREN
        notes = results[0].payload.get("notes", [])
        if older > 0 and isinstance(notes, list):
            said = (
                f"{older} older interventions on this trace are not in this page, which takes the newest {MAX_CHILDREN}"
            )
            results[0].payload["notes"] = [*notes, said]
        for child in children[-MAX_CHILDREN:]:
            with contextlib.suppress(HookeError):  # deleted or damaged since
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
        with self.heavy:
            page = _page(self.family(name), self.state(name))
        self._keep(key, page)
        return page

    def delete(self, name: str) -> None:
        """Delete a result, what belongs to it, and the interventions on it."""
        with self._lock:  # nothing is saved on it meanwhile
            if not self.has(name):
                raise HookeError(f"no result {name[:40]!r}")
            for each in (*self.children(name), name):
                path = self._path(each)
                for file in (path, tensor_path(path), self._beside(each, "state"), self._beside(each, "info")):
                    try:
                        file.unlink(missing_ok=True)
                    except OSError as error:
                        raise HookeError(f"cannot delete {file}: {error.strerror}") from None
                shutil.rmtree(self.folder / each, ignore_errors=True)  # the evidence of an assessment
                self._infos.pop(each, None)

    def state(self, name: str) -> dict[str, Any] | None:
        """What a person did with a result; None if nothing, or if the file is damaged."""
        if not self.has(name):
            raise HookeError(f"no result {name[:40]!r}")
        try:
            found = read_json(self._beside(name, "state"), 2 * MAX_STATE_BYTES, folder=self.folder)
            state_text(found)
        except HookeError:
            return None
        return found if isinstance(found, dict) else None

    def set_state(self, name: str, state: dict[str, Any] | None) -> None:
        """Raises HookeError for a state that could not be read back."""
        if not self.has(name):
            raise HookeError(f"no result {name[:40]!r}")
        if state is None:
            self._beside(name, "state").unlink(missing_ok=True)
            return
        write_atomic(self._beside(name, "state"), state_text(state).encode())

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
        there = {f"{name}.json" for name in names}
        with self._lock:
            self._damaged = {name: why for name, why in self._damaged.items() if name in there}
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
        new, why = info is None, ""
        if info is None:
            try:
                info = self._make_info(result or self.result(name), path)
            except HookeError as error:
                why = str(error)
        with self._lock:
            if not path.exists():  # deleted meanwhile
                return None
            if info is not None and new:
                data = {"version": INFO_VERSION, "stamp": stamp, **info._asdict()}
                with contextlib.suppress(HookeError):  # a folder that cannot be written can still be read
                    write_atomic(self._beside(name, "info"), json.dumps(data).encode())
            self._infos[name] = (stamp, info)
            self._damaged.pop(path.name, None)
            if info is None:
                self._damaged[path.name] = why
        return info

    def _read_info(self, name: str, stamp: tuple[int, int]) -> Info | None:
        try:
            data = read_json(self._beside(name, "info"), MAX_STATE_BYTES, folder=self.folder)
            if data.pop("version") != INFO_VERSION or tuple(data.pop("stamp")) != stamp:
                return None
            info = Info(**data)
            whole = all(isinstance(x, str) for x in info[:7]) and isinstance(info.bytes, int) and info.id == name
            return info if whole and isinstance(info.parents, list) else None
        except (HookeError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _make_info(self, result: Result, path: Path) -> Info:
        if result.kind == "intervention":
            _page([result])  # one that cannot be shown would take the page of its trace with it
        stat = path.stat()
        beside = tensor_path(path)
        evidence = (self.folder / result.id / "evidence").glob("*")
        graph = result.payload.get("graph")
        drawn = graph if isinstance(graph, dict) else {}
        sentence = result.payload.get("sentence") or next((claim.text for claim in result.claims), "")
        prompt = result.arguments.get("prompt") or drawn.get("prompt") or ""
        subject = result.payload.get("subject")
        named = subject.get("name") if isinstance(subject, dict) else ""
        model = result.provenance.get("model") or result.provenance.get("scan") or named or ""
        return Info(
            id=result.id,
            kind=result.kind[:100],
            title=title(result)[:300],
            sentence=str(sentence)[:1000],
            prompt=str(prompt)[:300],
            model=str(model)[:200],
            created=datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="milliseconds"),
            bytes=stat.st_size + sum(file.stat().st_size for file in [beside, *evidence] if file.exists()),
            parents=result.parents[:100],
        )

    def _key(self, name: str) -> tuple[Any, ...]:
        """What a page depends on: the files of the result and its evidence, its state, the interventions on it."""
        evidence = sorted((self.folder / name / "evidence").glob("*"))
        stamps = [_stamp(path) for path in (self._path(name), self._beside(name, "state"), *evidence)]
        return (name, *stamps, *(path.name for path in evidence), *self.children(name))

    def _keep(self, key: tuple[Any, ...], page: bytes) -> None:
        with self._lock:
            self._pages[key] = page
            while len(self._pages) > CACHED_PAGES:
                self._pages.popitem(last=False)


def state_text(state: Any) -> str:
    """A page's state as JSON. Raises HookeError for one that could not be kept, sent and read back."""
    level, depth = [state], 0
    while level:
        depth += 1
        if depth > MAX_STATE_DEPTH:
            raise HookeError(f"the state of a page may nest {MAX_STATE_DEPTH} deep, and this nests deeper")
        inside = (x.values() if isinstance(x, dict) else x for x in level if isinstance(x, dict | list))
        level = [y for x in inside for y in x if isinstance(y, dict | list)]
    try:
        text = json.dumps(state, ensure_ascii=True, allow_nan=False)
        json.dumps(state, ensure_ascii=False).encode()  # keys too
        Page(title="", results=[], state=state).model_dump_json()  # as it travels with the result
        parse_json(text.encode(), "state")  # as it is read again
    except (ValueError, HookeError):
        raise HookeError("the state of a page is plain JSON: finite numbers, and text that is Unicode") from None
    if len(text) > MAX_STATE_BYTES:
        raise HookeError(f"the state of a page may have {MAX_STATE_BYTES >> 20} MB, and this has {len(text):,} bytes")
    return text


def _page(results: list[Result], state: dict[str, Any] | None = None) -> bytes:
    most = HTML_LINKS if results[0].kind == "assess" else MAX_LINKS
    try:
        return page_bytes(results, state=state, max_links=most)
    except (ValueError, RecursionError):
        raise HookeError("this result nests too deeply to be shown") from None


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)
