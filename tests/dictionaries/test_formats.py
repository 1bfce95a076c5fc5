"""Dictionaries that other tools wrote, against the codes and reconstructions that these tools got from them.

`formats_files/` is what `bench/formats.py --keep` leaves: random, tiny, written by each tool in its own environment.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from families import model_of, new_hf, one_thread  # noqa: F401
from formats_cases import FILES, config, copied, found_in
from hooke.dictionaries import check_dictionary
from hooke.dictionaries.coder import Coder
from hooke.dictionaries.folder import load_dictionary, save_dictionary
from hooke.dictionaries.formats import read_dictionary, recognise
from hooke.dictionaries.formats.hooks import lens_name, module_name, place_of
from hooke.errors import HookeError
from hooke.model import Model
from hooke.sites import Site

EXPECTED = sorted(FILES.glob("*/*.expected.safetensors"))
CASES = [f"{path.parent.name}/{path.name.removesuffix('.expected.safetensors')}" for path in EXPECTED]
NORMALIZED = "saelens/gemma-scope-2b-pt-transcoders"  # reads a norm's value before its gain
WIDTH, N = 8, 24
KINDS = {
    "saelens/gated": ("saelens", "jumprelu", "resid_post.1", "resid_post.1"),
    "saelens/topk_rescaled": ("saelens", "topk", "resid_post.1", "resid_post.1"),
    "saelens/abstopk": ("saelens", "abstopk", "resid_post.1", "resid_post.1"),
    "saelens/jumprelu_skip_transcoder": ("saelens", "jumprelu", "mlp_in.1", "mlp_out.1"),
    "saelens/hook_z": ("saelens", "relu", "z.1", "z.1"),
    "saelens/legacy": ("saelens", "relu", "resid_pre.1", "resid_pre.1"),
    "saelens/legacy_z": ("saelens", "relu", "z.1", "z.1"),
    "saelens/gemma-scope-2b-pt-att": ("gemma-scope", "jumprelu", "z.1", "z.1"),
    "saelens/gemma-scope-2b-pt-mlp": ("gemma-scope", "jumprelu", "mlp_out.1", "mlp_out.1"),
    "saelens/gemma-scope-9b-pt-res": ("gemma-scope", "jumprelu", "resid_pre.0", "resid_pre.0"),
    "saelens/gemma-scope-2-1b-pt-attn_out": ("gemma-scope-2", "jumprelu", "z.1", "z.1"),
    "saelens/gemma-scope-2-1b-pt-transcoder_all": ("gemma-scope-2", "jumprelu", "mlp_in.1", "mlp_out.1"),
    "saelens/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5": ("qwen-scope", "topk", "resid_post.1", "resid_post.1"),
    "saelens/llama-scope": ("llama-scope", "jumprelu", "resid_post.1", "resid_post.1"),
    "saelens/llama-scope-r1": ("llamascopium", "jumprelu", "resid_post.1", "resid_post.1"),
    "sparsify/groupmax": ("sparsify", "groupmax", "resid_post.1", "resid_post.1"),
    "sparsify/topk_mlp": ("sparsify", "topk", "mlp_proj.1", "mlp_proj.1"),
    "sparsify/skip_transcoder": ("sparsify", "topk", "mlp_in.1", "mlp_proj.1"),
    "dictionary_learning/BatchTopKSAE": ("dictionary-learning", "jumprelu", "resid_post.1", "resid_post.1"),
    "circuit_tracer/per_layer_skip": ("circuit-tracer", "relu", "mlp_in.0", "mlp_out.0"),
    "circuit_tracer/gemma-scope-2-clt": ("gemma-scope-2", "jumprelu", "mlp_in.0", "mlp_out.0"),
}


def read(case: str, model: Model | None = None) -> tuple[Coder, ...]:
    return read_dictionary(found_in(FILES / case), model, allow_pickle=True)


def narrow(name: str = "gemma2") -> Model:
    """A family whose stream is as wide as the dictionaries."""
    shape = {"hidden_size": WIDTH, "head_dim": 4, "num_attention_heads": 2, "num_key_value_heads": 1}
    if name == "gpt2":
        shape = {"n_embd": WIDTH, "n_head": 2}
    return Model(new_hf(name, **shape), None, name=name)


def listed(tensors: dict[str, Tensor], name: str) -> list[Tensor]:
    return [tensors[f"{name}.{i}"] for i in range(sum(key.startswith(f"{name}.") for key in tensors))]


def written(blocks: tuple[Coder, ...], xs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Codes of each block, and what all of them write at each site."""
    codes, ys = [], {}
    for block, x in zip(blocks, xs, strict=True):
        values = dict.fromkeys(block.reads, x)
        found = block.encode(values)
        codes.append(found.dense())
        for site, y in block.decode(found, values).items():
            ys[site] = ys.get(site, torch.zeros(())) + y
    return codes, [ys[site] for site in sorted(ys)]


def same(mine: list[Tensor], theirs: list[Tensor]) -> None:
    size = max(1.0, *(float(x.abs().max()) for x in theirs))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5 * size, rtol=0)


@pytest.mark.parametrize("case", [case for case in CASES if case != NORMALIZED])
def test_codes_and_reconstructions_are_the_tools_own(case: str) -> None:
    told = load_file(FILES / f"{case}.expected.safetensors")
    xs = listed(told, "x")
    codes, ys = written(read(case), xs)
    same(codes, listed(told, "codes"))
    same(ys, listed(told, "y"))
    fires = torch.cat(codes) != 0
    assert 0.1 < float(fires.float().mean()) < 0.9  # some do and some do not


def test_all_kinds_are_there() -> None:
    assert len(CASES) == 58 and set(KINDS) <= set(CASES)


@pytest.mark.parametrize("case", KINDS)
def test_formats_are_recognised_and_places_are_sites(case: str) -> None:
    kind, gate, reads, writes = KINDS[case]
    assert recognise(found_in(FILES / case)) == kind
    block = read(case)[0]
    assert (block.gate, str(block.reads[0]), str(block.writes[0])) == (gate, reads, writes)
    assert block.about["belongs_to"] is None and block.about["made"]["by"] and block.about["made"]["file"]
    json.dumps(dict(block.about))


@pytest.mark.parametrize("case", [case for case in CASES if case != NORMALIZED])
def test_what_is_read_keeps_the_contract(case: str) -> None:
    for block in read(case):
        block = block.to(dtype=torch.float64)
        generator = torch.Generator().manual_seed(1)
        values = {site: torch.randn(5, WIDTH, generator=generator, dtype=torch.float64) for site in block.reads}
        if block.norm and block.restores:  # what is written in the scale of what is read is not linear in it
            block.offsets = {site: torch.zeros_like(x) for site, x in block.offsets.items()}
        check_dictionary(block, values, atol=1e-12)


@pytest.mark.parametrize("case", ["saelens/gated", "sparsify/skip_transcoder", "circuit_tracer/cross_layer"])
def test_what_is_read_is_saved_and_loaded_as_our_own(case: str, tmp_path: Path) -> None:
    blocks = read(case)
    save_dictionary(blocks, tmp_path / "own", made=blocks[0].about["made"])
    again = read_dictionary(tmp_path / "own")
    assert [block.hash for block in again] == [block.hash for block in blocks]
    assert [block.hash for block in load_dictionary(tmp_path / "own")] == [block.hash for block in blocks]
    assert read_dictionary(tmp_path / "own" / "dictionary.json")[0].about["made"]["by"]


def test_a_folder_of_folders_is_read_in_the_order_of_layers(tmp_path: Path) -> None:
    source = FILES / "sparsify" / "topk" / "layers.1"
    for layer in (10, 9, 0):
        place = tmp_path / f"layers.{layer}"
        place.mkdir()
        for file in source.iterdir():
            (place / file.name).write_bytes(file.read_bytes())
    assert [str(block.reads[0]) for block in read_dictionary(tmp_path)] == [
        "resid_post.0",
        "resid_post.9",
        "resid_post.10",
    ]


def test_topk_of_circuit_tracer(tmp_path: Path) -> None:
    """Newer versions than the one in the table choose it in the config."""
    folder = copied("circuit_tracer/per_layer", tmp_path)
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + "activation: topk\nk: 4\n")
    blocks = read_dictionary(folder)
    x = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    for i, block in enumerate(blocks):
        raw = load_file(folder / f"layer_{i}.safetensors")
        h = x @ raw["W_enc"].T + raw["b_enc"]
        kept = torch.zeros_like(h).scatter(1, h.topk(4).indices, 1.0)
        same([block.dense({block.reads[0]: x})], [h.relu() * kept])


def test_a_hook_that_means_two_things_goes_by_its_module(tmp_path: Path) -> None:
    folder = copied("saelens/transcoder", tmp_path)
    config(folder, metadata__hook_name="blocks.1.hook_mlp_in")
    assert str(read_dictionary(folder)[0].reads[0]) == "resid_mid.1"
    config(folder, metadata__hf_hook_name="model.layers.1.pre_feedforward_layernorm.output")
    assert str(read_dictionary(folder)[0].reads[0]) == "mlp_in.1"


# ---- places ------------------------------------------------------------------------------------


def test_a_norms_value_before_its_gain_is_folded_in() -> None:
    model, told = narrow(), load_file(FILES / f"{NORMALIZED}.expected.safetensors")
    with pytest.raises(HookeError, match="before its gain, which the model has: say which model"):
        read(NORMALIZED)
    (block,) = read(NORMALIZED, model)
    norm = model.parts.blocks[1].mlp_norm
    assert norm is not None and str(block.reads[0]) == "mlp_in.1" and str(block.writes[0]) == "mlp_out.1"
    codes, ys = written((block,), [x * norm.weight for x in listed(told, "x")])
    same(codes, listed(told, "codes"))
    same(ys, listed(told, "y"))


def test_a_layer_norms_bias_is_folded_in_too() -> None:
    model = narrow("gpt2")
    place = place_of("blocks.2.ln1.hook_normalized", model)
    norm = model.parts.blocks[2].attn_norm
    assert norm is not None and norm.bias is not None and place.site == Site("attn_in", 2)
    resid = torch.randn(4, WIDTH, dtype=torch.float64)
    plain = (resid - resid.mean(-1, keepdim=True)) / norm.scale(resid)
    x = norm.apply(resid, norm.scale(resid))
    encoder, bias = torch.randn(3, WIDTH, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    e, b = place.read(encoder, bias)
    torch.testing.assert_close(x @ e.T + b, plain @ encoder.T + bias)
    d, offset = place.write(encoder, plain[0])
    torch.testing.assert_close(bias @ d + offset, (bias @ encoder + plain[0]) * norm.weight + norm.bias)


PLACES = {
    "blocks.3.hook_resid_pre": "resid_pre.3",
    "blocks.3.hook_resid_mid": "resid_mid.3",
    "blocks.3.hook_mlp_in": "resid_mid.3",
    "blocks.3.hook_attn_out": "attn_out.3",
    "blocks.3.mlp.hook_in": "mlp_in.3",
    "blocks.3.mlp.hook_out": "mlp_proj.3",
    "blocks.3.mlp.hook_post": "mlp_act.3",
    "blocks.3.attn.hook_z": "z.3",
    "hook_embed": "resid_pre.0",
    "model.layers.3": "resid_post.3",
    "model.layers.3.output": "resid_post.3",
    "layers.3.input": "resid_pre.3",
    "layers.3.mlp": "mlp_proj.3",
    "layers.3.mlp.input": "mlp_in.3",
    "transformer.h.3.mlp": "mlp_proj.3",
    "gpt_neox.layers.3.attention.dense.input": "z.3",
    "model.layers.3.self_attn.o_proj.input": "z.3",
    "model.layers.3.pre_feedforward_layernorm.output": "mlp_in.3",
    "model.layers.3.post_feedforward_layernorm.output": "mlp_out.3",
}


@pytest.mark.parametrize("name", PLACES)
def test_foreign_names_mean_sites(name: str) -> None:
    place = place_of(name, None)
    assert str(place.site) == PLACES[name] and place.gain is None and place.shift is None


@pytest.mark.parametrize(
    ("name", "family", "site"),
    [
        ("model.layers.1.post_attention_layernorm.output", "llama", "mlp_in.1"),
        ("model.layers.1.post_attention_layernorm.output", "gemma2", "attn_out.1"),
        ("model.layers.1.self_attn", "llama", "attn_out.1"),
        ("layers.1.attention", "neox", "attn_out.1"),
        ("model.embed_tokens", "llama", "resid_pre.0"),
        ("blocks.1.hook_mlp_in", "neox", "resid_pre.1"),
        ("blocks.1.hook_mlp_in", "neox-sequential", "resid_mid.1"),
    ],
)
def test_names_that_depend_on_the_family(name: str, family: str, site: str) -> None:
    assert str(place_of(name, model_of(family)).site) == site
    if "hook" not in name:
        with pytest.raises(HookeError, match="say which"):
            place_of(name, None)


@pytest.mark.parametrize(
    ("name", "family", "says"),
    [
        ("model.layers.1.self_attn", "gemma2", "Hooke has no site there"),
        ("model.embed_tokens", "gemma2", "not what enters the first block"),
        ("transformer.wte", "gpt2", "not what enters the first block"),
        ("blocks.1.ln2.hook_normalized", "olmo2", "does not have there"),
        ("blocks.9.ln2.hook_normalized", "llama", "is of layer 9; llama has 3"),
        ("blocks.1.attn.hook_pattern", "llama", "no site of Hooke"),
        ("blocks.one.hook_resid_pre", "llama", "no site of Hooke"),
        ("", "llama", "no site of Hooke"),
        ("model.layers.1.mlp.gate_proj", "llama", "no site of Hooke"),
    ],
)
def test_places_that_there_are_not(name: str, family: str, says: str) -> None:
    with pytest.raises(HookeError, match=says):
        place_of(name, model_of(family))


def test_sites_have_names() -> None:
    assert lens_name(Site("z", 2)) == "blocks.2.attn.hook_z"
    assert (module_name(Site("mlp_in", 2), "input"), module_name(Site("resid_post", 2), "output")) == (
        "layers.2.mlp",
        "layers.2",
    )
    with pytest.raises(HookeError, match="no name in TransformerLens"):
        lens_name(Site("q", 2))
    with pytest.raises(HookeError, match=r"no module takes z\.2"):
        module_name(Site("z", 2), "input")


def test_a_dictionary_of_another_width_or_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HookeError, match=r"takes 8 numbers at resid_post\.1, and llama has 32 there"):
        read("saelens/standard", model_of("llama"))
    with pytest.raises(HookeError, match=r"of resid_mid\.0, which neox does not have"):
        read_dictionary(renamed(tmp_path / "sae", "blocks.0.hook_resid_mid"), model_of("neox"))


def renamed(place: Path, hook: str) -> Path:
    shutil.copytree(FILES / "saelens" / "standard", place)
    config = json.loads((place / "cfg.json").read_text())
    config["metadata"]["hook_name"] = hook
    (place / "cfg.json").write_text(json.dumps(config))
    return place


# ---- norms of single tokens ----------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["layer", "length"])
def test_a_norm_is_held_and_its_slopes_are_derivatives(norm: str) -> None:
    generator = torch.Generator().manual_seed(2)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    site = Site("resid_post", 1)
    block = Coder({site: random(N, WIDTH)}, random(N), {site: random(N, WIDTH)}, {site: random(WIDTH)}, norm=norm)
    x, ids = random(N, WIDTH), torch.arange(N)
    rows, consts = block.reader(ids, {site: x})
    torch.testing.assert_close((rows[site] * x).sum(-1) + consts, block.before({site: x})[ids, ids])
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(block.before({site: x})[ids, ids].sum(), x)
    torch.testing.assert_close(block.slopes(ids, {site: x.detach()})[site], gradient)
    cotangent = random(N, WIDTH)
    offset = block.offset(site, {site: x})
    assert offset is not None and block.skips
    (gradient,) = torch.autograd.grad((cotangent * offset).sum(), x)
    pulled = block.pull_offset(site, cotangent, {site: x.detach()})[site]
    torch.testing.assert_close(pulled, gradient)
    # what it writes is in the scale of what it reads: doubling that doubles this
    torch.testing.assert_close(block.written(block.dense({site: 2 * x}), {site: 2 * x})[site], 2 * block.decode(
        block.encode({site: x}), {site: x}
    )[site], atol=1e-3, rtol=1e-4)  # fmt: skip


# ---- llamascopium, which no tool here reads: its formulas written out -----------------------------


def llamascopium(folder: Path, kind: str, act: str, tensors: dict[str, Tensor], **config: Any) -> Path:
    base = {"sae_type": kind, "d_model": WIDTH, "expansion_factor": 3, "act_fn": act, "norm_activation": "dataset-wise"}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(base | config))
    save_file({name: x.contiguous() for name, x in tensors.items()}, str(folder / "sae_weights.safetensors"))
    return folder


def fires(h: Tensor, lengths: Tensor, act: str, level: Tensor, k: int) -> Tensor:
    """What llamascopium's activation makes of h (rows, n), weighed by lengths (n,)."""
    weighed = h.relu() * lengths
    if act == "topk":
        keep = torch.zeros_like(weighed).scatter(1, weighed.topk(k).indices, 1.0)
    else:
        keep = (weighed > (level if act == "jumprelu" else 0.0)).float()
    return h.relu() * keep


def weights_of(act: str, seed: int = 5) -> tuple[Any, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.5

    tensors = {}
    if act == "jumprelu":
        tensors["activation_function.log_jumprelu_threshold"] = random(N) - 1
    return random, tensors


@pytest.mark.parametrize("act", ["relu", "jumprelu", "topk"])
def test_an_autoencoder_of_llamascopium(act: str, tmp_path: Path) -> None:
    random, tensors = weights_of(act)
    tensors |= {"W_E": random(WIDTH, N), "b_E": random(N), "W_D": random(N, WIDTH), "b_D": random(WIDTH)}
    hooks = {"hook_point_in": "blocks.1.hook_resid_mid", "hook_point_out": "blocks.1.hook_mlp_out"}
    norms = {f"dataset_average_activation_norm.{hooks[key]}": torch.tensor(v) for key, v in zip(hooks, (3.0, 5.0))}
    folder = llamascopium(tmp_path / "sae", "sae", act, tensors | norms, **hooks, top_k=5)
    (block,) = read_dictionary(folder)
    x, s_in, s_out = random(6, WIDTH), math.sqrt(WIDTH) / 3, math.sqrt(WIDTH) / 5
    level = tensors.get("activation_function.log_jumprelu_threshold", torch.zeros(N)).exp()
    codes = fires(s_in * x @ tensors["W_E"] + tensors["b_E"], tensors["W_D"].norm(dim=1), act, level, 5)
    mine, ys = written((block,), [x])
    same(mine, [codes])
    same(ys, [(codes @ tensors["W_D"] + tensors["b_D"]) / s_out])


@pytest.mark.parametrize("act", ["relu", "jumprelu", "topk"])
def test_a_cross_layer_transcoder_of_llamascopium(act: str, tmp_path: Path) -> None:
    random, tensors = weights_of(act)
    layers = 3
    if act == "jumprelu":
        tensors["activation_function.log_jumprelu_threshold"] = random(layers, N) - 1
    tensors |= {"W_E": random(layers, WIDTH, N), "b_E": random(layers, N)}
    tensors |= {f"W_D.{t}": random(t + 1, N, WIDTH) for t in range(layers)} | {
        f"b_D.{t}": random(WIDTH) for t in range(layers)
    }
    hooks = {f"hook_points_{way}": [f"blocks.{i}.{hook}" for i in range(layers)] for way, hook in (
        ("in", "hook_resid_mid"), ("out", "hook_mlp_out")
    )}  # fmt: skip
    folder = llamascopium(tmp_path / "clt", "clt", act, tensors, **hooks, top_k=5, norm_activation="inference")
    blocks, x = read_dictionary(folder), random(layers, 6, WIDTH)
    codes, ys = [], [tensors[f"b_D.{t}"].expand(6, -1).clone() for t in range(layers)]
    for s in range(layers):
        lengths = torch.stack([tensors[f"W_D.{t}"][s].square().sum(1) for t in range(s, layers)]).sum(0).sqrt()
        level = tensors.get("activation_function.log_jumprelu_threshold", torch.zeros(layers, N))[s].exp()
        codes.append(fires(x[s] @ tensors["W_E"][s] + tensors["b_E"][s], lengths, act, level, 5))
        for t in range(s, layers):
            ys[t] += codes[s] @ tensors[f"W_D.{t}"][s]
    mine, found = written(blocks, list(x))
    same(mine, codes)
    same(found, ys)


@pytest.mark.parametrize("act", ["relu", "jumprelu", "topk"])
def test_a_crosscoder_of_llamascopium(act: str, tmp_path: Path) -> None:
    """Its gate weighs a feature at each place by what it writes there, so a feature may be open at one and not at another."""
    random, tensors = weights_of(act)
    heads = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    tensors |= {"W_E": random(2, WIDTH, N), "b_E": random(2, N), "W_D": random(2, N, WIDTH), "b_D": random(2, WIDTH)}
    norms = {f"dataset_average_activation_norm.{head}": torch.tensor(3.0 + i) for i, head in enumerate(heads)}
    folder = llamascopium(tmp_path / "cross", "crosscoder", act, tensors | norms, hook_points=heads, top_k=5)
    blocks, x = read_dictionary(folder), random(2, 6, WIDTH)
    assert len(blocks) == (1 if act == "relu" else 2) and all(len(block.reads) == 2 for block in blocks)
    scales = [math.sqrt(WIDTH) / (3.0 + i) for i in range(2)]
    h = sum(scales[i] * x[i] @ tensors["W_E"][i] + tensors["b_E"][i] for i in range(2))
    level = tensors.get("activation_function.log_jumprelu_threshold", torch.zeros(N)).exp()
    values = {Site("resid_post", i): x[i] for i in range(2)}
    for block in blocks:
        codes = block.encode(values)
        for site, y in block.decode(codes, values).items():
            i = site.layer or 0
            theirs = fires(h, tensors["W_D"][i].norm(dim=1), act, level, 5)
            same([codes.dense()], [theirs])
            same([y], [(theirs @ tensors["W_D"][i] + tensors["b_D"][i]) / scales[i]])
