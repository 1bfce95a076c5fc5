"""What a probe has to beat: text statistics that need no internals, and probes that cannot know.

All are fitted to the same rows as the probe and turned the right way round on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hooke.data.labelled.rows import Row

WORDS = 20_000  # features of the bag at most


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
