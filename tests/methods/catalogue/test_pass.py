"""The pass over text, against plain transformers and loops that do the obvious."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hooke import Model
from hooke.dictionaries import neurons
from hooke.harvest import Plan
from hooke.methods.catalogue import sweep, tally
from hooke.methods.catalogue.neighbours import neighbours
from hooke.methods.catalogue.sweep import Swept, begun, next_shard
from hooke.methods.catalogue.tally import SAMPLED, STRONGEST
from hooke.methods.catalogue.windows import AFTER, BEFORE, SAID, WIDE, Windows, kind_of

LAYER = 2


@pytest.fixture(scope="module")
def swept(glass: Model, planned: Plan, wins: Windows) -> Swept:
    blocks = neurons(glass)
    found = begun(blocks, len(wins.kinds))
    for _ in planned.shards:
        next_shard(glass, blocks, wins, found, lambda done: None)
    return found


@pytest.fixture(scope="module")
def plain(glass: Model, planned: Plan) -> Tensor:
    """(tokens of the plan, neurons) of one layer, piece by piece in the unmodified model, by a hook of torch's own."""
    values: list[Tensor] = []
    down = glass.hf.model.layers[LAYER].mlp.down_proj
    handle = down.register_forward_pre_hook(lambda module, args: values.append(args[0][0].detach()))
    try:
        for i in range(len(planned.offsets) - 1):
            with torch.no_grad():
                glass.hf(torch.from_numpy(planned.piece(i)[None].astype(np.int64)))
    finally:
        handle.remove()
    return torch.cat(values)


def windows_by_hand(wins: Windows) -> list[list[int]]:
    """The tokens of every window that may be examples."""
    plan, found = wins.plan, []
    for piece in range(len(plan.offsets) - 1):
        start, stop = int(plan.offsets[piece]) + plan.skip, int(plan.offsets[piece + 1])
        cut = [list(range(at, min(at + WIDE, stop))) for at in range(start, stop, WIDE)]
        for window in cut:
            told = [token for token in window if wins.told[token]]
            if told and (len(window) >= WIDE // 2 or len(cut) == 1):
                found.append(told)
    return found


def test_what_is_kept_is_what_a_loop_over_the_plain_model_finds(wins: Windows, swept: Swept, plain: Tensor) -> None:
    kept, cut = swept.kept[LAYER], windows_by_hand(wins)
    for row in (0, 1, 10, 77, 2 * plain.shape[1] - 1):
        x = plain[:, row // 2] * (1 - 2 * (row % 2))
        peaks = sorted((max((float(x[t]), t) for t in window) for window in cut), reverse=True)
        best = [peak for peak in peaks if peak[0] > 0][:STRONGEST]
        torch.testing.assert_close(kept.top_value[row, 0], torch.tensor([v for v, _ in best]), atol=1e-5, rtol=1e-4)
        assert kept.top_at[row, 0].tolist() == [t for _, t in best]
        drawn = set(kept.at[row][kept.value[row] > 0].tolist())
        assert drawn <= {t for v, t in peaks if v > 0} and len(drawn) == SAMPLED
        counted = [t for i in range(len(wins.plan.offsets) - 1) for t in own(wins.plan, i)]
        above = x[counted].clamp(min=0)
        assert int(kept.count[row]) == int((above > 0).sum())
        assert float(kept.total[row]) == pytest.approx(float(above.double().sum()), rel=1e-5)
        assert float(kept.square[row]) == pytest.approx(float(above.double().square().sum()), rel=1e-5)


def own(plan: Plan, piece: int) -> range:
    return range(int(plan.offsets[piece]) + plan.skip + (plan.skip == 0), int(plan.offsets[piece + 1]))


def test_activations_around_an_example_are_those_of_its_piece(
    planned: Plan, wins: Windows, swept: Swept, plain: Tensor
) -> None:
    kept = swept.kept[LAYER]
    for row in (3, 50):
        sign = 1 - 2 * (row % 2)
        for place in range(3):
            at, value = int(kept.top_at[row, 0, place]), float(kept.top_value[row, 0, place])
            piece = int(np.searchsorted(planned.offsets, at, "right")) - 1
            for j, token in enumerate(range(at - BEFORE, at + AFTER + 1)):
                inside = planned.offsets[piece] + planned.skip <= token < planned.offsets[piece + 1]
                wanted = max(0.0, sign * float(plain[token, row // 2])) / value * 255 if inside else 0.0
                assert int(kept.top_near[row, 0, place, j]) == pytest.approx(min(wanted, 255), abs=0.51)


def test_the_sample_is_of_the_largest_keys_whoever_comes_first() -> None:
    """A merge of many batches keeps what one merge of all would."""
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(40, 300, generator=generator)
    x = values.T.contiguous()  # a token a window
    whole, parts = (tally.nothing(40, 1, 24, 0) for _ in range(2))
    keys = torch.rand(40, 300, generator=generator)

    def put(into: tally.Tally, at: range) -> None:
        some = torch.arange(at.start, at.stop)
        near = torch.arange(300)[:, None] + torch.arange(-15, 9)
        near = torch.where((near >= 0) & (near < 300), near, -1)
        seen = tally.Seen(
            x[some], some[:, None].expand(-1, 40), near, torch.arange(300, dtype=torch.int32),
            torch.zeros(len(some), dtype=torch.long), -torch.ones(len(some), dtype=torch.long),
        )  # fmt: skip
        state = (into.key, into.value, into.at, into.near)
        tally._merge(keys[:, some], values[:, some], some.expand(40, -1), seen, x, 1, state)

    put(whole, range(300))
    for start in range(0, 300, 37):
        put(parts, range(start, min(start + 37, 300)))
    assert torch.equal(whole.at, parts.at) and torch.equal(whole.near, parts.near)
    assert torch.equal(whole.at.long(), keys.topk(SAMPLED, 1).indices)
    assert torch.equal(whole.value, values.gather(1, whole.at.long()))


def test_larger_activations_are_drawn_as_their_cube() -> None:
    """Of windows at 1 and at ½, the first are drawn some eight times as often."""
    n = 2000
    values = torch.where(torch.arange(n) % 2 == 0, 1.0, 0.5).expand(64, -1)
    state = tally.nothing(64, 1, 24, 0)
    near = torch.zeros(n, 24, dtype=torch.long)
    at = torch.arange(n)[:, None].expand(-1, 64)
    seen = tally.Seen(
        values.T, at, near, torch.arange(n, dtype=torch.int32), torch.zeros(n, dtype=torch.long),
        -torch.ones(n, dtype=torch.long),
    )  # fmt: skip
    tally.add(state, values.T.contiguous(), torch.arange(n), seen, torch.Generator().manual_seed(0), 1)
    large = int((state.value == 1.0).sum())
    assert 6 < large / (64 * SAMPLED - large) < 10.5


def test_effects_are_those_of_autograd_on_the_plain_model(glass: Model, planned: Plan, swept: Swept) -> None:
    """Mean |a · dL/da| over the same pieces, by torch's own gradients of the unmodified model."""
    total, tokens = torch.zeros(glass.parts.d_mlp, 2, dtype=torch.float64), 0
    down = glass.hf.model.layers[LAYER].mlp.down_proj
    for i in range(0, len(planned.offsets) - 1, sweep.EVERY):
        held: list[Tensor] = []

        def hook(module: torch.nn.Module, args: tuple[Tensor], held: list[Tensor] = held) -> tuple[Tensor]:
            held.append(args[0].detach().requires_grad_())
            return (held[0],)

        handle = down.register_forward_pre_hook(hook)
        ids = torch.from_numpy(planned.piece(i)[None].astype(np.int64))
        logits = glass.hf(ids).logits
        handle.remove()
        loss = -logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).sum()
        (grad,) = torch.autograd.grad(loss, held)
        inside = [t - int(planned.offsets[i]) for t in own(planned, i)]
        a, effect = held[0].detach()[0, inside], (held[0].detach() * grad)[0, inside].abs().double()
        total[:, 0] += (effect * (a > 0)).sum(0)
        total[:, 1] += (effect * (a < 0)).sum(0)
        tokens += len(inside)
    assert swept.tokens == tokens
    torch.testing.assert_close(swept.effect[LAYER], total.flatten(), rtol=2e-3, atol=1e-6)


def test_repetitions_are_no_examples(wins: Windows) -> None:
    """A token whose last eight have stood in this order before, by a set of all runs of eight."""
    plan, seen = wins.plan, set()
    for piece in range(len(plan.offsets) - 1):
        start, stop = int(plan.offsets[piece]), int(plan.offsets[piece + 1])
        for at in range(start, stop):
            first = at < start + max(1, plan.skip)
            run = tuple(plan.ids[at - SAID + 1 : at + 1].tolist()) if at - start >= plan.skip + SAID - 1 else None
            assert wins.told[at] == (not first and (run is None or run not in seen)), at
            seen.add(run)


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("self", "own text"),
        ("about/numpy", "descriptions"),
        ("doc/bash", "manuals"),
        ("python/topics", "manuals"),
        ("python/json", "docstrings"),
        ("numpy", "docstrings"),
        ("novel.txt", "given text"),
        ("hub:org/name", "given text"),
    ],
)
def test_kinds_of_text(label: str, kind: str) -> None:
    from hooke.methods.catalogue.windows import KINDS

    assert KINDS[kind_of(label)] == kind


@pytest.mark.parametrize("together", [True, False])
def test_who_fires_beside_whom(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from hooke.methods.catalogue import neighbours as module

    if not together:
        monkeypatch.setattr(module, "ROWS", 10)
    parts = [torch.rand(30, 50, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    ids, values = neighbours(parts, _nothing())
    for i in range(60):
        rows = list(range(60)) if together else list(range(30 * (i // 30), 30 * (i // 30) + 30))
        r = {j: np.corrcoef(torch.cat(parts)[i], torch.cat(parts)[j])[0, 1] for j in rows if j != i}
        best = sorted(r, key=lambda j: -r[j])[: ids.shape[1]]
        assert ids[i].tolist() == best
        np.testing.assert_allclose(values[i], [r[j] for j in best], atol=1e-5)


def _nothing() -> Callable[[float], None]:
    return lambda done: None
