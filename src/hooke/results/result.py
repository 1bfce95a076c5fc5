"""`Result`: the versioned envelope of everything that a method returns.

It knows its own content id, the ids of what it was made from, and its claims with their evidence, so
that a report can be rendered from claims alone. JSON on disk, tensors beside it as safetensors, never
pickle. No torch in here: pages and notebooks read results without it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from hooke.arguments import checked
from hooke.errors import HookeError
from hooke.files import read_json, write_atomic
from hooke.results.finite import check_finite
from hooke.results.identity import left_out
from hooke.results.tensors import read_tensors
from hooke.results.verdicts import Verdict

VERSION = 1


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
    def make(
        cls, kind: str, *, tensors: Mapping[str, np.ndarray] | None = None, gaps: Collection[str] = (), **fields: Any
    ) -> Result:
        """Build a result, attach its tensors and compute its content id.

        gaps: tensors in which NaN says that there is no number. Raises HookeError if any other number is NaN or
        infinite; in JSON, None says that there is none.
        """
        result = cls(kind=kind, **fields)
        result._tensors = dict(tensors or {})
        held = {"payload": result.payload, "claims": result.claims, "arguments": result.arguments}
        whole = {name: array for name, array in result._tensors.items() if name not in gaps}
        check_finite(kind, held | {f"tensors.{name}": x for name, x in whole.items()}, result.provenance.get("dtype"))
        result.id = result.content_id()
        return result

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays that are too large for JSON, by name."""
        return self._tensors

    def content_id(self) -> str:
        """The hash of what was done and found: equal work gives an equal id, however long it took and wherever
        files lay (see `identity`)."""
        parts = {"arguments": self.arguments, "provenance": self.provenance, "payload": self.payload}
        return self._hash(left_out(self.kind, parts))

    def is_whole(self) -> bool:
        """Whether the content is what the id says: nothing was altered. The ids of earlier versions count too."""
        first: tuple[dict[str, Any], ...] = ({}, {"provenance": {"threads"}})
        return self.id == self.content_id() or self.id in {
            self._hash({"id": True, "seconds": True} | out) for out in first
        }

    def _hash(self, exclude: dict[str, Any]) -> str:
        digest = hashlib.sha256(self.model_dump_json(exclude=exclude).encode())
        for name in sorted(self._tensors):
            array = np.ascontiguousarray(self._tensors[name])
            digest.update(f"{name}{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:32]

    def to_json(self, indent: int | None = None) -> str:
        """The result as JSON text, without its tensors."""
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
    if os.path.lexists(beside):
        try:
            result._tensors = read_tensors(beside, folder=path.parent, result=result.id) or {}
        except HookeError as error:
            raise HookeError(f"the arrays of {path} are damaged ({error}); make the result again") from None
    return result


def first_fault(error: ValidationError) -> str:
    """The first thing that a schema finds wrong, in one line: where, and what."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
