"""Counterfactuals change what the answer hangs on, measured by plain runs; where none is found, that is said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

import hooke
from hooke.data import FUNCTION_WORDS
from hooke.methods.content import content_places
from hooke.methods.trace import select
from hooke.methods.variants import LEAST_FALL, variants
from hooke.model import Model
from hooke.terminal import show_trace, wrapped
from hooke.viewer import page_bytes


@pytest.mark.parametrize("prompt, want", [
    ("The capital of the state containing Dallas is", [" capital", " state", " containing", " Dallas"]),
    ('As he wrote, "To be, or not to be, that is the', [" wrote"]),
    ("12 + 7 =", ["1", "2", " +", "7"]),
    ("x = [1, 2", ["x", " [", "1", "2"]),
    ("La capitale de la France est", [" capit", "ale", " France"]),
    ("It isn't the dog's, is it?", [" dog"]),
])  # fmt: skip
def test_content_words(smol: Model, prompt: str, want: list[str]) -> None:
    ids = smol.tokens(prompt).ids[0]
    texts = smol.text(ids)
    assert [t for t, yes in zip(texts, content_places(smol, ids).tolist(), strict=True) if yes] == want


def test_a_chat_template_is_no_content(smol: Model) -> None:
    ids = smol.chat("What is the capital of France?").ids[0]
    texts = smol.text(ids)
    said = [t.strip() for t, yes in zip(texts, content_places(smol, ids).tolist(), strict=True) if yes]
    assert {"capital", "France"} <= set(said) and not {"user", "system", "<|im_start|>", "the"} & set(said)


def test_a_role_of_several_tokens_is_no_content(smol: Model) -> None:
    """The "istant" of "assistant" was exchanged, and that was called a content word."""
    ids = smol.chat("What is 2+2?").ids[0]
    texts, free = smol.text(ids), content_places(smol, ids).tolist()
    role = [k for k, t in enumerate(texts) if t == "istant" and texts[k - 1] == "ass"]
    assert role and not any(free[k] or free[k - 1] for k in role)
    assert [t for t, yes in zip(texts, free, strict=True) if yes][-3:] == ["2", "+", "2"]
    inside = smol.chat("Name the user, the system and the assistant.").ids[0]  # a person's own words are content
    words = [t for t, yes in zip(smol.text(inside), content_places(smol, inside).tolist(), strict=True) if yes]
    assert words[-4:] == ["Name", " user", " system", " assistant"]


@pytest.mark.parametrize("prompt", ["日本の首都は", "🙂🙂🙂", "The capital of 日本 is"])
def test_half_a_character_is_exchanged_for_nothing(smol: Model, prompt: str) -> None:
    """What is made stays text: a byte of a character was exchanged for "((" or for one of another."""
    tokens = smol.tokens(prompt)
    texts, free = smol.text(tokens.ids[0]), content_places(smol, tokens.ids[0]).tolist()
    assert any("<0x" in t for t in texts) or "🙂" not in prompt
    assert not any(yes for t, yes in zip(texts, free, strict=True) if "<0x" in t)
    target = int(smol.run(tokens, logits="last").logits.argmax())  # type: ignore[union-attr]
    for row in variants(smol, tokens, target, [], 12, torch.Generator().manual_seed(0)):
        changed = smol.text(row[row != tokens.ids[0]])
        assert changed and not any("<0x" in t for t in changed)
        assert "\ufffd" not in smol.tokenizer.decode(row, skip_special_tokens=True)  # type: ignore[union-attr]


def last_log(model: Model, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.hf(ids[None]).logits[0, -1].float().log_softmax(-1)


@pytest.mark.parametrize("prompt", [
    "The capital of the state containing Dallas is",
    "The president of the country where the Eiffel Tower stands is called",
    'As Shakespeare wrote, "To be, or not to be, that is the',
    "Paris is not the capital of Germany. The capital of Germany is",
    "import numpy as np\nx = np.",
])  # fmt: skip
def test_what_is_made_changes_a_content_word_and_moves_the_answer(smol: Model, prompt: str) -> None:
    tokens = smol.tokens(prompt)
    ids = tokens.ids[0]
    clean = last_log(smol, ids)
    target = int(clean.argmax())
    rows = variants(smol, tokens, target, [], 6, torch.Generator().manual_seed(0))
    assert rows
    content = content_places(smol, ids)
    for row in rows:
        changed = (row != ids).nonzero()[:, 0]
        assert len(changed) and bool(content[changed].all()) and int(changed[-1]) < len(ids) - 1
        assert not {t.strip().lower() for t in smol.text(row[changed])} & FUNCTION_WORDS
        assert float(clean[target] - last_log(smol, row)[target]) >= LEAST_FALL - 1e-3


def test_a_sum_has_none_and_says_so(glass: Model, tmp_path: Path, monkeypatch, capsys) -> None:
    """Where no change of a content word moves the answer, no prompt is passed off as a counterfactual."""
    prompt = "Alice was beginning to get very"
    monkeypatch.setattr("hooke.methods.variants.LEAST_FALL", 1e6)
    rows = select.contrasts(glass, glass.tokens(prompt), 5, extra=3)
    assert rows == []
    result = hooke.trace(glass, prompt, nodes=30)
    payload = json.loads(result.to_json())["payload"]
    assert payload["counterfactuals"]["by"] == "passages" and payload["counterfactuals"]["verdict"] == "refuted"
    claim = result.claims[-1]
    assert (
        claim.verdict == "refuted" and "No counterfactual was found" in claim.text and "--counterfactual" in claim.text
    )
    assert payload["sentence"].endswith("No counterfactual was found.") and claim.text in payload["notes"]
    assert "on other passages" in payload["sentence"]
    page = page_bytes([hooke.load_result(result.save(tmp_path / "t.json"))])
    assert b"No counterfactual was found" in gzip.decompress(page)
    show_trace(result)
    assert "No counterfactual was found" in capsys.readouterr().out


def test_a_given_one_that_changes_nothing_is_told(glass: Model) -> None:
    prompt = "Alice was beginning to get very"
    ids = glass.tokens(prompt).ids[0]
    clean = last_log(glass, ids)
    target = int(clean.argmax())
    # of single changes, the one that moves the answer least and the one that moves it most
    rows = []
    for token in range(100, 400):
        row = ids.clone()
        row[3] = token
        if token != int(ids[3]):
            rows.append((abs(float(last_log(glass, row)[target] - clean[target])), row))
    least, most = min(rows, key=lambda r: r[0]), max(rows, key=lambda r: r[0])
    assert least[0] < 0.1
    result = hooke.trace(glass, prompt, target=target, counterfactual=[glass.tokens(least[1])], nodes=20, verify=False)
    told = result.payload["counterfactuals"]
    assert told["by"] == "given" and told["verdict"] == "refuted" and result.claims[-1].verdict == "refuted"
    assert "not what the answer hangs on" in result.payload["sentence"]
    assert told["prompts"][0]["ids"] == least[1].tolist() and told["prompts"][0]["changed"] == [3]
    assert abs(told["prompts"][0]["change"]) == pytest.approx(least[0], abs=1e-3)
    if most[0] > LEAST_FALL:
        result = hooke.trace(
            glass, prompt, target=target, counterfactual=[glass.tokens(most[1])], nodes=20, verify=False
        )
        assert result.claims[-1].verdict == "tested" and "hangs on" not in result.payload["sentence"]


def test_baselines_keep_ids_that_ran(glass: Model) -> None:
    result = hooke.trace(glass, "Alice was beginning to get very tired of sitting", nodes=20)
    rows = result.payload["verification"]["baselines"]
    told = result.payload["counterfactuals"]["prompts"]
    assert rows and [b["ids"] for b in rows] == [t["ids"] for t in told]
    n = glass.tokens("Alice was beginning to get very tired of sitting").ids.shape[1]
    for row in rows:
        assert set(row) == {"ids", "text"} and len(row["ids"]) == n


def test_lines_are_broken_at_spaces_outside_tokens() -> None:
    text = 'It reads " Mary", " " and "a b" ' * 30
    lines = wrapped(text, 60).split("\n")
    assert all(len(line) <= 60 for line in lines) and len(lines) > 10
    assert " ".join(lines).split() == text.split()
    assert all(line.count('"') % 2 == 0 for line in lines)
