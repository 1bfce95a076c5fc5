"""The local app over real sockets: its API, a first visit, jobs that are watched and cancelled."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from typing import Any

import pytest

import hooke
from hooke.viewer.schema import Shown
from serving import PROMPT, Client, ask, built, features, model, page_of, running, server, slowly, traced  # noqa: F401

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
    kinds = page["results"][0]["view"]["nodes"]["kind"]
    assert page["results"][0]["id"] == name and kinds.count("feature") + kinds.count("link") == 50
    assert len(features(page)) == kinds.count("feature") > 3
    assert (server.store.folder / f"{name}.safetensors").exists()
    assert hooke.load_result(server.store.folder / f"{name}.json").tensors["weights"].size
    # a stream that is opened late says the end at once
    assert [event["status"] for event in ask.events(job)] == ["done"]


def test_a_lens_too(ask):
    done = ask.until(ask.job("lens", top=3))
    page = page_of(ask.get(f"/api/results/{done['result']}").body)
    assert done["status"] == "done" and page["results"][0]["kind"] == "lens"


def test_a_token_by_its_id_and_a_chat(ask, model, monkeypatch):
    done = ask.until(ask.job(target_id=300, contrast_id=302, nodes=5, verify=False))
    view = page_of(ask.get(f"/api/results/{done['result']}").body)["results"][0]["view"]
    assert view["target"]["id"] == 300 and view["contrast"]["id"] == 302
    template = "{% for m in messages %}{{ m.role }} {{ m.content }}\n{% endfor %}"
    monkeypatch.setattr(model.tokenizer, "chat_template", template)
    done = ask.until(ask.job(chat=True, system="Be brief.", answer_token=2, nodes=5, verify=False))
    assert done["status"] == "done", done
    shown = page_of(ask.get(f"/api/results/{done['result']}").body)["results"][0]
    assert shown["arguments"]["chat"]["system"] == "Be brief." and shown["arguments"]["chat"]["answer_token"] == 2
    assert "system Be brief." in shown["view"]["prompt"]
    lens = ask.until(ask.job("lens", chat=True, system="Be brief.", top=2))
    assert lens["status"] == "done"
    monkeypatch.setattr(model.tokenizer, "chat_template", "{{ raise_exception('no such role') }}")
    refused = ask.until(ask.job(chat=True, system="Be brief."))
    assert refused["status"] == "failed" and "no such role" in refused["error"] and "\n" not in refused["error"]
    for arguments, says in (
        ({"system": "Be brief."}, "set chat"),
        ({"answer_token": 1}, "set chat"),
        ({"target": " a", "target_id": 3}, "name the same token"),
        ({"target_id": -1}, "target_id"),
        ({"chat": True, "system": ""}, "system"),
    ):
        answer = ask.post("/api/jobs", {"verb": "trace", "arguments": {"prompt": "Why?", **arguments}})
        assert answer.status == 400 and says in answer.json["error"], answer.body


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
    (b'{"state": {"name": "\\ud800"}}', "Unicode"), (b'{"state": {"\\ud800": 1}}', "Unicode"),
    (b'{"state": {"a": [{"\\udfffx": []}]}}', "Unicode"), (b'{"state": {"zoom": ' + b"9" * 30 + b"}}", "finite"),
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
    for text in (
        "{ half",
        '{"\\ud800" 1}',
        '{"a": 1, "a": 2}',
        '{"a": 1e999}',
        '{"a": ' + "[" * 900 + "]" * 900 + "}",
        '{"a": NaN}',
        "[1]",
    ):
        path.write_text(text)
        assert ask.get(f"/api/results/{traced}/state").json == {"state": None}
        assert page_of(ask.get(f"/api/results/{traced}").body)["state"] is None
    path.unlink()


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
