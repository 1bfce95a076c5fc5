"""Trained dictionaries as the protocol has them, and as folders."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from families import model_of, one_thread, random_ids  # noqa: F401
from hooke.dictionaries import check_dictionary, check_edits
from hooke.dictionaries.coder import Coder
from hooke.dictionaries.folder import NAME, load_dictionary, save_dictionary
from hooke.errors import HookeError
from hooke.model.belongs import belongs_to
from hooke.sites import Site

F64 = torch.float64
POST, IN, OUT, LATER = Site("resid_post", 1), Site("mlp_in", 1), Site("mlp_out", 1), Site("mlp_out", 2)
GATES: dict[str, dict[str, Any]] = {
    "relu": {},
    "jumprelu": {"threshold": torch.linspace(-0.2, 0.5, 40, dtype=F64)},
    "topk": {"k": 7},
    "topk by length": {"gate": "topk", "k": 7, "scaled": True},
    "abstopk": {"k": 7},
    "groupmax": {"k": 8},
    "refined": {"gate": "jumprelu", "threshold": torch.full((40,), 0.3, dtype=F64), "refine": 0.25},
    "refined topk": {"gate": "topk", "k": 7, "refine": 0.25},
}


def coder(
    gate: str, reads: tuple[Site, ...] = (POST,), writes: tuple[Site, ...] = (POST,), *, skip: bool = False
) -> Coder:
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=F64)

    return Coder(
        {site: random(40, 32) / 32**0.5 for site in reads},
        0.3 * random(40),
        {site: 0.2 * random(40, 32) for site in writes},
        {site: 0.1 * random(32) for site in writes},
        skip={site: 0.1 * random(32, 32) for site in writes} if skip else {},
        **({"gate": gate} | GATES[gate]),
    )


def inputs(block: Coder) -> dict[Site, Tensor]:
    acts = model_of("llama", F64).run(random_ids(1, 6), read=block.reads).acts
    return {site: acts[site][0] for site in block.reads}


def slow(block: Coder, x: dict[Site, Tensor]) -> Tensor:
    """Codes, feature by feature."""

    def gated(h: list[float], row: int) -> list[float]:
        n, k = len(h), block.k or 0
        if block.gate == "relu":
            return [max(0.0, v) for v in h]
        if block.gate == "jumprelu":
            assert block.threshold is not None
            return [v if v > float(block.threshold[i]) and v > 0 else 0.0 for i, v in enumerate(h)]
        if block.gate == "groupmax":
            best = [max(range(g * n // k, (g + 1) * n // k), key=h.__getitem__) for g in range(k)]
            return [max(0.0, v) if i in best else 0.0 for i, v in enumerate(h)]
        size = [math.sqrt(sum(float(w[i].square().sum()) for w in block.decoders.values())) for i in range(n)]
        score = {
            i: abs(v) if block.gate == "abstopk" else v * (size[i] if block.scaled else 1) for i, v in enumerate(h)
        }
        best = sorted(score, key=lambda i: -score[i])[:k]
        return [(v if block.gate == "abstopk" else max(0.0, v)) if i in best else 0.0 for i, v in enumerate(h)]

    found = []
    for row in range(len(x[block.reads[0]])):
        h = [float(block.bias[i] + sum(x[s][row] @ w[i] for s, w in block.encoders.items())) for i in range(40)]
        f = gated(h, row)
        if block.refine:
            made = block.offsets[POST] + sum(v * block.decoders[POST][i] for i, v in enumerate(f))
            left = x[POST][row] - made
            f = gated([v + block.refine * float(left @ block.encoders[POST][i]) for i, v in enumerate(h)], row)
        found.append(f)
    return torch.tensor(found, dtype=F64)


@pytest.mark.parametrize("gate", GATES)
def test_a_coder_keeps_the_contract_of_dictionaries(gate: str) -> None:
    model, block = model_of("llama", F64), coder(gate)
    x = inputs(block)
    check_dictionary(block, x, atol=1e-10)
    torch.testing.assert_close(block.encode(x).dense(), slow(block, x), atol=1e-10, rtol=0)
    assert 0.05 < float((block.dense(x) != 0).double().mean()) < 0.9
    if not block.refine:  # a step of refinement depends on all that fires
        check_edits(block, model, model.tokens(random_ids(1, 6)), atol=1e-9)
    torch.testing.assert_close(block.written(block.dense(x), x), block.decode(block.encode(x), x), atol=1e-10, rtol=0)


@pytest.mark.parametrize("gate", ["relu", "jumprelu", "topk", "groupmax"])
def test_so_do_transcoders_and_crosscoders(gate: str) -> None:
    for block in (
        coder(gate, (IN,), (OUT,), skip=True),
        coder(gate, (IN,), (OUT, LATER), skip=True),
        coder(gate, (Site("resid_post", 0), IN), (OUT, POST)),
    ):
        x = inputs(block)
        check_dictionary(block, x, atol=1e-10)
        torch.testing.assert_close(block.encode(x).dense(), slow(block, x), atol=1e-10, rtol=0)


@pytest.mark.parametrize("gate", GATES)
def test_a_folder_gives_the_same_back(gate: str, tmp_path: Path) -> None:
    model = model_of("llama", F64)
    blocks = [coder(gate), coder(gate, (IN,), (OUT, LATER), skip=True) if "refined" not in gate else coder(gate)]
    save_dictionary(blocks[:1] if "refined" in gate else blocks, tmp_path, made={"tokens": 7})
    found = load_dictionary(tmp_path)
    for a, b in zip(found, blocks):
        assert a.hash == b.hash and a.rule() == b.rule() and a.about["made"] == {"tokens": 7}
        x = inputs(b)
        assert torch.equal(a.dense(x), b.dense(x))
    assert load_dictionary(tmp_path, model)[0].hash == blocks[0].hash


def test_a_hash_is_of_what_decides_what_it_computes() -> None:
    plain = coder("relu")
    assert plain.hash == coder("relu").hash
    for name in ("bias", "encoders", "decoders", "offsets"):
        other = coder("relu")
        part = getattr(other, name)
        (part if isinstance(part, Tensor) else part[POST])[1] += 1e-9
        assert other.hash != plain.hash
    assert coder("topk").hash != plain.hash


class Named:
    """A tokenizer's stand-in."""

    chat_template = None

    def get_vocab(self) -> dict[str, int]:
        return {"a": 0}


def test_it_refuses_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = model_of("llama", F64), model_of("qwen2", F64)
    for each in (model, other):
        monkeypatch.setattr(each, "tokenizer", Named())
    save_dictionary([coder("relu")], tmp_path, belongs_to=belongs_to(model))
    assert load_dictionary(tmp_path, model)[0].about["transfer"] == []
    with pytest.raises(HookeError, match=r"made from .* and differs from .* in its weights \(.*--transfer"):
        load_dictionary(tmp_path, other)
    assert load_dictionary(tmp_path, other, transfer=True)[0].about["transfer"]


def wrong(folder: Path, how: str) -> None:
    file = folder / "000-resid_post.1.safetensors"
    about = json.loads((folder / NAME).read_text())
    if how == "cut short":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "changed":
        data = bytearray(file.read_bytes())
        data[-5] ^= 1
        file.write_bytes(bytes(data))
    elif how == "gone":
        file.unlink()
    elif how == "a folder outside":
        about["blocks"][0]["file"] = "../x.safetensors"
    elif how == "no gate":
        about["blocks"][0]["gate"] = "magic"
    elif how == "other k":
        about["blocks"][0]["k"] = 3
    elif how == "other sites":
        about["blocks"][0]["reads"] = ["resid_post.2"]
    elif how == "unknown key":
        about["colour"] = "blue"
    elif how == "no JSON":
        (folder / NAME).write_text("{")
        return
    elif how == "none":
        (folder / NAME).unlink()
        return
    (folder / NAME).write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("cut short", "no whole safetensors file"),
        ("changed", "its hash differs"),
        ("gone", "000-resid_post"),
        ("a folder outside", "file: String should match"),
        ("no gate", "no gate called 'magic'"),
        ("other k", "k is 3"),
        ("other sites", "does not hold the weights"),
        ("unknown key", "colour"),
        ("no JSON", "JSON"),
        ("none", "no dictionary in it"),
    ],
)
def test_a_damaged_folder_is_one_line(how: str, says: str, tmp_path: Path) -> None:
    save_dictionary([coder("relu")], tmp_path)
    load_dictionary(tmp_path)
    wrong(tmp_path, how)
    with pytest.raises(HookeError, match=says) as error:
        load_dictionary(tmp_path)
    assert "\n" not in str(error.value)


def test_shapes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    good = coder("relu")
    with pytest.raises(HookeError, match="finite"):
        Coder(good.encoders, good.bias * math.nan, good.decoders, good.offsets)
    with pytest.raises(HookeError, match=r"encoder\.resid_post\.1 .* has the shape \(39, 32\)"):
        Coder({POST: good.encoders[POST][:39]}, good.bias, good.decoders, good.offsets)
    with pytest.raises(HookeError, match="takes one from 1 to 40"):
        Coder(good.encoders, good.bias, good.decoders, good.offsets, "topk")
    with pytest.raises(HookeError, match="needs thresholds"):
        Coder(good.encoders, good.bias, good.decoders, good.offsets, "jumprelu")
    with pytest.raises(HookeError, match="do not make 7 groups"):
        Coder(good.encoders, good.bias, good.decoders, good.offsets, "groupmax", k=7)
    with pytest.raises(HookeError, match="a step of refinement is for autoencoders"):
        Coder(good.encoders, good.bias, {OUT: good.decoders[POST]}, {OUT: good.offsets[POST]}, refine=0.2)
    wide = Coder({POST: torch.ones(3, 7)}, torch.ones(3), {POST: torch.ones(3, 7)}, {POST: torch.ones(7)})
    save_dictionary([wide], tmp_path)
    with pytest.raises(HookeError, match=r"takes 7 numbers at resid_post\.1, and .* has 32 there"):
        load_dictionary(tmp_path, model_of("llama", F64))
    far = Coder(
        {Site("resid_post", 77): torch.ones(3, 32)}, torch.ones(3), {POST: torch.ones(3, 32)}, {POST: torch.ones(32)}
    )
    save_dictionary([far], tmp_path)
    with pytest.raises(HookeError, match=r"is of resid_post\.77, which .* does not have"):
        load_dictionary(tmp_path, model_of("llama", F64))
