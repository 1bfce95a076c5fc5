"""`Graph`: nodes and weighted edges, from attribution, ACDC and EAP alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hooke.results.result import Verdict

Kind = Literal["token", "feature", "remainder", "error", "bias", "head", "mlp", "logit"]


@dataclass
class Node:
    """One node. `index` is a feature number, or the vocabulary id of a token or logit.

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


@dataclass
class Graph:
    """Nodes and the direct effects between them.

    `weights[t, s]` is the direct effect of node s on node `targets[t]` (its value, or its logit), in
    the units of that target; `constants[t]` is what no node carries (biases). So
    `weights[t].sum() + constants[t]` is the target's value.
    """

    nodes: list[Node]
    targets: np.ndarray  # (n_targets,) indices into nodes
    weights: np.ndarray  # (n_targets, n_nodes) float32
    constants: np.ndarray  # (n_targets,)
    verdicts: dict[tuple[int, int], Verdict] = field(default_factory=dict)  # (source, target) node indices
    tokens: list[str] = field(default_factory=list)

    def square(self) -> np.ndarray:
        """The matrix over all nodes, (n_nodes, n_nodes), rows of pure sources zero. For small graphs."""
        matrix = np.zeros((len(self.nodes), len(self.nodes)), dtype=self.weights.dtype)
        matrix[self.targets] = self.weights
        return matrix
