"""The frozen linear view is exact: its sums, and what a changed source does to every target.

Everything is compared in fp64 with a forward map written out here, with loops over heads and queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from families import N_LAYERS, NAMES, model_of, new_hf, one_thread, padded, random_ids  # noqa: F401
from hooke.dictionaries import Dictionary, check_dictionary, neurons
from hooke.errors import HookeError
from hooke.methods import edges as edges_module
from hooke.methods.edges import Codebook, Edges, Units, edges, encode, readers
from hooke.methods.scores import unit_effects
from hooke.model import Frozen, Model, Rows, freeze
from hooke.model.families import Norm
from hooke.sites import Site
from transcoders import Transcoder

F64 = torch.float64
N_POS, N_UNITS = 6, 40
LOGITS = [4, 9]
EXACT = 1e-10
BASES = ["neurons", "transcoder", "resid_mid", "cross-layer", "one layer", "mixed"]


def frozen_of(name: str, seed: int = 0) -> Frozen:
    model = model_of(name, F64)
    return freeze(model, model.tokens(random_ids(N_POS, seed=seed)))


def basis_of(kind: str, name: str) -> Sequence[Dictionary]:
    """Bases that reconstruct nothing (random), so that errors are large, and the neurons, which are exact."""
    own = neurons(model_of(name, F64))
    if kind == "neurons":
        return own
    if kind == "resid_mid":
        return [Transcoder(f"resid_mid.{i}", [f"mlp_out.{i}"], 32, 30, seed=i) for i in range(N_LAYERS)]
    if kind == "cross-layer":
        return [
            Transcoder(f"mlp_in.{i}", [f"mlp_out.{j}" for j in range(i, min(i + 2, N_LAYERS))], 32, 30, seed=i)
            for i in range(N_LAYERS)
        ]
    plain = [Transcoder(f"mlp_in.{i}", [f"mlp_out.{i}"], 32, 30, seed=i) for i in range(N_LAYERS)]
    if kind == "one layer":
        return plain[1:2]
    return [own[0], plain[1], own[2], plain[2]] if kind == "mixed" else plain  # mixed: two of them in layer 2


def cases() -> list[tuple[str, str]]:
    parallel = ("neox",)
    return [(name, kind) for name in NAMES for kind in BASES if not (kind == "resid_mid" and name in parallel)]


def some_units(book: Codebook, count: int = N_UNITS) -> Units:
    """Different active features at different places of all blocks."""
    places = [(b, p, i) for b, v in enumerate(book.values) for p, i in v.nonzero().tolist()]
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(0))[:count]
    b, p, i = torch.tensor([places[j] for j in order.tolist()]).T
    values = torch.stack([book.values[x][y, z] for x, y, z in zip(b, p, i, strict=True)])
    return Units(b, i, p, values)


def everything(name: str, kind: str) -> tuple[Frozen, Codebook, Units, Edges]:
    frozen = frozen_of(name)
    book = encode(frozen, basis_of(kind, name), 1e-3)
    units = some_units(book)
    return frozen, book, units, edges(frozen, book, units, frozen.unembed_rows(torch.tensor(LOGITS)))


# The map, written out


def held(norm: Norm | None, x: Tensor, scale: Tensor | None) -> Tensor:
    """A norm with its denominator held, bias included."""
    if norm is None or scale is None:
        return x
    x = x - x.mean(-1, keepdim=True) if norm.centred else x
    y = x / scale * norm.weight
    return y if norm.bias is None else y + norm.bias


def forward(frozen: Frozen, tokens: Tensor, mlp_out: list[Tensor]) -> dict[Site, Tensor]:
    """All reads of the map, given the tokens and what each layer's MLP adds to the stream (pos, d_model)."""
    parts, scale = frozen.parts, frozen.scales.get
    values: dict[Site, Tensor] = {}
    x = tokens
    for layer, block in enumerate(parts.blocks):
        normed = held(block.attn_norm, x, scale(Site("attn_scale", layer)))
        attn = torch.zeros_like(x)
        for q in range(len(x)):
            z = []
            for h in range(parts.n_heads):
                g = h // (parts.n_heads // parts.n_kv_heads)
                rows = slice(g * parts.d_head, (g + 1) * parts.d_head)
                seen = torch.zeros(parts.d_head, dtype=F64)
                for k in range(q + 1):
                    v = block.v.weight[rows] @ normed[k]
                    v = v if block.v.bias is None else v + block.v.bias[rows]
                    seen += frozen.patterns[layer][h, q, k] * v
                z.append(seen)
            attn[q] = block.o.weight @ torch.cat(z)
            if block.o.bias is not None:
                attn[q] += block.o.bias
        attn = held(block.attn_post_norm, attn, scale(Site("attn_post_scale", layer)))
        before = x if parts.parallel else x + attn
        if not parts.parallel:
            values[Site("resid_mid", layer)] = before
        values[Site("mlp_in", layer)] = held(block.mlp_norm, before, scale(Site("mlp_scale", layer)))
        x = x + attn + mlp_out[layer]
    values[Site("final_norm")] = held(parts.final_norm, x, scale(Site("final_scale")))
    return values


def added(frozen: Frozen, layer: int, proj: Tensor) -> Tensor:
    """What mlp_proj (pos, d_model) adds to the stream."""
    return held(frozen.parts.blocks[layer].mlp_post_norm, proj, frozen.scales.get(Site("mlp_post_scale", layer)))


def own_mlps(frozen: Frozen) -> list[Tensor]:
    return [added(frozen, layer, frozen.values[Site("mlp_proj", layer)]) for layer in range(N_LAYERS)]


def targets(frozen: Frozen, book: Codebook, units: Units, values: dict[Site, Tensor]) -> Tensor:
    """What the units' readers (held) and the logits read in given values of the map."""
    rows = readers(book, units)
    found = [r @ values[s][p] + c for s, p, r, c in zip(*rows, strict=True)]
    unembed = frozen.parts.unembed
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
    frozen = frozen_of(name)
    values = forward(frozen, frozen.tokens(), own_mlps(frozen))
    for site, x in values.items():
        if site.layer is not None:
            exact(frozen.values[site], x)
    unembed = frozen.parts.unembed
    logits = unembed.weight @ values[Site("final_norm")][-1]
    exact(frozen.replayed, logits if unembed.bias is None else logits + unembed.bias)
    # transformers' RMS norms (and eager softmax) compute in fp32 whatever the model; its LayerNorm does not
    tolerance = 1e-9 if name in ("gpt2", "neox", "neox-sequential") else 1e-5
    assert float((frozen.replayed - frozen.logits).abs().max()) < tolerance * float(frozen.logits.abs().max())
    capped = frozen.logits if frozen.parts.softcap is None else 3.0 * torch.tanh(frozen.logits / 3.0)
    own = model.run(frozen.ids, logits="last").logits
    assert own is not None
    torch.testing.assert_close(capped, own[0], atol=1e-9, rtol=0)
    for site in ("mlp_in", "resid_mid"):
        for layer in range(N_LAYERS):
            if Site(site, layer) in model.sites:
                own_value = model.run(frozen.ids, read=[Site(site, layer)]).acts[Site(site, layer)][0]
                torch.testing.assert_close(frozen.values[Site(site, layer)], own_value, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.01)], ids=str
)
@pytest.mark.parametrize("name", NAMES)
def test_lower_precision_replays_its_logits_in_fp32(name: str, dtype: torch.dtype, tolerance: float) -> None:
    model = model_of(name, dtype)
    frozen = freeze(model, model.tokens(random_ids(N_POS)))
    assert {x.dtype for x in (*frozen.values.values(), *frozen.patterns, *frozen.scales.values())} == {torch.float32}
    assert float((frozen.replayed - frozen.logits).abs().max()) < tolerance * float(frozen.logits.abs().max())
    basis = neurons(model)
    book = encode(frozen, basis, 0.1)
    assert not book.errors
    units = some_units(book)
    found = edges(frozen, book, units, frozen.unembed_rows(torch.tensor(LOGITS)))
    sums = found.weights.sum(1) + found.constants
    expected = torch.cat([units.values, (frozen.replayed - frozen.replayed.mean())[LOGITS]])
    size = found.weights.abs().sum(1) + found.constants.abs()
    assert float(((sums - expected).abs() / size).max()) < 1e-4


@pytest.mark.parametrize(("name", "kind"), cases())
def test_edges_sum_to_what_the_target_reads(name: str, kind: str) -> None:
    frozen, book, units, found = everything(name, kind)
    for block, x in zip(book.basis, book.inputs, strict=True):
        check_dictionary(block, {block.reads[0]: x}, atol=EXACT)
    assert bool(book.errors) == (kind != "neurons")
    sums = found.weights.sum(1) + found.constants
    exact(
        sums, torch.cat([units.values, (frozen.replayed - frozen.replayed.mean())[LOGITS]]), found.weights.abs().sum(1)
    )
    exact(
        sums,
        targets(frozen, book, units, forward(frozen, frozen.tokens(), own_mlps(frozen))),
        found.weights.abs().sum(1),
    )
    exact(found.unit * units.values, found.weights[:, : len(units)])


@pytest.mark.parametrize(("name", "kind"), cases())
def test_doubling_a_source_moves_each_target_by_its_edge(name: str, kind: str) -> None:
    frozen, book, units, found = everything(name, kind)
    tokens, mlps = frozen.tokens(), own_mlps(frozen)
    before = targets(frozen, book, units, forward(frozen, tokens, mlps))

    def moved(extra_tokens: Tensor | None = None, writes: dict[Site, Tensor] | None = None) -> Tensor:
        now = list(mlps)
        for site, y in (writes or {}).items():
            layer = site.layer or 0
            zero = torch.zeros_like(y)
            y = added(frozen, layer, y) - added(frozen, layer, zero) if site.point == "mlp_proj" else y
            now[layer] = now[layer] + y
        now_tokens = tokens if extra_tokens is None else tokens + extra_tokens
        return targets(frozen, book, units, forward(frozen, now_tokens, now)) - before

    def written(b: int, p: int, codes: Tensor) -> dict[Site, Tensor]:
        """What codes (n_features) of block b at position p write."""
        out = {}
        for site in book.basis[b].writes:
            out[site] = torch.zeros_like(tokens)
            for i in codes.nonzero()[:, 0].tolist():
                out[site][p] += codes[i] * book.basis[b].writer(torch.tensor([i]), site)[0]
        return out

    size = found.weights.abs().sum(1)
    for s in range(4):  # kept features
        b, p, i = int(units.blocks[s]), int(units.positions[s]), int(units.ids[s])
        codes = torch.zeros_like(book.values[b][p])
        codes[i] = book.values[b][p, i]
        exact(found.weights[:, s], moved(writes=written(b, p, codes)), size)
    for p in (0, 3):  # tokens
        extra = torch.zeros_like(tokens)
        extra[p] = tokens[p]
        exact(found.weights[:, len(units) + p], moved(extra), size)
    for b in {0, len(book.basis) - 1}:  # remainders: what is not kept, and the rounding of an exact basis
        p = 2
        codes = book.values[b][p].clone()
        for x, y, z in zip(units.blocks.tolist(), units.positions.tolist(), units.ids.tolist(), strict=True):
            if (x, y) == (b, p):
                codes[z] = 0
        writes = written(b, p, codes)
        for site in writes:
            if site.point == "mlp_proj" and site.layer not in book.errors:
                decoded = book.basis[b].decode(book.basis[b].encode({book.basis[b].reads[0]: book.inputs[b]}))[site]
                writes[site][p] += (frozen.values[site] - decoded)[p]
        exact(found.weights[:, len(units) + N_POS * (1 + b) + p], moved(writes=writes), size)
    for e, layer in enumerate(sorted(book.errors)):  # errors
        p = 1 + e
        extra = torch.zeros_like(tokens)
        extra[p] = book.errors[layer][p]
        column = len(units) + N_POS * (1 + len(book.basis) + e) + p
        exact(found.weights[:, column], moved(writes={Site("mlp_out", layer): extra}), size)


@pytest.mark.parametrize(("name", "kind"), cases())
def test_unit_effects_are_the_sum_over_paths(name: str, kind: str) -> None:
    frozen, book, units, found = everything(name, kind)
    n = len(units)
    keep = [torch.zeros_like(v, dtype=torch.bool) for v in book.values]
    for b, p, i in zip(units.blocks, units.positions, units.ids, strict=True):
        keep[b][p, i] = True
    matrix = found.unit[:n]
    logit = frozen.unembed_rows(torch.tensor(LOGITS[:1]))
    late = [book.basis[int(b)].reads[0].layer or 0 for b in units.blocks]
    # a target that is no logit, and not at the last position
    early = max((i for i in range(n) if units.positions[i] < N_POS - 1), key=lambda i: late[i])
    one = readers(book, units.take(torch.tensor([early])))
    for target, row in ((logit, n), (one, early)):
        effects, at_tokens = unit_effects(frozen, book, target, keep=keep)
        total, step = found.unit[row].clone(), found.unit[row].clone()
        for _ in range(N_LAYERS + 1):
            step = step @ matrix
            total += step
        assert not step.any()  # nothing has more steps than layers
        got = torch.stack([effects[b][p, i] for b, p, i in zip(units.blocks, units.positions, units.ids, strict=True)])
        assert total.any() or kind == "one layer"
        exact(got, total, 1 + float(total.abs().max()))
        by_token = found.weights[row, n : n + N_POS] + total @ found.weights[:n, n : n + N_POS]
        exact((at_tokens * frozen.tokens()).sum(-1), by_token, 1 + float(by_token.abs().max()))
        assert all(effect.shape == v.shape for effect, v in zip(effects, book.values, strict=True))


@pytest.mark.parametrize("name", ["llama", "neox", "gemma2"])
def test_effects_of_a_full_basis_are_the_gradient_of_the_replacement(name: str) -> None:
    """With all features passing, against autograd through the map with ReLU transcoders in the MLPs' place."""
    frozen = frozen_of(name)
    basis = basis_of("transcoder", name)
    parts = frozen.parts
    tokens = frozen.tokens().clone().requires_grad_()
    x, features = tokens, []
    for layer, block in enumerate(basis):
        attn = frozen.attend(layer, x)
        before = x if parts.parallel else x + attn
        into = frozen.mlp_input(layer, before)
        # held at the model's own inputs: which features are active does not change
        value = (into @ block.encoder.T + block.bias) * (block.dense(frozen.values[block.reads[0]]) > 0)  # type: ignore[attr-defined]
        features.append(value)
        x = x + attn + value @ block.decoders[Site("mlp_out", layer)]  # type: ignore[attr-defined]
    logit = frozen.read_out(x)[LOGITS[0]] - frozen.read_out(x).mean()
    expected = torch.autograd.grad(logit, [tokens, *features])
    book = encode(frozen, basis, 1e-3)
    effects, at_tokens = unit_effects(frozen, book, frozen.unembed_rows(torch.tensor(LOGITS[:1])))
    exact(at_tokens, expected[0])
    for effect, grad in zip(effects, expected[1:], strict=True):
        exact(effect, grad)


@pytest.mark.parametrize("kind", ["neurons", "cross-layer"])
@pytest.mark.parametrize("name", ["llama", "neox", "gemma2", "gpt2"])
def test_chunks_change_nothing(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen, book, units, found = everything(name, kind)
    for size in (1, 3 * N_POS * 32 * 8):
        monkeypatch.setattr(edges_module, "ROW_BYTES", size)
        rows = edges_module.join(readers(book, units), frozen.unembed_rows(torch.tensor(LOGITS)))
        groups = edges_module.chunks(rows, 32, 8)
        assert sorted(torch.cat(groups).tolist()) == list(range(N_UNITS + 2)) and len(groups) > 5
        again = edges(frozen, book, units, frozen.unembed_rows(torch.tensor(LOGITS)))
        exact(again.weights, found.weights)
        exact(again.unit, found.unit)
        exact(again.constants, found.constants)


@pytest.mark.parametrize("kind", ["neurons", "transcoder", "cross-layer"])
@pytest.mark.parametrize("name", ["llama", "neox", "gemma2", "gpt2"])
def test_deltas_sum_to_the_change_of_the_target(name: str, kind: str) -> None:
    """With the counterfactual's tokens and codes in the map (patterns, denominators and errors held)."""
    frozen, other = frozen_of(name), frozen_of(name, seed=7)
    basis = basis_of(kind, name)
    book, there = encode(frozen, basis, 1e-3), encode(other, basis, 1e-3)
    units = some_units(book)
    units.baselines = torch.stack(
        [there.values[b][p, i] for b, p, i in zip(units.blocks, units.positions, units.ids, strict=True)]
    )
    found = edges(frozen, book, units, frozen.unembed_rows(torch.tensor(LOGITS)), (there.values, other.tokens()))
    assert found.delta is not None
    mlps = own_mlps(frozen)
    before = targets(frozen, book, units, forward(frozen, frozen.tokens(), mlps))
    for b, block in enumerate(basis):
        for site in block.writes:
            change = (there.values[b] - book.values[b]) @ block.writer(torch.arange(block.n_features), site)
            layer = site.layer or 0
            zero = torch.zeros_like(change)
            if site.point == "mlp_proj":
                change = added(frozen, layer, change) - added(frozen, layer, zero)
            mlps[layer] = mlps[layer] + change
    after = targets(frozen, book, units, forward(frozen, other.tokens(), mlps))
    exact(found.delta.sum(1), before - after, found.delta.abs().sum(1))
    exact(
        found.delta[:, : len(units)], found.unit * (units.values - units.baselines), found.delta.abs().sum(1)[:, None]
    )


def test_contrast_rows_and_biased_unembeddings() -> None:
    frozen = frozen_of("gpt2")
    rows = frozen.unembed_rows(torch.tensor([4, 9]), torch.tensor([1.0, -1.0]))
    assert len(rows.sites) == 1
    book = encode(frozen, basis_of("neurons", "gpt2"), 1e-3)
    found = edges(frozen, book, some_units(book), rows)
    exact((found.weights.sum(1) + found.constants)[-1], frozen.replayed[4] - frozen.replayed[9])


def test_rows_out_of_order_and_batches_are_refused() -> None:
    frozen = frozen_of("llama")
    vectors, zeros = torch.zeros(2, 32, dtype=F64), torch.zeros(2, dtype=F64)
    rows = Rows([Site("mlp_in", 0), Site("final_norm")], torch.tensor([1, 5]), vectors, zeros)
    with pytest.raises(HookeError, match="sorted"):
        list(frozen.descend(rows))
    model = model_of("llama", F64)
    for tokens in (model.tokens(random_ids(2, 4)), padded([random_ids(4), random_ids(3)], "left")):
        with pytest.raises(HookeError, match="one prompt without padding"):
            freeze(model, tokens)


def test_a_model_in_memory_that_is_being_trained_can_be_frozen() -> None:
    hf = new_hf("llama")
    for parameter in hf.parameters():
        parameter.requires_grad_(True)
    model = Model(hf, None, name="llama")
    frozen = freeze(model, model.tokens(random_ids(4)))
    book = encode(frozen, neurons(model), 1e-3)
    found = edges(frozen, book, some_units(book), frozen.unembed_rows(torch.tensor(LOGITS)))
    assert not found.weights.requires_grad and not frozen.replayed.requires_grad
