"""Addition modulo a prime, trained until it generalises: a model that computes with a few frequencies.

Nanda and others, Progress measures for grokking (2301.05217): one layer without norms, inputs `a b =`, weight decay,
and a part of all sums to train on. The weights are kept; `train_sums` makes them again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hooke.model.model import Model
from hooke.truth.plain import Shape, load_kept, new_gpt2, word_tokenizer

P = 53
SEED = 1  # with 0 it stays at 99.5 % of the other sums, and its key frequencies explain 76 % of the logits
NAME = "modular-addition"


class Sums(NamedTuple):
    """The model, and for each step that was looked at the losses on trained and on other sums."""

    hf: Any
    trained: Tensor  # (p, p), which sums were trained
    history: list[tuple[int, float, float]]


def new_sums(p: int = P, seed: int = 0) -> Any:
    """The untrained model."""
    return new_gpt2(
        Shape(
            d_vocab=p + 1,
            n_pos=5,  # two more than the input has, so that Hooke's checks of five tokens run
            n_layers=1,
            n_heads=4,
            d_head=16,
            d_mlp=256,
            activation="relu",
            norms=False,
        ),
        seed=seed,
    )


def split(p: int, share: float, seed: int) -> Tensor:
    """Which sums are trained, (p, p)."""
    order = torch.randperm(p * p, generator=torch.Generator().manual_seed(seed))
    return (order < share * p * p).view(p, p)


def sum_logits(hf: Any, p: int) -> Tensor:
    """The logits at `=` of all sums, (p, p, p): what the model computes, with each key and value computed once."""
    body, block = hf.transformer, hf.transformer.h[0]
    heads, d = hf.config.n_head, hf.config.n_embd
    first, second = (body.wte.weight[:p] + body.wpe.weight[i] for i in (0, 1))
    last = body.wte.weight[p] + body.wpe.weight[2]
    q = block.attn.c_attn(last[None]).split(d, -1)[0].view(heads, -1)
    keys, values = [], []
    for x in (first, second, last[None]):
        _, k, v = block.attn.c_attn(x).split(d, -1)
        keys.append((k.view(len(x), heads, -1) * q).sum(-1) / math.sqrt(d // heads))
        values.append(v.view(len(x), heads, -1))
    a, b, here = (scores.exp() for scores in keys)  # (p, heads), (p, heads), (1, heads)
    total = a[:, None] + b[None] + here
    share = [a[:, None] / total, b[None] / total, here / total]
    z = share[0][..., None] * values[0][:, None] + share[1][..., None] * values[1] + share[2][..., None] * values[2]
    stream = last + block.attn.c_proj(z.flatten(2))
    return hf.lm_head(stream + block.mlp(stream))[..., :p]


def train_sums(
    p: int = P,
    *,
    share: float = 0.4,
    steps: int = 3000,
    rate: float = 2e-3,
    decay: float = 2.0,
    seed: int = SEED,
    look: Callable[[int, float, float], None] | None = None,
) -> Sums:
    """Train on a share of all sums, in full batches, until the loss on the others is small or the steps are over."""
    hf, trained = new_sums(p, seed), split(p, share, seed)
    number = torch.arange(p)
    right = (number[:, None] + number) % p
    parameters = [parameter.requires_grad_() for parameter in hf.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=decay, fused=True)
    history = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 10)
        logits = sum_logits(hf, p)
        loss = functional.cross_entropy(logits[trained], right[trained])
        if step % 100 == 0:
            with torch.no_grad():
                other = float(functional.cross_entropy(logits[~trained], right[~trained]))
            history.append((step, float(loss.detach()), other))
            if look is not None:
                look(*history[-1])
            if other < 1e-3:
                break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for parameter in parameters:
        parameter.requires_grad_(False)
    return Sums(hf, trained, history)


def modular_addition() -> Model:
    """The kept model as an ordinary one; its tokens are the numbers below p and `=`."""
    hf, record = load_kept(NAME, lambda record: new_sums(record["p"], record["seed"]))
    words = [*map(str, range(record["p"])), "="]
    return Model(hf, word_tokenizer(words, begins=False), name=f"toy/{NAME}", info=record)


def all_sums(model: Model) -> Tensor:
    """The logits at `=` of all sums, (p, p, p), by ordinary runs."""
    p = model.parts.d_vocab - 1
    number = torch.arange(p)
    a, b = torch.meshgrid(number, number, indexing="ij")
    ids = torch.stack([a.flatten(), b.flatten(), torch.full((p * p,), p)], 1)
    logits = model.run(ids, logits="last").logits
    assert logits is not None
    return logits[:, :p].view(p, p, p)
