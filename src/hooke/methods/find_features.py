"""`find_features`: features of a catalogue by name, by what a person says, by a token, by what they make likelier, or
by a text that they fire on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from hooke.arguments import checked
from hooke.errors import HookeError
from hooke.features.catalogue import Catalogue, open_catalogue
from hooke.features.names import Name, name_in
from hooke.features.search import Hit, open_index, query_in
from hooke.results import Claim, Result

By = Literal["words", "token", "effect", "text"]
BEFORE = 4  # tokens that are shown before a strongest one
SHOWN = 3  # examples
MOST = 1000
MARK = "»"  # before the token that a feature is strongest on


@checked
def find_features(
    query: str,
    *,
    catalogue: str | Path | Catalogue | None = None,
    by: By = "words",
    than: str | None = None,
    model: Any = None,  # a Model: without one nothing here needs torch
    top: int = 10,
) -> Result:
    """Look features up in a catalogue.

    query: a feature, as "12_345"; or what is looked for. catalogue: its folder. by: "words", what a person says, as
    "European capitals"; "token", one that features fire on; "effect", one that they make likelier; "text", on which
    they fire, and `than` is one on which they do not: both are run through `model`. top: how many are given.

    Returns a `Result` of kind "features"; payload.results[]: feature, label (null where none holds), class, score,
    control and more (docs/features.md). Raises HookeError for an empty query, a token or feature that is not there, and
    a catalogue of another model.
    """
    if not 1 <= top <= MOST:
        raise HookeError(f"a search gives 1 to {MOST:,} features, not {top}")
    if by == "text" and model is None:
        raise HookeError("a search by text runs a model: give one")
    if than is not None and by != "text":
        raise HookeError("`than` is a text to compare with; search by text, or leave it out")
    found = catalogue if isinstance(catalogue, Catalogue) else open_catalogue(_named(catalogue), model)
    text = query if by == "text" else query_in(query)
    name = name_in(text) if by == "words" else None
    if name is not None:
        rows = found.rows(name)
        hits = [Hit(row["id"], 1.0) for row in rows]
    elif by == "text":
        from hooke.methods.catalogue.fires import fires

        assert model is not None
        hits = fires(model, found, text, than, top)
    else:
        index = open_index(found.folder)
        search = {"words": index.by_words, "token": index.by_token, "effect": index.by_effect}[by]
        hits = search(text, top)
    results = told(found, hits)
    shown = "name" if name is not None else by
    sentence = _sentence(text, than, shown, results)
    return Result.make(
        "features",
        arguments={"query": query, "by": by, "than": than, "top": top, "catalogue": found.about["hash"]},
        provenance={"model": found.about["belongs_to"].get("model"), "catalogue": found.about["hash"]}
        if model is None
        else model.provenance(),
        claims=[Claim(text=sentence, evidence=["#results"])],
        payload={
            "query": text,
            "by": shown,
            "catalogue": found.about["hash"],
            "belongs_to": found.about["belongs_to"],
            "results": results,
            "notes": [],
            "sentence": sentence,
        },
    )


def _named(catalogue: str | Path | None) -> str | Path:
    if catalogue is None:
        raise HookeError("no catalogue is named; make one with hooke catalogue build, and give its folder")
    return catalogue


def told(found: Catalogue, hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """What is said of the rows of hits, in their order."""
    if not hits:
        return []
    ids = [hit.id for hit in hits]
    marks = ", ".join("?" for _ in ids)
    rows = {row["id"]: row for row in found.ask(f"select * from {{features}} where id in ({marks})", ids)}
    examples = found.examples(ids)
    return [
        {
            "feature": str(name_of(found, rows[hit.id])),
            "label": rows[hit.id]["label"],
            "class": rows[hit.id]["kind"],
            "score": rows[hit.id]["score"],
            "control": rows[hit.id]["control"],
            "match": float(hit.match),
            "density": rows[hit.id]["density"],
            "effect": rows[hit.id]["effect"],
            "fires_on": [_shown(found, at) for at in _apart(examples[hit.id]["at"])],
            "promotes": [found.vocabulary[i] for i in rows[hit.id]["promotes"]],
        }
        for hit in hits
    ]


def name_of(found: Catalogue, row: dict[str, Any]) -> Name:
    """The name of a row; without a side where there is only one."""
    sign = "" if found.about["sides"] == 1 else "+" if row["sign"] > 0 else "-"
    return Name(row["layer"], row["feature"], sign)


def _apart(at: Sequence[int]) -> list[int]:
    """The first examples that do not overlap."""
    chosen: list[int] = []
    for one in at:
        if len(chosen) < SHOWN and all(abs(one - other) > BEFORE for other in chosen):
            chosen.append(one)
    return chosen


def _shown(found: Catalogue, at: int) -> str:
    ids, where = found.window(at, BEFORE, 0)
    words = [found.vocabulary[i] for i in ids]
    return "".join(words[:where]) + MARK + words[where]


def _sentence(query: str, than: str | None, by: str, results: Sequence[dict[str, Any]]) -> str:
    what = {
        "name": f"{query}",
        "words": f"what fits “{query}”",
        "token": f"what fires on “{query}”",
        "effect": f"what makes “{query}” likelier",
        "text": f"what fires on “{query}”" + (f" and not on “{than}”" if than else ""),
    }[by]
    if not results:
        return f"Nothing in the catalogue is {what}."
    first = results[0]
    label = first["label"] or "no label that holds"
    return f"{len(results)} sides of features for {what}; the first is {first['feature']}: {label}."
