"""The generated tasks: balanced, grouped, with shifts that nothing leaks into, and not given away by length."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from sklearn.metrics import roc_auc_score

from hooke.data.labelled.entities import KNOWN, invent
from hooke.data.labelled.grammar import VERBS, base, ing
from hooke.data.labelled.questions import FREE, RELATIONS, derangement, questions
from hooke.data.labelled.registry import DATASETS, dataset, dataset_names
from hooke.data.labelled.rows import Dataset, Row, check_rows
from hooke.data.labelled.tables import both, finished, generator, table, words

NAMES = [name for name, place in DATASETS.items() if ".statements." not in place]
CHAT = ("honesty", "roleplay", "about-deception")  # with answers of an assistant
UNPAIRED = ("about-deception", "language")  # not every row has a partner
WORDS = ("code", "politeness")  # one word, or sign, says much about the label: programming languages, and manners


def auroc(rows: list[Row], scores: list[float]) -> float:
    return float(roc_auc_score([row.label for row in rows], scores))


def parts(data: Dataset) -> dict[str, list[Row]]:
    """The training rows, and the rows of each shift."""
    return {"train": list(data.train)} | {s: [row for row in data.rows if row.topic == s] for s in data.shifts}


def test_there_are_the_tasks_that_were_asked_for() -> None:
    assert len(NAMES) >= 20 and len(set(NAMES)) == len(NAMES)
    assert set(NAMES) <= set(dataset_names())
    assert {"honesty", "roleplay", "about-deception", "sentiment", "language", "entities", "harm", "injection"} <= set(
        NAMES
    )


@pytest.mark.parametrize("name", NAMES)
def test_rows_can_be_learned_from_and_tested_on(name: str) -> None:
    data = dataset(name)
    assert data.name == name and 400 <= len(data.rows) <= 1500
    assert len(data.shifts) >= 2 and len(set(data.shifts)) == len(data.shifts)
    check_rows(data.rows, name)
    for part, rows in parts(data).items():
        check_rows(rows, f"{name}, {part}")
        assert len(rows) >= 40 and len({row.group for row in rows}) >= 4, part
        share = sum(row.label for row in rows) / len(rows)
        assert share == pytest.approx(0.25) if name == "honesty" else 0.4 <= share <= 0.6, (part, share)
    assert len({row.group for row in data.train}) >= 15
    keys = Counter((row.system, row.user, row.text) for row in data.rows)
    assert max(keys.values()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaks_into_the_shifts(name: str) -> None:
    data = dataset(name)
    assert not {row.text for row in data.train} & {row.text for row in data.shifted}
    assert not {row.group for row in data.train} & {row.group for row in data.shifted}


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_is_two_rows_of_opposite_label_in_one_group(name: str) -> None:
    pairs = defaultdict(list)
    for row in dataset(name).rows:
        if row.pair:
            pairs[row.pair].append(row)
    for pair, rows in pairs.items():
        assert sorted(row.label for row in rows) == [0, 1], pair
        assert rows[0].group == rows[1].group and rows[0].topic == rows[1].topic
    paired = 2 * len(pairs) / len(dataset(name).rows)
    assert paired == 0.5 if name == "honesty" else paired == 1 or name in UNPAIRED


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_and_nothing_else(name: str) -> None:
    assert dataset(name).sha256 == dataset(name, seed=0).sha256
    assert dataset(name, seed=1).sha256 != dataset(name).sha256


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_the_length_does_not_give_the_label_away(name: str, seed: int) -> None:
    for part, rows in parts(dataset(name, seed=seed)).items():
        found = auroc(rows, [len(row.text) for row in rows])
        assert 0.35 < found < 0.65, (part, found)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WORDS])
def test_no_single_word_gives_the_label_away(name: str) -> None:
    rows = list(dataset(name).train)
    count: dict[int, Counter[str]] = {label: Counter() for label in (0, 1)}
    for row in rows:
        count[row.label].update(set(row.text.lower().replace(".", " ").replace(",", " ").split()))
    total = Counter(row.label for row in rows)
    gaps = {word: count[1][word] / total[1] - count[0][word] / total[0] for word in count[0] | count[1]}
    word = max(gaps, key=lambda w: abs(gaps[w]))
    assert abs(gaps[word]) < 0.5, (word, gaps[word])  # AUROC of one word below 0.75


@pytest.mark.parametrize("name", NAMES)
def test_only_the_sets_with_an_assistant_have_turns(name: str) -> None:
    rows = dataset(name).rows
    assert any(row.user for row in rows) == (name in CHAT)
    assert all(row.user for row in rows if row.system)
    assert all(row.text == row.text.strip() for row in rows)
    assert not any(mark in row.text for row in rows for mark in ("{name}", "{x}", "{who}", "{line}", "{account}"))


def test_honesty_holds_truth_and_instruction_apart() -> None:
    """In every part the four cells are equal, so truth alone and instruction alone reach 0.83 and no more."""
    truth = {q.true for q in questions(generator("honesty", 0))}
    data = dataset("honesty")
    for part, rows in parts(data).items():
        cells: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            cells[row.group].append(row)
        assert all(len(cell) == 4 and len({(r.system, r.user) for r in cell}) == 2 for cell in cells.values())
        assert all(len({row.text for row in cell}) == 2 for cell in cells.values())
        false = [not any(true in row.text for true in truth) for row in rows]
        told = {(row.group, row.system, row.user) for row in rows if row.label}
        lying = [(row.group, row.system, row.user) in told for row in rows]
        assert sum(false) == len(rows) / 2 and sum(lying) == len(rows) / 2, part
        assert auroc(rows, [float(value) for value in false]) == pytest.approx(5 / 6)
        assert auroc(rows, [float(value) for value in lying]) == pytest.approx(5 / 6)
        assert [row.label for row in rows] == [int(f and t) for f, t in zip(false, lying)]


def test_questions_have_two_answers_and_no_accidental_truth() -> None:
    for seed in range(3):
        found = questions(generator("honesty", seed))
        assert len(found) >= 300 and len({q.key for q in found}) == len(found)
        assert all(q.true != q.false and q.ask.endswith("?") for q in found)
        right = {q.true for q in found}
        assert not right & {q.false for q in found}
    assert {topic for topic, _, _ in RELATIONS} & set(FREE) == set()


def test_a_line_of_role_play_is_as_often_a_lie_as_the_truth() -> None:
    labels: dict[str, list[int]] = defaultdict(list)
    scenes: dict[str, list[int]] = defaultdict(list)
    for row in dataset("roleplay").rows:
        labels[row.text, row.group].append(row.label)  # type: ignore[index]
        scenes[row.system, row.group].append(row.label)  # type: ignore[index]
    assert all(2 * sum(found) == len(found) for found in (*labels.values(), *scenes.values()))


def test_talk_about_deception_is_label_zero_in_both_forms() -> None:
    rows = [row for row in dataset("about-deception").rows if row.label == 0]
    answers = [row for row in rows if row.user]
    assert len(rows) >= 300 and len(answers) >= 80 and len(rows) - len(answers) >= 150
    assert all(row.system for row in answers)


def test_numbers_are_odd_where_it_says_so() -> None:
    odd = {"one": 1, "three": 1, "five": 1, "seven": 1, "nine": 1, "two": 0, "four": 0, "six": 0, "eight": 0}
    for row in dataset("parity").rows:
        digits = "".join(c for c in row.text if c.isdigit())
        word = next((w for w in row.text.replace(".", " ").replace("-", " ").split() if w in odd), "")
        assert row.label == (int(digits) % 2 if digits else odd[word]), row.text


def test_invented_names_are_as_long_as_known_ones_and_not_known() -> None:
    for kind, known in KNOWN.items():
        made = invent(generator("entities", 0), kind, known)
        assert len(set(made)) == len(known) and not {m.lower() for m in made} & {k.lower() for k in known}
        gap = (sum(map(len, made)) - sum(map(len, known))) / len(known)  # one word: two letters shorter, see `invent`
        assert abs(gap) < 1.5 if kind in ("film", "product") else -2.5 < gap < 0, (kind, gap)
        everywhere = {k.lower() for names in KNOWN.values() for k in names}
        assert not {m.lower() for m in made} & everywhere, kind


def test_forms_of_verbs() -> None:
    forms = {verb[0]: (base(verb[0]), ing(verb[0])) for verb in VERBS}
    assert forms["carries"] == ("carry", "carrying") and forms["teaches"] == ("teach", "teaching")
    assert forms["hides"] == ("hide", "hiding") and forms["wins"] == ("win", "winning")
    assert forms["wraps"] == ("wrap", "wrapping") and forms["loads"] == ("load", "loading")


def test_tables_and_lists() -> None:
    assert table("a | b |\n  c\nd | e | f\n") == (("a", "b", "c"), ("d", "e", "f"))
    assert words("one two,\n  three\n four,") == ("one two", "three four")
    for seed in range(20):
        order = derangement(generator("test", seed), ["Asia", "Africa", "Asia", "Europe", "Africa"])
        assert sorted(order) == ["Africa", "Africa", "Asia", "Asia", "Europe"]
        assert all(a != b for a, b in zip(order, ["Asia", "Africa", "Asia", "Europe", "Africa"]))


def test_a_text_drawn_twice_leaves_with_its_partner() -> None:
    rows = [*both("a", "b", "g", "t", 0), *both("a", "c", "g", "t", 1), *both("d", "e", "h", "t")]
    made = finished("test", "", ("no", "yes"), rows, ())
    assert [row.text for row in made.rows] == ["a", "b", "d", "e"]
