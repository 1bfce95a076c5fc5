"""Probes: a concept that is there is found, one that is not is not, and what must be refused is."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from families import model_of, random_ids
from hooke import HookeError, Model, Result
from hooke.cli import main
from hooke.data.labelled.rows import Dataset, Row, check_rows
from hooke.dictionaries import Direction, check_dictionary, neurons
from hooke.harvest import Wanted, harvest
from hooke.methods.probe import probe, random_twin
from hooke.methods.probe.choice import KINDS
from hooke.methods.probe.explain import _neurons, _parts, probe_explain
from hooke.methods.probe.judge import probe_test
from hooke.methods.probe.parts import Block
from hooke.methods.probe.score import blocks_of, check_belongs, directions, load_probe, score
from hooke.methods.splits import folds, hold_out
from hooke.sites import Site
from made_up import filled, forged

WHO = ["Alice", "The cat", "A rabbit", "The queen", "My sister", "The cook", "Our king", "A mouse", "The duchess", "He"]
PLACES = ("wood", "hall", "garden", "kitchen", "river", "pool")
VERBS = (
    ["walked", "looked", "waited", "talked", "turned", "jumped"],
    ["walks", "looks", "waits", "talks", "turns", "jumps"],
)


def tense(*, random_labels: bool = False, seed: int = 0) -> Dataset:
    """Past against present, a thing that a small model knows: topics are places, two of them held out."""
    rng = random.Random(seed)
    rows = []
    for place in PLACES:
        for who in WHO:
            for i in range(6):
                coin = rng.random() < 0.5
                for label in (1, 0):
                    verb = VERBS[0][i] if label else VERBS[1][i]
                    told = label if not random_labels else int(coin) if label else 1 - int(coin)
                    group = f"{place} {who} {i}"
                    rows.append(Row(f"{who} {verb} in the {place}.", told, group, place, group))
    return Dataset("tense", "The verb is in the past.", ("present", "past"), tuple(rows), ("river", "pool"))


@pytest.fixture(scope="module")
def fitted(glass: Model) -> Result:
    return probe(glass, tense(), kind=["logistic", "means"])


def test_a_concept_that_is_there_is_found_beside_its_controls(glass: Model, fitted: Result) -> None:
    p = fitted.payload
    shifted = p["tests"][-1]
    assert shifted["part"] == "all shifts" and shifted["n"] == 240
    assert shifted["auroc"] > 0.95 and shifted["interval"][0] > 0.9
    for control in ("random_direction", "shuffled_labels", "length", "log_probability"):
        assert shifted["baselines"][control]["auroc"] < 0.9, control
    assert p["validation"]["split"] == "topics left out" and p["positive"] == "past"
    assert p["n_candidates"] == 4 * 2 * (4 + 1)  # layers, pools, strengths and the one of means
    assert len(p["layer_curve"]["auroc"]) == 4 and max(p["layer_curve"]["random_direction"]) < 0.9
    assert fitted.claims[0].text == p["sentence"]


def test_a_concept_that_is_not_there_is_not_found(glass: Model) -> None:
    """The whole pipeline on labels drawn by a coin: the score on what was held out stays at chance."""
    result = probe(glass, tense(random_labels=True), kind=["logistic", "lda"], random_weights=False)
    low, high = result.payload["tests"][-1]["interval"]
    assert low < 0.5 < high or abs(result.payload["tests"][-1]["auroc"] - 0.5) < 0.08


def test_nothing_held_out_was_fitted_to(fitted: Result) -> None:
    data = tense()
    known = set(fitted.payload["dataset"]["fitted_to"])
    assert not known & {row.key for row in data.shifted}
    left, right = hold_out(data.train)
    assert {row.key for row in (data.train[i] for i in left)} == known
    groups = [row.group for row in data.train]
    assert not {groups[i] for i in left} & {groups[i] for i in right}


def test_folds_leave_topics_or_groups_out() -> None:
    data = tense()
    made, told = folds(data.train)
    assert told == "topics left out" and len(made) == 4
    for train, test in made:
        assert not {data.train[i].topic for i in train} & {data.train[i].topic for i in test}
    one_topic = [row for row in data.train if row.topic == "wood"]
    made, told = folds(one_topic)
    assert told == "groups left out"
    for train, test in made:
        assert not {one_topic[i].group for i in train} & {one_topic[i].group for i in test}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_works_end_to_end(glass: Model, kind: str) -> None:
    point = "mlp_act" if kind == "sparse" else "resid_post"
    result = probe(glass, tense(), kind=kind, site=point, random_weights=False)
    assert result.payload["kind"] == kind
    # without labels, on a tiny random model, a direction hangs on how its training rounds
    assert result.payload["tests"][-1]["auroc"] > (0.6 if kind == "ccs" else 0.75)
    rows = tense().shifted[:6]
    values = score(glass, result, rows).values
    sites = [b.site for b in blocks_of(result)]
    kept = harvest(glass, rows, Wanted.of(glass, sites=sites, tokens=sites))
    slow = np.zeros(6)
    for block in blocks_of(result):  # the score, from the definition
        for i in range(6):
            x = kept.tokens[block.site][kept.rows(i)]
            v = x @ block.direction + block.bias
            if block.pool == "last":
                slow[i] += v[-1]
            elif block.pool == "mean":
                slow[i] += v.mean()
            else:
                weight = np.exp(x @ block.query - (x @ block.query).max())
                slow[i] += (v * weight).sum() / weight.sum()
    assert np.allclose(values, slow, atol=1e-2)


@pytest.mark.parametrize("pool", ["max", "ema", "rolling"])
def test_pools_over_tokens(glass: Model, pool: str) -> None:
    result = probe(glass, tense(), kind="logistic", pool=pool, random_weights=False)
    assert {b["pool"] for b in result.payload["blocks"]} == {pool}
    assert result.payload["tests"][-1]["auroc"] > 0.7


def test_a_probe_is_a_dictionary_of_one_feature(glass: Model, fitted: Result) -> None:
    (direction,) = directions(fitted)
    x = glass.run("Alice walked in the wood.", read=[direction.site]).acts[direction.site][0]
    check_dictionary(direction, {direction.site: x})
    for positions, aim in ((None, 3.0), (torch.tensor([1, 2]), torch.tensor([2.0, -1.0]))):
        edits = direction.edits(torch.tensor([0]), aim, positions)
        after = glass.run("Alice walked in the wood.", read=[direction.site], edits=edits).acts[direction.site][0]
        at = slice(None) if positions is None else positions
        wanted = torch.as_tensor(aim).expand(len(after[at]))
        assert torch.allclose(direction.values(after)[at], wanted, atol=1e-2)
        rest = after - torch.outer(after @ direction.direction, direction.direction) / direction.direction.norm() ** 2
        before = x - torch.outer(x @ direction.direction, direction.direction) / direction.direction.norm() ** 2
        assert torch.allclose(rest, before, atol=1e-3)  # nothing else moves
    with pytest.raises(HookeError, match="zero"):
        Direction(Site("resid_post", 0), torch.zeros(3))


def test_scores_are_log_odds_and_tokens_add_up(glass: Model, fitted: Result) -> None:
    rows = tense().shifted
    found = score(glass, fitted, rows)
    chance = 1 / (1 + np.exp(-found.values))
    labels = np.array([row.label for row in rows])
    assert np.square(chance - labels).mean() < 0.2  # 0.25 is a coin's
    for values, texts, row in zip(found.tokens, found.texts, rows):
        assert len(values) == len(texts) and "".join(texts).strip() == row.text


def test_saved_and_loaded_it_scores_the_same(glass: Model, fitted: Result, tmp_path: Path) -> None:
    fitted.save(tmp_path / "probe.json")
    again = load_probe(tmp_path)
    assert again.id == fitted.id
    rows = tense().shifted[:8]
    assert np.array_equal(score(glass, again, rows).values, score(glass, fitted, rows).values)


def test_a_test_on_new_rows_has_everything(glass: Model, fitted: Result) -> None:
    data = tense()
    result = probe_test(glass, fitted, replace(data, rows=data.shifted, shifts=()), benign=1000)
    p = json.loads(result.to_json())["payload"]
    assert p["auroc"] == pytest.approx(fitted.payload["tests"][-1]["auroc"], abs=1e-6)  # the same rows
    for name in ("bag_of_words", "log_probability", "length", "random_direction", "shuffled_labels", "random_weights"):
        low, high = p["baselines"][name]["interval"]
        assert low <= p["baselines"][name]["auroc"] <= high
    assert p["gain_interval"][0] <= p["gain"] <= p["gain_interval"][1]
    assert p["best_baseline"] == max(p["baselines"], key=lambda n: p["baselines"][n]["auroc"])
    one, tenth = p["recall_at_fpr"]
    assert one["refused"] is None and 0 <= one["recall"] <= 1 and one["n_benign"] == 1000
    assert tenth["recall"] is None and "10,000" in tenth["refused"]
    assert p["overlap"] == {"same_dataset": False, "rows_seen_in_fitting": 0}
    assert result.parents == [fitted.id] and result.claims[0].evidence[-1] == fitted.id
    assert len(p["roc"]["fpr"]) == len(p["roc"]["tpr"]) and p["calibration"]["bins"]
    assert {t["topic"] for t in p["topics"]} == {"river", "pool"}
    for m in p["mistakes"]:
        assert (m["score"] > 0) != (m["label"] == 1) and len(m["tokens"]) == len(m["token_scores"])


def test_a_test_on_fitted_rows_says_so(glass: Model, fitted: Result) -> None:
    data = tense()
    result = probe_test(glass, fitted, replace(data, rows=data.train[:40], shifts=()), benign=0)
    assert result.payload["overlap"]["rows_seen_in_fitting"] > 20
    assert any("fitted to" in note for note in result.payload["notes"])
    assert any("No recall" in note or "no recall" in note for note in result.payload["notes"])


def test_one_class_leaks_and_unknown_names_are_refused(glass: Model) -> None:
    data = tense()
    ones = replace(data, rows=tuple(row for row in data.rows if row.label == 1))
    with pytest.raises(HookeError, match="label 1 only"):
        probe(glass, ones)
    leaking = replace(data, rows=(*data.rows, replace(data.rows[0], text="Another one.", topic="elsewhere")))
    with pytest.raises(HookeError, match="stands in topics"):
        probe(glass, leaking)
    both = replace(data, rows=(*data.rows, replace(data.rows[0], label=0)))
    with pytest.raises(HookeError, match="stands before with the other"):
        probe(glass, both)
    few = replace(data, rows=data.rows[:8])
    with pytest.raises(HookeError, match="at least 10"):
        probe(glass, few)
    with pytest.raises(HookeError, match="no kind of probe called 'svm'"):
        probe(glass, data, kind="svm")
    with pytest.raises(HookeError, match="no pool"):
        probe(glass, data, pool="median")
    with pytest.raises(HookeError, match=r"no site resid_post\.99"):
        probe(glass, data, site="resid_post.99")
    with pytest.raises(HookeError, match="no data set"):
        probe(glass, "truths")
    with pytest.raises(HookeError, match="label 2"):
        check_rows([Row("a", 2, "g")], "it")


def test_a_probe_of_another_model_is_refused_by_name_of_the_difference(glass: Model, fitted: Result) -> None:
    rows = tense().shifted[:4]
    twin = random_twin(glass)
    with pytest.raises(HookeError, match=r"differs .* in its weights .*--transfer"):
        score(twin, fitted, rows)
    assert len(score(twin, fitted, rows, transfer=True).values) == 4
    assert check_belongs(glass, fitted) == []
    for key, word in (("tokenizer_sha256", "tokenizer"), ("chat_template_sha256", "chat template"), ("dtype", "dtype")):
        other = fitted.model_copy(deep=True)
        other._tensors = fitted.tensors
        other.payload["belongs_to"][key] = "else"
        with pytest.raises(HookeError, match=word):
            score(glass, other, rows)
    with pytest.raises(HookeError, match=r"does not have|coordinates"):
        other = fitted.model_copy(deep=True)
        other._tensors = fitted.tensors
        other.payload["blocks"] = [{"site": "resid_post.77", "pool": "last"}]
        score(glass, other, rows)


def test_a_transferred_probe_records_it(glass: Model, fitted: Result) -> None:
    data = tense()
    result = probe_test(
        random_twin(glass), fitted, replace(data, rows=data.shifted, shifts=()), benign=0, transfer=True
    )
    assert result.arguments["transfer"] is True and "weights" in result.payload["differs"][0]
    assert abs(result.payload["auroc"] - 0.5) < 0.25  # random weights know nothing of it


def test_damaged_probes_are_refused_in_a_line(fitted: Result, tmp_path: Path) -> None:
    fitted.save(tmp_path / "probe.json")
    (tmp_path / "probe.safetensors").unlink()
    with pytest.raises(HookeError, match="missing or damaged"):
        load_probe(tmp_path)
    Result.make("tasks", payload=filled("tasks")).save(tmp_path / "probe.json")
    with pytest.raises(HookeError, match="not a probe"):
        load_probe(tmp_path)
    with pytest.raises(HookeError, match="no file"):
        load_probe(tmp_path / "nowhere")
    broken = fitted.model_copy(deep=True)
    broken._tensors = {**fitted.tensors, "probe.direction": fitted.tensors["probe.direction"] * np.nan}
    broken = forged(broken)
    broken.save(tmp_path / "nan.json")
    with pytest.raises(HookeError, match="finite"):
        load_probe(tmp_path / "nan.json")


def test_equal_work_gives_an_equal_probe(glass: Model) -> None:
    one, two = (probe(glass, tense(), kind="means", random_weights=False) for _ in range(2))
    assert np.array_equal(one.tensors["probe.direction"], two.tensors["probe.direction"])
    assert one.payload["tests"] == two.payload["tests"]


def test_a_stop_from_outside_stops(glass: Model) -> None:
    class Stop(Exception):
        pass

    def progress(stage: str, done: float) -> None:
        if stage == "fit" and done > 0.3:
            raise Stop

    with pytest.raises(Stop):
        probe(glass, tense(), progress=progress)


def test_the_command_line_fits_and_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str], glass: Model) -> None:
    data = tense()
    lines = [json.dumps({"text": r.text, "label": r.label, "group": r.group, "topic": r.topic}) for r in data.train]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    lines = [json.dumps({"text": r.text, "label": r.label, "group": r.group}) for r in data.shifted]
    (tmp_path / "test.jsonl").write_text("\n".join(lines))
    out = tmp_path / "probes" / "tense"
    for words in (
        ["fit", str(tmp_path / "train.jsonl"), "--kind", "means", "--out", str(out), "--json"],
        ["fit", str(tmp_path / "train.jsonl"), "--kind", "means", "--no-random-weights"],
        ["test", str(out), "--data", str(tmp_path / "test.jsonl"), "--benign", "50"],
        ["test", str(out), "--data", str(tmp_path / "test.jsonl"), "--benign", "50", "--json"],
    ):
        with (
            patch("hooke.model.load.load", return_value=glass),
            patch.object(sys, "argv", ["hooke", "probe", *words]),
            pytest.raises(SystemExit) as end,
        ):
            main()
        assert not end.value.code
        said = capsys.readouterr().out
        if "--json" in words:
            payload = json.loads(said)["payload"]
            assert payload["sentence"] and str(tmp_path) not in payload["sentence"]
        else:
            assert "AUROC" in said
    assert (out / "probe.json").exists() and (out / "probe.safetensors").exists()
    assert payload["auroc"] > 0.8


def test_a_score_splits_exactly_and_its_neurons_are_tested(glass: Model) -> None:
    fitted = probe(glass, tense(), kind="ensemble", random_weights=False)
    for text in ("The cat walked in the river.", "My sister talks in the pool."):
        result = probe_explain(glass, fitted, text, neurons=10)
        p = result.payload
        assert p["score"] == pytest.approx(float(score(glass, fitted, [Row(text, 0, "g")]).values[0]), abs=1e-3)
        assert abs(p["remainder"]) < 1e-3 * max(1.0, abs(p["score"]))  # the parts add up to the score
        mlp = sum(part["value"] for part in p["parts"] if part["part"].startswith("mlp_out"))
        every = probe_explain(glass, fitted, text, neurons=glass.parts.d_mlp * 4, controls=1).payload["neurons"]
        assert sum(n["contribution"] for n in every) == pytest.approx(mlp, abs=1e-3)  # neurons add up to the MLPs
        side = np.sign(p["score"])
        assert all(side * n["contribution"] > 0 for n in p["neurons"])
        assert p["predicted"] == pytest.approx(-sum(n["contribution"] for n in p["neurons"]))
        confirmed = p["share"] > max(p["share_of_random_directions"]) and abs(p["measured"]) > max(
            map(abs, p["random"])
        )
        assert p["share"] * -p["measured"] * side > 0
        assert result.claims[0].verdict == ("tested" if confirmed else "refuted")


def test_a_sparse_probe_reads_the_features_of_a_dictionary(glass: Model) -> None:
    """Neurons are a dictionary and a site, so both ways must give one probe."""
    some = neurons(glass)[2:4]
    at = [str(Site("mlp_act", d.reads[0].layer)) for d in some]
    coded = probe(glass, tense(), kind="sparse", dictionaries=some)
    plain = probe(glass, tense(), kind="sparse", site=at)
    assert coded.payload["strength"] == plain.payload["strength"] and coded.payload["pool"] == plain.payload["pool"]
    assert coded.payload["dictionaries"] == {str(d.reads[0]): d.hash for d in some}
    found, expected = blocks_of(coded)[0], blocks_of(plain)[0]
    assert np.count_nonzero(found.direction) == plain.payload["strength"]
    np.testing.assert_allclose(found.direction, expected.direction, rtol=1e-3, atol=1e-4)
    rows = tense(seed=1).shifted[:20]
    np.testing.assert_allclose(
        score(glass, coded, rows, dictionaries=some).values, score(glass, plain, rows).values, rtol=1e-3, atol=1e-3
    )
    tested = probe_test(glass, coded, replace(tense(), rows=tuple(rows)), benign=100, dictionaries=some)
    again = probe_test(glass, plain, replace(tense(), rows=tuple(rows)), benign=100)
    assert tested.payload["auroc"] == again.payload["auroc"]
    with pytest.raises(HookeError, match="reads the features of the dictionary neurons"):
        score(glass, coded, rows)
    with pytest.raises(HookeError, match="features of a dictionary"):
        directions(coded)
    with pytest.raises(HookeError, match="only a probe of the residual stream"):
        probe_explain(glass, coded, rows[0].text)


@pytest.mark.parametrize("kind", ["lat", "ccs", "logistic"])
def test_shuffled_labels_teach_nothing(glass: Model, kind: str) -> None:
    found = probe(glass, tense(), kind=kind, site="resid_post.3", random_weights=False)
    held = found.payload["tests"][-1]
    assert held["auroc"] > 0.65 and held["baselines"]["shuffled_labels"]["auroc"] < held["auroc"] - 0.1


def test_a_random_direction_is_hardly_ever_confirmed(glass: Model, fitted: Result) -> None:
    """A probe whose direction is noise: its strongest neurons move its score, and so do those of any direction."""
    confirmed = 0
    for seed in range(8):
        w = np.random.default_rng(seed).standard_normal(fitted.tensors["probe.direction"].shape).astype(np.float32)
        noise = Result.make(
            "probe",
            payload=fitted.payload,
            provenance=fitted.provenance,
            tensors={**fitted.tensors, "probe.direction": w},
        )
        told = probe_explain(glass, noise, "Alice walked in the wood.", neurons=10, seed=seed)
        confirmed += told.claims[0].verdict == "tested"
    assert confirmed <= 4


def test_an_altered_probe_is_refused(fitted: Result, tmp_path: Path) -> None:
    fitted.save(tmp_path / "probe.json")
    text = (tmp_path / "probe.json").read_text()
    (tmp_path / "probe.json").write_text(text.replace('"positive":"past"', '"positive":"future"'))
    with pytest.raises(HookeError, match="was altered"):
        load_probe(tmp_path)


def test_weights_in_memory_have_a_hash_of_their_own(glass: Model, fitted: Result) -> None:
    twin = random_twin(glass)
    twin.name, twin.info = glass.name, {}
    bare = Model(glass.hf, glass.tokenizer, name=glass.name, info={})
    assert bare.weights_hash() != twin.weights_hash() == twin.weights_hash()
    own = probe(bare, tense(), kind="means", site="resid_post.3", random_weights=False)
    with pytest.raises(HookeError, match="in its weights"):
        check_belongs(twin, own)
    check_belongs(bare, own)


@pytest.mark.parametrize("family", ["gemma2", "olmo2", "qwen2"])
def test_neurons_add_up_behind_a_post_norm(family: str) -> None:
    """The same exact split where the MLP's output passes a norm, on random weights."""
    model = model_of(family)
    sites = [Site("resid_pre", 0)]
    points = ["attn_out", "mlp_out", "mlp_act", "resid_post", "mlp_post_scale"]
    sites += [s for s in model.sites if s.point in points]
    acts = model.run(random_ids(1, 9), read=sites, logits=None).acts
    rng = np.random.default_rng(0)
    block = Block(Site("resid_post", 2), "mean", rng.standard_normal(model.parts.d_model).astype(np.float32), 0.5)
    weight = rng.random(9)
    parts = {part["part"]: part["value"] for part in _parts([block], [weight], acts)}
    value = weight @ (acts["resid_post.2"][0].numpy() @ block.direction + block.bias)
    assert sum(parts.values()) == pytest.approx(value, abs=1e-3)
    each = _neurons(model, [block], [weight], acts)
    for layer in range(3):
        assert each[layer].sum() == pytest.approx(parts[f"mlp_out.{layer}"], abs=1e-3)


@pytest.mark.parametrize(
    "words, told",
    [
        (["fit", "truths"], "did you mean 'truth'"),
        (["fit", "nowhere.csv"], "no file"),
        (["fit", "{here}/bad.jsonl"], "line 2"),
        (["fit", "{here}/ones.jsonl"], "label 1 only"),
        (["fit", "{here}/good.jsonl", "--kind", "svm"], "no kind of probe"),
        (["fit", "{here}/good.jsonl", "--out", "{here}/good.jsonl"], "is a file"),
        (["fit", "{here}/words.jsonl"], "--positive"),
        (["test", "{here}", "--data", "{here}/good.jsonl"], "no file"),
        (["test", "{here}", "--data", "truth", "--benign", "nowhere.csv"], "no file"),
        (["explain", "{here}/nowhere", "Hello."], "no file"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], glass: Model
) -> None:
    good = [json.dumps({"text": r.text, "label": r.label, "group": r.group}) for r in tense().rows[:80]]
    (tmp_path / "good.jsonl").write_text("\n".join(good))
    (tmp_path / "bad.jsonl").write_text(good[0] + '\n{"text": "no label"}\n')
    (tmp_path / "ones.jsonl").write_text("\n".join(line for line in good if '"label": 1' in line))
    (tmp_path / "words.jsonl").write_text(
        "\n".join(good).replace('"label": 1', '"label": "yes"').replace(": 0", ': "no"')
    )
    before = sorted(tmp_path.iterdir())
    with (
        patch("hooke.model.load.load", return_value=glass),
        patch.object(sys, "argv", ["hooke", "probe", *(w.replace("{here}", str(tmp_path)) for w in words)]),
        pytest.raises(SystemExit) as end,
    ):
        main()
    said = capsys.readouterr()
    assert end.value.code == 2 and said.out == ""
    assert told in said.err and len(said.err.strip().splitlines()) == 1, said.err
    assert sorted(tmp_path.iterdir()) == before  # nothing was left behind


def test_interrupted_fits_leave_only_what_they_can_use_again(tmp_path: Path, glass: Model) -> None:
    class Stop(BaseException):
        pass

    def progress(stage: str, done: float) -> None:
        if stage == "fit":
            raise Stop

    with pytest.raises(Stop):
        probe(glass, tense(), keep=tmp_path / "kept", progress=progress)
    assert all(path.suffix == ".safetensors" for path in (tmp_path / "kept").iterdir())
    fresh = probe(glass, tense(), kind="means", random_weights=False)
    again = probe(glass, tense(), kind="means", random_weights=False, keep=tmp_path / "kept")
    assert np.allclose(fresh.tensors["probe.direction"], again.tensors["probe.direction"])
