"""Kinds of dictionaries against slow versions of their papers' losses, and sparse products against dense ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hooke.dictionaries import fit as fitting
from hooke.dictionaries import sparse
from hooke.dictionaries.fit import Fit, Place, advance, finish, start
from hooke.dictionaries.kinds import KINDS, Kind, When
from hooke.dictionaries.kinds.gated import Gated
from hooke.dictionaries.kinds.jumprelu import JumpRelu, TanhJumpRelu
from hooke.dictionaries.kinds.matryoshka import Matryoshka
from hooke.dictionaries.kinds.record import Record
from hooke.dictionaries.sparse import Entries
from hooke.errors import HookeError
from hooke.sites import Site

F64 = torch.float64
STREAM, IN, OUT, LATER = Site("resid_post", 1), Site("mlp_in", 1), Site("mlp_out", 1), Site("mlp_out", 2)
OWN, ACROSS = Place((STREAM,), (STREAM,)), Place((IN,), (OUT,), skip=True)
FEATURES, WIDTH, BATCH = 40, 12, 64


def rows(n: int, seed: int = 0) -> dict[Site, Tensor]:
    """Activations that a few directions make, the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(FEATURES, WIDTH, generator=torch.Generator().manual_seed(99))
    codes = (torch.rand(n, FEATURES, generator=generator) < 0.1) * (1 + torch.rand(n, FEATURES, generator=generator))
    x = codes @ directions + 0.5
    return {STREAM: x, IN: x, OUT: torch.tanh(x @ directions[:WIDTH]), LATER: torch.relu(x)}


def kind_of(name: str) -> Kind:
    numbers: dict[str, Any] = {"k": 4} if "k" in KINDS[name].__dataclass_fields__ else {}
    return KINDS[name](**numbers)


def begun(kind: Kind, place: Place = OWN, steps: int = 200) -> Fit:
    made = start(kind, [place], rows(256), n_features=FEATURES, when=When(0, steps, BATCH), lr=1e-3)
    generator = torch.Generator().manual_seed(5)
    for block in made.blocks:  # away from where biases are zero and rows are unit vectors
        for name in ("encoder", "decoder", "bias", "skip"):
            if name in block.params:
                x = block.params[name]
                x.data += 0.1 * torch.randn(x.shape, generator=generator)
    return made


# ---- sparse products ---------------------------------------------------------------------------


def entries() -> Entries:
    """Ragged: some rows have none, some features never fire, some often."""
    fires = torch.rand(7, 5, generator=torch.Generator().manual_seed(1)) < 0.4
    fires[2], fires[:, 3] = False, False
    n = torch.cat([torch.zeros(1, dtype=torch.long), fires.sum(1).cumsum(0)])
    return Entries(fires.nonzero()[:, 1], n, 5)


def test_sparse_products_are_those_of_dense_matrices() -> None:
    at = entries()
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 3, generator=generator, dtype=F64) for n in (7, 5))
    bias, values = (
        torch.randn(5, generator=generator, dtype=F64),
        torch.randn(len(at.ids), generator=generator, dtype=F64),
    )
    whole = x @ weight.T + bias
    torch.testing.assert_close(sparse.encode(x, None, weight, bias, at), whole[at.rows, at.ids])
    dense = torch.zeros(7, 5, dtype=F64)
    dense[at.rows, at.ids] = values
    torch.testing.assert_close(sparse.decode(values, weight, at), dense @ weight)
    assert at.counts.tolist() == (dense != 0).sum(0).tolist()
    some = at.take(at.ids < 2)
    assert torch.equal(some.ids, at.ids[at.ids < 2]) and torch.equal(some.rows, at.rows[at.ids < 2])


def test_gradients_of_sparse_products_are_finite_differences() -> None:
    at = entries()
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=F64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda x, w, b: sparse.encode(x, None, w, b, at), (leaf(7, 3), leaf(5, 3), leaf(5)))
    parts = (leaf(7, 3), leaf(3), leaf(5, 3), leaf(5))
    assert torch.autograd.gradcheck(lambda x, c, w, b: sparse.encode(x, c, w, b, at), parts)
    assert torch.autograd.gradcheck(lambda v, w: sparse.decode(v, w, at), (leaf(len(at.ids)), leaf(5, 3)))


@pytest.mark.parametrize("lopsided", [False, True])
def test_the_largest_of_a_batch_are_the_largest_of_all(lopsided: bool) -> None:
    h = torch.randn(9, 50, generator=torch.Generator().manual_seed(0))
    if lopsided:
        h[3] += 10  # one row holds nearly all of them
    found, least = sparse.largest_of_batch(h, 3)
    best = h.flatten().sort(descending=True).values[:27]
    best = best[best > 0]
    assert torch.equal(h[found.rows, found.ids].sort(descending=True).values, best) and float(least) == float(best[-1])
    assert len(torch.unique(found.rows * 50 + found.ids)) == len(found.ids)


# ---- losses, slowly ----------------------------------------------------------------------------


class Slow:
    """The parts of a block by name, as leaves of their own, and its scaled batch."""

    def __init__(self, fit: Fit, values: dict[Site, Tensor]) -> None:
        (block,) = fit.blocks
        self.p = {name: x.detach().clone().requires_grad_() for name, x in block.params.items()}
        self.x = values[block.reads[0]] * fit.scale[block.reads[0]]
        self.y = values[block.writes[0]] * fit.scale[block.writes[0]]
        self.centred = block.reads == block.writes

    def h(self, x: Tensor) -> Tensor:
        return (x - self.p["offset"] if self.centred else x) @ self.p["encoder"].T + self.p["bias"]

    def made(self, f: Tensor) -> Tensor:
        y = f @ self.p["decoder"] + self.p["offset"]
        return y + self.x @ self.p["skip"].T if "skip" in self.p else y

    def error(self, f: Tensor) -> Tensor:
        return (self.y - self.made(f)).square().sum(1)


def kept(h: Tensor, k: int, *, batch: bool) -> Tensor:
    """The k largest of each row, or the k times rows largest, above zero."""
    if batch:
        least = h.detach().flatten().sort(descending=True).values[k * len(h) - 1]
        return torch.where(h >= least.clamp(min=1e-30), torch.relu(h), 0.0)
    least = h.detach().sort(dim=1, descending=True).values[:, k - 1 : k]
    return torch.where(h >= least, torch.relu(h), 0.0)


def slow_loss(name: str, kind: Any, s: Slow, when: When) -> Tensor:
    p, norms = s.p, s.p["decoder"].norm(dim=1)
    if name == "relu":
        f = torch.relu(s.h(s.x))
        return (s.error(f) + 5.0 * min(1.0, when.step / when.steps / 0.05) * (f * norms).sum(1)).mean()
    if name == "topk":
        return s.error(kept(s.h(s.x), 4, batch=False)).mean()
    if name == "batchtopk":
        return s.error(kept(s.h(s.x), 4, batch=True)).mean()
    if name == "gated":
        pi = s.h(s.x)
        f = torch.where(pi > 0, torch.relu((pi - p["bias"]) * p["r"].exp() + p["magnitude_bias"]), 0.0)
        aux = s.y - torch.relu(pi) @ p["decoder"].detach() - p["offset"].detach()
        aux = aux - s.x @ p["skip"].detach().T if "skip" in p else aux
        rise = min(1.0, when.step / (when.steps / 10))
        return (s.error(f) + kind.l1 * rise * torch.relu(pi).sum(1) + aux.square().sum(1)).mean()
    if name == "matryoshka":
        f = kept(s.h(s.x), 4, batch=True)
        total = s.error(f).mean()
        for m in kind.sizes(None or _Sized()):
            part = torch.cat([f[:, :m], torch.zeros_like(f[:, m:])], 1)
            total = total + (s.y - part @ p["decoder"] - p["offset"]).square().sum(1).mean()
        return total
    raise AssertionError(name)


class _Sized:
    n_features = FEATURES


@pytest.mark.parametrize("place", [OWN, ACROSS], ids=["autoencoder", "skip transcoder"])
@pytest.mark.parametrize("name", ["relu", "topk", "batchtopk", "gated", "matryoshka"])
def test_a_step_has_the_loss_and_the_gradients_of_its_paper(
    name: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "matryoshka" and place is ACROSS:
        place = Place((IN,), (OUT,))
    monkeypatch.setattr(fitting, "CLIP", math.inf)
    kind, values = kind_of(name), rows(BATCH, seed=3)
    fit = begun(kind, place)
    fit.when = When(7, 200, BATCH)
    slow = Slow(fit, values)
    expected = slow_loss(name, kind, slow, fit.when)
    expected.backward()
    told = advance(fit, values)
    assert told["loss"] == pytest.approx(float(expected.detach()), rel=1e-5)
    for key, x in slow.p.items():
        wanted = torch.zeros_like(x) if x.grad is None else x.grad
        if key == "decoder" and kind.unit and slow.centred:  # rows of length one are only turned
            was = x.detach()
            wanted = wanted - (wanted * was).sum(1, keepdim=True) * was
        got = fit.blocks[0].params[key].grad
        got = torch.zeros_like(wanted) if got is None else got
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


def test_the_record_recipe_is_two_selections_and_detached_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "CLIP", math.inf)
    kind = Record(k=4, first=6, inner=0.5, tilt=0.3)
    fit, values = begun(kind), rows(BATCH, seed=3)
    (block,) = fit.blocks
    block.state["ranks"] = torch.randperm(FEATURES, generator=torch.Generator().manual_seed(2))
    fit.when = When(90, 200, BATCH)
    k = kind.now(fit.when, block)
    assert k == 5
    s = Slow(fit, values)
    rough = kept(s.h(s.x), k, batch=True)
    f = kept(s.h(s.x + 0.25 * (s.x - s.made(rough))), k, batch=True)
    error = s.error(f)
    weights = torch.softmax(0.3 * error.detach() / error.detach().mean(), 0) * BATCH
    total, made = (weights * error).mean(), s.p["offset"].expand_as(s.y)
    low = 0
    for m in kind.sizes(block):
        group = ((block.state["ranks"] >= low) & (block.state["ranks"] < m)).float()
        made = made.detach() + (f * group) @ s.p["decoder"] if low else made + (f * group) @ s.p["decoder"]
        made = made if low else (s.p["offset"].detach() + (f * group) @ s.p["decoder"])
        total = total + 0.5 * (s.y - made).square().sum(1).mean()
        low = m
    total.backward()
    told = advance(fit, values)
    assert told["loss"] == pytest.approx(float(total.detach()), rel=1e-5)
    for key in ("encoder", "bias", "decoder"):
        wanted, was = s.p[key].grad, s.p[key].detach()
        assert wanted is not None
        if key == "decoder":
            wanted = wanted - (wanted * was).sum(1, keepdim=True) * was
        torch.testing.assert_close(block.params[key].grad, wanted, atol=2e-5, rtol=1e-4)


def test_straight_through_gradients_are_the_papers() -> None:
    """Equations 11 and 12 of 2407.14435, one number at a time."""
    h = torch.tensor([[0.9996, 1.0004, 1.5], [0.4, 1.00001, 0.99999]], requires_grad=True)
    threshold = torch.ones(3, requires_grad=True)
    from hooke.dictionaries.kinds.jumprelu import _Fires, _Jump, _JumpExp

    g = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    (_Jump.apply(h, threshold, 0.001) * g).sum().backward()
    assert h.grad is not None and threshold.grad is not None
    assert h.grad.tolist() == [[0.0, 2.0, 3.0], [0.0, 5.0, 0.0]]
    near = (h.detach() - 1).abs() < 0.0005
    torch.testing.assert_close(threshold.grad, -(1000 * torch.where(near, g, torch.zeros(()))).sum(0))
    threshold.grad = None
    t = torch.zeros(3, requires_grad=True)  # θ = exp(t) = 1
    (_JumpExp.apply(h, t, 0.001) * g).sum().backward()
    torch.testing.assert_close(t.grad, -(1000 * torch.where(near, g, torch.zeros(()))).sum(0))
    (_Fires.apply(h, threshold, 0.001) * g).sum().backward()
    torch.testing.assert_close(threshold.grad, -1000 * torch.where(near, g, torch.zeros(())).sum(0))


@pytest.mark.parametrize("kind", [JumpRelu(l0=0.7, target=None), JumpRelu(target=5.0), TanhJumpRelu()])
def test_a_jumprelu_has_the_loss_of_its_paper(kind: Any) -> None:
    fit, values = begun(kind), rows(BATCH, seed=3)
    fit.when = When(50, 200, BATCH)
    s = Slow(fit, values)
    h, threshold = s.h(s.x), s.p["threshold"] if isinstance(kind, JumpRelu) else s.p["log_threshold"].exp()
    f = torch.where(h > threshold, h, 0.0)
    n = (h > threshold).float().sum(1)
    if isinstance(kind, JumpRelu):
        penalty = 0.7 * n.mean() if kind.target is None else (n.mean() / 5 - 1) ** 2
    else:
        norms = s.p["decoder"].norm(dim=1)
        penalty = (20 * 0.25 * torch.tanh(4 * f * norms) + 3e-6 * torch.relu(threshold - h) * norms).sum(1).mean()
    assert advance(fit, values)["loss"] == pytest.approx(float((s.error(f).mean() + penalty).detach()), rel=1e-5)


# ---- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [OWN, ACROSS], ids=["autoencoder", "skip transcoder"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_learns_and_is_saved_as_what_it_was(name: str, place: Place) -> None:
    kind = kind_of(name)
    if place is ACROSS and kind.own:
        with pytest.raises(HookeError, match="autoencoder of one site"):
            begun(kind, place)
        return
    if isinstance(kind, (JumpRelu, Gated, TanhJumpRelu)) or name == "relu":
        kind = {"jumprelu": JumpRelu(target=4.0), "gated": Gated(l1=0.02), "relu": KINDS["relu"](l1=0.3)}.get(
            name, TanhJumpRelu(l0=0.3)
        )
    fit = start(kind, [place], rows(512), n_features=FEATURES, when=When(0, 250, BATCH), lr=3e-3)
    first = last = math.nan
    for step in range(250):
        told = advance(fit, rows(BATCH, seed=100 + step))
        first, last = (told["explained"] if step == 0 else first), told["explained"]
    assert fit.done and last > max(0.5, first + (0.03 if name == "record" else 0.1))  # whose k falls all the while
    (coder,), values = finish(fit), rows(512, seed=7)
    own = {site: values[site] for site in coder.reads}
    made = coder.written(coder.dense(own), own)[coder.writes[0]]
    y = values[coder.writes[0]]
    explained = 1 - float((y - made).square().sum() / (y - y.mean(0)).square().sum())
    assert explained == pytest.approx(last, abs=0.1)  # scales, offsets and thresholds are folded in
    generator = torch.Generator().manual_seed(1)
    wrong = made[torch.randperm(len(made), generator=generator)]
    assert (
        1 - float((y - wrong).square().sum() / (y - y.mean(0)).square().sum()) < 0.1
    )  # rows of others explain nothing


def test_blocks_of_a_cross_layer_transcoder_add_up() -> None:
    """The loss of two blocks that write one site is of their sum."""
    places = [Place((STREAM,), (OUT, LATER)), Place((IN,), (LATER,))]
    kind, values = kind_of("topk"), rows(BATCH, seed=3)
    fit = start(kind, places, rows(256), n_features=FEATURES, when=When(0, 300, BATCH), lr=3e-3)
    for step in range(300):
        told = advance(fit, rows(BATCH, seed=step))
    coders = finish(fit)
    total = {site: torch.zeros(BATCH, WIDTH) for site in (OUT, LATER)}
    for coder in coders:
        own = {site: values[site] for site in coder.reads}
        for site, y in coder.written(coder.dense(own), own).items():
            total[site] = total[site] + y
    explained = [
        1 - float((values[s] - total[s]).square().sum() / (values[s] - values[s].mean(0)).square().sum()) for s in total
    ]
    assert min(explained) > 0.5 and told["l0"] <= 8
    with pytest.raises(HookeError, match="train by themselves"):
        start(Matryoshka(k=4), places, rows(256), n_features=FEATURES, when=When(0, 10, BATCH))


def test_dead_features_learn_from_what_is_left_over() -> None:
    """AuxK, row by row: the largest of those that are dead, towards the error, over that of its mean."""
    kind = kind_of("topk")
    fit = begun(kind, steps=100)
    (block,) = fit.blocks
    x = side(fit)
    left = x * 0.3 + 0.1
    code = kind.code(block, x, fit.when)
    assert kind.extra(block, code, x, x, left, fit.when) == 0.0  # none is dead
    block.state["idle"][5:25] = 1e9
    found = kind.extra(block, code, x, x, left, fit.when)
    assert isinstance(found, Tensor)
    h = ((x - block.params["offset"]) @ block.params["encoder"].T + block.params["bias"]).detach()
    whole = float((left - left.mean(0)).square().sum(1).mean())
    for r in range(BATCH):
        best = sorted(range(5, 25), key=lambda i, r=r: -float(h[r, i]))[: WIDTH // 2]
        made = sum(max(0.0, float(h[r, i])) * block.params["decoder"][i].detach() for i in best)
        assert float(found[r].detach()) == pytest.approx(float((left[r] - made).square().sum()) / whole / 32, rel=1e-4)
    found.mean().backward()
    moved = block.params["encoder"].grad
    assert moved is not None and bool(moved[5:25].abs().sum() > 0) and not bool(moved[:5].any())


def side(fit: Fit) -> Tensor:
    return fitting.side_by_side(rows(BATCH), (STREAM,), fit.scale)


def test_a_loss_that_is_no_number_stops_it() -> None:
    fit, values = begun(kind_of("topk")), rows(BATCH)
    values[STREAM][3, 2] = math.nan
    with pytest.raises(HookeError, match=r"the loss is nan at step 0; a smaller --lr"):
        advance(fit, values)


def test_bf16_chooses_nearly_the_same_features() -> None:
    kind = kind_of("topk")
    fit = begun(kind)
    (block,) = fit.blocks
    x = side(fit)
    exact = kind.code(block, x, fit.when)
    block.rough = torch.bfloat16
    rough = kind.code(block, x, fit.when)
    assert exact.entries is not None and rough.entries is not None
    a, b = (set((c.rows * FEATURES + c.ids).tolist()) for c in (exact.entries, rough.entries))
    assert len(a & b) / len(a) > 0.95
    whole = block.scores(x)
    assert whole.dtype == torch.bfloat16
    block.rough = torch.float32
    values = torch.relu(block.scores(x)[rough.entries.rows, rough.entries.ids])
    torch.testing.assert_close(rough.values, values, atol=1e-5, rtol=1e-5)  # values are in full precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_groups_do_not_change_which_are_the_largest(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(20, 640, generator=generator)
    h[0, 5::40] += 9  # all of them in one group
    h[1] = 0.0
    h = h.to(dtype)
    for k in (1, 3, 17, 30, 100):
        values, ids = sparse.top(h, k)
        assert torch.equal(values.sort(dim=1).values, h.topk(k, dim=1).values.sort(dim=1).values)
        assert torch.equal(h.gather(1, ids), values) and all(len(set(row)) == k for row in ids.tolist())
