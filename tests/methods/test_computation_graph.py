"""Edges: with all of them the model runs as it is, with none as in the other run, and each cut is what it says."""

from __future__ import annotations

import pytest
import torch

from families import CONFIGS, close, model_of, new_hf, random_tokens
from hooke import Edit, HookeError
from hooke.methods.computation_graph import ComputationGraph, normed, written
from hooke.methods.edge_runs import begun_pair, pair_runs, run_edges
from hooke.model import Model, Tokens
from hooke.sites import Site
from slow_cuts import slow_edges

FAMILIES = sorted(CONFIGS)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_edges_are_the_model_and_none_the_other_run(family: str) -> None:
    model = model_of(family)
    ids, others = random_tokens(2, 7), random_tokens(2, 7, seed=1)
    computation, pairs = ComputationGraph.of(model.parts), pair_runs(model, ids, others)
    shape = (1, len(computation.readers), len(computation.writers))
    close(run_edges(model, pairs, torch.ones(shape)), model.run(ids).logits)
    close(run_edges(model, pairs, torch.zeros(shape)), model.run(others).logits)


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
    computation = ComputationGraph.of(model.parts)
    keep = torch.ones(2, len(computation.readers), len(computation.writers))
    keep[0, :, computation.mlp(1)] = 0
    keep[1, :, computation.heads(1).start + 2] = 0
    found = run_edges(model, pair_runs(model, ids, others), keep)
    donor = model.run(others, read=["z.1", "mlp_out.1"]).acts
    close(found[:1], model.run(ids, edits=[Edit("mlp_out.1", "set", donor["mlp_out.1"])]).logits)
    if model.parts.blocks[1].attn_post_norm is None:  # behind a norm the other heads would change with it
        edit = Edit("z.1", "set", donor["z.1"][0, :, [2]], index=[2])
        close(found[1:], model.run(ids, edits=[edit]).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_of_every_size_give_what_the_equation_gives(family: str) -> None:
    """Cuts from some layer on, into the logits alone, of few edges, of most, of shares of edges, and mixed in one batch,
    for padded prompts; against the slow form."""
    model = model_of(family)
    mask = torch.arange(7) >= torch.tensor([[0], [2]])
    ids, others = (Tokens(random_tokens(2, 7, seed=seed).ids, mask) for seed in (0, 1))
    computation, pairs, other = ComputationGraph.of(model.parts), pair_runs(model, ids, others), written(model, others)
    generator = torch.Generator().manual_seed(4)
    whole = torch.ones(2, *computation.edges.shape)
    cases = [torch.cat([whole, whole])]
    for cut in (computation.rows(1, "k"), computation.rows(2, "mlp"), computation.rows(None, "logits")):
        late = whole.clone()
        late[:, cut.start :, ::2] = 0
        cases += [torch.cat([whole, late]), late, 1 - late]
    for share in (0.02, 0.3, 0.9):
        drawn = (torch.rand(4, *computation.edges.shape, generator=generator) < share).float()
        cases += [drawn, drawn * torch.rand(drawn.shape, generator=generator)]
    for keep in cases:
        times = len(keep) // 2
        with torch.no_grad():
            slow = slow_edges(model, ids.times(times), keep, other.repeat(1, times, 1, 1), logits="last")
        close(run_edges(model, pairs, keep, logits="last"), slow)
        close(run_edges(model, pairs, keep, grad=True, logits="last"), slow)
    assert float((slow - model.run(ids.times(2), logits="last").logits).abs().max()) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_pair_begins_with_is_run_once(family: str) -> None:
    model = model_of(family)
    ids = random_tokens(1, 7)
    others = Tokens(ids.ids.clone(), ids.mask)
    others.ids[0, 3:5] = random_tokens(1, 2, seed=1).ids[0]
    computation, other = ComputationGraph.of(model.parts), written(model, others)
    generator = torch.Generator().manual_seed(4)
    pair = begun_pair(model, ids, others)
    assert pair.tokens.ids.shape == (1, 4) and pair.after is not None
    for share in (0.1, 0.5, 0.9):
        keep = (torch.rand(3, *computation.edges.shape, generator=generator) < share).float()
        with torch.no_grad():
            slow = slow_edges(model, ids.times(3), keep, other, logits="last")
        close(run_edges(model, pair, keep, logits="last"), slow)
    with pytest.raises(HookeError, match="are the same"):
        begun_pair(model, ids, ids)


def test_layers_before_the_first_reader_that_mixes_are_not_run() -> None:
    model = Model(new_hf("llama"), None, name="llama")
    ran: list[int] = []
    for i, layer in enumerate(model.hf.model.layers):
        layer.mlp.register_forward_pre_hook(lambda _, args, i=i: ran.append(i))
    computation, pairs = (
        ComputationGraph.of(model.parts),
        pair_runs(model, random_tokens(1, 5), random_tokens(1, 5, seed=1)),
    )
    keep = torch.ones(1, *computation.edges.shape)
    keep[:, computation.rows(1, "q").start] = 0
    for mask in (keep, 1 - keep):  # cuts out of the whole; and a circuit of a few edges
        ran.clear()
        run_edges(model, pairs, mask)
        assert ran == [1, 2]


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
    found = run_edges(model, pair_runs(model, ids, others), keep)
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
    computation, pairs = ComputationGraph.of(model.parts), pair_runs(model, ids, others)
    keep = torch.full(
        (1, len(computation.readers), len(computation.writers)), 0.7, dtype=torch.float64, requires_grad=True
    )
    value = run_edges(model, pairs, keep, grad=True, logits="last")[0, 5]
    (found,) = torch.autograd.grad(value, keep)
    at = (0, computation.rows(2, "v").start, computation.mlp(0))
    step = torch.zeros_like(keep)
    step[at] = 1e-5
    with torch.no_grad():
        high = run_edges(model, pairs, keep + step, logits="last")[0, 5]
        low = run_edges(model, pairs, keep - step, logits="last")[0, 5]
    assert float(found[at]) == pytest.approx(float((high - low) / 2e-5), rel=1e-4)
    assert bool((found[:, ~computation.edges] == 0).all())
