"""Path patching of edges against the same change made by hand, and sums that must hold."""

from __future__ import annotations

import pytest
import torch

from families import model_of, one_thread, random_ids  # noqa: F401
from hooke import Edit
from hooke.errors import HookeError
from hooke.methods.patch_path import edge_reads, find_edge, output_change, path_patch
from hooke.model import Tokens
from hooke.model.packed import record

N_POS, GOOD, BAD = 5, 11, 45


def row(seed: int) -> Tokens:
    ids = random_ids(1, N_POS, seed=seed)
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


def difference(logits: torch.Tensor | None) -> float:
    assert logits is not None
    return float(logits[0, GOOD] - logits[0, BAD])


@pytest.mark.parametrize("name", ["llama", "gemma2", "neox", "gpt2"])
def test_edges_equal_the_change_made_by_hand(name: str) -> None:
    """The reader's input is recomputed by the model itself, from a stream to which the change was added."""
    model, clean, corrupt = model_of(name), row(1), row(2)
    edges = ["input->a0.h1<v>", "a0.h2->a2.h3<q>", "m0->a1.h1<k>", "a0.h0->m2", "m1->logits"]
    edges += [] if model.parts.parallel else ["a1.h3->m1"]
    got = path_patch(model, clean, corrupt, edges, target=GOOD, contrast=BAD).payload
    base, other = (record(model, t, edge_reads(model)) for t in (corrupt, clean))
    for found in got["edges"]:
        writer, reader = find_edge(model, found["edge"])
        change = output_change(model, writer, base, other)
        if reader.kind == "logits":
            edits = [Edit("resid_post.2", "add", change)]
        else:
            point = "resid_pre" if reader.kind == "head" or model.parts.parallel else "resid_mid"
            into = reader.part if reader.kind == "head" else "mlp_in"
            add = Edit(f"{point}.{reader.layer}", "add", change)
            value = model.run(corrupt, edits=[add], read=[f"{into}.{reader.layer}"]).acts[f"{into}.{reader.layer}"][0]
            head = None
            if reader.kind == "head":
                head = reader.head * value.shape[1] // model.parts.n_heads
                value = value[:, head][:, None]
            index = None if head is None else [head]
            edits = [Edit(f"{into}.{reader.layer}", value=value, index=index)]
        expected = difference(model.run(corrupt, edits=edits, logits="last").logits)
        assert found["value"] == pytest.approx(expected, abs=1e-4), found["edge"]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_all_that_heads_and_mlps_write_adds_up_to_the_stream(name: str) -> None:
    """Without a norm after attention the writers are all of the stream, so their changes sum to its change."""
    model = model_of(name)
    base, other = (record(model, row(seed), edge_reads(model)) for seed in (1, 2))
    names = ["input", *(f"a{n}.h{h}" for n in range(3) for h in range(4)), *(f"m{n}" for n in range(3))]
    total = sum(output_change(model, find_edge(model, f"{n}->logits")[0], base, other) for n in names)
    assert torch.allclose(total, other.resid[-1] - base.resid[-1], atol=1e-4)


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
        find_edge(model_of("neox"), "a1.h0->m1")
    with pytest.raises(HookeError, match="each edge once"):
        path_patch(model, row(1), row(2), [], target=GOOD, contrast=BAD)
