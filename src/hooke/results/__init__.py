"""What methods return: `Result`, `Graph`, and the files they live in."""

from hooke.files import read_json, read_text, write_atomic
from hooke.results.graph import Graph, Kind, Node
from hooke.results.result import (
    Claim,
    Result,
    first_fault,
    load_result,
    tensor_path,
)
from hooke.results.verdicts import WORDS, Verdict

__all__ = [
    "Claim",
    "Graph",
    "Kind",
    "Node",
    "Result",
    "Verdict",
    "WORDS",
    "first_fault",
    "load_result",
    "read_json",
    "read_text",
    "tensor_path",
    "write_atomic",
]
