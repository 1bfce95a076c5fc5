"""Edges: with all of them the model runs as it is, with none as in the other run, and each cut is what it says."""

from __future__ import annotations

import pytest
import torch

from families import CONFIGS, close, model_of, random_tokens
from hooke import Edit, HookeError
from hooke.methods.computation_graph import ComputationGraph, normed, run_edges, whole_run, written
from hooke.model import Tokens
from hooke.sites import Site

FAMILIES = sorted(CONFIGS)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_edges_are_the_model_and_none_the_other_run(family: str) -> None:
    model = model_of(family)
    ids, others = random_tokens(2, 7), random_tokens(2, 7, seed=1)
    computation, other = ComputationGraph.of(model.parts), written(model, others)
    shape = (1, len(computation.readers), len(computation.writers))
    close(run_edges(model, ids, torch.ones(shape), other), model.run(ids).logits)
    close(run_edges(model, ids, torch.zeros(shape), other), model.run(others).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_sums_to_the_stream(family: str) -> None:
    model = model_of(family)
    ids = random_tokens(2, 7)
    found = written(model, ids)
    site = Site("resid_post", model.parts.n_layers - 1)
    stream = model.run(ids, read=[site]).acts[site]
    rest = (stream - found.sum(0))[0, 0]  # biases of W_O, the same everywhere
    close(found.sum(0) + rest, stream)
    if all(block.o.bias is None for block in model.parts.blocks):
        close(found.sum(0), stream)


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "qwen3", "gemma2"])
def test_cutting_all_edges_of_a_node_is_patching_it(family: str) -> None:
    model = model_of(family)
    ids, others = random_tokens(1, 7), random_tokens(1, 7, seed=1)
    computation, other = ComputationGraph.of(model.parts), written(model, others)
    keep = torch.ones(2, len(computation.readers), len(computation.writers))
    keep[0, :, computation.mlp(1)] = 0
    keep[1, :, computation.heads(1).start + 2] = 0
    found = run_edges(model, ids.times(2), keep, other)
    donor = model.run(others, read=["z.1", "mlp_out.1"]).acts
    close(found[:1], model.run(ids, edits=[Edit("mlp_out.1", "set", donor["mlp_out.1"])]).logits)
    if model.parts.blocks[1].attn_post_norm is None:  # behind a norm the other heads would change with it
        edit = Edit("z.1", "set", donor["z.1"][0, :, [2]], index=[2])
        close(found[1:], model.run(ids, edits=[edit]).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_can_begin_at_the_first_cut(family: str) -> None:
    """Cuts in some layer, in the next, and into the logits alone, of padded prompts three times over."""
    model = model_of(family)
    mask = torch.arange(7) >= torch.tensor([[0], [2]])
    ids, others = (Tokens(random_tokens(2, 7, seed=seed).ids, mask) for seed in (0, 1))
    computation, whole = ComputationGraph.of(model.parts), whole_run(model, ids)
    close(whole.own, written(model, ids))
    other = written(model, others).repeat(1, 3, 1, 1)
    for cut in (computation.rows(1, "k"), computation.rows(2, "mlp"), computation.rows(None, "logits")):
        keep = torch.ones(6, len(computation.readers), len(computation.writers))
        keep[2:4, cut.start :, ::2] = 0
        plain, short = (run_edges(model, ids.times(3), keep, other, logits="last", whole=w) for w in (None, whole))
        close(short, plain)
        assert float((plain[:2] - plain[2:4]).abs().max()) > 1e-3
    close(run_edges(model, ids.times(3), torch.ones_like(keep), other, whole=whole), model.run(ids.times(3)).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_edge_is_path_patching(family: str) -> None:
    """The naive way: read the reader's stream, exchange one term, and write what the reader makes of it."""
    model = model_of(family)
    ids, others = random_tokens(1, 7), random_tokens(1, 7, seed=1)
    computation, own, other = ComputationGraph.of(model.parts), written(model, ids), written(model, others)
    keep = torch.ones(2, len(computation.readers), len(computation.writers))
    writer = computation.heads(0).start + 1
    keep[0, computation.rows(2, "mlp").start, writer] = 0
    keep[1, computation.rows(1, "k").start, writer] = 0
    found = run_edges(model, ids.times(2), keep, other)
    mid = "resid_pre.2" if model.parts.parallel else "resid_mid.2"
    acts = model.run(ids, read=[mid, "resid_pre.1", "k.1"]).acts
    change = other[writer] - own[writer]
    into = normed(model.parts.blocks[2].mlp_norm, acts[mid] + change)
    close(found[:1], model.run(ids, edits=[Edit("mlp_in.2", "set", into)]).logits)
    block = model.parts.blocks[1]
    k = block.k.apply(normed(block.attn_norm, acts["resid_pre.1"] + change)).unflatten(-1, acts["k.1"].shape[2:])
    close(found[1:], model.run(ids, edits=[Edit("k.1", "set", k[0, :, [0]], index=[0])]).logits)


def test_edges_have_the_written_form_of_others() -> None:
    computation = ComputationGraph(2, 4, 2, parallel=False)
    assert computation.writers[:6] == ["input", "a0.h0", "a0.h1", "a0.h2", "a0.h3", "m0"]
    assert computation.mlp(0) == 5 and computation.heads(1) == slice(6, 10)
    assert int(computation.edges.sum()) == 8 * 1 + 5 + 8 * 6 + 10 + 11
    keep = computation.mask(["input->a0.h2<k>", "a0.h3->m0", "m1->logits", "m0->a1.h1<q>"])
    assert sorted(computation.edge_names(keep)) == [
        "a0.h3->m0", "input->a0.h2<k>", "input->a0.h3<k>", "m0->a1.h1<q>", "m1->logits",
    ]  # fmt: skip
    assert computation.node_of(computation.rows(1, "v").start + 1) == computation.heads(1).start + 2
    with pytest.raises(HookeError, match="m1 is not computed before"):
        computation.mask(["m1->a0.h0<q>"])
    parallel = ComputationGraph(1, 2, 2, parallel=True)
    assert parallel.edge_names(parallel.mask(["input->m0"])) == ["input->m0"]
    with pytest.raises(HookeError, match="is not computed before"):
        parallel.mask(["a0.h0->m0"])


def test_gradients_pass_through_mixed_edges() -> None:
    model = model_of("llama", torch.float64)
    ids, others = random_tokens(1, 6), random_tokens(1, 6, seed=1)
    computation, other = ComputationGraph.of(model.parts), written(model, others)
    keep = torch.full(
        (1, len(computation.readers), len(computation.writers)), 0.7, dtype=torch.float64, requires_grad=True
    )
    value = run_edges(model, ids, keep, other, grad=True, logits="last")[0, 5]
    (found,) = torch.autograd.grad(value, keep)
    at = (0, computation.rows(2, "v").start, computation.mlp(0))
    step = torch.zeros_like(keep)
    step[at] = 1e-5
    with torch.no_grad():
        high = run_edges(model, ids, keep + step, other, logits="last")[0, 5]
        low = run_edges(model, ids, keep - step, other, logits="last")[0, 5]
    assert float(found[at]) == pytest.approx(float((high - low) / 2e-5), rel=1e-4)
    assert bool((found[:, ~computation.edges] == 0).all())
