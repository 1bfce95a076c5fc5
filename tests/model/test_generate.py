"""Generation: transformers' own `generate` and uncached runs give the expected tokens, logits and reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from families import N_LAYERS, NAMES, VOCAB, WINDOW, model_of, new_hf, one_thread, padded, random_ids  # noqa: F401
from hooke.dictionaries import neurons
from hooke.errors import HookeError
from hooke.model import Edit, Model, Tokens
from hooke.sites import Site

NEW = 7  # with prompts of 5, far longer than the sliding windows
LENGTHS = (5, 2, 4)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> None:
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= tolerance * max(1e-3, float(b.abs().max()))


def rows() -> list[Tensor]:
    return [random_ids(n, seed=10 + n) for n in LENGTHS]


def endless(name: str) -> Model:
    """A family's model without an end token."""
    hf = new_hf(name)
    hf.generation_config.eos_token_id = None
    hf.config.eos_token_id = None
    return Model(hf, None, name=name)


def whole(batch: Tokens, new: Tensor) -> Tokens:
    """The prompt and all new tokens but the last, as one uncached batch."""
    return Tokens(
        torch.cat([batch.ids, new[:, :-1]], 1), torch.cat([batch.mask, torch.ones_like(new[:, :-1]).bool()], 1)
    )


@pytest.mark.parametrize("name", NAMES)
def test_greedy_tokens_are_those_of_transformers(name: str) -> None:
    model = endless(name)
    for side in ("left", "right"):
        batch = padded(rows(), side)
        got = model.generate(batch, max_new_tokens=NEW)
        left = padded(rows(), "left")
        expected = model.hf.generate(
            input_ids=left.ids, attention_mask=left.mask.long(), max_new_tokens=NEW, do_sample=False, pad_token_id=0
        )
        assert torch.equal(got.tokens, expected[:, left.ids.shape[1] :])
        assert got.texts == [] and got.logits.shape == (3, NEW, VOCAB)
    one = model.generate(rows()[0], max_new_tokens=NEW)
    assert torch.equal(one.tokens[0], got.tokens[0])


@pytest.mark.parametrize("name", NAMES)
def test_cached_reads_equal_an_uncached_run(name: str) -> None:
    model = endless(name)
    batch = padded(rows(), "left")
    sites = [s for s in model.sites if s.point not in ("scores", "pattern")]
    got = model.generate(batch, max_new_tokens=NEW, read=sites)
    full = whole(batch, got.tokens)
    run = model.run(full, read=sites)
    assert run.logits is not None
    close(got.logits, run.logits[:, batch.ids.shape[1] - 1 :])
    assert set(got.acts) == set(sites)
    for site in sites:
        close(got.acts[site], run.acts[site])
    assert int(full.mask.sum(1).max()) > 3 * WINDOW


def test_patterns_of_a_stream_grow_with_the_cache() -> None:
    model = endless("llama")
    batch = padded(rows(), "left")
    steps = list(model.stream(batch, max_new_tokens=4, read=["pattern.1"]))
    tokens = torch.stack([step.tokens for step in steps], 1)
    expected = model.run(whole(batch, tokens), read=["pattern.1"]).acts["pattern.1"]
    close(steps[0].acts["pattern.1"], expected[:, :, :5, :5])
    for i, step in enumerate(steps[1:]):
        close(step.acts["pattern.1"], expected[:, :, 5 + i : 6 + i, : 6 + i])
    assert model.generate(batch, max_new_tokens=4, read=["pattern.1"]).acts["pattern.1"].shape[-1] == 5


def positions_of(kind: Any, length: int, n_new: int) -> list[int]:
    """The same positions, written out for an uncached run over prompt and answer."""
    if kind == "prompt":
        return list(range(length))
    if kind == "generated":
        return list(range(length, length + n_new - 1))
    return [p if p >= 0 else length + p for p in kind if p < length + n_new - 1 and p >= -length]


@pytest.mark.parametrize("kind", ["prompt", "generated", [0, 1], [-1], [3, 6], [-2, 7]], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_edits_agree_between_cached_and_uncached(name: str, kind: Any) -> None:
    model = endless(name)
    batch = padded(rows(), "left")
    vector = torch.linspace(-1, 1, model.parts.d_model)
    sites = [Site("resid_post", 0), Site("mlp_act", 1), Site("resid_post", 2)]

    def edits(at: Any, row: int | None = None) -> list[Edit]:
        only = None if row is None else [row]
        return [
            Edit(sites[0], "add", vector, positions=at, rows=only),
            Edit(sites[1], "scale", 3.0, index=[1, 5], positions=at, rows=only),
            Edit(Site("z", 2), index=1, positions=at, rows=only),
        ]

    got = model.generate(batch, max_new_tokens=NEW, read=sites, edits=edits(kind))
    full = whole(batch, got.tokens)
    by_row = [edit for row, n in enumerate(LENGTHS) for edit in edits(positions_of(kind, n, NEW), row)]
    run = model.run(full, read=sites, edits=by_row)
    assert run.logits is not None
    close(got.logits, run.logits[:, batch.ids.shape[1] - 1 :])
    for site in sites:
        close(got.acts[site], run.acts[site])
    assert not torch.equal(got.logits, model.generate(batch, max_new_tokens=NEW).logits)


@pytest.mark.parametrize("name", NAMES)
def test_pattern_edits_name_keys_by_position_under_cache_padding_and_windows(name: str) -> None:
    """No generated token may look at prompt position 1, also after a window has dropped it."""
    model = endless(name)
    batch = padded(rows(), "left")
    edits = [Edit(Site("pattern", layer), index=(None, 1)) for layer in range(N_LAYERS)]
    got = model.generate(batch, max_new_tokens=NEW, read=["resid_post.2"], edits=edits)
    run = model.run(whole(batch, got.tokens), read=["resid_post.2"], edits=edits)
    assert run.logits is not None
    close(got.logits, run.logits[:, batch.ids.shape[1] - 1 :])
    close(got.acts["resid_post.2"], run.acts["resid_post.2"])


def test_values_for_the_prompt_do_not_outlast_it() -> None:
    model = endless("llama")
    batch = padded(rows(), "left")
    clean = model.run(batch, read=["resid_post.1"]).acts["resid_post.1"]
    other = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    for value in (clean + 1, other):  # led by rows, as read; or by positions
        edits = [Edit("resid_post.1", value=value, positions="prompt")]
        got = model.generate(batch, max_new_tokens=4, read=["resid_post.1"], edits=edits)
        acts = got.acts["resid_post.1"]
        if value.ndim == 3:
            close(acts[:, :5][batch.mask], value[batch.mask])
        else:
            for row, n in enumerate(LENGTHS):
                close(acts[row, 5 - n : 5], other[:n])
        full = whole(batch, got.tokens)
        close(acts[:, 5:], uncached(model, full, acts[:, :5])[:, 5:])
    with pytest.raises(HookeError, match="positions"):
        model.generate(batch, max_new_tokens=4, edits=[Edit("resid_post.1", value=other)])


def uncached(model: Model, full: Tokens, prompt: Tensor) -> Tensor:
    """resid_post.1 of a run whose prompt columns are set there, so that the new ones see them."""
    n = full.ids.shape[1] - prompt.shape[1]
    pad = torch.zeros(prompt.shape[0], n, prompt.shape[2])
    mask = torch.cat([torch.ones(prompt.shape[:2]), torch.zeros(prompt.shape[0], n)], 1).bool()
    index = mask[:, :, None].expand(-1, -1, prompt.shape[2])
    edit = Edit("resid_post.1", value=torch.cat([prompt, pad], 1), index=index)
    return model.run(full, read=["resid_post.1"], edits=[edit]).acts["resid_post.1"]


def test_conditions_hold_at_each_step() -> None:
    model = endless("llama")
    ids = rows()[0]
    block = neurons(model)[0]
    values = model.generate(ids, max_new_tokens=NEW, read=["mlp_act.0"]).acts["mlp_act.0"].amax(-1)
    middle = float(values.median())
    got = model.generate(
        ids, max_new_tokens=NEW, read=["mlp_act.0", "mlp_out.1"], edits=[Edit("mlp_out.1", when=(block, middle))]
    )
    fires = got.acts["mlp_act.0"].amax(-1) > middle
    assert int(fires[:, 5:].sum()) > 0 and not bool(fires.all())
    assert torch.equal(got.acts["mlp_out.1"].eq(0).all(-1), fires)


def test_closing_a_stream_stops_it() -> None:
    model = endless("llama")
    calls: list[int] = []
    model.hf.model.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    stream = model.stream(rows()[0], max_new_tokens=50)
    assert not calls  # nothing runs before the first step is asked for
    next(stream)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(calls) == 2
    assert list(stream) == []
    assert len(list(model.stream(rows()[0], max_new_tokens=3))) == 3


def test_two_streams_of_one_model_interleave() -> None:
    model = endless("gemma2")
    prompts = rows()[:2]
    alone = [model.generate(p, max_new_tokens=5, read=["z.1"]) for p in prompts]
    streams = [model.stream(p, max_new_tokens=5, read=["z.1"]) for p in prompts]
    for i in range(5):
        for stream, expected in zip(streams, alone, strict=True):
            step = next(stream)
            assert torch.equal(step.tokens, expected.tokens[:, i])
            assert torch.equal(step.logits, expected.logits[:, i])


@pytest.mark.parametrize("many", [False, True])
def test_rows_end_at_their_end_token(many: bool) -> None:
    free = endless("llama")
    batch = padded(rows(), "left")
    plain = free.generate(batch, max_new_tokens=NEW).tokens
    ends = [int(plain[0, 2]), int(plain[1, 4])] if many else [int(plain[0, 2])]
    hf = free.hf
    hf.generation_config.eos_token_id = ends if many else ends[0]
    model = Model(hf, None, name="llama")
    got = model.generate(batch, max_new_tokens=NEW).tokens
    expected = hf.generate(
        input_ids=batch.ids, attention_mask=batch.mask.long(), max_new_tokens=NEW, do_sample=False, pad_token_id=ends[0]
    )[:, 5:]
    assert torch.equal(got, expected)
    stopped = model.generate(rows()[0], max_new_tokens=NEW).tokens[0]
    first = min(i for i, token in enumerate(plain[0].tolist()) if token in ends)
    assert torch.equal(stopped, plain[0, : first + 1])


def test_a_seed_makes_sampling_repeat() -> None:
    model = endless("gpt2")
    batch = padded(rows(), "left")

    def draw(**arguments: Any) -> Tensor:
        return model.generate(batch, max_new_tokens=NEW, **arguments).tokens

    assert torch.equal(draw(temperature=1.0, seed=3), draw(temperature=1.0, seed=3))
    assert not torch.equal(draw(temperature=1.0, seed=3), draw(temperature=1.0, seed=4))
    assert torch.equal(draw(temperature=1e-4, seed=3), draw())
    before = torch.get_rng_state()
    draw(temperature=1.0)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's random numbers are used


@pytest.mark.parametrize("temperature", [1e-6, 1e-40, 5e-324])
def test_the_smallest_temperatures_are_greedy(temperature: float) -> None:
    model = model_of("llama")
    greedy = model.generate(random_ids(2, 5), max_new_tokens=4)
    assert torch.equal(
        model.generate(random_ids(2, 5), max_new_tokens=4, temperature=temperature).tokens, greedy.tokens
    )


def test_sampling_follows_the_distribution() -> None:
    """One token after the same prompt in 4,000 rows, against the softmax at a temperature."""
    model = endless("gpt2")
    ids = rows()[0]
    step = next(iter(model.stream(ids.expand(4000, -1), max_new_tokens=1, temperature=0.3, seed=1)))
    logits = model.run(ids, logits="last").logits
    assert logits is not None
    chances = (logits[0] / 0.3).softmax(-1)
    counts = torch.bincount(step.tokens, minlength=VOCAB) / 4000
    assert float((counts - chances).abs().sum()) < 0.2
    assert float((counts - 1 / VOCAB).abs().sum()) > 0.4


def test_what_does_not_fit_is_refused_at_once() -> None:
    model = endless("llama")
    with pytest.raises(HookeError, match="5 prompt tokens and 60 new ones do not fit the context of 64"):
        model.stream(rows()[0], max_new_tokens=60)
    assert model.generate(rows()[0], max_new_tokens=59).tokens.shape == (1, 59)
    with pytest.raises(HookeError, match="at least 1"):
        model.generate(rows()[0], max_new_tokens=0)
    with pytest.raises(HookeError, match="position 8 of a prompt of 5"):
        model.generate(rows()[0], max_new_tokens=3, edits=[Edit("resid_post.1", positions=[8])])
    model.generate(rows()[0], max_new_tokens=3, edits=[Edit("resid_post.1", positions=[7])])
