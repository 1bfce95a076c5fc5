"""Prompts that make a feature fire: the search on an aim whose optimum is known, slopes against putting tokens in, and
the numbers of a front against plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import hooke
from hooke import HookeError, Model
from hooke.dictionaries import neurons
from hooke.dictionaries.coder import Coder
from hooke.methods.visualise.epo import Front, Prompt, epo, random_search
from hooke.methods.visualise.feature import FeatureAim
from hooke.sites import Site

SMALL: dict[str, Any] = {"tokens": 2000, "length": 6, "steps": 6}


class Table:
    """f is the sum of a score of each token in its place, CE the mean of a price of each: both are known everywhere."""

    def __init__(self, n_pos: int, vocab: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.score, self.price = torch.rand(n_pos, vocab, generator=generator), torch.rand(vocab, generator=generator)
        self.runs = 0

    def values(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        self.runs += len(ids)
        return self.score.T[ids, torch.arange(ids.shape[1])].sum(1), self.price[ids].mean(1)

    def slopes(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.score.expand(len(ids), -1, -1).clone(), (self.price / ids.shape[1]).expand(*ids.shape, -1).clone()

    def fits(self, ids: Tensor) -> Tensor:
        return (ids != 7).all(1)  # a token that nobody can type


def test_the_search_comes_near_the_best_there_is() -> None:
    """With no price the best is the largest score in every place; token 7 is never in a prompt of the front."""
    aim = Table(5, 60)
    start = torch.zeros(8, 5, dtype=torch.long)
    front = epo(aim, start, [0.0] * 4 + [1.0] * 4, steps=120, generator=torch.Generator().manual_seed(0), again=1000)
    allowed = aim.score.clone()
    allowed[:, 7] = -1
    assert front.prompts[-1].value >= 0.9 * float(allowed.max(1).values.sum())
    assert all(7 not in one.ids for one in front.prompts)
    assert front.passes == aim.runs
    rest = random_search(
        aim, start, [0.0] * 4 + [1.0] * 4, passes=200, generator=torch.Generator().manual_seed(0),
        vocabulary=torch.arange(60),
    )  # fmt: skip
    assert rest.passes == 200 and rest.prompts[-1].value <= float(aim.score.max(1).values.sum())


def test_a_front_is_what_no_prompt_beats() -> None:
    rng = np.random.default_rng(0)
    some = [Prompt((i,), float(v), float(c)) for i, (v, c) in enumerate(rng.random((300, 2)))]
    front = Front()
    for at in range(0, 300, 37):
        front.add(some[at : at + 37])
    kept = {
        one for one in some
        if not any(other.value >= one.value and other.cost <= one.cost and other != one for other in some)
    }  # fmt: skip
    assert set(front.prompts) == kept and front.passes == 300
    for most in (0.1, 0.5, 2.0):
        under = [one.value for one in some if one.cost <= most]
        best = front.best(most)
        assert best is not None and best.value == max(under)
    assert front.best(-1.0) is None


def aim_of(glass: Model, sign: int = 1) -> FeatureAim:
    return FeatureAim(glass, neurons(glass)[2], 17, sign, torch.tensor([glass.tokenizer.bos_token_id]))


def plain(glass: Model, ids: list[int], before: tuple[int, ...] = ()) -> tuple[float, float]:
    """The activation and the mean cross-entropy, of the unmodified model."""
    held: list[Tensor] = []
    down = glass.hf.model.layers[2].mlp.down_proj
    handle = down.register_forward_pre_hook(lambda module, args: held.append(args[0][0, -1]))
    whole = torch.tensor([[*before, *ids]])
    with torch.no_grad():
        logits = glass.hf(whole).logits[0]
    handle.remove()
    logp = logits[:-1].log_softmax(-1).gather(1, whole[0, 1:, None])
    return float(held[0][17]), float(-logp.mean())


@pytest.mark.parametrize("sign", [1, -1])
def test_values_are_those_of_the_plain_model(glass: Model, sign: int) -> None:
    ids = torch.randint(5, 500, (3, 6), generator=torch.Generator().manual_seed(1))
    value, cost = aim_of(glass, sign).values(ids)
    for row, (v, c) in zip(ids.tolist(), zip(value.tolist(), cost.tolist(), strict=True), strict=True):
        known = plain(glass, row, (glass.tokenizer.bos_token_id,))
        assert v == pytest.approx(sign * known[0], abs=1e-4) and c == pytest.approx(known[1], abs=1e-4)


def test_slopes_are_derivatives(glass: Model) -> None:
    """Along a small step from the embedding of one token towards another's, by central differences; of the cost, how
    likely the token itself is comes on top."""
    aim, at, step = aim_of(glass), 3, 1e-2
    ids = torch.randint(5, 500, (1, 6), generator=torch.Generator().manual_seed(2))
    up, costs = aim.slopes(ids)
    table = glass.hf.model.embed_tokens.weight.detach()
    whole = torch.cat([aim.before[None], ids], 1)

    def run(share: float, token: int) -> tuple[float, float]:
        held: list[Tensor] = []
        x = table[whole].clone()
        x[0, at + 1] += share * (table[token] - table[ids[0, at]])
        handle = glass.hf.model.layers[2].mlp.down_proj.register_forward_pre_hook(
            lambda module, args: held.append(args[0][0, -1])
        )
        with torch.no_grad():
            logits = glass.hf(inputs_embeds=x).logits[0]
        handle.remove()
        logp = logits[:-1].log_softmax(-1).gather(1, whole[0, 1:, None])
        return float(held[0][17]), float(-logp.mean())

    with torch.no_grad():
        logp = glass.hf(whole).logits[0, at].log_softmax(-1)
    for token in (30, 200, 411):
        ends = [run(share, token) for share in (step, -step)]
        moved = [(a - b) / (2 * step) for a, b in zip(*ends, strict=True)]
        own = int(ids[0, at])
        assert float(up[0, at, token] - up[0, at, own]) == pytest.approx(moved[0], rel=0.02, abs=2e-3)
        likely = float(logp[own] - logp[token]) / ids.shape[1]
        assert float(costs[0, at, token] - costs[0, at, own]) == pytest.approx(moved[1] + likely, rel=0.02, abs=2e-3)


def test_prompts_that_nobody_can_type_do_not_fit(glass: Model) -> None:
    aim = aim_of(glass)
    typed = glass.tokenizer("The end of the list", add_special_tokens=False)["input_ids"]
    apart = [i for word in ("T", "h", "e") for i in glass.tokenizer(word, add_special_tokens=False)["input_ids"]][:3]
    assert aim.fits(torch.tensor([typed])).tolist() == [True]
    again = glass.tokenizer(glass.said(apart), add_special_tokens=False)["input_ids"]
    assert aim.fits(torch.tensor([apart])).tolist() == [again == apart]


def test_what_a_result_says_is_so(glass: Model, tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    from pydoc_data.topics import topics

    path.write_text("\n\n".join(topics[name] for name in sorted(topics)[:10]), encoding="utf-8")
    result = hooke.visualise(glass, "2_17-", text=[str(path)], **SMALL)
    p = result.payload
    assert p["feature"] == "2_17-" and result.id == hooke.visualise(glass, "2_17-", text=[str(path)], **SMALL).id
    costs, values = ([one[key] for one in p["front"]] for key in ("cost", "activation"))
    assert costs == sorted(costs) and values == sorted(values)
    for one in p["front"]:
        assert glass.tokenizer(one["text"], add_special_tokens=False)["input_ids"] == one["ids"] or one["cost"] > 0
        known = plain(glass, one["ids"])
        assert one["activation"] == pytest.approx(-known[0], abs=1e-4)
        assert one["cost"] == pytest.approx(known[1], abs=1e-4)
    best = p["best"]
    assert best is not None and best["cost"] <= p["text_cost"]
    assert p["exceeds"] == (best["activation"] > p["text_largest"])
    assert result.claims[0].verdict == ("tested" if p["exceeds"] else "refuted")
    assert p["notes"] and "kind alone" in p["notes"][0]


def test_a_silent_feature_has_a_slope(glass: Model, tmp_path: Path) -> None:
    """Behind a gate that is closed everywhere the search still climbs what the gate is asked for."""
    d, reads = glass.parts.d_model, Site("resid_post", 1)
    rows = torch.randn(3, d, generator=torch.Generator().manual_seed(0))
    block = Coder({reads: rows}, torch.full((3,), -1e4), {reads: rows}, {reads: torch.zeros(d)}, "relu")
    result = hooke.visualise(glass, "1_2", basis=[block], **SMALL)
    values = [one["activation"] for one in result.payload["front"]]
    assert values[-1] > result.payload["front"][0]["activation"] and values[-1] < 0


def test_bad_input_is_one_line(glass: Model) -> None:
    for feature, match in (("nothing", "names no feature"), ("99_1", "no feature"), ("1_99999", "no feature")):
        with pytest.raises(HookeError, match=match):
            hooke.visualise(glass, feature, **SMALL)
    with pytest.raises(HookeError, match="a prompt of 4000 tokens"):
        hooke.visualise(glass, "1_1", **SMALL | {"length": 4000})
    with pytest.raises(HookeError, match="no basis called"):
        hooke.visualise(glass, "1_1", basis="heads", **SMALL)
