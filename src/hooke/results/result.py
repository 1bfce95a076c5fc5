"""`Result`: the versioned envelope of everything that a method returns.

It knows its own content id, the ids of what it was made from, and its claims with their evidence, so
that a report can be rendered from claims alone. JSON on disk, tensors beside it as safetensors, never
pickle. No torch in here: pages and notebooks read results without it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from hooke.arguments import checked
from hooke.errors import HookeError

VERSION = 1
MAX_JSON_BYTES = 256 * 2**20  # sizes are bounded before work starts
Verdict = Literal["tested", "refuted", "untested"]


class Claim(BaseModel):
    """One sentence that a result asserts, how it fared, and the ids that carry the evidence."""

    model_config = ConfigDict(extra="forbid")
    text: str
    verdict: Verdict = "untested"
    evidence: list[str] = Field(default_factory=list, description="ids of nodes, interventions or results")


class Result(BaseModel):
    """What a method returns. `payload` is the method's own; `tensors` are saved beside the JSON."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")
    kind: str = Field(description="the verb that made it, e.g. trace")
    version: int = VERSION
    id: str = ""
    parents: list[str] = Field(default_factory=list, description="ids of the results it was made from")
    arguments: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    status: Literal["complete", "partial", "failed"] = "complete"
    seconds: dict[str, float] = Field(default_factory=dict, description="by stage, and total")
    claims: list[Claim] = Field(default_factory=list)
    payload: dict[str, Any] = Field(default_factory=dict)
    _tensors: dict[str, np.ndarray] = PrivateAttr(default_factory=dict)

    @classmethod
    def make(cls, kind: str, *, tensors: Mapping[str, np.ndarray] | None = None, **fields: Any) -> Result:
        """Build a result, attach its tensors and compute its content id."""
        result = cls(kind=kind, **fields)
        result._tensors = dict(tensors or {})
        result.id = result.content_id()
        return result

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays that are too large for JSON, by name."""
        return self._tensors

    def content_id(self) -> str:
        """The hash of everything but the id itself, the timings, and how many threads were free (equal work gives an
        equal id)."""
        left_out: Any = {"id": True, "seconds": True, "provenance": {"threads"}}
        digest = hashlib.sha256(self.model_dump_json(exclude=left_out).encode())
        for name in sorted(self._tensors):
            array = np.ascontiguousarray(self._tensors[name])
            digest.update(f"{name}{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:32]

    def to_json(self, indent: int | None = None) -> str:
        """The result as JSON text, without its tensors; a number that is not finite becomes null."""
        return self.model_dump_json(indent=indent)

    def save(self, path: str | Path) -> Path:
        """Write `path` (JSON) and, if there are tensors, `path` with the suffix .safetensors; atomic.

        Raises HookeError if the folder cannot be written.
        """
        from safetensors.numpy import save

        path = Path(path)
        if self._tensors:
            tensors = {name: np.ascontiguousarray(array) for name, array in self._tensors.items()}
            write_atomic(tensor_path(path), save(tensors, metadata={"result": self.id}))
        write_atomic(path, self.to_json().encode())
        return path


def tensor_path(path: Path) -> Path:
    """Where the tensors of the result at `path` lie."""
    return path.with_suffix(".safetensors")


@checked
def load_result(path: str | Path) -> Result:
    """Read a saved result and its tensors; a tensor file of another result is left alone.

    Raises HookeError, in one line, for a file that is missing, too large, not a result, damaged, or
    from a newer version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    data = read_json(path)
    if not isinstance(data, dict) or "kind" not in data or "payload" not in data:
        raise HookeError(f"{path} is not a Hooke result (no 'kind' and 'payload' in it)")
    version = data.get("version")
    if isinstance(version, int) and version > VERSION:
        raise HookeError(f"{path} was written by a newer Hooke (version {version}, this one reads {VERSION}); upgrade")
    try:
        result = Result.model_validate(data)
    except ValidationError as error:
        raise HookeError(f"{path} is not a valid result: {first_fault(error)}") from None
    beside = tensor_path(path)
    if beside.exists():
        try:
            with safe_open(beside, "numpy") as file:
                if (file.metadata() or {}).get("result") == result.id:
                    result._tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise HookeError(f"{beside} is damaged ({error}); make the result again") from None
    return result


def first_fault(error: ValidationError) -> str:
    """The first thing that a schema finds wrong, in one line: where, and what."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a file, no more of it than may be there: a device or a pipe has no size that could be asked."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = b"" if size > most else file.read(most + 1)
    except FileNotFoundError:
        raise HookeError(f"no file {path}") from None
    except (OSError, ValueError) as error:
        raise HookeError(f"cannot read {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None
    if max(size, len(found)) > most:
        much = f"{size >> 20} MB" if size >= 2**20 else f"{size:,} bytes" if size > most else "too large"
        limit = f"{most >> 20} MB" if most >= 2**20 else f"{most:,} bytes"
        raise HookeError(f"{path} is {much}; files over {limit} are not read")
    return found


def read_text(path: Path, most: int) -> str:
    """The same as text in UTF-8."""
    try:
        return read_bounded(path, most).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise HookeError(f"{path} is not text in UTF-8") from None


def read_json(path: Path, most: int | None = None) -> Any:
    """Parse a JSON file of bounded size; every failure is one clear line."""
    data = read_bounded(path, MAX_JSON_BYTES if most is None else most)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise HookeError(f"{path} is not JSON") from None


def write_atomic(path: Path, data: bytes) -> None:
    """Write under a temporary name beside the target, then rename: a killed run leaves no half file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise HookeError(f"cannot write to {path.parent}: {error.strerror}; choose another place with --out") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise HookeError(f"cannot write {path}: {error.strerror}") from None
        raise
