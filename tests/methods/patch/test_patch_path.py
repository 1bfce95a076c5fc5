"""Path patching of edges against the same change made by hand, and sums that must hold."""

from __future__ import annotations

import pytest
import torch

from families import CONFIGS, model_of, one_thread, random_ids  # noqa: F401
from hooke import Edit, Model
from hooke.errors import HookeError
from hooke.methods.computation_graph import ComputationGraph, written
from hooke.methods.patch.path import path_patch
from hooke.model import Tokens
from slow_cuts import slow_edges

N_POS, GOOD, BAD = 5, 11, 45


def row(seed: int) -> Tokens:
    ids = random_ids(1, N_POS, seed=seed)
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


def difference(logits: torch.Tensor | None) -> float:
    assert logits is not None
    return float(logits[0, GOOD] - logits[0, BAD])


def by_hand(model: Model, tokens: Tokens, writer: str) -> torch.Tensor:
    """(pos, d_model): what one writer adds to the stream, from its own weights and, behind a norm, its denominators."""
    if writer == "input":
        return model.run(tokens, read="resid_pre.0").acts["resid_pre.0"][0]
    if writer.startswith("m"):
        return model.run(tokens, read=f"mlp_out.{writer[1:]}").acts[f"mlp_out.{writer[1:]}"][0]
    layer, head = (int(part[1:]) for part in writer.split("."))
    block, width = model.parts.blocks[layer], model.parts.d_head
    z = model.run(tokens, read=f"z.{layer}").acts[f"z.{layer}"][0, :, head]
    out = z @ block.o.weight[:, head * width : (head + 1) * width].T
    norm = block.attn_post_norm
    if norm is None:
        return out
    scale = model.run(tokens, read=f"attn_post_scale.{layer}").acts[f"attn_post_scale.{layer}"][0]
    return norm.weight * (out - out.mean(-1, keepdim=True) if norm.centred else out) / scale


def some_edges(computation: ComputationGraph, count: int = 20) -> list[str]:
    """Edges of every kind, one after another through the list of all."""
    names = list(computation.places)
    return [names[i * (len(names) - 1) // (count - 1)] for i in range(count)]


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_edges_equal_the_change_made_by_hand(name: str) -> None:
    """The reader's input is recomputed by the model itself, from a stream to which the change was added."""
    model, clean, corrupt = model_of(name), row(1), row(2)
    edges = some_edges(ComputationGraph.of(model.parts))
    got = path_patch(model, clean, corrupt, edges, target=GOOD, contrast=BAD).payload
    for found in got["edges"]:
        writer, _, reader = found["edge"].partition("->")
        change = by_hand(model, clean, writer) - by_hand(model, corrupt, writer)
        if reader == "logits":
            edits = [Edit("resid_post.2", "add", change)]
        else:
            layer, _, part = reader[1:].partition(".h")
            point = "resid_pre" if part or model.parts.parallel else "resid_mid"
            into = f"{reader[-2] if part else 'mlp_in'}.{layer}"
            add = Edit(f"{point}.{layer}", "add", change)
            value, index = model.run(corrupt, edits=[add], read=into).acts[into][0], None
            if part:
                head = int(part[:-3]) * value.shape[1] // model.parts.n_heads
                value, index = value[:, head][:, None], [head]
            edits = [Edit(into, value=value, index=index)]
        expected = difference(model.run(corrupt, edits=edits, logits="last").logits)
        assert found["value"] == pytest.approx(expected, abs=1e-4), found["edge"]


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_an_edge_is_the_same_in_a_circuit(name: str) -> None:
    """The clean prompt with one edge from the corrupt one: as `path_patch` has it, and as a run with a mask."""
    model, clean, corrupt = model_of(name), row(1), row(2)
    computation = ComputationGraph.of(model.parts)
    edges = some_edges(computation)
    asked = {"target": GOOD, "contrast": BAD, "direction": "noise"}
    got = path_patch(model, clean, corrupt, edges, **asked).payload["edges"]
    keep = torch.stack([1.0 - computation.mask([edge]).float() for edge in edges])
    logits = slow_edges(model, clean.times(len(edges)), keep, written(model, corrupt), logits="last")
    expected = (logits[:, GOOD] - logits[:, BAD]).tolist()
    assert [found["value"] for found in got] == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 1e-3


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_changes_of_all_writers_add_up(name: str) -> None:
    """Also behind a norm after attention: into the logits they are all of the stream's change."""
    model = model_of(name)
    names = ComputationGraph.of(model.parts).writers
    total = sum(by_hand(model, row(2), n) - by_hand(model, row(1), n) for n in names)
    a, b = (model.run(row(seed), read="resid_post.2").acts["resid_post.2"][0] for seed in (1, 2))
    assert torch.allclose(total, b - a, atol=1e-4)


def test_edges_that_are_refused() -> None:
    model = model_of("llama")
    for edge, says in (
        ("a0.h1", "cannot read"),
        ("a0.h1->x3", "cannot read"),
        ("a0.h1->a2.h3", "says what it reads"),
        ("m1->a1.h0<q>", "is not computed before"),
        ("a1.h0->a1.h1<k>", "is not computed before"),
        ("logits->m1", "cannot read edge"),
        ("m0->input", "input reads nothing"),
        ("a9.h0->m2", "3 layers and 4 heads"),
    ):
        with pytest.raises(HookeError, match=says):
            path_patch(model, row(1), row(2), [edge], target=GOOD, contrast=BAD)
    with pytest.raises(HookeError, match="is not computed before"):
        ComputationGraph.of(model_of("neox").parts).place("a1.h0->m1")
    for edge in ("", "->", "m0->m1->m2", "a0.h1<q>->m2", "a０.h1->m2", "a0.h1->a1.h0<x>", "m99999999999->logits"):
        with pytest.raises(HookeError, match="cannot read"):
            ComputationGraph.of(model.parts).place(edge)
    with pytest.raises(HookeError, match="each edge once"):
        path_patch(model, row(1), row(2), [], target=GOOD, contrast=BAD)
