"""A server of the local app in a thread, a client of it, and what tests of it share."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import hooke
from hooke.server.jobs import FINAL
from hooke.server.serve import Server
from hooke.server.store import Store

PROMPT = "Alice was beginning to get very tired"
ME = object()  # "the right one", for headers


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Requests with a bearer token, or with whatever else a test says."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def __call__(self, method: str, path: str, body: Any = None, *, token: Any = ME, host: Any = ME, **headers: Any):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if host is not None:
            connection.putheader("Host", f"127.0.0.1:{self.server.port}" if host is ME else host)
        if token is not None:
            connection.putheader("Authorization", f"Bearer {self.server.token if token is ME else token}")
        if data is not None and "content_length" not in headers:
            connection.putheader("Content-Length", str(len(data)))
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        if data is not None:
            connection.send(data)
        got = connection.getresponse()
        answer = Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
        connection.close()
        return answer

    def get(self, path: str, **options: Any) -> Answer:
        return self("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return self("POST", path, {} if body is None else body, **options)

    def job(self, verb: str = "trace", **arguments: Any) -> str:
        answer = self.post("/api/jobs", {"verb": verb, "arguments": {"prompt": PROMPT, **arguments}})
        assert answer.status == 200, answer.body
        return answer.json["job"]

    def until(self, job: str, *statuses: str, seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.get(f"/api/jobs/{job}").json
            if found["status"] in (statuses or FINAL):
                return found
            time.sleep(0.02)
        raise AssertionError(f"job is still {found}")

    def events(self, job: str) -> list[dict[str, Any]]:
        answer = self.get(f"/api/jobs/{job}/events")
        assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream")
        return [json.loads(part[6:]) for part in answer.body.decode().split("\n\n") if part.startswith("data: ")]


@contextmanager
def running(folder: Path, port: int = 0, token: str | None = None) -> Iterator[Server]:
    """Serve a folder until the end of the block; port and token are those of an earlier server if it is to come back."""
    server = Server(Store(folder), port=port, model="glassllm", token=token)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [server.socket]}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.jobs.stop_soon()
        server.should_exit = True
        thread.join(timeout=20)
        server.jobs.close()
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def model(glass):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hooke.model.load.load", lambda name=None, **_: glass)
        yield glass


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    with running(tmp_path_factory.mktemp("results")) as started:
        yield started


@pytest.fixture
def ask(server):
    return Client(server)


@pytest.fixture(scope="module")
def traced(server):
    """The id of a trace that the server made."""
    client = Client(server)
    done = client.until(client.job(nodes=50))
    assert done["status"] == "done", done
    return done["result"]


@pytest.fixture
def slowly(monkeypatch, glass):
    """Traces that tick a hundred times a second and do not end before `release` lets them, or they are cancelled."""
    release = threading.Event()
    real = hooke.trace(glass, PROMPT, nodes=5, verify=False)

    def trace(model, prompt, *, progress, **_):
        for k in range(10**6):
            progress("select", min(0.99, k / 1000))
            if release.wait(0.01):
                break
        return real

    monkeypatch.setattr("hooke.methods.trace.trace", trace)
    yield release
    release.set()


def page_of(body: bytes) -> dict[str, Any]:
    raw = gzip.decompress(body)
    size = int.from_bytes(raw[:8], "little")
    return json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["page"])


def features(page: dict[str, Any]) -> list[str]:
    nodes = page["results"][0]["view"]["nodes"]
    return [name for name, kind in zip(nodes["id"], nodes["kind"], strict=True) if kind == "feature"]


@pytest.fixture
def built(monkeypatch):
    """A page and a bundle, built or not."""
    monkeypatch.setattr("hooke.server.app.index_html", lambda: "<!doctype html><title>Hooke</title>")
    monkeypatch.setattr("hooke.server.app.script", lambda: b"export {};")
    monkeypatch.setattr("hooke.viewer.html.script", lambda: b"export {};")
