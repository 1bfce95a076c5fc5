"""Instruments that work are found to work, in every family; and one that does nothing, or the wrong thing, is found."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

import hooke
from families import CONFIGS, model_of, one_thread  # noqa: F401
from hooke import Model
from hooke.errors import HookeError
from hooke.model import check_model, run
from hooke.model.recorded import Recorded
from hooke.model.run import Prefix
from hooke.model.self_test import plain_places, self_test
from hooke.sites import Site


def failing(model: Model) -> list[str]:
    return [check.equation for check in self_test(model) if not check.error <= 1e-4]


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_everything_works_in_every_family(family: str) -> None:
    model = model_of(family)
    found = list(self_test(model))
    assert all(check.error <= 2e-6 for check in found), max(found, key=lambda check: check.error)
    read = {check.equation.split()[0] for check in found if "is read as" in check.equation}
    edited = {check.equation.split()[3] for check in found if check.equation.startswith("an edit at")}
    assert edited == {str(site) for site in model.sites}
    # what no module has by itself: scores, patterns, denominators, the middle of the stream, parts of fused matrices
    without = {site.split(".")[0] for site in edited - read}
    fused = {"q", "k", "v", "mlp_pre", "mlp_up", "attn_in", "mlp_in"}
    assert without <= {"scores", "pattern", "resid_mid"} | fused | {p for p in without if p.endswith("scale")}
    assert len(read) > 20


def test_an_edit_that_does_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hooke.model.run.apply", lambda edit, x, where, owned=False: x)
    model = model_of("llama")
    found = failing(model)
    plain = plain_places(model)
    for site in model.sites:
        what = "does what a plain hook does" if site in plain else "changes the logits"
        assert f"an edit at {site} {what}" in found
    with pytest.raises(HookeError, match="was refused"):
        check_model(model)


def test_a_tap_at_the_wrong_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two taps of one shape exchanged: each reads something and changes something, and the wrong thing."""
    attached, other = run.attached, {"mlp_pre": "mlp_up", "mlp_up": "mlp_pre"}

    def crossed(site: Site) -> Site:
        return Site(other.get(site.point, site.point), site.layer)

    monkeypatch.setattr(
        "hooke.model.run.attached",
        lambda hf, parts, sites, visit: attached(
            hf, parts, {crossed(site) for site in sites}, lambda site, x: visit(crossed(site), x)
        ),
    )
    found = failing(model_of("llama"))
    for layer in range(3):
        for point in other:
            assert f"{point}.{layer} is read as a plain hook reads it" in found
            assert f"an edit at {point}.{layer} does what a plain hook does" in found
    assert len(found) == 12


def test_a_prefix_that_is_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that starts afresh gives logits, only others: the model is refused when it is loaded."""

    def forgotten(hf: Any, parts: Any, after: Prefix, length: int) -> DynamicCache:
        cache = DynamicCache()
        for layer, old in enumerate(next(iter(after.caches.values())).layers):
            cache.update(torch.zeros_like(old.keys), torch.zeros_like(old.values), layer)
        return cache

    monkeypatch.setattr("hooke.model.run._cache", forgotten)
    with pytest.raises(HookeError, match="a run that goes on from a prefix = a whole one is off by"):
        check_model(model_of("llama"))


def test_packed_runs_without_their_edits_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_was(model: Model, base: Recorded, entry: Tensor, *rest: object, **more: object) -> Tensor:
        return base.logits.expand(len(entry), -1)

    monkeypatch.setattr("hooke.model.run_each.run_packed", as_it_was)
    with pytest.raises(HookeError, match="edited runs that share what they can = a plain batch of them is off"):
        check_model(model_of("qwen3"))


def test_the_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from hooke.cli import main

    monkeypatch.setattr("hooke.model.load.load", lambda name, **_: model_of("llama"))
    monkeypatch.setattr("sys.argv", ["hooke", "doctor", "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    result = json.loads(capsys.readouterr().out)
    assert end.value.code == 0 and result["payload"]["failed"] == 0 and len(result["payload"]["checks"]) > 150
    monkeypatch.setattr("hooke.model.self_test._by_hook", lambda model, tokens, place, change: (change, change))
    monkeypatch.setattr("sys.argv", ["hooke", "doctor"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().out
    assert end.value.code == 1 and "FAILS: resid_pre.0 is read as a plain hook reads it" in said
    assert hooke.doctor(model_of("llama")).claims[0].verdict == "refuted"
