"""What single heads do: attention to the token before, prefix matching, copying, and the in-context gain.

Olsson and others, In-context learning and induction heads (2209.11895).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.model.edits import Edit
from hooke.model.model import Model
from hooke.sites import Site


def repeated(
    model: Model, length: int, *, batch: int = 32, seed: int = 0, first: int | None = None, lowest: int = 0
) -> Tensor:
    """Random tokens and then the same again, (batch, [1 +] 2 length).

    first: an id to begin with. lowest: ids from there up are drawn. Raises HookeError if they do not fit.
    """
    start = [] if first is None else [torch.full((batch, 1), first)]
    if 2 * length + len(start) > model.parts.context:
        raise HookeError(f"{2 * length + len(start)} tokens do not fit the context of {model.parts.context}")
    generator = torch.Generator().manual_seed(seed)
    half = torch.randint(lowest, model.parts.d_vocab, (batch, length), generator=generator)
    return torch.cat([*start, half, half], 1)


def _patterns(model: Model, ids: Tensor) -> Tensor:
    """(layer, batch, head, query, key)"""
    sites = [Site("pattern", layer) for layer in range(model.parts.n_layers)]
    acts = model.run(ids, read=sites, logits=None).acts
    return torch.stack([acts[site] for site in sites])


def previous_token(model: Model, ids: Tensor) -> Tensor:
    """The mean attention of each head to the token before, (layer, head). ids: (batch, pos)."""
    return _patterns(model, ids).diagonal(-1, -2, -1).mean((1, 3))


def prefix_matching(model: Model, ids: Tensor, length: int) -> Tensor:
    """The mean attention of each head from a repeated token to the one after its first occurrence, (layer, head).

    ids: as `repeated` makes them with this length; queries are all tokens of the second half.
    """
    return _patterns(model, ids).diagonal(1 - length, -2, -1)[..., -length:].mean((1, 3))


def copying(model: Model) -> Tensor:
    """How far each head makes likelier the tokens that it attends to, (layer, head), from -1 to 1.

    Σ λ / Σ |λ| over the eigenvalues of W_U W_O W_V W_E, with norms as their weights, and less the mean over the
    stream where a norm takes that out. Matrices of d_vocab are never made: the eigenvalues other than 0 are those
    of W_V W_E W_U W_O.
    """
    parts = model.parts
    embed = model.hf.get_input_embeddings().weight.detach().double()  # type: ignore[operator]
    unembed = parts.unembed.weight.double() * parts.final_norm.weight.double()
    if parts.final_norm.centred:
        unembed = unembed - unembed.mean(1, keepdim=True)
    rows = []
    for block in parts.blocks:
        seen = embed
        if block.attn_norm is not None:
            seen = seen - seen.mean(1, keepdim=True) if block.attn_norm.centred else seen
            seen = seen * block.attn_norm.weight.double()
        middle = seen.T @ unembed  # d_model, d_model
        v = block.v.weight.double().unflatten(0, (parts.n_kv_heads, parts.d_head))
        v = v.repeat_interleave(parts.n_heads // parts.n_kv_heads, 0)
        o = block.o.weight.double().unflatten(1, (parts.n_heads, parts.d_head)).permute(1, 0, 2)
        values = torch.linalg.eigvals(v @ middle @ o)
        rows.append(values.real.sum(1) / values.abs().sum(1).clamp(min=1e-30))
    return torch.stack(rows).float()


def in_context_gain(model: Model, ids: Tensor, length: int, *, without: Sequence[tuple[int, int]] = ()) -> float:
    """How much better tokens are predicted the second time, in nats: the loss on the first half less that on the
    second. The first of each half is left out.

    ids: as `repeated` makes them. without: (layer, head) of heads whose output is set to zero.
    """
    edits = [Edit(Site("z", layer), index=[head]) for layer, head in without]
    logits = model.run(ids, edits=edits).logits
    assert logits is not None
    losses = -logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None].to(logits.device))[..., 0]
    return float(losses[:, -2 * length : -length][:, 1:].mean() - losses[:, -length:][:, 1:].mean())
