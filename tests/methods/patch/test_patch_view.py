"""Heatmaps of patches and of estimates: what the page gets, and that a page can be made of it."""

from __future__ import annotations

import torch

import hooke
from families import model_of, one_thread, random_ids  # noqa: F401
from hooke.model import Tokens
from hooke.results import Result
from hooke.terminal import show_attribution, show_patch
from hooke.viewer import html_page
from hooke.viewer.patch import attribution_view, patch_view

GOOD, BAD = 11, 45


def pair() -> tuple[Tokens, Tokens]:
    one, other = random_ids(1, 5), random_ids(1, 5, seed=5)
    other[0, 0] = one[0, 0]
    mask = torch.ones(1, 5, dtype=torch.bool)
    return Tokens(one, mask), Tokens(other, mask)


def patched(**options: object) -> Result:
    return hooke.patch(model_of("llama"), *pair(), target=GOOD, contrast=BAD, **options)  # type: ignore[arg-type]


def test_a_heatmap_for_each_site() -> None:
    result = patched(sites=["resid_post", "z.1"])
    stream, heads = patch_view(result.typed()).grids  # type: ignore[arg-type]
    p = result.payload
    assert stream.values == p["values"]["resid_post"] and stream.shares == p["normalised"]["resid_post"]
    assert stream.rows == ["0", "1", "2"] and stream.columns == p["tokens"]["corrupt"] and not stream.note
    assert heads.columns == ["0", "1", "2", "3"] and heads.rows == ["1"] and heads.note
    for head, cells in enumerate(p["normalised"]["z.1"][0]):  # each at the position where it moves most
        best = max(range(5), key=lambda i: abs(cells[i]))
        assert heads.shares is not None and heads.shares[0][head] == cells[best]
        assert heads.values[0][head] == p["values"]["z.1"][0][head][best]


def test_all_positions_at_once_and_no_other_prompt() -> None:
    (grid,) = patch_view(patched(sites="mlp_out", positions="all").typed()).grids  # type: ignore[arg-type]
    assert grid.columns == ["all positions"] and len(grid.values) == 3
    alone = hooke.patch(model_of("llama"), pair()[0], sites="mlp_out", ablation="zero", target=GOOD, contrast=BAD)
    (grid,) = patch_view(alone.typed()).grids  # type: ignore[arg-type]
    assert grid.shares is None and grid.values == alone.payload["values"]["mlp_out"]
    assert b"mlp_out" in html_page([alone]).encode()


def test_estimates_stand_beside_the_patches() -> None:
    result = hooke.attribute(
        model_of("llama"), *pair(), sites="mlp_out", method=["atp", "relp"], target=GOOD, contrast=BAD
    )
    grids = attribution_view(result.typed()).grids  # type: ignore[arg-type]
    assert [g.title for g in grids] == ["mlp_out, patches", "mlp_out, atp", "mlp_out, relp"]
    p = result.payload
    span = p["pairs"][0]["clean"] - p["pairs"][0]["corrupt"]
    assert grids[1].shares is not None
    assert abs(grids[1].shares[2][4] - p["scores"]["atp"]["mlp_out"][2][4] / span) < 1e-9
    exact, same = patched(sites="mlp_out").payload["normalised"]["mlp_out"], grids[0].shares
    assert torch.allclose(torch.tensor(exact), torch.tensor(same), atol=1e-5)


def test_in_the_terminal(capsys) -> None:  # type: ignore[no-untyped-def]
    show_patch(patched(sites=["resid_post", "z"]))
    out = capsys.readouterr().out
    assert "resid_post, per cent of the difference" in out and "head 3" in out and "-0 " not in out
    show_attribution(hooke.attribute(model_of("llama"), *pair(), method="atp", target=GOOD, contrast=BAD))
    out = capsys.readouterr().out
    assert "the patches themselves" in out and "atp puts first: mlp_out." in out
