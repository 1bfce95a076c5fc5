"""What is said of single features, where the answer is planted: absorption and sparse probing; and text that is unseen."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf

from families import new_hf, one_thread  # noqa: F401  (used by all tests here)
from hooke.data.labelled.rows import Dataset, Row
from hooke.dictionaries.coder import Coder
from hooke.errors import HookeError
from hooke.methods.evaluate import letters
from hooke.methods.evaluate.asked import asked
from hooke.methods.evaluate.estimates import draws
from hooke.methods.evaluate.letters import BEFORE, absorption, words
from hooke.methods.evaluate.measures import DICTIONARY
from hooke.methods.evaluate.standins import Fitted, fitted
from hooke.methods.evaluate.tasks import check_tasks, probing
from hooke.methods.evaluate.texts import Pieces, batched, key, texts, trained_on
from hooke.methods.progress import idle
from hooke.methods.train import train
from hooke.model import Model
from hooke.sites import Site
from verbs import statements, word_model

SITE = Site("resid_pre", 0)
LETTERS, EACH, FLAGGED, WIDTH = "abcdef", 100, 0.3, 640


# ---- absorption ---------------------------------------------------------------------------------


def made_up_words() -> list[str]:
    """A hundred words of each of six letters."""
    vowels = "aeiou"
    return [
        f"{letter}{vowels[i % 5]}{'bdfglmnprt'[i // 5 % 10]}{vowels[i // 25 % 5]}"
        for letter in LETTERS
        for i in range(EACH)
    ]


@cache
def speller() -> Model:
    """A tiny model whose embedding of a word holds its first letter, whether it is flagged, and which word it is."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    own = made_up_words()
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(["?", *BEFORE.split(), *(f"Ġ{w}" for w in own)]))}
    one = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    one.pre_tokenizer, one.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    hf = new_hf("llama", torch.float32, vocab_size=len(vocabulary), hidden_size=WIDTH, head_dim=WIDTH // 4)
    weight = hf.model.embed_tokens.weight
    weight.zero_()
    for number, word in enumerate(own):
        at = vocabulary[f"Ġ{word}"]
        weight[at, LETTERS.index(word[0])] = 4.0
        weight[at, 6] = 4.0 * flagged(number)
        weight[at, 7 + number] = 4.0
    return Model(hf, tf.PreTrainedTokenizerFast(tokenizer_object=one), name="speller")


def flagged(number: int) -> bool:
    return np.random.default_rng(number).random() < FLAGGED


def absorbing(split: bool) -> Coder:
    """Features of letters that stay silent on flagged words, and, for each flagged word, a feature that says the letter
    too. split: instead one feature for all flagged words of a letter."""
    own = made_up_words()
    rows: list[tuple[dict[int, float], float, dict[int, float]]] = []
    for n in range(6):
        rows.append(({n: 1.0, 6: -2.0}, 0.0, {n: 1.0}))  # 4 - 8 < 0 where the word is flagged
    if split:
        rows += [({n: 1.0, 6: 1.0}, -6.0, {n: 2.0}) for n in range(6)]
    else:
        rows += [
            ({7 + i: 1.0, 6: 1.0}, -6.0, {LETTERS.index(word[0]): 2.0, 7 + i: 2.0})
            for i, word in enumerate(own)
            if flagged(i)
        ]
    encoder, decoder = torch.zeros(len(rows), WIDTH), torch.zeros(len(rows), WIDTH)
    for i, (reads, _, writes) in enumerate(rows):
        for at, value in reads.items():
            encoder[i, at] = value
        for at, value in writes.items():
            decoder[i, at] = value
    bias = torch.tensor([b for _, b, _ in rows])
    return Coder({SITE: encoder}, bias, {SITE: decoder}, {SITE: torch.zeros(WIDTH)})


def fits_of(model: Model, blocks: list[Coder], wanted: tuple[str, ...] = ("mean",)) -> list[Fitted]:
    generator = np.random.default_rng(0)
    ids = generator.integers(5, model.parts.d_vocab, size=(30, 24)).tolist()
    pieces = Pieces(ids, list(range(30)), 1)
    return fitted(model, asked(model, blocks, None, False).targets, pieces, wanted, seed=0, tick=idle)


@pytest.fixture
def own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "packaged", lambda: tuple(sorted(made_up_words())))


@pytest.mark.usefixtures("own_words")
def test_planted_absorption_is_found_word_by_word() -> None:
    model = speller()
    f1, full, part = absorption(model, fits_of(model, [absorbing(split=False)]), seed=0, tick=idle)
    own = words(model, 0)
    texts_of = {number: text for text, number in model.tokenizer.get_vocab().items()}
    names = [texts_of[i].removeprefix("Ġ") for i in own.ids]
    assert own.letters == LETTERS and sorted(names) == sorted(made_up_words())
    shares = []
    for n in range(6):
        tested = [names[i] for i in range(len(names)) if own.letter[i] == n and own.parts[i] == 2]
        shares.append(np.mean([flagged(made_up_words().index(word)) for word in tested]))
    row = full.rows[str(SITE)][DICTIONARY]
    assert full.raw[str(SITE)]["words found by the probe"] == full.raw[str(SITE)]["words"]  # the probe finds them all
    assert row.value == pytest.approx(np.mean(shares)) and row.value > 0.1
    assert part.rows[str(SITE)][DICTIONARY].value == pytest.approx(np.mean(shares))
    assert row.interval is not None and row.interval[0] < row.value < row.interval[1]
    assert 0.6 < (f1.rows[str(SITE)][DICTIONARY].value or 0) < 0.95  # main features miss what is absorbed
    assert f1.rows[str(SITE)]["dense_probe"].value == 1.0


@pytest.mark.usefixtures("own_words")
def test_a_second_main_feature_is_no_absorption() -> None:
    model = speller()
    f1, full, part = absorption(model, fits_of(model, [absorbing(split=True)]), seed=0, tick=idle)
    assert full.rows[str(SITE)][DICTIONARY].value == 0.0 == part.rows[str(SITE)][DICTIONARY].value
    assert f1.rows[str(SITE)][DICTIONARY].value == pytest.approx(1.0, abs=1e-6)
    assert full.raw[str(SITE)]["main features of a letter"] == 2.0


def test_shares_of_words_are_those_of_a_loop() -> None:
    generator = np.random.default_rng(3)
    values = np.where(generator.random((80, 12)) < 0.3, generator.random((80, 12)) * 3, 0.0)
    rows = generator.standard_normal((12, 6))
    probe = rows[0] + rows[1] + 0.5 * rows[2]
    probe /= np.linalg.norm(probe)
    along, cosine = rows @ probe, rows @ probe / np.linalg.norm(rows, axis=1)
    whole = np.abs(values @ along) + 0.3
    main = np.array([0, 3])
    full, part = 0, 0.0
    for word, projection in zip(values, whole):
        supplied = [word[i] * along[i] for i in range(12)]
        best = max(range(12), key=lambda i: supplied[i])
        full += bool(not word[main].any() and cosine[best] >= 0.025 and supplied[best] / projection >= 0.4)
        others = sorted(
            (supplied[i] for i in range(12) if i not in main and cosine[i] >= 0.1 and supplied[i] > 0), reverse=True
        )
        three, by_main = sum(others[:3]), sum(supplied[i] for i in main)
        if by_main >= projection or three / projection < 0.4:
            continue
        left = min(three, projection - by_main)
        part += 1.0 if by_main <= 0 else left / (left + by_main)
    assert letters._shares(values, along, cosine, main, whole) == pytest.approx((full / 80, part / 80))
    assert full > 0 and part > full * 0.5


def test_too_few_words_are_said() -> None:
    with pytest.raises(HookeError, match="single tokens for the words of 0 letters; 5 are needed"):
        words(word_model("llama", torch.float32), 0)


# ---- sparse probing -----------------------------------------------------------------------------


def test_a_planted_feature_is_found_and_shuffled_labels_are_chance() -> None:
    """One feature of 40 fires on w3 and nothing else: the word that makes the label."""
    model = word_model("llama", torch.float32)
    embedding = model.hf.model.embed_tokens.weight
    generator = torch.Generator().manual_seed(0)
    encoder = torch.randn(40, 32, generator=generator) * 0.1
    others = torch.cat([embedding[:3], embedding[4:]])
    direction = torch.linalg.lstsq(embedding - others.mean(0), (torch.arange(97) == 3).float()[:, None] * 5).solution[
        :, 0
    ]
    encoder[7] = direction
    values = embedding @ direction
    bias = torch.zeros(40)
    bias[7] = -(values[3] + torch.cat([values[:3], values[4:]]).max()) / 2
    block = Coder({SITE: encoder}, bias, {SITE: torch.randn(40, 32, generator=generator)}, {SITE: torch.zeros(32)})
    code = torch.relu(embedding @ encoder[7] + bias[7])
    assert code.nonzero().flatten().tolist() == [3]
    fits = fits_of(model, [block], ("untrained", "neurons", "pca"))
    (whole, *by_k), told = probing(model, fits, [statements()], seed=0, tick=idle)
    scores = told[0]["scores"]["1"]
    assert scores[DICTIONARY] == 1.0 and scores["dense_probe"] > 0.9
    assert set(scores) == {DICTIONARY, "untrained", "neurons", "pca", "shuffled_labels", "dense_probe"}
    assert by_k[0].rows[str(SITE)][DICTIONARY].value == 1.0
    assert whole.rows[str(SITE)][DICTIONARY].interval is None  # one task has no interval
    chance = [
        probing(model, fits, [statements()], seed=seed, tick=idle)[1][0]["scores"]["1"]["shuffled_labels"]
        for seed in range(4)
    ]
    assert abs(float(np.mean(chance)) - 0.5) < 0.2


def test_groups_stand_on_one_side() -> None:
    """Labels that follow from the group alone, at random, cannot be known of other groups."""
    model = word_model("llama", torch.float32)
    generator = np.random.default_rng(1)
    rows, labels = [], generator.permutation([0, 1] * 20)
    for group in range(40):
        for _ in range(5):
            rows.append(
                Row(
                    " ".join(f"w{w}" for w in [group + 3, *generator.integers(50, 90, 4)]),
                    int(labels[group]),
                    f"g{group}",
                )
            )
    data = Dataset("groups", "which group", ("a", "b"), tuple(rows))
    fits = fits_of(
        model, [Coder({SITE: torch.eye(32)}, torch.zeros(32), {SITE: torch.eye(32)}, {SITE: torch.zeros(32)})], ("pca",)
    )
    each = [
        probing(model, fits, [data], seed=seed, tick=idle)[1][0]["scores"]["16"]["dense_probe"] for seed in range(4)
    ]
    assert abs(float(np.mean(each)) - 0.5) < 0.2


def test_tasks_that_cannot_be() -> None:
    assert len(check_tasks((), 0)) >= 10
    with pytest.raises(HookeError, match="did you mean 'sentiment'"):
        check_tasks(("sentimental",), 0)
    with pytest.raises(HookeError, match="answers of an assistant"):
        check_tasks(("honesty",), 0)


# ---- text ---------------------------------------------------------------------------------------


def test_nothing_is_measured_on_that_was_trained_on(book: str, tmp_path: Path) -> None:
    model = word_model("llama", torch.float32)
    arguments: dict[str, Any] = {"text": [book], "tokens": 1500, "features": 16, "k": [4], "batch": 64, "context": 64}
    train(model, "topk", site=["resid_post.1"], out=tmp_path / "d", seed=5, **arguments)
    made = json.loads((tmp_path / "d" / "dictionary.json").read_text())["made"]
    keys, notes = trained_on(made)
    lines = [json.loads(line)["text"] for line in Path(book).read_text().splitlines()]
    trained = lines[: made["text"]["passages"]]
    assert keys == {key(line) for line in trained} and not notes
    found = texts(model, [book], made, tokens=900, context=32, seed=5, tick=idle)
    assert found.about["left_out"] == len(trained)
    whole = [model.tokenizer(line)["input_ids"] for line in trained]
    for piece in (*found.fit.ids, *found.test.ids):
        assert not any(piece == ids[: len(piece)] or piece == ids[32 : 32 + len(piece)] for ids in whole)
    others = {tuple(model.tokenizer(line)["input_ids"][:32]) for line in lines[len(trained) :]}
    first = {tuple(piece) for piece in found.test.ids if len(piece) == 32}
    assert len(first & others) > 10
    assert not {tuple(piece) for piece in found.fit.ids} & {tuple(piece) for piece in found.test.ids}
    with pytest.raises(HookeError, match=r"hold 5,.* tokens that were not trained on, and 9,000 to test"):
        texts(model, [book], made, tokens=9000, context=32, seed=5, tick=idle)
    # the file has changed since
    changed = tmp_path / "changed.jsonl"
    changed.write_text("\n".join(json.dumps({"text": line + " w5"}) for line in lines), encoding="utf-8")
    made["arguments"]["text"] = [str(changed)]
    assert "have changed since the training" in trained_on(made)[1][0]
    made["arguments"]["text"] = [str(tmp_path / "gone" / Path(book).name)]
    assert "cannot be read again" in trained_on(made)[1][0]
    assert trained_on(made, [book]) == (keys, [])  # the same file at another place
    assert "Nobody says which text" in trained_on({})[1][0]


def test_pieces_of_many_passages_come_first(book: str) -> None:
    model = word_model("llama", torch.float32)
    found = texts(model, [book], {}, tokens=900, context=24, seed=0, tick=idle)
    few = found.test.first(150)
    assert len(set(few.document)) == len(few.ids) and 120 < few.n_tokens <= 150
    assert found.test.skip == 1 and found.test.n_tokens >= 900
    rows = 0
    for batch in batched(model, found.test, 100):
        assert not bool(batch.inside[:, 0].any()) and int(batch.inside.sum()) == len(batch.document)
        assert torch.equal(batch.inside[:, 1:], batch.tokens.mask[:, 1:])
        rows += len(batch.document)
    assert rows == found.test.n_tokens
    drawn = draws(found.test.n_documents, 0)
    assert drawn.sum(1).tolist() == [found.test.n_documents] * len(drawn)
