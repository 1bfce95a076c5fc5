"""`path_patch`: send one node's changed output into one other node's input, and nothing else.

Path patching of an edge u -> r (2304.05969): the input of r is what it was plus what u writes in the other prompt
less what it writes in this one (`computation_graph.py` has the equation, which circuits share); all that follows r is
computed again. Nodes: `input` (the embedded tokens), `a3.h1` (a head), `m3` (an MLP), `logits`; an edge into a head
names what it reads, as in `a1.h0->a3.h1<k>`. With grouped queries, heads that share keys and values share these
edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hooke.arguments import verb
from hooke.errors import HookeError
from hooke.methods.asking import recorded
from hooke.methods.computation_graph import ComputationGraph, terms
from hooke.methods.edge_cuts import cuts, first_difference, reads
from hooke.methods.metrics import Metric, measure, name_of
from hooke.methods.patch.pair import TokenLike, check_direction, line_up, run_pair
from hooke.methods.progress import Clock, Progress
from hooke.model import Model
from hooke.model.model import Prompt
from hooke.results import Claim, Result


@verb
def path_patch(
    model: Model,
    clean: Prompt,
    corrupt: Prompt,
    edges: Sequence[str],
    *,
    metric: str | Metric | None = None,
    target: TokenLike | None = None,
    contrast: TokenLike | None = None,
    direction: str = "denoise",
    progress: Progress | None = None,
) -> Result:
    """Patch each edge by itself, at all positions, and give the metric after each.

    edges: as `a1.h0->m2`, `input->a1.h0<q>`, `m2->logits`. The other arguments are those of `patch`; with
    "denoise" the corrupt run gets the writer's clean output in the reader's input, with "noise" the reverse.
    Returns a `Result` of kind "path_patch"; payload.edges: each edge with its value (the metric itself) and the
    same as a share of the difference between the prompts; payload.clean and payload.corrupt.
    Raises HookeError for an edge that the model does not have, and as `patch` does.
    """
    clock = Clock(progress)
    check_direction(direction)
    if not edges or len(set(edges)) < len(edges):
        raise HookeError("give at least one edge, and each edge once")
    computation = ComputationGraph.of(model.parts)
    places = torch.tensor([computation.place(edge) for edge in edges])
    with clock("forward"):
        pair = line_up(model, clean, corrupt)
        case = run_pair(model, pair, reads(model), metric, target, contrast, direction)
    base, of, span = case.base, case.asked.metric, case.span
    assert span is not None
    with clock("patches") as tick:
        change = terms(model, case.other.run.acts, base.run.acts)[:, 0]
        writes = list(cuts(model, base.run, change, places, first_difference(pair.clean, pair.corrupt)))
        values = measure(model, base.run, len(edges), writes, of, tick=tick)
    rows = [
        {"edge": edge, "value": value, "normalised": (value - base.value) / span}
        for edge, value in zip(edges, values.tolist(), strict=True)
    ]
    best = max(rows, key=lambda row: abs(row["normalised"]))
    text = (
        f"Of {len(rows)} edges, {best['edge']} alone moves the metric most: {best['normalised']:.0%} of the difference"
    )
    return Result.make(
        "path_patch",
        arguments={
            **recorded(model, clean, pair.clean, "clean"),
            **recorded(model, corrupt, pair.corrupt, "corrupt"),
            "edges": list(edges),
            "metric": name_of(of),
            **case.asked.ids(),
            "direction": direction,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[Claim(text=text, verdict="tested", evidence=[f"#edges.{rows.index(best)}"])],
        payload={
            "clean": case.clean.value,
            "corrupt": case.corrupt.value,
            "edges": rows,
            "sentence": text + ".",
            "notes": case.notes(model, best["value"] - base.value),
        },
    )
