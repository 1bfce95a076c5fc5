"""Is the attention link that a trace names first the one that matters most of all? Every link is patched exactly.

    python bench/links.py

Five indirect objects (against a counterfactual with the other name) and five prompts that repeat themselves (against
those that Hooke makes): where the named link stands among all links that the counterfactual changes, by what taking
away what each carries does to the answer. Some ten minutes on two cores.
"""

from __future__ import annotations

import time
from typing import Any

import torch

import hooke
from hooke.dictionaries import neurons
from hooke.kernels import exact_products
from hooke.methods.metric import Metric
from hooke.methods.trace.coded import Case, encode
from hooke.methods.trace.counterfactuals import run_baseline
from hooke.methods.trace.links import links_by_slope, without
from hooke.model import Model, Tokens, held_view, live_view

OBJECTS = (
    ("When Mary and John went to the store, John gave a drink to", " John gave", " Mary gave"),
    ("When Anna and Paul went to the park, Paul threw a ball to", " Paul threw", " Anna threw"),
    ("After Lisa and Mark left the house, Mark sent a letter to", " Mark sent", " Lisa sent"),
    ("Then Emma and Jack had lunch, and Jack gave the bill to", " Jack gave", " Emma gave"),
    ("While Sara and David were at work, David wrote a note to", " David wrote", " Sara wrote"),
)
REPEATED = (
    "red blue green yellow red blue green",
    "cat seven moon table cat seven moon",
    "A7 K2 Q9 B4 A7 K2",
    "lamp river stone lamp river",
    "north fish paper cold north fish paper",
)
AT_ONCE = 1500


def rank(model: Model, prompt: str, **against: Any) -> tuple[int, int, str]:
    """Of the link that is named first: its place among all by exact patching, how many there are, and its sentence."""
    payload = hooke.trace(model, prompt, nodes=300, **against).payload
    named = payload["attention"][0]
    tokens, basis = model.tokens(prompt), neurons(model)
    view = held_view(model, tokens)
    metric = Metric(payload["target"]["id"], None, model.parts.softcap)
    case = Case(model, model.record(tokens), view, encode(view, basis), metric, [])
    rows = [model.tokens([b["ids"]]).ids for b in payload["verification"]["baselines"]]
    case.baselines = [run_baseline(model, "", Tokens(row, tokens.mask), basis, view.dtype) for row in rows]
    case.live = live_view(model, view)
    guessed, at = links_by_slope(case, case.live)
    places = [tuple(place) for place in guessed.nonzero().tolist()]
    effects = []
    for start in range(0, len(places), AT_ONCE):
        some = places[start : start + AT_ONCE]
        bring = at(torch.tensor(some))
        each = zip(bring.here, bring.there.unbind(1), some, strict=True)
        logits, _ = model.run_each(case.run, [[without(case, here, list(there), place)] for here, there, place in each])
        effects += (metric.graph(logits) - metric.graph(case.logits)).abs().tolist()
    own = places.index((named["layer"], named["head"], named["query"], named["key"]))
    return 1 + sum(effect > effects[own] for effect in effects), len(places), named["text"]


def main() -> None:
    model, found = hooke.load(), []
    asked = [(prompt, {"counterfactual": prompt.replace(one, other)}) for prompt, one, other in OBJECTS]
    for prompt, against in [*asked, *((prompt, {}) for prompt in REPEATED)]:
        start = time.perf_counter()
        with exact_products():
            place, count, text = rank(model, prompt, **against)
        found.append(place)
        print(f"{place} of {count}, {time.perf_counter() - start:.0f} s: {prompt!r}\n   {text}", flush=True)
    print(f"among the first three in {sum(place <= 3 for place in found)} of {len(found)}")


if __name__ == "__main__":
    main()
