"""The labelled data sets by name; each is made when it is asked for."""

from __future__ import annotations

import difflib
from importlib import import_module

from hooke.data.labelled.rows import Dataset
from hooke.errors import HookeError

# name: "module:function"; the function takes the seed (`def truth(seed: int = 0) -> Dataset`)
DATASETS = {
    "truth": "hooke.data.labelled.statements.make:truth",
    "truth-with-denials": "hooke.data.labelled.statements.make:with_denials",
    "honesty": "hooke.data.labelled.honesty:honesty",
    "roleplay": "hooke.data.labelled.roleplay:roleplay",
    "about-deception": "hooke.data.labelled.about_deception:about_deception",
    "harm": "hooke.data.labelled.harm:harm",
    "injection": "hooke.data.labelled.injection:injection",
    "entities": "hooke.data.labelled.entities:entities",
    "sentiment": "hooke.data.labelled.sentiment:sentiment",
    "language": "hooke.data.labelled.language:language",
    "tense": "hooke.data.labelled.grammar:tense",
    "number": "hooke.data.labelled.grammar:number",
    "voice": "hooke.data.labelled.grammar:voice",
    "question": "hooke.data.labelled.grammar:question",
    "grammar": "hooke.data.labelled.grammar:grammar",
    "formality": "hooke.data.labelled.style:formality",
    "politeness": "hooke.data.labelled.style:politeness",
    "concrete": "hooke.data.labelled.style:concrete",
    "subject": "hooke.data.labelled.content:subject",
    "animal": "hooke.data.labelled.content:animal",
    "parity": "hooke.data.labelled.content:parity",
    "code": "hooke.data.labelled.content:code",
}


def dataset_names() -> list[str]:
    """The names of all packaged labelled data sets, in the order of the table."""
    return list(DATASETS)


def dataset(name: str, *, seed: int = 0) -> Dataset:
    """The data set of this name; the same name and seed give the same rows. Raises HookeError for other names."""
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "there are " + ", ".join(DATASETS)
        raise HookeError(f"no data set is called {name!r}; {hint}")
    module, _, function = DATASETS[name].partition(":")
    made: Dataset = getattr(import_module(module), function)(seed)
    return made
