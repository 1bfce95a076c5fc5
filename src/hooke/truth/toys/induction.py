"""A two-layer model with attention alone, trained to continue random sequences that repeat.

What is known of it: it needs a head that attends to the token before and, above it, an induction head, which attends
to what came after the present token the first time and copies that (Elhage and others, A mathematical framework for
transformer circuits, 2021). The weights are kept; `train_induction` makes them again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hooke.model.model import Model
from hooke.truth.plain import BOS, Shape, load_kept, new_gpt2, word_tokenizer

VOCAB, CONTEXT = 40, 33  # the first id is the beginning
N_HEADS, D_HEAD = 2, 32
FRESH = 0.1  # weight of the loss on tokens that cannot be told, where an even guess is best
NAME = "induction"


def new_attention_only(seed: int = 0) -> Any:
    """The untrained model. GPT-2 has MLPs; theirs are zero."""
    hf = new_gpt2(Shape(d_vocab=VOCAB, n_pos=CONTEXT, n_layers=2, n_heads=N_HEADS, d_head=D_HEAD, d_mlp=4), seed=seed)
    for block in hf.transformer.h:
        for parameter in block.mlp.parameters():
            parameter.zero_()
    return hf


def draw(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences of random tokens, each repeating itself after a random number of them; and which tokens can be told
    from what came before, (rows, CONTEXT)."""
    n = CONTEXT - 1
    fresh = torch.randint(1, VOCAB, (rows, n), generator=generator)
    length = torch.randint(5, n - 4, (rows, 1), generator=generator)
    place = torch.arange(n).expand(rows, n)
    ids = fresh.gather(1, place % length)
    none = torch.zeros(rows, 1, dtype=torch.long)
    return torch.cat([none, ids], 1), torch.cat([none.bool(), place > length], 1)


def train_induction(*, steps: int = 1500, rows: int = 64, rate: float = 3e-3, seed: int = 0) -> tuple[Any, list[float]]:
    """Train it; returns the model and the loss on tokens that can be told, every 100 steps."""
    hf = new_attention_only(seed)
    generator = torch.Generator().manual_seed(seed)
    parameters = [p.requires_grad_() for name, p in hf.named_parameters() if ".mlp." not in name]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    history = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 100, 2 * (1 - step / steps))
        ids, known = draw(rows, generator)
        logits = hf(input_ids=ids[:, :-1]).logits
        losses = functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        told = losses[known[:, 1:]].mean()
        loss = told + FRESH * losses[~known[:, 1:]].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 100 == 0:
            history.append(float(told.detach()))
    for parameter in parameters:
        parameter.requires_grad_(False)
    return hf, history


def induction_model() -> Model:
    """The kept model as an ordinary one; its tokens are t1, t2, …"""
    hf, record = load_kept(NAME, lambda record: new_attention_only(record["seed"]))
    words = [BOS, *(f"t{i}" for i in range(1, VOCAB))]
    return Model(hf, word_tokenizer(words), name=f"toy/{NAME}", info=record)
