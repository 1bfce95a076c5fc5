"""`hooke app` and `hooke open` as processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import hooke
from hooke.server.serve import listen
from serving import PROMPT, Client, ask, model, running, server  # noqa: F401


def start(*arguments: str, home: Path | None = None) -> tuple[subprocess.Popen[str], int, str]:
    """A server in a process of its own: the process, its port, its token."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hooke", *arguments],
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
        [sys.executable, "-m", "hooke", "app", "--port", port, "--no-browser"], capture_output=True, text=True
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
