"""Every example in README.md and docs/ runs.

Of each page the blocks marked `python` and `console` run in the order of the page, in an empty folder.
The python blocks of a page share one namespace. In a console block every line that starts with `$ hooke`
is run; the other lines are what it prints and are not compared. A named model is loaded once for all pages.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```\s*$", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
VERBS = (
    "trace",
    "lens",
    "models",
    "intervene",
    "patch",
    "attribute",
    "circuit",
    "doctor",
    "tasks",
    "bench",
    "probe",
    "harvest",
    "catalogue",
    "features",
    "visualise",
    "train",
    "evaluate",
    "organisms",
    "assess",
    "open",
    "app",
)
LONG = ("assess",)  # minutes: its page shows it in a block that is not run; test_assess does
SERVERS = ("open", "app")  # they run until Ctrl-C: their pages show them in blocks that are not run; test_server does
LOADED: dict[str | None, Any] = {}


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """(line, language, text) of the blocks that run."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        if match[1].strip() in ("python", "console"):
            found.append((text.count("\n", 0, match.start()) + 2, match[1].strip(), match[2]))
    return found


def commands(block: str) -> list[str]:
    """The lines typed in a console block; one that ends with a backslash goes on."""
    joined = block.replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def hooke_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hooke.cli import main

    words = shlex.split(line)
    assert words[0] == "hooke", f"a console block runs only hooke, not {words[0]}; mark other commands as sh"
    assert words[1] not in SERVERS, f"hooke {words[1]} does not end by itself; mark it as sh"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", words)
        try:
            main()
        except SystemExit as done:
            assert done.code in (0, None), f"{line} ended with {done.code}"


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model by its name and nothing else gives the same model each time; it is never modified."""
    import hooke
    import hooke.model.load

    module = sys.modules["hooke.model.load"]
    real = hooke.load  # fetched now: what is put back afterwards is what is there before the change

    def load(name: Any = None, **options: Any) -> Any:
        plain = all(value == "auto" for value in options.values()) and (name is None or name == "glassllm")
        if not plain:
            return real(name, **options)
        if name not in LOADED:
            LOADED[name] = real(name)
        return LOADED[name]

    monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(hooke, "load", load)


@pytest.mark.timeout(1200)  # a page may hold several traces of the default model
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_examples_run(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    loaded_once: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "docs"}
    for line, language, text in blocks(page):
        if language == "python":
            # as if it stood where it stands on the page, so that an error points there
            code = compile("\n" * (line - 1) + text, str(page), "exec")
            exec(code, names)
            continue
        typed = commands(text)
        assert typed, f"{page.name}:{line} is a console block without a command"
        for command in typed:
            hooke_command(command, monkeypatch)
            assert capsys.readouterr().out.strip(), f"{page.name}:{line}: {command} printed nothing"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(prose):
        target = link.partition("#")[0]
        if target and "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {link}"


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_for_every_verb(verb: str) -> None:
    page = ROOT / "docs" / f"{verb}.md"
    assert page.exists()
    shown = [
        m[2] for m in BLOCK.finditer(page.read_text(encoding="utf-8")) if (m[1] == "sh") == (verb in SERVERS + LONG)
    ]
    assert any(f"$ hooke {verb}" in text for text in shown)


def test_pages_name_every_option() -> None:
    """A verb's page names each of its options, and no option that it does not have."""
    import typer.main

    from hooke.cli import app

    command = typer.main.get_command(app)
    verbs = command.commands  # type: ignore[attr-defined]
    assert set(verbs) == set(VERBS)
    for verb, whole in verbs.items():
        text = (ROOT / "docs" / f"{verb}.md").read_text(encoding="utf-8")
        params = [p for sub in [whole, *getattr(whole, "commands", {}).values()] for p in sub.params]
        has = {option for p in params for option in [*p.opts, *p.secondary_opts] if option.startswith("--")}
        table = {word for row in re.findall(r"^\| (`--.*?) \|", text, re.M) for word in re.findall(r"--[a-z-]+", row)}
        assert has - {"--help"} == table, f"docs/{verb}.md"
