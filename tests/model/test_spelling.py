"""From a token to what is shown and back, over whole vocabularies of every kind of tokenizer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import hooke
from families import logits_of
from hooke import HookeError
from hooke.model import Model
from hooke.model.spelling import Spelling
from vocabularies import KINDS, SENTENCE_PIECE, speaking, tokenizer_of

PREFIXED = ["llama", "llama, legacy", "llama, by a normalizer"]
GLYPHS = {"\n": "↵", "\r": "␍", "\t": "⇥", "\u00a0": "⍽"}


def on_the_page(text: str) -> str:
    """As `token()` of web/src/core/format.ts draws it."""
    inner = re.sub(r"^ +| +$", lambda m: "·" * len(m[0]), text)
    drawn = (c if c.isprintable() or c == "\u3000" else GLYPHS.get(c) or f"\\u{ord(c):04x}" for c in inner)
    return "".join(drawn)


def found_again(spelling: Spelling, written: str, i: int) -> None:
    """The id itself, or a refusal that offers it."""
    try:
        assert spelling.typed(written) == i, (written, i)
    except HookeError as error:
        assert f"(id {i})" in str(error), (written, i, str(error))
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_shown_names_its_token(name: str) -> None:
    spelling = Spelling(tokenizer_of(name))
    there = [i for i, raw in enumerate(spelling.raw) if raw is not None]
    assert len(there) == len(tokenizer_of(name).get_vocab())
    assert len(set(spelling.shown)) == len(spelling.shown)
    for i in there:
        text = spelling.shown[i]
        assert text and "\ufffd" not in text
        for written in (text, repr(text), repr(text)[1:-1], on_the_page(text), f"<id {i}>"):
            found_again(spelling, written, i)


@pytest.mark.parametrize("which", ["glass", "smol"])
def test_what_is_shown_of_the_packaged_models_names_its_token(which: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(which)
    spelling = Spelling(model.tokenizer)
    assert len(set(spelling.shown)) == len(model.tokenizer)
    refused = 0
    for i, text in enumerate(spelling.shown):
        try:
            assert spelling.typed(text) == i
        except HookeError as error:
            refused += 1
            assert f"(id {i})" in str(error)
    assert refused < 0.001 * len(spelling.shown) + 1
    for i in range(0, len(spelling.shown), 37):
        for written in (repr(spelling.shown[i]), on_the_page(spelling.shown[i])):
            found_again(spelling, written, i)


@pytest.mark.parametrize("name", SENTENCE_PIECE)
def test_a_space_is_part_of_a_token(name: str) -> None:
    model, vocabulary = speaking(name), tokenizer_of(name).get_vocab()
    spaced, bare = vocabulary["▁the"], vocabulary["the"]
    assert model.text([spaced, bare]) == [" the", "the"]
    assert model.token(" the") == spaced and model.token("·the") == spaced and model.token("' the'") == spaced
    if name in PREFIXED:  # the tokenizer reads "the" as " the", a person may mean either
        with pytest.raises(HookeError, match=rf"'the' \(id {bare}\) or ' the' \(id {spaced}\)"):
            model.token("the")
    else:
        assert model.token("the") == bare
    with pytest.raises(HookeError, match=rf"' Paris' \(id {vocabulary['▁Paris']}\)"):
        model.token("Paris")


@pytest.mark.parametrize("name", SENTENCE_PIECE)
def test_a_sequence_is_read_as_one_text(name: str) -> None:
    model = speaking(name)
    text = "the model of Paris 🦊, naïve\n日本 the"
    ids = model.tokens(text).ids[0].tolist()
    assert model.said(ids, special=False) == text
    head = " " if name in PREFIXED else ""
    assert "".join(model.parts_of([i for i in ids if i > 3])) == head + text
    half = [i for i in ids if model.text([i])[0].startswith("<0x")]
    assert len(half) >= 4 and "\ufffd" not in "".join(model.text(ids))
    more = [model.continued(" the"), model.continued("the"), model.continued(" of Paris")]
    assert [model.text(part) for part in more] == [[" the"], ["the"], [" of", " Paris"]]


def test_half_characters_are_bytes_and_the_bytes_name_them(smol: Model) -> None:
    ids = smol.tokens("🙃🙂").ids[0].tolist()
    shown = smol.text(ids)
    assert all("\ufffd" not in text for text in shown) and any("<0x" in text for text in shown)
    assert [smol.token(text) for text in shown] == ids
    assert smol.said(ids) == "🙃🙂" and "".join(smol.parts_of(ids)) == "🙃🙂"
    whole = "\ufffd".encode()
    assert bytes(Spelling(smol.tokenizer).raw[smol.token("\ufffd")] or b"") == whole  # the character itself is a token


def test_a_byte_beside_its_character() -> None:
    vocabulary = tokenizer_of("gemma").get_vocab()
    model = speaking("gemma")
    assert model.text([vocabulary["<0x61>"], vocabulary["a"]]) == ["<0x61>", "a"]
    assert model.token("a") == vocabulary["a"] and model.token("<0x61>") == vocabulary["<0x61>"]
    alone = tokenizer_of("unigram").get_vocab()  # which has no token for a new line but the byte
    assert speaking("unigram").text([alone["<0x0A>"]]) == ["\n"]


def test_added_tokens_that_look_like_others() -> None:
    model, spelling = speaking("byte-level"), Spelling(tokenizer_of("byte-level"))
    vocabulary = tokenizer_of("byte-level").get_vocab()
    half = next(i for i, raw in enumerate(spelling.raw) if raw == b"\xe2")
    assert spelling.text(half) == f"<0xE2><id {half}>" and model.token(spelling.text(half)) == half
    literal = vocabulary["<0xE2>"]
    with pytest.raises(HookeError, match=rf"\(id {literal}\)"):
        model.token("<0xE2>")
    assert model.text([vocabulary["Ġé"]]) == ["Ġé"]  # an added token is written as it is


def test_ids_and_refusals_of_the_default_model(smol: Model) -> None:
    assert smol.token(" Paris") == smol.token(7042) == smol.token("<id 7042>") == smol.token(torch.tensor(7042)) == 7042
    for given, says in (
        ("", "empty; leave it out"),
        ("zebra", r"2 tokens .* ' zebra' \(id 29106\) is one"),
        ("the end", r"2 tokens \('the' \(id \d+\), ' end' \(id \d+\)\)"),
        ("<id 49152>", "ids lie between 0 and 49151"),
        (49152, "ids lie between 0 and 49151"),
        (-1, "ids lie between"),
        (2**70, "ids lie between"),
        (True, "a text or a whole number, not True"),
        (1.0, "a text or a whole number"),
        (["a"], "a text or a whole number"),
        ("\udcff", "UTF-8"),
    ):
        with pytest.raises(HookeError, match=says):
            smol.token(given)  # type: ignore[arg-type]


def test_a_tokenizer_that_knows_more_than_the_model() -> None:
    model = Model(speaking("gemma").hf, tokenizer_of("gemma"), name="tiny")
    small = Model(hooke_small(), tokenizer_of("gemma"), name="small")
    assert model.token(" the") > 97
    with pytest.raises(HookeError, match="ids lie between 0 and 96"):
        small.token(" the")
    assert small.text([500, -1]) == ["<id 500>", "<id -1>"]


def hooke_small() -> Any:
    from families import new_hf

    return new_hf("llama")


def test_prompts_are_recorded_as_they_ran() -> None:
    """A prompt of ids keeps its spaces, and the ids themselves."""
    model = speaking("llama")
    text = "the model of the capital"
    tokens = model.tokens(text)
    result = hooke.lens(model, tokens, top=1)
    ids = tokens.ids[0].tolist()
    assert result.arguments["prompt_ids"] == ids and result.payload["tokens"] == model.text(ids)
    assert result.arguments["prompt"].endswith("the model of the capital")
    traced = hooke.trace(model, tokens, target=" the", nodes=5, verify=False)
    assert traced.payload["target"]["token"] == " the" and traced.arguments["prompt_ids"] == ids
    other = hooke.trace(model, tokens, target=model.token(" the"), nodes=5, verify=False)
    assert other.payload["scores"] == traced.payload["scores"]
    both = hooke.patch(model, tokens, "the model of the Italy", target=" the", contrast=" of")
    assert both.arguments["clean_ids"] == ids and both.payload["tokens"]["clean"] == model.text(ids)


def test_generated_text_is_decoded_as_a_sequence() -> None:
    model = speaking("llama")
    made = model.generate("the model", max_new_tokens=6)
    ids = made.tokens[0].tolist()
    assert made.texts == [model.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)]
    assert int(logits_of(model, "the model")[0, -1].argmax()) == ids[0]


def test_a_word_without_its_space_is_pointed_to(smol: Model) -> None:
    prompt = "The capital of France is"
    traced = hooke.trace(smol, prompt, target="Paris", nodes=5, verify=False)
    assert any("' Paris' (id 7042) is another token than 'Paris'" in note for note in traced.payload["notes"])
    patched = hooke.patch(smol, prompt, "The capital of Italy is", target="Paris", contrast=" Rome")
    assert any("' Paris' (id 7042)" in note for note in patched.payload["notes"])
    right = hooke.patch(smol, prompt, "The capital of Italy is", target=" Paris", contrast=" Rome")
    assert right.payload["notes"] == []


def test_nothing_else_decodes_an_id_or_encodes_a_target() -> None:
    """One path each way: `model/spelling.py`; a template is filled in by `model/chat.py`."""
    source = Path(hooke.__file__).parent
    ways = re.compile(
        r"okenizer\.decode\(|batch_decode|convert_ids_to|convert_tokens_to|apply_chat_template|add_special_tokens="
    )
    found = [
        f"{path.relative_to(source)}: {line.strip()}"
        for path in sorted(source.rglob("*.py"))
        if path.name not in ("spelling.py", "chat.py", "convert.py", "gguf_tokenizer.py")
        for line in path.read_text().split("\n")
        if ways.search(line) and "return_offsets_mapping" not in line  # where a text lies among its tokens
    ]
    assert not found
