"""What Hooke writes for other tools: read back as it was, and refused where their forms cannot hold it.

That these tools read it with the same codes is what `bench/formats.py` shows, in their own environments.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from families import model_of, one_thread, random_ids  # noqa: F401
from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats import read_dictionary, recognise, write_dictionary
from hooke.errors import HookeError
from hooke.sites import Site

WIDTH, N = 8, 24


def made(read: str, *writes: str, gate: str = "relu", skip: bool = False, seed: int = 0, **settings: Any) -> Coder:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.5

    sites = [Site.parse(site) for site in writes or (read,)]
    n, width = settings.pop("n", N), settings.pop("width", WIDTH)
    return Coder(
        {Site.parse(read): random(n, width)}, random(n), {site: random(n, WIDTH) for site in sites},
        {site: random(WIDTH) for site in sites}, gate, random(n).abs() if gate == "jumprelu" else None,
        None if gate in ("relu", "jumprelu") else 6, skip={site: random(WIDTH, width) for site in sites} if skip else {},
        **settings,
    )  # fmt: skip


def layers(count: int, read: str, write: str, *, across: bool = False, **settings: Any) -> list[Coder]:
    return [
        made(f"{read}.{i}", *(f"{write}.{j}" for j in range(i, count if across else i + 1)), seed=i, **settings)
        for i in range(count)
    ]


SAMPLES: dict[str, tuple[str, list[Coder]]] = {
    **{
        f"saelens {gate}": ("saelens", [made("resid_mid.2", gate=gate)])
        for gate in ("relu", "jumprelu", "topk", "abstopk")
    },
    "saelens z": ("saelens", [made("z.0")]),
    "saelens layer": ("saelens", [made("resid_pre.0", norm="layer")]),
    "saelens length": ("saelens", [made("attn_out.0", norm="length", gate="topk")]),
    "saelens transcoder": ("saelens", [made("mlp_in.1", "mlp_proj.1", skip=True, gate="jumprelu")]),
    "saelens wider": ("saelens", [made("resid_mid.1", "mlp_out.1", width=6)]),
    "saelens several": ("saelens", layers(3, "resid_post", "resid_post", gate="topk")),
    "sparsify topk": ("sparsify", [made("resid_post.3", gate="topk")]),
    "sparsify groupmax": ("sparsify", [made("mlp_proj.3", gate="groupmax")]),
    "sparsify transcoders": ("sparsify", layers(12, "mlp_in", "mlp_proj", gate="topk", skip=True)),
    "sparsify stream": ("sparsify", [made("resid_pre.1", "resid_post.1", gate="topk")]),
    "circuit-tracer set": ("circuit-tracer", layers(3, "mlp_in", "mlp_out", gate="jumprelu")),
    "circuit-tracer skip": ("circuit-tracer", layers(3, "resid_mid", "mlp_proj", skip=True)),
    "circuit-tracer one": ("circuit-tracer", layers(1, "mlp_in", "mlp_out")),
    "circuit-tracer across": ("circuit-tracer", layers(3, "resid_mid", "mlp_out", across=True, gate="jumprelu")),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_written_is_read_back_as_it_was(name: str, tmp_path: Path) -> None:
    kind, blocks = SAMPLES[name]
    assert write_dictionary(blocks, tmp_path / "out", kind) == tmp_path / "out"
    assert recognise(tmp_path / "out") == kind
    again = read_dictionary(tmp_path / "out")
    assert [block.rule() for block in again] == [block.rule() for block in blocks]
    generator = torch.Generator().manual_seed(9)
    totals: list[dict[Site, Tensor]] = [{}, {}]
    for mine, theirs in zip(blocks, again, strict=True):
        read, w = next(iter(mine.encoders.items()))
        x = {read: torch.randn(6, w.shape[1], generator=generator)}
        torch.testing.assert_close(theirs.dense(x), mine.dense(x), atol=1e-5, rtol=0)
        for total, block in zip(totals, (mine, theirs)):
            for site, y in block.written(block.dense(x), x).items():
                total[site] = total.get(site, torch.zeros(())) + y
    for site, y in totals[0].items():
        torch.testing.assert_close(totals[1][site], y, atol=1e-5, rtol=1e-5)


def test_blocks_of_any_order_and_the_models_name(tmp_path: Path) -> None:
    blocks = layers(3, "mlp_in", "mlp_out")
    blocks[0].about = {"belongs_to": {"model": 'a "model": #1'}}
    write_dictionary(blocks[::-1], tmp_path, "circuit-tracer")
    again = read_dictionary(tmp_path)
    assert [block.reads[0].layer for block in again] == [0, 1, 2]
    assert again[0].about["made"]["model_name"] == 'a "model": #1'
    write_dictionary(blocks[:1], tmp_path / "sae", "saelens")
    assert json.loads((tmp_path / "sae" / "cfg.json").read_text())["metadata"]["model_name"] == 'a "model": #1'


def test_a_dictionary_that_was_read_is_written_on_and_used(tmp_path: Path) -> None:
    """Through two tools' forms, and then in a model."""
    model = model_of("llama")
    generator = torch.Generator().manual_seed(0)
    wide = [torch.randn(40, 32, generator=generator) for _ in range(2)]
    mlp_in, mlp_out = Site("mlp_in", 1), Site("mlp_proj", 1)
    block = Coder({mlp_in: wide[0]}, torch.zeros(40), {mlp_out: wide[1]}, {mlp_out: torch.ones(32)}, "topk", k=4)
    write_dictionary([block], tmp_path / "sparsify", "sparsify")
    (found,) = read_dictionary(tmp_path / "sparsify", model)
    acts = model.run(random_ids(1, 6), read=found.reads).acts
    x = {site: y[0] for site, y in acts.items()}
    assert torch.equal(found.dense(x), block.dense(x)) and len(found.encode(x)) <= 24


def scaled() -> Coder:
    return made("resid_post.1", gate="topk", scaled=True)


def test_weighed_features_are_in_units_of_their_length_in_saelens(tmp_path: Path) -> None:
    """Its flag chooses as `scaled` does, and gives codes times the length: reconstructions are the same."""
    block = scaled()
    write_dictionary([block], tmp_path, "saelens")
    (again,) = read_dictionary(tmp_path)
    x = {Site("resid_post", 1): torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(1))}
    torch.testing.assert_close(again.dense(x), block.dense(x) * block.lengths)
    for site, y in block.written(block.dense(x), x).items():
        torch.testing.assert_close(again.written(again.dense(x), x)[site], y, atol=1e-5, rtol=1e-5)


def crosscoder() -> Coder:
    block = made("resid_post.1")
    other = Site("resid_post", 2)
    return Coder({**block.encoders, other: block.encoders[block.reads[0]]}, block.bias, block.decoders, block.offsets)


CANNOT: dict[str, tuple[str, list[Coder], str]] = {
    "no block": ("saelens", [], "no dictionary to write"),
    "no format": (
        "onnx",
        [made("z.0")],
        "no format called 'onnx' is written; there are saelens, sparsify, circuit-tracer",
    ),
    "a step": ("saelens", [made("resid_post.1", refine=0.1)], "refines its codes"),
    "groups": ("saelens", [made("z.0", gate="groupmax")], "SAELens has no autoencoder with the gate groupmax"),
    "a counted transcoder": (
        "saelens",
        [made("mlp_in.1", "mlp_out.1", gate="topk")],
        "no transcoder with the gate topk",
    ),
    "a skip": ("saelens", [made("resid_post.1", skip=True)], "no autoencoder with a skip connection"),
    "several reads": ("saelens", [crosscoder()], "that read one site, and this one has 2"),
    "several writes": ("saelens", [made("mlp_in.0", "mlp_out.0", "mlp_out.1")], "that write one site"),
    "no name": ("saelens", [made("q.1")], r"q\.1 has no name in TransformerLens"),
    "one place twice": ("saelens", [made("z.0"), made("z.0", seed=1)], r"two of these dictionaries write z\.0"),
    "no count": ("sparsify", [made("resid_post.1")], "has the gate relu"),
    "weighed": ("sparsify", [scaled()], "goes by a feature times the length"),
    "a norm": ("sparsify", [made("resid_post.1", gate="topk", norm="layer")], r"over a scale \(layer\)"),
    "no module": ("sparsify", [made("z.1", gate="topk")], r"no module gives z\.1"),
    "another module": ("sparsify", [made("mlp_in.0", "mlp_proj.1", gate="topk")], "read what a module takes"),
    "another width": (
        "sparsify",
        [made("mlp_in.1", "mlp_proj.1", gate="topk", width=6)],
        "as many numbers as they read",
    ),
    "one module twice": ("sparsify", [made("resid_post.1", gate="topk")] * 2, r"are of layers\.1"),
    "a layer missing": ("circuit-tracer", layers(3, "mlp_in", "mlp_out")[1:], "one block for every layer from 0 on"),
    "counted": ("circuit-tracer", layers(2, "mlp_in", "mlp_out", gate="topk"), "has relu and jumprelu, one for all"),
    "two gates": (
        "circuit-tracer",
        [made("mlp_in.0", "mlp_out.0"), made("mlp_in.1", "mlp_out.1", gate="jumprelu")],
        "one for all",
    ),
    "two sizes": (
        "circuit-tracer",
        [made("mlp_in.0", "mlp_out.0"), made("mlp_in.1", "mlp_out.1", n=9)],
        "as many features",
    ),
    "two points": (
        "circuit-tracer",
        [made("mlp_in.0", "mlp_out.0"), made("mlp_in.1", "mlp_proj.1")],
        "to write the same point",
    ),
    "below": (
        "circuit-tracer",
        [made("mlp_in.0", "mlp_out.0"), made("mlp_in.1", "mlp_out.0")],
        "has layers from its own on",
    ),
    "a skip across": (
        "circuit-tracer",
        layers(2, "mlp_in", "mlp_out", across=True, skip=True),
        "with a skip connection",
    ),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_a_form_cannot_hold(name: str, tmp_path: Path) -> None:
    kind, blocks, says = CANNOT[name]
    with pytest.raises(HookeError, match=says):
        write_dictionary(blocks, tmp_path / "out", kind)
    assert not (tmp_path / "out").exists()


def test_thresholds_below_zero(tmp_path: Path) -> None:
    block = made("mlp_in.0", "mlp_out.0", gate="jumprelu")
    assert block.threshold is not None
    block.threshold = -block.threshold
    with pytest.raises(HookeError, match="lets values below zero through"):
        write_dictionary([block], tmp_path, "circuit-tracer")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HookeError, match=r"cannot write to .*file"):
        write_dictionary([made("z.0")], tmp_path / "file", "saelens")
