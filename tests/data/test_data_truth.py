"""True and false statements and harmless text: balance, groups, and that counting words does not solve it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooke.data.labelled.benign import banks, benign
from hooke.data.labelled.registry import DATASETS, dataset, dataset_names
from hooke.data.labelled.rows import Dataset, Row, check_rows
from hooke.data.labelled.statements import make, reading
from hooke.data.labelled.statements.numbers import number_facts, words
from hooke.errors import HookeError


@pytest.fixture(scope="module")
def truth() -> Dataset:
    return dataset("truth-with-denials")


def tokens(text: str) -> list[str]:
    return "".join(letter.lower() if letter.isalnum() else " " for letter in text).split()


def test_there_is_enough_of_it(truth: Dataset) -> None:
    check_rows(truth.train, "train")
    check_rows(truth.shifted, "shifted")
    topics = Counter(row.topic for row in truth.rows)
    assert len(topics) >= 14 and len(truth.rows) >= 2_500 and min(topics.values()) >= 40
    assert len(truth.shifts) == 4 and set(truth.shifts) <= set(topics)
    assert topics["everyday"] >= 400 and topics["science"] >= 300


def test_pairs_differ_in_what_makes_the_label(truth: Dataset) -> None:
    pairs: dict[str, list[Row]] = {}
    for row in truth.rows:
        pairs.setdefault(row.pair, []).append(row)
    for pair, rows in pairs.items():
        assert sorted(row.label for row in rows) == [0, 1], pair
        assert len({(row.group, row.topic) for row in rows}) == 1, pair
        one, other = (tokens(row.text) for row in rows)
        assert one != other, rows[0].text
        while one and other and one[0] == other[0]:
            one, other = one[1:], other[1:]
        while one and other and one[-1] == other[-1]:
            one, other = one[:-1], other[:-1]
        assert max(len(one), len(other)) <= 9, f"{rows[0].text} / {rows[1].text}"  # one phrase at most


def test_groups_and_texts_stay_on_one_side(truth: Dataset) -> None:
    topic_of: dict[str, str] = {}
    for row in truth.rows:
        assert topic_of.setdefault(row.group, row.topic) == row.topic
    texts = Counter(row.text.lower() for row in truth.rows)
    assert [text for text, count in texts.items() if count > 1] == []
    assert len(topic_of) >= 1_000  # facts


def test_sentences_are_whole(truth: Dataset) -> None:
    for row in truth.rows:
        assert row.text[0] == row.text[0].upper() and row.text.endswith((".", "!")), row.text
        assert not set(row.text) & set("{}|<>=") and "  " not in row.text, row.text
    lengths = [len(row.text.split()) for row in truth.rows if row.topic in ("everyday", "science")]
    assert min(lengths) <= 5 and max(lengths) >= 18 and np.std(lengths) > 2.5


def test_denials_say_nothing_about_truth(truth: Dataset) -> None:
    denied = [row for row in truth.rows if make.denies(row.text)]
    assert 0.28 < len(denied) / len(truth.rows) < 0.4
    assert sum(row.label for row in denied) * 2 == len(denied)


def test_denials_are_a_shift_of_their_own(truth: Dataset) -> None:
    data = dataset("truth")
    check_rows(data.rows, "truth")
    assert data.shifts == (*truth.shifts, "denials")
    assert not any(make.denies(row.text) for row in data.rows if row.topic != "denials")
    denied = [row for row in data.rows if row.topic == "denials"]
    assert len(denied) >= 200 and all(make.denies(row.text) for row in denied)
    assert sum(row.label for row in denied) * 2 == len(denied)
    facts = {row.group for row in data.train}  # nothing denied was fitted to in the affirmative
    assert not facts & {row.group.removeprefix("denied/") for row in denied}
    kept = sum(not make.denies(row.text) for row in truth.rows)
    assert len(data.rows) == kept + len(denied)


def test_answers_are_as_often_wrong_as_right() -> None:
    for block in [*number_facts(), *(b for name in make.FILES for b in reading.read_facts(name))]:
        if isinstance(block, reading.Relation):
            assert block.say and block.negated, block.topic
            subjects = [subject for subject, _ in block.facts]
            assert len(set(subjects)) == len(subjects), block.topic
            other = make.wrong_answers(block, random.Random(0))
            assert sorted(other) == list(range(len(block.facts)))
            for (subject, right), at in zip(block.facts, other, strict=True):
                assert block.facts[at][1][0] not in right, f"{subject} = {right}"


def area(labels: Any, scores: Any) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def bag_of_words(rows: Sequence[Row]) -> float:
    """The area under the curve of a logistic regression on words, tested on facts it was not fitted to."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    x = CountVectorizer(tokenizer=tokens, token_pattern=None, lowercase=False).fit_transform([r.text for r in rows])
    y, groups = np.array([row.label for row in rows]), [row.group for row in rows]
    scores = np.zeros(len(rows))
    for train, test in GroupKFold(5).split(x, y, groups):
        scores[test] = LogisticRegression(max_iter=300).fit(x[train], y[train]).decision_function(x[test])
    return area(y, scores)


@pytest.mark.parametrize("topic", sorted({"all", *(row.topic for row in make.with_denials().rows)}))
def test_counting_words_does_not_tell_truth_from_falsehood(truth: Dataset, topic: str) -> None:
    assert bag_of_words([row for row in truth.rows if topic in ("all", row.topic)]) < 0.6


def test_words_of_other_topics_do_not_tell_either(truth: Dataset) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    count = CountVectorizer(tokenizer=tokens, token_pattern=None, lowercase=False)
    x = count.fit_transform([row.text for row in truth.train])
    fitted = LogisticRegression(max_iter=300).fit(x, [row.label for row in truth.train])
    scores = fitted.decision_function(count.transform([row.text for row in truth.shifted]))
    assert 0.4 < area([row.label for row in truth.shifted], scores) < 0.6
    assert 0.45 < area([row.label for row in truth.rows], [len(row.text) for row in truth.rows]) < 0.55


def test_a_word_that_gives_it_away_would_be_seen(truth: Dataset) -> None:
    """The test above can fail: one word in every false statement, and the words do tell."""
    rows = [row for row in truth.rows if row.topic == "everyday"]
    leaky = [Row(f"{row.text} {'Honestly' if row.label else ''}", row.label, row.group) for row in rows]
    assert bag_of_words(leaky) > 0.95


def test_the_seed_decides() -> None:
    assert make.truth(0).sha256 == make.truth(0).sha256 != make.truth(1).sha256
    check_rows(make.truth(1).rows, "truth")


def test_arithmetic_is_right() -> None:
    value = {words(n): n for n in range(100)} | {str(n): n for n in range(100)}
    sign = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__}
    seen = 0
    for block in number_facts():
        if isinstance(block, reading.Relation) and block.topic != "parity":
            for subject, (answer,) in block.facts:
                a, by, b = subject.split()
                assert sign[by](value[a], value[b]) == value[answer], subject
                seen += 1
        elif isinstance(block, reading.Order):
            for things in block.things:
                numbers = [value[thing] if thing in value else int(thing) for thing in things]
                assert numbers == sorted(numbers, reverse=True)
    assert seen > 60


def test_a_line_that_is_no_fact_is_seen() -> None:
    with pytest.raises(ValueError, match="a line that is no fact: 'France: Paris'"):
        reading._blocks(["topic: capitals", "say: {a} {s}.", "France: Paris"])
    one = reading.Relation("t", ("{s} {a}.",), ("{s} not {a}.",), (("a", ("x",)), ("b", ("x",))))
    with pytest.raises(ValueError, match="no wrong answer is left"):
        make.wrong_answers(one, random.Random(0))


def test_names_of_data_sets() -> None:
    assert dataset_names() == list(DATASETS) and "truth" in dataset_names()
    with pytest.raises(HookeError, match="no data set is called 'thruth'; did you mean 'truth'"):
        dataset("thruth")
    with pytest.raises(HookeError, match="there are truth"):
        dataset("")


# ---- harmless text -----------------------------------------------------------------------------


@pytest.mark.parametrize("chat", [False, True])
def test_harmless_texts(chat: bool) -> None:
    rows = benign(12_000, chat=chat)
    assert len({row.text for row in rows}) == len({row.group for row in rows}) == 12_000
    assert {row.label for row in rows} == {0} and all(bool(row.user) == chat for row in rows)
    assert all(5 <= len(row.text.split()) <= 40 for row in rows)
    assert not any(set(row.text + row.user) & set("{}^~|") for row in rows)
    kinds = Counter(row.topic for row in rows)
    assert len(kinds) >= 14 and max(kinds.values()) < 0.1 * len(rows)
    assert benign(50, chat=chat) == rows[:50] != benign(50, chat=chat, seed=1)


def test_a_phrase_is_used_once_in_a_text_and_kept_where_it_is_asked() -> None:
    for row in benign(400, chat=True):
        if row.user.startswith("Please suggest a name for my "):
            assert row.user.removeprefix("Please suggest a name for my ").rstrip(".") in row.text
    boxes = [row.text for row in benign(8_000) if row.text.startswith("A: What is in the box?")]
    assert boxes and not any("stack of letters and a stack of letters" in text for text in boxes)


def test_every_bank_is_used_and_there() -> None:
    import re

    named = {name for phrases in banks().values() for p in phrases for name in re.findall(r"\{(\w+)", p)}
    assert named | {"any", "chat"} == set(banks())
    assert all(len(set(phrases)) == len(phrases) for phrases in banks().values())


@pytest.mark.parametrize("n", [0, -1, 50_001])
def test_numbers_of_texts_that_cannot_be(n: int) -> None:
    with pytest.raises(HookeError, match="there can be 1 to 50,000"):
        benign(n)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 400), st.integers(), st.booleans())
def test_any_number_of_them(n: int, seed: int, chat: bool) -> None:
    rows = benign(n, chat=chat, seed=seed)
    assert len({row.text for row in rows}) == n
    truths = {row.text for row in dataset("truth").rows}
    assert not truths & {row.text for row in rows}
