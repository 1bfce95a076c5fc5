"""The contract of dictionaries, and the neuron basis of every family."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

import hooke
from families import NAMES, model_of, one_thread, random_ids  # noqa: F401
from graph_files import opened
from hooke.dictionaries import Codes, Dictionary, Direction, check_dictionary, check_edits, neurons
from hooke.dictionaries.fit import Place, advance, finish, start
from hooke.dictionaries.kinds import KINDS as KINDS_OF
from hooke.dictionaries.kinds import When
from hooke.dictionaries.protocol import Values
from hooke.model import Edit, local_mlp
from hooke.results import Result
from hooke.results.drawn import graph_of
from hooke.results.formats.graph_file import file_of
from hooke.sites import Site
from hooke.terminal import show_trace
from hooke.viewer.page import page_bytes
from pages import unpacked
from transcoders import Transcoder

F64 = torch.float64


def inputs(name: str, dtype: torch.dtype = F64) -> list[dict[Site, Tensor]]:
    """What each layer's MLP reads on a prompt."""
    model = model_of(name, dtype)
    acts = model.run(random_ids(1, 6), read=[f"mlp_in.{layer}" for layer in range(model.parts.n_layers)]).acts
    return [{site: x[0]} for site, x in sorted(acts.items())]


def test_codes_are_sparse_and_come_back() -> None:
    dense = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 3.0]])
    codes = Codes.of(dense)
    assert codes.positions.tolist() == [0, 2, 2] and codes.ids.tolist() == [1, 0, 2]
    assert codes.values.tolist() == [2.0, -1.0, 3.0] and codes.shape == (3, 3)
    assert torch.equal(codes.dense(), dense)
    assert torch.equal(Codes.of(torch.zeros(2, 5)).dense(), torch.zeros(2, 5))


@pytest.mark.parametrize(("dtype", "atol"), [(F64, 1e-12), (torch.float32, 1e-5)], ids=["fp64", "fp32"])
@pytest.mark.parametrize("name", NAMES)
def test_neurons_keep_the_contract(name: str, dtype: torch.dtype, atol: float) -> None:
    basis = neurons(model_of(name, dtype))
    for block, x in zip(basis, inputs(name, dtype), strict=True):
        check_dictionary(block, x, atol=atol)
    assert len({block.hash for block in basis}) == len(basis)


@pytest.mark.parametrize("name", NAMES)
def test_neurons_are_what_the_model_computes(name: str) -> None:
    model = model_of(name, F64)
    for layer, block in enumerate(neurons(model)):
        read = [f"mlp_in.{layer}", f"mlp_act.{layer}", f"mlp_proj.{layer}"]
        x, act, proj = model.run(random_ids(1, 6), read=read).acts.values()
        codes = block.encode({block.reads[0]: x[0]})
        torch.testing.assert_close(codes.dense(), act[0], atol=1e-12, rtol=0)
        torch.testing.assert_close(
            block.decode(codes, {block.reads[0]: x[0]})[block.writes[0]], proj[0], atol=1e-12, rtol=0
        )
        assert block.n_features == act.shape[-1]


def test_the_reader_of_a_gated_neuron_is_the_half_rule() -> None:
    model = model_of("llama", F64)
    block, x = neurons(model)[1], inputs("llama")[1]
    at = next(iter(x.values()))[[2, 2, 5]]
    ids = torch.tensor([0, 17, 55])
    found, consts = block.reader(ids, {block.reads[0]: at})
    readers = found[block.reads[0]]
    mlp = model.hf.model.layers[1].mlp
    for i in range(3):
        w_g, b_g = mlp.gate_proj.weight[ids[i]], mlp.gate_proj.bias[ids[i]]
        w_u, b_u = mlp.up_proj.weight[ids[i]], mlp.up_proj.bias[ids[i]]
        z, u = w_g @ at[i] + b_g, w_u @ at[i] + b_u
        ratio = silu(z) / z
        torch.testing.assert_close(readers[i], 0.5 * (ratio * u * w_g + silu(z) * w_u), atol=1e-12, rtol=0)
        torch.testing.assert_close(consts[i], 0.5 * (ratio * u * b_g + silu(z) * b_u), atol=1e-12, rtol=0)


def test_the_reader_without_a_gate_is_the_held_ratio() -> None:
    model = model_of("gpt2", F64)
    block, x = neurons(model)[1], inputs("gpt2")[1]
    at = next(iter(x.values()))[[0, 3]]
    ids = torch.tensor([3, 100])
    found, consts = block.reader(ids, {block.reads[0]: at})
    readers = found[block.reads[0]]
    mlp = model.hf.transformer.h[1].mlp
    for i in range(2):
        w, b = mlp.c_fc.weight[:, ids[i]], mlp.c_fc.bias[ids[i]]
        z = w @ at[i] + b
        ratio = gelu(z, approximate="tanh") / z
        torch.testing.assert_close(readers[i], ratio * w, atol=1e-12, rtol=0)
        torch.testing.assert_close(consts[i], ratio * b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_a_neuron_at_zero_has_its_limit(name: str) -> None:
    """act(z) / z is a half at zero, for SiLU and GELU alike; a zero input of a model without biases gets there."""
    block = neurons(model_of(name, F64))[0]
    half = local_mlp.ratio(block.block.act, torch.zeros(3, dtype=F64))
    assert torch.allclose(half, torch.tensor(0.5, dtype=F64), atol=1e-6)
    at = {block.reads[0]: torch.zeros(2, 32, dtype=F64)}
    readers, consts = block.reader(torch.tensor([0, 1]), at)
    assert bool(readers[block.reads[0]].isfinite().all()) and bool(consts.isfinite().all())
    worth = Codes.of(torch.ones(2, block.n_features, dtype=F64))
    assert bool(block.push_back(worth, at)[block.reads[0]].isfinite().all())


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3"])
def test_edits_set_neurons_in_the_live_model(name: str) -> None:
    model, ids = model_of(name, F64), random_ids(1, 6)
    block = neurons(model)[1]
    clean = model.run(ids, read=["mlp_act.1"]).acts["mlp_act.1"][0]
    few, many = torch.tensor([[3, 3, 40], [0, 5, 2]]), torch.rand(4, block.n_features) < 0.7
    places = torch.stack([many.nonzero()[:, 1], many.nonzero()[:, 0] + 1])
    cases = [(few, 0.1), (few, torch.tensor([0.1, -0.2, 0.3], dtype=F64))]
    cases += [(places, 0.1), (places, torch.randn(places.shape[1], dtype=F64))]
    for (chosen, positions), value in cases:
        expected = clean.clone()
        for i, (feature, position) in enumerate(zip(chosen.tolist(), positions.tolist(), strict=True)):
            expected[position, feature] = value if isinstance(value, float) else value[i]
        got = model.run(ids, read=["mlp_act.1"], edits=block.edits(chosen, value, positions)).acts["mlp_act.1"][0]
        tolerance = 1e-8 if isinstance(value, float) else 1e-12
        torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)
    everywhere = model.run(ids, read=["mlp_act.1"], edits=block.edits(few[0, 1:], torch.tensor([1.0, 2.0]))).acts[
        "mlp_act.1"
    ][0]
    expected = clean.clone()
    expected[:, 3], expected[:, 40] = 1.0, 2.0
    assert torch.equal(everywhere, expected)


def every_kind() -> dict[str, Dictionary]:
    """One of each kind of dictionary, at every site that may be read and written."""
    own = neurons(model_of("llama", F64))[1]
    generator = torch.Generator().manual_seed(3)
    direction = Direction(Site("resid_post", 1), torch.randn(32, generator=generator, dtype=F64), 0.4)
    found: dict[str, Dictionary] = {"neurons": own, "direction": direction}
    for point in ("resid_pre", "attn_out", "resid_mid", "mlp_proj", "mlp_out", "resid_post"):
        found[f"autoencoder at {point}"] = Transcoder(f"{point}.1", [f"{point}.1"], 32, 40, seed=1)
    found["transcoder"] = Transcoder("mlp_in.1", ["mlp_out.1"], 32, 40, seed=0)
    found["skip transcoder"] = Transcoder("resid_mid.1", ["mlp_out.1"], 32, 40, seed=0, skip=True)
    found["cross-layer transcoder"] = Transcoder("mlp_in.0", ["mlp_out.0", "mlp_proj.1", "mlp_out.2"], 32, 40, seed=0)
    found["crosscoder"] = Transcoder(["resid_post.0", "mlp_in.1"], ["mlp_out.1", "resid_post.1"], 32, 40, seed=0)
    return found | trained_kinds()


@cache
def trained_kinds() -> dict[str, Dictionary]:
    """Each kind that trains, after some steps on what the tiny model computes, as it would be saved."""
    model = model_of("llama")
    sites = [Site(point, layer) for layer in (1, 2) for point in ("mlp_in", "mlp_out")] + [
        Site("resid_post", 1),
        Site("resid_pre", 1),
    ]
    acts = model.run(random_ids(16, 12), read=sites).acts
    rows = {site: x.flatten(0, 1) for site, x in acts.items()}
    own, across = Place((sites[4],), (sites[4],)), Place((sites[0],), (sites[1],))
    places = {name: [own] for name in KINDS_OF} | {
        "transcoder": [across],
        "skip-transcoder": [Place(across.reads, across.writes, skip=True)],
        "clt": [Place(across.reads, (sites[1], sites[3])), Place((sites[2],), (sites[3],))],
        "joint encoder": [Place((sites[5], sites[0]), (sites[1],))],
    }
    found: dict[str, Dictionary] = {}
    for name, group in places.items():
        kind = KINDS_OF[name if name in KINDS_OF else "topk"]
        numbers: dict[str, Any] = {"k": 6} if "k" in kind.__dataclass_fields__ else {}
        fit = start(kind(**numbers), group, rows, n_features=40, when=When(0, 30, 192), lr=3e-3)
        for _ in range(30):
            advance(fit, rows)
        found[f"trained {name}"] = finish(fit)[0]
    return found


KINDS = list(every_kind())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_contract(kind: str) -> None:
    model, block = model_of("llama", F64), every_kind()[kind]
    tokens = model.tokens(random_ids(1, 6))
    acts = model.run(tokens, read=block.reads).acts
    x = {site: acts[site][0] for site in block.reads}
    check_dictionary(block, x, atol=1e-12)
    check_edits(block, model, tokens, atol=1e-9)
    codes = block.encode(x)
    if isinstance(block, Transcoder):
        assert 0.2 < len(codes) / codes.dense().numel() < 0.8  # it is sparse, so the active ones matter
    else:
        assert len(codes)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_a_verified_graph(kind: str) -> None:
    """All the way through: counterfactuals, edges that sum, edits in the live model, a page and a file."""
    model, block = model_of("llama"), every_kind()[kind]
    prompt, other = random_ids(1, 6), random_ids(1, 6, seed=5)
    live = hooke.trace(model, prompt, basis=[block], counterfactual=other, nodes=30)
    assert live.status == "complete" and live.payload["graph"]["form"] == "live"
    assert live.payload["checks"]["reader_max_rel_error"] < 1e-4
    assert live.payload["checks"]["derivative_max_rel_error"] < 1e-3
    result = hooke.trace(model, prompt, basis=[block], counterfactual=other, nodes=30, form="held")
    assert result.status == "complete" and result.payload["checks"]["edge_sum_max_rel_error"] < 1e-4
    graph = graph_of(result.typed().graph)
    features = [k for k, node in enumerate(graph.nodes) if node.kind == "feature"]
    assert features and all(graph.nodes[k].value != 0 for k in features)
    kept = [node for node in result.payload["graph"]["nodes"] if node["kind"] == "feature"]
    order = sorted(kept, key=lambda node: node["rank"])  # the columns of the whole matrix
    acts = result.tensors["weights"][:, : len(order)].any(axis=0)
    assert all(acts[k] for k, node in enumerate(order) if node["position"] == 5) and acts.sum() > len(order) / 2
    told = result.payload["verification"]
    assert told["nodes_tried"] > 0
    groups = result.payload["groups"]  # one feature makes none
    assert any(abs(group["measured"]) > 0 for group in groups) or (kind == "direction" and not groups)
    page_bytes([result])


BASES = {"as it comes": "neurons", "neurons": "neurons", "a transcoder": "features", "both": "features"}


@pytest.mark.parametrize(("name", "word"), BASES.items(), ids=BASES)
def test_a_trace_calls_its_features_what_they_are(name: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In its sentence, its claims, the terminal, the page and the graph file that others open."""
    model = model_of("llama")
    own, trained = neurons(model), Transcoder("mlp_in.1", ["mlp_out.1"], 32, 40, seed=0)
    basis = {"as it comes": "neurons", "neurons": own, "a transcoder": [trained], "both": [own[0], trained, own[2]]}[
        name
    ]
    prompt, other = random_ids(1, 6), random_ids(1, 6, seed=5)
    result = hooke.trace(model, prompt, basis=basis, counterfactual=other, nodes=30)
    payload, wrong = result.payload, {"neurons": "features", "features": "neurons"}[word]
    assert payload["groups"] and f" {word} at " in payload["sentence"]
    for text in (
        payload["sentence"],
        *(claim.text for claim in result.claims),
        *(g["text"] for g in payload["groups"]),
    ):
        assert wrong not in text
    assert payload["units"] == word
    show_trace(result)
    told = capsys.readouterr().out
    assert word in told and wrong not in told
    alone = Result.make("graph", payload=opened(file_of(result, "t")))
    for shown in (result, alone):
        page, _ = unpacked(page_bytes([shown]))
        assert page["results"][0]["view"]["units"] == word


def test_two_dictionaries_of_a_layer_have_nodes_of_their_own() -> None:
    model = model_of("llama")
    places = [f"{point}.{layer}" for layer in range(3) for point in ("attn_out", "mlp_out")]
    basis = [Transcoder(place, [place], 32, 40, seed=1) for place in places]
    result = hooke.trace(model, random_ids(1, 6), basis=basis, counterfactual=random_ids(1, 6, seed=5), nodes=60)
    ids = [node["id"] for node in result.payload["graph"]["nodes"]]
    assert len(set(ids)) == len(ids)
    kinds = {node["kind"] for node in result.payload["graph"]["nodes"]}
    assert {"feature", "remainder", "error", "token", "logit"} <= kinds
    assert sum("_error_attn_" in name for name in ids) and sum("_error_dictionary_" in name for name in ids)


def test_a_graph_whose_edges_do_not_sum_is_a_failed_one() -> None:
    class Off(Transcoder):
        def reader(self, ids: Tensor, at: Values) -> tuple[dict[Site, Tensor], Tensor]:
            rows, consts = super().reader(ids, at)
            return {site: 1.1 * row for site, row in rows.items()}, consts

    model, block = model_of("llama"), Off("mlp_in.1", ["mlp_out.1"], 32, 40, seed=0)
    prompt, other = random_ids(1, 6), random_ids(1, 6, seed=5)
    for form, says in (("held", "do not sum"), ("live", "not what their readers give")):
        result = hooke.trace(model, prompt, basis=[block], counterfactual=other, form=form, verify=False)
        assert result.status == "failed" and says in result.payload["sentence"]
        assert result.claims[0].verdict == "refuted" and "failed" in result.payload["notes"][0]


def broken(how: str) -> Transcoder:
    class Broken(Transcoder):
        def reader(self, ids: Tensor, at: Values) -> tuple[dict[Site, Tensor], Tensor]:
            readers, consts = super().reader(ids, at)
            factor = 1.01 if how == "reader" else 1.0
            return {s: r * factor for s, r in readers.items()}, consts * (float("nan") if how == "nan" else 1.0)

        def writer(self, ids: Tensor, site: Site, at: Values) -> Tensor:
            return super().writer(ids, site, at) + (0.01 if how == "writer" else 0.0)

        def decode(self, codes: Codes, x: Values) -> dict[Site, Tensor]:
            dense = codes.dense()
            whole = {s: super(Broken, self).offset(s, x) for s in self.writes}
            return {s: dense @ self.decoders[s].to(dense) + y for s, y in whole.items() if y is not None}

        def offset(self, site: Site, x: Values) -> Tensor | None:
            return None if how == "offset" else super().offset(site, x)

        def pull_offset(self, site: Site, cotangent: Tensor, x: Values) -> dict[Site, Tensor]:
            return {s: y * (2 if how == "skip" else 1) for s, y in super().pull_offset(site, cotangent, x).items()}

        def push_back(self, cotangent: Codes, x: Values) -> dict[Site, Tensor]:
            return {s: y * (2 if how == "push_back" else 1) for s, y in super().push_back(cotangent, x).items()}

        def effects(self, codes: Codes, site: Site, cotangent: Tensor, x: Values) -> Tensor:
            found = super().effects(codes, site, cotangent, x)
            return found.flip(-1) if how == "effects" else found

        def encode(self, x: Values) -> Codes:
            codes = super().encode(x)
            return Codes(codes.dense().flatten(), None, codes.shape) if how == "zeros" else codes

    return Broken("mlp_in.1", ["mlp_out.1"], 32, 40, seed=0, skip=True)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("reader", "reader"),
        ("nan", "reader"),
        ("writer", "decode"),
        ("offset", "decode"),
        ("push_back", "push_back"),
        ("effects", "effects"),
        ("skip", "pull_offset"),
        ("zeros", "not active"),
    ],
)
def test_a_broken_dictionary_is_caught(how: str, says: str) -> None:
    x: dict[Site, Any] = inputs("llama")[1]
    check_dictionary(broken("nothing"), x)
    with pytest.raises(AssertionError, match=says):
        check_dictionary(broken(how), x)


def test_an_edit_that_does_too_little_is_caught() -> None:
    class Half(Transcoder):
        def edits(self, ids: Tensor, value: Any, positions: Tensor | None = None) -> list[Edit]:
            return super().edits(ids, value, positions)[:1]  # of two sites one

    model = model_of("llama", F64)
    block = Half("mlp_in.0", ["mlp_out.0", "mlp_out.1"], 32, 40, seed=0)
    with pytest.raises(AssertionError, match=r"not the change of mlp_out\.1"):
        check_edits(block, model, model.tokens(random_ids(1, 6)))


def test_a_dictionary_with_nothing_active_passes() -> None:
    block = Transcoder("mlp_in.1", ["mlp_out.1"], 32, 40, seed=0)
    block.bias = block.bias - 1e6
    check_dictionary(block, inputs("llama")[1])


def test_an_edit_keeps_the_precision_of_its_value() -> None:
    block = neurons(model_of("llama", F64))[0]
    (edit,) = block.edits(torch.tensor([1]), torch.tensor([1 / 3], dtype=F64), torch.tensor([0]))
    assert isinstance(edit, Edit) and edit.value.dtype == F64 and float(edit.value[0]) == 1 / 3


@pytest.mark.parametrize("kind", ["trained batchtopk", "trained jumprelu", "trained topk", "transcoder"])
def test_the_jump_of_a_gate_is_told_apart_from_its_edges(kind: str) -> None:
    """A node's own difference is that of its pre-activation, which a plain run gives, and the jump."""
    model, block = model_of("llama"), every_kind()[kind]
    prompt, other = random_ids(1, 6), random_ids(1, 6, seed=5)
    result = hooke.trace(model, prompt, basis=[block], counterfactual=other, nodes=40, verify=False)
    here, there = (model.run(ids, read=block.reads).acts for ids in (prompt, other))

    def asked(acts: Any, at: int, feature: int) -> float:
        if isinstance(block, Transcoder):
            return float(block.before({s: x[0] for s, x in acts.items()})[at, feature])
        (site,) = block.reads
        return float(acts[site][0, at] @ block.encoders[site][feature] + block.bias[feature])  # type: ignore[attr-defined]

    jumped = 0
    for node in result.payload["graph"]["nodes"]:
        if node["kind"] == "feature":
            moved = asked(here, node["position"], node["index"]) - asked(there, node["position"], node["index"])
            assert node["delta"] - (node["jump"] or 0.0) == pytest.approx(moved, abs=2e-3)
            jumped += node["jump"] is not None
    assert jumped  # some are below their gate on the other prompt
    again = opened(file_of(result, "t"))["graph"]["nodes"]
    assert [n["jump"] for n in again if n["kind"] == "feature"] == [
        n["jump"] for n in result.payload["graph"]["nodes"] if n["kind"] == "feature"
    ]
