"""Make the gallery's pages again: real traces of the default model, findings and failures told by their own numbers.

    python scripts/gallery.py [NAME ...]

An example fails, and says so, when its nodes alone keep less than half of the effect, or when the ablation of the
group that carries most does not come out as predicted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import hooke
from hooke.viewer import page_bytes

FOLDER = Path(__file__).resolve().parent.parent / "src" / "hooke" / "viewer" / "examples"
NODES, LINKS = 1000, 12_000
EXAMPLES: list[dict[str, Any]] = [
    {"name": "capital", "prompt": "The capital of France is", "question": "Where does a fact come from?"},
    {
        "name": "names",
        "prompt": "When Mary and John went to the store, John gave a drink to",
        "counterfactual": "When Mary and John went to the store, Mary gave a drink to",
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


def finding(result: hooke.Result) -> tuple[str, bool]:
    """One sentence from the numbers of the trace, and whether the explanation fails."""
    payload = result.payload
    fit = payload["verification"].get("fit")
    groups = payload["groups"]
    alone = "" if fit is None else f" The {NODES} drawn neurons alone keep {max(fit, 0):.0%} of the effect."
    if not groups:
        return f"No group of neurons stands out.{alone}", True
    if groups[0]["verdict"] == "refuted":
        return f"The group that carries most did not pass its test.{alone}", True
    if fit is None or fit < 0.5:
        return f"The graph leaves out what matters.{alone}", True
    runs = [run for run in payload["interventions"] if run["op"] == "off"]
    return str(min(runs, key=lambda run: run["change"])["sentence"]) + ".", False


def main() -> None:
    wanted = sys.argv[1:]
    model = hooke.load()
    path = FOLDER / "index.json"
    index = {e["name"]: e for e in json.loads(path.read_text(encoding="utf-8"))} if path.exists() else {}
    FOLDER.mkdir(parents=True, exist_ok=True)
    for example in EXAMPLES:
        if wanted and example["name"] not in wanted:
            continue
        options = {k: example[k] for k in ("target", "contrast", "counterfactual") if k in example}
        result = hooke.trace(model, example["prompt"], nodes=NODES, **options)
        text, fails = finding(result)
        (FOLDER / f"{example['name']}.page").write_bytes(page_bytes([result], max_links=LINKS))
        title = f"{example['prompt']} → {result.payload['target']['token'].strip()}"
        index[example["name"]] = {
            "name": example["name"],
            "title": title,
            "question": example["question"],
            "finding": text,
            "fails": fails,
        }
        ordered = [index[e["name"]] for e in EXAMPLES if e["name"] in index]
        path.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        size = len((FOLDER / f"{example['name']}.page").read_bytes()) >> 10
        fit = result.payload["verification"].get("fit")
        print(f"{example['name']}: {title!r}, fit {fit}, fails {fails}, {size} kB, {result.seconds['total']} s: {text}")


if __name__ == "__main__":
    main()
