"""One side of a feature at the last token of a prompt, as an aim."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hooke.dictionaries import Dictionary, Neurons
from hooke.dictionaries.coder import Coder
from hooke.methods.catalogue.sweep import sites_of
from hooke.model import Edit, Model, Tokens
from hooke.model.spelling import encode_all
from hooke.sites import Site

AT_ONCE = 64  # prompts
ENTRY = Site("resid_pre", 0)


@dataclass(eq=False)
class FeatureAim:
    """f: the activation of a side (sign 1 or -1) of a feature at the last token. CE: the mean of -log p of each token
    given those before it in the prompt; of the first, where no special token stands before it, given nothing, none.

    before: special tokens that stand before every prompt.
    """

    model: Model
    block: Dictionary
    feature: int
    sign: int
    before: Tensor = field(repr=False)

    def values(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """f (n,) and CE (n,)."""
        found = [self._run(part, grad=False) for part in ids.split(AT_ONCE)]
        return torch.cat([value for value, *_ in found]), torch.cat([cost for _, cost, *_ in found])

    def slopes(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """By the slopes of the embeddings, and, of the cost, by how likely each token would be in its place too."""
        value, cost, entry, logp = self._run(ids, grad=True)
        n, first = ids.shape[1], len(self.before)
        parts = []
        for total in (value, cost):
            (grad,) = torch.autograd.grad(total.sum(), entry, retain_graph=total is value)
            grad = grad[:, first:]
            parts.append(grad.float().cpu() @ self._table.T)
        here = torch.arange(max(1, first), first + n) - first  # places whose own tokens are scored
        parts[1][:, here] -= logp / max(1, len(here))
        return parts[0], parts[1]

    def fits(self, ids: Tensor) -> Tensor:
        """Whether the text of a prompt is read as these tokens."""
        tokenizer = self.model.tokenizer
        texts = [self.model.said(row) for row in ids]
        again = encode_all(tokenizer, texts, special=False)
        return torch.tensor([list(row) == list(found) for row, found in zip(ids.tolist(), again, strict=True)])

    @cached_property
    def _table(self) -> Tensor:
        table: Any = self.model.hf.get_input_embeddings()  # type: ignore[operator]
        return table.weight.detach().float().cpu()[: self.model.parts.d_vocab]

    def _run(self, ids: Tensor, *, grad: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """f, CE, what enters the first block, and -log p of all tokens at each scored place."""
        model = self.model
        whole = torch.cat([self.before.expand(len(ids), -1), ids], 1).to(model.device)
        tokens = Tokens(whole, torch.ones_like(whole, dtype=torch.bool))
        reads = [ENTRY, *sites_of(self.block)]
        run = model.run(tokens, read=reads, edits=Edit(ENTRY, "add", 0.0), grad=grad)
        assert run.logits is not None
        x = {site: run.acts[site][:, -1].flatten(1) for site in sites_of(self.block)}
        value = self._value(x) * self.sign
        first = max(1, len(self.before))
        logp = run.logits[:, first - 1 : -1].float().log_softmax(-1)
        own = logp.gather(2, whole[:, first:, None])[..., 0]
        cost = -own.mean(1) if own.shape[1] else value.new_zeros(len(value))
        if not grad:
            value, cost = value.detach().cpu(), cost.detach().cpu()
        return value, cost, run.acts[ENTRY], logp.detach().cpu()

    def _value(self, x: dict[Site, Tensor]) -> Tensor:
        """(n,) the feature's activation; of one behind a gate what its gate is asked for, so that there is a slope."""
        if isinstance(self.block, Neurons):
            return x[self.block.site][:, self.feature].float()
        assert isinstance(self.block, Coder)
        read = {site: value.to(self.block.bias.dtype) for site, value in x.items()}
        return self.block.before(read)[:, self.feature].float()
