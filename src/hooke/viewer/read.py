"""Opening a file: a result of ours, or an attribution graph of circuit-tracer, Neuronpedia or ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hooke.errors import HookeError
from hooke.results import Result, load_result, read_json
from hooke.results.formats.graph_file import graph_from_file


def read_file(path: str | Path) -> Result:
    """The result in a file; a graph file becomes a `Result` of kind "graph".

    Raises HookeError, in one line, for anything else: a missing, too large, damaged or foreign file, or one from
    a newer version.
    """
    path = Path(path)
    data = read_json(path)
    if isinstance(data, dict) and "kind" in data and "payload" in data:
        return load_result(path)
    if isinstance(data, dict) and "nodes" in data and "links" in data:
        return graph_result(data, path)
    raise HookeError(
        f"{path} is neither a Hooke result (no 'kind' and 'payload') nor an attribution graph (no 'nodes' and 'links')"
    )


def graph_result(data: dict[str, Any], path: Path) -> Result:
    """A graph file as a result: nothing is added to what the file says."""
    try:
        payload = graph_from_file(data, dense=False).payload()
    except HookeError as error:
        message = str(error)
        raise HookeError(message if str(path) in message else f"{path}: {message}") from None
    metadata = data["metadata"]
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    return Result.make(
        "graph",
        arguments={"prompt": str(metadata.get("prompt", "")), "file": path.name},
        provenance={"scan": str(metadata.get("scan", "")), "written_by": _writer(metadata), "sha256": digest},
        payload=payload,
    )


def _writer(metadata: dict[str, Any]) -> str | None:
    """Who says that they wrote the file, as far as that is said in its usual place."""
    found: Any = metadata
    for key in ("info", "generator", "name"):
        found = found.get(key) if isinstance(found, dict) else None
    return found[:200] if isinstance(found, str) else None
