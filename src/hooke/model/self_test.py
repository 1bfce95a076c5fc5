"""Does what Hooke does to a model do anything, and the right thing, in this process, on this device and dtype?

The equations of `checks.py` say where the sites are, and that runs that are put together from parts equal whole ones.
Here every tap reads what a plain torch hook on the model's own module reads, and every edit changes the logits as that
hook would. A silent no-op fails all of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from hooke.model.checks import Check, noise, off, short_input
from hooke.model.edits import SQUARE, Edit
from hooke.model.run import Tokens
from hooke.sites import Site

if TYPE_CHECKING:
    from hooke.model.model import Model


class Hooked(NamedTuple):
    """Where a module of the model itself has a site's value: what goes into it, or what comes out."""

    module: nn.Module
    output: bool


def self_test(model: Model) -> Iterator[Check]:
    """Reads and edits on a short input, one by one, at the first, middle and last layer. Nothing is raised for one that
    fails: its error is what says so."""
    tokens = short_input(model)
    layers = sorted({0, model.parts.n_layers // 2, model.parts.n_layers - 1})
    plain = plain_places(model)
    clean = model.run(tokens, read=model.sites)
    assert clean.logits is not None
    for site in model.sites:
        if site.layer is not None and site.layer not in layers:
            continue
        value = clean.acts[site]
        change = _change(site, value)
        edited = model.run(tokens, edits=[change]).logits
        assert edited is not None
        if site in plain:
            seen, logits = _by_hook(model, tokens, plain[site], change.value)
            yield Check(f"{site} is read as a plain hook reads it", off(value.flatten(2), seen.flatten(2)))
            yield Check(f"an edit at {site} does what a plain hook does", off(edited, logits))
            continue
        # beside a run with the same taps that changes nothing, so that no other way of computing passes for an effect
        still = model.run(tokens, edits=[replace(change, weight=0.0)]).logits
        moved = still is not None and bool((edited != still).any())
        yield Check(f"an edit at {site} changes the logits", 0.0 if moved else float("inf"))


def plain_places(model: Model) -> dict[Site, Hooked]:
    """The sites whose values pass into or out of a module as they are, found otherwise than `hooks.py` does where that
    can be: an input of a block as the output of the one before, a norm's output in place of what reads it."""
    parts, found = model.parts, {Site("final_norm"): Hooked(model.parts.final_norm.module, True)}
    for layer, block in enumerate(parts.blocks):
        norms = [norm for norm in (block.attn_norm, block.mlp_norm) if norm is not None]
        shared = len(norms) == 2 and norms[0].module is norms[1].module
        modules: dict[str, Any] = {
            "resid_pre": (block.module, False) if layer == 0 else (parts.blocks[layer - 1].module, True),
            "attn_in": (block.attn_norm.module, True) if block.attn_norm and not shared else None,
            "z": (block.o.module, False),
            "attn_out": (block.attn_post_norm.module if block.attn_post_norm else block.o.module, True),
            "mlp_in": (block.mlp_norm.module, True) if block.mlp_norm and not shared else None,
            "mlp_act": (block.down.module, False),
            "mlp_proj": (block.down.module, True),
            "mlp_out": (block.mlp_post_norm.module if block.mlp_post_norm else block.down.module, True),
            "resid_post": (block.module, True),
        }
        for point, linear in (("q", block.q), ("k", block.k), ("v", block.v), ("mlp_up", block.up)):
            if linear.rows is None and (point != "mlp_up" or block.gate is not None):
                modules[point] = (linear.module, True)
        first = block.gate or block.up
        if first.rows is None:
            modules["mlp_pre"] = (first.module, True)
        found |= {Site(point, layer): Hooked(*where) for point, where in modules.items() if where is not None}
    return found


def _change(site: Site, value: Tensor) -> Edit:
    """Something small to do at a site that shows in the logits."""
    if site.point in SQUARE or site.point.endswith("scale"):
        return Edit(site, "scale", 1 + noise(value, 0).abs() / value.abs().clamp(min=1e-3).to(value))
    return Edit(site, "add", noise(value, 0))


def _by_hook(model: Model, tokens: Tokens, where: Hooked, change: Tensor) -> tuple[Tensor, Tensor]:
    """What a plain hook sees at a module, and the logits when it adds a change there."""
    seen: list[Tensor] = []

    def changed(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return x + change.reshape(x.shape)

    def entering(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": changed(kwargs["hidden_states"])}

    def leaving(_: nn.Module, args: Any, output: Any) -> Any:
        return changed(output) if isinstance(output, Tensor) else (changed(output[0]), *output[1:])

    module = where.module
    with model.held(), torch.no_grad(), model.parts.rotary.kept():
        hook = (
            module.register_forward_hook(leaving)
            if where.output
            else module.register_forward_pre_hook(entering, with_kwargs=True)
        )
        try:
            logits = model.hf(input_ids=tokens.ids).logits
        finally:
            hook.remove()
    return seen[0], logits
