"""Jobs: traces and lenses, one after another in one thread; they can be watched and cancelled, and need no browser."""

from __future__ import annotations

import queue
import secrets
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any, Literal

from hooke.errors import HookeError
from hooke.methods.progress import VERB_STAGES, overall
from hooke.results import Result
from hooke.server.models import Models, canonical
from hooke.server.store import Store

Verb = Literal["trace", "lens"]
Status = Literal["waiting", "running", "done", "failed", "cancelled"]
FINAL = ("done", "failed", "cancelled")
MOST_WAITING = 20
REMEMBERED = 50  # jobs that are over
LEAST_DONE = 0.03  # before this, the time left is a guess


class Cancelled(BaseException):
    """Raised in the worker, at the next tick, when its job is cancelled. Not an Exception: no method may swallow it."""


@dataclass
class Job:
    """One job. `version` counts its changes, so that a watcher knows when to look."""

    id: str
    verb: Verb
    arguments: dict[str, Any]
    status: Status = "waiting"
    stage: str = ""
    done: float = 0.0
    result: str | None = None
    error: str | None = None
    stages: tuple[str, ...] = ()
    started: float | None = None
    ended: float | None = None
    cancelled: bool = False  # asked for
    version: int = 0

    def shown(self) -> dict[str, Any]:
        """As the page gets it."""
        end = self.ended if self.ended is not None else time.monotonic()
        seconds = 0.0 if self.started is None else end - self.started
        left = None
        if self.status == "running" and self.done > LEAST_DONE:
            left = round(seconds * (1 - self.done) / self.done, 1)
        return {
            "id": self.id,
            "verb": self.verb,
            "arguments": self.arguments,
            "status": self.status,
            "stage": self.stage,
            "done": round(self.done, 4),
            "seconds": round(seconds, 1),
            "left": left,
            "result": self.result,
            "error": self.error,
        }


class Jobs:
    """The queue and its one worker thread, which starts with the first job."""

    def __init__(self, models: Models, store: Store) -> None:
        self.models, self.store = models, store
        self.closing = False
        self._jobs: dict[str, Job] = {}
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None
        self._saving = False

    def submit(self, verb: Verb, arguments: dict[str, Any]) -> Job:
        """Queue a job. Raises HookeError if too many wait, or for a model that does not exist."""
        if arguments.get("model") is not None:
            canonical(arguments["model"])
        with self._lock:
            if self.closing:
                raise HookeError("the server is stopping")
            if sum(job.status == "waiting" for job in self._jobs.values()) >= MOST_WAITING:
                raise HookeError(f"{MOST_WAITING} jobs are waiting already; cancel one of them")
            job = Job(secrets.token_hex(8), verb, arguments)
            self._jobs[job.id] = job
            over = [each.id for each in self._jobs.values() if each.status in FINAL]
            for name in over[: max(0, len(over) - REMEMBERED)]:
                del self._jobs[name]
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="hooke-jobs", daemon=True)
                self._worker.start()
        self._queue.put(job)
        return job

    def get(self, name: str) -> Job:
        with self._lock:
            if name not in self._jobs:
                raise HookeError(f"no job {name[:40]!r}")
            return self._jobs[name]

    def all(self) -> list[Job]:
        """Newest first."""
        with self._lock:
            return list(self._jobs.values())[::-1]

    def cancel(self, name: str) -> Job:
        """A waiting job, or one whose model still loads, is cancelled at once; a running one at its next tick."""
        job = self.get(name)
        with self._lock:
            if job.status in FINAL:
                return job
            job.cancelled = True
            if job.status == "waiting" or job.stage == "load":
                self._end(job, "cancelled")
            job.version += 1
        return job

    def close(self) -> None:
        """Cancel everything, and wait until the worker has let go; a result that is finished is written."""
        with self._lock:
            self.closing = True
            for job in self._jobs.values():
                if job.status == "waiting":
                    self._end(job, "cancelled")
        self._queue.put(None)
        if self._worker is not None:
            self._worker.join(timeout=3)  # a tick comes within about a second
            while self._saving:
                self._worker.join(timeout=0.1)

    def stop_soon(self) -> None:
        """What may be called from a signal handler: streams end, the running job stops at its next tick."""
        self.closing = True

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._lock:
                if job.status != "waiting":
                    continue
                job.status, job.started = "running", time.monotonic()
                job.version += 1
            self.models.busy = True
            try:
                self._run(job)
            except Cancelled:
                self._finish(job, "cancelled")
            except HookeError as error:
                self._finish(job, "failed", error=str(error))
            except Exception as error:  # a fault of ours must not take the worker with it
                traceback.print_exc(file=sys.stderr)
                self._finish(job, "failed", error=f"internal error, {type(error).__name__}: {error}"[:500])
            finally:
                self.models.busy, self._saving = False, False

    def _run(self, job: Job) -> None:
        arguments = dict(job.arguments)
        name = arguments.pop("model", None)
        stages = VERB_STAGES[job.verb]
        job.stages = stages[1:] if self.models.name == canonical(name, self.models.default) else stages
        tick = self._ticker(job)
        if job.stages[0] == "load":
            tick("load", 0.0)
        model = self.models.get(name)
        tick(stages[1], 0.0)
        result = _do(job.verb, model, arguments, tick)
        with self._lock:
            if job.cancelled:
                raise Cancelled
            self._saving = True  # from here on the result is kept, whatever happens
        self._finish(job, "done", result=self.store.save(result))

    def _ticker(self, job: Job) -> Any:
        def tick(stage: str, done: float) -> None:
            if job.cancelled or self.closing:
                raise Cancelled
            total = overall(job.stages, stage, done)
            with self._lock:
                if stage != job.stage or total - job.done >= 0.002:
                    job.stage, job.done = stage, max(job.done, total)
                    job.version += 1

        return tick

    def _finish(self, job: Job, status: Status, *, result: str | None = None, error: str | None = None) -> None:
        with self._lock:
            if job.status in FINAL:
                return
            job.result, job.error = result, error
            if status == "done":
                job.done = 1.0
            self._end(job, status)

    def _end(self, job: Job, status: Status) -> None:
        job.status, job.ended = status, time.monotonic()
        job.version += 1


def _do(verb: Verb, model: Any, arguments: dict[str, Any], tick: Any) -> Result:
    prompt: Any = arguments.pop("prompt")
    system, which = arguments.pop("system", None), arguments.pop("answer_token", None)
    for name in ("target", "contrast"):
        number = arguments.pop(f"{name}_id", None)
        arguments |= {} if number is None else {name: number}
    if arguments.pop("chat", False):
        from hooke.methods.asking import ask, like

        prompt = ask(model, prompt, system=system, which=which or 1)
        others = arguments.pop("counterfactual", None)
        arguments |= {} if others is None else {"counterfactual": [like(model, prompt, each) for each in others]}
    if verb == "lens":
        from hooke.methods.lens import lens

        return lens(model, prompt, progress=tick, **arguments)
    from hooke.methods.trace import trace

    return trace(model, prompt, progress=tick, **arguments)
