"""Where each site lies in a transformers model, and the hooks that read and edit it there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hooke.errors import HookeError
from hooke.model.attention import watched
from hooke.model.families import Block, Linear, Norm, Parts
from hooke.sites import POINTS, Site

# visit(site, value) -> value: called once for each watched site, in the order of the forward pass
Visit = Callable[[Site, Tensor], Tensor]


def check_site(parts: Parts, site: Site) -> None:
    """Raise HookeError, saying why, if this model has no such site."""
    if site.other:
        raise HookeError(f"{site} is a place in the other of two models, which a crosscoder reads beside this one")
    if site.layer is not None and site.layer >= parts.n_layers:
        raise HookeError(f"{site}: the model has {parts.n_layers} layers, numbered from 0")
    block = parts.blocks[site.layer or 0]
    reasons = {
        "resid_mid": "attention and MLP run in parallel" if parts.parallel else None,
        "attn_scale": None if block.attn_norm else "there is no norm before attention",
        "mlp_scale": None if block.mlp_norm else "there is no norm before the MLP",
        "attn_post_scale": None if block.attn_post_norm else "there is no norm after attention",
        "mlp_post_scale": None if block.mlp_post_norm else "there is no norm after the MLP",
        "mlp_up": None if block.gate else "the MLP has no gate; its pre-activation is mlp_pre",
    }
    if reasons.get(site.point):
        raise HookeError(f"{parts.family.name} has no {site}: {reasons[site.point]}")


def sites_of(parts: Parts) -> list[Site]:
    """Every site that this model has, in the order of the forward pass."""
    found = []
    for point in POINTS.values():
        for layer in range(parts.n_layers) if point.scope == "layer" else [None]:
            site = Site(point.name, layer)
            try:
                check_site(parts, site)
            except HookeError:
                continue
            found.append(site)
    return sorted(found)


@contextmanager
def attached(hf: nn.Module, parts: Parts, sites: Iterable[Site], visit: Visit) -> Iterator[None]:
    """Call `visit` at each of the sites (of those the model has) for the length of the block, whatever
    happens in it."""
    by_layer: dict[int | None, set[str]] = {}
    for site in sites:
        by_layer.setdefault(site.layer, set()).add(site.point)
    with ExitStack() as stack:
        taps: dict[nn.Module, Callable[[str, Tensor], Tensor]] = {}
        for layer, points in by_layer.items():
            if layer is None:
                _attach_end(parts, points, visit, stack)
            else:
                _attach_block(parts, layer, points, visit, stack)
                if points & {"scores", "pattern"}:
                    taps[parts.blocks[layer].attn] = _tap(layer, points, visit)
        stack.enter_context(watched(hf, taps))
        yield


def _tap(layer: int, points: set[str], visit: Visit) -> Callable[[str, Tensor], Tensor]:
    return lambda point, x: visit(Site(point, layer), x) if point in points else x


def _attach_end(parts: Parts, points: set[str], visit: Visit, stack: ExitStack) -> None:
    if "final_scale" in points:
        _on_scale(parts.final_norm, Site("final_scale"), visit, stack)
    if "final_norm" in points:
        _on_output(parts.final_norm.module, lambda x: visit(Site("final_norm"), x), stack)


def _attach_block(parts: Parts, layer: int, points: set[str], visit: Visit, stack: ExitStack) -> None:
    """Hooks on one module run in the order of registration, so the order here is the order of the pass."""
    block: Block = parts.blocks[layer]

    def at(point: str) -> Callable[[Tensor], Tensor]:
        site = Site(point, layer)
        return lambda x: visit(site, x)

    if "resid_pre" in points:
        _on_input(block.module, at("resid_pre"), stack)
    if "attn_scale" in points and block.attn_norm:
        _on_scale(block.attn_norm, Site("attn_scale", layer), visit, stack)
    if "attn_in" in points:
        _on_input(block.attn, at("attn_in"), stack)
    for point, linear, heads in (
        ("q", block.q, parts.n_heads),
        ("k", block.k, parts.n_kv_heads),
        ("v", block.v, parts.n_kv_heads),
    ):
        if point in points:
            _on_rows(linear, _by_head(at(point), heads, parts.d_head), stack)
    if "z" in points:
        _on_input(block.o.module, _by_head(at("z"), parts.n_heads, parts.d_head), stack)
    if "attn_post_scale" in points and block.attn_post_norm:
        _on_scale(block.attn_post_norm, Site("attn_post_scale", layer), visit, stack)
    attn_end = block.attn_post_norm.module if block.attn_post_norm else block.attn
    if "attn_out" in points:
        _on_output(attn_end, at("attn_out"), stack)
    if "resid_mid" in points:
        # No module holds this sum apart, so an edit to it is sent through the attention's share of it.
        entering: list[Tensor] = []

        def remember(x: Tensor) -> Tensor:
            entering[:] = [x]
            return x

        def mid(attn_out: Tensor) -> Tensor:
            if attn_out.shape != entering[0].shape:
                raise HookeError(
                    f"attn_out.{layer} is not a part of the stream; the family row does not fit this model"
                )
            before = entering[0] + attn_out
            after = visit(Site("resid_mid", layer), before)
            return attn_out if after is before else after - entering[0]

        _on_input(block.module, remember, stack)
        _on_output(attn_end, mid, stack)
    if "mlp_scale" in points and block.mlp_norm:
        _on_scale(block.mlp_norm, Site("mlp_scale", layer), visit, stack)
    if "mlp_in" in points:
        _on_input(block.mlp, at("mlp_in"), stack)
    if "mlp_pre" in points:
        _on_rows(block.gate or block.up, at("mlp_pre"), stack)
    if "mlp_up" in points:
        _on_rows(block.up, at("mlp_up"), stack)
    if "mlp_act" in points:
        _on_input(block.down.module, at("mlp_act"), stack)
    if "mlp_proj" in points:
        _on_output(block.mlp, at("mlp_proj"), stack)
    if "mlp_post_scale" in points and block.mlp_post_norm:
        _on_scale(block.mlp_post_norm, Site("mlp_post_scale", layer), visit, stack)
    if "mlp_out" in points:
        _on_output(block.mlp_post_norm.module if block.mlp_post_norm else block.mlp, at("mlp_out"), stack)
    if "resid_post" in points:
        _on_output(block.module, at("resid_post"), stack)


def _by_head(visit: Callable[[Tensor], Tensor], heads: int, d_head: int) -> Callable[[Tensor], Tensor]:
    def split(x: Tensor) -> Tensor:
        before = x.view(*x.shape[:-1], heads, d_head)
        after = visit(before)
        return x if after is before else after.reshape(x.shape)

    return split


def _on_input(module: nn.Module, change: Callable[[Tensor], Tensor], stack: ExitStack) -> None:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            after = change(args[0])
            return None if after is args[0] else ((after, *args[1:]), kwargs)
        before = kwargs["hidden_states"]
        after = change(before)
        return None if after is before else (args, {**kwargs, "hidden_states": after})

    stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)


def _on_output(module: nn.Module, change: Callable[[Tensor], Tensor], stack: ExitStack) -> None:
    def hook(_: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            after = change(output)
            return None if after is output else after
        after = change(output[0])
        return None if after is output[0] else (after, *output[1:])

    stack.callback(module.register_forward_hook(hook).remove)


def _on_rows(linear: Linear, change: Callable[[Tensor], Tensor], stack: ExitStack) -> None:
    """Watch those outputs of a fused matrix that belong to one use of it."""
    if linear.rows is None:
        return _on_output(linear.module, change, stack)

    def part(x: Tensor) -> Tensor:
        before = linear.take(x, -1)
        after = change(before)
        return x if after is before else linear.put(x, -1, after)

    _on_output(linear.module, part, stack)


def _on_scale(norm: Norm, site: Site, visit: Visit, stack: ExitStack) -> None:
    """Watch the denominator of a norm; if it is changed, the norm's output is computed from the new one."""

    def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        before = norm.scale(args[0])
        after = visit(site, before)
        if after is before:
            return None
        wide = args[0] if args[0].dtype == torch.float64 else args[0].float()
        return norm.apply(wide, after).to(output.dtype)

    stack.callback(norm.module.register_forward_hook(hook).remove)
