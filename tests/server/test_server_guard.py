"""Who is let in, and what hostile or mistaken requests get: one line, and nothing else."""

from __future__ import annotations

import json
import socket
from contextlib import suppress

import pytest

from hooke.results import Result, load_result
from hooke.results.formats.graph_file import file_of
from made_up import unknown
from serving import ask, built, model, page_of, server, traced  # noqa: F401

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
        assert policy.startswith("default-src 'none'; ") and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "'self'" not in policy.replace("connect-src 'self'", "")
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
        data["id"] = Result.model_validate(data).content_id()
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


def test_a_body_with_two_lengths(ask, server):
    """What stands behind the chunks would be another request to whoever goes by the number of bytes."""
    own = f"Host: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.token}\r\nConnection: close\r\n"
    request = f"POST /api/jobs HTTP/1.1\r\n{own}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(request.encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 400") and "not both" in answer


def test_who_asks_for_a_web_socket_is_answered_and_nobody_is_told_to_install_one(ask, server, capfd):
    own = f"Host: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.token}\r\nConnection: Upgrade\r\n"
    for kind in ("websocket", "h2c"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(f"GET /api/status HTTP/1.1\r\n{own}Upgrade: {kind}\r\n\r\n".encode())
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    told = capfd.readouterr().err
    assert "install" not in told and "upgrade" not in told


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
    graph = file_of(load_result(path), "a")
    name = ask.post("/api/open", json.dumps(graph).encode()).json["id"]
    page = page_of(ask.get(f"/api/results/{name}").body)
    assert page["results"][0]["kind"] == "graph" and page["results"][0]["view"]["live"] is False
    # a result of a kind that nobody knows
    strange = unknown("steering", payload={"series": [1, 2], "text": "</script><b>\u202e\x00"})
    name = ask.post("/api/open", strange.to_json().encode()).json["id"]
    assert (
        name == strange.id and page_of(ask.get(f"/api/results/{name}").body)["results"][0]["view"]["type"] == "generic"
    )


def test_a_file_cannot_take_the_place_of_another(ask, traced, server):
    before = (server.store.folder / f"{traced}.json").read_bytes()
    for claimed in (traced, "../../evil", "", "x" * 32):
        data = {"kind": "other", "version": 1, "id": claimed, "payload": {"a": claimed}}
        answer = ask.post("/api/open", json.dumps(data).encode())
        assert answer.status == 400 and "was altered after it was made" in answer.json["error"]
    assert (server.store.folder / f"{traced}.json").read_bytes() == before


@pytest.mark.parametrize("data, message", [
    (b"", "bad.json is not JSON"), (b"hello", "bad.json is not JSON"), (b"\x00" * 1000, "bad.json is not JSON"),
    (b"[" * 10**6, "bad.json is not JSON"), (b"{}", "neither a Hooke result"), (b"3", "neither a Hooke result"),
    (b'{"kind":"trace","payload":{},"version":99}', "newer Hooke"),
    (b'{"kind":3,"payload":{}}', "not a valid result"),
    (b'{"nodes":[],"links":[]}', "metadata"),
    (b'{"kind":"trace","payload":{"graph":{"nodes":[1]}}}', "make it again (hooke trace)"),
    (b'{"kind":"graph","payload":{"graph":{"nodes":[1]}}}', "make it again (hooke open)"),
    (b'{"kind":"x","payload":{"a":1},"id":"0"}', "altered after it was made"),
    (b'{"kind":"lens","payload":{"next":7}}', "make it again (hooke lens)"),
    (b'{"kind":"x","payload":{"a":' + b"[" * 900 + b"]" * 900 + b"}}", "nests too deeply"),
])  # fmt: skip
def test_files_that_cannot_be_opened(ask, server, data, message):
    before = set(server.store.folder.glob("*"))
    answer = ask.post("/api/open", data, X_Name="..%2Fbad.json")
    assert answer.status == 400 and message in answer.json["error"]
    assert "\n" not in answer.json["error"] and "/tmp" not in answer.json["error"]
    assert set(server.store.folder.glob("*")) == before


@pytest.mark.parametrize(
    "name", ["~nobody-of-this-name", "~nobody/x", "m" * 900, "zero\0byte", "../../x", "evil\x1b[2J\nx", "/dev/zero"]
)
@pytest.mark.parametrize("verb", ["trace", "lens"])
def test_models_that_cannot_be_are_refused_at_once(ask, verb, name):
    """Two of them were an internal error."""
    answer = ask.post("/api/jobs", {"verb": verb, "arguments": {"prompt": "a", "model": name}})
    assert answer.status == 400 and answer.json["error"].isprintable(), answer.body
