"""The routes of the local app: they check what comes in, then ask the store, the jobs or the models."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.parse
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from hooke import __version__
from hooke.errors import HookeError
from hooke.files import scratch
from hooke.results import Result, first_fault
from hooke.results.payloads.trace import Intervention
from hooke.server.guard import Guard
from hooke.server.jobs import FINAL, Jobs
from hooke.server.models import Models
from hooke.server.store import MAX_STATE_BYTES, Store, state_text
from hooke.viewer import app_page, gallery, gallery_page, html_page, index_html, script
from hooke.viewer.schema import Shown

MAX_BODY = MAX_STATE_BYTES + 4096
MAX_FILE = 256 * 2**20
AT_ONCE = 3  # files that are sent and opened
LOOK = 0.1  # seconds between two looks of an event stream at the jobs
ALIVE = 15.0  # seconds of silence after which a stream says that it lives
PAGES = ("/", "/r/{name}", "/example/{name}", "/compare/{one}/{two}")
BINARY = "application/octet-stream"


T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Asking(_Body):
    """What is asked of a model: a text to continue, or with `chat` a question, of whose answer one token comes next."""

    prompt: str = Field(min_length=1, max_length=200_000)
    model: str | None = Field(default=None, max_length=1000)
    chat: bool = False
    system: str | None = Field(default=None, min_length=1, max_length=200_000)
    answer_token: int | None = Field(default=None, ge=1, le=1000)


class TraceArguments(_Asking):
    """Of `hooke.trace`, as far as a page may choose them."""

    target: str | None = Field(default=None, max_length=1000)
    target_id: int | None = Field(default=None, ge=0, le=2**31)
    contrast: str | None = Field(default=None, max_length=1000)
    contrast_id: int | None = Field(default=None, ge=0, le=2**31)
    counterfactual: list[str] | None = Field(default=None, max_length=50)
    nodes: int = Field(default=300, ge=1, le=100_000)
    verify: bool = True
    seed: int = Field(default=0, ge=0, le=2**31)


class LensArguments(_Asking):
    """Of `hooke.lens`."""

    top: int = Field(default=5, ge=1, le=1000)


class JobBody(_Body):
    verb: Literal["trace", "lens"]
    arguments: dict[str, Any]


class InterveneBody(_Body):
    nodes: list[str] = Field(min_length=1, max_length=100_000)
    op: Literal["off", "double"]


class StateBody(_Body):
    state: dict[str, Any] | None = None


def create_app(store: Store, jobs: Jobs, models: Models, *, port: int, token: str) -> tuple[Guard, FastAPI]:
    """The app behind its guard. port: where it will listen, which requests must name."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    _errors(app)
    _results(app, store, models)
    _jobs(app, jobs)
    _pages(app, store)

    @app.get("/api/status")
    def status() -> dict[str, Any]:
        rows = models.rows()
        return {
            "version": __version__,
            "model": models.name,
            "loading": models.loading,
            "models": rows,
            "token_ok": True,
        }

    return Guard(app, port=port, token=token), app


def _results(app: FastAPI, store: Store, models: Models) -> None:
    opening = threading.BoundedSemaphore(AT_ONCE)

    @app.get("/api/results")
    def results() -> dict[str, Any]:
        found = [{k: v for k, v in info._asdict().items() if k != "parents"} for info in store.listing()]
        return {"results": found, "damaged": [f"{name}: {why}" for name, why in sorted(store.damaged.items())]}

    @app.get("/api/results/{name}")
    def result(name: str) -> Response:
        return Response(_found(lambda: store.page(name), store, name), media_type=BINARY)

    @app.delete("/api/results/{name}")
    def delete(name: str) -> dict[str, Any]:
        _found(lambda: store.delete(name), store, name)
        models.forget(name)
        return {"deleted": name}

    @app.get("/api/results/{name}/state")
    def state(name: str) -> dict[str, Any]:
        return {"state": _found(lambda: store.state(name), store, name)}

    @app.put("/api/results/{name}/state")
    async def set_state(name: str, request: Request) -> dict[str, Any]:
        body = await _body(request, StateBody)
        await run_in_threadpool(lambda: _found(lambda: store.set_state(name, body.state), store, name))
        return {"saved": True}

    @app.post("/api/results/{name}/html")
    async def export(name: str, request: Request) -> Response:
        body = await _body(request, StateBody)

        def make() -> str:
            state_text(body.state)
            with store.heavy:
                return html_page(store.family(name), state=body.state)

        text = await run_in_threadpool(lambda: _found(make, store, name))
        headers = {"Content-Disposition": f'attachment; filename="hooke-{name[:8]}.html"'}
        return Response(text.encode("utf-8", "replace"), media_type="text/html; charset=utf-8", headers=headers)

    @app.post("/api/results/{name}/intervene")
    async def intervene(name: str, request: Request) -> Response:
        body = await _body(request, InterveneBody)

        def change() -> Result:
            done = models.intervene(name, lambda: store.result(name), body.nodes, body.op)
            store.save(done, on=name)
            return done

        shown = shown_intervention(await run_in_threadpool(lambda: _found(change, store, name)))
        return Response(shown.model_dump_json(), media_type="application/json")

    @app.post("/api/open")
    async def open_file(request: Request) -> dict[str, Any]:
        given = urllib.parse.unquote(request.headers.get("x-name", ""), errors="replace")
        base = given.replace("\\", "/").rsplit("/", 1)[-1]
        name = "".join(c for c in base if c.isalnum() or c in " ._-()").strip(" .")[-100:] or "file.json"
        if not opening.acquire(blocking=False):
            raise HTTPException(503, f"{AT_ONCE} files are being opened already; try again in a moment")
        try:
            with scratch(store.folder) as folder:
                path = folder / name
                with path.open("wb") as file:
                    async for chunk in _limited(request, MAX_FILE):
                        file.write(chunk)

                def adopt() -> str:
                    try:
                        return store.open(path)
                    except HookeError as error:  # the person knows the file by its name
                        raise HookeError(str(error).replace(f"{folder}/", "").replace(str(folder), "")) from None

                return {"id": await run_in_threadpool(adopt)}
        finally:
            opening.release()


def _jobs(app: FastAPI, jobs: Jobs) -> None:
    @app.post("/api/jobs")
    async def submit(request: Request) -> dict[str, Any]:
        body = await _body(request, JobBody)
        kind: type[BaseModel] = TraceArguments if body.verb == "trace" else LensArguments
        arguments = _checked(kind, body.arguments).model_dump(exclude_none=True)
        _check_together(arguments)
        job = await run_in_threadpool(lambda: jobs.submit(body.verb, arguments))
        return {"job": job.id}

    @app.get("/api/jobs")
    def every() -> dict[str, Any]:
        return {"jobs": [job.shown() for job in jobs.all()]}

    @app.get("/api/jobs/events")
    async def all_events() -> Response:
        """All jobs, then those that changed, until none is left to run: browsers allow few streams at a time."""

        async def stream() -> AsyncIterator[str]:
            seen: dict[str, int] | None = None
            silent = 0.0
            while True:
                now = [(job, job.version, job.status in FINAL) for job in jobs.all()]
                changed = [job.shown() for job, version, _ in now if seen is None or seen.get(job.id) != version]
                if changed or seen is None:
                    silent = 0.0
                    yield f"data: {json.dumps({'jobs': changed})}\n\n"
                elif silent >= ALIVE:
                    silent = 0.0
                    yield ": still here\n\n"
                seen = {job.id: version for job, version, _ in now}
                if jobs.closing or all(final for _, _, final in now):
                    return
                await asyncio.sleep(LOOK)
                silent += LOOK

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.get("/api/jobs/{name}")
    def one(name: str) -> dict[str, Any]:
        return _job(jobs, name).shown()

    @app.delete("/api/jobs/{name}")
    def cancel(name: str) -> dict[str, Any]:
        _job(jobs, name)
        return jobs.cancel(name).shown()

    @app.get("/api/jobs/{name}/events")
    async def events(name: str) -> Response:
        job = _job(jobs, name)

        async def stream() -> AsyncIterator[str]:
            seen, silent = -1, 0.0
            while True:
                version, final = job.version, job.status in FINAL
                if version != seen:
                    seen, silent = version, 0.0
                    yield f"data: {json.dumps(job.shown())}\n\n"
                elif silent >= ALIVE:
                    silent = 0.0
                    yield ": still here\n\n"
                if final or jobs.closing:
                    return
                await asyncio.sleep(LOOK)
                silent += LOOK

        return StreamingResponse(stream(), media_type="text/event-stream")


def _check_together(arguments: dict[str, Any]) -> None:
    """Refuse arguments that fit by themselves and not with one another."""
    if not arguments.pop("chat"):
        if "system" in arguments or "answer_token" in arguments:
            raise HookeError("a system message and a token of the answer are for a question; set chat too")
    else:
        arguments["chat"] = True
    for name in ("target", "contrast"):
        if name in arguments and f"{name}_id" in arguments:
            raise HookeError(f"{name} and {name}_id name the same token; give one of them")


def _pages(app: FastAPI, store: Store) -> None:
    def page() -> Response:
        try:
            document, policy = app_page(index_html(), script())
        except FileNotFoundError:
            raise HookeError("this copy of Hooke has no built page; web/ says how to build it") from None
        return HTMLResponse(document, headers={"Content-Security-Policy": policy})

    for place in PAGES:
        app.get(place)(page)

    @app.get("/static/page.js")
    def bundle() -> Response:
        return Response(script(), media_type="text/javascript; charset=utf-8")

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/api/gallery")
    def examples() -> dict[str, Any]:
        return {"examples": gallery()}

    @app.get("/api/gallery/{name}")
    def example(name: str) -> Response:
        if name not in {entry["name"] for entry in gallery()}:
            raise HTTPException(404, f"no example called {name[:100]!r}")
        return Response(gallery_page(name), media_type=BINARY)


def shown_intervention(result: Result) -> Shown:
    """An intervention as it stands in a page."""
    fields = {key: getattr(result, key) for key in Shown.model_fields if key != "view"}
    return Shown(**fields, view=Intervention.model_validate(result.payload))


def _errors(app: FastAPI) -> None:
    """Every refusal is {"error": one line}."""

    def say(status: int, text: str) -> Response:
        return JSONResponse({"error": " ".join(text.split())}, status)

    @app.exception_handler(HookeError)
    def mistake(_: Request, error: Exception) -> Response:
        return say(400, str(error))

    @app.exception_handler(ClientDisconnect)
    def gone(_: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(OSError)
    def refused_by_the_system(_: Request, error: Exception) -> Response:
        return say(500, f"the system refused: {getattr(error, 'strerror', None) or error}")

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        text = str(error.detail)
        if error.status_code == 404 and text == "Not Found":
            text = f"there is nothing at {request.url.path[:200]}"
        if error.status_code == 405:
            text = f"{request.method} does not work at {request.url.path[:200]}"
        return JSONResponse({"error": " ".join(text.split())}, error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    def fault(_: Request, error: Exception) -> Response:
        return say(500, f"internal error, {type(error).__name__}: {error}"[:500])


async def _limited(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body in pieces; a larger one is refused before it is read, or where it passes the limit."""
    too_large = HTTPException(413, f"at most {most >> 20} MB can be sent here")
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > most:
        raise too_large
    got = 0
    async for chunk in request.stream():
        got += len(chunk)
        if got > most:
            raise too_large
        yield chunk


async def _body(request: Request, kind: type[M]) -> M:
    data = b"".join([chunk async for chunk in _limited(request, MAX_BODY)])
    try:
        return _checked(kind, json.loads(data or b"{}", parse_constant=_no_number))
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _checked(kind: type[M], data: Any) -> M:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise HTTPException(400, first_fault(error)) from None


def _found(work: Callable[[], T], store: Store, name: str) -> T:
    """What the work gives; an id that is not here is a 404."""
    if not store.has(name):
        raise HTTPException(404, f"no result {name[:40]!r}")
    return work()


def _job(jobs: Jobs, name: str) -> Any:
    try:
        return jobs.get(name)
    except HookeError as error:
        raise HTTPException(404, str(error)) from None
