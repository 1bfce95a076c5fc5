"""The command line as a person or a script meets it: one line and exit code 2 for bad input, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hooke import cli

PROMPT = "Alice was beginning to get very tired"


@pytest.fixture
def run(capsys, monkeypatch, glass):
    """Run the command line in process: exit code, standard output, standard error. The model is loaded once."""
    monkeypatch.setattr("hooke.model.load.load", lambda name=None, **_: glass)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["hooke", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_trace_prints_next_tokens_first_then_the_sentence(run):
    code, out, _ = run("trace", PROMPT, "--nodes", 40)
    assert code == 0 and out.startswith("Next tokens: ")
    assert (
        "Left unexplained at this budget" in out and "Scores at 40 nodes" in out and "Tested in the live model" in out
    )


def test_json_is_one_result_and_nothing_else(run):
    code, out, _ = run("trace", PROMPT, "--nodes", 20, "--json")
    data = json.loads(out)
    assert code == 0 and data["kind"] == "trace" and data["arguments"]["nodes"] == 20
    code, out, _ = run("lens", PROMPT, "--json")
    assert json.loads(out)["kind"] == "lens"
    code, out, _ = run("models", "--json")
    names = {m["name"]: m for m in json.loads(out)["payload"]["models"]}
    assert {"smollm2-135m", "glassllm"} <= set(names) and names["glassllm"]["fetched"] is True
    assert os.path.isdir(names["glassllm"]["path"])


def test_out_writes_result_tensors_and_graph(run, tmp_path):
    code, out, _ = run("trace", PROMPT, "--nodes", 20, "--no-verify", "--out", tmp_path / "a" / "t.json")
    assert code == 0 and "Saved" in out
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["t.graph.json", "t.json", "t.safetensors"]
    graph = json.loads((tmp_path / "a" / "t.graph.json").read_text())
    assert graph["metadata"]["slug"] == "t"


def test_target_keeps_its_leading_space(run, glass):
    token = next(t for t in (glass.text([i])[0] for i in range(300, 600)) if t.startswith(" ") and len(t) > 2)
    code, out, _ = run("trace", PROMPT, "--nodes", 10, "--no-verify", "--target", token, "--json")
    assert code == 0 and json.loads(out)["payload"]["target"]["token"] == token


@pytest.mark.parametrize("arguments, message", [
    (["trace", ""], "empty"),
    (["trace", "word " * 500], "context"),
    (["trace", PROMPT, "--target", "two words here"], "tokens"),
    (["trace", PROMPT, "--counterfactual", "short"], "token by token"),
    (["trace", PROMPT, "--chat"], "chat template"),
    (["trace", PROMPT, "--nodes", "0"], "nodes"),
    (["trace", PROMPT, "--nodes", "100000000"], "would fit"),
    (["trace"], "PROMPT"),
    (["trace", PROMPT, "--surprise"], "surprise"),
    (["lens", ""], "empty"),
    (["lens", PROMPT, "--top", "999999"], "top"),
])  # fmt: skip
def test_bad_input_exits_2_with_a_clear_line(run, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2 and message.lower() in err.lower() and "Traceback" not in err and not out


def test_bad_places_are_refused_before_the_work_starts(run, tmp_path, monkeypatch):
    monkeypatch.setattr("hooke.methods.trace.trace", lambda *_, **__: pytest.fail("the work was started"))
    code, _, err = run("trace", PROMPT, "--out", tmp_path)
    assert code == 2 and "is a folder" in err
    (tmp_path / "file").write_text("")
    code, _, err = run("trace", PROMPT, "--out", tmp_path / "file" / "t.json")
    assert code == 2 and "cannot write" in err
    monkeypatch.setattr(os, "access", lambda *_: False)
    code, _, err = run("trace", PROMPT, "--out", tmp_path / "t.json")
    assert code == 2 and "cannot write" in err


def test_interrupt_leaves_nothing(run, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hooke.results.result.Result.save", interrupted)
    code, _, err = run("trace", PROMPT, "--nodes", 10, "--no-verify", "--out", tmp_path / "t.json")
    assert code == 130 and "interrupted" in err and not (tmp_path / "t.json").exists()


def command(*arguments):
    return [sys.executable, "-m", "hooke.cli", *arguments]


def test_unknown_models_and_folders_without_weights(tmp_path):
    done = subprocess.run(command("trace", PROMPT, "--model", "smollm2-135"), capture_output=True, text=True)
    assert done.returncode == 2 and "smollm2-135m" in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "config.json").write_text("{}")
    done = subprocess.run(command("lens", PROMPT, "--model", str(tmp_path)), capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr


def test_ctrl_c_in_the_middle(tmp_path):
    process = subprocess.Popen(
        command("trace", "The capital of France is", "--nodes", "3000", "--out", str(tmp_path / "t.json")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_help_is_quick_and_teaches():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(command("--help"), capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - start)
    assert "trace" in done.stdout and "lens" in done.stdout and "models" in done.stdout
    assert min(times) < 3, times  # torch is not imported: that alone takes longer (bench/ measures, this only guards)
    done = subprocess.run(command("trace", "--help"), capture_output=True, text=True, check=True)
    assert "--counterfactual" in done.stdout and "hooke trace" in done.stdout
