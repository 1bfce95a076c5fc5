"""What a result says of a catalogue that was made."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hooke.features.catalogue import MANIFEST, PLAN
from hooke.features.table import EXAMPLES, FEATURES, table_hash
from hooke.files import write_atomic
from hooke.methods.catalogue.score import LEVELS
from hooke.methods.catalogue.sweep import Swept
from hooke.methods.catalogue.windows import KINDS, Windows
from hooke.model import Model
from hooke.results import Claim, Result


def report(
    model: Model, about: dict[str, Any], wins: Windows, swept: Swept,
    tables: tuple[pa.Table, pa.Table], folder: Path, seconds: dict[str, float],
) -> Result:  # fmt: skip
    """Write the manifest, and say how the labels did."""
    features, examples = tables
    whole = json.dumps([wins.plan.hash, about["belongs_to"]["weights_sha256"], *map(table_hash, tables)])
    digest = hashlib.sha256(whole.encode()).hexdigest()
    write_atomic(folder / MANIFEST, (json.dumps({**about, "hash": digest}, indent=1) + "\n").encode())
    counts = Counter(features["kind"].to_pylist())
    upper, everything = labelled(features, about["sides"])
    told = features["input_score"].drop_null().to_numpy(), features["input_control"].drop_null().to_numpy()
    payload = {
        "basis": [block["hash"] for block in about["blocks"]],
        "belongs_to": about["belongs_to"],
        "text": wins.plan.texts,
        "kinds": [KINDS[kind] for kind in wins.kinds],
        "tokens": wins.plan.n_tokens,
        "measured_on": swept.tokens,
        "features": len(features) // about["sides"],
        "sides": about["sides"],
        "examples": int(np.sum([len(row) for row in examples["at"].to_pylist()])),
        "silent": int((features["largest"].to_numpy() <= 0).sum()),
        "labels": {name: counts.get(name, 0) for name in ("input", "output", "both", "obscure")},
        "labelled": upper,
        "labelled_all": everything,
        "score": float(told[0].mean()) if len(told[0]) else None,
        "control": float(told[1].mean()) if len(told[1]) else None,
        "levels": levels(features),
        "bytes": sum((folder / name).stat().st_size for name in (FEATURES, EXAMPLES, PLAN)),
        "hash": digest,
        "notes": _notes(wins),
    }
    payload["sentence"] = sentence(payload)
    return Result.make(
        "catalogue",
        arguments={key: about[key] for key in ("basis", "text", "tokens", "context", "layers", "seed")},
        provenance=model.provenance() | {"dictionaries": payload["basis"]},
        seconds=seconds,
        claims=[Claim(text=payload["sentence"], verdict="tested", evidence=["#labelled", "#levels"])],
        payload=payload,
    )


def labelled(features: pa.Table, n_sides: int) -> tuple[float, float]:
    """The share of features whose side that matters more has a label: of those in the upper half by effect, of all."""
    effect = features["effect"].to_numpy().reshape(-1, n_sides)
    has = features["label"].is_valid().to_numpy().reshape(-1, n_sides)
    own = np.take_along_axis(has, effect.argmax(1)[:, None], 1)[:, 0]
    total = effect.sum(1)
    return float(own[total >= np.median(total)].mean()), float(own.mean())


def levels(features: pa.Table) -> list[dict[str, Any]]:
    """Mean detection by level, of descriptions and of other features' descriptions."""
    found = []
    both = [[row for row in features[name].to_pylist() if row] for name in ("levels", "levels_control")]
    own, others = (np.array(rows, float).reshape(-1, LEVELS) for rows in both)
    for at in range(LEVELS):
        there = ~np.isnan(own[:, at])
        means = [float(x[there, at].mean()) if there.any() else None for x in (own, others)]
        found.append({"level": at + 1, "detection": means[0], "control": means[1], "features": int(there.sum())})
    return found


def sentence(p: dict[str, Any]) -> str:
    """The result in words, what falls short first."""
    text = (
        f"{p['labelled']:.0%} of the features that matter (the upper half by effect) have a label that is above the "
        "95th percentile of its controls on passages it was not made from; the others have no label that holds."
    )
    if p["score"] is not None:
        text += f" Descriptions of what features fire on score {p['score']:.2f}; their bars are at {p['control']:.2f}."
    short = p["labelled"] < 0.5
    return f"Fewer than half: {text}" if short else text


def _notes(wins: Windows) -> list[str]:
    found = []
    if len(wins.kinds) < 2:
        found.append(
            f"All text is {KINDS[wins.kinds[0]]}: what a feature seems to mean may be so in this kind of text alone; "
            "name another with --text."
        )
    if wins.plan.n_tokens < 100_000:
        found.append(f"{wins.plan.n_tokens:,} tokens are few: rare features are not seen, and bars are rough.")
    return found
