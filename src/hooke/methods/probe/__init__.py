"""`probe`: fit a detector of a concept to a model's activations, choose it honestly, and say what it beats."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hooke.arguments import verb
from hooke.data.labelled.registry import dataset as packaged
from hooke.data.labelled.rows import Dataset, Row, check_rows
from hooke.dictionaries import Dictionary
from hooke.errors import HookeError
from hooke.harvest import POOLS, harvest
from hooke.methods.probe import choice
from hooke.methods.probe.baselines import fit_words, score_words, turn
from hooke.methods.probe.estimators import standardised
from hooke.methods.probe.parts import TOKEN_POOLS, VECTOR_POOLS, Block, score_harvest, to_tensors
from hooke.methods.progress import Clock, Progress
from hooke.methods.ranking import Interval, auroc, auroc_interval, weights
from hooke.methods.splits import folds, hold_out
from hooke.model import Model
from hooke.results import Claim, Result
from hooke.sites import Site

KINDS = ("logistic", "means", "lda", "ensemble")  # what is tried unless kinds are named
TOKEN_SITES = 5  # layers at which every token is kept, for kinds and pools that need it


@verb
def probe(
    model: Model,
    dataset: Dataset | str,
    *,
    kind: str | Sequence[str] = KINDS,
    site: str | Sequence[Site | str] = "resid_post",
    pool: str | Sequence[str] = POOLS,
    template: str | None = None,
    dictionaries: Sequence[Dictionary] = (),
    random_weights: bool = True,
    seed: int = 0,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Fit a probe: the kind, layer, pool and strength with the best AUROC on folds that leave topics out (groups, where
    there are fewer than four topics).

    dataset: rows, or the name of a packaged data set. Groups are kept together everywhere; at least 15 % of
        them are held out before anything is chosen, and so are the data set's declared shifts.
    kind: one or several of logistic, means (difference of means), lda, lat, ccs, sparse (k coordinates),
        attention, ensemble (of layers); several are tried and the best is taken.
    site: a point, for all its layers, or sites. pool: last, mean; max, ema, rolling over tokens.
    dictionaries: encoders whose features are read instead of activations, each at the one site it reads; `site`
        is then theirs. With kind "sparse" the probe reads k features.
    template: a text with {text}, put around every statement before the model reads it; None is the data set's
        own, if it has one, and "{text}" is none.
    keep: a folder for activations while they are made, so that a stopped run goes on where it was.
    random_weights: also fit the chosen probe to a model of the same shape with random weights.
    Returns a `Result` of kind "probe" (payload in docs/probe.md) whose tensors are the directions of the
    probe and of its controls; `probe_test` and `score` take it, `directions` gives it as dictionaries.
    Raises HookeError for unknown kinds, pools or sites, and for data that cannot be split (see `check_rows`).
    """
    clock = Clock(progress)
    data = packaged(dataset, seed=seed) if isinstance(dataset, str) else dataset
    check_rows(data.train, f"the fitting part of {data.name}")
    template = data.template if template is None else template
    kinds, pools, sites = _plan(model, kind, [d.reads[0] for d in dictionaries] or site, pool)
    fit_rows, held = hold_out(data.train, seed=seed)
    inner, split = folds([data.train[i] for i in fit_rows])
    wants_tokens = "attention" in kinds or any(p in TOKEN_POOLS for p in pools)
    token_sites = _spread(sites) if wants_tokens else []
    vectors = [p for p in VECTOR_POOLS if p in pools or (wants_tokens and p == "mean")]
    rows = [*data.train, *data.shifted]
    with clock("activations") as tick:
        kept = harvest(
            model,
            rows,
            sites=sites,
            pools=vectors,
            tokens=token_sites,
            template=template,
            codes=dictionaries,
            keep=keep,
            progress=tick,
        )
    with clock("fit") as tick:
        problem = choice.Problem(kept, rows, fit_rows, inner, seed)
        tried = choice.search(problem, kinds, sites, pools, token_sites, tick)
        if not tried:
            raise HookeError("nothing could be tried; name kinds and pools that go together")
        best = max(tried, key=lambda c: c.auroc)
        blocks = choice.fit(best, problem)
        controls = {
            "shuffled_labels": choice.fit(best, problem, y=_shuffled(problem)),
            "random_direction": _random(blocks, problem, seed),
        }
        words, word_weights = fit_words([rows[i] for i in fit_rows], problem.y)
        turns = {
            "length": turn(kept.length[fit_rows].astype(float), problem.y),
            "log_probability": turn(kept.log_probability[fit_rows], problem.y),
        }
    held_rows = np.asarray(held)
    shift_rows = np.arange(len(data.train), len(rows))
    if random_weights:
        with clock("random weights") as tick:
            twin = random_twin(model, seed)
            controls["random_weights"] = _refitted(twin, best, problem, rows, fit_rows, template, dictionaries, tick)
    with clock("report"):
        y = np.array([row.label for row in rows])
        scores = {"probe": score_harvest(blocks, kept)}
        scores |= {name: score_harvest(c, kept) for name, c in controls.items() if name != "random_weights"}
        scores["bag_of_words"] = score_words(words, word_weights, rows)
        scores["length"] = turns["length"] * kept.length
        scores["log_probability"] = turns["log_probability"] * kept.log_probability
        parts = {"held-out groups": held_rows}
        parts |= {t: shift_rows[[rows[i].topic == t for i in shift_rows]] for t in data.shifts}
        if len(data.shifts) > 1:
            parts["all shifts"] = shift_rows
        tests = [_tested(name, at, rows, y, scores) for name, at in parts.items() if len(at)]
        payload = {
            "name": data.name,
            "about": data.about,
            "kind": best.kind,
            "negative": data.labels[0],
            "positive": data.labels[1],
            "sites": sorted({str(b.site) for b in blocks}),
            "pool": best.row()["pool"],
            "strength": best.strength,
            "template": template,
            "dictionaries": {str(d.reads[0]): d.hash for d in dictionaries},
            "blocks": [{"site": str(b.site), "pool": b.pool} for b in blocks],
            "layer_curve": _curve(tried, problem, seed),
            "candidates": [c.row() | {"chosen": c is best} for c in _leaders(tried, best)],
            "n_candidates": len(tried),
            "validation": {"auroc": best.auroc, "folds": len(inner), "split": split, "n": len(fit_rows)},
            "tests": tests,
            "cost": cost(model, blocks),
            "baselines": {"turns": turns, "words": words},
            "chat": any(rows[i].user for i in fit_rows),
            "dataset": {
                "name": data.name,
                "seed": seed,
                "sha256": data.sha256,
                "rows": len(rows),
                "shifts": list(data.shifts),
                "fitted_to": [rows[i].key for i in fit_rows],
            },
            "belongs_to": belongs_to(model),
            "notes": [],
        }
        payload["sentence"] = _sentence(payload)
    tensors = to_tensors(blocks, "probe")
    for name, control in controls.items():
        tensors |= to_tensors(control, name)
    tensors["bag_of_words"] = word_weights
    return Result.make(
        "probe",
        arguments={
            "dataset": data.name,
            "dataset_sha256": data.sha256,
            "kind": list(kinds),
            "site": [str(s) for s in sites],
            "pool": list(pools),
            "template": template,
            "dictionaries": [d.hash for d in dictionaries],
            "random_weights": random_weights,
            "seed": seed,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[_claim(payload)],
        payload=payload,
        tensors=tensors,
    )


def _plan(model: Model, kind: Any, site: Any, pool: Any) -> tuple[list[str], list[str], list[Site]]:
    """Kinds, pools and sites as lists, each known. Raises HookeError."""
    kinds = [kind] if isinstance(kind, str) else list(kind)
    pools = [pool] if isinstance(pool, str) else list(pool)
    for given, known, what in ((kinds, choice.KINDS, "kind of probe"), (pools, VECTOR_POOLS + TOKEN_POOLS, "pool")):
        for name in given:
            if name not in known:
                raise HookeError(f"no {what} called {name!r}; there are {', '.join(known)}")
        if not given:
            raise HookeError(f"name at least one {what}: {', '.join(known)}")
    if isinstance(site, str) and "." not in site:
        sites = [s for s in model.sites if s.point == site]
        if not sites:
            raise HookeError(f"{model.name} has no point called {site!r}; try resid_post or mlp_act")
    else:
        given_sites = [site] if isinstance(site, (str, Site)) else site
        sites = [Site.parse(s) for s in given_sites]
        absent = set(sites) - set(model.sites)
        if absent:
            raise HookeError(f"{model.name} has no site {min(absent)}; its layers are 0 to {model.parts.n_layers - 1}")
    flat = next((s for s in sites if not s.shape.startswith("batch pos")), None)
    if flat is not None:
        raise HookeError(f"a probe reads one vector a token, and {flat} is {flat.shape}; try resid_post or z")
    return kinds, pools, sorted(sites)


def _spread(sites: Sequence[Site]) -> list[Site]:
    """Where every token is kept: all of a few sites, else some from a quarter of the way to the end."""
    if len(sites) <= TOKEN_SITES:
        return list(sites)
    places = np.linspace(len(sites) // 4, max(len(sites) - 3, len(sites) // 4), TOKEN_SITES).round().astype(int)
    return [sites[i] for i in sorted(set(places.tolist()))]


def _shuffled(problem: choice.Problem) -> np.ndarray:
    """The same labels on other rows."""
    return np.random.default_rng(problem.seed).permutation(problem.y)


def _random(blocks: Sequence[Block], problem: choice.Problem, seed: int) -> list[Block]:
    """Random directions where the probe reads, in standardised coordinates, turned the right way round."""
    rng = np.random.default_rng(seed)
    made = []
    for block in blocks:
        key = block.site, block.pool if block.pool in VECTOR_POOLS else "mean"
        x = problem.kept.pooled[key][problem.index]
        w = (rng.standard_normal(x.shape[1]) / standardised(x)[1]).astype(np.float32)
        w *= turn(x @ w, problem.y)
        made.append(Block(block.site, block.pool, w, 0.0, block.query))
    return made


def _refitted(
    model: Model,
    best: choice.Candidate,
    problem: choice.Problem,
    rows: Sequence[Row],
    fit_rows: np.ndarray,
    template: str | None,
    dictionaries: Sequence[Dictionary],
    tick: Any,
) -> list[Block]:
    """The chosen probe, fitted to the activations of another model of the same shape."""
    sites = sorted({m.site for m in best.members} or {best.site})
    tokens = sites if best.pool in TOKEN_POOLS else []
    chosen = [rows[i] for i in fit_rows]
    kept = harvest(
        model,
        chosen,
        sites=sites,
        tokens=tokens,
        template=template,
        codes=dictionaries,
        likelihood=False,
        progress=tick,
    )
    own = choice.Problem(kept, chosen, np.arange(len(chosen)), problem.folds, problem.seed)
    return choice.fit(best, own)


def random_twin(model: Model, seed: int = 0) -> Model:
    """A model of the same configuration and tokenizer with freshly drawn weights, whose attention is computed alike."""
    import copy

    import torch
    from transformers import AutoModelForCausalLM

    config: Any = copy.deepcopy(model.hf.config)  # transformers writes into the one that it is given
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hf = AutoModelForCausalLM.from_config(config, attn_implementation=config._attn_implementation)
    hf = hf.to(device=model.device, dtype=model.dtype).eval()
    for parameter in hf.parameters():
        parameter.requires_grad_(False)
    return Model(
        hf, model.tokenizer, name=f"{model.name} with random weights", info={"weights_sha256": f"random-{seed}"}
    )


def _tested(
    name: str, at: np.ndarray, rows: Sequence[Row], y: np.ndarray, scores: dict[str, np.ndarray]
) -> dict[str, Any]:
    """How the probe and its baselines do on rows that nothing was fitted to or chosen on."""
    drawn = weights([rows[i].group for i in at], resamples=1000)

    def row(values: np.ndarray) -> dict[str, Any]:
        if len(set(y[at].tolist())) < 2:
            return {"auroc": None, "interval": None}
        found: Interval = auroc_interval(values[at], y[at], drawn)
        return {"auroc": found.value, "interval": found.pair}

    baselines = {key: row(values) for key, values in scores.items() if key != "probe"}
    groups = len({rows[i].group for i in at})
    return {"part": name, "n": len(at), "groups": groups, **row(scores["probe"]), "baselines": baselines}


def _curve(tried: Sequence[choice.Candidate], problem: choice.Problem, seed: int) -> dict[str, Any]:
    """The best validation AUROC at each site, and that of a random direction there."""
    sites = sorted({c.site for c in tried if not c.members})
    best = {s: max((c for c in tried if c.site == s and not c.members), key=lambda c: c.auroc) for s in sites}
    rng = np.random.default_rng(seed)
    chance = []
    for site in sites:
        pool = best[site].pool if best[site].pool in VECTOR_POOLS else "mean"
        x = problem.vectors(site, pool)
        values = x @ (rng.standard_normal((x.shape[1], 8)) / standardised(x)[1][:, None])
        each = [auroc(v, problem.y) for v in values.T]
        chance.append(float(np.mean([max(a, 1 - a) for a in each])))
    return {
        "sites": [str(s) for s in sites],
        "layers": [s.layer for s in sites],
        "auroc": [best[s].auroc for s in sites],
        "kind": [best[s].kind for s in sites],
        "pool": [best[s].pool for s in sites],
        "random_direction": chance,
    }


def _leaders(tried: Sequence[choice.Candidate], best: choice.Candidate) -> list[choice.Candidate]:
    """The best candidate of each kind and pool, and the chosen one, best first."""
    top: dict[tuple[str, str], choice.Candidate] = {}
    for c in tried:
        key = (c.kind, c.pool)
        if key not in top or c.auroc > top[key].auroc:
            top[key] = c
    top[best.kind, best.pool] = best
    return sorted(top.values(), key=lambda c: -c.auroc)


def cost(model: Model, blocks: Sequence[Block]) -> dict[str, float]:
    """What scoring one more token costs: floating-point operations, their share of a forward pass, and time."""
    operations = sum(2 * len(b.direction) * (2 if b.query is not None else 1) for b in blocks)
    size = sum(p.numel() for p in model.hf.parameters())
    x = [np.ones_like(b.direction) for b in blocks]
    times = []
    for _ in range(200):
        start = time.perf_counter()
        for block, v in zip(blocks, x):
            _ = float(v @ block.direction) + block.bias
        times.append(time.perf_counter() - start)
    return {
        "flops_per_token": float(operations),
        "share_of_forward": operations / (2 * size),
        "microseconds_per_token": round(float(np.median(times)) * 1e6, 2),
    }


def belongs_to(model: Model) -> dict[str, Any]:
    """What a probe must find again in the model it is used on."""
    facts = model.provenance()
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise HookeError(f"{model.name} has no tokenizer, and a probe reads texts; load the model with one")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return {
        "model": facts["model"],
        "weights_sha256": model.weights_hash(),
        "tokenizer_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "chat_template_sha256": facts["chat_template_sha256"],
        "dtype": facts["dtype"],
    }


def _claim(payload: dict[str, Any]) -> Claim:
    """The sentence; it rests on the last part that was held out with both labels, and is untested without one."""
    parts = [n for n, test in enumerate(payload["tests"]) if test["auroc"] is not None]
    return Claim(
        text=payload["sentence"],
        verdict="tested" if parts else "untested",
        evidence=[f"#tests.{n}" for n in parts[-1:]],
    )


def _sentence(payload: dict[str, Any]) -> str:
    """What was fitted, and how it did on what it never saw."""
    where = ", ".join(payload["sites"])
    article = "An" if payload["kind"][0] in "ae" else "A"
    head = (
        f"{article} {payload['kind']} probe of {payload['positive']!r} against {payload['negative']!r} at {where} "
        f"({payload['pool']} token pooling)"
    )
    parts = [test for test in payload["tests"] if test["auroc"] is not None]
    if not parts:
        return f"{head}; nothing was held out that has both labels, so how it does is not known."
    last = parts[-1]
    low, high = last["interval"]
    rival, best = max(
        ((name, b["auroc"]) for name, b in last["baselines"].items() if b["auroc"] is not None), key=lambda b: b[1]
    )
    told = f"AUROC {last['auroc']:.2f} ({low:.2f} to {high:.2f}) on {last['part']}"
    worst = min(parts, key=lambda part: part["auroc"])
    told += f", worst on {worst['part']} ({worst['auroc']:.2f})" if len(parts) > 2 else ""
    verb = "and" if last["auroc"] > best and not math.isclose(last["auroc"], best) else "but"
    return f"{head} has {told}, {verb} the best baseline on {last['part']}, {rival.replace('_', ' ')}, has {best:.2f}."
