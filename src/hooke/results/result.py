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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from hooke.arguments import checked
from hooke.errors import HookeError
from hooke.files import read_json, write_atomic
from hooke.results.evidence import locate, parse
from hooke.results.finite import check_finite
from hooke.results.identity import left_out
from hooke.results.tensors import read_tensors
from hooke.results.verdicts import Verdict

if TYPE_CHECKING:
    from hooke.results.payloads import Payload

VERSION = 2  # 2: `arrays` stands in the file


class Claim(BaseModel):
    """One sentence that a result asserts, how it fared, and where the evidence lies (`hooke.results.evidence`).

    A sentence that was tested, however that ended, cites what says so.
    """

    model_config = ConfigDict(extra="forbid")
    text: str
    verdict: Verdict = "untested"
    evidence: list[str] = Field(
        default_factory=list, description="a result, or a place in one: id, id#key, or #key in this one"
    )


class Result(BaseModel):
    """What a method returns. `payload` is what the model of its kind says (`hooke.results.payloads`); `tensors` are
    saved beside the JSON."""

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
    arrays: dict[str, str] = Field(default_factory=dict, description="hashes of its tensors by name")
    _tensors: dict[str, np.ndarray] = PrivateAttr(default_factory=dict)

    @classmethod
    def make(
        cls,
        kind: str,
        *,
        payload: Mapping[str, Any] | Payload,
        tensors: Mapping[str, np.ndarray] | None = None,
        gaps: Collection[str] = (),
        **fields: Any,
    ) -> Result:
        """Build a result: hold its payload against the model of its kind, attach its tensors, compute its content id.

        gaps: tensors in which NaN says that there is no number. Raises HookeError if any other number is NaN or
        infinite; in JSON, None says that there is none. Raises TypeError for a kind that has no model, for a payload
        that does not fit it, and for a claim that was tested and cites nothing, or a place that is not there: these
        are faults of the caller.
        """
        model = _model_of(kind)
        if model is None:
            raise TypeError(f"no kind of result called {kind!r}; give it a model in hooke.results.payloads.KINDS")
        held = dict(payload) if isinstance(payload, Mapping) else payload.model_dump(exclude_unset=True)
        result = cls(kind=kind, payload=held, **fields)
        result._tensors = dict(tensors or {})
        parts = {"payload": result.payload, "claims": result.claims, "arguments": result.arguments}
        whole = {name: array for name, array in result._tensors.items() if name not in gaps}
        check_finite(kind, parts | {f"tensors.{name}": x for name, x in whole.items()}, result.provenance.get("dtype"))
        try:
            model.model_validate(held)
        except ValidationError as error:
            raise TypeError(f"the payload of a {kind} does not fit its model: {first_fault(error)}") from None
        for claim in result.claims:
            result._check_evidence(claim)
        result.arrays = _hashes(result._tensors)
        result.id = result.content_id()
        return result

    def _check_evidence(self, claim: Claim) -> None:
        if claim.verdict != "untested" and not claim.evidence:
            raise TypeError(f"a claim of a {self.kind} is {claim.verdict} and cites nothing: {claim.text[:80]!r}")
        for entry in claim.evidence:
            try:
                number, key = parse(entry)
                if number is None and key is not None:
                    locate(self, key)
            except HookeError as error:
                raise TypeError(f"a claim of a {self.kind}: {error}") from None

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays that are too large for JSON, by name."""
        return self._tensors

    def typed(self) -> Payload | None:
        """The payload as its model; None for a kind that this version does not know. Raises HookeError if it does not
        fit."""
        model = _model_of(self.kind)
        try:
            return None if model is None else model.model_validate(self.payload)
        except ValidationError as error:
            raise HookeError(f"the payload of this {self.kind} is damaged: {first_fault(error)}") from None

    def content_id(self) -> str:
        """The hash of what was done and found: equal work gives an equal id, however long it took and wherever
        files lay (see `identity`)."""
        return self._hash(self._left_out() | ({} if self.arrays else {"arrays": True}))

    def is_whole(self) -> bool:
        """Whether the content is what the id says, and all arrays are here: nothing was altered or lost. The ids of
        earlier versions count too."""
        if self.id == self.content_id():
            return _hashes(self._tensors) == self.arrays
        return self._has_earlier_id()

    def is_unaltered(self) -> bool:
        """The same where arrays may have been left elsewhere: whether what is here is what the id says."""
        if self.id == self.content_id():
            return _hashes(self._tensors).items() <= self.arrays.items()
        return self._has_earlier_id()

    def _left_out(self) -> dict[str, Any]:
        return left_out(
            self.kind, {"arguments": self.arguments, "provenance": self.provenance, "payload": self.payload}
        )

    def _has_earlier_id(self) -> bool:
        """Ids of version 1 were of the bytes of arrays; the first were also of the times, and of the threads."""
        first: tuple[dict[str, Any], ...] = ({}, {"provenance": {"threads"}})
        forms = [self._left_out(), *({"id": True, "seconds": True} | out for out in first)]
        return self.id in {self._hash({**out, "arrays": True}, self._tensors) for out in forms}

    def _hash(self, exclude: dict[str, Any], tensors: Mapping[str, np.ndarray] | None = None) -> str:
        digest = hashlib.sha256(self.model_dump_json(exclude=exclude).encode())
        for name, array in sorted((tensors or {}).items()):
            digest.update(name.encode())
            _update(digest, array)
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


def _model_of(kind: str) -> type[Payload] | None:
    """The model of a kind, if there is one. Imported late: it takes as long as a command that needs none."""
    from hooke.results.payloads import KINDS

    return KINDS.get(kind)


def tensor_path(path: Path) -> Path:
    """Where the tensors of the result at `path` lie."""
    return path.with_suffix(".safetensors")


@checked
def load_result(path: str | Path) -> Result:
    """Read a saved result and its tensors; a tensor file of another result is left alone.

    Raises HookeError, in one line, for a file that is missing, too large, not a result, damaged, altered after it was
    made, or from a newer version, and for a payload that this version does not read: that says how to make it again.
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
    again = "make it again"
    if (model := _model_of(result.kind)) is not None:
        again += f" ({model.made_by})"
        try:
            model.model_validate(result.payload)
        except ValidationError as error:
            raise HookeError(
                f"{path} holds a {result.kind} that this version of Hooke does not read ({first_fault(error)}); {again}"
            ) from None
    beside = tensor_path(path)
    if os.path.lexists(beside):
        try:
            result._tensors = read_tensors(beside, folder=path.parent, result=result.id) or {}
        except HookeError as error:
            raise HookeError(f"the arrays of {path} are damaged ({error}); make the result again") from None
    try:
        unaltered = result.is_unaltered()
    except (ValueError, RecursionError):  # from serialisers, at a depth that parsers let pass
        raise HookeError(f"{path} nests too deeply to be read") from None
    if not unaltered:
        raise HookeError(
            f"{path} was altered after it was made: its content (arrays included) is not what its id says; {again}"
        )
    return result


def _hashes(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """A hash of each array: its numbers, their type and its shape."""
    found = {}
    for name, array in tensors.items():
        digest = hashlib.sha256()
        _update(digest, array)
        found[name] = digest.hexdigest()[:32]
    return found


def _update(digest: Any, array: np.ndarray) -> None:
    whole = np.ascontiguousarray(array)
    digest.update(f"{whole.dtype}{whole.shape}".encode())
    digest.update(whole.tobytes())


def first_fault(error: ValidationError) -> str:
    """The first thing that a schema finds wrong, in one line: where, and what."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
