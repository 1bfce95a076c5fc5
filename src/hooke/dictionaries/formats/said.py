"""What a config of another tool says: each key is asked for with its type and bounds, or refused in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hooke.errors import HookeError

LARGEST = 2**31  # of a size that a config may give


@dataclass(frozen=True)
class Said:
    """The values of a config. where: its name in a message. Keys that nobody asks for are ignored."""

    values: Mapping[str, Any]
    where: str

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def whole(self, key: str, default: int | None = None, *, low: int = 1) -> int:
        """A whole number from `low` on. Raises HookeError for anything else, and if it is not there without default."""
        value = self._of(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < LARGEST:
            raise self._odd(key, value, f"a whole number from {low} on")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number. Raises HookeError for anything else."""
        value = self._of(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
            raise self._odd(key, value, "a finite number")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false. Raises HookeError for anything else."""
        value = self._of(key, default)
        if not isinstance(value, bool):
            raise self._odd(key, value, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A text of at most 500 characters. Raises HookeError for anything else."""
        value = self._of(key, default)
        if not isinstance(value, str) or len(value) > 500:
            raise self._odd(key, value, "a text")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts. Raises HookeError for anything else."""
        value = self._of(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(x, str) and len(x) <= 500 for x in value):
            raise self._odd(key, value, "a list of texts")
        return value

    def one_of(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        """A text that is one of several. Raises HookeError naming them for another."""
        value = self.text(key, default)
        if value not in choices:
            raise HookeError(f"{self.where}: {key} is {value!r}, and Hooke reads {', '.join(choices)}")
        return value

    def part(self, key: str) -> Said:
        """An object inside; an empty one where it is not there. Raises HookeError for anything else."""
        value = self.values.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self._odd(key, value, "an object")
        return Said(value, f"{self.where}: {key}")

    def _of(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None and default is None:
            raise HookeError(f"{self.where} does not say {key!r}, without which it cannot be read")
        return default if value is None else value

    def _odd(self, key: str, value: Any, needed: str) -> HookeError:
        return HookeError(f"{self.where}: {key} is {str(value)[:80]!r}, and has to be {needed}")


def plain_yaml(text: str, where: str) -> dict[str, Any]:
    """A flat YAML file: `key: value` a line, and lists of values; all that configs of transcoders need.

    Values are texts, whole or other numbers, true, false and null. Raises HookeError for nesting, anchors and the rest.
    """
    found: dict[str, Any] = {}
    items: list[Any] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        bare, at = line.strip(), f"{where}, line {number}"
        if not bare or bare.startswith("#") or bare in ("---", "..."):
            continue
        if bare.startswith("- "):
            if items is None:
                raise HookeError(f"{at}: a list without a key")
            items.append(_value(bare[2:].strip(), at))
            continue
        key, colon, value = bare.partition(":")
        key, value = key.strip("\"'"), value if value.strip()[:1] != "#" else ""
        plain = colon and key and key == key.strip() and line[:1] == bare[:1] and value[:1] in ("", " ")
        if not plain or key in found:
            raise HookeError(f"{at}, is no plain `key: value`; write it on one line, and once")
        items = None
        if value.strip():
            found[key] = _value(value.strip(), at)
        else:
            items = found[key] = []
    return {key: None if value == [] else value for key, value in found.items()}


def _value(text: str, at: str) -> Any:
    """One value, without a comment after it."""
    quoted = re.match(r"'((?:[^']|'')*)'", text)
    if quoted is not None:
        value, end = quoted[1].replace("''", "'"), quoted.end()
    elif text[0] in '"[':
        try:
            value, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            raise HookeError(f"{at}: {text[:60]!r} cannot be read; write lists one item a line") from None
    else:
        return _word(text.split(" #")[0].rstrip(), at)
    if text[end:].strip() and not text[end:].startswith(" #"):
        raise HookeError(f"{at}: {text[:60]!r} is no plain text, number or list")
    return value


def _word(text: str, at: str) -> Any:
    """A value without quotes: true, false, null, a number, or a text."""
    if text[:1] in "&*!|>{%@`'" or ": " in text:
        raise HookeError(f"{at}: {text[:60]!r} is no plain text, number or list")
    named = {"null": None, "~": None, "true": True, "True": True, "false": False, "False": False}
    if text in named:
        return named[text]
    try:
        return int(text) if text.lstrip("+-").isdecimal() and len(text) < 20 else float(text)
    except ValueError:
        return text
