"""`read_dictionary`: what a file or folder is, and its blocks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.folder import NAME, load_dictionary
from hooke.dictionaries.formats import (
    circuit_tracer,
    dictionary_learning,
    gemma_scope,
    llama_scope,
    qwen_scope,
    saelens,
    sparsify,
)
from hooke.dictionaries.formats.fold import named
from hooke.dictionaries.formats.tensors import config_of, names_in
from hooke.errors import HookeError
from hooke.files import is_dir, is_file, path_of
from hooke.model import Model

Reader = Callable[[Path, Model | None], tuple[Coder, ...]]
READERS: dict[str, Reader] = {
    "hooke": load_dictionary,
    "saelens": saelens.read_saelens,
    "sparsify": sparsify.read_sparsify,
    "circuit-tracer": circuit_tracer.read_circuit_tracer,
    "gemma-scope": gemma_scope.read_gemma_scope,
    "gemma-scope-2": gemma_scope.read_gemma_scope_2,
    "llama-scope": llama_scope.read_llama_scope,
    "llamascopium": llama_scope.read_llamascopium,
}
PICKLED: dict[str, Callable[[Path, Model | None, bool], tuple[Coder, ...]]] = {
    "dictionary-learning": dictionary_learning.read_dictionary_learning,
    "qwen-scope": qwen_scope.read_qwen_scope,
}
FORMATS = (*READERS, *PICKLED)
MANY = 1000  # folders below one that are looked into


def read_dictionary(
    path: str | Path, model: Model | None = None, *, format: str | None = None, allow_pickle: bool = False
) -> tuple[Coder, ...]:
    """The blocks of a dictionary that Hooke or another tool saved, at Hooke's sites and with its scales folded in.

    path: a file or folder as the tool leaves it; of SAELens and sparsify also a folder of such folders. model: the one
    to use it on, which moves it to its device and refuses what it has no site or width for; some files need it, since
    they name places that depend on the family or stand before a norm's gain. format: one of `FORMATS`, where it is not
    to be recognised. allow_pickle: read .pt and .pth files, by a loader that builds tensors and runs nothing.

    Raises HookeError, in one line, for everything that cannot be read, or not without guessing.
    """
    path = path_of(path)
    if not is_dir(path) and not is_file(path):
        raise HookeError(f"no file or folder {path}")
    kind = recognise(path) if format is None else format
    if kind not in FORMATS:
        raise HookeError(f"no format called {str(kind)[:80]!r}; there are {', '.join(FORMATS)}")
    if kind in PICKLED:
        return PICKLED[kind](path, model, allow_pickle)
    folders = _folders(path, kind)
    return tuple(block for folder in folders for block in READERS[kind](folder, model))


def recognise(path: Path) -> str:
    """Which of `FORMATS` a file or folder is in, by the names of its files and, where two share one, by its config.

    Raises HookeError for what is none of them, naming what was looked for.
    """
    if is_file(path):
        return _recognise_file(path)
    found = _recognise_folder(path)
    below = None if found else next((kind for folder in _below(path) if (kind := _recognise_folder(folder))), None)
    if found or below in ("saelens", "sparsify"):
        return str(found or below)
    hint = f"; {below} is read one folder at a time" if below else ""
    raise HookeError(
        f"{named(path)} is no dictionary that Hooke knows{hint}. Looked for {NAME}, cfg.json, config.yaml, "
        "config.json, hyperparams.json, params.npz, params.safetensors and layer0.sae.pt"
    )


def _recognise_file(path: Path) -> str:
    if path.name == NAME:
        return "hooke"
    if qwen_scope.FILE.fullmatch(path.name):
        return "qwen-scope"
    if path.suffix == ".npz":
        return "gemma-scope"
    if path.name == gemma_scope.PARAMS:
        return "gemma-scope-2"
    raise HookeError(f"{named(path)} is no file that Hooke reads by itself; name the folder that it lies in")


def _recognise_folder(path: Path) -> str | None:
    def has(*names: str) -> bool:
        return all(is_file(path / name) for name in names)

    single = (
        ("hooke", (NAME,)),
        ("saelens", (saelens.CONFIG, saelens.WEIGHTS)),
        ("sparsify", (sparsify.CONFIG, sparsify.WEIGHTS)),
        ("circuit-tracer", (circuit_tracer.CONFIG,)),
        ("llama-scope", (llama_scope.HYPER, llama_scope.FINAL)),
        ("llamascopium", (llama_scope.CONFIG, llama_scope.WEIGHTS)),
        ("dictionary-learning", (dictionary_learning.CONFIG, dictionary_learning.WEIGHTS)),
        ("gemma-scope", (gemma_scope.ARCHIVE,)),
        ("gemma-scope-2", (gemma_scope.PARAMS,)),
    )
    found = next((kind for kind, names in single if has(*names)), None)
    if found:
        return found
    names = names_in(path)
    if any(qwen_scope.FILE.fullmatch(name) for name in names):
        return "qwen-scope"
    layered = any(name.endswith(".safetensors") and gemma_scope.LAYERED.search(name) for name in names)
    jump = has(gemma_scope.CONFIG) and config_of(path / gemma_scope.CONFIG).get("architecture") == "jump_relu"
    return "gemma-scope-2" if layered and (jump or not has(gemma_scope.CONFIG)) else None


def _below(path: Path) -> list[Path]:
    """Folders in a folder, in the order of their numbers."""
    folders = [path / name for name in names_in(path) if is_dir(path / name)]
    if len(folders) > MANY:
        raise HookeError(f"{named(path)} has {len(folders)} folders; name the one that holds the dictionary")
    return sorted(folders, key=lambda folder: [int(x) if x.isdecimal() else x for x in _split(folder.name)])


def _split(name: str) -> list[str]:
    """A name as texts and numbers in turn, so that layer 10 comes after layer 9."""
    return re.split(r"(\d+)", name)


def _folders(path: Path, kind: str) -> list[Path]:
    """The folders to read: the path itself, or those below it that hold a dictionary each."""
    if is_file(path):
        return [path.parent if kind == "hooke" else path]
    own = {"saelens": (saelens.CONFIG, saelens.WEIGHTS), "sparsify": (sparsify.CONFIG, sparsify.WEIGHTS)}.get(kind)
    if own is None or is_file(path / own[0]):
        return [path]
    folders = [folder for folder in _below(path) if all(is_file(folder / name) for name in own)]
    if not folders:
        raise HookeError(f"{named(path)} has no {' and '.join(own)}, nor has a folder in it")
    return folders
