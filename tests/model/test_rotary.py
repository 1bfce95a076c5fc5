"""Rotations that depend on the length of the whole sequence: all that shares a cache, against plain transformers
that share nothing (each row alone, no cache, a fresh model for each length)."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from families import CONFIGS, VOCAB, close, logits_of, new_hf, one_thread, padded, random_ids, random_tokens  # noqa: F401
from hooke.errors import HookeError
from hooke.methods.edge_runs import begun_pair
from hooke.model import Edit, Model
from hooke.model.attend import heads
from hooke.model.recorded import record
from hooke.model.run import Tokens
from hooke.model.run_each import Writes, substitute
from hooke.sites import Site

TURN = 12  # the length after which these models turn otherwise
ROTARY = [name for name in CONFIGS if name != "gpt2"]
KINDS = ["longrope", "dynamic"]
PLAIN = ["default", "linear", "yarn", "llama3"]


def rope(name: str, kind: str) -> dict[str, Any]:
    """What to change in a family's configuration to give it this kind of rotation."""
    d_head = {"qwen3": 16, "gemma2": 16, "gemma3": 16}.get(name, 8)
    one: dict[str, Any] = {"rope_type": kind, "rope_theta": 100.0, "partial_rotary_factor": 1.0}
    more: dict[str, dict[str, Any]] = {
        "longrope": {
            "short_factor": [1.0 + 0.3 * i for i in range(d_head // 2)],
            "long_factor": [3.0 + 0.5 * i for i in range(d_head // 2)],
            "original_max_position_embeddings": TURN,
            "factor": 4.0,
        },
        "dynamic": {"factor": 4.0},
        "linear": {"factor": 4.0},
        "yarn": {"factor": 4.0, "original_max_position_embeddings": TURN},
        "llama3": {
            "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": TURN
        },
    }  # fmt: skip
    one |= more.get(kind, {})
    both = {"sliding_attention": {"rope_type": "default", "rope_theta": 100.0}, "full_attention": one}
    changes: dict[str, Any] = {"rope_parameters": both if name == "gemma3" else one}
    if kind == "longrope" and name == "phi3":
        changes["original_max_position_embeddings"] = TURN
    if kind == "dynamic":
        changes["max_position_embeddings"] = TURN
    return changes


def fresh(name: str, kind: str) -> Any:
    return new_hf(name, **rope(name, kind))


@cache
def plain(name: str, kind: str) -> tuple[Any, Any]:
    """A model for plain transformers alone, and its rotary module before it has run anything."""
    hf = fresh(name, kind)
    return hf, copy.deepcopy(hf.base_model.rotary_emb)


def alone(name: str, kind: str, ids: Tensor) -> Tensor:
    """Logits (pos, vocab) of plain transformers on one row, by a model that has run nothing else."""
    hf, rotary = plain(name, kind)
    hf.base_model.rotary_emb = copy.deepcopy(rotary)
    with torch.no_grad():
        return hf(input_ids=ids[None], use_cache=False).logits[0]


def endless(name: str, kind: str) -> Model:
    """A model whose answers have no end."""
    hf = fresh(name, kind)
    hf.generation_config.eos_token_id = hf.config.eos_token_id = None
    return Model(hf, None, name=name)


def greedy(name: str, kind: str, ids: Tensor, count: int) -> tuple[list[int], Tensor]:
    """What plain transformers goes on with, token by token without a cache, and the logits of each."""
    found, logits = [], []
    for _ in range(count):
        logits.append(alone(name, kind, ids)[-1])
        found.append(int(logits[-1].argmax()))
        ids = torch.cat([ids, torch.tensor(found[-1:])])
    return found, torch.stack(logits)


@pytest.mark.parametrize("kind", [*KINDS, *PLAIN])
@pytest.mark.parametrize("name", ROTARY)
def test_generation_crosses_the_boundary_as_runs_without_a_cache(name: str, kind: str) -> None:
    model = endless(name, kind)
    rows = [random_ids(TURN - 3), random_ids(TURN - 6, seed=1), random_ids(TURN + 3, seed=2)]
    made = model.generate(padded(rows, "left"), max_new_tokens=9, read=["resid_post.2"])
    for i, row in enumerate(rows):
        ids, logits = greedy(name, kind, row, 9)
        assert made.tokens[i].tolist() == ids
        close(made.logits[i], logits)
    assert bool(model.parts.rotary.modules) == (kind in KINDS)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROTARY)
def test_a_long_row_does_not_change_the_rows_beside_it(name: str, kind: str, side: str) -> None:
    model = Model(fresh(name, kind), None, name=name)
    rows = [random_ids(n, seed=n) for n in (3, TURN, TURN + 1, TURN + 9)]
    run = model.run(padded(rows, side))
    assert run.logits is not None
    for i, row in enumerate(rows):
        close(run.logits[i][run.mask[i]], alone(name, kind, row))


@pytest.mark.parametrize("kind", [*KINDS, "default"])
@pytest.mark.parametrize("name", ROTARY)
def test_runs_that_go_on_from_a_beginning_equal_whole_runs(name: str, kind: str) -> None:
    model = Model(fresh(name, kind), None, name=name)
    ids = random_ids(TURN + 8)
    prefix = model.prefix(ids[: TURN - 4])
    for end in (TURN - 1, TURN + 8, TURN, TURN + 1, TURN + 5):  # there and back again
        model.hf(input_ids=ids[None, :end], use_cache=False)  # a call of the person's own lets some rotations grow
        rest = ids[None, TURN - 4 : end].expand(2, -1)
        run = model.run(rest, read=["mlp_act.1"], after=prefix)
        assert run.logits is not None
        expected = alone(name, kind, ids[:end])[TURN - 4 :]
        close(run.logits[1], expected)
        whole = model.run(ids[:end], read=["mlp_act.1"]).acts["mlp_act.1"]
        close(run.acts["mlp_act.1"][0], whole[0, TURN - 4 :])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROTARY)
def test_many_edited_runs_of_one_prompt_equal_single_runs(name: str, kind: str) -> None:
    """Shared beginnings (`run_each`), packed rows (`substitute`), pairs, and queries and keys (`heads`)."""
    model = Model(fresh(name, kind), None, name=name)
    n, width = TURN + 6, model.parts.d_mlp
    tokens = random_tokens(1, n)
    late = torch.zeros(n, width, dtype=torch.bool)
    late[n - 2, 5] = True
    sets = [[Edit("mlp_act.0", value=torch.ones(n, width), index=late)], [Edit("z.1", positions=[3])]]
    single = torch.stack([logits_of(model, tokens, edits=edits, logits="last")[0] for edits in sets])
    close(model.run_each(tokens, sets)[0], single)
    base = record(model, tokens)
    close(base.logits, alone(name, kind, tokens.ids[0])[-1])
    site = Site("z", 1)
    for at in (1, n - 1):
        value = torch.ones(1, model.parts.n_heads, model.parts.d_head)
        writes = Writes(site, torch.tensor([0]), torch.tensor([at]), None, value)
        expected = logits_of(model, tokens, edits=[Edit(site, value=value, positions=[at])], logits="last")
        close(substitute(model, base, 1, [writes]), expected)
    other = tokens.ids.clone()
    other[0, TURN - 2] = (other[0, TURN - 2] + 1) % VOCAB
    found = begun_pair(model, tokens, Tokens(other, tokens.mask), [Site("final_norm")])
    assert found.after is not None
    whole = model.run(other, read=["final_norm"]).acts["final_norm"]
    close(found.other["final_norm"], whole[:, TURN - 2 :])
    pattern = model.run(tokens, read=["pattern.1"]).acts["pattern.1"][0]
    own = heads(model, tokens)[1]
    close(own.scores(own.queries, own.keys).softmax(-1).float(), pattern)


@pytest.mark.parametrize("name", ROTARY)
def test_runs_do_not_depend_on_those_before(name: str) -> None:
    """Frequencies that have grown stay grown in transformers; each run here is as of a fresh model, and the
    person's own module is left as it was."""
    kind = "dynamic"
    hf = fresh(name, kind)
    with torch.no_grad():
        hf(input_ids=random_ids(1, TURN + 20), use_cache=False)
    before = hf(input_ids=random_ids(1, TURN + 2), use_cache=False).logits
    model = Model(hf, None, name=name)
    for n in (TURN + 20, TURN, TURN + 2, 4, TURN + 2):
        ids = random_ids(1, n)
        close(logits_of(model, ids)[0], alone(name, kind, ids[0]))
    assert torch.equal(hf(input_ids=random_ids(1, TURN + 2), use_cache=False).logits, before)


def test_edits_hold_when_a_cache_is_made_again() -> None:
    """Edits of prompt, answer and named positions, across the boundary, against the same with each row alone."""
    model = endless("phi3", "longrope")
    tokens = random_tokens(1, TURN - 3)
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    edits = [
        Edit("resid_post.0", "add", vector, positions="prompt"),
        Edit("resid_post.1", "add", -vector, positions="generated"),
        Edit("mlp_out.1", "add", vector, positions=[2, TURN - 1]),
    ]
    made = model.generate(tokens, max_new_tokens=8, edits=edits, read=["resid_post.2", "pattern.1"])
    ids = tokens.ids
    last = TURN - 3
    for step in range(8):
        n = ids.shape[1]
        same = [
            Edit("resid_post.0", "add", vector, positions=list(range(last))),
            *([Edit("resid_post.1", "add", -vector, positions=list(range(last, n)))] if n > last else []),
            Edit("mlp_out.1", "add", vector, positions=[i for i in (2, TURN - 1) if i < n]),
        ]
        run = model.run(ids, edits=same, read=["resid_post.2"], logits="last")
        close(made.logits[:, step], run.logits)
        close(made.acts["resid_post.2"][:, n - 1], run.acts["resid_post.2"][:, -1])
        ids = torch.cat([ids, made.tokens[:, step : step + 1]], 1)


def test_a_sliding_window_keeps_its_width_when_a_cache_is_made_again() -> None:
    hf = new_hf("phi3", sliding_window=5, **rope("phi3", "longrope"))
    hf.generation_config.eos_token_id = hf.config.eos_token_id = None
    model = Model(hf, None, name="phi3")
    ids = random_ids(1, TURN - 3)
    for step in model.stream(ids, max_new_tokens=8, read=["pattern.1", "z.1"]):
        run = model.run(ids, read=["pattern.1", "z.1"], logits="last")
        close(step.logits, run.logits)
        close(step.acts["z.1"][:, -1], run.acts["z.1"][:, -1])
        width = step.acts["pattern.1"].shape[-1]
        assert width == 5 or ids.shape[1] == TURN - 3
        close(step.acts["pattern.1"][:, :, -1], run.acts["pattern.1"][:, :, -1, -width:])
        ids = torch.cat([ids, step.tokens[:, None]], 1)


def test_a_rotation_of_an_unknown_kind_is_found_by_trying() -> None:
    class OwnRotaryEmbedding(torch.nn.Module):
        def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
            length = position_ids.max() + 1
            angle = position_ids[..., None].float() * torch.linspace(1, 0.1, 8) / (3 if length > 16 else 1)
            return angle.cos(), angle.sin()

    hf = new_hf("llama")
    hf.model.rotary_emb = OwnRotaryEmbedding()
    model = Model(hf, None, name="own")
    assert model.parts.rotary.modules
    rows = [random_ids(10), random_ids(20, seed=1)]
    run = model.run(padded(rows, "left"))
    assert run.logits is not None
    with torch.no_grad():
        for i, row in enumerate(rows):
            close(run.logits[i][run.mask[i]], hf(input_ids=row[None]).logits[0])


def test_tokens_beyond_the_context_are_refused_whatever_they_come_as() -> None:
    model = Model(fresh("llama", "dynamic"), None, name="llama")
    assert model.parts.context == 4 * TURN
    with pytest.raises(HookeError, match=f"context of llama is {4 * TURN}"):
        model.run(random_tokens(1, 4 * TURN + 1))
