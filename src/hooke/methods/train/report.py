"""How the dictionaries of a training did, on tokens that nothing was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.feed import Feed
from hooke.dictionaries.training import ends, measured
from hooke.dictionaries.two_models import BOTH, compared
from hooke.harvest import Activations
from hooke.methods.train.asked import Setting
from hooke.model import Model
from hooke.model.belongs import belongs_to
from hooke.results import Claim, Result

Made = list[tuple[Setting, str, str, list[Coder]]]  # a setting, its folder, the name of a group, its blocks
FEW = 20  # features of one model alone that are listed


def report(
    model: Model,
    against: Model | None,
    arguments: dict[str, Any],
    asked: Sequence[Setting],
    made: Made,
    feed: Feed,
    facts: Mapping[str, Any],
    seconds: dict[str, float],
) -> Result:
    """The result of a training."""
    held = feed.unseen()
    rows = [_row(number, made[number], held, facts) for number in range(len(made))]
    if against is not None:
        for row, (*_, blocks) in zip(rows, made, strict=True):
            row["models"] = _two_models(blocks[0], held, (model.name, against.name))
    steps = int(facts["stopped_at"])
    best = [row["explained_variance"] for row in rows]
    sentence = (
        f"{len(rows)} {'dictionary' if len(rows) == 1 else 'dictionaries'} trained on {steps * feed.batch:,} tokens "
        f"explain{'s' * (len(rows) == 1)} {min(best):.1%}"
        + (f" to {max(best):.1%}" if len(rows) > 1 else "")
        + " of the variance of "
        f"{len(held):,} tokens that nothing was trained on"
    )
    if against is not None:
        sentence += _told_of_two(rows)
    notes = [] if feed.epochs == 1 else [f"Every token came {feed.epochs} times."]
    if steps < 1000:
        notes.append(f"{steps} steps are few: dictionaries of this size are usually trained for tens of thousands.")
    return Result.make(
        "training",
        arguments=arguments,
        provenance=model.provenance()
        | {"dictionaries": [block.hash for *_, blocks in made for block in blocks], "spread": feed.spread.shape},
        seconds=seconds,
        claims=[Claim(text=sentence, evidence=["#dictionaries"])],
        payload={
            "kind": arguments["kind"],
            "gate": asked[0].kind.name,
            "belongs_to": belongs_to(model),
            "sources": sorted(feed.plan.texts.get("sources", arguments["text"])),
            "text": feed.plan.texts,
            "tokens": steps * feed.batch,
            "held_out": len(held),
            "steps": steps,
            "batch": feed.batch,
            "looks": [line["tokens"] for line in facts["lines"]],
            "stopped": facts["why"],
            "dictionaries": rows,
            "hash": ends({str(number): blocks for number, (*_, blocks) in enumerate(made)}),
            "notes": notes,
            "sentence": sentence + ".",
        },
    )


def _row(number: int, entry: tuple[Setting, str, str, list[Coder]], held: Activations, facts: Mapping[str, Any]) -> Any:
    """What is said of one dictionary."""
    setting, folder, name, blocks = entry
    found = measured(blocks, held)
    keys = ("loss", "explained", "l0", "dead")
    return {
        "name": f"{name}, {setting.name}" if setting.name else name,
        "folder": folder,
        "reads": sorted({str(site) for block in blocks for site in block.reads}),
        "writes": sorted({str(site) for block in blocks for site in block.writes}),
        "features": sum(block.n_features for block in blocks),
        "hash": ends({"": blocks}),
        "curve": {key: [line["fits"][number][key] for line in facts["lines"]] for key in keys},
        **{key: found[key] for key in ("explained_variance", "l0", "dead")},
    }


def _two_models(block: Coder, held: Activations, names: tuple[str, str]) -> dict[str, Any]:
    """What a crosscoder says of the models that it reads."""
    found = compared(block, held)
    ratio, listed = found.ratio, []
    for which in (0, 1):
        alone = found.alone(which).nonzero()[:, 0]
        for i in alone[found.fires[alone].argsort(descending=True, stable=True)][:FEW].tolist():
            listed.append(
                {
                    "feature": i,
                    "model": names[which],
                    "norm": float(found.norm[i]),
                    "ratio": None if ratio is None else float(ratio[i]),
                    "fires": int(found.fires[i]),
                }
            )
    low, high = BOTH
    return {
        "names": list(names),
        "explained": list(found.explained),
        "both": int(((found.norm >= low) & (found.norm <= high) & (found.fires > 0)).sum()),
        "alone": [int(found.alone(which).sum()) for which in (0, 1)],
        "artefacts": [int(found.artefacts(which).sum()) for which in (0, 1)],
        "features": sorted(listed, key=lambda row: -row["fires"]),
    }


def _told_of_two(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of crosscoders, what one model has alone, in words."""
    parts = []
    for row in rows:
        models = row["models"]
        each = [
            f"{own - seeming:,} in {name} alone"
            for name, own, seeming in zip(models["names"], models["alone"], models["artefacts"], strict=True)
        ]
        where = "" if len(rows) == 1 else f" at {row['name']}"
        parts.append(f"{models['both']:,} features{where} write as much in both models, {each[0]} and {each[1]}")
    return "; " + "; ".join(parts)
