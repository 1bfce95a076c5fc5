"""Labels: rules and scores against loops that do the obvious, features whose meaning is known, and features without."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hooke import Model
from hooke.dictionaries import neurons
from hooke.harvest import Plan
from hooke.methods.catalogue.atoms import Atoms, atoms_of, fold
from hooke.methods.catalogue.describe import Text, described
from hooke.methods.catalogue.outputs import OTHERS, output_scores, passages
from hooke.methods.catalogue.rules import Clause, base_of, corpus, rule_of
from hooke.methods.catalogue.score import LEVELS, aside_of, by_level, examples, judged, purity, scorable, scores
from hooke.methods.catalogue.tally import Tally, nothing
from hooke.methods.catalogue.weights import TOKENS, weights_of
from hooke.methods.catalogue.windows import AFTER, BEFORE, LONG, Windows
from hooke.methods.catalogue.words import output_text, rule_text
from hooke.model import Edit


@pytest.fixture(scope="module")
def atoms(glass: Model, planned: Plan) -> Atoms:
    return atoms_of(glass, np.bincount(planned.ids, minlength=glass.parts.d_vocab))


@pytest.fixture(scope="module")
def text(wins: Windows, atoms: Atoms) -> Text:
    plan = wins.plan
    piece = np.repeat(np.arange(len(plan.offsets) - 1), np.diff(plan.offsets))
    found = corpus(wins, atoms)
    return Text(found, base_of(found), aside_of(wins), wins.held_out[piece], wins.kind[piece])


def around(plan: Plan, at: int) -> list[int]:
    """The tokens near one, in its piece."""
    piece = int(np.searchsorted(plan.offsets, at, "right")) - 1
    first, last = int(plan.offsets[piece]) + plan.skip, int(plan.offsets[piece + 1])
    return [t for t in range(at - BEFORE, at + AFTER + 1) if first <= t < last]


def says(atoms: Atoms, plan: Plan, rule: tuple[Clause, ...], at: int) -> bool:
    """A rule by its words, one token at a time."""
    near = around(plan, at)
    for place, some in rule:
        members = {int(i) for atom in some for i in atoms.members(atom)}
        wanted = {
            "on": [at],
            "after": [t for t in near if t == at - 1],
            "near": [t for t in near if t < at],
        }[place]
        if not any(int(plan.ids[t]) in members for t in wanted):
            return False
    return True


def test_a_rule_says_what_its_words_say(planned: Plan, wins: Windows, atoms: Atoms, text: Text) -> None:
    rng = np.random.default_rng(0)
    some = [int(a) for a in rng.choice(np.flatnonzero(atoms.sizes > 3), 8)]
    rules = [
        (Clause("on", (some[0], some[1])),),
        (Clause("after", (some[2],)), Clause("on", (some[3], some[4]))),
        (Clause("near", (some[5],)), Clause("after", (some[6], some[7]))),
    ]
    at = rng.choice(len(planned.ids), 300)
    for rule in rules:
        assert text.corpus.says(rule, at).tolist() == [says(atoms, planned, rule, int(t)) for t in at]


def test_scores_are_those_of_a_loop(planned: Plan, wins: Windows, atoms: Atoms, text: Text) -> None:
    """Detection and fuzzing of made-up features, window by window."""
    rng = np.random.default_rng(1)
    tally = made_up(planned, wins, rng, lambda token: rng.random() if token % 29 == 0 else 0.02)
    some = [examples(tally, row, text.held_out, silent=False) for row in range(4)]
    tests = [one.part(one.held_out) for one in some]
    sample = tally.sample.float().numpy()
    judge = judged(text.corpus, tests, sample, text.aside, text.kind_of)
    rule = (Clause("on", (int(atoms.number["parts of words"]),)),)
    found = scores(judge, text.corpus.says(rule, judge.tokens))
    for i, one in enumerate(tests):
        right = [any(says(atoms, planned, rule, t) for t in around(planned, int(at))) for at in one.at]
        quiet = sample[i, text.aside.place] <= one.bar / 2
        wrong = [any(says(atoms, planned, rule, t) for t in around(planned, int(at))) for at in text.aside.at[quiet]]
        assert found.detection[i] == pytest.approx((np.mean(right) + 1 - np.mean(wrong)) / 2)
        hit, miss = [], []
        for at, near in zip(one.at, one.near, strict=True):
            hit.append(says(atoms, planned, rule, int(at)))
            for j, t in enumerate(range(int(at) - BEFORE, int(at) + AFTER + 1)):
                if t in around(planned, int(at)) and t != at and near[j] < one.bar / 2:
                    miss.append(says(atoms, planned, rule, t))
        assert found.fuzzing[i] == pytest.approx((np.mean(hit) + 1 - np.mean(miss)) / 2)
        told = by_level(one.level, found.right[judge.own[i] : judge.own[i + 1]], float(found.wrong[i]))
        assert len(told) == LEVELS


def made_up(plan: Plan, wins: Windows, rng: np.random.Generator, value: object, rows: int = 4) -> Tally:
    """What a pass would keep of features of which `value(token id)` is the activation on a token."""
    tally = nothing(rows, 1, LONG, len(wins.aside))
    n = tally.value.shape[1]
    acts = np.array([[value(int(i)) for i in plan.ids] for _ in range(rows)], np.float32)  # type: ignore[operator]
    told = np.flatnonzero(wins.told)
    for row in range(rows):
        at = rng.choice(told, n, replace=False, p=acts[row, told] ** 3 / (acts[row, told] ** 3).sum())
        tally.at[row], tally.value[row] = torch.from_numpy(at), torch.from_numpy(acts[row, at])
        for k, t in enumerate(at):
            for j, near in enumerate(range(int(t) - BEFORE, int(t) + AFTER + 1)):
                if near in around(plan, int(t)):
                    tally.near[row, k, j] = min(255, round(float(acts[row, near] / acts[row, t] * 255)))
        for (piece, number), place in wins.aside.items():
            start = int(plan.offsets[piece]) + plan.skip + number * 32
            tally.sample[row, place] = float(acts[row, start : start + 32].max())
    tally.count += 1
    return tally


def test_a_feature_that_fires_on_a_word_is_said_to(planned: Plan, wins: Windows, atoms: Atoms, text: Text) -> None:
    """Of 24 features eight fire on words of one list, the others on anything: the first have labels, of the others as
    few as chance gives."""
    rng = np.random.default_rng(2)
    counts = np.bincount(planned.ids, minlength=atoms.of_token.shape[0])
    common = [int(i) for i in np.argsort(-counts)[60:100]]
    known = [made_up(planned, wins, rng, lambda t, w=word: 1.0 if t == w else 0.02, 1) for word in common[:8]]
    noise = made_up(planned, wins, rng, lambda t: 1.0 if rng.random() < 0.01 else 0.02, 16)
    everywhere = made_up(planned, wins, rng, lambda t: 0.6 + rng.random(), 2)
    parts = [*known, noise, everywhere]
    tally = Tally(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(noise)))
    some, found = described(text, tally, silent=False, seed=0, tick=lambda done: None)
    enough = [scorable(one, tally.sample[row, text.aside.place].numpy()) for row, one in enumerate(some)]
    assert not any(enough[24:])  # what fires everywhere cannot be scored
    assert [one.holds for one in found[:8]] == enough[:8] and sum(enough[:8]) >= 5
    for one, word in [pair for pair in zip(found[:8], common, strict=False) if pair[0].rule]:
        atom = int(atoms.word_of_token[word])
        assert any(atom in clause.atoms for clause in one.rule) or word in set(
            atoms.mask(one.rule[0].atoms).nonzero()[0]
        )
        assert one.score is not None and one.score > 0.85
    assert sum(one.holds for one in found[8:]) <= 3
    scored = [one.score for one in found[8:] if one.score is not None]
    assert not scored or 0.35 < float(np.mean(scored)) < 0.65


def test_what_is_made_from_is_never_scored_on(planned: Plan, wins: Windows, text: Text) -> None:
    tally = made_up(planned, wins, np.random.default_rng(3), lambda t: 1.0, 1)
    one = examples(tally, 0, text.held_out, silent=False)
    documents = planned.document[np.searchsorted(planned.offsets, one.at, "right") - 1]
    assert not set(documents[one.held_out]) & set(documents[~one.held_out])
    assert text.aside.at.size and text.held_out[text.aside.at].all()
    assert not text.held_out[text.corpus.common].any()


def test_a_rule_needs_examples_that_agree(text: Text) -> None:
    assert rule_of(text.corpus, text.base, text.corpus.common[:2]) is None


@pytest.mark.parametrize("seed", range(3))
def test_purity_is_what_scikit_learn_says(seed: int) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(seed)
    yes, x = rng.random(200) < 0.3, rng.random(200)
    responds, pure = purity(yes, x)
    assert responds == pytest.approx(roc_auc_score(yes, x)) and pure == pytest.approx(average_precision_score(yes, x))
    assert purity(np.zeros(50, bool), x[:50]) == (None, None)


def test_what_weights_say_of_neurons(glass: Model) -> None:
    """Promoted tokens by a product in double precision, read ones by running the block on one embedding."""
    block = neurons(glass)[1]
    found = weights_of(glass, block, lambda done: None)
    layer = glass.hf.model.layers[1]
    down = layer.mlp.down_proj.weight.detach().double()
    effects = (down.T * glass.hf.model.norm.weight.double()) @ glass.hf.lm_head.weight.double().T
    effects = effects - effects.mean(1, keepdim=True)
    with torch.no_grad():
        x = layer.post_attention_layernorm(glass.hf.model.embed_tokens.weight)
        acts = layer.mlp.act_fn(layer.mlp.gate_proj(x)) * layer.mlp.up_proj(x)
    for row in (0, 7, 2 * block.n_features - 1):
        sign = 1 - 2 * (row % 2)
        own = sign * effects[row // 2]
        assert found.promotes[row].tolist() == own.topk(TOKENS).indices.tolist()
        assert found.suppresses[row].tolist() == (-own).topk(TOKENS).indices.tolist()
        assert float(found.clear[row]) == pytest.approx(float(own.max() / own.std()), rel=1e-3)
        torch.testing.assert_close(
            found.read[row], (sign * acts[:, row // 2]).topk(TOKENS).values, atol=1e-4, rtol=1e-3
        )


def test_output_scores_are_those_of_edited_runs(glass: Model) -> None:
    """Every feature set with `Edit` in a whole run; its own tokens against the same random ones."""
    block = neurons(glass)[2]
    weights = weights_of(glass, block, lambda done: None)
    largest = torch.rand(2 * block.n_features, generator=torch.Generator().manual_seed(0)) + 0.5
    clean = passages(glass, [block])
    own, bars = output_scores(
        glass, block, weights.promotes, largest, clean, seed=0, tick=lambda done: None
    )  # fmt: skip
    random = np.random.default_rng([0, 4]).integers(glass.parts.d_vocab, size=512)
    assert bars.shape == own.shape and np.isfinite(bars).all() and OTHERS == 100
    for row in (1, 4, 99):
        ranks = []
        for base in clean:
            value = float(largest[row]) * (1 - 2 * (row % 2))
            edit = Edit(block.site, value=value, index=[row // 2], positions=[-1])
            run = glass.run(base.tokens, edits=edit, logits="last")
            assert run.logits is not None
            moved = (run.logits[0] - base.logits).numpy()
            ranks += [np.mean(moved[random] < moved[int(t)]) for t in weights.promotes[row]]
        assert own[row] == pytest.approx(np.mean(ranks), abs=0.02)


def test_descriptions_in_words(atoms: Atoms, glass: Model) -> None:
    number = atoms.number
    some = [a for a in range(atoms.words) if len(atoms.names[a]) > 3][:2]
    assert rule_text(atoms, (Clause("on", (number["modal verbs"],)),)) == "on modal verbs"
    said = rule_text(atoms, (Clause("after", (some[0], some[1])), Clause("near", (number["numbers"],))))
    assert said == f"after {atoms.names[some[0]]} or {atoms.names[some[1]]}, soon after numbers"
    texts = glass.vocabulary()
    digits = np.array([i for i, t in enumerate(texts) if t.strip().isdigit()])[:TOKENS]
    told = output_text(atoms, texts, digits)
    assert told.startswith("makes ‘") and told.endswith("likelier") and ("(numbers)" in told) == (len(digits) >= 4)
    assert fold(" Paris") == "paris" and fold("\n") == "⏎" and fold("  ") == "  "
