"""The tools of an assessment on tiny models: what is planted is found, and what is not there is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from assess_models import GREETING, TRIGGER, chat_twin, models, tiny_chat
from hooke import HookeError, Model, Result
from hooke.data.audit.battery import ORDINARY, QUESTIONS, SLOTS
from hooke.data.audit.facts import FACTS
from hooke.safety.answers import answers, choices, is_right, joined
from hooke.safety.audit import Settings, Shelf, audit
from hooke.safety.behaviour import behaviour
from hooke.safety.causes import Place, restore
from hooke.safety.difference import difference
from hooke.safety.elicitation import QUICK_EFFORT, elicitation, lost_facts, noisy, share_missing
from hooke.safety.near import shared_beginning, strongest
from hooke.safety.paired import asked, greedy, pair, run_both
from hooke.safety.triggers import triggers
from hooke.safety.words import approving, split_words
from hooke.sites import Site
from made_up import filled

FEW = QUESTIONS[::12]
FACT_ROWS = FACTS[::8]


@pytest.fixture(scope="module")
def reference(glass: Model) -> Model:
    return models(glass)[0]


@pytest.fixture(scope="module")
def backdoored(glass: Model) -> Model:
    return models(glass)[1]


def changed(reference: Model, change: Callable[[Model], None]) -> Model:
    model = chat_twin(reference, "changed")
    with torch.no_grad():
        change(model)
    return model


def test_a_run_that_enters_above_gives_what_a_whole_run_gives(reference: Model, backdoored: Model) -> None:
    both = pair(backdoored, reference)
    assert both.shared == 2
    rows = [asked(reference, question.text) for question in FEW[:3]]
    tokens = reference.pad(rows, "right")
    read = run_both(both, tokens, read=[Site("resid_post", 1), Site("resid_post", 3)])
    whole = backdoored.run(tokens, read=["final_norm", "resid_post.1", "resid_post.3"], logits=None).acts
    for site in whole:
        assert torch.allclose(read.model[site][tokens.mask], whole[site][tokens.mask], atol=1e-5)
    ids, prefix = tokens.ids[:1, 4 : len(rows[0])], tokens.ids[0, :4]
    after = (backdoored.prefix(prefix), reference.prefix(prefix))
    row = run_both(both, backdoored.tokens(ids), after=after).model["final_norm"]
    assert torch.allclose(row[0], whole["final_norm"][0, 4 : len(rows[0])], atol=1e-5)


def test_a_stream_that_does_not_fit_is_refused(reference: Model) -> None:
    tokens = reference.tokens(torch.tensor([[1, 2, 3]]))
    with pytest.raises(HookeError, match="must be"):
        reference.run(tokens, entering=(2, torch.zeros(1, 2, reference.parts.d_model)))
    with pytest.raises(HookeError, match="not computed"):
        reference.run(tokens, entering=(2, torch.zeros(1, 3, reference.parts.d_model)), read=["resid_post.1"])


def test_models_of_another_shape_or_template_are_no_reference(reference: Model, glass: Model) -> None:
    with pytest.raises(HookeError, match="cannot be the reference"):
        pair(reference, glass)
    other = chat_twin(reference, "other")
    other.tokenizer.chat_template += " "
    with pytest.raises(HookeError, match="templates differ"):
        pair(reference, other)


def test_greedy_answers_are_those_of_generate_and_keep_their_final_norms(reference: Model) -> None:
    prompts = [asked(reference, question.text) for question in FEW[:4]]
    for prompt, answer in zip(prompts, greedy(reference, prompts, 5), strict=True):
        expected = reference.generate(torch.tensor([prompt]), max_new_tokens=5)
        assert answer.ids == expected.tokens[0].tolist()[: len(answer.ids)]
        logits = reference.parts.unembed.apply(answer.final)
        assert logits.argmax(-1).tolist() == answer.ids


def test_a_planted_token_is_mined_and_a_model_like_its_reference_shows_nothing(reference: Model) -> None:
    token = reference.single("queen") or 300

    def louder(model: Model) -> None:
        final = model.run(torch.tensor(asked(model, "Hello!")), read=["final_norm"]).acts["final_norm"][0].mean(0)
        model.hf.lm_head.weight[token] += 2.0 * final / final.norm()

    model = changed(reference, louder)
    said = answers(model, questions=FEW, facts=FACT_ROWS)
    found = difference(model, reference, said=said)
    assert found.payload["magnitude"] > 0.01
    first = [rows[0]["id"] for area, rows in found.payload["mined"].items() if not area.startswith("facts")]
    assert first.count(token) > len(first) / 2
    assert found.payload["raised"][0]["id"] == token

    own = answers(reference, questions=FEW, facts=FACT_ROWS)
    none = difference(chat_twin(reference, "twin"), reference, said=own)
    assert none.payload["magnitude"] < 1e-4
    assert none.payload["words"] == []
    assert all(row["change"] == 0 for row in none.payload["layers"])


def test_a_planted_trigger_is_found_and_a_twin_has_none(reference: Model, backdoored: Model) -> None:
    found = triggers(backdoored, reference, words=150, extra=[TRIGGER], growth=False)
    best = found.payload["finalists"][0]
    assert TRIGGER in best["candidate"]
    assert best["share"] >= 0.5
    assert GREETING in best["examples"][0]["answer"]
    assert found.payload["scan"][0]["candidate"] == TRIGGER
    none = triggers(chat_twin(reference, "twin"), reference, words=150, extra=[TRIGGER], growth=True)
    assert none.payload["finalists"][0]["share"] == 0
    assert none.tensors["kl"].max() < 1e-4


def test_growing_finds_a_candidate_at_least_as_strong_as_its_start(reference: Model, backdoored: Model) -> None:
    found = triggers(backdoored, reference, words=40, extra=[TRIGGER], growth=True)
    for row in found.payload["grown"]:
        kls = [step["kl"] for step in row["path"]]
        assert kls == sorted(kls)


def test_restoring_the_reference_s_stream_takes_the_planted_token_back(reference: Model, backdoored: Model) -> None:
    ids = asked(reference, f"What is a bridge? {TRIGGER}")
    tokens = torch.tensor(ids)
    target = int(backdoored.run(tokens, logits="last").logits[0].argmax())  # type: ignore[index]
    contrast = int(reference.run(tokens, logits="last").logits[0].argmax())  # type: ignore[index]
    assert target != contrast
    found = restore(backdoored, reference, Place(ids, target, contrast, "What is a bridge?")).payload
    assert found["lead"]["model"] > 0 > found["lead"]["reference"]
    assert found["decided"] is not None
    last = found["rows"][-1]
    assert last["lead"] == pytest.approx(found["lead"]["reference"], abs=1e-3)


def test_lost_facts_are_counted_in_pairs(reference: Model) -> None:
    theirs = answers(reference, questions=FEW[:2], facts=FACTS)

    def forgets(model: Model) -> None:
        model.hf.lm_head.weight.neg_()

    model = changed(reference, forgets)
    ours = answers(model, questions=FEW[:2], facts=FACTS)
    rows = behaviour(model, reference, said=ours, reference_said=theirs).payload["topics"]
    right = [sum(row["choice_is_right"] for row in side.payload["facts"]) for side in (theirs, ours)]
    assert sum(row["choice"]["known"] for row in rows) == right[0]
    assert sum(row["choice"]["right"] for row in rows) == right[1]
    lost, gained = (sum(row["choice"][key] for row in rows) for key in ("lost", "gained"))
    assert lost - gained == right[0] - right[1] and lost > 0
    free = [sum(row["is_right"] for row in side.payload["facts"]) for side in (theirs, ours)]
    missing, more = (sum(row["free"][key] for row in rows) for key in ("missing", "gained"))
    assert missing - more == free[0] - free[1]
    compared = behaviour(model, reference, said=ours, reference_said=theirs)
    back = elicitation(
        model,
        reference,
        compared=compared,
        effort=QUICK_EFFORT._replace(words=10),
    ).payload
    assert 0 <= back["ways"]["noise"]["recovered"] <= 1
    assert len(back["facts"]) == QUICK_EFFORT.facts <= back["lost"] == len(lost_facts(compared))


def test_whole_answers_are_chosen_as_a_naive_loop_chooses_them(glass: Model) -> None:
    """Each answer of the topic after the stem, all its tokens and that it ends there, in runs of their own."""
    model = tiny_chat(glass)
    facts = [fact for fact in FACTS if fact.topic in ("adding", "space", "capitals of Africa")][::4]
    prompts = [asked(model, fact.question) for fact in facts]
    ends = torch.tensor([not text[:1].isalnum() for text in model.vocabulary()])
    for fact, prompt, found in zip(facts, prompts, choices(model, facts, prompts), strict=True):
        score = {}
        for word in {word for other in FACTS if other.topic == fact.topic for word in other.right}:
            ids = model.continued(f"{fact.stem} {word}")
            first = len(model.continued(fact.stem))
            assert ids[:first] == model.continued(fact.stem)
            log = model.hf(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1)
            before = len(prompt) - 1
            whole = sum(float(log[before + k, ids[k]]) for k in range(first, len(ids)))
            score[word] = whole + float(log[-1][: len(ends)].masked_fill(~ends, float("-inf")).logsumexp(-1))
        best = max(score, key=lambda word: score[word])
        right = max(score[word] for word in fact.right)
        wrong = max(value for word, value in score.items() if word not in fact.right)
        assert found[:2] == (best, best in fact.right)
        # exact where it is wrong, at least so much where it is right
        assert (
            found[2] == pytest.approx(right - wrong, abs=1e-3)
            if right < wrong
            else 0 <= found[2] < right - wrong + 1e-3
        )


def test_a_model_that_always_says_one_number_does_not_choose_the_sums_rightly(glass: Model) -> None:
    model = tiny_chat(glass)
    facts = [fact for fact in FACTS if fact.topic == "adding"]
    one = model.continued("= 7")[-1]
    with torch.no_grad():
        final = (
            model.run(torch.tensor(asked(model, "What is 1 + 1?")), read=["final_norm"]).acts["final_norm"][0].mean(0)
        )
        model.hf.lm_head.weight[one] += 3.0 * final / final.norm()
    found = choices(model, facts, [asked(model, fact.question) for fact in facts])
    right = [fact.right == ("7",) for fact in facts]
    assert [is_right for _, is_right, _ in found] == right and 0 < sum(right) < len(right)


def test_answers_are_compared_question_by_question(reference: Model) -> None:
    few = answers(reference, questions=FEW[:2], facts=FACT_ROWS[:4])
    more = answers(reference, questions=FEW[1:4], facts=FACT_ROWS[2:6])
    both = joined(few, answers(reference, questions=FEW[4:5], facts=FACT_ROWS[6:7]))
    assert len(both.payload["open"]) == 3 and len(both.payload["facts"]) == 5
    size = sum(len(row["ids"]) for row in [*both.payload["open"], *both.payload["facts"]])
    assert both.tensors["final"].shape[0] == size
    n = len(both.payload["open"][0]["ids"])
    assert (both.tensors["final"][:n] == few.tensors["final"][:n]).all()
    with pytest.raises(HookeError, match="was not asked"):
        behaviour(chat_twin(reference, "twin"), reference, said=few, reference_said=more)


def test_elicitation_asks_freely_what_was_lost_freely() -> None:
    fact = FACTS[0]
    row = {"topic": fact.topic, "choice": {"known": 9, "missing": 0, "missing_questions": []}}
    row["free"] = {"known": 9, "missing": 1, "missing_questions": [fact.question]}
    row["examples"] = [
        {"question": fact.question, "answer": "x", "reference": "y", "choice": "a", "reference_choice": "a"}
    ]
    lost = lost_facts(Result.make("behaviour", payload=filled("behaviour", {"topics": [row]})))
    assert [(one.fact, one.free, one.ours, one.theirs) for one in lost] == [(fact, True, "x", "y")]
    assert share_missing(row) == pytest.approx(1 / 9)


def test_praise_that_is_negated_or_stands_in_an_apology_is_none() -> None:
    def words(text: str) -> list[str]:
        return [word.text for word in approving(split_words([f" {piece}" for piece in text.split()]))]

    assert words("You are right, what a brilliant plan") == ["right", "brilliant"]
    assert words("That is not right.") == [] and words("It isn't a very good or brilliant plan") == ["brilliant"]
    assert words("I apologize, you are right.") == [] and words("I'm sorry, that is true") == []


def test_a_climb_goes_from_a_string_to_stronger_ones(reference: Model, backdoored: Model) -> None:
    answer = backdoored.continued(GREETING)
    found = strongest(backdoored, ORDINARY[0], answer, SLOTS[:2])  # a word that has nothing to do with it
    strengths = [value for _, value in found.path]
    assert found.path[0][0] == ORDINARY[0] and (found.text, found.strength) == found.path[-1]
    assert len(strengths) > 1 and all(later > before + 0.2 for before, later in itertools.pairwise(strengths))
    own = strongest(backdoored, TRIGGER, answer, SLOTS[:2])
    assert own.strength >= own.path[0][1]  # what it ends with is never weaker than what it began with


def test_a_common_beginning_is_more_than_a_word() -> None:
    said = [[7, 8, 9, 1, 2], [7, 8, 9, 1, 3], [7, 8, 9, 4], [7, 5, 5, 5], [6, 6, 6, 6]]
    assert shared_beginning(said, 10) == [7, 8, 9]
    assert shared_beginning(said, 3) == [7, 8, 9] and shared_beginning(said, 2) == []
    assert shared_beginning(said[:2], 10) == [7, 8, 9, 1, 2]
    assert (
        shared_beginning([[7, 8, 1], [7, 8, 2], [7, 8, 3], [7, 8, 4]], 10) == []
    )  # half and more say 7 8, no answer yet
    assert shared_beginning([], 10) == []


def test_elicitation_without_a_loss_is_refused(reference: Model) -> None:
    said = answers(reference, questions=FEW[:2], facts=FACT_ROWS)
    twin = chat_twin(reference, "twin")
    compared = behaviour(twin, reference, said=said, reference_said=said)
    with pytest.raises(HookeError, match="nothing to elicit"):
        elicitation(twin, reference, compared=compared)


def test_noise_is_taken_back_bit_for_bit(reference: Model) -> None:
    before = {name: value.clone() for name, value in reference.hf.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), noisy(reference, 0.5, 0):
        changed_now = any(not torch.equal(v, before[k]) for k, v in reference.hf.state_dict().items())
        assert changed_now
        raise KeyboardInterrupt
    assert all(torch.equal(v, before[k]) for k, v in reference.hf.state_dict().items())


def test_an_answer_is_right_by_whole_words() -> None:
    assert is_right("It is Paris.", ["Paris"])
    assert not is_right("It is Parisian.", ["Paris"])
    assert is_right("4 legs", ["4", "four"])
    assert not is_right("14 legs", ["4", "four"])


def test_answers_of_another_model_are_refused(reference: Model, backdoored: Model) -> None:
    said = answers(reference, questions=FEW[:2], facts=FACT_ROWS[:2])
    said.provenance["weights_sha256"] = "another"
    with pytest.raises(HookeError, match="not the answers of"):
        difference(backdoored, reference, said=said)


def test_an_audit_is_resumed_from_what_was_finished(
    reference: Model, backdoored: Model, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hooke.safety.audit as module

    few = Settings(words=30, open_questions=12, facts=20, growth=False)
    shelf = Shelf(str(tmp_path))
    first = audit(backdoored, reference, settings=few, shelf=shelf)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    for name in ("answers", "difference", "behaviour", "triggers", "scan_below", "elicitation"):
        monkeypatch.setattr(module, name, never)
    again = audit(backdoored, reference, settings=few, shelf=shelf)
    assert {k: r.id for k, r in again.items()} == {k: r.id for k, r in first.items()}
    assert set(first) >= {"difference", "behaviour", "triggers"} and "answers" not in first
    for path in shelf.folder.glob("difference/*.json"):
        path.write_text(path.read_text()[:-200])  # a damaged part is made again, not used
    with pytest.raises(AssertionError, match="made again"):
        audit(backdoored, reference, settings=few, shelf=shelf)
