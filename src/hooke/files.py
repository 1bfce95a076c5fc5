"""The one door for files. What is read is a regular file of bounded size, inside its folder; what is written appears
whole or not at all.

Nothing is read from pipes, devices, sockets and folders, which could block for ever or have no end; a link does not
lead out of the folder that names it; sizes are known before memory is taken. No numpy and no torch in here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from hooke.errors import HookeError

MAX_JSON_BYTES = 256 * 2**20  # sizes are bounded before work starts
MAX_PARSED = 2**30  # bytes that the values of a JSON file may take in memory, estimated before it is parsed
MAX_DEPTH = 100  # of values inside values; serialisers fail beyond some hundreds
MAX_HEADER = 100_000_000  # bytes of a safetensors header, as its own library has it
HOLES = 64 * 2**20  # from this size on, a file of which almost nothing is on the disk is refused
HOLLOW = 64  # "almost nothing": the size over this
DAY = 86_400.0
_OURS = re.compile(r"\.hooke-tmp-[0-9a-f]{16}")  # names that nobody else makes
_swept: dict[str, float] = {}
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


# ---- paths -------------------------------------------------------------------------------------


def path_of(text: str | Path) -> Path:
    """What a person typed as a path, ~ expanded. Raises HookeError for what cannot be one: a person who is not there,
    a name that is too long, a zero byte."""
    path = Path(text)
    try:
        path = path.expanduser()
        os.lstat(path)
    except FileNotFoundError:
        pass
    except (RuntimeError, ValueError) as error:
        raise HookeError(f"{_short(text)} is no path: {error}") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise HookeError(f"{_short(text)} is no path: {error.strerror}") from None
    return path


def is_file(path: str | Path) -> bool:
    """Whether a regular file is there; what cannot be a path is not."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_dir(path: str | Path) -> bool:
    """Whether a folder is there; what cannot be a path is not."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def within(path: str | Path, folder: str | Path) -> Path:
    """The real path of a file that has to lie in a folder, wherever its name and links lead.

    The files of a snapshot in the hub's cache are links to the blobs beside it, and those are welcome.
    Raises HookeError for a path that leaves the folder.
    """
    try:
        real, base = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    except (OSError, ValueError) as error:
        raise HookeError(f"{_short(path)} is no path: {error}") from None
    if base not in real.parents and not (base.parent.name == "snapshots" and base.parents[1] / "blobs" in real.parents):
        raise HookeError(f"{_short(path)} leads out of its folder, to {_short(real)}; put the file itself there")
    return real


# ---- reading -----------------------------------------------------------------------------------


def open_file(path: str | Path, most: int | None = None, *, folder: str | Path | None = None) -> BinaryIO:
    """A regular file, open for reading in binary. most: bytes it may have. folder: where it has to lie, links followed.

    Raises HookeError, in one line and without blocking, for everything else. What is checked is what is open: the
    name may mean another file a moment later.
    """
    where: str | Path = path if folder is None else within(path, folder)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    if folder is not None:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        _regular(path, os.stat(where), most)  # a device is not even opened
        handle = os.open(where, flags)
    except FileNotFoundError:
        raise HookeError(f"no file {_short(path)}") from None
    except (OSError, ValueError) as error:
        raise HookeError(f"cannot read {_short(path)}: {getattr(error, 'strerror', None) or error}") from None
    try:
        _regular(path, os.fstat(handle), most)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_file(path: str | Path, most: int | None = None, *, folder: str | Path | None = None) -> int:
    """The size of a file that `open_file` would open, for libraries that open by name. Raises HookeError as it does."""
    with open_file(path, most, folder=folder) as file:
        return os.fstat(file.fileno()).st_size


def _regular(path: str | Path, info: os.stat_result, most: int | None) -> None:
    for test, name in _KINDS:
        if test(info.st_mode):
            raise HookeError(f"{_short(path)} is {name}, not a file")
    size = info.st_size
    if most is not None and size > most:
        raise HookeError(f"{_short(path)} is {_bytes(size)}; files over {_bytes(most)} are not read")
    blocks = getattr(info, "st_blocks", 0)
    if size > HOLES and 0 < blocks * 512 < size // HOLLOW:
        raise HookeError(f"{_short(path)} says it has {_bytes(size)} and is almost all holes; copy the file again")


def read_bytes(path: str | Path, most: int, *, folder: str | Path | None = None) -> bytes:
    """The bytes of a file. Raises HookeError if it has more than `most`, or is no regular file."""
    with open_file(path, most, folder=folder) as file:
        try:
            found = file.read(most + 1) or b""  # no more, though it may grow meanwhile
        except OSError as error:
            raise HookeError(f"cannot read {_short(path)}: {error.strerror}") from None
    if len(found) > most:
        raise HookeError(f"{_short(path)} is too large; files over {_bytes(most)} are not read")
    return found


def read_text(path: str | Path, most: int, *, folder: str | Path | None = None) -> str:
    """The same as text in UTF-8."""
    try:
        return read_bytes(path, most, folder=folder).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise HookeError(f"{_short(path)} is not text in UTF-8") from None


def read_json(
    path: str | Path, most: int | None = None, *, folder: str | Path | None = None, infinite: bool = False
) -> Any:
    """Parse a JSON file of bounded size; every failure is one clear line."""
    data = read_bytes(path, MAX_JSON_BYTES if most is None else most, folder=folder)
    return parse_json(data, _short(path), infinite=infinite)


def parse_json(data: bytes, where: str, *, infinite: bool = False) -> Any:
    """The value of a JSON text, `where` being its name in a message. Finite numbers of at most 64 bits, keys that stand
    once, bounded depth and memory; text becomes Unicode.

    infinite: take NaN and Infinity too, which Python writes. Raises HookeError for everything else.
    """
    wide = 1 if data.isascii() else 4 if re.search(rb"[\xf0-\xff]", data) else 2
    containers = 240 * data.count(b"{") + 72 * data.count(b"[")
    if containers + 60 * data.count(b",") + (2 + wide) * len(data) > MAX_PARSED:
        raise HookeError(f"{where} holds too many values to be read; files over {_bytes(MAX_PARSED)} in memory are not")
    try:
        value = json.loads(
            data,
            object_pairs_hook=_object,
            parse_constant=float if infinite else _constant,
            parse_float=_float,
            parse_int=_int,
        )
    except _Unfit as error:
        raise HookeError(f"{where} is not JSON that can be read: {error}") from None
    except (ValueError, RecursionError):
        raise HookeError(f"{where} is not JSON") from None
    if not shallow(value):
        raise HookeError(f"{where} nests too deeply: more than {MAX_DEPTH} values inside each other")
    return _text(value) if re.search(rb"\\u[dD][89a-fA-F]", data) else value


class _Unfit(Exception):
    """What is JSON by its grammar, and no value that could be kept."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Unfit(f"{_short(next(key for key in keys if keys.count(key) > 1))!r} stands there twice")
    return found


def _constant(text: str) -> Any:
    raise _Unfit(f"{text} is no number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Unfit(f"{text[:40]} is too large for a number")
    return value


def _int(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) >= 2**64:
        raise _Unfit(f"{text[:40]} is too large for a whole number")
    return value


def _text(value: Any) -> Any:
    """The value with halves of surrogate pairs, which are no text, as replacement characters; in keys too."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_text(key): _text(x) for key, x in value.items()}
    return [_text(x) for x in value] if isinstance(value, list) else value


def shallow(value: Any, most: int = MAX_DEPTH) -> bool:
    """Whether values nest at most so deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        below: list[Any] = []
        for one in level:
            for x in one.values() if isinstance(one, dict) else one:
                if isinstance(x, dict | list):
                    below.append(x)
        level = below
        if not level:
            return True
    return False


def tensor_header(path: str | Path, file: BinaryIO) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """What the header of an open safetensors file says: its metadata, and {dtype, shape, data_offsets} by tensor; the
    file is left where the data begins.

    Raises HookeError if tensors do not fill the file exactly, one behind the other, each with the bytes that its shape
    takes: so nothing larger than the file is ever allocated.
    """
    bad = HookeError(f"{_short(path)} is not whole safetensors")
    size = os.fstat(file.fileno()).st_size
    first = file.read(8)
    if len(first) < 8 or (length := struct.unpack("<Q", first)[0]) > min(size - 8, MAX_HEADER):
        raise bad
    header = parse_json(file.read(length), f"the header of {_short(path)}")
    if not isinstance(header, dict):
        raise bad
    about = header.pop("__metadata__", None) or {}
    if not isinstance(about, dict) or not all(isinstance(text, str) for text in about.values()):
        raise bad
    end = 0
    try:
        for entry in sorted(header.values(), key=lambda entry: tuple(entry["data_offsets"])):
            start, stop = entry["data_offsets"]
            bits, shape = BITS[entry["dtype"]], entry["shape"]
            whole = len(shape) <= 64 and all(type(n) is int and 0 <= n < 2**63 for n in (start, stop, *shape))
            if not whole or start != end or (stop - start) * 8 != bits * math.prod(shape):
                raise bad
            end = stop
    except (KeyError, TypeError, ValueError):
        raise bad from None
    if 8 + length + end != size:
        raise HookeError(f"{_short(path)} is cut short or damaged")
    return about, header


# bits of one number
# fmt: off
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}
# fmt: on


# ---- writing -----------------------------------------------------------------------------------


def write_atomic(path: Path, data: bytes) -> None:
    """Write under a temporary name beside the target, then rename: a killed run leaves no half file."""
    with replacing(path) as temp, temp.open("xb") as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside the target to write a file to, which then takes the target's place. Raises HookeError if the folder
    cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
    except OSError as error:
        raise HookeError(f"cannot write to {path.parent}: {error.strerror}; choose another place with --out") from None
    temp = path.parent / temporary()
    try:
        yield temp
        os.chmod(temp, 0o644)
        os.replace(temp, path)
    except OSError as error:
        hint = "" if temp.exists() else "; choose another place with --out"
        raise HookeError(f"cannot write {path}: {error.strerror}{hint}") from None
    finally:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch(parent: Path, of: str | None = None) -> Iterator[Path]:
    """A new folder for what is put together in `parent`; it is gone afterwards. OSError if there is no room.

    of: a name whose lock the caller holds: what a killed run left of it goes at once.
    """
    sweep(parent)
    temp = parent / temporary(of)
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir(mode=0o700)
    try:
        yield temp
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def temporary(of: str | None = None) -> str:
    """A name for a file or folder that is not finished; `sweep` knows it again."""
    digits = secrets.token_hex(8) if of is None else hashlib.sha256(of.encode(errors="replace")).hexdigest()[:16]
    return f".hooke-tmp-{digits}"


def sweep(folder: Path) -> None:
    """Remove what killed runs left in a folder: ours by its name, and untouched for a day. Once an hour at most."""
    key, now = os.path.abspath(folder), time.monotonic()
    if now - _swept.get(key, -math.inf) < 3600:
        return
    _swept[key] = now
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if _OURS.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                if time.time() - _touched(entry) < DAY:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def _touched(entry: os.DirEntry[str]) -> float:
    """When a file, or anything in a folder, was last changed: a long download touches what lies deep inside."""
    newest = entry.stat(follow_symlinks=False).st_mtime
    if entry.is_dir(follow_symlinks=False):
        for parent, folders, names in os.walk(entry.path):
            for name in (*folders, *names):
                with contextlib.suppress(OSError):
                    newest = max(newest, os.lstat(os.path.join(parent, name)).st_mtime)
    return newest


def _bytes(size: int) -> str:
    return f"{size >> 20} MB" if size >= 2**20 else f"{size:,} bytes"


def _short(path: object) -> str:
    """A path as it stands in a message."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:200]}…{text[-60:]}"
