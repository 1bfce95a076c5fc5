"""Every verb in every type on every family: finite numbers that agree with those in float32, or one clear line."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hooke
from families import NAMES, new_hf, one_thread  # noqa: F401
from hooke.cli import main
from hooke.errors import HookeError
from hooke.model import Model
from verbs import CLEAN, CONTRAST, CORRUPT, TARGET, VERBS, Numbers, main_numbers, word_model, words

# of the largest number of its kind: rounding of 2^-24, 2^-11 and 2^-8, amplified by some ten layers of sums
TOLERANCE = {"float64": 1e-5, "float16": 2e-2, "bfloat16": 1.2e-1}


@cache
def loaded(name: str, dtype: str) -> Model:
    return word_model(name, getattr(torch, dtype))


@cache
def found(name: str, dtype: str, verb: str) -> Numbers:
    return main_numbers(verb, VERBS[verb](loaded(name, dtype)))


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("name", NAMES)
def test_every_verb_in_every_type_agrees_with_float32(name: str, dtype: str) -> None:
    for verb in VERBS:
        expected, own = found(name, "float32", verb), found(name, dtype, verb)
        assert expected.keys() == own.keys()
        for key, values in own.items():
            a, b = np.array(values), np.array(expected[key])
            assert a.shape == b.shape and np.isfinite(a).all(), (verb, key)
            if len(a):
                off = float(np.abs(a - b).max() / (np.abs(b).max() or 1.0))
                assert off <= TOLERANCE[dtype], f"{verb} {key} of {name} in {dtype} is off by {off:.2g}"


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_ways_of_ordering_edges_run_in_every_type(dtype: str) -> None:
    from hooke.data.prompts.circuit_tasks import Example

    model = loaded("llama", dtype)
    pairs: Any = [
        Example(model.tokens(CLEAN).ids, model.tokens(x).ids, (5,), (9,))
        for x in (CORRUPT, "w11 w6 w20 w23", "w11 w8 w3 w23", "w11 w90 w9 w31")
    ]
    for method in ("sieve", "exact", "eap"):
        hooke.circuit(model, pairs, method=method, size=0.9, tests=2, n_pairs=2)


def test_what_overflows_is_refused_in_a_line(tmp_path: Path) -> None:
    """A model whose stream passes 65,504 is none in float16, and one line says so; in bfloat16 it is one."""
    hf = new_hf("llama")
    hf.model.layers[1].mlp.down_proj.weight.mul_(3e5)
    model = Model(hf.to(torch.bfloat16), words(), name="large")
    assert VERBS["patch"](model).payload["values"]
    model = Model(hf.to(torch.float16), words(), name="large")
    for verb in ("trace", "patch"):
        with pytest.raises(HookeError, match=r"not finite|not a number") as error:
            VERBS[verb](model)
        assert "\n" not in str(error.value), verb


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_the_command_line_in_every_type(dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "model"
    new_hf("llama").save_pretrained(folder)
    words().save_pretrained(folder)
    load = ["--model", str(folder), "--dtype", dtype, "--device", "cpu", "--json"]
    asked = ["--target", TARGET, "--contrast", CONTRAST]
    for line in (
        ["trace", CLEAN, "--target", TARGET, "--counterfactual", CORRUPT, "--nodes", "30"],
        ["lens", CLEAN],
        ["patch", CLEAN, CORRUPT, *asked],
        ["attribute", CLEAN, CORRUPT, *asked],
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["hooke", *line, *load, "--out", str(tmp_path / f"{line[0]}.json")])
            with pytest.raises(SystemExit) as end:
                main()
        out, err = capsys.readouterr()
        assert end.value.code in (0, None), f"{line}: {err}"
        assert "Traceback" not in err
        assert json.loads(out)["provenance"]["dtype"] == dtype
