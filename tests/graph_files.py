"""Graph files of graphs, in one call."""

from __future__ import annotations

from typing import Any

from hooke.results.drawn import drawn_graph
from hooke.results.formats.graph_file import graph_from_file, graph_to_file
from hooke.results.graph import Graph
from hooke.results.payloads.common import Token

OF_FILES = ("slug", "scan", "scores", "generation", "hooke", "qparams")


def written(graph: Graph, *, contrast: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The file of a graph: how much of it is kept, and what stands beside it."""
    beside = {key: fields.pop(key) for key in OF_FILES if key in fields}
    drawn = drawn_graph(graph, contrast=None if contrast is None else Token(**contrast), **fields)
    return graph_to_file(drawn, **beside)


def opened(file: dict[str, Any]) -> dict[str, Any]:
    """The payload of the result that a graph file is opened as."""
    return graph_from_file(file, dense=False).payload().model_dump(exclude_unset=True)


def held(file: dict[str, Any]) -> dict[str, Any]:
    """The graph of a file as results hold it."""
    graph: dict[str, Any] = opened(file)["graph"]
    return graph
