"""The labelled data sets by name; each is made when it is asked for."""

from __future__ import annotations

import difflib
from importlib import import_module

from hooke.data.labelled import Dataset
from hooke.errors import HookeError

# name: "module:function"; the function takes the seed (`def truth(seed: int = 0) -> Dataset`)
DATASETS = {
    "truth": "hooke.data.statements.make:truth",
    "truth-with-denials": "hooke.data.statements.make:with_denials",
    "honesty": "hooke.data.tasks_honesty:honesty",
    "roleplay": "hooke.data.tasks_roleplay:roleplay",
    "about-deception": "hooke.data.tasks_about_deception:about_deception",
    "harm": "hooke.data.tasks_harm:harm",
    "injection": "hooke.data.tasks_injection:injection",
    "entities": "hooke.data.tasks_entities:entities",
    "sentiment": "hooke.data.tasks_sentiment:sentiment",
    "language": "hooke.data.tasks_language:language",
    "tense": "hooke.data.tasks_grammar:tense",
    "number": "hooke.data.tasks_grammar:number",
    "voice": "hooke.data.tasks_grammar:voice",
    "question": "hooke.data.tasks_grammar:question",
    "grammar": "hooke.data.tasks_grammar:grammar",
    "formality": "hooke.data.tasks_style:formality",
    "politeness": "hooke.data.tasks_style:politeness",
    "concrete": "hooke.data.tasks_style:concrete",
    "subject": "hooke.data.tasks_content:subject",
    "animal": "hooke.data.tasks_content:animal",
    "parity": "hooke.data.tasks_content:parity",
    "code": "hooke.data.tasks_content:code",
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
