"""Where Hooke keeps models: folders made whole or not at all, checked on each use, and known by a hash.

A finished folder holds ``hooke.json``, written last and moved into place with the rest in one
rename, so a killed run leaves nothing that counts as complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hooke import __version__
from hooke.errors import HookeError, visible
from hooke.files import check_file, open_file, path_of, read_json, scratch, tensor_header, within, write_atomic

MANIFEST = "hooke.json"
ADAPTER_CONFIG = "adapter_config.json"
_FORMAT = 1  # raise it when all conversions change: older copies are then made again
GGUF_CONVERSION = 3  # the same for GGUF files of a person's own; earlier ones dropped what the file said
MAX_MANIFEST = 16 * 2**20
MAX_BESIDE = 256 * 2**20  # a tokenizer, a configuration, a template
READ = (".json", ".txt", ".model", ".jinja", ".tiktoken")


def hooke_home() -> Path:
    """Return the folder for Hooke's files: $HOOKE_HOME, else the person's cache folder. It may not exist yet."""
    if os.environ.get("HOOKE_HOME"):
        return path_of(os.environ["HOOKE_HOME"]).absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "hooke"


def models_folder() -> Path:
    """Return the folder whose folders are models."""
    return hooke_home() / "models"


# ---- making a folder --------------------------------------------------------------------------


Step = Callable[[str, float, "float | None"], None]  # what is being done, how far, of how much (None: unknown)


def install(
    target: Path,
    title: str,
    need_mb: int,
    build: Callable[[Path, Path, Step], dict[str, Any]],
    progress: bool,
) -> Path:
    """Build a folder beside its target and rename it into place, one process at a time; return the target.

    ``build(temp, out, step)`` fills ``out`` and returns what the manifest should say about it; it may
    use ``temp`` as it likes. Raises HookeError when there is no room or no right to write.
    """
    name, models = target.name, target.parent
    try:
        models.mkdir(parents=True, exist_ok=True)
        with _locked(models / f".{name}.lock", title):
            for stale in models.glob(f".tmp.{name}.*"):  # of earlier versions; we hold the lock
                shutil.rmtree(stale, ignore_errors=True)
            problem = check(target)
            if problem is None:  # another process finished while we waited
                return target
            if target.exists():
                _say(f"hooke: the copy of {name} is damaged ({problem}); making it again")
            if shutil.disk_usage(models).free < need_mb * 1_000_000:
                raise HookeError(
                    f"{name} needs about {need_mb} MB free in {models}: free some, or set HOOKE_HOME to another disk"
                )
            with scratch(models, of=name) as temp:
                out = temp / "model"
                out.mkdir()
                with _progress(progress, title) as step:
                    about = build(temp, out, step)
                    step(f"checking {name}", 0, None)
                    _write_manifest(out, {"name": name, **about})
                if target.exists():
                    os.replace(target, temp / "old")
                os.replace(out, target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HookeError(
            f"cannot write {name} in {models} ({reason}): make room there, or set HOOKE_HOME to a writable folder"
        ) from error
    return target


@contextlib.contextmanager
def _locked(path: Path, title: str) -> Iterator[None]:
    import filelock  # the system frees such a lock when its process dies, however it dies

    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        _say(f"hooke: waiting for another Hooke to finish {title}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _progress(show: bool, title: str) -> Iterator[Step]:
    """Yield ``step(text, done, total)``: a bar on a terminal, one line elsewhere, nothing when not wanted."""
    if not show or not sys.stderr.isatty():
        if show:
            _say(f"hooke: {title}, once")
        yield lambda text, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def step(text: str, done: float, total: float | None) -> None:
            if text not in tasks:
                for old in tasks.values():
                    bar.update(old, visible=False)
                tasks[text] = bar.add_task(text, total=total)
            bar.update(tasks[text], completed=done, total=total)

        yield step


def _say(line: str) -> None:
    print(visible(line), file=sys.stderr, flush=True)


# ---- is it whole -------------------------------------------------------------------------------


def check(folder: str | Path, *, full: bool = False) -> str | None:
    """Return None when a folder that Hooke made is complete and intact, else one line saying what is wrong.

    The default looks at sizes and headers only and takes milliseconds; ``full`` reads every byte again.
    """
    folder = Path(folder)
    try:
        manifest = read_json(folder / MANIFEST, MAX_MANIFEST)
        if manifest["format"] != _FORMAT:
            return "made by another version of Hooke"
        if "gguf_sha256" in manifest and manifest.get("conversion") != GGUF_CONVERSION:
            return "made by another version of Hooke"
        for name, entry in manifest["files"].items():
            file = within(folder / name, folder)
            size = file.stat().st_size
            if size != entry["size"]:
                return f"{name} has {size:,} bytes instead of {entry['size']:,}"
            if name.endswith(".safetensors") and (problem := _file_problem(file)):
                return problem
            if full and hash_files([file]) != entry["sha256"]:
                return f"the contents of {name} have changed"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except HookeError as error:
        return f"{MANIFEST} is missing" if not os.path.lexists(folder / MANIFEST) else str(error)
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is damaged"
    return None


def _file_problem(file: Path) -> str | None:
    """Say what is wrong with a safetensors file's header or length, reading the header only."""
    if not os.path.lexists(file):
        return f"{file.name} is missing"
    try:
        with open_file(file, folder=file.parent) as data:
            tensor_header(file.name, data)
    except HookeError as error:
        return str(error)
    return None


def _write_manifest(folder: Path, about: dict[str, Any]) -> None:
    files = {}
    mode = stat.S_IMODE((folder / "config.json").stat().st_mode)
    for path in sorted(folder.iterdir()):
        path.chmod(mode)  # safetensors writes files that only their owner can read; a shared cache needs more
        info = path.stat()
        files[path.name] = {"size": info.st_size, "mtime_ns": info.st_mtime_ns, "sha256": hash_files([path])}
    weights = weight_files(folder)
    one = files[weights[0].name]["sha256"] if len(weights) == 1 else hash_files(weights)
    manifest = {"format": _FORMAT, **about, "made_by": f"hooke {__version__}", "weights_hash": one, "files": files}
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def require_loadable(folder: Path) -> None:
    """Raise HookeError, saying what is missing, unless the folder holds config.json and whole safetensors files."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise HookeError(f"cannot read the folder {folder} ({error.strerror}): check the path") from None
    names = [path.name for path in entries]
    pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    ggufs = [name for name in names if name.lower().endswith(".gguf")]
    if "config.json" not in names:
        if ggufs:
            raise HookeError(f"{folder} holds GGUF: give the file itself, {folder / ggufs[0]}")
        if "adapter_config.json" in names:
            raise HookeError(f"{folder} holds an adapter, not a whole model; hooke.load merges it into its base")
        raise HookeError(f"{folder} has no config.json: give the folder that save_pretrained wrote")
    for path in entries:  # transformers opens them by name
        if path.name.endswith(READ) and not path.is_dir():
            check_file(path, MAX_BESIDE, folder=folder)
    files = weight_files(folder)
    if not files:
        if pickles:
            raise HookeError(
                f"{folder} has only pickled weights ({pickles[0]}), which can run code and are refused:"
                " save it again with save_pretrained, which writes safetensors"
            )
        raise HookeError(f"{folder} has no *.safetensors: copy the model's weights there")
    for file in files:
        problem = _file_problem(file)
        if problem:
            raise HookeError(f"{folder}: {problem}; copy the model again")


# ---- the weights hash --------------------------------------------------------------------------


def weights_hash(folder: str | Path) -> str:
    """Return the sha256 over a model folder's safetensors files, in the order of their names.

    Hooke's own folders carry it; for any other it is computed once and kept in ``<home>/hashes.json``
    under the files' paths, sizes and times. Nothing is written into the folder. Raises HookeError
    when there are no safetensors.
    """
    folder = path_of(folder).absolute()
    require_loadable(folder)
    files = weight_files(folder)
    with contextlib.suppress(HookeError, OSError, ValueError, KeyError, TypeError):
        manifest = read_json(folder / MANIFEST, MAX_MANIFEST)
        # a copied folder may have been trained on since: only untouched files keep their recorded hash
        known = [(manifest["files"][file.name][key]) for file in files for key in ("size", "mtime_ns")]
        if known == [value for file in files for value in _stamp(file)]:
            return str(manifest["weights_hash"])
    return cached_hash(files)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers would load, in the order of their names."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists():
        names = {"model.safetensors"}
    elif index.exists():
        said = read_json(index, MAX_MANIFEST, folder=folder)
        listed = said.get("weight_map") if isinstance(said, dict) else None
        placed: list[Any] = list(listed.values()) if isinstance(listed, dict) else [None]
        if not all(isinstance(name, str) and 0 < len(name) < 256 for name in placed):
            raise HookeError(f"{index} cannot be read: it does not place weights in files; copy the model again")
        names = set(placed)
        for name in names:
            within(folder / name, folder)
    else:
        names = {path.name for path in folder.glob("*.safetensors")}
    if (folder / "adapter_config.json").exists():  # an adapter beside a model is loaded with it
        names |= {path.name for path in folder.glob("adapter_model*.safetensors")}
    return [folder / name for name in sorted(names)]


def _stamp(file: Path) -> tuple[int, int]:
    info = file.stat()
    return info.st_size, info.st_mtime_ns


def hash_files(files: list[Path]) -> str:
    """Return the sha256 over the bytes of the files, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with open_file(path) as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def cached_hash(files: list[Path]) -> str:
    """Hash files, remembering the answer; a home that cannot be written only costs the time."""
    cache = hooke_home() / "hashes.json"
    key = "\n".join(str(file) for file in files)
    stamp = [value for file in files for value in _stamp(file)]
    entry = _read_cache(cache).get(key)
    if isinstance(entry, list) and len(entry) == 2 and entry[0] == stamp:
        return str(entry[1])
    answer = hash_files(files)
    with contextlib.suppress(HookeError):
        # read again: another process may have added to it while we hashed
        entries = {**_read_cache(cache), key: [stamp, answer]}
        write_atomic(cache, json.dumps(entries, indent=1).encode(errors="replace"))
    return answer


def _read_cache(cache: Path) -> dict[str, Any]:
    try:
        entries = read_json(cache, MAX_MANIFEST)
    except HookeError:
        return {}
    return entries if isinstance(entries, dict) else {}
