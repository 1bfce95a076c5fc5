"""Sites: the written form, the order of the forward pass, and what is refused."""

from __future__ import annotations

import random

import pytest

from hooke.errors import HookeError
from hooke.sites import POINTS, Site


@pytest.mark.parametrize("text", ["resid_post.12", "q.0", "mlp_post_scale.7", "final_norm", "final_scale"])
def test_the_written_form_is_read_back(text: str) -> None:
    site = Site.parse(text)
    assert str(site) == text
    assert Site.parse(str(site)) == site
    assert Site.parse(site) is site
    assert hash(Site.parse(text)) == hash(site)


def test_every_point_has_a_site_a_shape_and_an_equation() -> None:
    for name, point in POINTS.items():
        site = Site(name, 3 if point.scope == "layer" else None)
        assert Site.parse(str(site)) == site
        assert site.shape.split()[0] == "batch" and site.equation


def test_sites_sort_in_the_order_of_the_forward_pass() -> None:
    in_order = [
        "resid_pre.0 attn_scale.0 attn_in.0 q.0 k.0 v.0 scores.0 pattern.0 z.0 attn_post_scale.0 attn_out.0 resid_mid.0",
        "mlp_scale.0 mlp_in.0 mlp_pre.0 mlp_up.0 mlp_act.0 mlp_proj.0 mlp_post_scale.0 mlp_out.0 resid_post.0",
        "resid_pre.1 resid_post.1 resid_pre.2 resid_pre.10 final_scale final_norm",
    ]
    sites = [Site.parse(text) for text in " ".join(in_order).split()]
    shuffled = sites.copy()
    random.Random(0).shuffle(shuffled)
    assert shuffled != sites
    assert sorted(shuffled) == sites
    assert sites[0] < sites[-1] and sites[-1] >= sites[0] and max(sites) == Site("final_norm")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resid_psot.3", "no point called 'resid_psot'"),
        ("resid_post", "needs a layer, as in resid_post.0"),
        ("final_norm.2", "takes no layer"),
        ("resid_post.", "cannot read site"),
        ("resid_post.-1", "cannot read site"),
        ("resid_post.1.2", "cannot read site"),
        ("resid_post.x", "cannot read site"),
        ("", "no point called ''"),
    ],
)
def test_a_malformed_site_is_refused(text: str, says: str) -> None:
    with pytest.raises(HookeError, match=says.replace(".", r"\.")):
        Site.parse(text)


def test_a_negative_layer_is_refused() -> None:
    with pytest.raises(HookeError, match="negative"):
        Site("resid_post", -1)
