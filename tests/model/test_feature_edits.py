"""Edits of a dictionary's features in a live run, against plain hooks on the transformers model and naive loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from families import close, model_of, one_thread, padded, random_ids  # noqa: F401
from hooke.dictionaries import Dictionary, Direction, neurons
from hooke.errors import HookeError
from hooke.model import Edit, Model, Tokens
from hooke.model.run_each import run_each
from hooke.sites import Site
from transcoders import Transcoder

F64 = torch.float64
N_POS = 6
FP32 = 1e-6  # transformers' own norms and softmax compute in fp32 whatever the model


def autoencoder(layer: int = 1, seed: int = 1) -> Transcoder:
    return Transcoder(f"resid_post.{layer}", [f"resid_post.{layer}"], 32, 40, seed=seed)


def changed(block: Transcoder, x: Tensor, ids: list[int], change: Callable[[Tensor], Tensor]) -> Tensor:
    """x (pos, width) with what the features write moved by how their values change, one after another."""
    out = x.clone()
    values = block.dense(x)
    for p in range(len(x)):
        for i in ids:
            out[p] += (change(values[p, i]) - values[p, i]) * block.decoders[block.writes[0]][i]
    return out


def plain(model: Model, ids: Tensor, layer: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Logits (pos, d_vocab) of transformers alone, with the output of one block (pos, width) changed by a plain hook."""

    def hook(_: Any, __: Any, output: Any) -> Any:
        x = output if isinstance(output, Tensor) else output[0]
        new = change(x[0])[None]
        return new if isinstance(output, Tensor) else (new, *output[1:])

    handle = model.hf.model.layers[layer].register_forward_hook(hook)
    try:
        with torch.no_grad():
            return model.hf(input_ids=ids, use_cache=False).logits[0]
    finally:
        handle.remove()


def test_rows_have_values_and_weights_of_their_own() -> None:
    """Of each row what an edit by itself does, and slopes in the weights as differences have them."""
    model, block, ids = model_of("llama", F64), autoencoder(), random_ids(3, N_POS)
    index, generator = ([4, 1, 4], [3, 3, 9]), torch.Generator().manual_seed(0)
    values, weights = (torch.rand(3, 3, generator=generator, dtype=F64) for _ in range(2))

    def logits(value: Tensor, weight: Tensor, which: Tensor = ids, **more: Any) -> Tensor:
        edit = Edit("resid_post.1", "feature", value, index=index, weight=weight, feature=(block, "set"))
        found = model.run(which, edits=edit, logits="last", **more).logits
        assert found is not None
        return found

    together = logits(values, weights)
    for row in range(3):
        alone = logits(values[row], weights[row], ids[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-10, rtol=0)
        assert float((alone - model.run(ids[row : row + 1], logits="last").logits).abs().max()) > 1e-4  # type: ignore[operator]
    leaf = weights.clone().requires_grad_()
    logits(values, leaf, grad=True)[:, 5].sum().backward()
    step, found = 1e-2, torch.zeros(3, 3, dtype=F64)  # norms compute in fp32
    for k in range(9):
        move = torch.zeros(9, dtype=F64)
        move[k] = step
        ends = [logits(values, weights + sign * move.view(3, 3))[:, 5].sum() for sign in (1, -1)]
        found.view(-1)[k] = (ends[0] - ends[1]) / (2 * step)
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, found, atol=2e-4, rtol=1e-2)
    assert bool((leaf.grad != 0).any())


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "set": lambda v: torch.full_like(v, 0.3),
    "add": lambda v: v + 0.3,
    "scale": lambda v: v * 0.3,
}


@pytest.mark.parametrize("way", WAYS)
def test_an_edit_everywhere_is_what_a_plain_hook_does(way: str) -> None:
    model, block, ids = model_of("llama", F64), autoencoder(), random_ids(1, N_POS)
    edit = Edit("resid_post.1", "feature", 0.3, index=[3, 17, 5], feature=(block, way))
    found = model.run(ids, edits=edit).logits
    expected = plain(model, ids, 1, lambda x: changed(block, x, [3, 17, 5], WAYS[way]))
    assert found is not None
    torch.testing.assert_close(found[0], expected, atol=FP32, rtol=0)
    assert float((found - model.run(ids).logits).abs().max()) > 1e-3


def test_features_at_positions_have_a_value_each() -> None:
    model, block, ids = model_of("llama", F64), autoencoder(), random_ids(1, N_POS)
    places, features, values = [4, 1, 4], [3, 3, 9], torch.tensor([0.5, -1.0, 2.0], dtype=F64)
    edit = Edit("resid_post.1", "feature", values, index=(places, features), feature=(block, "set"))

    def by_hand(x: Tensor) -> Tensor:
        out, before = x.clone(), block.dense(x)
        for p, i, value in zip(places, features, values, strict=True):
            out[p] += (value - before[p, i]) * block.decoders[block.writes[0]][i]
        return out

    found = model.run(ids, edits=edit).logits
    assert found is not None
    torch.testing.assert_close(found[0], plain(model, ids, 1, by_hand), atol=FP32, rtol=0)
    # from the end, half of the way, and of every position its own value
    last = Edit("resid_post.1", "feature", values, index=([-2, 1, -2], features), feature=(block, "set"))
    assert torch.equal(model.run(ids, edits=last).logits, found)
    half = Edit("resid_post.1", "feature", values, index=(places, features), feature=(block, "set"), weight=0.5)
    acts = [model.run(ids, read="resid_post.1", edits=e).acts["resid_post.1"] for e in ([], half, edit)]
    torch.testing.assert_close(acts[1], (acts[0] + acts[2]) / 2, atol=1e-12, rtol=0)
    table = torch.arange(N_POS * 2, dtype=F64).view(N_POS, 2)
    grid = Edit("resid_post.1", "feature", table, index=[3, 9], feature=(block, "set"))
    pairs = Edit(
        "resid_post.1", "feature", table.flatten(), feature=(block, "set"),
        index=([p for p in range(N_POS) for _ in range(2)], [3, 9] * N_POS),
    )  # fmt: skip
    torch.testing.assert_close(
        model.run(ids, edits=grid).logits, model.run(ids, edits=pairs).logits, atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(side: Any) -> None:
    model, block = model_of("llama", F64), autoencoder()
    rows = [random_ids(6), random_ids(4, seed=3)]
    edits = [
        Edit("resid_post.1", "feature", torch.tensor([1.0, 2.0], dtype=F64), index=([3, -1], [3, 9]), feature=(block, "set")),
        Edit("resid_post.1", "feature", 2.0, index=[7], positions=[2], feature=(block, "scale")),
        Edit("resid_post.1", "feature", 0.4, index=[8], rows=[1], feature=(block, "add")),
    ]  # fmt: skip
    together = model.run(padded(rows, side), edits=edits, logits="last").logits
    assert together is not None
    for k, row in enumerate(rows):
        own = [edits[0], edits[1], *([edits[2]] if k == 1 else [])]
        own = [Edit(e.site, e.op, e.value, e.positions, e.index, feature=e.feature) for e in own]
        alone = model.run(row[None], edits=own, logits="last").logits
        torch.testing.assert_close(together[k], alone[0], atol=1e-9, rtol=0)


@pytest.mark.parametrize("positions", [None, "prompt", "generated"])
def test_generation_against_a_loop_without_a_cache(positions: Any) -> None:
    model, block, ids = model_of("llama", F64), autoencoder(), random_ids(1, N_POS)
    edit = Edit("resid_post.1", "feature", 3.0, positions, index=[3, 9], feature=(block, "set"))
    said = model.generate(ids, max_new_tokens=5, edits=[edit]).tokens[0].tolist()
    row = ids[0].tolist()
    for _ in range(5):
        places = {None: range(len(row)), "prompt": range(N_POS), "generated": range(N_POS, len(row))}[positions]

        def by_hand(x: Tensor, places: range = places) -> Tensor:
            moved = changed(block, x, [3, 9], lambda v: torch.full_like(v, 3.0))
            keep = torch.tensor([p in places for p in range(len(x))])[:, None]
            return torch.where(keep, moved, x)

        row.append(int(plain(model, torch.tensor([row]), 1, by_hand)[-1].argmax()))
    assert said == row[N_POS:]


def test_edits_read_what_earlier_edits_left() -> None:
    model, block, ids = model_of("llama", F64), autoencoder(), random_ids(1, N_POS)
    one = Edit("resid_post.1", "feature", 1.0, index=[3], feature=(block, "set"))
    two = Edit("resid_post.1", "feature", 2.0, index=[9], feature=(block, "set"))

    def by_hand(x: Tensor) -> Tensor:
        first = changed(block, x, [3], lambda v: torch.full_like(v, 1.0))
        return changed(block, first, [9], lambda v: torch.full_like(v, 2.0))

    found = model.run(ids, edits=[one, two]).logits
    assert found is not None
    torch.testing.assert_close(found[0], plain(model, ids, 1, by_hand), atol=FP32, rtol=0)


def test_a_feature_edit_of_a_neuron_is_the_edit_of_its_activation() -> None:
    model, ids = model_of("gemma2", F64), random_ids(1, N_POS)
    block = neurons(model)[1]
    chosen, places, values = torch.tensor([3, 40]), torch.tensor([5, 2]), torch.tensor([0.7, -0.2], dtype=F64)
    own = block.edits(chosen, values, places)
    plainly = Dictionary.edits(block, chosen, values, places)
    assert own[0].site == Site("mlp_act", 1) and plainly[0].site == Site("mlp_proj", 1)
    torch.testing.assert_close(
        model.run(ids, edits=own).logits, model.run(ids, edits=plainly).logits, atol=1e-9, rtol=0
    )


def test_runs_that_share_what_they_can_are_as_whole_ones() -> None:
    """Dictionaries of several layers run together, some of which begin late in the prompt; one writes after the last
    block what it reads in the middle of it, and one is beside an ordinary edit of its site."""
    model, ids = model_of("llama", F64), random_ids(1, 12)
    tokens = model.tokens(ids)
    blocks = [autoencoder(0), Transcoder("mlp_in.1", ["mlp_out.1", "mlp_out.2"], 32, 40, seed=4), autoencoder(2)]
    sets = []
    for k, block in enumerate(blocks):
        for start in (0, 5, 11):
            chosen, places = torch.tensor([3, 9]), torch.tensor([start, 11])
            sets.append(
                block.edits(
                    chosen + (start == 11) * torch.tensor([0, 1]), torch.tensor([1.0 + k, 2.0], dtype=F64), places
                )
            )
    sets.append([*sets[0], *sets[4]])
    late = Transcoder("resid_mid.1", ["resid_post.2"], 32, 40, seed=5)
    base = model.record(tokens)
    places = late.encode({s: model.run(tokens, read=late.reads).acts[s][0] for s in late.reads}).positions
    for at in (3, 11):
        assert bool((places == at).any())
        sets.append(late.edits(torch.arange(40), 1.5, torch.full((40,), at)))
    sets.append([Edit("resid_post.0", "scale", 1.1), *sets[0]])
    with torch.no_grad():
        for max_bytes in (2**30, 20_000):
            logits, reads = run_each(model, base, sets, read=["mlp_act.2"], max_bytes=max_bytes)
            _same_as_whole_runs(model, tokens, sets, logits, reads)
    assert float((logits[-2] - base.logits).abs().max()) > 1e-4  # of the last position, after the last block
    assert bool((logits[-3] == base.logits).all())  # nothing reads another position there


def _same_as_whole_runs(
    model: Model, tokens: Tokens, sets: list[list[Edit]], logits: Tensor, reads: list[dict[Site, Tensor]]
) -> None:
    for row, edits in enumerate(sets):
        whole = model.run(tokens, edits=edits, logits="last", read=["mlp_act.2"])
        torch.testing.assert_close(logits[row], whole.logits[0], atol=1e-9, rtol=0)
        if Site("mlp_act", 2) in reads[row]:
            torch.testing.assert_close(reads[row][Site("mlp_act", 2)], whole.acts["mlp_act.2"][0], atol=1e-9, rtol=0)


def test_after_a_prefix_positions_count_from_its_start() -> None:
    model, block, ids = model_of("llama", F64), autoencoder(), random_ids(1, 8)
    edit = Edit("resid_post.1", "feature", 2.0, index=([6], [3]), feature=(block, "set"))
    whole = model.run(ids, edits=edit).logits
    rest = model.run(ids[:, 5:], edits=edit, after=model.prefix(ids[:, :5])).logits
    torch.testing.assert_close(rest, whole[:, 5:], atol=1e-9, rtol=0)


def test_slopes_go_through_an_edit() -> None:
    """Setting a feature takes its own slope away; adding to it leaves it."""
    model, block, ids = model_of("gpt2", F64), autoencoder(), random_ids(1, N_POS)
    edit = Edit("resid_post.1", "feature", 0.3, index=[3, 9], feature=(block, "set"))

    def value(step: float, direction: Tensor) -> Tensor:
        first = Edit("resid_post.0", "add", step * direction)
        return model.run(ids, edits=[first, edit], logits="last").logits[0, 7]

    run = model.run(ids, read="resid_post.0", edits=edit, grad=True, logits="last")
    (slope,) = torch.autograd.grad(run.logits[0, 7], [run.acts["resid_post.0"]])
    direction = torch.randn(N_POS, 32, generator=torch.Generator().manual_seed(0), dtype=F64)
    expected = (value(1e-5, direction) - value(-1e-5, direction)) / 2e-5
    assert float((slope[0] * direction).sum()) == pytest.approx(float(expected), rel=1e-5)


def test_only_where_a_condition_holds() -> None:
    model, block, ids = model_of("llama", F64), autoencoder(), random_ids(1, N_POS)
    other = Direction(Site("resid_post", 0), torch.randn(32, generator=torch.Generator().manual_seed(6), dtype=F64))
    fires = other.values(model.run(ids, read="resid_post.0").acts["resid_post.0"][0])
    bar = float(fires.median())
    edit = Edit("resid_post.1", "feature", 2.0, index=[3], feature=(block, "set"), when=(other, bar))
    where = (fires > bar).nonzero()[:, 0]
    assert 0 < len(where) < N_POS
    paired = Edit("resid_post.1", "feature", 2.0, index=(where, torch.full_like(where, 3)), feature=(block, "set"))
    torch.testing.assert_close(
        model.run(ids, edits=edit).logits, model.run(ids, edits=paired).logits, atol=1e-12, rtol=0
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"op": "set"}, "comes with feature"),
        ({"feature": None}, "comes with feature"),
        ({"feature": "x"}, "feature is"),
        ({"feature": (1, "set")}, "feature is"),
        ({"feature": (autoencoder(), "double")}, "feature is"),
        ({"site": "resid_post.2"}, "writes resid_post.1"),
        ({"index": None}, "no list of features"),
        ({"index": [40]}, "feature 40 of 40"),
        ({"index": [-1]}, "feature -1 of 40"),
        ({"index": [1, 1]}, "twice"),
        ({"index": [0.5]}, "no list of features"),
        ({"index": []}, "no list of features"),
        ({"index": ([0, 1], [3])}, "equal length"),
        ({"index": ([0, 0], [3, 3])}, "twice"),
        ({"index": ([0], [3]), "positions": [1]}, "no other positions"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_made(arguments: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {
        "site": "resid_post.1",
        "op": "feature",
        "value": 1.0,
        "index": [3],
        "feature": (autoencoder(), "set"),
    }
    Edit(**good)
    with pytest.raises(HookeError, match=says) as error:
        Edit(**good | arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"index": ([9], [3])}, "position 9 of a prompt of 6"),
        ({"value": torch.zeros(3)}, "does not fit"),
        ({"index": ([1], [3]), "value": torch.zeros(3, 1)}, "does not fit"),
        ({"index": ([1], [3]), "value": torch.zeros(1, 1, 1)}, "one number each"),
        ({"value": torch.zeros(2, 1)}, "2 positions"),
    ],
)
def test_what_does_not_fit_the_run_is_refused(arguments: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {
        "site": "resid_post.1",
        "op": "feature",
        "value": 1.0,
        "index": [3],
        "feature": (autoencoder(), "set"),
    }
    with pytest.raises(HookeError, match=says):
        model_of("llama").run(random_ids(1, N_POS), edits=Edit(**good | arguments))


def test_a_dictionary_that_reads_later_than_it_writes_is_refused() -> None:
    model = model_of("llama")
    block = Transcoder(["resid_post.0", "resid_post.1"], ["resid_post.0", "resid_post.1"], 32, 40, seed=2)
    with pytest.raises(HookeError, match=r"depends on resid_post\.1, which is not computed before"):
        model.run(random_ids(1, N_POS), edits=block.edits(torch.tensor([3]), 1.0))


def test_a_layer_that_is_left_out_cannot_be_read() -> None:
    model, ids = model_of("llama"), random_ids(1, N_POS)
    block = Transcoder("mlp_in.0", ["mlp_out.0", "mlp_out.2"], 32, 40, seed=2)
    late = [e for e in block.edits(torch.tensor([3]), 1.0) if e.site.layer == 2]
    stream = model.run(ids, read="resid_pre.1").acts["resid_pre.1"]
    with pytest.raises(HookeError, match=r"mlp_in\.0"):
        model.run(Tokens(ids, torch.ones_like(ids, dtype=torch.bool)), edits=late, entering=(1, stream))


# Single features at single positions


@pytest.mark.parametrize("op", ["set", "add", "scale"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_features_at_positions_are_as_one_edit_for_each(op: str, side: str) -> None:
    """A pair (positions, ids) against one edit an entry: whatever the padding, with weights, and for one row alone."""
    model = model_of("llama")
    tokens = padded([random_ids(6), random_ids(4, seed=1)], side)
    at, ids, values = [1, -1, 3, 1], [5, 5, 0, 9], torch.tensor([2.0, -1.0, 0.5, 3.0])
    for rows, weight in ((None, None), ([1], None), (None, torch.tensor([0.2, 1.0, 0.5, 0.0]))):
        pair = Edit("mlp_act.1", op, values, index=(at, ids), rows=rows, weight=weight)
        each = [
            Edit(
                "mlp_act.1",
                op,
                float(v),
                positions=[p],
                index=[i],
                rows=rows,
                weight=None if weight is None else float(weight[k]),
            )
            for k, (p, i, v) in enumerate(zip(at, ids, values, strict=True))
        ]
        run, plain = (model.run(tokens, edits=edits, read="mlp_act.1") for edits in (pair, each))
        close(run.acts["mlp_act.1"], plain.acts["mlp_act.1"])
        close(run.logits, plain.logits)
        assert float((run.logits - model.run(tokens).logits).abs().max()) > 1e-3  # type: ignore[operator]


def test_features_at_positions_are_refused_in_one_line() -> None:
    model, ids = model_of("llama"), random_ids(1, 5)
    for fields, says in (
        ({"index": ([1], [5, 6])}, "two lists of equal length"),
        ({"index": ([1, 1], [5, 5])}, "named twice"),
        ({"index": ([1], [5]), "positions": [2]}, "no other positions"),
        ({"index": ([1.5], [5])}, "no list of features"),
        ({"index": ([9], [5])}, "position 9"),
        ({"index": ([1], [5000])}, "5000 of"),
        ({"index": ([1], [5]), "value": torch.ones(1, 1, 1)}, "one number each"),
        ({"index": ([1], [5]), "value": torch.ones(3)}, "does not fit"),
        ({"index": ([1], [5]), "op": "project_out", "value": torch.ones(1)}, "takes whole values"),
    ):
        with pytest.raises(HookeError, match=says):
            model.run(ids, edits=Edit("mlp_act.1", **fields))
