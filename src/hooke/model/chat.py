"""Chat messages through a model's own template, in which nothing that was said may be lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hooke.errors import HookeError


def chat_text(tokenizer: Any, name: str, question: str | Sequence[Mapping[str, str]], system: str | None = None) -> str:
    """The prompt of a chat, up to where the model answers.

    Raises HookeError for an empty question, a tokenizer without a template, and a template that refuses these
    messages or leaves a message of the system or the user out.
    """
    messages = _messages(question, system)
    if not getattr(tokenizer, "chat_template", None):
        raise HookeError(f"{name} has no chat template; give it a plain prompt instead")
    roles = [message["role"] for message in messages]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template is a program of its own: it may fail in any way
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise HookeError(f"the chat template of {name} refuses these messages ({why}); {_remedy(roles)}") from None
    for message in messages:
        if message["role"] != "assistant" and message["content"].strip() not in text:
            raise HookeError(
                f"the chat template of {name} leaves out the message of the {message['role']}; {_remedy(roles)}"
            )
    return text


def _remedy(roles: Sequence[str]) -> str:
    if "system" in roles:
        return "leave the system message out (--system), or write it into the question"
    return "give messages of the user and the assistant in turn, beginning with the user"


def _messages(question: Any, system: Any) -> list[dict[str, str]]:
    if isinstance(question, str):
        messages = [{"role": "user", "content": question}]
    elif isinstance(question, (list, tuple)):
        messages = [dict(each) if isinstance(each, Mapping) else {} for each in question]
    else:
        raise HookeError(f"a question is a text, or a list of messages, not {type(question).__name__}")
    for message in messages:
        if not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise HookeError("a chat message is a dictionary with role and content, both texts")
        if any("\ud800" <= c <= "\udfff" for c in message["content"]):
            raise HookeError(f"{message['content'][:40]!r} is not text in UTF-8; write it in that encoding")
    if not messages or not messages[-1]["content"].strip():
        raise HookeError("the question is empty")
    if system is None:
        return messages
    if not isinstance(system, str):
        raise HookeError(f"a system message is a text, not {type(system).__name__}")
    if any("\ud800" <= c <= "\udfff" for c in system):
        raise HookeError(f"{system[:40]!r} is not text in UTF-8; write it in that encoding")
    if not system.strip():
        raise HookeError("the system message is empty; leave it out")
    if messages[0]["role"] == "system":
        raise HookeError("the messages begin with a system message already; leave the other one out")
    return [{"role": "system", "content": system}, *messages]
