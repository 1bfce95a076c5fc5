"""Circuit tasks: pairs line up, answers are balanced and right, and a model that cannot do a task is refused."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from random import Random
from typing import Any

import pytest

from families import model_of, one_thread  # noqa: F401
from hooke import Model
from hooke.data.prompts.circuit_tasks import CIRCUIT_TASKS, Example
from hooke.errors import HookeError
from hooke.methods.tasks import check_able, examples, metric_of, skill, tasks

NAMES = list(CIRCUIT_TASKS)


def digits_alone(text: str) -> bool:
    """A tokenizer that reads digit by digit."""
    return not text.isdigit() or len(text) == 1


@pytest.mark.parametrize("name", NAMES)
def test_pairs_line_up_and_differ(smol: Model, name: str) -> None:
    found = examples(smol, name, 20)
    assert len({e.clean for e in found}) == 20
    assert found == examples(smol, name, 20) != examples(smol, name, 20, seed=1)
    for example in found:
        clean, corrupt = (smol.tokens(text).ids for text in (example.clean, example.corrupt))
        assert clean.shape == corrupt.shape and not bool((clean == corrupt).all())
        assert example.target and example.contrast and not set(example.target) & set(example.contrast)
        assert all(isinstance(smol.token(t), int) for t in (*example.target, *example.contrast))


def answer(name: str, example: Example) -> tuple[bool, bool]:
    """Whether the target is right for the clean prompt, and wrong for the corrupt one, by a reading of the text."""

    def right(prompt: str) -> bool:
        target = example.target[0].strip()
        if name == "ioi":
            first, second, giver = re.findall(r"[A-Z]\w+", prompt.removeprefix("When "))
            return target in (first, second) and target != giver
        if name == "greater-than":
            start = int(re.findall(r"\d+", prompt)[0][2:])
            return all(int(t) > (start if len(t) == 2 else start // 10) for t in example.target) and all(
                int(t) <= (start if len(t) == 2 else start // 10) for t in example.contrast
            )
        if name == "docstring":
            head = re.findall(r"\((.*)\)", prompt)[0].split(", ")
            said = re.findall(r":param (\w+):", prompt)
            return target == head[head.index(said[-1]) + 1]
        if name == "agreement":
            plural = prompt.split()[1].endswith("s") or prompt.split()[1] == "children"
            return (target == "are") == plural
        if name == "induction":
            words = prompt.split()
            return words[words.index(words[-1]) + 1] == target
        if name == "colours":
            thing = re.findall(r"colour of the (\w+) is", prompt)[0]
            return f"{target} {thing}" in prompt
        if name == "addition":
            a, b = re.findall(r"(\d+)\+(\d+)=$", prompt)[0]
            return str(int(a) + int(b)).startswith(target)
        assert name in ("capitals", "pronoun", "antonyms")
        return prompt == example.clean

    return right(example.clean), right(example.corrupt)


@pytest.mark.parametrize("one_token", [digits_alone, lambda text: True], ids=["digits", "numbers"])
@pytest.mark.parametrize("name", NAMES)
def test_the_answers_are_right_and_balanced(name: str, one_token: Any) -> None:
    rng = Random(0)
    drawn = [CIRCUIT_TASKS[name].draw(rng, one_token) for _ in range(400)]
    drawn = [e for e in drawn if not set(e.target) & set(e.contrast)]  # these are thrown away
    for example in drawn:
        good, bad = answer(name, example)
        assert good, example
        assert not bad or name == "greater-than", example  # any end exceeds the first year of a century
    most = Counter(e.target[0] for e in drawn).most_common(1)[0][1]
    assert most <= 0.6 * len(drawn)


def test_skill_by_hand(smol: Model) -> None:
    for name in ("ioi", "greater-than"):
        found = skill(smol, name, count=6)
        hits, values = 0, []
        for example in found.examples:
            logits = smol.run(example.clean, logits="last").logits
            assert logits is not None
            good, bad = ([smol.token(t) for t in side] for side in (example.target, example.contrast))
            if name == "ioi":
                hits += int(logits[0, good].max() > logits[0, bad].max())
                values.append(float(logits[0, good].mean() - logits[0, bad].mean()))
            else:
                p = logits.softmax(-1)[0]
                values.append(float(p[good].sum() - p[bad].sum()))
                hits += int(values[-1] > 0)
            assert float(metric_of(smol, found.task, example)(logits)[0]) == pytest.approx(values[-1], abs=1e-4)
        assert found.accuracy.value == pytest.approx(hits / 6) and found.clean == pytest.approx(
            sum(values) / 6, abs=1e-3
        )
        assert found.clean > found.corrupt


def test_who_can_and_who_cannot(smol: Model, glass: Model) -> None:
    assert check_able(smol, "ioi", count=20).able
    with pytest.raises(HookeError, match=r"cannot do pronoun: right in .*chance is 50%") as refused:
        check_able(glass, "pronoun", count=6)
    assert "\n" not in str(refused.value)
    rows = {row["name"]: row for row in tasks(glass, count=4).payload["tasks"]}
    assert list(rows) == NAMES and not any(row["able"] and row["reason"] for row in rows.values())


def test_what_is_refused(smol: Model) -> None:
    with pytest.raises(HookeError, match="no task called 'chess'; there are ioi"):
        examples(smol, "chess", 3)
    with pytest.raises(HookeError, match="leaves only 0 of 3 pairs"):
        examples(smol, "ioi", 3, length=200)
    with pytest.raises(HookeError, match="at least one"):
        examples(smol, "ioi", 0)
    with pytest.raises(HookeError, match="at most 10,000"):
        examples(smol, "ioi", 10**9)
    with pytest.raises(HookeError, match=r"leaves only \d+ of 9,?999 pairs of capitals"):
        examples(smol, "capitals", 9999)
    with pytest.raises(HookeError, match="no tokenizer"):
        examples(model_of("llama"), "ioi", 3)


def test_the_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from hooke.cli import main

    def typed(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hooke", *words, "--model", "glassllm"])
        try:
            main()
            code = 0
        except SystemExit as done:
            code = int(done.code or 0)
        out = capsys.readouterr()
        return code, out.out, out.err

    code, out, _ = typed("tasks", "agreement", "pronoun", "--count", "4", "--json")
    assert code == 0 and [row["name"] for row in json.loads(out)["payload"]["tasks"]] == ["agreement", "pronoun"]
    code, out, _ = typed("tasks", "agreement", "--count", "4")
    assert code == 0 and "agreement" in out
    pair = (
        "Alice was beginning to get very",
        "Queen was beginning to get very",
        "--target",
        " so",
        "--contrast",
        " the",
    )
    code, out, _ = typed("attribute", *pair, "--method", "atp,relp", "--sites", "mlp_out,z")
    assert code == 0 and "atp puts first" in out and "relp puts first" in out
    code, out, _ = typed("attribute", "--task", "agreement", "--pairs", "3", "--method", "atp", "--json")
    made = json.loads(out)
    assert code == 0 and made["payload"]["agreement"]["atp"]["n_pairs"] == 3
    for words, says in (
        (("tasks", "chess"), "no task called"),
        (("attribute", "Alice"), "give a clean and a corrupt prompt"),
        (("attribute", "--task", "agreement", "--target", " is"), "its own metric"),
        (("attribute", *pair, "--method", "lrp"), "no method called"),
    ):
        code, out, error = typed(*words)
        assert code == 2 and out == "" and says in error and error.count("\n") == 1, error
