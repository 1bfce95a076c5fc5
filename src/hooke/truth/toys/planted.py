"""A circuit planted by hand: every contribution to every logit is known with its sign.

Inputs are `BOS x1 x2 x3 x4 ?`. At `?`, one head copies the first letter, another takes the last letter away, and
an MLP adds to `a` when the first letter is `b`. The other parts write where nothing is read.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hooke.model.model import Model
from hooke.truth.plain import BOS, Shape, new_gpt2, word_tokenizer

LETTERS = ("a", "b", "c", "d", "e")
FIRST, LAST, BONUS = 4.0, -2.0, 3.0  # what the two heads and the MLP add to a logit
_HARD = 100.0


class Planted(NamedTuple):
    """The model and what is true of it: edges and nodes by their written names."""

    model: Model
    edges: frozenset[str]
    nodes: frozenset[str]

    def inputs(self, rows: int, seed: int = 0) -> Tensor:
        """Random inputs, (rows, 6)."""
        letters = torch.randint(1, 1 + len(LETTERS), (rows, 4), generator=torch.Generator().manual_seed(seed))
        ends = torch.zeros(rows, 1, dtype=torch.long), torch.full((rows, 1), 1 + len(LETTERS))
        return torch.cat([ends[0], letters, ends[1]], 1)

    def contributions(self, ids: Tensor) -> dict[str, Tensor]:
        """What each node adds to the logits at `?`, (rows, d_vocab); their sum is the logits."""
        hot = torch.nn.functional.one_hot(ids, len(LETTERS) + 2).float()
        bonus = torch.zeros_like(hot[:, 0])
        bonus[:, 1] = BONUS * (ids[:, 1] == 2).float()
        return {"a0.h1": FIRST * hot[:, 1], "a1.h2": LAST * hot[:, 4], "m1": bonus}


def planted() -> Planted:
    """Build the model: 2 layers of 3 heads, no norms."""
    n = len(LETTERS)
    words = (BOS, *LETTERS, "?")
    d_head = 12
    hf = new_gpt2(
        Shape(d_vocab=n + 2, n_pos=6, n_layers=2, n_heads=3, d_head=d_head, d_mlp=8, activation="relu", norms=False),
        seed=1,
    )
    letters, place, first, out, spare = (range(i, j) for i, j in ((0, n), (n, n + 6), (16, 21), (21, 26), (30, 36)))
    body, d = hf.transformer, hf.config.n_embd
    body.wte.weight.zero_()
    body.wpe.weight.zero_()
    body.wte.weight[1 : n + 1, letters] = torch.eye(n)
    body.wpe.weight[:, place] = torch.eye(6)
    for block in body.h:  # random parts that write to the spare dimensions alone
        for matrix in (block.attn.c_proj.weight, block.mlp.c_proj.weight):
            matrix[:, : spare[0]] = 0.0
    for layer, head, key, to, amount in ((0, 1, 1, first, 1.0), (1, 2, 4, out, LAST)):
        attn = body.h[layer].attn
        start = head * d_head
        for part in range(3):
            attn.c_attn.weight[:, part * d + start : part * d + start + d_head] = 0.0
        attn.c_attn.weight[place[5], start] = _HARD * d_head**0.5  # the query of `?`
        attn.c_attn.weight[place[key], d + start] = 1.0  # the key of one place
        attn.c_attn.weight[letters, 2 * d + start : 2 * d + start + n] = torch.eye(n)
        attn.c_proj.weight[start : start + d_head] = 0.0
        attn.c_proj.weight[start : start + n, to] = amount * torch.eye(n)
    mlp = body.h[1].mlp
    mlp.c_fc.weight[:, 0] = 0.0
    mlp.c_fc.weight[first[1], 0] = 1.0
    mlp.c_proj.weight[0] = 0.0
    mlp.c_proj.weight[0, out[0]] = BONUS
    hf.lm_head.weight.zero_()
    hf.lm_head.weight[1 : n + 1, first] = FIRST * torch.eye(n)
    hf.lm_head.weight[1 : n + 1, out] = torch.eye(n)
    edges = {"input->a0.h1<v>", "a0.h1->logits", "a0.h1->m1", "m1->logits", "input->a1.h2<v>", "a1.h2->logits"}
    model = Model(hf, word_tokenizer(words), name="toy/planted", info={"note": "a circuit planted by hand"})
    return Planted(model, frozenset(edges), frozenset({"input", "a0.h1", "a1.h2", "m1", "logits"}))
