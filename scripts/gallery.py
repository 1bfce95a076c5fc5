"""Make the gallery's pages again: real traces of the default model, findings and failures told by their own numbers.

    python scripts/gallery.py [NAME ...]
    python scripts/gallery.py --index    (only index.json, from the pages as they are, without a model)

An example fails, and says so, when its nodes alone keep less than half of the effect, or when the ablation of the
part that moves the answer most does no more than random groups do, or not what was predicted.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import hooke
from hooke.viewer import page_bytes

FOLDER = Path(__file__).resolve().parent.parent / "src" / "hooke" / "viewer" / "examples"
NODES, LINKS = 1000, 12_000
LEAST_FIT = 0.5
EXAMPLES: list[dict[str, Any]] = [
    {"name": "capital", "prompt": "The capital of France is", "question": "Where does a fact come from?"},
    {
        "name": "names",
        "prompt": "When Mary and John went to the store, John gave a drink to",
        "question": "How does it know who gets the drink?",
    },
    {"name": "days", "prompt": "Monday, Tuesday, Wednesday, Thursday,", "question": "How does it continue a list?"},
    {"name": "opposite", "prompt": "The opposite of hot is", "question": "Does it know what “opposite” asks for?"},
    {
        "name": "plural",
        "prompt": "The keys to the cabinet",
        "counterfactual": "The key to the cabinet",
        "target": " are",
        "contrast": " is",
        "question": "Why “are” and not “is”?",
    },
    {
        "name": "code",
        "prompt": "def add(a, b):\n    return a +",
        "question": "Where does it look to finish a line of code?",
    },
    {"name": "copy", "prompt": "red blue green yellow red blue green", "question": "How does it repeat a pattern?"},
    {
        "name": "years",
        "prompt": "The war lasted from the year 1732 to the year 17",
        "counterfactual": "The war lasted from the year 1702 to the year 17",
        "question": "Does it know that a war ends after it began?",
    },
]


def finding(view: dict[str, Any]) -> tuple[str, bool]:
    """One sentence from the numbers of a trace as its page holds them, and whether the explanation fails."""
    fit, groups = view["verification"].get("fit"), view["groups"]
    if fit is None:
        return "How much of the effect the drawn neurons keep is not known.", True
    alone = f"The {NODES} drawn neurons alone keep {100 * fit:.2g}% of the effect."
    if not groups:
        return f"No part of the graph stands out. {alone}", True
    most = groups[0]  # the parts of a story come by their effect
    if most["verdict"] == "no-effect":
        return f"The part that moves the answer most has no effect beyond random neurons. {alone}", True
    if fit < LEAST_FIT:
        return f"The graph leaves out what matters. {alone}", True
    if most["measured"] is None:
        return f"The part that moves the answer most was not tested. {alone}", True
    if most["verdict"] in ("refuted", "untested"):  # a page of before
        return f"The part that moves the answer most did not come out as predicted. {alone}", True
    if most["verdict"] == "not-as-predicted":
        sizes = f"predicted {most['predicted']:+.2f}, measured {most['measured_in_graph']:+.2f}"
        return f"The part that moves the answer most matters, not as predicted ({sizes}). {alone}", True
    runs = [run for run in view["interventions"] if run["op"] == "off" and set(run["nodes"]) == set(most["nodes"])]
    return f"{runs[0]['sentence']}.", False


def shown(name: str) -> dict[str, Any]:
    """The view of the trace in a page of the gallery."""
    raw = gzip.decompress((FOLDER / f"{name}.page").read_bytes())
    head = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return dict(json.loads(head["__metadata__"]["page"])["results"][0]["view"])


def index() -> list[dict[str, Any]]:
    """What index.json says of the pages that are there."""
    out = []
    for example in EXAMPLES:
        if not (FOLDER / f"{example['name']}.page").exists():
            continue
        view = shown(example["name"])
        text, fails = finding(view)
        title = f"{example['prompt']} → {view['target']['token'].strip()}"
        entry = {"name": example["name"], "title": title, "question": example["question"]}
        out.append({**entry, "finding": text, "fails": fails})
    return out


def main() -> None:
    wanted = sys.argv[1:]
    if wanted != ["--index"]:
        FOLDER.mkdir(parents=True, exist_ok=True)
        model = hooke.load()
        for example in EXAMPLES:
            if wanted and example["name"] not in wanted:
                continue
            options = {k: example[k] for k in ("target", "contrast", "counterfactual") if k in example}
            result = hooke.trace(model, example["prompt"], nodes=NODES, **options)
            path = FOLDER / f"{example['name']}.page"
            path.write_bytes(page_bytes([result], max_links=LINKS))
            print(f"{example['name']}: {path.stat().st_size >> 10} kB, {result.seconds['total']} s")
    entries = index()
    (FOLDER / "index.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for entry in entries:
        fit = shown(entry["name"])["verification"].get("fit")
        print(f"{entry['name']}: {entry['title']!r}, fit {fit}, fails {entry['fails']}: {entry['finding']}")


if __name__ == "__main__":
    main()
