"""The house rules of DESIGN sections 2, 9 and 10, checked on the syntax trees."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hooke
from hooke.results.payloads import KINDS
from house import FILES, SOURCE, TREES, kinds_made

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 500
MAX_FUNCTION = 80  # lines, from `def` to the last one
MAX_PARAMETERS = 8  # but of a verb and of its command, whose parameters are what a person may ask for

# Functions that are longer, or take more, until they are split: file and name.
ALLOWED = {"model/attend.py _attention"}  # its signature is that of transformers

# Top to bottom: a room imports only from rooms above it, and from itself.
ROOMS = (
    "errors",
    "kernels",
    "threads",
    "arguments",
    "files",
    "sites",
    "results",
    "data",
    "model",
    "harvest",
    "dictionaries",
    "features",
    "methods",
    "truth",
    "safety",
    "viewer",
    "server",
    "tables",
    "terminal",
    "cli",
)
NO_TORCH = (
    "errors",
    "arguments",
    "files",
    "sites",
    "results",
    "viewer",
)  # rooms that never import torch, not even later

# Names by which other libraries call places in a model. Only dictionaries/formats may know them.
FOREIGN = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_mlp_out",
    "hook_mlp_in",
    "hook_attn_out",
    "hook_embed",
    "hook_normalized",
    "ln2.hook",
    "ln1.hook",
    "mlp.hook_",
    "attn.hook_",
    "hook_z",
)


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def room(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imported(tree: ast.AST, path: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of everything a file imports, wherever the import stands."""
    found = []
    package = ("hooke", *path.relative_to(SOURCE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                kept = package[: len(package) - node.level + 1]
                base = ".".join([*kept, *([base] if base else [])])
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def test_every_room_has_its_place() -> None:
    rooms = {room(path) for path in FILES} - {"__init__", "__main__"}
    assert rooms <= set(ROOMS), f"no place in the order of rooms for {rooms - set(ROOMS)}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_room_imports_only_from_rooms_above_it(path: Path) -> None:
    here = room(path)
    if here in ("__init__", "__main__"):
        return  # the door: it opens on every room
    allowed = ROOMS[: ROOMS.index(here) + 1]
    for line, dotted in imported(TREES[path], path):
        parts = dotted.split(".")
        if parts[0] != "hooke":
            continue
        if len(parts) == 1:  # `import hooke`: only the command line, which stands below all rooms
            assert here == "cli", f"{name(path)}:{line} imports the whole of hooke"
        elif parts[1] != "__version__":
            assert parts[1] in allowed, f"{name(path)}:{line} imports {dotted}, which is below {here}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_rooms_that_pages_use_never_import_torch(path: Path) -> None:
    if room(path) in NO_TORCH:
        heavy = {dotted.split(".")[0] for _, dotted in imported(TREES[path], path)} & {"torch", "transformers"}
        assert not heavy, f"{name(path)} imports {heavy}"


@pytest.mark.parametrize(
    "module",
    [
        "hooke",
        "hooke.sites",
        "hooke.results",
        "hooke.results.formats.graph_file",
        "hooke.viewer",
        "hooke.viewer.notebook",
        "hooke.server.app",
        "hooke.server.serve",
        "hooke.cli",
    ],
)
def test_importing_does_not_import_torch(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps([m for m in ('torch', 'transformers') if m in sys.modules]))"
    places = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": places}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_tests_lie_as_what_they_test() -> None:
    """A folder of tests is a room or a package in one; what is of no one room lies above."""
    for folder in {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}:
        assert (SOURCE / folder).is_dir(), folder


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{name(path)} has {lines} lines; split it"


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> list[Function]:
    """All of a file, those inside others too."""
    return [node for node in ast.walk(TREES[path]) if isinstance(node, Function)]


def is_public(function: Function) -> bool:
    """Whether it is a verb or a command: `@verb`, `@checked`, `@app.command()`."""
    bare = (d.func if isinstance(d, ast.Call) else d for d in function.decorator_list)
    return any(ast.unparse(d).rsplit(".", 1)[-1] in ("verb", "checked", "command") for d in bare)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_functions_stay_short(path: Path) -> None:
    for function in functions(path):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= MAX_FUNCTION, f"{name(path)}:{function.lineno} {function.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_functions_take_few_parameters(path: Path) -> None:
    for function in functions(path):
        given = function.args
        count = len([a for a in (*given.posonlyargs, *given.args, *given.kwonlyargs) if a.arg not in ("self", "cls")])
        known = is_public(function) or f"{name(path)} {function.name}" in ALLOWED
        assert known or count <= MAX_PARAMETERS, f"{name(path)}:{function.lineno} {function.name} takes {count}"


def module(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(("hooke", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def needed(path: Path, modules: set[str]) -> set[str]:
    """The modules that a file imports, wherever the import stands, but for types alone; a package that is only the way
    to one of its files does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for _, dotted in imported(tree, path):
        while dotted not in modules and "." in dotted:
            dotted = dotted.rpartition(".")[0]
        if dotted in modules and dotted != "hooke":  # the door opens late, name by name
            found.add(dotted)
    return found - {module(path)}


def test_no_file_needs_itself_on_the_way() -> None:
    """No circles of imports, not even of late ones."""
    modules = {module(path) for path in FILES}
    left = {module(path): needed(path, modules) for path in FILES}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    circle = {name: sorted(needs & left.keys()) for name, needs in left.items()}
    assert not circle, f"a circle of imports is among {circle}"


@pytest.mark.parametrize(
    "first",
    ["hooke.methods.intervene", "hooke.methods.circuit.scores", "hooke.methods.probe.judge", "hooke.truth.labels"],
)
def test_a_file_of_a_package_can_be_imported_first(first: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {first}"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_what_hooke_exports() -> None:
    assert sorted(hooke.__all__) == [
        "Claim",
        "Edit",
        "Graph",
        "HookeError",
        "Model",
        "Node",
        "Result",
        "Site",
        "ask",
        "assess",
        "attribute",
        "catalogue",
        "circuit",
        "doctor",
        "evaluate",
        "find_features",
        "intervene",
        "lens",
        "load",
        "load_result",
        "patch",
        "probe",
        "probe_test",
        "scoreboard",
        "tasks",
        "trace",
        "train",
        "view",
        "visualise",
    ]
    for export in hooke.__all__:
        assert getattr(hooke, export).__name__ == export
        assert export in dir(hooke)
    with pytest.raises(AttributeError, match="no attribute"):
        _ = hooke.nothing_of_the_kind


def test_lazy_names_are_the_typed_ones() -> None:
    """What type checkers see in `__init__` is what is loaded when the name is used."""
    tree = TREES[SOURCE / "__init__.py"]
    block = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    typed = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == set(hooke.__all__)


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_from_outside_can_run_code(path: Path) -> None:
    modules = {dotted.split(".")[0] for _, dotted in imported(TREES[path], path)}
    assert not modules & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Dict):  # options that are passed on with **
            for key, setting in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "trust_remote_code":
                    assert isinstance(setting, ast.Constant) and setting.value is False
        if not isinstance(node, ast.Call):
            continue
        where = f"{name(path)}:{node.lineno}"
        assert called(node) not in ("eval", "exec", "os.system"), f"{where} calls {called(node)}"
        if called(node) == "torch.load":  # published dictionaries in pickles: weights alone, and only if asked for
            safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            assert safe and name(path) == "dictionaries/formats/pickles.py", f"{where} unpickles"
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            assert not (keyword.arg == "trust_remote_code" and value is not False), f"{where} trusts remote code"
            assert not (keyword.arg == "allow_pickle" and value is not False), f"{where} allows pickles"
            assert not (keyword.arg == "shell" and value is not False), f"{where} uses a shell"


# our own data, and what the system says of itself
READERS = (
    "files.py",
    "kernels.py",
    "threads.py",
    "viewer/html.py",
    "viewer/gallery.py",
    "data/labelled/benign.py",
    "data/labelled/statements/reading.py",
)
READERS += ("model/convert.py", "model/zoo.py", "truth/scoreboard.py")


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_are_opened_through_the_door(path: Path) -> None:
    """`files.py` reads what is regular, bounded and inside its folder, and makes the temporary names that it sweeps."""
    if name(path) in READERS:
        return
    for node in ast.walk(TREES[path]):
        if not isinstance(node, ast.Call):
            continue
        short = called(node).rsplit(".", 1)[-1]
        first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        where = f"{name(path)}:{node.lineno} calls {called(node)}; see hooke.files"
        assert short not in ("expanduser", "mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryDirectory"), where
        assert called(node) not in ("open", "np.load", "numpy.load", "load_file"), where
        assert not (short == "open" and isinstance(first, str) and first.startswith("r")), where
        path_like = short in ("read_text", "read_bytes") and isinstance(node.func, ast.Attribute)
        assert not path_like or called(node).startswith("files."), where


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("path", FILES, ids=name)
def test_foreign_hook_names_live_in_formats(path: Path) -> None:
    if path.is_relative_to(SOURCE / "dictionaries" / "formats"):
        return
    for line, text in texts(TREES[path]):
        for word in FOREIGN:
            assert word not in text, f"{name(path)}:{line} knows the foreign name {word}"


def test_the_map_of_the_house_is_complete() -> None:
    """CONTRIBUTING names every room that there is, in order."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    there = [r for r in ROOMS if (SOURCE / r).is_dir() or (SOURCE / f"{r}.py").is_file()]
    places = []
    for r in there:
        written = f"`{r}.py`" if (SOURCE / f"{r}.py").is_file() else f"`{r}/`"
        row = f"| {written}"
        assert row in text, f"CONTRIBUTING.md has no row for {written}"
        places.append(text.index(row))
    assert places == sorted(places)


def test_every_kind_of_result_has_a_model_and_every_model_a_kind() -> None:
    made = {kind for path in FILES for kind in kinds_made(TREES[path])}
    assert made == set(KINDS)
