"""`probe`: fit a detector of a concept to a model's activations, choose it honestly, and say what it beats.

choice      what is fitted to and what is held out, and every way of probing tried on folds
estimators  ways of finding a direction
parts       what a fitted probe is, and how it scores tokens
baselines   what it has to beat
report      what its result says
judge       `probe_test`: how it does on rows of anybody's
explain     `probe_explain`: why it gave a text its score
score       `score`: a fitted probe on texts, and the models that it does not belong to
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hooke.arguments import verb
from hooke.data.labelled.registry import dataset as packaged
from hooke.data.labelled.rows import Dataset, check_rows
from hooke.dictionaries import Dictionary
from hooke.errors import HookeError
from hooke.harvest import POOLS, Wanted, harvest
from hooke.methods.probe import choice
from hooke.methods.probe.baselines import fit_beside, random_twin, refitted
from hooke.methods.probe.parts import TOKEN_POOLS, VECTOR_POOLS
from hooke.methods.probe.report import claim_of, payload_of
from hooke.methods.progress import Clock, Progress
from hooke.model import Model
from hooke.results import Result
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
    plan = _plan(model, kind, [d.reads[0] for d in dictionaries] or site, pool)
    split = choice.split(data, seed)
    with clock("activations") as tick:
        what = Wanted.of(model, sites=plan.sites, pools=plan.vectors, tokens=plan.token_sites, codes=dictionaries)
        kept = harvest(model, split.rows, what, template=template, keep=keep, progress=tick)
    with clock("fit") as tick:
        problem = choice.Problem(kept, split.rows, split.fit, split.folds, seed)
        tried = choice.search(problem, plan.kinds, plan.sites, plan.pools, plan.token_sites, tick)
        if not tried:
            raise HookeError("nothing could be tried; name kinds and pools that go together")
        fitted = fit_beside(max(tried, key=lambda c: c.auroc), problem)
    if random_weights:
        with clock("random weights") as tick:
            twin = random_twin(model, seed)
            fitted.controls["random_weights"] = refitted(twin, fitted.best, problem, template, dictionaries, tick)
    with clock("report"):
        payload = payload_of(model, data, split, problem, tried, fitted, template, dictionaries)
    return Result.make(
        "probe",
        arguments={
            "dataset": data.name,
            "dataset_sha256": data.sha256,
            "kind": plan.kinds,
            "site": [str(s) for s in plan.sites],
            "pool": plan.pools,
            "template": template,
            "dictionaries": [d.hash for d in dictionaries],
            "random_weights": random_weights,
            "seed": seed,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[claim_of(payload)],
        payload=payload,
        tensors=fitted.tensors(),
    )


class Plan(NamedTuple):
    """What is tried: every kind at every site with every pool. token_sites: where every token is kept for it."""

    kinds: list[str]
    pools: list[str]
    sites: list[Site]
    token_sites: list[Site]

    @property
    def vectors(self) -> list[str]:
        """The pools that are taken while the model runs: what reads tokens begins with their mean."""
        return [p for p in VECTOR_POOLS if p in self.pools or (self.token_sites and p == "mean")]


def _plan(model: Model, kind: Any, site: Any, pool: Any) -> Plan:
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
    of_tokens = "attention" in kinds or any(p in TOKEN_POOLS for p in pools)
    return Plan(kinds, pools, sorted(sites), _spread(sorted(sites)) if of_tokens else [])


def _spread(sites: Sequence[Site]) -> list[Site]:
    """Where every token is kept: all of a few sites, else some from a quarter of the way to the end."""
    if len(sites) <= TOKEN_SITES:
        return list(sites)
    places = np.linspace(len(sites) // 4, max(len(sites) - 3, len(sites) // 4), TOKEN_SITES).round().astype(int)
    return [sites[i] for i in sorted(set(places.tolist()))]
