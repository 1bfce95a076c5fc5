"""From a token to what a person sees, and from what a person typed to a token.

Decoding one id alone is wrong: it loses the space that a SentencePiece token begins with and the bytes of half a
character, and encoding a text is no way back. Here each token of a vocabulary is spelled once, from its piece: what it
adds to a text, bytes that are no whole character as <0xE2>, and its id where that would be the spelling of two.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from hooke.errors import HookeError

SPACE = "\u2581"  # what SentencePiece writes for a space
MOST_CHOICES = 8  # that an error lists
MOST_DOTS = 3  # of which some may be dots and some spaces
NAMED_ID = re.compile(r"<id (\d{1,12})>")
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_ESCAPE = re.compile(
    r"\\(?:([\\'\"ntr])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|U([0-9a-fA-F]{8}))"
)
_PLAIN = {"n": "\n", "t": "\t", "r": "\r"}
_GLYPHS = str.maketrans({"↵": "\n", "␍": "\r", "⇥": "\t", "⍽": "\u00a0"})  # what the page draws for them
_QUOTES = {"'": "'", '"': '"', "“": "”", "`": "`"}
_ANCHORS = ("\n", "a", "0", ".")  # a text to stand before another one, so that no space is invented


class Spelling:
    """How one tokenizer writes its tokens. shown: by id, no two alike. Made of the whole vocabulary, once."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.size = tokenizer, len(tokenizer)
        self.raw = _bytes_of(tokenizer)  # by id; None where there is no token
        texts = [None if raw is None else _spelled(raw) for raw in self.raw]
        single = _lone_bytes(tokenizer)
        taken = {text for i, text in enumerate(texts) if i not in single}
        for i in single:  # the byte "A" beside the token "A"
            if texts[i] in taken:
                texts[i] = f"<0x{(self.raw[i] or b' ')[0]:02X}>"
        count = Counter(texts)
        self._alike: dict[str, list[int]] = defaultdict(list)  # the tokens that would be spelled alike
        for i, text in enumerate(texts):
            if text and count[text] > 1:
                self._alike[text].append(i)
        self.shown = [
            f"<id {i}>" if not text else text if count[text] == 1 else f"{text}<id {i}>" for i, text in enumerate(texts)
        ]

    def text(self, i: int) -> str:
        """What a person sees of a token; ids that have none are shown as themselves."""
        return self.shown[i] if 0 <= i < len(self.shown) else f"<id {i}>"

    def parts(self, ids: Sequence[int]) -> list[str]:
        """A sequence as one text, cut at its tokens: half a character goes to the token that ends it."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        last = len(ids) - 1
        return [decoder.decode(self._raw(i), final=n == last) for n, i in enumerate(ids)]

    def choice(self, i: int) -> str:
        """A token as an error offers it."""
        return f"{self.text(i)!r} (id {i})"

    def typed(self, text: str) -> int:
        """The id of the token that a person wrote: its text with the leading space, as the terminal or the page
        shows it, or "<id 7>". Raises HookeError with the choices if that is none, several, or may mean another."""
        if not text:
            raise HookeError(
                "the text of a token is empty; leave it out to take the model's own choice, or name a token"
            )
        found = self._readings(text)
        whole = self.encode(text, invent=True)
        read_as = whole[0] if len(whole) == 1 and whole[0] != getattr(self.tokenizer, "unk_token_id", None) else None
        if found and read_as is not None and read_as not in found:
            found.append(read_as)
        if len(found) == 1 and (read_as == found[0] or self._is_made(found[0])):
            return found[0]
        if len(found) == 1:
            pieces = ", ".join(map(self.choice, self.encode(text)[:MOST_CHOICES]))
            raise HookeError(
                f"{text!r} is written as several tokens ({pieces}), and there is also {self.choice(found[0])}, "
                "which the tokenizer never makes of text; name the one you mean by its id (--target-id, --contrast-id)"
            )
        if found:
            raise HookeError(
                f"{text!r} can mean {' or '.join(self.choice(i) for i in found[:MOST_CHOICES])}; name the one you mean "
                "by its id (--target-id, --contrast-id, or a number in Python)"
            )
        if read_as is not None:
            raise HookeError(
                f"no token is written {text!r}; the tokenizer reads it as {self.choice(read_as)}: name it like that"
            )
        ids = self.encode(text)
        if getattr(self.tokenizer, "unk_token_id", None) in ids or not ids:
            raise HookeError(
                f"the vocabulary has no token {text!r}, and no tokens to write it with; name one by its id"
            )
        said = ", ".join(self.choice(i) for i in ids[:MOST_CHOICES]) + (", …" if len(ids) > MOST_CHOICES else "")
        near = self._near(text)
        hint = f"{' or '.join(map(self.choice, near))} is one" if near else "name one of these, by its text or its id"
        many = "another token" if len(ids) == 1 else f"{len(ids)} tokens"
        raise HookeError(f"{text!r} is {many} ({said}), and a target is one token; {hint}")

    def single(self, text: str) -> int | None:
        """The id of the one token that a text is where it follows other text, if it is one."""
        ids = self.encode(text)
        return ids[0] if len(ids) == 1 and self._joined(ids) == text.encode("utf-8", "replace") else None

    def encode(self, text: str, *, invent: bool = False) -> list[int]:
        """The ids of a text that follows other text: without special tokens, and without the space that some
        tokenizers put before a text (with `invent`, as the tokenizer does it)."""

        def ids(part: str) -> list[int]:
            return encode(self.tokenizer, part)

        whole = ids(text)
        if invent or not text or self._joined(whole) == text.encode("utf-8", "replace"):
            return whole
        for anchor in _ANCHORS:
            before, both = ids(anchor), ids(anchor + text)
            rest = both[len(before) :]
            if both[: len(before)] == before and self._joined(rest) == text.encode("utf-8", "replace"):
                return rest
        return whole

    @cached_property
    def _by_shown(self) -> dict[str, int]:
        return {text: i for i, text in enumerate(self.shown)}

    def _is_made(self, i: int) -> bool:
        """Whether the tokenizer makes this token of its own text; of half a character nothing is asked."""
        try:
            text = self._raw(i).decode()
        except UnicodeDecodeError:
            return True
        return self.shown[i : i + 1] != [text] or self.encode(text) == [i]

    def _raw(self, i: int) -> bytes:
        return (self.raw[i] if 0 <= i < len(self.raw) else None) or b""

    def _joined(self, ids: Iterable[int]) -> bytes:
        return b"".join(map(self._raw, ids))

    def _readings(self, text: str) -> list[int]:
        """All tokens that are shown somewhere as the text."""
        forms = [text]
        if (
            len(text) > 2
            and _QUOTES.get(text[0]) == text[-1]
            and text[-1] not in text[1:-1].replace("\\" + text[-1], "")
        ):
            forms.append(text[1:-1])
        forms += [undrawn.translate(_GLYPHS) for form in forms for undrawn in _undrawn(form)]
        forms += [_unescaped(form) for form in forms]
        found = []
        for form in dict.fromkeys(forms):
            shown = self._by_shown.get(form)
            found += self._alike.get(form, []) if shown is None else [shown]
            named = NAMED_ID.fullmatch(form)
            found += [int(named[1])] if named else []
        return list(dict.fromkeys(found))

    def _near(self, text: str) -> list[int]:
        """Tokens that differ from the text by a space before it, or by capitals."""
        bare = text.strip()
        forms = [f" {bare}", bare, f" {bare.capitalize()}", f" {bare.lower()}", bare.capitalize(), bare.lower()]
        found = [self.single(form) for form in dict.fromkeys(forms) if form.strip() and form != text]
        return list(dict.fromkeys(i for i in found if i is not None))[:2]


def encode(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text as the tokenizer reads it by itself, without special tokens."""
    return [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]


def encode_all(tokenizer: Any, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """Token ids of each of several texts, together; special: with those that the tokenizer puts around a text."""
    return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=special)["input_ids"]]


def whole(tokenizer: Any, ids: Sequence[int], *, special: bool = True) -> str:
    """The text of a whole sequence, as the tokenizer joins it and nothing tidied; special: with special tokens."""
    return str(
        tokenizer.decode([int(i) for i in ids], skip_special_tokens=not special, clean_up_tokenization_spaces=False)
    )


def _undrawn(text: str) -> list[str]:
    """What the page may have drawn like this: spaces at the ends are dots there, and so are dots."""
    lead, trail = len(text) - len(text.lstrip("·")), len(text) - len(text.rstrip("·"))
    ends = [(a, b) for a in range(min(lead, MOST_DOTS) + 1) for b in range(min(trail, MOST_DOTS) + 1)]
    ends += [(lead, 0 if lead == len(text) else trail)]
    return [" " * a + text[a : len(text) - b] + " " * b for a, b in ends if a + b <= len(text)]


def _unescaped(text: str) -> str:
    r"""A text in which \n, \x0a, \u000a and the like are what they stand for."""

    def sign(match: re.Match[str]) -> str:
        plain, *codes = match.groups()
        if plain is not None:
            return _PLAIN.get(plain, plain)
        code = int(next(c for c in codes if c is not None), 16)
        return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else match[0]

    return _ESCAPE.sub(sign, text)


def _spelled(raw: bytes) -> str:
    """Bytes as text, with those that are no whole character as <0xE2>."""
    return raw.decode("utf-8", "hooke-bytes")


def _as_hex(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"<0x{b:02X}>" for b in error.object[error.start : error.end]), error.end


codecs.register_error("hooke-bytes", _as_hex)


def _bytes_of(tokenizer: Any) -> list[bytes | None]:
    """What each id adds to a text, as bytes."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    steps = _decoders(tokenizer)
    added = {int(i): str(token) for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    alphabet = _byte_alphabet() if "ByteLevel" in steps else None
    spaced, lone = bool({"Metaspace", "Replace"} & steps), _lone_bytes(tokenizer)
    out: list[bytes | None] = [None] * (1 + max([*vocabulary.values(), *added], default=-1))
    for piece, i in vocabulary.items():
        if i < 0:
            continue
        if i in added:
            out[i] = added[i].encode("utf-8", "replace")
        elif i in lone:
            out[i] = bytes([lone[i]])
        elif alphabet is not None and all(c in alphabet for c in piece):
            out[i] = bytes(alphabet[c] for c in piece)
        else:
            out[i] = (piece.replace(SPACE, " ") if spaced else piece).encode("utf-8", "replace")
    for i, text in added.items():
        out[i] = text.encode("utf-8", "replace")
    return out


def _lone_bytes(tokenizer: Any) -> dict[int, int]:
    """The ids of tokens that stand for one byte, <0x0A>, where the tokenizer falls back to bytes."""
    if "ByteFallback" not in _decoders(tokenizer):
        return {}
    found = ((_BYTE.fullmatch(piece), i) for piece, i in tokenizer.get_vocab().items())
    return {int(i): int(match[1], 16) for match, i in found if match}


def _decoders(tokenizer: Any) -> set[str]:
    """The kinds of steps by which a tokenizer turns pieces into text."""
    inner = getattr(tokenizer, "backend_tokenizer", None) or getattr(tokenizer, "_tokenizer", None)
    decoder = getattr(inner, "decoder", None)
    if decoder is None:
        if getattr(tokenizer, "sp_model", None) is not None:  # SentencePiece itself
            return {"Replace", "ByteFallback"}
        return {"ByteLevel"} if getattr(tokenizer, "byte_decoder", None) else set()
    found: set[str] = set()
    queue = [json.loads(decoder.__getstate__())]
    while queue:
        step = queue.pop()
        queue += step.get("decoders", [])
        space = step["type"] != "Replace" or SPACE in json.dumps(step.get("pattern"), ensure_ascii=False)
        found |= {step["type"]} if space else set()
    return found


def _byte_alphabet() -> dict[str, int]:
    """The characters by which GPT-2's vocabulary writes bytes: printable ones stand for themselves, the rest are
    numbered from 256."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(rest)}
