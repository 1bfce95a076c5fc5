"""Absorption (2409.14507, as SAEBench measures it): does a feature of a word's first letter stay silent where a feature
of the word itself says the letter too?

A word is read at its own token, after a sentence that asks for first letters. For each letter the main features are
those whose class means lie furthest apart, one more as long as that raises the F1 of a logistic regression by 0.03. On
words whose letter a probe at the written site finds, a word is absorbed if all main features are silent while one other
feature, turned the probe's way, supplies 0.4 of the probe's projection; in part, up to three may.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from hooke.data import PASSAGES
from hooke.data.labelled.registry import dataset, dataset_names
from hooke.dictionaries.coder import Coder
from hooke.errors import HookeError
from hooke.methods.evaluate.asked import wide
from hooke.methods.evaluate.estimates import Estimate, draws, estimate
from hooke.methods.evaluate.measures import DICTIONARY, METRICS, Measured
from hooke.methods.evaluate.seen import Seen
from hooke.methods.evaluate.standins import Fitted, Neurons
from hooke.methods.progress import Tick, stretch
from hooke.model import Model
from hooke.model.budget import pass_tokens
from hooke.sites import Site

BEFORE = "The word table begins with the letter T. The word green begins with the letter G. The word"
WORD = re.compile(r"[A-Za-z]{3,}")
FEW = 40  # words of a letter, below which it is left out
LETTERS = 5  # below which nothing is said
FOUND = 5  # words of a letter that the probe finds, below which the letter is left out
SHARES = (0.5, 0.2)  # of the words, to fit to and to choose how many main features by; the rest is measured on
MAIN = 10  # features at most
GAIN = 0.03  # of F1, by which one more main feature has to help
SILENT = 1e-8
ALIGNED, ALIGNED_IN_PART = 0.025, 0.1  # least cosine of a feature's row and the probe
SUPPLIED = 0.4  # least share of the probe's projection
THREE = 3


@dataclass(eq=False)
class Words:
    """Tokens of words and the number of each one's first letter; parts: (n,) 0 to fit, 1 to choose, 2 to measure."""

    ids: list[int]
    letter: np.ndarray
    letters: str
    parts: np.ndarray


@dataclass(eq=False)
class _Features:
    """Features of one kind on all words. values: (words, n). rows: (n, width) what one unit of each writes."""

    values: np.ndarray
    rows: np.ndarray


def words(model: Model, seed: int) -> Words:
    """Words of the packaged texts that are one token each, of letters that begin enough of them.

    Raises HookeError where the tokenizer has too few of them.
    """
    found = {word: model.single(" " + word) for word in packaged()}
    single = {word: token for word, token in found.items() if token is not None}
    count = {letter: sum(word[0] == letter for word in single) for letter in "abcdefghijklmnopqrstuvwxyz"}
    letters = "".join(letter for letter, n in count.items() if n >= FEW)
    if len(letters) < LETTERS:
        raise HookeError(
            f"the tokenizer of {model.name} has single tokens for the words of {len(letters)} letters; {LETTERS} are "
            "needed"
        )
    kept = sorted(word for word in single if word[0] in letters)
    letter = np.array([letters.index(word[0]) for word in kept])
    parts = np.full(len(kept), 2)
    rng = np.random.default_rng(seed)
    for number in range(len(letters)):
        own = rng.permutation(np.flatnonzero(letter == number))
        first, second = (round(len(own) * share) for share in np.cumsum(SHARES))
        parts[own[:first]], parts[own[first:second]] = 0, 1
    return Words([single[word] for word in kept], letter, letters, parts)


@cache
def packaged() -> tuple[str, ...]:
    """The different words of all packaged texts, in the order of the alphabet."""
    texts = chain(PASSAGES, (row.text for name in dataset_names() for row in dataset(name).rows))
    return tuple(sorted({word.lower() for text in texts for word in WORD.findall(text)}))


def absorption(model: Model, fits: Sequence[Fitted], *, seed: int, tick: Tick) -> list[Measured]:
    """F1 of the main features of first letters, absorption, and absorption in part, for every target.

    Raises HookeError where the tokenizer has too few words.
    """
    own = words(model, seed)
    x = _read(model, fits, own, stretch(tick, 0.0, 0.5))
    over = "letters"
    f1, full, part = (Measured(METRICS[n], over, {}) for n in ("first_letter_f1", "absorption", "absorption_fraction"))
    drawn = draws(len(own.letters), seed)
    for number, fit in enumerate(fits):
        name, y = fit.target.name, _numpy(x.values[fit.target.site])
        directions, right, probe_f1 = _probe(y, own)
        for measured in (f1, full, part):
            measured.rows[name] = {}
        for kind, features in _kinds(fit, x):
            table = _absorbed(features, y, directions, right, own)
            for column, measured in ((0, f1), (1, full), (2, part)):
                known = np.isfinite(table[:, column])
                if known.sum() >= LETTERS:
                    filled = np.stack([np.where(known, table[:, column], 0.0), known], 1)
                    measured.rows[name][kind] = estimate(filled, lambda s: s[..., 0] / s[..., 1], drawn)
                else:
                    measured.rows[name][kind] = Estimate(None)
            if kind == DICTIONARY:
                full.raw[name] = {
                    "letters": float(np.isfinite(table[:, 1]).sum()), "words found by the probe": float(right.sum()),
                    "words": float((own.parts == 2).sum()), "main features of a letter": float(table[:, 3].mean()),
                }  # fmt: skip
        f1.rows[name]["dense_probe"] = Estimate(probe_f1)
        tick(0.5 + 0.5 * (number + 1) / len(fits))
    return [f1, full, part]


def _read(model: Model, fits: Sequence[Fitted], own: Words, tick: Tick) -> Seen:
    """What stands at each word."""
    sites = sorted({site for fit in fits for site in (*fit.reads, *fit.target.own_reads)})
    prefix = model.prefix(BEFORE)
    ids = torch.tensor(own.ids, device=model.device)[:, None]
    step = max(1, pass_tokens(model) // (prefix.length + 1))
    parts = []
    for some in ids.split(step):
        parts.append(model.run(some, read=sites, logits=None, after=prefix).acts)
        tick(len(parts) * step / len(ids))
    return Seen({site: torch.cat([acts[site][:, 0].flatten(1) for acts in parts]).to(wide(model)) for site in sites})


def _kinds(fit: Fitted, x: Seen) -> Iterator[tuple[str, _Features]]:
    """Features of every kind that a target is compared by, one kind after another."""
    site = fit.target.site
    yield DICTIONARY, _of(fit.target.own, x, site)
    if fit.untrained:
        yield "untrained", _of(fit.untrained, x, site)
    most = fit.standins["neurons"].make if "neurons" in fit.standins else None
    if isinstance(most, Neurons):
        a = x.values[most.act]
        at = most.chosen(a)
        kept = torch.zeros_like(a).scatter(1, at, a.gather(1, at))
        yield "neurons", _Features(_numpy(kept), _numpy(most.block.down.weight.T))


def _of(blocks: Sequence[Coder], x: Seen, site: Site) -> _Features:
    values, rows = [], []
    for block in blocks:
        code = x.code(block)
        dense = torch.zeros(len(x), block.n_features, dtype=code.values.dtype, device=code.values.device)
        dense[code.entries.rows, code.entries.ids] = code.values
        values.append(_numpy(dense))
        rows.append(_numpy(block.decoders[site]))
    return _Features(np.concatenate(values, 1), np.concatenate(rows))


def _numpy(x: Tensor) -> np.ndarray:
    found: np.ndarray = x.detach().float().cpu().numpy()
    return found


def _probe(y: np.ndarray, own: Words) -> tuple[np.ndarray, np.ndarray, float]:
    """Unit directions (letters, width), (words,) whether a word is to be measured and its letter is found, and the
    probe's own F1, mean over letters."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    fit = own.parts == 0
    mean, deviation = y[fit].mean(0), np.maximum(y[fit].std(0), 1e-6)
    z = (y - mean) / deviation
    model = LogisticRegression(C=0.01, max_iter=200, tol=1e-3)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        told = model.fit(z[fit], own.letter[fit]).predict(z)
    directions = model.coef_ / deviation
    test = own.parts == 2
    each = [_f1(told[test] == n, own.letter[test] == n) for n in range(len(own.letters))]
    unit = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-30)
    return unit.astype(np.float32), test & (told == own.letter), float(np.mean(each))


def _f1(told: np.ndarray, true: np.ndarray) -> float:
    both = float((told & true).sum())
    return 2 * both / max(1.0, float(told.sum() + true.sum()))


def _absorbed(features: _Features, y: np.ndarray, directions: np.ndarray, right: np.ndarray, own: Words) -> np.ndarray:
    """(letters, 4): F1 of the main features, share of words absorbed, mean share in part (NaN where the probe finds too
    few), and how many main features there are."""
    found = np.full((len(own.letters), 4), np.nan)
    lengths = np.maximum(np.linalg.norm(features.rows, axis=1), 1e-30)
    for n, direction in enumerate(directions):
        main, found[n, 0] = _main(features.values, own, n)
        found[n, 3] = len(main)
        at = np.flatnonzero(right & (own.letter == n))
        whole = y[at] @ direction
        at, whole = at[whole > 0], whole[whole > 0]
        if len(at) < FOUND:
            continue
        along = features.rows @ direction
        found[n, 1:3] = _shares(features.values[at], along, along / lengths, main, whole)
    return found


def _shares(
    values: np.ndarray, along: np.ndarray, cosine: np.ndarray, main: np.ndarray, whole: np.ndarray
) -> tuple[float, float]:
    """Share of words that are absorbed, and mean share in part. values: (words, n); along: (n,) what one unit adds to
    the probe's projection; whole: (words,) the projection itself."""
    supplied = values * along
    silent = (np.abs(values[:, main]) < SILENT).all(1)
    best = supplied.argmax(1)
    first = supplied[np.arange(len(values)), best]
    full = silent & (cosine[best] >= ALIGNED) & (first >= SUPPLIED * whole)
    others = np.where(cosine >= ALIGNED_IN_PART, np.maximum(supplied, 0.0), 0.0)
    others[:, main] = 0.0
    three = np.sort(others, axis=1)[:, -THREE:].sum(1)
    by_main = supplied[:, main].sum(1)
    left = np.minimum(three, whole - by_main)
    part = np.where(by_main <= 0, 1.0, left / np.where(by_main <= 0, 1.0, left + by_main))
    part = np.where((by_main >= whole) | (three < SUPPLIED * whole), 0.0, part)
    return float(full.mean()), float(np.clip(part, 0.0, 1.0).mean())


def _main(values: np.ndarray, own: Words, n: int) -> tuple[np.ndarray, float]:
    """The main features of a letter, and the F1 of a logistic regression on them on the words that are measured."""
    from sklearn.linear_model import LogisticRegression

    fit, choose, test = (own.parts == part for part in range(3))
    true = own.letter == n
    gap = values[fit & true].mean(0) - values[fit & ~true].mean(0)
    order = np.argsort(-gap, kind="stable")[:MAIN]
    best, kept, score = -1.0, 1, 0.0
    for k in range(1, len(order) + 1):
        x = values[:, order[:k]]
        scale = np.maximum(x[fit].std(0), 1e-6)
        model = LogisticRegression(class_weight="balanced", max_iter=200, tol=1e-3)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            told = model.fit(x[fit] / scale, true[fit]).predict(x / scale)
        found = _f1(told[choose], true[choose])
        if k > 1 and found <= best + GAIN:
            break
        best, kept, score = found, k, _f1(told[test], true[test])
    return order[:kept], score
