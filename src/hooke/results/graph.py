"""`Graph`: nodes and weighted edges, from attribution, ACDC and EAP alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hooke.results.verdicts import Verdict

Kind = Literal["token", "feature", "link", "remainder", "error", "bias", "head", "mlp", "logit"]
Form = Literal["live", "held"]
Part = Literal["", "q", "k", "v"]
PARTS: tuple[Part, ...] = ("", "q", "k", "v")


@dataclass
class Node:
    """One node. `index` is a feature number, the head of a link, or the vocabulary id of a token or logit.

    `influence` is the node's own share of the influence on the target, `cumulative` the share of all
    nodes at least as influential (what viewers prune by: small means important).
    """

    id: str
    kind: Kind
    layer: int | None = None
    position: int | None = None
    index: int | None = None
    label: str = ""
    value: float | None = None
    delta: float | None = None  # value minus its counterfactual value
    total: float | None = None  # change of the answer when it is set to its counterfactual value
    averaged: float | None = None  # the same by slopes averaged over the way there
    jump: float | None = None  # of a feature with a gate: its delta, less that of what its gate is asked for
    rank: int | None = None  # 1 is the first node selected
    influence: float = 0.0
    cumulative: float = 1.0
    probability: float | None = None  # of a logit
    is_target: bool = False
    verdict: Verdict = "untested"
    reason: str = ""  # why a node is untested, or what was measured
    dropped: float = 0.0  # sum of the incoming weights that a file leaves out
    reads: list[str] = field(default_factory=list)  # tokens of the prompt that it reads most
    promotes: list[str] = field(default_factory=list)  # tokens that it makes likelier
    suppresses: list[str] = field(default_factory=list)
    key: int | None = None  # of a link of attention: the position that it looks at, from its own
    seen: float | None = (
        None  # of a link: the cosine of what it brings, less in the counterfactuals, with the slopes there
    )


@dataclass
class Graph:
    """Nodes and the direct effects between them.

    `weights[t, s]` is the direct effect of node s on node `targets[t]` (its value, or its logit), in
    the units of that target; `constants[t]` is what no node carries (biases). So
    `weights[t].sum() + constants[t]` is the target's value. In a graph of the live form an effect is how far the target
    moves as its source comes from the counterfactual to here, the sum is the target's own delta, and the constant is
    how far the map bends on the way, a gate's `jump` included.

    In a circuit, nodes are whole heads and MLPs without a position, a weight is what cutting that edge alone does to
    the metric, and a head is up to three targets: `parts` names which of its inputs (query, key, value) a row is of,
    and `part_verdicts` holds the verdicts of edges into such a row. `parts` is empty where no row has a part.

    A file can be read with `weights` as a scipy csr_array of the same shape: its links take the memory of links.
    """

    nodes: list[Node]
    targets: np.ndarray  # (n_targets,) indices into nodes
    weights: Any  # (n_targets, n_nodes) float32: an array, or a csr_array of a file that was read so
    constants: np.ndarray  # (n_targets,)
    verdicts: dict[tuple[int, int], Verdict] = field(default_factory=dict)  # (source, target) node indices
    tokens: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)  # one a target, or none
    part_verdicts: dict[tuple[int, int, Part], Verdict] = field(default_factory=dict)  # (source, target, part)
    deltas: Any = (
        None  # of the shape of `weights`: by how much an edge changes from the counterfactual, if there is one
    )
    form: Form = "held"

    def part(self, row: int) -> Part:
        """Which input of its node a target is: q, k, v, or "" for the only one."""
        return self.parts[row] if self.parts else ""

    def verdict(self, row: int, source: int) -> Verdict:
        """How the edge from node `source` into target `row` fared."""
        target = int(self.targets[row])
        whole = self.verdicts.get((source, target), "untested")  # of all inputs of a target together
        return self.part_verdicts.get((source, target, self.part(row)), whole)

    def is_circuit(self) -> bool:
        """Whether the nodes are parts of the model, and not features and tokens at their places."""
        kinds: set[Kind] = {"token", "feature", "head", "mlp", "logit"}
        return bool(self.nodes) and all(node.kind in kinds and node.position is None for node in self.nodes)

    def links(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, source, weight) of every edge that is not zero, by row and then by source."""
        if isinstance(self.weights, np.ndarray):
            row, source = np.nonzero(self.weights)
            return row, source, self.weights[row, source]
        held = self.weights.tocoo()
        there = held.data != 0
        return held.coords[0][there], held.coords[1][there], held.data[there]

    def square(self) -> np.ndarray:
        """The matrix over all nodes, (n_nodes, n_nodes), rows of pure sources zero, parts summed. For small graphs."""
        matrix = np.zeros((len(self.nodes), len(self.nodes)), dtype=self.weights.dtype)
        np.add.at(matrix, self.targets, self.weights)
        return matrix
