"""The command line as a person or a script meets it: one line and exit code 2 for bad input, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hooke import Result, cli

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
    out = " ".join(out.split())  # lines are broken where they are full
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


def test_a_target_by_its_id_is_the_same_token_in_every_verb(run, glass):
    first, second = (i for i in range(300, 303) if i != 301)
    texts = glass.text([first, second])
    named = ["--target", texts[0], "--contrast", texts[1], "--json"]
    numbered = ["--target-id", first, "--contrast-id", second, "--json"]
    other = "Alice was beginning to get very hungry"
    if len(glass.tokens(other).ids[0]) != len(glass.tokens(PROMPT).ids[0]):
        other = "Alice was beginning to get very tired"[::-1]
    for verb in (["trace", PROMPT, "--nodes", 5, "--no-verify"], ["patch", PROMPT, "--ablation", "zero"]):
        found = []
        for tokens in (named, numbered):
            code, out, err = run(*verb, *tokens)
            assert code == 0, err
            found.append(json.loads(out)["payload"])
        assert found[0]["target"] == found[1]["target"] and found[0]["target"]["id"] == first
        assert found[0]["contrast"] == found[1]["contrast"]
    code, _, err = run("trace", PROMPT, "--target", texts[0], "--target-id", first)
    assert code == 2 and "name the same token" in err


def test_a_question_with_a_system_message(run, monkeypatch):
    from vocabularies import speaking

    template = "{% for m in messages %}{{ m.role }} {{ m.content }}\n{% endfor %}"
    monkeypatch.setattr("hooke.model.load.load", lambda name=None, **_: speaking("byte-level", template))
    asked = ["trace", "--chat", "of Paris", "--nodes", 5, "--no-verify"]
    code, out, err = run(*asked, "--system", "the model", "--answer-token", 2, "--json")
    assert code == 0, err
    arguments = json.loads(out)["arguments"]
    assert arguments["chat"]["system"] == "the model" and arguments["chat"]["answer_token"] == 2
    assert arguments["prompt"].startswith("system the model\nuser of Paris")
    code, out, _ = run(*asked)
    assert code == 0 and out.startswith("The model answers: [1]")
    code, _, err = run("trace", PROMPT, "--system", "the model")
    assert code == 2 and "add --chat" in err


@pytest.mark.parametrize("arguments, message", [
    (["trace", ""], "empty"),
    (["trace", PROMPT, "--target", ""], "leave it out to take the model's own choice"),
    (["patch", PROMPT, "--ablation", "zero", "--target", "", "--contrast", " the"], "leave it out"),
    (["attribute", "--task", "ioi", "--target", ""], "leave --metric, --target"),
    (["trace", PROMPT, "--target-id", "1024"], "ids lie between 0 and 1023"),
    (["trace", PROMPT, "--target", "<id 1024>"], "ids lie between 0 and 1023"),
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


def test_html_is_one_file(run, tmp_path, monkeypatch):
    monkeypatch.setattr("hooke.viewer.script", lambda: b"export {};")
    monkeypatch.setattr("hooke.viewer.html.script", lambda: b"export {};")
    code, out, _ = run("trace", PROMPT, "--nodes", 20, "--html", tmp_path / "a" / "t.html")
    page = (tmp_path / "a" / "t.html").read_text()
    assert code == 0 and "The page:" in out and page.startswith("<!doctype html>") and 'id="hooke-data"' in page
    code, out, _ = run("lens", PROMPT, "--html", tmp_path / "l.html", "--json")
    assert code == 0 and json.loads(out)["kind"] == "lens" and (tmp_path / "l.html").exists()


def test_html_is_refused_before_the_work_starts(run, tmp_path, monkeypatch):
    monkeypatch.setattr("hooke.methods.trace.trace", lambda *_, **__: pytest.fail("the work was started"))
    code, _, err = run("trace", PROMPT, "--html", tmp_path)
    assert code == 2 and "is a folder" in err

    def missing():
        raise FileNotFoundError

    monkeypatch.setattr("hooke.viewer.script", missing)
    code, _, err = run("trace", PROMPT, "--html", tmp_path / "t.html")
    assert code == 2 and "no built page" in err


def test_intervene_on_a_saved_trace(run, tmp_path):
    saved = tmp_path / "t.json"
    run("trace", PROMPT, "--nodes", 30, "--no-verify", "--out", saved)
    data = json.loads(saved.read_text())
    group = data["payload"]["groups"][0]["nodes"]
    code, out, _ = run("intervene", saved, "--group", 1)
    assert code == 0 and f"Switching off {len(group)} neurons moves" in out and "random groups" in out
    code, out, _ = run("intervene", saved, *group[:2], "--double", "--json", "--out", tmp_path / "i.json")
    done = json.loads(out)
    assert code == 0 and done["kind"] == "intervention" and done["parents"] == [data["id"]]
    assert done["payload"]["op"] == "double" and sorted(done["payload"]["nodes"]) == sorted(group[:2])
    assert json.loads((tmp_path / "i.json").read_text())["id"] == done["id"]
    for arguments, message in (
        ([], "no nodes given"), (["nonsense"], "no node 'nonsense'"), (["--group", 99], "past the last"),
        (["--group", 0], "group"), ([group[0], "--controls", 1000], "controls must lie"),
    ):  # fmt: skip
        code, out, err = run("intervene", saved, *arguments)
        assert code == 2 and message in err and "Traceback" not in err and not out
    data["provenance"] |= {"model": "somebody/else", "weights_sha256": "0" * 64}
    saved.write_text(json.dumps(data))
    code, _, err = run("intervene", saved, "--group", 1)
    assert code == 2 and "was altered after it was made" in err and err.count("\n") == 1
    data["id"] = Result.model_validate(data).content_id()
    saved.write_text(json.dumps(data))
    code, _, err = run("intervene", saved, "--group", 1)
    assert code == 2 and "give that model with --model" in err
    code, _, err = run("intervene", saved, "--group", 1, "--model", "glassllm")
    assert code == 2 and "was made with somebody/else" in err
    run("lens", PROMPT, "--out", tmp_path / "l.json")
    code, _, err = run("intervene", tmp_path / "l.json", "a")
    assert code == 2 and "this is a lens" in err


@pytest.mark.parametrize("verb", ["open", "intervene"])
def test_files_that_are_no_results(run, tmp_path, monkeypatch, verb):
    monkeypatch.setattr("hooke.server.serve.results_folder", lambda: tmp_path / "results")
    monkeypatch.setattr("hooke.server.serve.show", lambda *_, **__: pytest.fail("a server was started"))
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(300 * 2**20)
    cases = {
        "missing.json": (None, "no file"),
        "large.json": (None, "300 MB; files over 256 MB are not read"),
        "text.json": ("hello", "is not JSON"),
        "other.json": ("{}", "neither a Hooke result"),
        "newer.json": ('{"kind":"trace","payload":{},"version":99}', "newer Hooke"),
        "damaged.json": ('{"kind":"trace","payload":{"graph":{"nodes":[3]}}}', ""),
    }
    for name, (text, message) in cases.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        code, out, err = run(verb, tmp_path / name, *(["0_1_2"] if verb == "intervene" else []))
        assert code == 2 and message in err and "Traceback" not in err and not out
        assert len(err.strip().splitlines()) == 1, err
    assert not list((tmp_path / "results").glob("*.json"))


def test_interrupt_leaves_nothing(run, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hooke.results.result.Result.save", interrupted)
    code, _, err = run("trace", PROMPT, "--nodes", 10, "--no-verify", "--out", tmp_path / "t.json")
    assert code == 130 and "interrupted" in err and not (tmp_path / "t.json").exists()


def command(*arguments):
    return [sys.executable, "-m", "hooke", *arguments]


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
    time.sleep(6)  # in its imports on a slow machine, at work on a fast one
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_code_that_a_library_makes_from_text_is_exit_code_130(tmp_path):
    """As where data classes are made in an import: the interpreter takes it for one that nobody caught."""
    text = "import hooke.cli\nfrom hooke.__main__ import main\n"
    text += "hooke.cli.main = lambda: exec('raise KeyboardInterrupt')\nmain()\n"
    (tmp_path / "in_text.py").write_text(text)
    done = subprocess.run([sys.executable, "-m", "in_text"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 130 and "interrupted" in done.stderr and "Traceback" not in done.stderr


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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("patch",), "Missing argument"),
        (("nosuch",), "No such command 'nosuch'"),
        (("tasks", "--nope"), "No such option: --nope"),
        (("tasks", "--count", 0), "Invalid value for '--count'"),
        (("bench", "truth", "--pairs", "many"), "Invalid value for '--pairs'"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line(run, given, said):
    code, out, err = run(*given)
    assert code == 2 and not out and len(err.splitlines()) == 1
    assert err.startswith("hooke: ") and said in err and "--help" in err


def test_no_command_shows_what_there_is(run):
    code, out, err = run()
    assert code == 2 and "circuit" in out + err
    code, out, _ = run("--version")
    assert code == 0 and out.startswith("hooke ")
