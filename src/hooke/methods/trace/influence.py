"""How much each node of a graph matters, and how much of the target the graph explains.

"Circuit Tracing" (Ameisen et al. 2025): rows of |weights| are normalised to one; influence is
w (Â + Â² + …) with w the weight of each logit. The graph is acyclic, so the sum ends by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# rows: targets; columns: nodes
Matrix = np.ndarray


@dataclass
class Influence:
    """nodes: influence of each node; rows: influence plus logit weight of each target;
    steps: by number of edges, the influence that ends in tokens, errors and remainders."""

    nodes: np.ndarray
    rows: np.ndarray
    steps: np.ndarray


def normalised(weights: Matrix) -> Matrix:
    """|weights| with each target's row summing to one; constants are not in it."""
    size = np.abs(weights)
    size /= np.maximum(size.sum(1, keepdims=True), 1e-8)
    return size


def influence(weights: Matrix, targets: np.ndarray, logit_weights: np.ndarray, ends: np.ndarray) -> Influence:
    """weights: (n_targets, n_nodes); targets: node index of each row; logit_weights: (n_targets,), zero
    for features; ends: (n_nodes,) True for nodes without incoming edges."""
    a = normalised(weights)
    total = np.zeros(weights.shape[1])
    rows = logit_weights.astype(float).copy()
    p = rows.copy()
    steps = []
    for _ in range(len(targets) + 1):
        reached = p @ a
        total += reached
        steps.append(reached[ends].sum())
        p = np.where(ends[targets], 0.0, reached[targets])
        rows += p
        if p.sum() < 1e-12:
            break
    return Influence(total, rows, np.array(steps))


def replacement_score(nodes: np.ndarray, tokens: np.ndarray, hidden: np.ndarray) -> float:
    """Share of the influence ending in the input that comes from tokens and not from hidden parts or errors."""
    from_tokens, from_hidden = nodes[tokens].sum(), nodes[hidden].sum()
    return float(from_tokens / max(from_tokens + from_hidden, 1e-12))


def completeness_score(weights: Matrix, rows: np.ndarray, hidden: np.ndarray) -> float:
    """Share of the targets' input, weighted by influence, that does not come from hidden parts or errors."""
    left = normalised(weights)[:, hidden].sum(1)
    return float(((1 - left) * rows).sum() / max(rows.sum(), 1e-12))


def leading(rows: np.ndarray, share: float = 0.95) -> np.ndarray:
    """Indices of the targets that carry `share` of the influence, the largest first."""
    order = np.argsort(-rows, kind="stable")
    reach = np.cumsum(rows[order]) / max(rows.sum(), 1e-12)
    return order[: int(np.searchsorted(reach, share)) + 1]


def unexplained(weights: Matrix, rows: np.ndarray, hidden: np.ndarray, leaders: np.ndarray, gross: np.ndarray) -> float:
    """1 − completeness over the leading targets with hidden parts counted gross.

    gross: (n_leaders,) the sum of the absolute edges of the features that remainders and errors hide;
    net remainders cancel and would flatter.
    """
    size = np.abs(weights[leaders])
    seen = size[:, ~hidden].sum(1)
    left = gross / np.maximum(gross + seen, 1e-12)
    return float((left * rows[leaders]).sum() / max(rows[leaders].sum(), 1e-12))


def cumulative(nodes: np.ndarray) -> np.ndarray:
    """For each node the share of all influence held by nodes at least as influential (small: important)."""
    order = np.argsort(-nodes, kind="stable")
    out = np.empty(len(nodes))
    out[order] = np.cumsum(nodes[order]) / max(nodes.sum(), 1e-12)
    return out


def mean_path_length(steps: np.ndarray) -> float:
    """Average number of edges from an end to the logit, weighted by influence."""
    return float((steps * np.arange(1, len(steps) + 1)).sum() / max(steps.sum(), 1e-12))
