"""How a test ended: the values that files hold, and the words for them that every screen shows."""

from __future__ import annotations

from typing import Literal

# The first five are of nodes, groups and edges of a graph, the last two of other claims (and of graphs in older files).
Verdict = Literal["as-predicted", "not-as-predicted", "matters", "no-effect", "untested", "tested", "refuted"]
WORDS: dict[str, str] = {
    "as-predicted": "matters, as predicted",
    "not-as-predicted": "matters, not as predicted",
    "matters": "matters",
    "no-effect": "no effect beyond random ones",
    "untested": "not tested",
    "tested": "tested: it holds",
    "refuted": "tested: it does not hold",
}
MEANS: dict[str, str] = {
    "as-predicted": "moves the answer more than random ones do, the predicted way, by half to twice as much",
    "not-as-predicted": "moves the answer more than random ones do, but the prediction has the wrong sign or size",
    "matters": "moves the answer more than random ones do; there was no prediction to compare with",
    "no-effect": "moves the answer no more than random ones do",
    "untested": "was not changed in the model",
}
