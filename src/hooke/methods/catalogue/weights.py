"""What the weights alone say of features: which tokens they make likelier, and which tokens they fire on.

Writes: the direction that one unit of a feature adds to the stream, through the last norm's gains and the unembedding
(the logit lens of a direction; VocabProj of 2501.08319). Reads: the activation where the stream holds the embedding of
one token and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hooke.dictionaries import Dictionary, Neurons
from hooke.dictionaries.coder import Coder
from hooke.kernels import exact_products
from hooke.methods.catalogue.sweep import sides
from hooke.methods.progress import Tick
from hooke.model import Model
from hooke.model.local_mlp import activations
from hooke.sites import Site

TOKENS = 10  # that are kept of each list
AT_ONCE = 1024
STREAM = ("resid_pre", "resid_mid", "resid_post")


@dataclass(eq=False)
class Weights:
    """Of one block, by row (sides of features). promotes: (n, TOKENS) tokens, likeliest first; what a side suppresses
    is what the other one promotes, and is kept too. clear: (n,) how far the first one stands out, in standard
    deviations over the vocabulary. reads: (n, TOKENS) tokens, and read: (n, TOKENS) the activations on them; no columns
    where a block reads something that a token alone does not make."""

    promotes: Tensor
    suppresses: Tensor
    clear: Tensor
    reads: Tensor
    read: Tensor


def weights_of(model: Model, block: Dictionary, tick: Tick) -> Weights:
    """Both directions of one block."""
    with exact_products(), torch.no_grad():
        up, down, clear = _writes(model, directions(model, block), sides(block), lambda done: tick(0.4 * done))
        reads, read = _reads(model, block, lambda done: tick(0.4 + 0.6 * done))
    return Weights(up, down, clear, reads, read)


def directions(model: Model, block: Dictionary) -> Tensor:
    """(n_features, d_model): what one unit of each adds to the stream, with the gains of a norm behind the MLP."""
    ids = torch.arange(block.n_features, device=model.device)
    total = torch.zeros(block.n_features, model.parts.d_model, device=model.device)
    for site in block.writes:
        rows = block.decoders[site] if isinstance(block, Coder) else block.writer(ids, site, {})
        post = model.parts.blocks[site.layer or 0].mlp_post_norm if site.point == "mlp_proj" else None
        total += rows.float() if post is None else rows.float() * post.weight.float()
    return total


def clear_by_chance(model: Model, *, seed: int = 0, n: int = 400) -> float:
    """How far the first token of a random direction stands out: the 95th percentile."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(n, model.parts.d_model, generator=generator).to(model.device)
    with exact_products(), torch.no_grad():
        return float(_writes(model, random, 1, lambda done: None)[2].quantile(0.95))


def _writes(model: Model, rows: Tensor, n_sides: int, tick: Tick) -> tuple[Tensor, Tensor, Tensor]:
    parts = model.parts
    gains, unembed = parts.final_norm.weight.float(), parts.unembed.weight.detach().float()
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for at in range(0, len(rows), AT_ONCE):
        effects = (rows[at : at + AT_ONCE] * gains) @ unembed.T
        effects -= effects.mean(1, keepdim=True)
        width = effects.std(1).clamp(min=1e-12)
        (high, up), (low, down) = (effects.topk(min(TOKENS, effects.shape[1]), 1, largest=big) for big in (True, False))
        here = [(up, down, high[:, 0] / width), (down, up, -low[:, 0] / width)][:n_sides]
        found.append(tuple(torch.stack(part, 1).flatten(0, 1).cpu() for part in zip(*here, strict=True)))  # type: ignore
        tick(min(1.0, (at + AT_ONCE) / len(rows)))
    return tuple(torch.cat(part) for part in zip(*found, strict=True))  # type: ignore[return-value]


def _reads(model: Model, block: Dictionary, tick: Tick) -> tuple[Tensor, Tensor]:
    n = block.n_features * sides(block)
    made = _alone(model, block.reads)
    if made is None:
        return torch.zeros(n, 0, dtype=torch.long), torch.zeros(n, 0)
    table: Any = model.hf.get_input_embeddings().weight.detach()  # type: ignore[operator]
    table = table[: model.parts.d_vocab]
    best, tokens = torch.zeros(n, TOKENS), torch.zeros(n, TOKENS, dtype=torch.long)
    for at in range(0, len(table), AT_ONCE):
        x = made(table[at : at + AT_ONCE])
        values = activations(block.block, x[block.reads[0]]) if isinstance(block, Neurons) else _dense(block, x)
        values = values.float().cpu().T
        both = torch.stack([values, -values], 1).flatten(0, 1) if sides(block) == 2 else values
        ids = torch.arange(at, at + both.shape[1]).expand(n, -1)
        best, order = torch.cat([best, both], 1).topk(TOKENS, 1)
        tokens = torch.cat([tokens, ids], 1).gather(1, order)
        tick(min(1.0, (at + AT_ONCE) / len(table)))
    return tokens, best


def _dense(block: Dictionary, x: dict[Site, Tensor]) -> Tensor:
    assert isinstance(block, Coder)
    return block.dense({site: y.to(block.bias.dtype) for site, y in x.items()})


def _alone(model: Model, sites: Sequence[Site]) -> Any:
    """What makes the values at sites of the embedding of one token; None if one of them is no such thing."""
    parts = model.parts

    def at(site: Site, x: Tensor) -> Tensor:
        norm = parts.blocks[site.layer or 0].mlp_norm
        return x if site.point in STREAM or norm is None else norm.apply(x, norm.scale(x)).to(x.dtype)

    if any(site.point not in (*STREAM, "mlp_in") for site in sites):
        return None
    return lambda rows: {site: at(site, rows) for site in sites}
