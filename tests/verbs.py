"""Every verb on a tiny model of words: what it is called with, and the main numbers of what it gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import transformers as tf

import hooke
from families import VOCAB, new_hf
from hooke import Model, Result
from hooke.data.labelled.rows import Dataset, Row
from hooke.data.prompts.circuit_tasks import Example
from hooke.methods.probe.explain import probe_explain

CLEAN, CORRUPT = "w11 w5 w9 w23", "w11 w77 w51 w23"
TARGET, CONTRAST = "w5", "w9"


@cache
def words() -> Any:
    """A tokenizer of the words w0, w1, …"""
    from tokenizers import Tokenizer, models, pre_tokenizers

    one = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    one.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tf.PreTrainedTokenizerFast(tokenizer_object=one)


def word_model(name: str, dtype: Any, **changes: Any) -> Model:
    """A tiny random model of a family that reads and writes words."""
    return Model(new_hf(name, dtype, **changes), words(), name=name)


@cache
def statements() -> Dataset:
    """Texts in which a word stands or not."""
    rows = []
    for i in range(48):
        rest = f"w{(7 * i) % 60 + 20} w{(11 * i) % 50 + 30} w{(3 * i) % 40 + 40}"
        label = i % 2
        rows.append(
            Row(f"{rest} {'w3' if label else 'w4'} w{i % 9 + 10}", label, f"group {i // 2}", f"topic {i // 2 % 3}")
        )
    return Dataset("words", "whether w3 stands in the text", ("without", "with"), tuple(rows))


Numbers = dict[str, list[float]]


def flat(value: Any) -> list[float]:
    """The numbers in nested lists, in their order."""
    if isinstance(value, (list, tuple)):
        return [x for inner in value for x in flat(inner)]
    return [] if value is None else [float(value)]


def run(model: Model) -> Numbers:
    run = model.run(CLEAN, read=["resid_post.2"])
    assert run.logits is not None
    return {"logits": flat(run.logits.tolist()), "stream": flat(run.acts["resid_post.2"].tolist())}


def generate(model: Model) -> Numbers:
    return {"logits": flat(model.generate(CLEAN, max_new_tokens=3).logits[:, 0].tolist())}


@cache
def trace(model: Model) -> Result:
    return hooke.trace(model, CLEAN, target=TARGET, counterfactual=[CORRUPT], nodes=40)


def intervene(model: Model) -> Result:
    traced = trace(model)
    return hooke.intervene(model, traced, traced.payload["groups"][0]["nodes"], controls=1)


def patch(model: Model) -> Result:
    return hooke.patch(model, CLEAN, CORRUPT, target=TARGET, contrast=CONTRAST)


def attribute(model: Model) -> Result:
    return hooke.attribute(model, CLEAN, CORRUPT, target=TARGET, contrast=CONTRAST)


def circuit(model: Model) -> Result:
    other = [CORRUPT, "w11 w6 w20 w23", "w11 w8 w3 w23", "w11 w90 w9 w31"]
    pairs = [Example(model.tokens(CLEAN).ids, model.tokens(x).ids, (5,), (9,)) for x in other]  # type: ignore[arg-type]
    return hooke.circuit(model, pairs, size=60, tests=2, n_pairs=2)


def lens(model: Model) -> Result:
    return hooke.lens(model, CLEAN)


def doctor(model: Model) -> Result:
    return hooke.doctor(model)


def probe(model: Model) -> Result:
    return hooke.probe(model, statements(), kind="means", site="resid_post.1", pool="mean", random_weights=False)


def probe_test(model: Model) -> Result:
    rows = [Row(f"w{i} w31 {'w3' if i % 2 else 'w4'}", i % 2, f"new {i // 2}", "new") for i in range(40, 60)]
    data = Dataset("others", "whether w3 stands in the text", ("without", "with"), tuple(rows))
    calm = [Row(f"w{i} w{i + 9} w88 w89", 0, f"calm {i}", "calm") for i in range(20)]
    return hooke.probe_test(model, fitted(model), data, benign=calm)


def explained(model: Model) -> Result:
    return probe_explain(model, fitted(model), "w90 w3 w21", neurons=4, controls=1)


@cache
def fitted(model: Model) -> Result:
    """A probe of the model."""
    return probe(model)


def main_numbers(verb: str, found: Any) -> Numbers:
    """What is compared of a result between types: continuous quantities, none that is a choice or a rank."""
    if isinstance(found, dict):
        return found
    p = found.payload
    if verb == "trace":
        return {"probability": [row["probability"] for row in p["top"]], "target": [p["target"]["probability"]]}
    if verb == "intervene":
        return {"before": [row["before"] for row in p["rows"][:1]]}  # other nodes are drawn in another type
    if verb == "patch":
        return {"values": flat(list(p["values"].values())), "ends": [p["clean"], p["corrupt"]]}
    if verb == "attribute":
        scores = {name: flat(list(places.values())) for name, places in p["scores"].items()}
        return scores | {"exact": flat(list(p["exact"].values()))}
    if verb == "circuit":
        return {"ends": [p["metric"]["clean"], p["metric"]["corrupt"]]}
    if verb == "doctor":  # nothing fails in any type
        return {"failed": [p["failed"]]}
    if verb == "lens":
        return {"entropy": flat(p["entropy"])}
    if verb == "probe_explain":
        # not what was measured: it is of the neurons that were chosen, and rounding may choose others
        return {"parts": [p["score"], *(part["value"] for part in p["parts"])]}
    return {"directions": [x for name in sorted(found.tensors) for x in flat(found.tensors[name].tolist())]}


VERBS: dict[str, Callable[[Model], Any]] = {
    "run": run,
    "generate": generate,
    "trace": trace,
    "intervene": intervene,
    "patch": patch,
    "attribute": attribute,
    "circuit": circuit,
    "lens": lens,
    "doctor": doctor,
    "probe": probe,
    "probe_test": probe_test,
    "probe_explain": explained,
}
