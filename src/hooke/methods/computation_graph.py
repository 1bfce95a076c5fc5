"""Who writes to the residual stream and who reads it: the nodes and edges of a circuit, and runs that cut edges.

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


class Whole(NamedTuple):
    """A run without cuts, from which runs of the same prompts can begin at the first layer that has one.

    streams: entering each layer (batch pos d_model). own: as `written`.
    """

    streams: list[Tensor]
    own: Tensor


def whole_run(model: Model, tokens: Tokens) -> Whole:
    """Run prompts as they are and keep what runs with cuts share with it."""
    streams = [Site("resid_pre", layer) for layer in range(model.parts.n_layers)]
    with torch.no_grad():
        acts = model.run(tokens, read=[*write_sites(model), *streams], logits=None).acts
        return Whole([acts[site] for site in streams], terms(model, acts))


def run_edges(
    model: Model,
    tokens: Tokens,
    keep: Tensor,
    other: Tensor,
    *,
    grad: bool = False,
    logits: Literal["all", "last"] = "all",
    whole: Whole | None = None,
) -> Tensor:
    """Run prompts with every edge mixed: keep times what its writer gives in this run, the rest from another run.

    keep: (batch or 1, n_readers, n_writers) from 0 (cut) to 1 (kept). other: (n_writers,
    batch or 1, pos, d_model), what the writers gave in the other run (`written`). With all of `keep` at 1 this
    is a plain run, with all at 0 the other one. whole: the prompts' own run (if they are some prompts n times over, of
    those once), so that layers before the first cut need not be run; of no use with `grad`.
    Returns the logits, (batch pos d_vocab) or (batch d_vocab) at the last position.
    """
    parts, computation = model.parts, ComputationGraph.of(model.parts)
    cut = (1 - keep.to(model.dtype)) * computation.edges.to(keep.device)
    # by writer: what it gives in this run less what it gave in the other, (batch pos d)
    live: list[Tensor] = []
    # the same in one tensor, written in place; a graph needs its own copies
    together = None if grad else other.new_empty(len(tokens.ids), len(computation.writers), *other.shape[2:])
    stream: dict[str, Tensor] = {}

    def mixed(base: Tensor, layer: int | None, part: Part) -> Tensor:
        """(batch, pos, reader, d_model): what the readers of a part take."""
        rows = computation.rows(layer, part)
        n = computation.readers[rows.start].before
        share = cut[:, rows, :n]
        if not share.requires_grad and not bool(share.any()):
            return base[:, :, None].expand(-1, -1, rows.stop - rows.start, -1)
        gone = torch.stack(live[:n], 1) if together is None else together[:, :n]
        lost = share.expand(len(tokens.ids), -1, -1) @ gone.flatten(2)
        return base[:, :, None] - lost.unflatten(2, base.shape[1:]).transpose(1, 2)

    def add(index: int, x: Tensor) -> None:
        assert len(live) == index
        if together is None:
            live.append(x - other[index])
        else:
            live.append(torch.sub(x, other[index], out=together[:, index]))

    def remember(name: str) -> Tap:
        def tap(x: Tensor) -> Tensor:
            stream[name] = x
            if name == "pre" and not live:
                add(0, x)
            return x

        return tap

    def project(layer: int, part: Literal["q", "k", "v"]) -> Tap:
        def tap(x: Tensor) -> Tensor:
            block = parts.blocks[layer]
            linear = {"q": block.q, "k": block.k, "v": block.v}[part]
            own = normed(block.attn_norm, mixed(stream["pre"], layer, part))
            w = linear.weight.to(x.dtype).unflatten(0, x.shape[2:])
            y = torch.einsum("bphd,hed->bphe", own, w)
            return y if linear.bias is None else y + linear.bias.to(x.dtype).view(x.shape[2:])

        return tap

    def heads(layer: int) -> tuple[Tap, Tap]:
        kept: list[Tensor] = []

        def attended(z: Tensor) -> Tensor:
            kept[:] = [z]
            if parts.blocks[layer].attn_post_norm is None:
                done(None)
            return z

        def done(scale: Tensor | None) -> None:
            for offset, x in enumerate(by_head(parts.blocks[layer], kept[0], scale)):
                add(computation.heads(layer).start + offset, x)

        def scaled(scale: Tensor) -> Tensor:
            done(scale)
            return scale

        return attended, scaled

    def mlp_in(layer: int) -> Tap:
        name = "pre" if parts.parallel else "mid"
        return lambda x: normed(parts.blocks[layer].mlp_norm, mixed(stream[name], layer, "mlp")[:, :, 0])

    def mlp_out(layer: int) -> Tap:
        def tap(x: Tensor) -> Tensor:
            if parts.parallel and len(live) == computation.heads(layer).start:  # the MLP ran before the attention
                raise HookeError("this family runs its MLP first in a parallel block, which circuits do not read yet")
            add(computation.mlp(layer), x)
            return x

        return tap

    first, entering = 0, None
    if whole is not None and together is not None:
        tried = cut.detach().any(0).any(-1).nonzero()[:, 0].tolist()
        layers = [computation.readers[r].layer for r in tried]
        first = min((layer for layer in layers if layer is not None), default=parts.n_layers - 1)
        times, before = len(tokens.ids) // whole.own.shape[1], computation.heads(first).start
        if first:
            together[:, :before] = (whole.own[:before].repeat(1, times, 1, 1) - other[:before]).transpose(0, 1)
            live.extend(together[:, :before].unbind(1))
            entering = (first, whole.streams[first].repeat(times, 1, 1))
    taps: dict[Site, Tap] = {}
    for layer, block in enumerate(parts.blocks):
        if layer < first:
            continue
        attended, scaled = heads(layer)
        taps[Site("resid_pre", layer)] = remember("pre")
        for part in ("q", "k", "v"):
            taps[Site(part, layer)] = project(layer, part)
        taps[Site("z", layer)] = attended
        if block.attn_post_norm is not None:
            taps[Site("attn_post_scale", layer)] = scaled
        if not parts.parallel:
            taps[Site("resid_mid", layer)] = remember("mid")
        taps[Site("mlp_in", layer)] = mlp_in(layer)
        taps[Site("mlp_out", layer)] = mlp_out(layer)
    taps[Site("resid_post", parts.n_layers - 1)] = remember("post")
    taps[Site("final_norm")] = lambda x: normed(parts.final_norm, mixed(stream["post"], None, "logits")[:, :, 0])
    run = model.run(tokens, taps=taps, grad=grad, logits=logits, entering=entering)
    assert run.logits is not None
    return run.logits
