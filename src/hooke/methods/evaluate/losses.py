"""What the model says with a reconstruction in the place of a site's value: loss, KL and first choices, and the same
with every MLP replaced at once.

The first token of a piece, and special ones, keep their true values, and what is predicted from them is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hooke.methods.evaluate.asked import wide
from hooke.methods.evaluate.estimates import Estimate, Formula, draws, estimate
from hooke.methods.evaluate.measures import DICTIONARY, METRICS, Measured
from hooke.methods.evaluate.seen import Seen, inside, put
from hooke.methods.evaluate.standins import Fitted
from hooke.methods.evaluate.texts import Batch, Pieces, batched
from hooke.methods.progress import Tick
from hooke.model import Edit, Model
from hooke.model.budget import budget, pass_tokens
from hooke.model.run import Activations
from hooke.sites import Site

HARD = 0.8  # probability of the right token below which it counts as hard
ROWS = 16  # predictions that are worked on at once
# columns of the sums of one run by passage
N, LOSS, KL, SAME, N_HARD, SAME_HARD = range(6)
REPLACED = ("random_decoder", "untrained", "neurons", "linear", "mean")  # what an MLP can be replaced by


@dataclass(eq=False)
class _Clean:
    """The model's own predictions of what comes next at places (m,) that have a next token that counts.

    at: (rows, pos) True there. document: (m,). next, best: (m,) ids, of what comes and of what is likeliest. logits, p:
    (m, vocabulary). total: (m,) log Σ exp of logits. hard: (m,) where it is right with a probability below HARD.
    """

    at: Tensor
    document: Tensor
    next: Tensor
    logits: Tensor
    p: Tensor
    total: Tensor
    best: Tensor
    hard: Tensor


@dataclass(eq=False)
class Losses:
    """Sums of runs by passage, (passages, 6): without a change; by target and stand-in; and with all replaced."""

    clean: np.ndarray
    patched: dict[str, dict[str, np.ndarray]]
    replaced: dict[str, np.ndarray]


def losses(model: Model, fits: Sequence[Fitted], pieces: Pieces, *, patch: bool, replace: bool, tick: Tick) -> Losses:
    """Run the model with stand-ins put in, from the layer on where they stand.

    patch: each in each target's place, one at a time. replace: those of all targets at once, which then read what this
    very run computes; of a single target that is the same.
    """
    sites = sorted({site for fit in fits for site in fit.reads} | {_enters(model, fit) for fit in fits})
    several = replace and (len(fits) > 1 or not patch)
    names = [name for name in fits[0].standins if name == DICTIONARY or name in REPLACED] if several else []
    runs = [(fit, name) for fit in fits for name in fit.standins] if patch else []
    total: dict[tuple[str, str], Tensor] = {}
    done, whole = 0, pieces.n_tokens * (1 + len(runs) + len(names))

    def keep(key: tuple[str, str], part: Tensor, clean: _Clean) -> None:
        into = total.setdefault(key, part.new_zeros(pieces.n_documents, part.shape[1]))
        into.index_add_(0, clean.document, part)

    for batch in batched(model, pieces, _tokens(model)):
        run = model.run(batch.tokens, read=sites)
        assert run.logits is not None
        clean = _clean(run.logits, batch)
        keep(("", ""), _told(clean, clean.logits), clean)
        x = Seen({site: inside(run.acts[site], batch, model) for site in sites})
        count = len(batch.document)
        done += count
        for fit, name in runs:
            keep(
                (fit.target.name, name),
                _told(clean, _patched(model, batch, run.acts, fit, fit.standins[name].make(x))),
                clean,
            )
            done += count
            tick(done / whole)
        for name in names:
            keep(("all", name), _told(clean, _replaced(model, batch, run.acts, fits, name)), clean)
            done += count
            tick(done / whole)
    arrays = {key: part.cpu().numpy() for key, part in total.items()}
    patched: dict[str, dict[str, np.ndarray]] = {}
    for fit, name in runs:
        patched.setdefault(fit.target.name, {})[name] = arrays[fit.target.name, name]
    replaced = {name: arrays["all", name] for name in names}
    if replace and not several:
        (only,) = patched.values()
        replaced = {name: part for name, part in only.items() if name == DICTIONARY or name in REPLACED}
    return Losses(arrays["", ""], patched, replaced)


def _tokens(model: Model) -> int:
    """How many tokens make a pass whose logits are compared with others."""
    own = 4 * model.parts.d_vocab * wide(model).itemsize
    return min(pass_tokens(model), max(256, budget(model.device).fit(own)))


def _enters(model: Model, fit: Fitted) -> Site:
    """The stream from which on a run can differ."""
    layer = fit.target.layer
    return Site("resid_pre", model.parts.n_layers - 1 if layer is None else layer)


def _patched(model: Model, batch: Batch, acts: Activations, fit: Fitted, made: Tensor) -> Tensor:
    """Logits with values (n, width) put in at the target."""
    enters, site = _enters(model, fit), fit.target.site
    edit = Edit(site, value=put(acts[site], made, batch))
    logits = model.run(batch.tokens, edits=[edit], entering=(enters.layer or 0, acts[enters])).logits
    assert logits is not None
    return logits


def _replaced(model: Model, batch: Batch, acts: Activations, fits: Sequence[Fitted], name: str) -> Tensor:
    """Logits with one stand-in at every target, made of what this run computes."""
    x = Seen({})

    def keep(site: Site, value: Tensor) -> Tensor:
        x.values[site] = inside(value, batch, model)
        return value

    def change(fit: Fitted, value: Tensor) -> Tensor:
        return put(value, fit.standins[name].make(x), batch)

    taps: dict[Site, Callable[[Tensor], Tensor]] = {}
    for fit in fits:
        taps |= {site: partial(keep, site) for site in (*fit.target.reads, *fit.standins[name].reads)}
    taps |= {fit.target.site: partial(change, fit) for fit in fits}
    first = min(_enters(model, fit) for fit in fits)
    before = [site for site in taps if site < first]  # of layers that nothing is replaced in
    x.values.update({site: inside(acts[site], batch, model) for site in before})
    live = {site: tap for site, tap in taps.items() if site not in before}
    logits = model.run(batch.tokens, taps=live, entering=(first.layer or 0, acts[first])).logits
    assert logits is not None
    return logits


def _clean(logits: Tensor, batch: Batch) -> _Clean:
    """What is compared with: the predictions that begin at a token that counts and have a next one."""
    at = batch.inside.clone()
    at[:, :-1] &= batch.tokens.mask[:, 1:]
    at[:, -1] = False
    following = torch.roll(batch.tokens.ids, -1, 1)[at]
    own = logits[at].float() if logits.dtype != torch.float64 else logits[at]
    total = torch.cat([_total(part) for part in own.split(ROWS)])
    p = torch.cat([(part - t[:, None]).exp() for part, t in zip(own.split(ROWS), total.split(ROWS))])
    best = own.argmax(1)
    hard = (best == following) & (p.gather(1, following[:, None])[:, 0] < HARD)
    documents = torch.zeros_like(batch.inside, dtype=torch.long)
    documents[batch.inside] = batch.document
    return _Clean(at, documents[at], following, own, p, total, best, hard)


def _total(logits: Tensor) -> Tensor:
    """(m,): log Σ exp."""
    top = logits.amax(1)
    return top + (logits - top[:, None]).exp_().sum(1).log()


def _told(clean: _Clean, logits: Tensor) -> Tensor:
    """(m, 6): of each prediction with these logits, (m, vocabulary) or (rows, pos, vocabulary), the columns of sums."""
    found = []
    own = logits if logits.ndim == 2 else logits[clean.at]
    for at in range(0, len(own), ROWS):  # few rows at once, so that they stay in cache
        here = slice(at, at + ROWS)
        new, old = own[here].to(clean.logits.dtype), clean.logits[here]
        total = _total(new)
        loss = total - new.gather(1, clean.next[here, None])[:, 0]
        kl = (old - new).mul_(clean.p[here]).sum(1) + total - clean.total[here]
        same = new.gather(1, clean.best[here, None])[:, 0] >= new.amax(1)
        hard = clean.hard[here]
        columns = (torch.ones_like(loss), loss, kl, same, hard, same & hard)
        found.append(torch.stack([column.double() for column in columns], 1))
    return torch.cat(found)


def measured(found: Losses, *, seed: int) -> list[Measured]:
    """Metrics of the runs: losses, KL, what is recovered of both, and of the replacement model."""
    drawn = draws(len(found.clean), seed)
    own = estimate(found.clean, _per(LOSS), drawn)
    ce, kl, recovered, kl_recovered = (
        Measured(METRICS[name], "passages", {}) for name in ("ce_loss", "kl", "loss_recovered", "kl_recovered")
    )
    for target, runs in found.patched.items():
        each = {name: {key: estimate(sums, _per(at), drawn) for key, sums in runs.items()} for name, at in
                (("ce", LOSS), ("kl", KL))}  # fmt: skip
        ce.rows[target] = each["ce"] | {"oracle": own}
        kl.rows[target] = each["kl"]
        ce.raw[target] = {key: x.value for key, x in {"clean": own, "patched": each["ce"][DICTIONARY]}.items()}
        for ablation in ("zero", "mean"):
            if ablation not in runs:
                continue
            ce.raw[target][ablation] = each["ce"][ablation].value
            against = {name: np.concatenate([sums, runs[ablation], found.clean], 1) for name, sums in runs.items()}
            by_loss = {name: estimate(sums, _recovered, drawn) for name, sums in against.items() if name != ablation}
            by_kl = {name: estimate(sums, _kl_recovered, drawn) for name, sums in against.items() if name != ablation}
            if ablation == "zero":
                recovered.rows[target], kl_recovered.rows[target] = by_loss, by_kl
            else:
                recovered.raw[target] = {"of what mean ablation loses": by_loss[DICTIONARY].value}
                kl_recovered.raw[target] = {"of what mean ablation loses": by_kl[DICTIONARY].value}
    return [each for each in (ce, recovered, kl, kl_recovered, *_replacement(found, drawn, own)) if each.rows]


def _replacement(found: Losses, drawn: np.ndarray, own: Estimate) -> list[Measured]:
    if not found.replaced:
        return []
    formulas: dict[str, Formula] = {
        "agreement": _per(SAME),
        "hard_agreement": lambda s: s[..., SAME_HARD] / s[..., N_HARD],
        "replacement_loss": _per(LOSS),
        "replacement_kl": _per(KL),
    }
    made = []
    hard = {"tokens": float(found.clean[:, N].sum()), "hard tokens": float(found.clean[:, N_HARD].sum())}
    for name, formula in formulas.items():
        rows = {key: estimate(sums, formula, drawn) for key, sums in found.replaced.items()}
        if name == "replacement_loss":
            rows["oracle"] = own
        made.append(Measured(METRICS[name], "passages", {"all": rows}, {"all": dict(hard)}))
    return made


def _per(column: int) -> Formula:
    return lambda s: s[..., column] / s[..., N]


def _recovered(s: np.ndarray) -> np.ndarray:
    """Of sums of a run, of the ablation and of the model itself side by side; NaN where ablation loses nothing."""
    ablated, clean = s[..., 6 + LOSS], s[..., 12 + LOSS]
    return np.where(ablated > clean, (ablated - s[..., LOSS]) / (ablated - clean), np.nan)


def _kl_recovered(s: np.ndarray) -> np.ndarray:
    return np.where(s[..., 6 + KL] > 0, 1 - s[..., KL] / s[..., 6 + KL], np.nan)
