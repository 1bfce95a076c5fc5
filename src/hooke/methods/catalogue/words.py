"""Descriptions in words. Deterministic: every phrase is made from a rule or from tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from hooke.methods.catalogue.atoms import Atoms, fold
from hooke.methods.catalogue.rules import Rule

SHOWN = 3  # tokens that an output label names
MOSTLY, OFTEN = 0.6, 8.0  # of its tokens that belong to a list for it to be named, and how many times more than of all
LIKE = "words like "
_PLACES = {"on": "on {}", "after": "after {}", "near": "soon after {}"}


def rule_text(atoms: Atoms, rule: Rule) -> str:
    """A rule as a label says it: "on forms of be, after ‘there’"."""
    return ", ".join(_PLACES[place].format(_listed([atoms.names[a] for a in some])) for place, some in rule)


def rule_json(atoms: Atoms, rule: Rule) -> str:
    """A rule as data: a list of [place, [names of atoms]]."""
    return json.dumps([[place, [atoms.names[a] for a in some]] for place, some in rule], ensure_ascii=False)


def output_text(atoms: Atoms, texts: Sequence[str], promotes: np.ndarray) -> str:
    """What a feature makes likelier: its first tokens, and the list that most of them belong to."""
    shown = list(dict.fromkeys(fold(texts[i]) for i in promotes))[:SHOWN]
    of = atoms.of_token[promotes][:, atoms.words :]
    share = np.asarray(of.sum(0)).ravel() / len(promotes)
    base = atoms.sizes[atoms.words :] / atoms.of_token.shape[0]
    fits = (share >= MOSTLY) & (share >= OFTEN * base)
    name = ""
    if fits.any():
        best = int(np.argmax(np.where(fits, share - base, -1.0)))
        name = atoms.names[atoms.words + best]
    listed = ", ".join(f"‘{text}’" for text in shown)
    return f"makes {listed}{f' ({name})' if name and not name.startswith(LIKE) else ''} likelier"


def _listed(names: Sequence[str]) -> str:
    """Names with "or" before the last; groups of like words together."""
    like = [name.removeprefix(LIKE) for name in names if name.startswith(LIKE)]
    names = [name for name in names if not name.startswith(LIKE)]
    if like:
        few = [", ".join(words.split(", ")[: 3 if len(like) == 1 else 2]) for words in like]
        names = [*names, LIKE + "; ".join(few)]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
