"""The local app over real sockets: its API, who is let in, jobs that are watched and cancelled, hostile input."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import hooke
from hooke.errors import HookeError
from hooke.results import Result
from hooke.server.jobs import FINAL
from hooke.server.serve import Server, listen
from hooke.server.store import Store
from hooke.viewer.schema import Shown

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
def running(folder: Path):
    server = Server(Store(folder), model="glassllm")
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


# ---- a first visit ------------------------------------------------------------------------------


def test_status(ask, traced):
    status = ask.get("/api/status").json
    assert status["version"] == hooke.__version__ and status["token_ok"] is True and status["loading"] is False
    assert status["model"] == "glassllm" and status["models"][0]["name"] == "glassllm"
    assert {"name", "fetched", "note"} == set(status["models"][0])


def test_a_job_is_watched_to_its_end_and_its_result_is_a_page(ask, server):
    job = ask.job(nodes=50, target=None, verify=True)
    events = ask.events(job)
    assert events[-1]["status"] == "done" and events[-1]["done"] == 1 and events[-1]["error"] is None
    done = [event["done"] for event in events]
    assert done == sorted(done) and len(events) >= 3
    assert set(events[-1]) == {
        "id", "verb", "arguments", "status", "stage", "done", "seconds", "left", "result", "error"
    }  # fmt: skip
    name = events[-1]["result"]
    row = next(r for r in ask.get("/api/results").json["results"] if r["id"] == name)
    assert set(row) == {"id", "kind", "title", "sentence", "prompt", "model", "created", "bytes"}
    assert row["kind"] == "trace" and row["prompt"] == PROMPT and row["model"] == "glassllm" and row["bytes"] > 1000
    answer = ask.get(f"/api/results/{name}")
    assert answer.headers["content-type"] == "application/octet-stream" and "content-encoding" not in answer.headers
    page = page_of(answer.body)
    assert page["results"][0]["id"] == name and len(features(page)) == 50
    assert (server.store.folder / f"{name}.safetensors").exists()
    assert hooke.load_result(server.store.folder / f"{name}.json").tensors["weights"].size
    # a stream that is opened late says the end at once
    assert [event["status"] for event in ask.events(job)] == ["done"]


def test_a_lens_too(ask):
    done = ask.until(ask.job("lens", top=3))
    page = page_of(ask.get(f"/api/results/{done['result']}").body)
    assert done["status"] == "done" and page["results"][0]["kind"] == "lens"


def test_an_intervention_is_shown_saved_and_part_of_the_page(ask, traced):
    nodes = features(page_of(ask.get(f"/api/results/{traced}").body))[:3]
    answer = ask.post(f"/api/results/{traced}/intervene", {"nodes": nodes, "op": "off"})
    assert answer.status == 200, answer.body
    shown = Shown.model_validate(answer.json)
    assert shown.kind == "intervention" and shown.parents == [traced] and shown.view.nodes == nodes
    ask.post(f"/api/results/{traced}/intervene", {"nodes": nodes, "op": "double"})
    ask.post(f"/api/results/{traced}/intervene", {"nodes": nodes, "op": "off"})  # the same again is the same result
    page = page_of(ask.get(f"/api/results/{traced}").body)
    assert [r["view"]["op"] for r in page["results"][1:]].count("off") == 1 and len(page["results"]) == 3
    assert all(row["kind"] != "intervention" for row in ask.get("/api/results").json["results"])


def test_state_is_kept_beside_the_result_and_in_the_page(ask, traced):
    assert ask.get(f"/api/results/{traced}/state").json == {"state": None}
    state = {"groups": [{"name": "</script>\u202e", "nodes": ["0_1_2"]}], "zoom": 1.5}
    assert ask("PUT", f"/api/results/{traced}/state", {"state": state}).status == 200
    assert ask.get(f"/api/results/{traced}/state").json == {"state": state}
    assert page_of(ask.get(f"/api/results/{traced}").body)["state"] == state
    assert ask("PUT", f"/api/results/{traced}/state", {"state": None}).status == 200
    assert ask.get(f"/api/results/{traced}/state").json == {"state": None}


@pytest.mark.parametrize("body, message", [
    (b'{"state": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}", "deep"), (b'{"state": {"zoom": NaN}}', "not JSON"),
    (b'{"state": {"zoom": -Infinity}}', "not JSON"), (b'{"state": {"zoom": 1e400}}', "finite"),
    (b'{"state": {"name": "\\ud800"}}', "Unicode"),
    (b'{"state": {"zoom": ' + b"9" * 5000 + b"}}", "not JSON"), (b'{"state": [1]}', "state"),
])  # fmt: skip
def test_a_state_that_could_not_be_read_back_is_not_kept(ask, traced, built, body, message):
    ask("PUT", f"/api/results/{traced}/state", {"state": {"a": 1}})
    for method, rest in (("PUT", "/state"), ("POST", "/html")):
        answer = ask(method, f"/api/results/{traced}{rest}", body)
        assert answer.status == 400 and message in answer.json["error"], answer.body
    assert ask.get(f"/api/results/{traced}/state").json == {"state": {"a": 1}}
    assert page_of(ask.get(f"/api/results/{traced}").body)["state"] == {"a": 1}
    ask("PUT", f"/api/results/{traced}/state", {"state": None})


def test_a_state_on_disk_that_is_damaged_is_none(ask, server, traced):
    path = server.store.folder / f"{traced}.state.json"
    for text in ("{ half", '{"a": ' + "[" * 900 + "]" * 900 + "}", '{"a": NaN}', "[1]"):
        path.write_text(text)
        assert ask.get(f"/api/results/{traced}/state").json == {"state": None}
        assert page_of(ask.get(f"/api/results/{traced}").body)["state"] is None
    path.unlink()


@pytest.fixture
def built(monkeypatch):
    """A page and a bundle, built or not."""
    monkeypatch.setattr("hooke.server.app.index_html", lambda: "<!doctype html><title>Hooke</title>")
    monkeypatch.setattr("hooke.server.app.script", lambda: b"export {};")
    monkeypatch.setattr("hooke.viewer.html.script", lambda: b"export {};")


def test_export_is_one_html_file(ask, traced, built):
    answer = ask.post(f"/api/results/{traced}/html", {"state": {"depth": "expert"}})
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-disposition"] == f'attachment; filename="hooke-{traced[:8]}.html"'
    assert b'id="hooke-data"' in answer.body


def test_pages_bundle_and_gallery(ask, built, monkeypatch):
    for path in ("/", "/r/" + "0" * 32, "/example/x", "/compare/a/b"):
        answer = ask.get(path)
        assert answer.status == 200 and answer.headers["content-type"].startswith("text/html")
    bundle = ask.get("/static/page.js")
    assert bundle.status == 200 and bundle.headers["content-type"].startswith("text/javascript")
    monkeypatch.setattr("hooke.server.app.gallery", lambda: [{"name": "one", "title": "One"}])
    monkeypatch.setattr("hooke.server.app.gallery_page", lambda name: b"bytes of " + name.encode())
    assert ask.get("/api/gallery").json == {"examples": [{"name": "one", "title": "One"}]}
    assert ask.get("/api/gallery/one").body == b"bytes of one"
    assert ask.get("/api/gallery/two").status == ask.get("/api/gallery/..%2f..%2fpage").status == 404


def test_delete_takes_everything_along(ask, server):
    done = ask.until(ask.job(nodes=12, seed=3))
    name = done["result"]
    nodes = features(page_of(ask.get(f"/api/results/{name}").body))[:2]
    child = ask.post(f"/api/results/{name}/intervene", {"nodes": nodes, "op": "off"}).json["id"]
    ask("PUT", f"/api/results/{name}/state", {"state": {"a": 1}})
    assert ask("DELETE", f"/api/results/{name}").status == 200
    assert not [p for p in server.store.folder.iterdir() if p.name.startswith((name, child))]
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/state")):
        assert ask(method, f"/api/results/{name}{path}").status == 404


# ---- jobs ---------------------------------------------------------------------------------------


def test_jobs_queue_are_cancelled_and_started_again(ask, slowly):
    first, second = ask.job(seed=1), ask.job(seed=2)
    running = ask.until(first, "running")
    assert running["verb"] == "trace" and ask.get(f"/api/jobs/{second}").json["status"] == "waiting"
    listed = [job["id"] for job in ask.get("/api/jobs").json["jobs"]]
    assert listed[:2] == [second, first]
    assert ask("DELETE", f"/api/jobs/{second}").json["status"] == "cancelled"  # at once
    ask("DELETE", f"/api/jobs/{first}")
    ended = ask.until(first)  # this trace would not end by itself
    assert ended["status"] == "cancelled" and ended["result"] is None
    assert ask("DELETE", f"/api/jobs/{first}").json["status"] == "cancelled"  # again: nothing happens
    third = ask.job(seed=1)
    ask.until(third, "running")
    slowly.set()
    assert ask.until(third)["status"] == "done"


def test_all_jobs_are_watched_in_one_stream(ask, server, slowly):
    first, second = ask.job(seed=1), ask.job(seed=2)
    ask.until(first, "running")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/api/jobs/events", headers={"Authorization": f"Bearer {server.token}"})
    stream = connection.getresponse()
    assert stream.status == 200 and stream.headers["content-type"].startswith("text/event-stream")

    def events():
        while line := stream.readline():
            if line.startswith(b"data: "):
                yield {job["id"]: job["status"] for job in json.loads(line[6:])["jobs"]}

    told = events()
    begin = next(told)  # all that there are
    assert begin[first] == "running" and begin[second] == "waiting"
    third = ask.job(seed=3)
    ask("DELETE", f"/api/jobs/{second}")
    slowly.set()
    after = list(told)  # it ends when nothing is left to run
    connection.close()
    last = {name: status for event in after for name, status in event.items()}
    assert last == {first: "done", second: "cancelled", third: "done"}  # and tells of nothing that did not change
    statuses = [event["status"] for event in ask.events(third)]
    assert statuses == ["done"]
    assert ask.get("/api/jobs/events").body.count(b"data: ") == 1  # all of them, at once


def test_a_job_does_not_need_its_watcher(ask, server, slowly):
    job = ask.job()
    ask.until(job, "running")
    watcher = socket.create_connection(("127.0.0.1", server.port))
    host = f"127.0.0.1:{server.port}"
    lines = f"GET /api/jobs/{job}/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.token}\r\n\r\n"
    watcher.sendall(lines.encode())
    assert b"text/event-stream" in watcher.recv(4096)
    watcher.close()  # the browser is gone
    slowly.set()
    assert ask.until(job)["status"] == "done"


def test_time_left_and_stages(ask, slowly):
    job = ask.job()
    ask.until(job, "running")
    end = time.monotonic() + 8
    while (seen := ask.get(f"/api/jobs/{job}").json)["left"] is None and time.monotonic() < end:
        time.sleep(0.05)
    assert seen["stage"] == "select" and seen["left"] > 0 and 0 < seen["done"] < 1 and seen["seconds"] > 0
    ask("DELETE", f"/api/jobs/{job}")


def test_failures_are_one_line(ask, monkeypatch, capsys):
    failed = ask.until(ask.job(target="two words here"))
    assert failed["status"] == "failed" and "tokens" in failed["error"] and "\n" not in failed["error"]

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("hooke.methods.trace.trace", broken)
    failed = ask.until(ask.job())
    assert failed["error"] == "internal error, ZeroDivisionError: a fault of ours"
    monkeypatch.undo()
    assert ask.until(ask.job("lens"))["status"] == "done"  # the worker lives


def test_another_model_takes_the_place_of_the_first(model, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr("hooke.model.load.load", lambda name=None, **_: (loaded.append(name), model)[1])
    with running(tmp_path) as server:
        ask = Client(server)
        assert ask.get("/api/status").json["model"] is None and not loaded  # nothing before it is needed
        for name in (None, "glassllm", "smollm2-135m", None):
            ask.until(ask.job("lens", model=name))
        assert loaded == ["glassllm", "smollm2-135m", "glassllm"]


def test_a_job_whose_model_loads_is_cancelled_at_once(model, tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr("hooke.model.load.load", lambda name=None, **_: (release.wait(20), model)[1])
    with running(tmp_path) as server:
        ask = Client(server)
        job, after = ask.job("lens"), ask.job("lens", top=2)
        ask.until(job, "running")
        end = time.monotonic() + 10
        while not ask.get("/api/status").json["loading"] and time.monotonic() < end:
            time.sleep(0.01)
        assert ask.get("/api/status").json["loading"] is True
        assert ask("DELETE", f"/api/jobs/{job}").json["status"] == "cancelled"
        release.set()
        assert ask.until(after)["status"] == "done" and ask.get(f"/api/jobs/{job}").json["status"] == "cancelled"


def test_too_many_jobs(ask, slowly):
    jobs = [ask.job(seed=k) for k in range(15)]
    refused = [ask.post("/api/jobs", {"verb": "lens", "arguments": {"prompt": "a"}}) for _ in range(10)]
    assert refused[-1].status == 400 and "waiting already" in refused[-1].json["error"]
    for job in ask.get("/api/jobs").json["jobs"]:
        ask("DELETE", f"/api/jobs/{job['id']}")
    for job in jobs:
        ask.until(job)


# ---- who is let in ------------------------------------------------------------------------------


def test_the_link_sets_a_cookie_and_a_second_tab_has_it(ask, server, built):
    answer = ask.get(f"/r/abc?token={server.token}&depth=plain", token=None)
    assert answer.status == 303 and answer.headers["location"] == "/r/abc?depth=plain"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"hooke-{server.port}=") and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    mine = cookie.split(";")[0]
    assert ask.get("/", token=None, Cookie=mine).status == 200
    assert ask.get("/api/status", token=None, Cookie=f"other=1; {mine}; a=b").status == 200  # a second tab
    assert ask.get("/api/status", token=None, Cookie=mine.replace("hooke", "kooke")).status == 401
    assert ask.get("/api/status", token=None, Cookie=mine[:-1]).status == 401
    # after a link on another page a strict cookie is held back from a redirect
    answer = ask.get(f"/?token={server.token}", token=None, Sec_Fetch_Site="cross-site")
    assert answer.status == 200 and "set-cookie" in answer.headers and b'content="0;url=/"' in answer.body
    # and no link leads elsewhere
    for path in ("//evil.example/x", "/%0d%0aX:1", "/\\evil.example"):
        target = ask.get(f"{path}?token={server.token}", token=None).headers["location"]
        assert target.startswith("/") and not target.startswith(("//", "/\\")) and "\n" not in target


def test_a_browser_is_started_with_a_link_that_works_once(ask, server):
    once = server.guard.ticket()
    first = ask.get(f"/?token={once}", token=None)
    assert first.status == 303
    assert ask.get(f"/?token={once}", token=None).status == 401
    assert ask.get("/api/status", token=once).status == 401
    cookie = first.headers["set-cookie"].split(";")[0]
    assert ask.get(f"/?token={once}", token=None, Cookie=cookie).status == 303  # its owner may reload


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/r/x", "/api/status", "/api/results", "/favicon.ico", "/no"])
@pytest.mark.parametrize("token", [None, "", "wrong", "Bearer"])
def test_a_client_without_the_token_is_refused(ask, server, path, token):
    answer = ask.get(path, token=token)
    assert answer.status == 401 and server.token.encode() not in answer.body
    assert b"the link that the terminal printed" in answer.body
    assert ask.get(f"{path}?token=wrong", token=None).status == 401
    assert ask.get(f"{path}?token={'t' * 5000}", token=None).status == 401


def test_only_our_own_names_and_pages(ask, server, built):
    port = server.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        assert ask.get("/api/status", host=host).status == 200
        assert ask.get("/api/status", Origin=f"http://{host}").status == 200
    for host in (
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.evil.example:{port}",
        "127.0.0.1",
        "localhost",
        "",
        None,
    ):
        answer = ask.get("/api/status", host=host)
        assert answer.status in (400, 421), (host, answer.status)  # 400: no Host is not even HTTP
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}", ""):
        for method, path in (("GET", "/api/status"), ("POST", "/api/jobs"), ("GET", "/")):
            assert ask(method, path, Origin=origin).status == 403, origin


def test_what_changes_something_needs_an_origin_or_the_bearer(ask, server, traced):
    cookie = f"hooke-{server.port}={server.token}"
    body = {"verb": "lens", "arguments": {"prompt": "a"}}
    for method, path in (
        ("POST", "/api/jobs"),
        ("DELETE", f"/api/results/{traced}"),
        ("PUT", f"/api/results/{traced}/state"),
    ):
        assert ask(method, path, body, token=None, Cookie=cookie).status == 403
    own = f"http://127.0.0.1:{server.port}"
    assert ask.post("/api/jobs", body, token=None, Cookie=cookie, Origin=own).status == 200
    assert ask.post("/api/jobs", body, token=None, Origin=own).status == 401


def test_every_answer_carries_the_policy(ask, server, traced, built):
    answers = [
        ask.get("/"), ask.get("/api/status"), ask.get(f"/api/results/{traced}"), ask.get("/nothing"),
        ask.get("/", token=None), ask.get("/api/status", host="evil"), ask.get(f"/?token={server.token}", token=None),
        ask.post("/api/jobs", b"{"),
    ]  # fmt: skip
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';") and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer" and "server" not in answer.headers


# ---- hostile and mistaken input -----------------------------------------------------------------


@pytest.mark.parametrize("body, message", [
    (b"{", "not JSON"), (b"[" * 100_000, "not JSON"), (b"\xff\xfe", "not JSON"), (b"[]", "dictionary"),
    ({}, "verb"), ({"verb": "models", "arguments": {}}, "verb"),
    ({"verb": "trace", "arguments": []}, "arguments"), ({"verb": "trace", "arguments": {}}, "prompt"),
    ({"verb": "trace", "arguments": {"prompt": ""}}, "prompt"),
    ({"verb": "trace", "arguments": {"prompt": "a", "nodes": 0}}, "nodes"),
    ({"verb": "trace", "arguments": {"prompt": "a", "nodes": "50"}}, "nodes"),
    ({"verb": "trace", "arguments": {"prompt": "a", "nodes": 1e9}}, "nodes"),
    ({"verb": "trace", "arguments": {"prompt": "a", "progress": 1}}, "progress"),
    ({"verb": "lens", "arguments": {"prompt": "a", "nodes": 5}}, "nodes"),
    ({"verb": "trace", "arguments": {"prompt": "a" * 300_000}}, "prompt"),
    ({"verb": "trace", "arguments": {"prompt": "a", "counterfactual": ["b"] * 100}}, "counterfactual"),
    ({"verb": "trace", "arguments": {"prompt": "a", "model": "no-such-model"}}, "no model called"),
    ({"verb": "trace", "arguments": {"prompt": "a", "model": "/no/such/folder"}}, "no file or folder"),
])  # fmt: skip
def test_jobs_that_cannot_be(ask, body, message):
    answer = ask.post("/api/jobs", body)
    assert answer.status == 400 and message in answer.json["error"] and "\n" not in answer.json["error"]


def test_interventions_that_cannot_be(ask, traced):
    path = f"/api/results/{traced}/intervene"
    cases = [
        ({"nodes": [], "op": "off"}, "nodes"), ({"nodes": ["x"], "op": "off"}, "no node 'x'"),
        ({"nodes": ["x"], "op": "burn"}, "op"), ({"nodes": "x", "op": "off"}, "nodes"),
        ({"nodes": [1], "op": "off"}, "nodes.0"), ({"op": "off"}, "nodes"),
    ]  # fmt: skip
    for body, message in cases:
        answer = ask.post(path, body)
        assert answer.status == 400 and message in answer.json["error"], answer.body
    assert ask.post(f"/api/results/{'0' * 32}/intervene", {"nodes": ["x"], "op": "off"}).status == 404
    lens = ask.until(ask.job("lens"))["result"]
    answer = ask.post(f"/api/results/{lens}/intervene", {"nodes": ["x"], "op": "off"})
    assert answer.status == 400 and "lens" in answer.json["error"]


def test_a_file_does_not_choose_what_is_loaded(ask, server, traced, monkeypatch):
    data = json.loads((server.store.folder / f"{traced}.json").read_text())
    for name, message in (
        ("evil/model", "start the app with --model"),
        (None, "without a model"),
        (7, "without a model"),
    ):
        data["provenance"] |= {"model": name, "weights_sha256": "0" * 64}
        got = ask.post("/api/open", json.dumps(data).encode()).json["id"]
        answer = ask.post(f"/api/results/{got}/intervene", {"nodes": ["x"], "op": "off"})
        assert answer.status == 400 and message in answer.json["error"]


@pytest.mark.parametrize("name", [
    "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "a" * 5000, "0" * 31, "0" * 33, "0" * 32 + ".json", "A" * 32, "%00", "%0a",
    "0" * 32 + "%00", "0" * 32 + "%0a", "x.info",
])  # fmt: skip
def test_no_way_out_of_the_folder(ask, server, name):
    (server.store.folder.parent / "secret.json").write_text("{}")
    for method, rest in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/state"),
        ("PUT", "/state"),
        ("POST", "/intervene"),
        ("POST", "/html"),
    ):
        body = {"nodes": ["a"], "op": "off"} if rest == "/intervene" else {"state": {}}
        answer = ask(method, f"/api/results/{name}{rest}", None if method in ("GET", "DELETE") else body)
        assert answer.status in (404, 405), (method, name, answer.status)
        assert "error" in answer.json
    assert ask.get(f"/api/jobs/{name}").status == ask("DELETE", f"/api/jobs/{name}").status == 404
    assert (server.store.folder.parent / "secret.json").exists()


def test_bodies_that_are_too_large(ask, server, traced, monkeypatch):
    big = {"state": {"text": "a" * 2**20}}
    assert ask("PUT", f"/api/results/{traced}/state", big).status in (400, 413)
    big = {"state": {"text": "a" * 2**21}}
    assert ask("PUT", f"/api/results/{traced}/state", big).status == 413
    # refused by what it says, before it is sent
    answer = ask("POST", "/api/open", b"", content_length=str(2**40))
    assert answer.status == 413 and "256 MB" in answer.json["error"]
    # and by what it is, when it says nothing
    monkeypatch.setattr("hooke.server.app.MAX_FILE", 2**20)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = f"POST /api/open HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.token}\r\n"
        connection.sendall((head + "Transfer-Encoding: chunked\r\n\r\n").encode())
        piece = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
        try:
            for _ in range(40):
                connection.sendall(piece)
        except OSError:
            pass  # it stopped listening, which is the point
        with suppress(ConnectionResetError):
            assert b" 413 " in connection.recv(200)
    assert ask.get("/api/status").status == 200


def test_unknown_routes_and_methods(ask):
    for method, path in (("GET", "/api/nothing"), ("GET", "/nothing"), ("GET", "/static/other.js"), ("GET", "/docs"),
                         ("GET", "/openapi.json"), ("GET", "/static/../app.py"), ("GET", "/api/")):  # fmt: skip
        answer = ask(method, path)
        assert answer.status == 404 and answer.json["error"].startswith("there is nothing at")
    assert ask("PATCH", "/api/status").status == 405 and ask("POST", "/").status == 405
    assert "error" in ask("PUT", "/api/jobs", {}).json
    assert ask.get("/?" + "&".join(f"a{k}=1" for k in range(500))).status == 400


def test_open_reads_what_hooke_open_reads(ask, traced, server, glass):
    path = server.store.folder / f"{traced}.json"
    got = ask.post("/api/open", path.read_bytes(), X_Name="france%20%E2%80%AE.json")
    assert got.status == 200 and got.json["id"] == traced  # the same result
    # a graph file, of ours or another dialect
    graph = json.loads(path.read_text())["payload"]["graph"]
    name = ask.post("/api/open", json.dumps(graph).encode()).json["id"]
    page = page_of(ask.get(f"/api/results/{name}").body)
    assert page["results"][0]["kind"] == "graph" and page["results"][0]["view"]["live"] is False
    # a result of a kind that nobody knows
    strange = Result.make("steering", payload={"series": [1, 2], "text": "</script><b>\u202e\x00"})
    name = ask.post("/api/open", strange.to_json().encode()).json["id"]
    assert (
        name == strange.id and page_of(ask.get(f"/api/results/{name}").body)["results"][0]["view"]["type"] == "generic"
    )


def test_a_file_cannot_take_the_place_of_another(ask, traced, server):
    before = (server.store.folder / f"{traced}.json").read_bytes()
    for claimed in (traced, "../../evil", "", "x" * 32):
        data = {"kind": "other", "version": 1, "id": claimed, "payload": {"a": claimed}}
        got = ask.post("/api/open", json.dumps(data).encode()).json["id"]
        assert got != traced and len(got) == 32 and (server.store.folder / f"{got}.json").exists()
    assert (server.store.folder / f"{traced}.json").read_bytes() == before


@pytest.mark.parametrize("data, message", [
    (b"", "bad.json is not JSON"), (b"hello", "bad.json is not JSON"), (b"\x00" * 1000, "bad.json is not JSON"),
    (b"[" * 10**6, "bad.json is not JSON"), (b"{}", "neither a Hooke result"), (b"3", "neither a Hooke result"),
    (b'{"kind":"trace","payload":{},"version":99}', "newer Hooke"),
    (b'{"kind":3,"payload":{}}', "not a valid result"),
    (b'{"nodes":[],"links":[]}', "metadata"),
    (b'{"kind":"trace","payload":{"graph":{"nodes":[1]}}}', "graph"),
    (b'{"kind":"lens","payload":{"next":7}}', "damaged"),
    (b'{"kind":"x","payload":{"a":' + b"[" * 900 + b"]" * 900 + b"}}", ""),
])  # fmt: skip
def test_files_that_cannot_be_opened(ask, server, data, message):
    before = set(server.store.folder.glob("*"))
    answer = ask.post("/api/open", data, X_Name="..%2Fbad.json")
    if answer.status == 200:  # deep, but shown
        assert message == "" and ask.get(f"/api/results/{answer.json['id']}").status == 200
        return
    assert answer.status == 400 and message in answer.json["error"]
    assert "\n" not in answer.json["error"] and "/tmp" not in answer.json["error"]
    assert set(server.store.folder.glob("*")) == before


# ---- the folder ---------------------------------------------------------------------------------


def test_a_listing_reads_small_files_only_and_names_damaged_ones(tmp_path, monkeypatch):
    store = Store(tmp_path)
    names = [store.save(Result.make("note", payload={"text": f"{k}" * 1000})) for k in range(5)]
    (tmp_path / ("a" * 32 + ".json")).write_text("{ half")
    (tmp_path / ("b" * 32 + ".json")).write_text(Result.make("note", payload={}).to_json())  # of another id
    (tmp_path / "notes.json").write_text("{}")  # not ours
    (tmp_path / f".{names[0]}.json.tmp").write_text("left by a killed run")
    fresh = Store(tmp_path)
    (tmp_path / f"{names[1]}.info.json").write_text('{"version":1}')  # made again
    (tmp_path / f"{names[2]}.info.json").unlink()
    assert {info.id for info in fresh.listing()} == set(names)
    assert set(fresh.damaged) == {"a" * 32 + ".json", "b" * 32 + ".json"}
    assert "is not JSON" in fresh.damaged["a" * 32 + ".json"]
    monkeypatch.setattr("hooke.server.store.load_result", lambda _: pytest.fail("a large file was read"))
    assert {info.id for info in fresh.listing()} == set(names)
    created = [info.created for info in fresh.listing()]
    assert created == sorted(created, reverse=True)


def test_a_result_that_was_damaged_later(ask, server):
    name = server.store.save(Result.make("note", payload={"text": "a"}))
    assert ask.get(f"/api/results/{name}").status == 200
    (server.store.folder / f"{name}.json").write_text("{ half")
    answer = ask.get(f"/api/results/{name}")
    assert answer.status == 400 and "is not JSON" in answer.json["error"]
    listed = ask.get("/api/results").json
    assert name not in [row["id"] for row in listed["results"]] and any(name in line for line in listed["damaged"])
    (server.store.folder / f"{name}.json").unlink()


def test_a_damaged_file_that_is_gone_is_not_named_any_more(tmp_path):
    store = Store(tmp_path)
    path = tmp_path / ("a" * 32 + ".json")
    path.write_text("{ half")
    assert store.listing() == [] and list(store.damaged) == [path.name]
    path.unlink()
    assert store.listing() == [] and store.damaged == {}


def intervention(name: str, seed: int = 0, **more: Any) -> Result:
    """One on a trace, as `hooke.intervene` makes them."""
    target = {"token": " a", "id": 1}
    payload = {
        "nodes": ["1_2_3"], "op": "off", "trace": name, "target": target, "rows": [], "change": float(seed),
        "control_change": None, "control_least": None, "control_greatest": None, "controls": 0, "sentence": "So.",
    }  # fmt: skip
    return Result.make("intervention", parents=[name], payload=payload | more)


@pytest.fixture
def kept(tmp_path, glass):
    """A store with a trace, and the trace's id."""
    store = Store(tmp_path)
    return store, store.save(hooke.trace(glass, PROMPT, nodes=5, verify=False))


def test_a_damaged_intervention_is_left_out_and_named(kept):
    store, name = kept
    good = store.save(intervention(name))
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    bad = [intervention(name, rows=7), intervention(name, seed=2)]
    bad[1].arguments["deep"] = deep
    for result in bad:
        (store.folder / f"{result.id}.json").write_text(json.dumps(result.__dict__, default=vars))
    (store.folder / ("c" * 32 + ".json")).write_text('{"kind": "intervention", "payl')
    page = page_of(store.page(name))
    assert [r["id"] for r in page["results"]] == [name, good]
    assert [info.id for info in store.listing()] == [name]
    assert set(store.damaged) == {f"{result.id}.json" for result in bad} | {"c" * 32 + ".json"}
    assert "damaged" in store.damaged[f"{bad[0].id}.json"] and "rows" in store.damaged[f"{bad[0].id}.json"]


def test_the_page_says_how_many_interventions_it_leaves_out(kept, monkeypatch):
    store, name = kept
    monkeypatch.setattr("hooke.server.store.MAX_CHILDREN", 3)
    children = []
    for seed in range(5):
        children.append(store.save(intervention(name, seed)))
        stamp = 10**9 + seed
        os.utime(store.folder / f"{children[-1]}.json", (stamp, stamp))
    page = page_of(store.page(name))
    assert [r["id"] for r in page["results"]] == [name, *children[2:]]
    assert page["results"][0]["view"]["notes"][-1].startswith(
        "2 older interventions on this trace are not in this page"
    )
    store.delete(name)  # with those that are not in the page
    assert not list(store.folder.iterdir())


def test_an_intervention_from_a_file_belongs_to_no_trace(kept, tmp_path):
    store, name = kept
    mine = store.save(intervention(name))
    (tmp_path / "elsewhere").mkdir()
    forged = intervention(name, seed=9, sentence="Forged.").save(tmp_path / "elsewhere" / "forged.json")
    opened = store.open(forged)
    assert store.open(forged) == opened  # the same file is the same result
    assert [r["id"] for r in page_of(store.page(name))["results"]] == [name, mine]
    assert {info.id for info in store.listing()} == {name, opened}  # it is a result of its own
    assert page_of(store.page(opened))["results"][0]["view"]["sentence"] == "Forged."
    # one that was made here is found again, as it was
    again = store.result(mine).save(tmp_path / "elsewhere" / "mine.json")
    assert store.open(again) == mine and store.children(name) == [mine]
    store.delete(name)
    assert [info.id for info in store.listing()] == [opened]


def test_a_trace_that_is_deleted_while_it_is_changed_leaves_nothing(ask, server, monkeypatch):
    name = ask.until(ask.job(nodes=9, seed=5))["result"]
    nodes = features(page_of(ask.get(f"/api/results/{name}").body))[:1]
    real, inside, go_on = server.models.intervene, threading.Event(), threading.Event()

    def slow(*given):
        done = real(*given)
        inside.set()
        assert go_on.wait(20)
        return done

    monkeypatch.setattr(server.models, "intervene", slow)
    answers: list[Answer] = []
    body = {"nodes": nodes, "op": "off"}
    asking = threading.Thread(target=lambda: answers.append(ask.post(f"/api/results/{name}/intervene", body)))
    asking.start()
    assert inside.wait(20)
    before = {p.name for p in server.store.folder.iterdir() if not p.name.startswith(name)}
    assert ask("DELETE", f"/api/results/{name}").status == 200
    go_on.set()
    asking.join(20)
    assert answers[0].status == 400 and "deleted" in answers[0].json["error"]
    assert {p.name for p in server.store.folder.iterdir()} == before


def test_the_trace_that_was_changed_longest_ago_is_prepared_again(model, monkeypatch):
    from hooke.methods import intervene as steps
    from hooke.server.models import Models

    models, prepared = Models("glassllm"), []
    models.get()
    real = steps.prepare
    monkeypatch.setattr(steps, "prepare", lambda m, traced: (prepared.append(traced.id), real(m, traced))[1])
    traces = [hooke.trace(model, PROMPT, nodes=n, verify=False) for n in (5, 6, 7)]
    for k in (0, 1, 0, 2, 0, 1):
        graph = traces[k].payload["graph"]
        node = next(n["node_id"] for n in graph["nodes"] if n["hooke"]["kind"] == "feature")
        assert models.intervene(traces[k].id, lambda k=k: traces[k], [node], "off").parents == [traces[k].id]
    assert prepared == [traces[k].id for k in (0, 1, 2, 1)]
    models.forget(traces[1].id)
    models.intervene(traces[1].id, lambda: traces[1], [node], "off")
    assert prepared[-1] == traces[1].id and len(prepared) == 5


def test_places_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HookeError, match="choose another folder with --results"):
        Store(tmp_path / "file" / "results")
    taken = listen(0)
    with pytest.raises(HookeError, match=r"cannot use port \d+ .*choose another with --port"):
        listen(taken.getsockname()[1])
    taken.close()


# ---- the command --------------------------------------------------------------------------------


def start(*arguments: str, home: Path | None = None) -> tuple[subprocess.Popen[str], int, str]:
    """A server in a process of its own: the process, its port, its token."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hooke.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Hooke is at http://127.0.0.1:"), line + process.stderr.read()
    address, token = line.split()[-1].split("?token=")
    return process, int(address.split(":")[2].split("/")[0]), token


def test_ctrl_c_stops_at_once_with_open_streams_and_a_running_job(tmp_path):
    process, port, token = start("app", "--model", "glassllm", "--results", str(tmp_path), "--no-browser")
    server = type("There", (), {"port": port, "token": token})()
    ask = Client(server)
    kept = ask.until(ask.job("lens"))["result"]
    job = ask.job(nodes=1300, prompt=PROMPT * 2)
    ask.until(job, "running")
    streams = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    for stream in streams:
        head = f"GET /api/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
        stream.sendall(head.encode())
        assert b"text/event-stream" in stream.recv(4096)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert time.monotonic() - begin < 20 and "Traceback" not in err and "Hooke has stopped" in out
    assert (tmp_path / f"{kept}.json").exists()
    assert not list(tmp_path.glob(".*"))  # nothing half-written
    for stream in streams:
        stream.close()


def test_a_port_in_use_is_one_line():
    taken = listen(0)
    port = str(taken.getsockname()[1])
    done = subprocess.run(
        [sys.executable, "-m", "hooke.cli", "app", "--port", port, "--no-browser"], capture_output=True, text=True
    )
    taken.close()
    assert (
        done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and f"cannot use port {port}" in done.stderr
    )


def test_open_serves_a_file(tmp_path, monkeypatch, glass):
    saved = hooke.lens(glass, PROMPT).save(tmp_path / "l.json")
    # the results of this person go elsewhere than the models
    monkeypatch.setenv("HOOKE_HOME", str(tmp_path / "home"))
    process, port, token = start("open", str(saved), "--no-browser")
    ask = Client(type("There", (), {"port": port, "token": token})())
    (row,) = ask.get("/api/results").json["results"]
    assert row["kind"] == "lens" and row["id"] == hooke.load_result(saved).id
    assert ask.get(f"/api/results/{row['id']}").status == 200
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert (tmp_path / "home" / "results" / f"{row['id']}.json").exists()
