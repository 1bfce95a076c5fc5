"""Who writes to the residual stream and who reads it: the nodes and edges of a circuit.

The stream is a sum over writers (the embedded tokens, each head, each MLP), and every reader (the query, key
and value inputs of each head, each MLP, the logits) takes the sum of those before it:

    in_r = Σ_{u before r} w_u,    w_h = γ ∘ W_O^h z_h / s  for a head, s the denominator of the norm after attention
                                  (centred if that norm centres; without such a norm w_h = W_O^h z_h)

An edge u→r is the term w_u in what r reads. Cutting it gives r that term from another run, whose denominator it has:

    in_r = Σ_u w_u − (w_u − w_u of the other run),

while everything else, and what follows from the cut, is computed as usual. So cuts add up: a reader all of whose
edges are cut reads what it read in the other run. Path patching, circuits and their scores all mean this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.model import Model, Tokens
from hooke.model.families import Block, Norm, Parts
from hooke.model.run import Activations
from hooke.sites import Site

Part = Literal["q", "k", "v", "mlp", "logits"]
Tap = Callable[[Tensor], Tensor]
HEAD_PARTS: tuple[Part, ...] = ("q", "k", "v")
_NODE = re.compile(
    r"input|logits|a(?P<attention>\d{1,9})\.h(?P<head>\d{1,9})(?:<(?P<part>[qkv])>)?|m(?P<mlp>\d{1,9})", re.ASCII
)


class Reader(NamedTuple):
    """One input: its layer (None: the logits), part, head (of keys and values where those are shared), and how
    many writers come before it."""

    layer: int | None
    part: Part
    head: int | None
    before: int


@dataclass(frozen=True)
class ComputationGraph:
    """All writers and readers of a model, in the order of the forward pass; an edge is (reader, writer)."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool

    @classmethod
    def of(cls, parts: Parts) -> ComputationGraph:
        return cls(parts.n_layers, parts.n_heads, parts.n_kv_heads, parts.parallel)

    @cached_property
    def writers(self) -> list[str]:
        """input, a0.h0, a0.h1, …, m0, a1.h0, …"""
        each = [[*(f"a{layer}.h{h}" for h in range(self.n_heads)), f"m{layer}"] for layer in range(self.n_layers)]
        return ["input", *(name for names in each for name in names)]

    @cached_property
    def readers(self) -> list[Reader]:
        found = []
        for layer in range(self.n_layers):
            before = 1 + layer * (self.n_heads + 1)
            heads: tuple[tuple[Part, int], ...] = (("q", self.n_heads), ("k", self.n_kv_heads), ("v", self.n_kv_heads))
            found += [Reader(layer, part, h, before) for part, count in heads for h in range(count)]
            found.append(Reader(layer, "mlp", None, before if self.parallel else before + self.n_heads))
        return [*found, Reader(None, "logits", None, len(self.writers))]

    @cached_property
    def edges(self) -> Tensor:
        """(n_readers, n_writers) True where the writer comes before the reader."""
        before = torch.tensor([r.before for r in self.readers])
        return torch.arange(len(self.writers)) < before[:, None]

    def heads(self, layer: int) -> slice:
        """Where the heads of a layer stand among the writers."""
        start = 1 + layer * (self.n_heads + 1)
        return slice(start, start + self.n_heads)

    def mlp(self, layer: int) -> int:
        """Where the MLP of a layer stands among the writers."""
        return (layer + 1) * (self.n_heads + 1)

    def rows(self, layer: int | None, part: Part) -> slice:
        """Where the readers of a layer's part stand."""
        if layer is None:
            return slice(len(self.readers) - 1, len(self.readers))
        a, b = self.n_heads, self.n_kv_heads
        start = layer * (a + 2 * b + 1) + {"q": 0, "k": a, "v": a + b, "mlp": a + 2 * b, "logits": 0}[part]
        return slice(start, start + {"q": a, "k": b, "v": b, "mlp": 1, "logits": 1}[part])

    def names(self, reader: int) -> list[str]:
        """How the input is written: `a1.h0<q>`, `m2`, `logits`; several where heads share keys and values."""
        layer, part, head, _ = self.readers[reader]
        if part == "logits" or head is None:
            return ["logits" if layer is None else f"m{layer}"]
        share = self.n_heads // self.n_kv_heads
        own = [head] if part == "q" else list(range(head * share, (head + 1) * share))
        return [f"a{layer}.h{h}<{part}>" for h in own]

    def edge_names(self, keep: Tensor) -> list[str]:
        """The written form of the edges that are True in (n_readers, n_writers)."""
        at = (keep & self.edges.to(keep.device)).nonzero().tolist()
        return [f"{self.writers[u]}->{name}" for r, u in at for name in self.names(r)]

    @cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """(reader, writer) of each edge by its written form, in the order of readers."""
        at = self.edges.nonzero().tolist()
        return {f"{self.writers[u]}->{name}": (r, u) for r, u in at for name in self.names(r)}

    def mask(self, names: Sequence[str]) -> Tensor:
        """(n_readers, n_writers) True at the named edges. Raises HookeError for one that is not there."""
        found = torch.zeros_like(self.edges)
        for name in names:
            found[self.place(name)] = True
        return found

    def place(self, edge: str) -> tuple[int, int]:
        """(reader, writer) of an edge as a person writes it. Raises HookeError saying what is wrong with it."""
        writer, arrow, reader = "".join(edge.split()).partition("->")
        found = self.places.get(f"{writer}->{reader}")
        if found is not None:
            return found
        ends = [self._check_node(end, edge) for end in (writer, reader)]
        if not arrow or writer == "logits" or ends[0]:
            raise HookeError(f"cannot read edge {edge!r}; write it as a1.h0->m2 or input->a1.h0<q>")
        if reader == "input" or (".h" in reader) != bool(ends[1]):
            raise HookeError(
                f"edge {edge!r}: an edge into a head says what it reads, as in a1.h0<q>; input reads nothing"
            )
        raise HookeError(f"edge {edge!r}: {writer} is not computed before {reader}")

    def _check_node(self, end: str, edge: str) -> str | None:
        """What an end says that a head reads. Raises HookeError for no node of this model."""
        match = _NODE.fullmatch(end)
        if match is None:
            raise HookeError(f"cannot read {end!r} in edge {edge!r}; nodes are input, a3.h1, m3 and logits")
        layer, head, part = match["attention"] or match["mlp"], match["head"], match["part"]
        if int(layer or 0) >= self.n_layers or int(head or 0) >= self.n_heads:
            raise HookeError(
                f"{end}: there is no such node; the model has {self.n_layers} layers and {self.n_heads} heads"
            )
        return part

    def node_of(self, reader: int) -> int | None:
        """The writer that a reader belongs to (the first of the heads that share it); None for the logits."""
        layer, part, head, _ = self.readers[reader]
        if layer is None:
            return None
        if head is None:
            return self.mlp(layer)
        share = self.n_heads // self.n_kv_heads if part != "q" else 1
        return self.heads(layer).start + head * share


def write_sites(model: Model) -> list[Site]:
    """What must be read of a run to know what each writer adds."""
    sites = [Site("resid_pre", 0)]
    for layer in range(model.parts.n_layers):
        sites += [Site("z", layer), Site("mlp_out", layer)]
        if model.parts.blocks[layer].attn_post_norm is not None:
            sites.append(Site("attn_post_scale", layer))
    return sites


def ends_of(edge: str) -> tuple[str, str]:
    """The writer and the reader of a written edge."""
    writer, _, reader = edge.partition("->")
    return writer, reader


def node_named(end: str) -> str:
    """The node at an end of a written edge: `a1.h0` of `a1.h0<q>`."""
    return end.partition("<")[0]


def written(model: Model, tokens: Tokens) -> Tensor:
    """(n_writers, batch, pos, d_model): what each writer adds to the stream in a plain run of prompts."""
    with torch.no_grad():
        return terms(model, model.run(tokens, read=write_sites(model), logits=None).acts)


def terms(model: Model, acts: Activations, less: Activations | None = None) -> Tensor:
    """(n_writers, batch, pos, d_model): what each writer adds in the run that `acts` (of `write_sites`) were read in,
    or by how much more than in the run of `less`."""
    computation = ComputationGraph.of(model.parts)

    def value(site: Site) -> Tensor:
        x = acts[site].detach()
        return x if less is None else x - less[site].detach()

    first = value(Site("resid_pre", 0))
    found = first.new_empty(len(computation.writers), *first.shape)
    found[0] = first
    for layer, block in enumerate(model.parts.blocks):
        z, of_heads = Site("z", layer), found[computation.heads(layer)]
        if block.attn_post_norm is None:
            w = block.o.weight.to(first.dtype).unflatten(1, (computation.n_heads, -1)).permute(1, 2, 0)
            torch.bmm(value(z).flatten(0, 1).transpose(0, 1), w, out=of_heads.flatten(1, 2))
        else:  # each run has a denominator of its own
            of_heads[:] = _behind_norm(block, acts, layer)
            if less is not None:
                of_heads -= _behind_norm(block, less, layer)
        found[computation.mlp(layer)] = value(Site("mlp_out", layer))
    return found


def _behind_norm(block: Block, acts: Activations, layer: int) -> Tensor:
    """`by_head` from reads, which are zero on padding: there a denominator of one leaves zero."""
    scale = acts[Site("attn_post_scale", layer)].detach()
    return by_head(block, acts[Site("z", layer)].detach(), torch.where(scale == 0, 1, scale))


def by_head(block: Block, z: Tensor, scale: Tensor | None) -> Tensor:
    """(head, batch, pos, d_model): what each head adds to the stream, given z (batch pos head d_head) and the
    denominator of the norm after attention, if there is one."""
    w = block.o.weight.to(z.dtype).unflatten(1, z.shape[2:])
    out = torch.einsum("bphe,dhe->hbpd", z, w)
    norm = block.attn_post_norm
    if norm is None or scale is None:
        return out
    out = out - out.mean(-1, keepdim=True) if norm.centred else out
    return (norm.weight * (out / scale)).to(z.dtype)


def normed(norm: Norm | None, x: Tensor) -> Tensor:
    """A norm at inputs of its own, with its own denominators; differentiable."""
    return x if norm is None else norm.apply(x, norm.scale(x)).to(x.dtype)
