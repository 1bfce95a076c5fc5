"""The server and those who connect and say nothing, or half of it. On loopback only, a few hundred connections, seconds."""

from __future__ import annotations

import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from hooke.server import connections
from made_up import unknown
from serving import Client, model, running, slowly  # noqa: F401

MANY = 320


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def closed(sock: socket.socket, seconds: float) -> bool:
    """Whether the other side ends a connection within so long."""
    sock.settimeout(seconds)
    try:
        while sock.recv(4096):
            pass
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


def test_idle_connections_at_few_descriptors_do_not_stop_the_server(tmp_path):
    """320 of them at 256 descriptors stopped it, and it wrote 78 MB of log."""
    command = [
        sys.executable,
        "-m",
        "hooke",
        "app",
        "--model",
        "glassllm",
        "--results",
        str(tmp_path / "r"),
        "--no-browser",
    ]
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"ulimit -n 256; exec {shlex.join(command)}"], stdout=subprocess.PIPE, stderr=log, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    held: list[socket.socket] = []
    try:
        assert process.stdout is not None
        address, token = process.stdout.readline().split()[-1].split("?token=")
        there = Client(type("There", (), {"port": int(address.split(":")[2].split("/")[0]), "token": token})())
        for number in range(MANY):
            held.append(connect(there.server.port))
            if number % 3 == 0:
                with suppress(OSError):
                    held[-1].sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: ")
        for _ in range(5):
            begin = time.monotonic()
            assert there.get("/api/status").status == 200
            assert time.monotonic() - begin < 20  # seconds, on a machine that may be busy
        assert len(os.listdir(f"/proc/{process.pid}/fd")) < 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        for sock in held:
            sock.close()
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
    log.seek(0)
    text = log.read()
    log.close()
    assert len(text) < 2000 and "Traceback" not in text and len(text.splitlines()) <= 4, text[:2000]
    assert all(line.startswith("hooke: ") for line in text.splitlines())


@pytest.fixture
def brisk(model, tmp_path, monkeypatch):
    """A server that waits half a second where others wait ten, for six connections at most."""
    monkeypatch.setattr(connections, "HEAD", 0.5)
    monkeypatch.setattr(connections, "BODY", 0.5)
    monkeypatch.setattr(connections, "most_connections", lambda: 6)
    monkeypatch.setattr("hooke.server.serve.most_connections", lambda: 6)
    connections._said.clear()
    with running(tmp_path) as started:
        yield started


def head(server, body: int = 0) -> bytes:
    lines = ["POST /api/open HTTP/1.1", f"Host: 127.0.0.1:{server.port}", f"Authorization: Bearer {server.token}"]
    return "\r\n".join([*lines, f"Content-Length: {body}", "", ""]).encode()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_half_a_head_is_not_waited_for(brisk, sent):
    with connect(brisk.port) as sock:
        sock.sendall(sent)
        assert closed(sock, 20)


def test_a_head_in_drops_is_not_waited_for(brisk):
    with connect(brisk.port) as sock, suppress(OSError):
        for letter in b"GET /api/status HTTP/1.1\r\nHost: 127.0.0.1\r\n" * 50:
            sock.sendall(bytes([letter]))
            time.sleep(0.05)
        pytest.fail("it waited for all of it")


def test_half_a_body_is_not_waited_for_and_leaves_nothing(brisk, capfd):
    with connect(brisk.port) as sock:
        sock.sendall(head(brisk, 10_000) + b"{" * 500)
        time.sleep(0.3)
        assert any(path.name.startswith(".hooke-tmp-") for path in brisk.store.folder.iterdir())
        assert closed(sock, 20)
    end = time.monotonic() + 10
    while list(brisk.store.folder.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert not list(brisk.store.folder.iterdir())
    assert capfd.readouterr().err == ""


def test_a_client_that_goes_away_is_no_error(brisk, capfd):
    for after in (b"", b"GET / HT", head(brisk, 10_000) + b"{"):
        sock = connect(brisk.port)
        sock.sendall(after)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset, not an end
        time.sleep(0.1)
        sock.close()
    for _ in range(3):  # in the middle of an answer
        sock = connect(brisk.port)
        sock.sendall(head(brisk).replace(b"POST /api/open", b"GET /static/page.js"))
        sock.close()
    assert Client(brisk).get("/api/status").status == 200
    time.sleep(0.3)
    assert capfd.readouterr().err == ""


def test_a_slow_body_that_goes_on_is_taken(brisk, monkeypatch):
    monkeypatch.setattr(connections, "BODY", 3.0)
    monkeypatch.setattr(connections, "RATE", 10.0)
    data = unknown("note").to_json().encode()
    with connect(brisk.port) as sock:
        sock.sendall(head(brisk, len(data)))
        for start in range(0, len(data), 8):
            sock.sendall(data[start : start + 8])
            time.sleep(0.1)
        assert b"200 OK" in sock.recv(4096)


def test_who_does_nothing_makes_room_for_who_asks(brisk, monkeypatch, capfd):
    monkeypatch.setattr(connections, "HEAD", 60.0)
    idle = [connect(brisk.port) for _ in range(20)]
    assert Client(brisk).get("/api/status").status == 200
    time.sleep(0.3)
    assert len(brisk.server_state.connections) <= 6
    assert closed(idle[0], 5) and not closed(idle[-1], 0.2)  # who came first, goes first
    for sock in idle:
        sock.close()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and "more than 6 connections" in lines[0]


def test_who_asks_is_not_dropped_for_others(brisk, slowly, monkeypatch):
    """All places taken by streams that are answered: a new one is told so."""
    job = Client(brisk).job()
    streams = [connect(brisk.port) for _ in range(6)]
    for sock in streams:
        sock.sendall(head(brisk).replace(b"POST /api/open", f"GET /api/jobs/{job}/events".encode()))
        assert b"200 OK" in sock.recv(4096)
    with connect(brisk.port) as late:
        assert b"503" in late.recv(4096)
    time.sleep(1.5)  # longer than a head may take
    assert not any(closed(sock, 0.01) for sock in streams[:1])
    slowly.set()
    for sock in streams:
        sock.close()


def test_an_answer_that_nobody_reads_ends(brisk, monkeypatch):
    monkeypatch.setattr(connections, "UNREAD", 1.0)
    monkeypatch.setattr("hooke.server.app.script", lambda: b"x" * (32 << 20))
    sock = connect(brisk.port)
    sock.sendall(head(brisk).replace(b"POST /api/open", b"GET /static/page.js"))
    time.sleep(0.5)
    assert brisk.server_state.connections
    end = time.monotonic() + 20
    while brisk.server_state.connections and time.monotonic() < end:
        time.sleep(0.1)
    assert not brisk.server_state.connections
    sock.close()


def test_only_so_many_files_are_opened_at_once(brisk, monkeypatch):
    monkeypatch.setattr(connections, "BODY", 60.0)
    senders = [connect(brisk.port) for _ in range(3)]
    for sock in senders:
        sock.sendall(head(brisk, 1000) + b"{")
    time.sleep(0.5)
    answer = Client(brisk).post("/api/open", b"{}")
    assert answer.status == 503 and "try again" in answer.json["error"]
    for sock in senders:
        sock.close()
    end = time.monotonic() + 10
    while Client(brisk).post("/api/open", b"{}").status == 503 and time.monotonic() < end:
        time.sleep(0.1)
    assert Client(brisk).post("/api/open", b"{}").status == 400


def test_a_line_a_minute(capsys):
    clock = [0.0]
    connections._said.clear()
    for second in range(150):
        clock[0] = float(second)
        for _ in range(100):
            connections.say("accept", "no more\x1b[2J descriptors\n", lambda: clock[0])
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "hooke: no more [2J descriptors ",
        "hooke: no more [2J descriptors  (5999 more like it before)",
        "hooke: no more [2J descriptors  (5999 more like it before)",
    ]
    for number in range(10_000):
        connections.say(f"kind {number}", "x", lambda: 200.0)
    assert len(capsys.readouterr().err.splitlines()) <= connections.MOST_KINDS + 1


def test_a_fault_of_ours_is_one_line_that_says_where(brisk, monkeypatch, capfd):
    monkeypatch.setattr(brisk.store, "listing", lambda: 1 / 0)
    for _ in range(5):
        answer = Client(brisk).get("/api/results")
        assert answer.status == 500 and "division by zero" in answer.json["error"]
    (line,) = capfd.readouterr().err.splitlines()
    assert "ZeroDivisionError" in line and "test_server_idle.py, line" in line


def test_requests_that_are_none(brisk, capfd):
    for data in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"A" * 100_000, b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 1000):
        with connect(brisk.port) as sock, suppress(OSError):
            sock.sendall(data)
            assert closed(sock, 20)
    assert len(capfd.readouterr().err.splitlines()) <= 1
    connection = http.client.HTTPConnection("127.0.0.1", brisk.port, timeout=20)
    connection.request("GET", "/", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    assert connection.getresponse().status in (401, 421)
    connection.close()
