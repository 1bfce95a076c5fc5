"""What a probe has to beat: text statistics that need no internals, and probes that cannot know.

All are fitted to the same rows as the probe and turned the right way round on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hooke.data.labelled.rows import Row
from hooke.dictionaries import Dictionary
from hooke.harvest import Harvest, Wanted, harvest
from hooke.methods.probe import choice
from hooke.methods.probe.estimators import standardised
from hooke.methods.probe.parts import TOKEN_POOLS, VECTOR_POOLS, Block, score_harvest, to_tensors
from hooke.methods.progress import Tick
from hooke.model import Model

WORDS = 20_000  # features of the bag at most


class Fitted(NamedTuple):
    """The chosen probe beside all that it has to beat: the same fitted to what cannot know, by name, a bag of words
    with its weights, and which way length and log-probability go."""

    best: choice.Candidate
    blocks: list[Block]
    controls: dict[str, list[Block]]
    words: dict[str, Any]
    word_weights: np.ndarray
    turns: dict[str, float]

    def scores(self, kept: Harvest, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """(n,) each: of the probe and of what it has to beat; not of random weights, whose model is another."""
        controls = {name: score_harvest(c, kept) for name, c in self.controls.items() if name != "random_weights"}
        return {
            "probe": score_harvest(self.blocks, kept),
            **controls,
            "bag_of_words": score_words(self.words, self.word_weights, rows),
            "length": self.turns["length"] * kept.length,
            "log_probability": self.turns["log_probability"] * kept.log_probability,
        }

    def tensors(self) -> dict[str, np.ndarray]:
        """All directions, to save."""
        made = to_tensors(self.blocks, "probe")
        for name, control in self.controls.items():
            made |= to_tensors(control, name)
        return made | {"bag_of_words": self.word_weights}


def fit_beside(best: choice.Candidate, problem: choice.Problem) -> Fitted:
    """A candidate and its baselines, fitted to all rows of the problem."""
    blocks, kept, at = choice.fit(best, problem), problem.kept, problem.index
    shuffled = np.random.default_rng(problem.seed).permutation(problem.y)  # the same labels on other rows
    controls = {
        "shuffled_labels": choice.fit(best, problem, y=shuffled),
        "random_direction": _random(blocks, problem),
    }
    turns = {
        "length": turn(kept.length[at].astype(float), problem.y),
        "log_probability": turn(kept.log_probability[at], problem.y),
    }
    return Fitted(best, blocks, controls, *fit_words(problem.rows, problem.y), turns)


def _random(blocks: Sequence[Block], problem: choice.Problem) -> list[Block]:
    """Random directions where the probe reads, in standardised coordinates, turned the right way round."""
    rng = np.random.default_rng(problem.seed)
    made = []
    for block in blocks:
        key = block.site, block.pool if block.pool in VECTOR_POOLS else "mean"
        x = problem.kept.pooled[key][problem.index]
        w = (rng.standard_normal(x.shape[1]) / standardised(x)[1]).astype(np.float32)
        w *= turn(x @ w, problem.y)
        made.append(Block(block.site, block.pool, w, 0.0, block.query))
    return made


def refitted(
    model: Model,
    best: choice.Candidate,
    problem: choice.Problem,
    template: str | None,
    dictionaries: Sequence[Dictionary],
    tick: Tick,
) -> list[Block]:
    """The chosen probe, fitted to the activations of another model of the same shape."""
    sites = sorted({m.site for m in best.members} or {best.site})
    tokens = sites if best.pool in TOKEN_POOLS else []
    what = Wanted.of(model, sites=sites, tokens=tokens, likelihood=False, codes=dictionaries)
    kept = harvest(model, problem.rows, what, template=template, progress=tick)
    own = choice.Problem(kept, problem.rows, np.arange(len(problem.rows)), problem.folds, problem.seed)
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


def text_of(row: Row) -> str:
    """All that the model reads of a row, as a text baseline should."""
    return " ".join(part for part in (row.system, row.user, row.text) if part)


def fit_words(rows: Sequence[Row], y: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Bag of words: a logistic regression on tf-idf of words and pairs of words. Returns vocabulary and
    inverse document frequencies as data, and the weights with the intercept last."""
    from sklearn.linear_model import LogisticRegression

    vectoriser = _vectoriser(max_features=WORDS)
    x = vectoriser.fit_transform([text_of(row) for row in rows])
    model = LogisticRegression(class_weight="balanced", max_iter=500).fit(x, y)
    names = vectoriser.get_feature_names_out().tolist()
    data = {"vocabulary": names, "idf": vectoriser.idf_.round(6).tolist()}
    return data, np.append(model.coef_[0], model.intercept_[0]).astype(np.float32)


def score_words(data: dict[str, Any], weights: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """(n,): the log-odds of the bag of words."""
    vectoriser = _vectoriser(vocabulary=data["vocabulary"])
    vectoriser.idf_ = np.array(data["idf"])
    x = vectoriser.transform([text_of(row) for row in rows])
    return np.asarray(x @ weights[:-1] + weights[-1], dtype=float)


def _vectoriser(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[^\w\s]", sublinear_tf=True, **options)


def turn(values: np.ndarray, y: np.ndarray) -> float:
    """1 if larger values go with label 1, else -1."""
    from hooke.methods.ranking import auroc

    return 1.0 if auroc(values, y) >= 0.5 else -1.0
