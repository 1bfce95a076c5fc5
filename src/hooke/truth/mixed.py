"""Runs in which single edges carry what they would carry on another input, for models of the GPT-2 architecture.

Nodes, readers and edges are those of `methods/computation_graph.py`, whose `run_edges` does the same for any model,
one source for all rows; this one trains. In a mixed row, a reader sees the stream with the outputs of some nodes
replaced by their outputs on a source row; everything after is computed from that. One pass holds source rows and
mixed rows, so that it can be trained through, and thousands of edges can be tested at once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hooke.methods.computation_graph import ComputationGraph


def computation(hf: Any) -> ComputationGraph:
    """The nodes and edges of a GPT-2."""
    return _computation(hf.config.n_layer, hf.config.n_head)


@cache
def _computation(n_layers: int, n_heads: int) -> ComputationGraph:
    return ComputationGraph(n_layers, n_heads, n_heads, parallel=False)


def mixed_logits(hf: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Logits (n + m, pos, d_vocab) of n plain rows and m = k n mixed rows.

    ids: (n + m, pos), the plain rows first; the source of mixed row i is plain row i mod n. mask:
    (n_readers, m, n_writers), 1 where a reader of a mixed row gets the writer's output on the source row.
    """
    n_layers, n_heads = hf.config.n_layer, hf.config.n_head
    rows, length = ids.shape
    m = mask.shape[1]
    n = rows - m
    body = hf.transformer
    d = hf.config.n_embd
    lanes = 3 * n_heads
    mask = mask.to(body.wte.weight.dtype).transpose(0, 1)
    deltas: list[Tensor] = []  # what the source rows' writers write more than the mixed rows', (m, writers, pos d)

    def add(written: Tensor) -> Tensor:
        """Note what some writers (count, rows, pos, d) wrote; returns their sum."""
        base = written[:, n:].view(len(written), m // n, n, length, d)
        deltas.append((written[:, None, :n] - base).flatten(1, 2).transpose(0, 1).flatten(2))
        return written.sum(0)

    def change(first: int, count: int) -> Tensor:
        """What the mixed rows of some readers get more than the stream: (count, m, pos, d)."""
        delta = torch.cat(deltas, 1)
        mixed = mask[:, first : first + count, : delta.shape[1]] @ delta
        return mixed.transpose(0, 1).unflatten(2, (length, d))

    stream = add((body.wte(ids) + body.wpe.weight[:length])[None])
    for layer, block in enumerate(body.h):
        start = layer * (lanes + 1)
        attn = block.attn
        qkv = attn.c_attn(block.ln_1(stream[:n])).view(n, length, lanes, -1).permute(2, 0, 1, 3)
        seen = block.ln_1(stream[n:] + change(start, lanes)).flatten(1, 2)
        weight = attn.c_attn.weight.view(d, lanes, -1).transpose(0, 1)
        own = torch.baddbmm(attn.c_attn.bias.view(lanes, 1, -1), seen, weight)
        qkv = torch.cat([qkv, own.view(lanes, m, length, -1)], 1)
        q, k, v = qkv.view(3, n_heads, rows, length, -1)
        z = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        heads = z.flatten(1, 2) @ attn.c_proj.weight.view(n_heads, -1, d)
        stream = stream + add(heads.view(n_heads, rows, length, d)) + attn.c_proj.bias
        seen = torch.cat([stream[:n], stream[n:] + change(start + lanes, 1)[0]])
        stream = stream + add(block.mlp(block.ln_2(seen))[None])
    seen = torch.cat([stream[:n], stream[n:] + change(n_layers * (lanes + 1), 1)[0]])
    return hf.lm_head(body.ln_f(seen))


def effects(hf: Any, base: Tensor, source: Tensor, names: list[str], chunk: int = 4096) -> Tensor:
    """How far the logits move when one edge at a time is taken from the source: (edges, rows, pos), the largest
    difference over the vocabulary. base, source: token ids (rows, pos)."""
    known = computation(hf)
    shape, found = known.edges.shape, []
    step = max(1, chunk // len(base))
    with torch.no_grad():
        clean = hf(input_ids=base).logits
        for start in range(0, len(names), step):
            here = names[start : start + step]
            mask = torch.zeros(shape[0], len(here), len(base), shape[1])
            for i, name in enumerate(here):
                reader, writer = known.places[name]
                mask[reader, i, :, writer] = 1
            ids = torch.cat([source, base.repeat(len(here), 1)])
            logits = mixed_logits(hf, ids, mask.flatten(1, 2))[len(base) :]
            found.append((logits.view(len(here), *clean.shape) - clean).abs().amax(-1))
    return torch.cat(found)
