"""What a model must prove when it is loaded: that every site is where its equation says.

Names without equations are the field's oldest source of silently wrong numbers (DESIGN 3), so a
model whose sites do not satisfy them is refused, with the equation and how far off it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from hooke.errors import HookeError
from hooke.model import local_mlp
from hooke.model.causes import refuse_unfit, suspects
from hooke.model.descent import Descent
from hooke.model.edits import Edit
from hooke.model.linear_view import LinearView, held_view
from hooke.model.recorded import record
from hooke.model.run import Activations, Run, Tokens
from hooke.model.state import Hung, hung_on, noticed
from hooke.sites import Site

if TYPE_CHECKING:
    from hooke.model.model import Model


class Check(NamedTuple):
    """One equation: what it says, and the largest difference relative to the largest value."""

    equation: str
    error: float


SIZE = 0.1  # of a change that is tried, in standard deviations of what is there
# relative to the largest value; transformers computes norms in fp32 even in an fp64 model, and half
# precision rounds each addition to the stream
TOLERANCE = {torch.float64: 2e-5, torch.float32: 2e-4, torch.bfloat16: 6e-2, torch.float16: 1e-2}


def check_model(model: Model, tokens: Tokens | None = None) -> list[Check]:
    """Prove the site equations on a short input. Raises HookeError naming the first that fails."""
    tokens = tokens or short_input(model)
    allowed = TOLERANCE.get(model.dtype, 6e-2)
    done = []
    row = suspects(model.hf) or f"its row in hooke/model/families.py ({model.parts.family.name}) does not fit"
    try:
        for check in _equations(model, tokens):
            if math.isnan(check.error):
                dtype = str(model.dtype).removeprefix("torch.")
                why = suspects(model.hf) or f"{dtype} cannot hold what it computes: load it in float32 or bfloat16"
                raise HookeError(f"{model.name} was refused: its values are not finite on a short input; {why}")
            if not check.error <= allowed:
                raise HookeError(
                    f"{model.name} was refused: {check.equation} is off by {check.error:.2g} of its size "
                    f"(allowed {allowed:g}); {row}"
                )
            done.append(check)
    except (RuntimeError, IndexError, TypeError, AttributeError) as error:  # shapes that cannot be multiplied
        if isinstance(error, torch.OutOfMemoryError):
            raise
        after = f"after {done[-1].equation!r}" if done else "at its first run"
        raise HookeError(f"{model.name} was refused {after}: {str(error).strip().splitlines()[0]}; {row}") from error
    return done


@contextmanager
def proved(model: Model, modules: list[nn.Module]) -> Iterator[None]:
    """A run of a model that is proved again if what was hung on it since (a hook, another forward) changes what it
    computes. A hook that only looks is left in peace."""
    hung = hung_on(modules)
    with noticed([each for each in hung if each not in model.proven]) as changing:
        if changing:
            _prove(model, hung)
        yield
    if changing and model.proven is not hung:
        _prove(model, hung)


def _prove(model: Model, hung: list[Hung]) -> None:
    refuse_unfit(model.hf, model.name)
    check_model(model)
    model.proven = hung


def short_input(model: Model) -> Tokens:
    """Five random tokens, always the same."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.parts.d_vocab, (1, 5), generator=generator)
    return Tokens(ids.to(model.device), torch.ones(1, 5, dtype=torch.bool, device=model.device))


def off(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest value of b."""
    if a.shape != b.shape:
        return float("inf")
    a, b = a.to(at_least_fp32(a)), b.to(at_least_fp32(b))
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-6))


def _equations(model: Model, tokens: Tokens) -> Iterator[Check]:
    with model.held(), torch.no_grad(), model.parts.rotary.kept():
        hf_logits = model.hf(input_ids=tokens.ids).logits
    run = model.run(tokens, read=model.sites)
    acts = run.acts
    assert run.logits is not None
    yield Check("the logits read by hooks = the model's own", off(run.logits, hf_logits))
    beginning = model.run(Tokens(tokens.ids[:, :3], tokens.mask[:, :3])).logits
    assert beginning is not None
    yield Check("what comes after changes nothing before it", off(run.logits[:, :3], beginning))
    yield from _block_equations(model, acts)
    final = acts["final_norm"]
    yield Check(
        "unembedding final_norm = logits", off(model.parts.capped(model.parts.unembed.apply(final)), run.logits)
    )
    yield from _edit_equations(model, tokens, acts, run.logits)
    view = held_view(model, tokens, acts)
    yield Check("the linear view = the logits", off(model.parts.capped(view.replayed), run.logits[0, -1]))
    yield Check("the linear view's transpose = the view", _transpose_error(view))
    yield from resumed(model, tokens, run)


def _edit_equations(model: Model, tokens: Tokens, acts: Activations, logits: Tensor) -> Iterator[Check]:
    """One run of three rows: row 0 writes back what was read; rows 1 and 2 clear q and k at one position
    of every layer, each layer with its clean input."""
    at = tokens.ids.shape[1] // 2
    edits = [Edit(site, value=acts[site], rows=[0]) for site in model.sites if site.point != "scores"]
    for layer in range(model.parts.n_layers):
        stream = Site("resid_pre", layer)
        edits.append(Edit(stream, value=acts[stream], rows=[1, 2]))
        edits += [Edit(Site(point, layer), positions=[at], rows=[row]) for row, point in ((1, "q"), (2, "k"))]
    sites = [Site("scores", layer) for layer in range(model.parts.n_layers)]
    run = model.run(Tokens(tokens.ids.expand(3, -1), tokens.mask.expand(3, -1)), read=sites, edits=edits)
    assert run.logits is not None
    yield Check("writing back what was read leaves the logits", off(run.logits[:1], logits))
    for site in sites:
        clean, (_, no_q, no_k) = acts[site][0].float(), run.acts[site].float()
        seen = clean > torch.finfo(acts[site].dtype).min / 2
        expected_q, expected_k = clean.clone(), clean.clone()
        expected_q[:, at], expected_k[:, :, at] = 0, 0
        yield Check(f"q.{site.layer} enters {site} at its own query only", off(no_q[seen], expected_q[seen]))
        yield Check(f"k.{site.layer} enters {site} at its own key only", off(no_k[seen], expected_k[seen]))


def _block_equations(model: Model, acts: Activations) -> Iterator[Check]:
    parts = model.parts
    for layer, block in enumerate(parts.blocks):

        def at(point: str, layer: int = layer) -> Tensor:
            return acts[Site(point, layer)]

        for point in ("attn_in", "attn_out", "mlp_in", "mlp_proj", "mlp_out", "resid_post"):
            if at(point).shape != at("resid_pre").shape:
                raise HookeError(f"{model.name} was refused: {point}.{layer} is not as wide as the stream")
        total = at("resid_pre") + at("attn_out") + at("mlp_out")
        yield Check(f"resid_pre.{layer} + attn_out + mlp_out = resid_post", off(total, at("resid_post")))
        if layer:
            yield Check(
                f"resid_post.{layer - 1} = resid_pre", off(acts[Site("resid_post", layer - 1)], at("resid_pre"))
            )
        before = at("resid_pre") if parts.parallel else at("resid_mid")
        if not parts.parallel:
            yield Check(f"resid_pre.{layer} + attn_out = resid_mid", off(at("resid_pre") + at("attn_out"), before))
        for norm, scale, x, y in (
            (block.attn_norm, "attn_scale", at("resid_pre"), at("attn_in")),
            (block.mlp_norm, "mlp_scale", before, at("mlp_in")),
            (block.attn_post_norm, "attn_post_scale", block.o.apply(at("z").flatten(2)), at("attn_out")),
            (block.mlp_post_norm, "mlp_post_scale", at("mlp_proj"), at("mlp_out")),
        ):
            expected = x if norm is None else norm.apply(x.to(at_least_fp32(x)), at(scale))
            yield Check(f"the norm with {scale}.{layer}", off(expected, y))
        for point, linear in (("q", block.q), ("k", block.k), ("v", block.v)):
            yield Check(f"{point}.{layer} = W attn_in + b", off(linear.apply(at("attn_in")), at(point).flatten(2)))
        pattern, v = at("pattern"), at("v").repeat_interleave(parts.n_heads // parts.n_kv_heads, 2)
        yield Check(f"pattern.{layer} = softmax(scores)", off(at("scores").float().softmax(-1), pattern))
        yield Check(f"pattern.{layer} . v = z", off(torch.einsum("bhqk,bkhd->bqhd", pattern, v), at("z")))
        yield Check(f"pattern.{layer} is causal", float(pattern.triu(1).abs().max()))
        pre = at("mlp_pre")
        gated = block.gate is not None
        yield Check(f"mlp_pre.{layer} = W mlp_in + b", off((block.gate or block.up).apply(at("mlp_in")), pre))
        act = block.act(pre)
        if gated:
            yield Check(f"mlp_up.{layer} = W_up mlp_in + b", off(block.up.apply(at("mlp_in")), at("mlp_up")))
            act = act * at("mlp_up")
        yield Check(f"mlp_act.{layer} = act(mlp_pre) * mlp_up", off(act, at("mlp_act")))
        yield Check(f"mlp_proj.{layer} = W_down mlp_act + b", off(block.down.apply(at("mlp_act")), at("mlp_proj")))


def resumed(model: Model, tokens: Tokens, whole: Run) -> Iterator[Check]:
    """Runs put together from parts, against whole ones: a few passes over one short prompt.

    whole: a run of it, with its logits and the stream entering each layer.
    """
    assert whole.logits is not None
    n, middle = tokens.ids.shape[1], model.parts.n_layers // 2
    after = model.prefix(tokens.ids[:, : n // 2])
    rest = model.run(tokens.ids[:, n // 2 :], after=after).logits
    assert rest is not None
    yield Check("a run that goes on from a prefix = a whole one", off(rest, whole.logits[:, n // 2 :]))
    entry = Site("resid_pre", middle)
    entered = model.run(tokens, entering=(middle, whole.acts[entry])).logits
    assert entered is not None
    yield Check("a run that begins at a layer = a whole one", off(entered, whole.logits))
    steps = model.stream(tokens.ids[:, : n - 2], max_new_tokens=2)
    first, second = next(steps), next(steps, None)
    yield Check("the first step of an answer = a whole run", off(first.logits, whole.logits[:, n - 3]))
    if second is not None:
        said = torch.cat([tokens.ids[:, : n - 2], first.tokens[:, None]], 1)
        again = model.run(said, logits="last").logits
        assert again is not None
        yield Check("a step with a cache = a whole run", off(second.logits, again))
    yield from _together(model, tokens, middle)


def _together(model: Model, tokens: Tokens, layer: int) -> Iterator[Check]:
    """Edited runs that share what they can against a plain batch."""
    site, n = Site("mlp_out", layer), tokens.ids.shape[1]
    base = record(model, tokens, [site])
    value = base.acts[site][0, n // 2]
    new = torch.stack([value + noise(value, seed) for seed in (1, 2)])
    edits = [Edit(site, value=row, positions=[n // 2]) for row in new]
    apart = [replace(edit, rows=[row]) for row, edit in enumerate(edits)]
    batch = model.run(Tokens(tokens.ids.expand(2, -1), tokens.mask.expand(2, -1)), edits=apart, logits="last").logits
    assert batch is not None
    joined, _ = model.run_each(base, edits)
    yield Check("edited runs that share what they can = a plain batch of them", off(joined, batch))


def noise(value: Tensor, seed: int) -> Tensor:
    """Something of the shape of a value, a tenth of its size."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return (wide * SIZE * float(value.double().std().clamp(min=1e-3))).to(value)


def at_least_fp32(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _transpose_error(view: LinearView) -> float:
    """u · (J v) against (Jᵀ u) · v for random u and v, J the map to two logits, MLPs by the local rule."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(view.tokens().shape, generator=generator, dtype=view.dtype).to(view.tokens())
    up = x
    for layer, block in enumerate(view.parts.blocks):
        attn = view.attend(layer, up, bias=False)
        into = view.mlp_input(layer, up if view.parts.parallel else up + attn, bias=False)
        act = local_mlp.push_forward(block, into, view.value(Site("mlp_in", layer)))
        up = up + attn + view.after_mlp(layer, block.down.apply(act, bias=False), bias=False)
    ids = torch.tensor([0, view.parts.d_vocab // 2], device=x.device)
    forward = view.read_out(up, bias=False)[ids]
    *_, down = Descent(view, view.unembed_rows(ids, demean=False))
    return off((down.cotangents * x).sum((1, 2)), forward)
