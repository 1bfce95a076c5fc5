"""The numbers of an evaluation against slow, obvious versions of them: plain transformers with plain hooks, and loops."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from families import one_thread  # noqa: F401  (used by all tests here)
from hooke.dictionaries.coder import Coder
from hooke.methods.evaluate.asked import Target, asked
from hooke.methods.evaluate.estimates import draws, estimate, mean
from hooke.methods.evaluate.jacobian import jacobians
from hooke.methods.evaluate.losses import losses, measured
from hooke.methods.evaluate.measures import DICTIONARY, METRICS, Measured
from hooke.methods.evaluate.reconstruction import reconstruction
from hooke.methods.evaluate.standins import CONTROLS, Fitted, Neurons, fitted
from hooke.methods.evaluate.texts import Pieces, Texts, texts
from hooke.methods.progress import idle
from hooke.model import Model
from hooke.sites import Site
from verbs import word_model

WIDTH = 32
Values = dict[Site, Tensor]


@cache
def llama() -> Model:
    return word_model("llama", torch.float64)


def coder(read: str, *writes: str, n: int = 24, seed: int = 0, gate: str = "relu", k: int | None = None) -> Coder:
    """A random one."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    sites = [Site.parse(site) for site in writes]
    return Coder(
        {Site.parse(read): random(n, WIDTH) / 4}, 0.2 * random(n), {site: 0.4 * random(n, WIDTH) for site in sites},
        {site: 0.2 * random(WIDTH) for site in sites}, gate, k=k,
    )  # fmt: skip


PER_LAYER = [coder("mlp_in.1", "mlp_out.1", seed=1), coder("mlp_in.2", "mlp_out.2", seed=2, gate="topk", k=6)]
CROSS = [coder("mlp_in.1", "mlp_out.1", "mlp_out.2", seed=3), coder("mlp_in.2", "mlp_out.2", seed=4)]
AUTO = [coder("resid_post.1", "resid_post.1", seed=5)]


@cache
def corpus(book: str) -> Texts:
    return texts(llama(), [book], {}, tokens=900, context=32, seed=0, tick=idle)


def fits_of(blocks: list[Coder], book: str, wanted: tuple[str, ...] = CONTROLS) -> list[Fitted]:
    targets = asked(llama(), blocks, None, False).targets
    return fitted(llama(), targets, corpus(book).fit, wanted, seed=0, tick=idle)


def modules(layer: int) -> Any:
    return llama().hf.model.layers[layer]


@contextlib.contextmanager
def hooked(put: dict[int, Callable[[Tensor, Tensor], Tensor]], kept: dict[str, Tensor]) -> Iterator[None]:
    """Plain hooks: what each MLP reads and writes is kept, and what it writes is replaced by `put[layer]` of both."""
    handles = []

    def hook(layer: int) -> Any:
        def change(_: Any, args: Any, out: Tensor) -> Tensor | None:
            kept[f"in{layer}"], kept[f"out{layer}"] = args[0], out
            return put[layer](args[0], out) if layer in put else None

        return change

    for layer in range(3):
        handles.append(modules(layer).mlp.register_forward_hook(hook(layer)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def plain(piece: list[int], put: dict[int, Callable[[Tensor, Tensor], Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits (pos, vocabulary) of one piece."""
    kept: dict[str, Tensor] = {}
    with torch.no_grad(), hooked(put, kept):
        return llama().hf(torch.tensor([piece])).logits[0], kept


def made_of(block: Coder, site: Site, x: Tensor) -> Tensor:
    """What a block writes of x (pos, width), feature by feature."""
    (read,) = block.reads
    out = block.offsets[site].expand(len(x), -1).clone()
    for p in range(len(x)):
        h = block.encoders[read] @ x[p] + block.bias
        f = torch.relu(h)
        if block.gate == "topk":
            f[h.argsort(descending=True)[block.k :]] = 0
        out[p] += f @ block.decoders[site]
    return out


def replaced(blocks: list[Coder], layers: list[int]) -> tuple[dict[int, Callable[[Tensor, Tensor], Tensor]], Values]:
    """Plain hooks that put what blocks write in the place of MLPs, but at the first token."""
    seen: Values = {}

    def change(layer: int) -> Callable[[Tensor, Tensor], Tensor]:
        def put(x: Tensor, y: Tensor) -> Tensor:
            seen[Site("mlp_in", layer)] = x[0]
            site, new = Site("mlp_out", layer), y.clone()
            total = sum(made_of(block, site, seen[block.reads[0]]) for block in blocks if site in block.writes)
            assert isinstance(total, Tensor)
            new[0, 1:] = total[1:]
            return new

        return put

    return {layer: change(layer) for layer in layers}, seen


def totals(pieces: Pieces, put_of: Callable[[], dict[int, Callable[[Tensor, Tensor], Tensor]]]) -> dict[str, float]:
    """Loss, KL and agreements over all pieces, token by token."""
    n = loss = kl = same = hard = hard_same = 0.0
    for piece in pieces.ids:
        clean, _ = plain(piece, {})
        new, _ = plain(piece, put_of())
        for p in range(1, len(piece) - 1):
            a, b = clean[p].log_softmax(-1), new[p].log_softmax(-1)
            right = piece[p + 1]
            n += 1
            loss -= float(b[right])
            kl += float((a.exp() * (a - b)).sum())
            agrees = int(a.argmax()) == int(b.argmax())
            same += agrees
            if int(a.argmax()) == right and float(a[right].exp()) < 0.8:
                hard += 1
                hard_same += agrees
    return {
        "loss": loss / n, "kl": kl / n, "same": same / n, "n": n, "hard": hard,
        "hard_same": hard_same / hard if hard else float("nan"),
    }  # fmt: skip


def by_name(found: list[Measured]) -> dict[str, Measured]:
    names = {about: name for name, about in METRICS.items()}
    return {names[each.about]: each for each in found}


@pytest.mark.parametrize("blocks", [PER_LAYER, CROSS], ids=["per layer", "cross-layer"])
def test_losses_are_those_of_plain_hooks(blocks: list[Coder], book: str) -> None:
    few = corpus(book).test.first(200)
    found = by_name(measured(losses(llama(), fits_of(blocks, book), few, patch=True, replace=True, tick=idle), seed=0))
    for layer in (1, 2):
        site = Site("mlp_out", layer)
        reads = {block.reads[0].layer for block in blocks if site in block.writes}

        def only(layer: int = layer, reads: set[int | None] = reads) -> Any:
            put, seen = replaced(blocks, [layer])
            for other in reads - {layer}:  # of a cross-layer transcoder: what an earlier layer reads, as it is
                assert other is not None

                def keep(x: Tensor, y: Tensor, other: int = other) -> Tensor:
                    seen[Site("mlp_in", other)] = x[0]
                    return y

                put[other] = keep
            return put

        slow = totals(few, only)
        own = found["ce_loss"].rows[str(site)]
        assert own[DICTIONARY].value == pytest.approx(slow["loss"], abs=1e-6)
        assert found["kl"].rows[str(site)][DICTIONARY].value == pytest.approx(slow["kl"], abs=1e-6)
        zero = totals(
            few, lambda layer=layer: {layer: lambda x, y: torch.cat([y[:, :1], torch.zeros_like(y[:, 1:])], 1)}
        )
        clean = totals(few, dict)
        assert own["zero"].value == pytest.approx(zero["loss"], abs=1e-6)
        assert own["oracle"].value == pytest.approx(clean["loss"], abs=1e-6)
        recovered = found["loss_recovered"].rows[str(site)][DICTIONARY].value if "loss_recovered" in found else None
        if zero["loss"] > clean["loss"]:
            expected = (zero["loss"] - slow["loss"]) / (zero["loss"] - clean["loss"])
            assert recovered == pytest.approx(expected, abs=1e-4)
        else:
            assert recovered is None
        assert found["kl_recovered"].rows[str(site)][DICTIONARY].value == pytest.approx(
            1 - slow["kl"] / zero["kl"], abs=1e-6
        )
    slow = totals(few, lambda: replaced(blocks, [1, 2])[0])
    assert found["agreement"].rows["all"][DICTIONARY].value == pytest.approx(slow["same"], abs=1e-9)
    assert found["replacement_loss"].rows["all"][DICTIONARY].value == pytest.approx(slow["loss"], abs=1e-6)
    assert found["replacement_kl"].rows["all"][DICTIONARY].value == pytest.approx(slow["kl"], abs=1e-6)
    assert found["agreement"].raw["all"] == {"tokens": slow["n"], "hard tokens": slow["hard"]}
    hard = found["hard_agreement"].rows["all"][DICTIONARY].value
    assert hard is None if not slow["hard"] else hard == pytest.approx(slow["hard_same"], abs=1e-9)


def test_one_replaced_mlp_is_one_patched_site(book: str) -> None:
    few, fits = corpus(book).test.first(120), fits_of(PER_LAYER[:1], book)
    both = losses(llama(), fits, few, patch=True, replace=True, tick=idle)
    alone = losses(llama(), fits, few, patch=False, replace=True, tick=idle)  # live, where the other is put in
    assert set(both.replaced) == set(alone.replaced) and not alone.patched
    for name, sums in both.replaced.items():
        assert np.allclose(sums, alone.replaced[name], atol=1e-8), name


@pytest.mark.parametrize("blocks", [PER_LAYER, CROSS, AUTO], ids=["per layer", "cross-layer", "autoencoder"])
def test_reconstruction_is_that_of_loops(blocks: list[Coder], book: str) -> None:
    test = corpus(book).test
    found = by_name(reconstruction(llama(), fits_of(blocks, book), test, seed=0, tick=idle))
    for name in found["explained_variance"].rows:
        site = Site.parse(name)
        true, made, fires, ever = [], [], 0, set()
        for piece in test.ids:
            acts = llama().run(torch.tensor([piece]), read=[site, *(block.reads[0] for block in blocks)]).acts
            y = acts[site][0]
            own = [block for block in blocks if site in block.writes]
            x = sum(made_of(block, site, acts[block.reads[0]][0]) for block in own)
            assert isinstance(x, Tensor)
            true.append(y[1:])
            made.append(x[1:])
            first = next(block for block in own if min(block.writes) == site)
            codes = first.dense({first.reads[0]: acts[first.reads[0]][0][1:]})
            fires += int((codes != 0).sum())
            ever |= set(codes.nonzero()[:, 1].tolist())
        y, x = torch.cat(true), torch.cat(made)
        assert len(y) == test.n_tokens
        expected = {
            "explained_variance": 1 - float((y - x).square().sum() / (y - y.mean(0)).square().sum()),
            "cosine": float(torch.nn.functional.cosine_similarity(y, x, dim=1).mean()),
            "shrinkage": float(x.norm(dim=1).mean() / y.norm(dim=1).mean()),
            "relative_bias": float(x.square().sum(1).mean() / (x * y).sum(1).mean()),
            "l0": fires / len(y),
            "dead": 1 - len(ever) / first.n_features,
        }
        for key, value in expected.items():
            assert found[key].rows[name][DICTIONARY].value == pytest.approx(value, rel=1e-6, abs=1e-9), key


@pytest.mark.usefixtures("exact_norms")
def test_derivatives_are_finite_differences_and_those_of_plain_hooks(book: str) -> None:
    block, layer = PER_LAYER[0], 1
    few = corpus(book).test.first(60, longest=12)
    fits = fits_of([block], book, ("mean", "linear", "neurons"))
    found = by_name(jacobians(llama(), fits, few, seed=0, tick=idle))
    put = replaced([block], [layer])[0]

    def likelihood(piece: list[int], stream: Tensor, put: Any) -> Tensor:
        handle = modules(layer).register_forward_pre_hook(
            lambda _, args, kwargs: ((stream[None], *args[1:]), kwargs), with_kwargs=True
        )
        try:
            with hooked(put, {}):
                logits = llama().hf(torch.tensor([piece])).logits[0]
        finally:
            handle.remove()
        log = logits.log_softmax(-1)
        return sum((log[p, piece[p + 1]] for p in range(1, len(piece) - 1)), torch.zeros(()))

    g, h = [], []
    for piece in few.ids:
        stream = llama().run(torch.tensor([piece]), read=[f"resid_pre.{layer}"]).acts[f"resid_pre.{layer}"][0]
        for into, change in ((g, {}), (h, put)):
            leaf = stream.clone().requires_grad_()
            (slope,) = torch.autograd.grad(likelihood(piece, leaf, change), leaf)
            into.append(slope[1:])
            step = slope / slope.norm()  # attention's softmax is in single precision, so not too small a step
            with torch.no_grad():
                ends = [float(likelihood(piece, stream + 3e-3 * s * step, change)) for s in (1, -1)]
            assert float(slope.norm()) == pytest.approx((ends[0] - ends[1]) / 6e-3, rel=1e-2)
    a, b = torch.cat(g), torch.cat(h)
    expected = float((a * b).sum() / (a.norm() * b.norm()))
    rows = found["jacobian_correlation"].rows[f"mlp_out.{layer}"]
    assert rows[DICTIONARY].value == pytest.approx(expected, abs=1e-6) and expected < 0.999
    # random directions come to the same
    v = torch.randn(4000, *a.shape[1:], generator=torch.Generator().manual_seed(2), dtype=a.dtype)
    assert np.corrcoef((a @ v.T).flatten(), (b @ v.T).flatten())[0, 1] == pytest.approx(expected, abs=0.02)
    assert found["local_jacobian"].rows[f"mlp_out.{layer}"]["mean"].value == 0.0


def test_the_derivative_of_the_site_alone(book: str) -> None:
    """Through a ReLU dictionary it is Σ over features that fire; through the MLP, the full Jacobian by differences."""
    block, few = PER_LAYER[0], corpus(book).test.first(20, longest=10)
    read, site = Site("mlp_in", 1), Site("mlp_out", 1)
    found = by_name(jacobians(llama(), fits_of([block], book, ("mean",)), few, seed=0, tick=idle))
    both = []
    for piece in few.ids:
        tokens = torch.tensor([piece])
        kept: dict[str, Tensor] = {}

        def keep(x: Tensor, y: Tensor, kept: dict[str, Tensor] = kept) -> Tensor:
            kept["y"] = y + 0.0
            return kept["y"]

        with hooked({1: keep}, kept):
            stream = llama().run(tokens, read=["resid_pre.0"]).acts["resid_pre.0"][0].requires_grad_()
            handle = modules(0).register_forward_pre_hook(
                lambda _, args, kwargs, s=stream: ((s[None], *args[1:]), kwargs), with_kwargs=True
            )
            log = llama().hf(tokens).logits[0].log_softmax(-1)
            handle.remove()
        total = sum((log[p, piece[p + 1]] for p in range(1, len(piece) - 1)), torch.zeros(()))
        (by_site,) = torch.autograd.grad(total, kept["y"])
        x = llama().run(tokens, read=[read]).acts[read][0]
        for p in range(1, len(piece)):
            jacobian = torch.autograd.functional.jacobian(lambda v: modules(1).mlp(v), x[p])
            fires = block.encoders[read] @ x[p] + block.bias > 0
            own = block.decoders[site][fires].T @ block.encoders[read][fires]
            both.append((by_site[0, p] @ jacobian, by_site[0, p] @ own))
    a, b = (torch.stack(side) for side in zip(*both))
    expected = float((a * b).sum() / (a.norm() * b.norm()))
    assert found["local_jacobian"].rows["mlp_out.1"][DICTIONARY].value == pytest.approx(expected, abs=1e-6)


def gathered(target: Target, pieces: Pieces, sites: list[Site]) -> Values:
    parts = [llama().run(torch.tensor([piece]), read=sites).acts for piece in pieces.ids]
    return {site: torch.cat([acts[site][0, 1:] for acts in parts]) for site in sites}


def test_controls_are_what_they_say(book: str) -> None:
    from hooke.methods.evaluate.seen import Seen

    block, act = PER_LAYER[0], Site("mlp_act", 1)
    (fit,) = fits_of([block], book)
    read, site = Site("mlp_in", 1), Site("mlp_out", 1)
    fitting, test = (gathered(fit.target, part, [read, site, act]) for part in (corpus(book).fit, corpus(book).test))
    made = {name: standin.make(Seen(dict(test))) for name, standin in fit.standins.items()}
    assert list(made) == [DICTIONARY, "random_decoder", "untrained", "neurons", "linear", "mean", "zero"]
    assert torch.equal(made["zero"], torch.zeros_like(test[site]))
    assert torch.allclose(made["mean"], fitting[site].mean(0).expand_as(made["mean"]))
    ones = torch.ones(len(fitting[read]), 1, dtype=torch.float64)
    solution = torch.linalg.lstsq(torch.cat([fitting[read], ones], 1), fitting[site]).solution
    expected = torch.cat([test[read], torch.ones(len(test[read]), 1, dtype=torch.float64)], 1) @ solution
    assert float((made["linear"] - expected).square().mean() / expected.var()) < 1e-4  # but for a tiny ridge
    # neurons: the best of each token kept, the others at their mean
    count, down = round(fit.standins[DICTIONARY].size), modules(1).mlp.down_proj
    for p in range(0, len(test[act]), 97):
        order = (test[act][p].abs() * down.weight.norm(dim=0)).argsort(descending=True)[:count]
        a = fitting[act].mean(0).clone()
        a[order] = test[act][p][order]
        assert torch.allclose(made["neurons"][p], down(a), atol=1e-9)
    # a random decoder: the same codes along other rows as long, and no other scale or offset does better on its text
    codes = block.dense({read: fitting[read]})
    on_fit = fit.standins["random_decoder"].make(Seen(dict(fitting)))
    whole = torch.cat([codes, ones], 1).numpy()
    solved = torch.from_numpy(np.linalg.lstsq(whole, on_fit.numpy(), rcond=None)[0])
    rows, fires = solved[:-1], (codes != 0).sum(0) > 5
    assert np.abs(whole @ solved.numpy() - on_fit.numpy()).max() < 1e-9
    ratio = (rows.norm(dim=1) / block.decoders[site].norm(dim=1))[fires]
    assert float(ratio.std() / ratio.mean()) < 1e-6 and int(fires.sum()) > 10
    cosine = torch.nn.functional.cosine_similarity(rows[fires], block.decoders[site][fires], dim=1)
    assert float(cosine.abs().mean()) < 0.4  # rows that know nothing of the decoder's
    best, centred = float((fitting[site] - on_fit).square().sum()), on_fit - on_fit.mean(0)
    for scale in (0.9, 1.1):
        assert float((fitting[site] - on_fit.mean(0) - scale * centred).square().sum()) > best
    assert torch.allclose(on_fit.mean(0), fitting[site].mean(0), atol=1e-9)
    (start,) = fit.untrained
    assert start.gate == "topk" and start.k == round(fit.standins["untrained"].size)


def test_principal_components_are_those_of_numpy(book: str) -> None:
    from hooke.methods.evaluate.seen import Seen

    (fit,) = fits_of(AUTO, book)
    site = Site("resid_post", 1)
    fitting, test = (gathered(fit.target, part, [site])[site] for part in (corpus(book).fit, corpus(book).test))
    assert "linear" not in fit.standins and "neurons" not in fit.standins
    k = round(fit.standins[DICTIONARY].size)
    centred = fitting - fitting.mean(0)
    axes = np.linalg.svd(centred.numpy(), full_matrices=False)[2][:k]
    expected = fitting.mean(0).numpy() + (test - fitting.mean(0)).numpy() @ axes.T @ axes
    assert np.allclose(fit.standins["pca"].make(Seen({site: test})).numpy(), expected, atol=1e-6)


def test_estimates_are_ratios_of_whole_sums() -> None:
    generator = np.random.default_rng(0)
    sums = generator.random((30, 2)) * generator.integers(1, 50, size=(30, 1))
    drawn = draws(30, 1)
    found = estimate(sums, lambda s: s[..., 0] / s[..., 1], drawn)
    assert found.value == pytest.approx(sums[:, 0].sum() / sums[:, 1].sum())
    slow = []
    for row in drawn[:50]:
        chosen = np.repeat(np.arange(30), row.astype(int))
        slow.append(sums[chosen, 0].sum() / sums[chosen, 1].sum())
    assert found.each is not None and np.allclose(found.each[:50], slow)
    low, high = found.interval or [0.0, 0.0]
    assert low < found.value < high
    other = estimate(sums[:, ::-1], lambda s: s[..., 0] / s[..., 1], drawn)
    assert mean([found, other]).value == pytest.approx((found.value + (other.value or 0)) / 2)
    assert found.less(found).interval == [0.0, 0.0]  # paired: nothing is better than itself
    assert estimate(sums[:3], lambda s: s[..., 0] / s[..., 1], draws(3, 0)).interval is None  # three say nothing


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "neox"])
def test_all_neurons_are_the_mlp_of_every_family(family: str, book: str) -> None:
    """Also where a norm follows the MLP, or attention runs beside it."""
    from hooke.methods.evaluate.seen import Seen

    model = word_model(family, torch.float32)
    found = texts(model, [book], {}, tokens=200, context=32, seed=0, tick=idle)
    blocks = [coder("mlp_in.1", "mlp_out.1", seed=1), coder("mlp_in.2", "mlp_out.2", seed=2)]
    targets = asked(model, [block.to(dtype=torch.float32) for block in blocks], None, False).targets
    fits = fitted(model, targets, found.fit, CONTROLS, seed=0, tick=idle)
    for fit in fits:
        most = fit.standins["neurons"].make
        assert isinstance(most, Neurons)
        site, act = fit.target.site, most.act
        acts = model.run(torch.tensor([found.test.ids[0]]), read=[site, act]).acts
        every = Neurons(most.block, act, site, most.mean, most.block.down.n_in)
        assert torch.allclose(every(Seen({act: acts[act][0]})), acts[site][0], atol=1e-5)
    few = found.test.first(60)
    both = losses(model, fits, few, patch=True, replace=True, tick=idle)
    metrics = by_name([*measured(both, seed=0), *jacobians(model, fits, few, seed=0, tick=idle)])
    assert all(row[DICTIONARY].value is not None for row in metrics["jacobian_correlation"].rows.values())
    assert 0 <= (metrics["agreement"].rows["all"][DICTIONARY].value or 0) <= 1
