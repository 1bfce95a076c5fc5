"""A folder for shards: on this machine, or behind any address that fsspec knows. Files appear in it whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hooke.errors import HookeError
from hooke.files import path_of, replacing, scratch, temporary


@dataclass(frozen=True)
class Place:
    """A folder. fs: what fsspec makes of its address; None for one on this machine."""

    path: str
    fs: Any = None

    @classmethod
    def of(cls, folder: str | Path | Place) -> Place:
        """The place that a path or an address (s3://…, memory://…) means. Raises HookeError if nothing here knows
        such addresses. No file is touched."""
        if isinstance(folder, Place):
            return folder
        text = str(folder)
        if text.startswith("file://"):
            text = text.removeprefix("file://")
        if "://" not in text:
            path = path_of(text)
            if path.exists() and not path.is_dir():
                raise HookeError(f"{path} is a file; give a folder for the shards")
            return cls(str(path.absolute()))
        from fsspec.core import url_to_fs

        try:
            fs, path = url_to_fs(text)
        except (ValueError, ImportError, OSError) as error:
            raise HookeError(f"cannot use {text[:200]}: {_line(error)}") from None
        return cls(path, fs)

    def __str__(self) -> str:
        return self.path if self.fs is None else self.fs.unstrip_protocol(self.path)

    def sizes(self) -> dict[str, int]:
        """The names of the files in it, with their bytes; none if it is not there."""
        try:
            if self.fs is None:
                with os.scandir(self.path) as entries:
                    return {entry.name: entry.stat().st_size for entry in entries}
            listed = self.fs.ls(self.path, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # each kind of storage has its own
            raise HookeError(f"cannot look into {self}: {_line(error)}") from None
        return {str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]: int(entry.get("size") or 0) for entry in listed}

    def free(self) -> int | None:
        """Bytes that are free there, as far as that can be known."""
        if self.fs is not None:
            return None
        near = next(path for path in (Path(self.path), *Path(self.path).parents) if path.exists())
        return shutil.disk_usage(near).free

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write to, whose file is then in the place under this name: whole, or not at all."""
        if self.fs is None:
            with replacing(Path(self.path, name)) as temp:
                yield temp
            return
        there = f"{self.path}/{temporary()}"
        with self._beside(f"cannot write {self}/{name}") as folder:
            yield folder / name
            try:
                self.fs.makedirs(self.path, exist_ok=True)
                self.fs.put_file(str(folder / name), there)
                self.fs.mv(there, f"{self.path}/{name}")
            except BaseException:
                with suppress(Exception):
                    self.fs.rm_file(there)
                raise

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """A path on this machine that holds the file of this name. Raises HookeError if there is none."""
        if self.fs is None:
            yield Path(self.path, name)
            return
        with self._beside(f"cannot read {self}/{name}") as folder:
            try:
                self.fs.get_file(f"{self.path}/{name}", str(folder / name))
            except FileNotFoundError:
                raise HookeError(f"no file {self}/{name}") from None
            yield folder / name

    @contextmanager
    def _beside(self, trouble: str) -> Iterator[Path]:
        """A folder on this machine for what comes and goes; whatever fails on the way, in the words of its storage, is
        a HookeError that begins with `trouble`."""
        try:
            with scratch(Path(tempfile.gettempdir())) as folder:
                yield folder
        except HookeError:
            raise
        except Exception as error:  # each kind of storage has its own
            raise HookeError(f"{trouble}: {_line(error)}") from None


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
