"""The linear view is exact: its sums, and what a changed source does to every target.

Everything is compared in fp64 with the forward map of `linear_map.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from families import N_LAYERS, NAMES, model_of, new_hf, one_thread, padded, random_ids  # noqa: F401
from hooke.dictionaries import Codes, check_dictionary, neurons
from hooke.errors import HookeError
from hooke.methods.metric import Metric
from hooke.methods.trace import edges as edges_module
from hooke.methods.trace.coded import Baseline, Coded, Units, check_basis, encode
from hooke.methods.trace.edges import Edges, edges, readers
from hooke.methods.trace.select import relp, unit_effects
from hooke.model import Descent, LinearView, Model, Rows, held_view, local_mlp
from hooke.sites import Site
from linear_map import BASES, F64, basis_of, forward, standing
from transcoders import Transcoder

N_POS, N_UNITS = 6, 40
LOGITS = [4, 9]
EXACT = 1e-10
COMPLETE = ("neurons", "some neurons")


def view_of(name: str, seed: int = 0) -> LinearView:
    model = model_of(name, F64)
    return held_view(model, model.tokens(random_ids(N_POS, seed=seed)))


DIFFERENT = ("llama", "gemma2", "gpt2", "neox", "olmo2")  # norms before, both, with biases, in parallel, after
EVERYWHERE = ("neurons", "transcoder", "resid_mid", "mixed")  # bases that are tried in every family


def cases() -> list[tuple[str, str]]:
    found = [(name, kind) for name in NAMES for kind in BASES if name in DIFFERENT or kind in EVERYWHERE]
    return [(name, kind) for name, kind in found if (name, kind) != ("neox", "resid_mid")]


def some_units(coded: Coded, count: int = N_UNITS) -> Units:
    """Different active features at different places of all blocks."""
    found = [(b, p, i) for b, c in enumerate(coded.codes) for p, i in zip(c.positions.tolist(), c.ids.tolist())]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:count]
    # some of the first block, which may be few, and some of the last that act on the logits
    first = torch.cat([torch.arange(3), torch.arange(len(found) - 3, len(found))])
    order = torch.cat([first, order[~torch.isin(order, first)]])[:count]
    b, p, i = torch.tensor([found[j] for j in order.tolist()]).T
    return coded.units(b, p, i, [coded.codes])


def edges_into(view: LinearView, coded: Coded, units: Units, rows: Rows, others: Sequence[Baseline] = ()) -> Edges:
    """Edges into the units, and then into other rows."""
    return edges(view, coded, units, readers(view, coded, units).join(rows), others)


def everything(name: str, kind: str) -> tuple[LinearView, Coded, Units, Edges]:
    view = view_of(name)
    coded = encode(view, basis_of(kind, name))
    units = some_units(coded)
    return view, coded, units, edges_into(view, coded, units, view.unembed_rows(torch.tensor(LOGITS)))


def targets(view: LinearView, coded: Coded, units: Units, values: dict[Site, Tensor]) -> Tensor:
    """What the units' readers (held) and the logits read in given values of the map."""
    found = []
    for b, p, i in zip(units.blocks, units.positions, units.ids, strict=True):
        at = {site: x[p][None] for site, x in coded.inputs[int(b)].items()}
        rows, const = coded.basis[int(b)].reader(i[None], at)
        found.append(sum(rows[site][0] @ values[site][p] for site in rows) + const[0])
    unembed = view.parts.unembed
    logits = unembed.weight @ values[Site("final_norm")][-1]
    logits = logits if unembed.bias is None else logits + unembed.bias
    return torch.stack([*found, *(logits - logits.mean())[LOGITS]])


def exact(a: Tensor, b: Tensor, size: Tensor | float = 1.0) -> None:
    assert a.shape == b.shape
    assert float(((a - b).abs() / size).max()) < EXACT


# The tests


@pytest.mark.parametrize("name", NAMES)
def test_replaying_the_map_gives_the_logits(name: str) -> None:
    model = model_of(name, F64)
    view = view_of(name)
    values = forward(view, view.tokens(), {})
    for site, x in values.items():
        if site.layer is not None:
            exact(view.value(site), x)
    unembed = view.parts.unembed
    logits = unembed.weight @ values[Site("final_norm")][-1]
    exact(view.replayed, logits if unembed.bias is None else logits + unembed.bias)
    # transformers' RMS norms (and eager softmax) compute in fp32 whatever the model; its LayerNorm does not
    tolerance = 1e-9 if name in ("gpt2", "neox", "neox-sequential") else 1e-5
    assert float((view.replayed - view.logits).abs().max()) < tolerance * float(view.logits.abs().max())
    capped = view.logits if view.parts.softcap is None else 3.0 * torch.tanh(view.logits / 3.0)
    own = model.run(view.ids, logits="last").logits
    assert own is not None
    torch.testing.assert_close(capped, own[0], atol=1e-9, rtol=0)
    for site in values:
        if site.layer is not None:
            own_value = model.run(view.ids, read=[site]).acts[site][0]
            torch.testing.assert_close(view.value(site), own_value, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.01)], ids=str
)
@pytest.mark.parametrize("name", NAMES)
def test_lower_precision_replays_its_logits_in_fp32(name: str, dtype: torch.dtype, tolerance: float) -> None:
    model = model_of(name, dtype)
    view = held_view(model, model.tokens(random_ids(N_POS)))
    assert {x.dtype for x in (*view.values.values(), *view.patterns, *view.scales.values())} == {torch.float32}
    assert float((view.replayed - view.logits).abs().max()) < tolerance * float(view.logits.abs().max())
    coded = encode(view, neurons(model))
    # what half precision rounds is an error that is shown, never part of what the budget hides
    assert bool(coded.errors) >= (dtype == torch.bfloat16) and not (coded.errors and dtype == torch.float32)
    for site, left in coded.errors.items():
        assert 1e-3 < float(left.norm() / view.value(site).norm()) < 0.1
    units = some_units(coded)
    found = edges_into(view, coded, units, view.unembed_rows(torch.tensor(LOGITS)))
    sums = found.weights.sum(1) + found.constants
    expected = torch.cat([units.values, (view.replayed - view.replayed.mean())[LOGITS]])
    size = found.weights.abs().sum(1) + found.constants.abs()
    assert float(((sums - expected).abs() / size).max()) < 1e-4


@pytest.mark.parametrize(("name", "kind"), cases())
def test_edges_sum_to_what_the_target_reads(name: str, kind: str) -> None:
    view, coded, units, found = everything(name, kind)
    check_basis(model_of(name, F64), coded.basis)
    for block, x in zip(coded.basis, coded.inputs, strict=True):
        check_dictionary(block, x, atol=EXACT)
    assert bool(coded.errors) == (kind not in COMPLETE)
    sums = found.weights.sum(1) + found.constants
    size = found.weights.abs().sum(1)
    exact(sums, torch.cat([units.values, (view.replayed - view.replayed.mean())[LOGITS]]), size)
    exact(sums, targets(view, coded, units, forward(view, view.tokens(), standing(view, coded))), size)
    exact(found.unit * units.values, found.weights[:, : len(units)])


@pytest.mark.parametrize(("name", "kind"), cases())
def test_doubling_a_source_moves_each_target_by_its_edge(name: str, kind: str) -> None:
    view, coded, units, found = everything(name, kind)
    tokens, put = view.tokens(), standing(view, coded)
    before = targets(view, coded, units, forward(view, tokens, put))

    def skipped(values: dict[Site, Tensor], clean: dict[Site, Tensor]) -> dict[Site, Tensor]:
        """What skip connections pass on of a change of what they read."""
        out: dict[Site, Tensor] = {}
        for block in coded.basis:
            for site in block.writes if block.skips else ():
                now, then = (block.offset(site, {s: x[s] for s in block.reads}) for x in (values, clean))
                assert now is not None and then is not None
                out[site] = out.get(site, torch.zeros_like(now)) + now - then
        return out

    def moved(extra_tokens: Tensor | None = None, writes: dict[Site, Tensor] | None = None) -> Tensor:
        now, extra = tokens if extra_tokens is None else tokens + extra_tokens, writes or {}
        clean = forward(view, tokens, put)
        passed: dict[Site, Tensor] = {}
        for _ in range(N_LAYERS + 1):  # what is skipped may be read by the next skip connection
            stand = {s: x + extra.get(s, 0) + passed.get(s, 0) for s, x in put.items()}
            values = forward(view, now, stand)
            passed = skipped(values, clean)
        return targets(view, coded, units, values) - before

    def written(b: int, p: int, positions: Tensor, ids: Tensor, values: Tensor) -> dict[Site, Tensor]:
        """What features of block b at position p write."""
        out = {site: torch.zeros_like(tokens) for site in coded.basis[b].writes}
        for q, i, value in zip(positions.tolist(), ids.tolist(), values, strict=True):
            if q == p:
                at = {site: x[p][None] for site, x in coded.inputs[b].items()}
                for site in out:
                    out[site][p] += value * coded.basis[b].writer(torch.tensor([i]), site, at)[0]
        return out

    size = found.weights.abs().sum(1)
    for s in range(4):  # kept features
        b, p, one = int(units.blocks[s]), int(units.positions[s]), slice(s, s + 1)
        writes = written(b, p, units.positions[one], units.ids[one], units.values[one])
        exact(found.weights[:, s], moved(writes=writes), size)
    for p in (0, 3):  # tokens
        extra = torch.zeros_like(tokens)
        extra[p] = tokens[p]
        exact(found.weights[:, len(units) + p], moved(extra), size)
    for b in {0, len(coded.basis) - 1}:  # remainders: what is not kept
        p, codes, own = 2, coded.codes[b], units.of_block(b)
        values = codes.values.clone()
        values[codes.find(units.positions[own], units.ids[own])] = 0
        writes = written(b, p, codes.positions, codes.ids, values)
        exact(found.weights[:, len(units) + N_POS * (1 + b) + p], moved(writes=writes), size)
    for e, site in enumerate(sorted(coded.errors)):  # errors
        p = 1 + e % (N_POS - 1)
        extra = torch.zeros_like(tokens)
        extra[p] = coded.errors[site][p]
        column = len(units) + N_POS * (1 + len(coded.basis) + e) + p
        exact(found.weights[:, column], moved(writes={site: extra}), size)


def kept_entries(coded: Coded, units: Units) -> list[Tensor]:
    keep = [torch.zeros_like(codes.values, dtype=torch.bool) for codes in coded.codes]
    for b, codes in enumerate(coded.codes):
        own = units.of_block(b)
        keep[b][codes.find(units.positions[own], units.ids[own])] = True
    return keep


@pytest.mark.parametrize(("name", "kind"), cases())
def test_unit_effects_are_the_sum_over_paths(name: str, kind: str) -> None:
    view, coded, units, found = everything(name, kind)
    n, keep = len(units), kept_entries(coded, units)
    matrix = found.unit[:n]
    logit = view.unembed_rows(torch.tensor(LOGITS[:1]))
    late = [coded.layer(int(b)) for b in units.blocks]
    # a target that is no logit, and not at the last position
    early = max((i for i in range(n) if units.positions[i] < N_POS - 1), key=lambda i: late[i])
    one = readers(view, coded, units.take(torch.tensor([early])))
    for target, row in ((logit, n), (one, early)):
        effects, at_tokens = unit_effects(view, coded, target, keep=keep)
        total, step = found.unit[row].clone(), found.unit[row].clone()
        for _ in range(3 * N_LAYERS + 1):
            step = step @ matrix
            total += step
        assert not step.any()  # nothing has more steps than sites
        got = coded.at_units(effects, units)
        assert total.any() or target is one
        exact(got, total, 1 + float(total.abs().max()))
        by_token = found.weights[row, n : n + N_POS] + total @ found.weights[:n, n : n + N_POS]
        exact((at_tokens * view.tokens()).sum(-1), by_token, 1 + float(by_token.abs().max()))
        assert [len(effect) for effect in effects] == [len(codes) for codes in coded.codes]


@pytest.mark.parametrize("kind", [kind for kind in BASES if kind not in ("one layer", "resid_pre")])
@pytest.mark.parametrize("name", ["llama", "neox", "gemma2"])
def test_every_feature_is_linked_onward(name: str, kind: str) -> None:
    """A dictionary whose features lead nowhere is the silent fault that this view is for."""
    if (name, kind) == ("neox", "resid_mid"):
        return
    view = view_of(name)
    coded = encode(view, basis_of(kind, name))
    effects, _ = unit_effects(view, coded, view.unembed_rows(torch.tensor(LOGITS[:1])))
    last = {b: max(codes.positions.tolist()) for b, codes in enumerate(coded.codes)}
    for b, (codes, effect) in enumerate(zip(coded.codes, effects, strict=True)):
        at_end = codes.positions == last[b]
        assert bool((effect[at_end] != 0).all()), coded.basis[b].hash


@pytest.mark.parametrize("name", ["llama", "neox", "gemma2"])
def test_effects_of_a_full_basis_are_the_gradient_of_the_replacement(name: str) -> None:
    """With all features passing, against autograd through the map with ReLU transcoders in the MLPs' place."""
    view = view_of(name)
    basis = basis_of("transcoder", name)
    parts = view.parts
    tokens = view.tokens().clone().requires_grad_()
    x, features = tokens, []
    for layer, block in enumerate(basis):
        assert isinstance(block, Transcoder)
        attn = view.attend(layer, x)
        before = x if parts.parallel else x + attn
        into = view.mlp_input(layer, before)
        # held at the model's own inputs: which features are active does not change
        value = (into @ block.encoder.T + block.bias) * (block.dense(view.values[block.reads[0]]) > 0)
        features.append(value)
        x = x + attn + value @ block.decoders[Site("mlp_out", layer)]
    logit = view.read_out(x)[LOGITS[0]] - view.read_out(x).mean()
    expected = torch.autograd.grad(logit, [tokens, *features])
    coded = encode(view, basis)
    effects, at_tokens = unit_effects(view, coded, view.unembed_rows(torch.tensor(LOGITS[:1])))
    exact(at_tokens, expected[0])
    for codes, effect, grad in zip(coded.codes, effects, expected[1:], strict=True):
        exact(effect, grad[codes.positions, codes.ids])


@pytest.mark.parametrize("kind", ["neurons", "cross-layer", "crosscoder"])
@pytest.mark.parametrize("name", ["llama", "neox", "gemma2", "gpt2"])
def test_chunks_change_nothing(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    view, coded, units, found = everything(name, kind)
    for size in (1, 3 * N_POS * 32 * 8):
        monkeypatch.setattr(edges_module, "chunk_bytes", lambda device, size=size: size)
        rows = readers(view, coded, units).join(view.unembed_rows(torch.tensor(LOGITS)))
        groups = edges_module.chunks(rows, 32, 8, size)
        assert sorted(torch.cat(groups).tolist()) == list(range(N_UNITS + 2)) and len(groups) > 5
        again = edges_into(view, coded, units, view.unembed_rows(torch.tensor(LOGITS)))
        exact(again.weights, found.weights)
        exact(again.unit, found.unit)
        exact(again.constants, found.constants)


@pytest.mark.parametrize("kind", ["neurons", "transcoder", "cross-layer", "resid_post", "stream and branches"])
@pytest.mark.parametrize("name", ["llama", "neox", "gemma2", "gpt2"])
def test_deltas_sum_to_the_change_of_the_target(name: str, kind: str) -> None:
    """With the counterfactual's tokens and codes in the map (patterns, denominators and errors held)."""
    view, other = view_of(name), view_of(name, seed=7)
    basis = basis_of(kind, name)
    coded, there = encode(view, basis), encode(other, basis)
    units = some_units(coded)
    units.baselines = coded.values_at(there.codes, units)
    counterfactual = Baseline("", other.ids, there.codes, other.tokens(), other.logits, other.final(), {}, coded.errors)
    found = edges_into(view, coded, units, view.unembed_rows(torch.tensor(LOGITS)), [counterfactual])
    assert found.delta is not None
    put = standing(view, coded)
    before = targets(view, coded, units, forward(view, view.tokens(), put))
    for b, block in enumerate(basis):
        now, then = (block.decode(codes, coded.inputs[b]) for codes in (there.codes[b], coded.codes[b]))
        for site in block.writes:
            put[site] = put[site] + now[site] - then[site]
    after = targets(view, coded, units, forward(view, other.tokens(), put))
    exact(found.delta.sum(1), before - after, found.delta.abs().sum(1))
    exact(
        found.delta[:, : len(units)], found.unit * (units.values - units.baselines), found.delta.abs().sum(1)[:, None]
    )


def test_contrast_rows_and_biased_unembeddings() -> None:
    view = view_of("gpt2")
    rows = view.unembed_rows(torch.tensor([4, 9]), torch.tensor([1.0, -1.0]))
    assert len(rows) == 1
    coded = encode(view, basis_of("neurons", "gpt2"))
    found = edges_into(view, coded, some_units(coded), rows)
    exact((found.weights.sum(1) + found.constants)[-1], view.replayed[4] - view.replayed[9])


def test_rows_out_of_order_and_batches_are_refused() -> None:
    view = view_of("llama")
    vectors, zeros = torch.zeros(1, 32, dtype=F64), torch.zeros(1, dtype=F64)
    early = Rows.at(Site("mlp_in", 0), torch.tensor([1]), vectors, zeros)
    late = Rows.at(Site("final_norm"), torch.tensor([5]), vectors, zeros)
    with pytest.raises(HookeError, match="sorted"):
        list(Descent(view, early.join(late)))
    for site in ("pattern.0", "mlp_act.1", "z.0"):
        with pytest.raises(HookeError, match="does not pass"):
            Descent(view, Rows.at(Site.parse(site), torch.tensor([1]), vectors, zeros))
        with pytest.raises(HookeError, match="does not pass"):
            Descent(view, late, frozenset({Site.parse(site)}))
    model = model_of("llama", F64)
    for tokens in (model.tokens(random_ids(2, 4)), padded([random_ids(4), random_ids(3)], "left")):
        with pytest.raises(HookeError, match="one prompt without padding"):
            held_view(model, tokens)


@pytest.mark.parametrize(
    ("name", "reads", "writes", "says"),
    [
        ("llama", ["resid_post.0", "resid_post.1"], ["resid_post.0", "resid_post.1"], "writes resid_post.0 before it"),
        ("llama", ["mlp_out.1"], ["mlp_in.1"], "cannot hold"),
        ("llama", ["mlp_act.1"], ["mlp_act.1"], "cannot hold"),
        ("llama", ["z.1"], ["attn_out.1"], "cannot hold"),
        ("llama", ["resid_post.9"], ["resid_post.9"], "3 layers"),
        ("neox", ["resid_mid.1"], ["resid_mid.1"], "parallel"),
    ],
)
def test_dictionaries_that_no_graph_is_drawn_in_are_refused(
    name: str, reads: list[str], writes: list[str], says: str
) -> None:
    with pytest.raises(HookeError, match=says) as error:
        check_basis(model_of(name, F64), [Transcoder(reads, writes, 32, 30, seed=0)])
    assert "\n" not in str(error.value)


def test_a_dictionary_whose_features_lead_nowhere_is_refused() -> None:
    """Neurons inside an MLP whose output another dictionary writes, with nothing that reads in between."""
    basis = [neurons(model_of("llama", F64))[1], Transcoder("mlp_in.1", ["mlp_out.1"], 32, 30, seed=0)]
    view = view_of("llama")
    with pytest.raises(HookeError, match="leads nowhere"):
        relp(view, encode(view, basis), Metric(LOGITS[0], None, None), [])


def test_a_dictionary_that_is_given_twice_is_refused() -> None:
    block = Transcoder("mlp_in.1", ["mlp_out.1"], 32, 30, seed=0)
    with pytest.raises(HookeError, match="twice"):
        check_basis(model_of("llama", F64), [block, block])


def test_inactive_features_are_no_entries() -> None:
    coded = encode(view_of("llama"), basis_of("transcoder", "llama"))
    for block, codes, x in zip(coded.basis, coded.codes, coded.inputs, strict=True):
        assert isinstance(block, Transcoder)
        dense = block.dense(dict(x))
        assert 0 < len(codes) < dense.numel() and len(codes) == int((dense > 0).sum())
        assert torch.equal(codes.dense(), dense)
    # neurons that are zero too, as those of a ReLU model are
    dense = torch.relu(torch.randn(3, 5, generator=torch.Generator().manual_seed(0)))
    assert len(Codes.of(dense)) == int((dense > 0).sum())


def test_the_local_rule_forward_is_its_readers() -> None:
    for name in ("llama", "gpt2", "gemma2"):
        view = view_of(name)
        block, x = view.parts.blocks[1], view.values[Site("mlp_in", 1)]
        other = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
        ids = torch.arange(block.down.n_in)
        for p in range(2):
            rows, consts = local_mlp.readers(block, ids, x[p].expand(len(ids), -1))
            exact(local_mlp.push_forward(block, other, x)[p], rows @ other[p])
            exact(rows @ x[p] + consts, local_mlp.activations(block, x)[p])


def test_a_model_in_memory_that_is_being_trained_can_be_frozen() -> None:
    hf = new_hf("llama")
    for parameter in hf.parameters():
        parameter.requires_grad_(True)
    model = Model(hf, None, name="llama")
    view = held_view(model, model.tokens(random_ids(4)))
    coded = encode(view, neurons(model))
    found = edges_into(view, coded, some_units(coded), view.unembed_rows(torch.tensor(LOGITS)))
    assert not found.weights.requires_grad and not view.replayed.requires_grad
