"""What people hold of a prompt: ids in every form, masks, one edit, chat messages, a system message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BatchEncoding

import hooke
from families import close, logits_of, model_of, one_thread, random_ids  # noqa: F401  (one thread in all tests here)
from hooke import Edit, HookeError
from hooke.model import Model, Tokens
from vocabularies import speaking

PLAIN = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}<assistant>"
REFUSES = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ m.content }}{% endfor %}"
)
FORGETS = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
BROKEN = "{{ messages[0].content.nothing.at_all }}"
UNREADABLE = "{% for m in messages %}{{ m.content }}"
BEGINS = "{% if messages[0].role != 'user' %}{{ raise_exception('roles must alternate') }}{% endif %}{{ messages[0].content }}"


def plain(model: Model, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """Last logits of plain transformers, of one row without padding."""
    with torch.no_grad():
        return model.hf(input_ids=ids[None] if ids.ndim == 1 else ids, attention_mask=mask).logits[:, -1]


def forms(ids: list[int]) -> list[Any]:
    x = torch.tensor(ids)
    ones = [1] * len(ids)
    return [
        ids, tuple(ids), [ids], (ids,), [np.int64(i) for i in ids], [torch.tensor(i) for i in ids],
        np.array(ids), np.array(ids, np.uint8), np.array([ids], np.int32), [np.array(ids)],
        x, x[None], x.int(), x.to(torch.uint8), [x], Tokens(x[None], torch.ones(1, len(ids), dtype=torch.bool)),
        {"input_ids": ids}, {"input_ids": x, "attention_mask": torch.ones(len(ids))}, BatchEncoding({"input_ids": [ids]}),
        BatchEncoding({"input_ids": x[None], "attention_mask": x[None] * 0 + 1, "token_type_ids": x[None] * 0}),
        {"input_ids": np.array([ids]), "attention_mask": np.array([ones])}, {"input_ids": ids, "attention_mask": ones},
        {"input_ids": [ids], "attention_mask": [[True] * len(ids)]},
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_ids_in_every_form_are_what_transformers_reads(name: str) -> None:
    model = model_of(name)
    ids = random_ids(6, seed=3).tolist()
    expected = plain(model, torch.tensor(ids))
    for given in forms(ids):
        close(logits_of(model, given, logits="last"), expected)


def test_what_a_tokenizer_returns_is_the_text() -> None:
    model = speaking("llama")
    text = "the model of the capital"
    tokenizer = model.tokenizer
    expected = logits_of(model, text, logits="last")
    inner = tokenizer.backend_tokenizer.encode(text)  # an Encoding of the tokenizers library
    for given in (
        tokenizer(text), tokenizer(text, return_tensors="pt"), tokenizer([text], return_tensors="np"), inner,
        tokenizer(text, padding="max_length", max_length=12, return_tensors="pt"), tokenizer(text)["input_ids"],
        tokenizer(text, padding="max_length", max_length=12), np.array([text]), np.array(text), (text,),
    ):  # fmt: skip
        close(logits_of(model, given, logits="last"), expected)
    both = tokenizer([text, "the model"])  # of different lengths
    close(logits_of(model, both, logits="last"), logits_of(model, [text, "the model"], logits="last"))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("junk", [0, -100, 10**6])
def test_a_mask_is_kept_whatever_stands_under_it(side: str, junk: int) -> None:
    model, rows = model_of("llama"), [random_ids(5, seed=1), random_ids(3, seed=2)]
    ids, mask = torch.full((2, 5), junk), torch.zeros(2, 5, dtype=torch.long)
    for i, row in enumerate(rows):
        here = slice(5 - len(row), 5) if side == "left" else slice(0, len(row))
        ids[i, here], mask[i, here] = row, 1
    expected = torch.cat([plain(model, row) for row in rows])
    for given in ({"input_ids": ids, "attention_mask": mask}, Tokens(ids, mask.bool()), Tokens(ids, mask.float())):
        close(logits_of(model, given, logits="last"), expected)
    made = model.generate({"input_ids": ids.tolist(), "attention_mask": mask.tolist()}, max_new_tokens=3).tokens
    for row, answer in zip(rows, made, strict=True):
        assert model.generate(row, max_new_tokens=3).tokens[0].tolist() == answer.tolist()


def test_a_hole_in_a_mask_leaves_the_token_out() -> None:
    model, ids = model_of("llama"), random_ids(5, seed=4)
    mask = torch.tensor([[1, 1, 0, 1, 1]])
    expected = plain(model, ids[[0, 1, 3, 4]])
    close(logits_of(model, {"input_ids": ids[None], "attention_mask": mask}, logits="last"), expected)
    made = model.generate({"input_ids": ids[None], "attention_mask": mask}, max_new_tokens=3).tokens
    assert made.tolist() == model.generate(ids[[0, 1, 3, 4]], max_new_tokens=3).tokens.tolist()


def test_ids_and_masks_that_contradict_are_refused() -> None:
    model, ids = model_of("llama"), random_ids(4)
    for given, says in (
        ({"input_ids": ids, "attention_mask": [1, 1, 1]}, "rows of tokens are 1 of 4, rows of the mask 1 of 3"),
        ({"input_ids": ids[None], "attention_mask": torch.ones(2, 4)}, "rows of the mask 2 of 4"),
        ({"input_ids": ids, "attention_mask": [1, 1, 2, 1]}, "1 for a token and 0 for padding"),
        ({"input_ids": ids, "attention_mask": torch.tensor([1, 1, 0.5, 1])}, "1 for a token and 0 for padding"),
        ({"input_ids": ids, "attention_mask": [0, 0, 0, 0]}, "the prompt is empty"),
        ({"input_ids": ids, "attention_mask": torch.ones(1, 1, 4, 4)}, "an attention mask must be integers"),
        ({"input_ids": ids, "position_ids": ids}, "nothing takes its position_ids"),
        ({"inputs_embeds": ids}, "this one has inputs_embeds"),
        ([[1, 2], "x"], "this list holds 'x'"),
        ([1, "x"], "this list holds 1"),
        ([[[1]]], "nested deeper"),
        ([1, 2.5], "must be integers, not 2.5"),
        ([True, False], "must be integers, not True"),
        ([10**30], "must be integers"),
        ([[1, 2], []], "the prompt is empty"),
        (np.array([1.0]), "must be integers"),
        (np.array([True]), "must be integers"),
        (np.array([2**63], np.uint64), "must be integers"),
        ({1, 2}, "not set"),
        (b"text", "not b'text'"),
        (None, "not None"),
    ):
        with pytest.raises(HookeError, match=says):
            model.run(given)


def test_every_verb_takes_what_a_tokenizer_returned() -> None:
    model = speaking("byte-level")
    tokenizer = model.tokenizer
    tokenizer.pad_token = tokenizer.eos_token
    clean, corrupt = "the model of the capital of France is", "the model of the capital of Italy is"
    padded = tokenizer(clean, padding="max_length", max_length=30, return_tensors="pt")
    plainly = tokenizer(corrupt)["input_ids"][: len(tokenizer(clean)["input_ids"])]
    assert len(plainly) == len(tokenizer(clean)["input_ids"])
    seen = {"target": " the", "contrast": " of"}
    pairs: list[tuple[Any, Any]] = [(clean, torch.tensor(plainly)), (padded, plainly)]
    lens = [hooke.lens(model, a, top=1).payload for a, _ in pairs]
    assert lens[0] == lens[1]
    patched = [hooke.patch(model, a, b, sites="resid_post.1", **seen).payload["values"] for a, b in pairs]
    assert patched[0] == patched[1]
    guessed = [hooke.attribute(model, a, b, method="atp", **seen).payload["scores"] for a, b in pairs]
    assert guessed[0] == guessed[1]
    traced = [hooke.trace(model, a, counterfactual=b, nodes=5, verify=False, **seen).payload for a, b in pairs]
    assert traced[0]["scores"] == traced[1]["scores"] and traced[0]["target"] == traced[1]["target"]
    with pytest.raises(HookeError, match="lens reads one prompt at a time, and 2 are given"):
        hooke.lens(model, tokenizer([clean, corrupt]))


def test_one_edit_and_one_site_need_no_list() -> None:
    model, ids = model_of("llama"), random_ids(5)
    edit = Edit("mlp_out.1", "scale", 0.0)
    one, listed = model.run(ids, read="resid_post.1", edits=edit), model.run(ids, read=["resid_post.1"], edits=[edit])
    close(one.logits, listed.logits, 0.0)
    close(one.acts["resid_post.1"], listed.acts["resid_post.1"], 0.0)
    assert float((logits_of(model, ids) - one.logits).abs().max()) > 1e-3  # type: ignore[operator]
    made = [model.generate(ids, max_new_tokens=2, edits=edits).logits for edits in (edit, [edit])]
    close(made[0], made[1], 0.0)
    sets = [model.run_each(ids, edits)[0] for edits in ([edit, []], [[edit], []])]
    close(sets[0], sets[1], 0.0)


def test_a_template_that_refuses_or_forgets_is_one_line() -> None:
    for template, asked, says in (
        (REFUSES, {"question": "Why?", "system": "Be kind."}, r"refuses these messages \(System role not supported\)"),
        (FORGETS, {"question": "Why?", "system": "Be kind."}, "leaves out the message of the system"),
        (BROKEN, {"question": "Why?"}, "refuses these messages"),
        (UNREADABLE, {"question": "Why?"}, "refuses these messages"),
        (BEGINS, {"question": "Why?", "system": "Be kind."}, "roles must alternate"),
        (BEGINS, {"question": [{"role": "tool", "content": "x"}]}, "beginning with the user"),
        (PLAIN, {"question": " "}, "the question is empty"),
        (PLAIN, {"question": "Why?", "system": " "}, "the system message is empty"),
        (PLAIN, {"question": [{"role": "user"}]}, "role and content, both texts"),
        (PLAIN, {"question": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}], "system": "z"},
         "begin with a system message already"),
        (None, {"question": "Why?"}, "has no chat template"),
    ):  # fmt: skip
        with pytest.raises(HookeError, match=says) as caught:
            speaking("byte-level", template).chat(**asked)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    assert speaking("byte-level", REFUSES).chat("Why?").ids.shape[0] == 1


@pytest.mark.parametrize("name", ["byte-level", "llama"])
def test_a_system_message_is_in_the_prompt_and_in_the_result(name: str) -> None:
    model = speaking(name, PLAIN)
    messages = [{"role": "system", "content": "the model"}, {"role": "user", "content": "of Paris"}]
    with_it, without = model.chat("of Paris", system="the model"), model.chat("of Paris")
    assert with_it.ids.tolist() == model.chat(messages).ids.tolist() == model.tokens(messages).ids.tolist()
    assert "<system> the model\n<user> of Paris\n" in model.said(with_it.ids[0])
    assert "system" not in model.said(without.ids[0])
    asked = hooke.ask(model, "of Paris", system="the model", which=2)
    ids = asked.tokens.ids[0].tolist()
    assert ids[:-1] == with_it.ids[0].tolist() and ids[-1] == asked.answer[0]
    assert int(logits_of(model, asked, logits="last")[0].argmax()) == asked.next
    result = hooke.trace(model, asked, nodes=5, verify=False)
    assert result.payload["target"]["id"] == asked.next and result.arguments["target"] == asked.next
    chat = result.arguments["chat"]
    assert (chat["question"], chat["system"], chat["answer_token"]) == ("of Paris", "the model", 2)
    assert chat["answer_ids"] == list(asked.answer) and result.arguments["prompt_ids"] == ids
    assert "<system> the model\n<user> of Paris" in result.arguments["prompt"]
    assert asked.at(1).tokens.ids.tolist() == with_it.ids.tolist()
    with pytest.raises(HookeError, match="is past its end"):
        asked.at(len(asked.answer) + 1)
