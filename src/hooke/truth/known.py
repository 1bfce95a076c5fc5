"""Models whose circuit is known: compiled programs, and models trained to hold a program in given parts.

for model in known("compiled"):
    base, source = model.pairs(64, seed=0)
    ...  # score model.edges against what a method finds in model.model
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hooke.errors import HookeError
from hooke.methods.computation_graph import ends_of, node_named
from hooke.model.model import Model
from hooke.truth.labels import Labels, Pool, label
from hooke.truth.plain import Shape, new_gpt2, word_tokenizer
from hooke.truth.programs import Program, all_programs, program
from hooke.truth.programs.compiler import NUMBER, Compiled, compile_program, word_of
from hooke.truth.programs.cuts import ALIVE
from hooke.truth.programs.text import read_program
from hooke.truth.trained import siit

OFF = 0.05  # a number of a trained model that moves by no more is still right
KINDS = ("compiled", "siit", "nodes")


@dataclass(frozen=True, eq=False)
class Known:
    """A model with its true circuit.

    name: of its program. kind: "compiled", "siit" or "nodes". family: of the program.
    edges: those of its circuits, true and redundant ones, in the written form `a0.h1->m0`, `m0->a1.h0<q>`.
    nodes: the nodes on these edges, `input` and `logits` among them.
    labels: which edges every circuit needs, which can stand in for each other, and which are dead (`truth/labels.py`).
    pool: pairs of inputs with what each edge does on them, from which `pairs` chooses.
    words: what token ids mean. outputs: ids of the outputs by value; of a numeric program the one of `value`,
        whose logit is the number.
    """

    name: str
    kind: str
    family: str
    model: Model
    edges: frozenset[str]
    nodes: frozenset[str]
    labels: Labels
    pool: Pool
    program: Program
    words: tuple[str, ...]
    outputs: dict[Any, int]
    numeric: bool

    def pairs(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Token ids of base and source inputs (n, pos). Every edge of the circuits acts on one of them, if n suffice.

        Of the rest, and of those wherever it can be, the right outputs at the last position differ.
        """
        return _pairs(self.program, self.words, self.pool, n, seed)

    def changed(self, logits: Tensor, clean: Tensor) -> Tensor:
        """(n,): whether outputs differ at some position after the beginning. Logits (n, pos, d_vocab).

        In a compiled model whatever moves a logit is a difference; in a trained one another output has to be the
        likeliest, or the number to move by more than 0.05.
        """
        logits, clean = logits[:, 1:], clean[:, 1:]
        if self.kind == "compiled":
            return (logits - clean).abs().amax((1, 2)) > ALIVE
        ids = list(self.outputs.values())
        if self.numeric:
            return ((logits - clean)[..., ids].abs() > OFF).any(-1).any(-1)
        return (logits[..., ids].argmax(-1) != clean[..., ids].argmax(-1)).any(1)

    def answers(self, ids: Tensor) -> Tensor:
        """What the program gives at each position after the beginning, (n, pos - 1): ids, or numbers."""
        tokens = {word: token for token, word in zip(self.program.vocabulary, map(word_of, self.program.vocabulary))}
        texts = [[tokens[self.words[i]] for i in row[1:]] for row in ids.tolist()]
        rows = [self.program.outputs(text) for text in texts]
        return torch.tensor(rows if self.numeric else [[self.outputs[x] for x in row] for row in rows])

    def metric(self, logits: Tensor, reference: Tensor) -> Tensor:
        """How far outputs are apart, (n,): the mean over positions after the beginning of KL(reference | logits)
        among the outputs, or of the distance of numbers. Logits (n, pos, d_vocab), or (n, d_vocab) of one position.
        """
        if logits.ndim == 3:
            logits, reference = logits[:, 1:], reference[:, 1:]
        else:
            logits, reference = logits[:, None], reference[:, None]
        if self.numeric:
            at = self.outputs[NUMBER]
            return (logits[..., at] - reference[..., at]).abs().mean(1)
        ids = list(self.outputs.values())
        log, wanted = logits[..., ids].log_softmax(-1), reference[..., ids].log_softmax(-1)
        return (wanted.exp() * (wanted - log)).sum(-1).mean(1)


def known_names(kind: str) -> dict[str, str]:
    """The programs that there are models of, with their families. Raises HookeError for a kind that is not there."""
    if kind not in KINDS:
        raise HookeError(f"a kind is compiled, siit or nodes, not {kind!r}")
    there = all_programs() if kind == "compiled" else siit.kept(kind)
    return {name: p.family for name, p in all_programs().items() if name in there}


def known(kind: str | None = None, names: Sequence[str] | None = None) -> Iterator[Known]:
    """The models with known circuits, of one kind or of all, made one after another.

    kind: "compiled"; "siit", trained with nodes and edges interchanged; "nodes", trained with nodes alone, as is
        published.
    names: of programs. Raises HookeError for a kind or name that does not exist.
    """
    wanted = list(all_programs()) if names is None else [program(name).name for name in names]
    for each in KINDS if kind is None else (kind,):
        there = known_names(each)
        for name in wanted:
            if name in there:
                yield _of_compiled(compiled(name), name) if each == "compiled" else _of_trained(each, name)


def compile_file(path: str | Path) -> Known:
    """The model of a program file (`program_text`). Raises HookeError for what cannot be read or compiled."""
    source = read_program(path)
    try:
        made = compile_program(source)
        return _of_compiled(made, made.program.name)
    except HookeError as error:
        raise HookeError(f"{path}: {error}") from None


def random_twin(known: Known, seed: int) -> Known:
    """The same architecture with random weights, as a control: nothing in it is the circuit."""
    config: Any = known.model.hf.config
    hf = new_gpt2(
        Shape(
            d_vocab=config.vocab_size,
            n_pos=config.n_positions,
            n_layers=config.n_layer,
            n_heads=config.n_head,
            d_head=config.n_embd // config.n_head,
            d_mlp=config.n_inner,
            activation=config.activation_function,
            norms=not isinstance(known.model.hf.get_submodule("transformer.ln_f"), nn.Identity),
        ),
        seed=seed,
    )
    name = f"{known.model.name} with random weights"
    return replace(known, model=Model(hf, known.model.tokenizer, name=name, info={"seed": seed}))


@cache
def compiled(name: str) -> Compiled:
    """The compiled model of a program of the project; shared, so leave it as it is."""
    return compile_program(program(name))


@cache
def labelled(name: str) -> tuple[Labels, Pool]:
    """The labels of the edges of a program of the project, in its compiled model."""
    return label(compiled(name))


def _of_compiled(made: Compiled, name: str) -> Known:
    labels, pool = label(made) if made.program.family == "file" else labelled(name)
    info = {"program": name, "kind": "compiled", "note": "a RASP program compiled to weights"}
    model = Model(made.hf, word_tokenizer(made.words), name=f"compiled/{name}", info=info)
    return _known(made, "compiled", model, labels, pool)


def _of_trained(kind: str, name: str) -> Known:
    made, (labels, pool) = compiled(name), labelled(name)
    hf, record = siit.load(name, made, kind)
    info = {"program": name, "kind": kind, **record}
    model = Model(hf, word_tokenizer(made.words), name=f"{kind}/{name}", info=info)
    to = record["alignment"]
    acts = {siit.renamed(edge, to): found for edge, found in pool.acts.items()}
    return _known(made, kind, model, labels.renamed(lambda edge: siit.renamed(edge, to)), replace(pool, acts=acts))


def _known(made: Compiled, kind: str, model: Model, labels: Labels, pool: Pool) -> Known:
    edges, p = labels.living, made.program
    nodes = frozenset(node_named(end) for edge in edges for end in ends_of(edge))
    return Known(p.name, kind, p.family, model, edges, nodes, labels, pool, p, made.words, made.outputs, made.numeric)


def _pairs(program: Program, words: Sequence[str], pool: Pool, n: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = random.Random(f"{program.name} {seed}")
    number = {word: i for i, word in enumerate(words)}
    found = [(pool.texts[pool.base[i]], pool.texts[pool.source[i]]) for i in _exercising(pool, n, rng)]
    for _ in range(20):
        if len(found) >= n:
            break
        found += [
            (base, source)
            for base, source in zip(program.draw(n, rng), program.draw(n, rng))
            if program.outputs(base)[-1] != program.outputs(source)[-1]
        ]
    found = found[:n]
    if len(found) < n:  # outputs that differ are rare: pairs that exercise an edge come more than once
        some = [
            (pool.texts[pool.base[i]], pool.texts[pool.source[i]])
            for i in np.any([*pool.acts.values()], 0).nonzero()[0]
        ]
        found += rng.choices(some, k=n - len(found))
    rng.shuffle(found)
    base, source = (
        torch.tensor([[0, *(number[word_of(token)] for token in text)] for text in texts]) for texts in zip(*found)
    )
    return base, source


def _exercising(pool: Pool, n: int, rng: random.Random) -> list[int]:
    """Pairs of the pool, at most n, on which each edge acts: once, and then more often, in up to half of the pairs."""
    acts = np.array([*pool.acts.values()])
    enough = np.minimum(max(1, n // (2 * len(acts))), acts.sum(1))
    seen, chosen = np.zeros(len(acts), int), list[int]()
    for wanted in range(1, int(enough.max()) + 1):
        while len(chosen) < n and (short := seen < np.minimum(wanted, enough)).any():
            rarest = np.where(short, acts.sum(1), acts.shape[1] + 1).argmin()
            gain = acts[short].sum(0) + pool.told / 2  # outputs that differ at the end break ties
            gain = np.where(acts[rarest], gain, -1.0)
            gain[chosen] = -1.0
            best = (gain == gain.max()).nonzero()[0].tolist()
            chosen.append(rng.choice(best))
            seen += acts[:, chosen[-1]]
    return chosen
