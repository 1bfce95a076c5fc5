"""`path_patch`: send one node's changed output into one other node's input, and nothing else.

Path patching of an edge u -> v (2304.05969): the input of v is what it was plus what the output of u changes by,
`in_v(x) + (out_u(x') - out_u(x))`; all that follows v is computed again. Nodes: `input` (the embedded tokens),
`a3.h1` (a head), `m3` (an MLP), `logits`; an edge into a head names what it reads, as in `a1.h0->a3.h1<k>`. With
grouped queries, heads that share keys and values share these edges.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hooke.arguments import verb
from hooke.errors import HookeError
from hooke.methods.asking import lookalikes, recorded
from hooke.methods.edge_cuts import taken
from hooke.methods.metrics import Metric, check_varies, evaluate, measure, name_of
from hooke.methods.patch_pair import TokenLike, line_up, question
from hooke.methods.progress import Clock, Progress
from hooke.methods.wiring import Part, Reader
from hooke.model import Model
from hooke.model.model import Prompt
from hooke.model.packed import Base, Writes, record
from hooke.results import Claim, Result
from hooke.sites import Site

_NODE = re.compile(r"(input|logits|a(\d+)\.h(\d+)(?:<([qkv])>)?|m(\d+))")


class Node(NamedTuple):
    """One end of an edge. part: of a head as a reader, q, k or v."""

    kind: str  # input, head, mlp or logits
    layer: int
    head: int
    part: str

    def order(self, parallel: bool) -> float:
        """Nodes are computed in this order; equal ones do not feed each other."""
        if self.kind in ("input", "logits"):
            return -1 if self.kind == "input" else float("inf")
        return self.layer + (0.5 if self.kind == "mlp" and not parallel else 0)


def find_edge(model: Model, text: str) -> tuple[Node, Node]:
    """Read `a1.h0->m2` or `input->a1.h0<q>`. Raises HookeError for an edge that the model does not have."""
    writer, arrow, reader = text.replace(" ", "").partition("->")
    nodes = [_node(model, part, text) for part in (writer, reader)]
    if not arrow or nodes[0].kind == "logits" or nodes[0].part:
        raise HookeError(f"cannot read edge {text!r}; write it as a1.h0->m2 or input->a1.h0<q>")
    if nodes[1].kind == "input" or (nodes[1].kind == "head") != bool(nodes[1].part):
        raise HookeError(f"edge {text!r}: an edge into a head says what it reads, as in a1.h0<q>; input reads nothing")
    if not nodes[0].order(model.parts.parallel) < nodes[1].order(model.parts.parallel):
        raise HookeError(f"edge {text!r}: {writer} is not computed before {reader}")
    return nodes[0], nodes[1]


def _node(model: Model, text: str, edge: str) -> Node:
    match = _NODE.fullmatch(text)
    if match is None:
        raise HookeError(f"cannot read {text!r} in edge {edge!r}; nodes are input, a3.h1, m3 and logits")
    if text in ("input", "logits"):
        return Node(text, -1, -1, "")
    layer = int(match[2] if match[5] is None else match[5])
    head = -1 if match[3] is None else int(match[3])
    if layer >= model.parts.n_layers or head >= model.parts.n_heads:
        raise HookeError(f"{text}: the model has {model.parts.n_layers} layers and {model.parts.n_heads} heads")
    return Node("mlp" if match[3] is None else "head", layer, head, match[4] or "")


def edge_reads(model: Model) -> list[Site]:
    """What must be read of both runs to send any edge's change."""
    sites = [Site("resid_pre", 0)]
    for layer in range(model.parts.n_layers):
        sites += [Site("z", layer), Site("attn_out", layer), Site("mlp_out", layer)]
        if not model.parts.parallel:
            sites.append(Site("resid_mid", layer))
    return sites


def output_change(model: Model, node: Node, base: Base, other: Base) -> Tensor:
    """(pos, d_model): how the stream changes when one writer has its value of the other run.

    A head's part in attention that is normalised afterwards is what replacing its z alone changes.
    """
    if node.kind == "input":
        return other.resid[0] - base.resid[0]
    if node.kind == "mlp":
        site = Site("mlp_out", node.layer)
        return other.acts[site][0] - base.acts[site][0]
    block, site = model.parts.blocks[node.layer], Site("z", node.layer)
    z = base.acts[site][0].clone()
    z[:, node.head] = other.acts[site][0][:, node.head]
    if block.attn_post_norm is None:
        return block.o.apply((z - base.acts[site][0]).flatten(1), bias=False)
    out = block.o.apply(z.flatten(1))
    norm = block.attn_post_norm
    return norm.apply(out, norm.scale(out)).to(out.dtype) - base.acts[Site("attn_out", node.layer)][0]


def input_write(model: Model, node: Node, base: Base, change: Tensor, run: int) -> Writes:
    """What one reader takes when the stream that it reads changes by `change` (pos, d_model)."""
    parts = model.parts
    part: Part = "logits" if node.kind == "logits" else "mlp" if node.kind == "mlp" else node.part  # type: ignore[assignment]
    heads = parts.n_heads if part == "q" else parts.n_kv_heads
    head = node.head * heads // parts.n_heads if node.kind == "head" else None
    reader = Reader(None if part == "logits" else node.layer, part, head, 0)
    site, unit, values = taken(model, base, reader, change[None], 0)
    at = torch.arange(len(change), device=change.device)
    return Writes(site, torch.full_like(at, run), at, None if unit is None else torch.full_like(at, unit), values[0])


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
    if direction not in ("denoise", "noise"):
        raise HookeError(f"no direction called {direction!r}; use 'denoise' or 'noise'")
    if not edges or len(set(edges)) < len(edges):
        raise HookeError("give at least one edge, and each edge once")
    ends = [find_edge(model, edge) for edge in edges]
    with clock("forward"):
        pair = line_up(model, clean, corrupt)
        reads = edge_reads(model)
        good, bad = record(model, pair.clean, reads), record(model, pair.corrupt, reads)
        asked = question(model, metric, target, contrast, good.logits, bad.logits)
        of = asked.metric
        low = evaluate(of, torch.stack([good.logits, bad.logits])).tolist()
        check_varies(of, *low)
    base, other = (bad, good) if direction == "denoise" else (good, bad)
    with clock("patches") as tick:
        writes = [
            input_write(model, reader, base, output_change(model, writer, base, other), run)
            for run, (writer, reader) in enumerate(ends)
        ]
        values = measure(model, base, len(edges), writes, of, tick=tick)
    start, end = (low[1], low[0]) if direction == "denoise" else (low[0], low[1])
    rows = [
        {"edge": edge, "value": value, "normalised": (value - start) / (end - start)}
        for edge, value in zip(edges, values.tolist(), strict=True)
    ]
    notes = lookalikes(model, [*asked.target, *asked.contrast], good.logits)
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
            "direction": direction,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[Claim(text=text, verdict="tested")],
        payload={"clean": low[0], "corrupt": low[1], "edges": rows, "sentence": text + ".", "notes": notes},
    )
