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

import torch
from torch import Tensor, nn

from hooke.errors import HookeError
from hooke.methods.wiring import node_named
from hooke.model.model import Model
from hooke.truth import siit
from hooke.truth.compiler import NUMBER, Compiled, compile_program, word_of
from hooke.truth.mixed import effects
from hooke.truth.plain import new_gpt2, word_tokenizer
from hooke.truth.program_text import read_program
from hooke.truth.programs import Program, all_programs, program

ALIVE = 1e-3  # an edge that moves no logit by this much is dead
PROBES = 256  # pairs on which edges are tried
KINDS = ("compiled", "siit", "nodes")


@dataclass(frozen=True, eq=False)
class Known:
    """A model with its true circuit.

    name: of its program. kind: "compiled", "siit" or "nodes". family: of the program.
    edges: the true edges, in the written form `a0.h1->m0`, `m0->a1.h0<q>`. An edge is true if the program reads
        through it and taking it from another input of the same length can change the output: what depends on
        positions alone is the same in both, so such edges are in `dead` and count as false.
    nodes: the nodes on true edges, `input` and `logits` among them.
    words: what token ids mean. outputs: ids of the outputs by value; of a numeric program the one of `value`,
        whose logit is the number.
    """

    name: str
    kind: str
    family: str
    model: Model
    edges: frozenset[str]
    nodes: frozenset[str]
    dead: frozenset[str]
    program: Program
    words: tuple[str, ...]
    outputs: dict[Any, int]
    numeric: bool

    def pairs(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Token ids of base and source inputs (n, pos), whose right outputs at the last position differ."""
        return _pairs(self.program, self.words, n, seed)

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
        d_vocab=config.vocab_size,
        n_pos=config.n_positions,
        n_layers=config.n_layer,
        n_heads=config.n_head,
        d_head=config.n_embd // config.n_head,
        d_mlp=config.n_inner,
        activation=config.activation_function,
        norms=not isinstance(known.model.hf.get_submodule("transformer.ln_f"), nn.Identity),
        seed=seed,
    )
    name = f"{known.model.name} with random weights"
    return replace(known, model=Model(hf, known.model.tokenizer, name=name, info={"seed": seed}))


@cache
def compiled(name: str) -> Compiled:
    """The compiled model of a program of the project; shared, so leave it as it is."""
    return compile_program(program(name))


@cache
def living_edges(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """The edges of a program's compiled model that can change its output, and those that cannot."""
    return _split(compiled(name))


def _split(made: Compiled) -> tuple[frozenset[str], frozenset[str]]:
    names = sorted(made.edges)
    moved = effects(made.hf, *_pairs(made.program, made.words, PROBES, 0), names)[:, :, 1:].amax((1, 2))
    living = frozenset(name for name, size in zip(names, moved.tolist()) if size > ALIVE)
    return living, made.edges - living


def _of_compiled(made: Compiled, name: str) -> Known:
    own = made.program.family != "file"
    living, dead = living_edges(name) if own else _split(made)
    info = {"program": name, "kind": "compiled", "note": "a RASP program compiled to weights"}
    model = Model(made.hf, word_tokenizer(made.words), name=f"compiled/{name}", info=info)
    return _known(made, "compiled", model, living, dead)


def _of_trained(kind: str, name: str) -> Known:
    made, (living, dead) = compiled(name), living_edges(name)
    hf, record = siit.load(name, made, kind)
    info = {"program": name, "kind": kind, **record}
    model = Model(hf, word_tokenizer(made.words), name=f"{kind}/{name}", info=info)
    to = record["alignment"]
    return _known(made, kind, model, *(frozenset(siit.renamed(edge, to) for edge in edges) for edges in (living, dead)))


def _known(made: Compiled, kind: str, model: Model, edges: frozenset[str], dead: frozenset[str]) -> Known:
    nodes = frozenset(node_named(end) for edge in edges for end in edge.split("->"))
    p = made.program
    return Known(p.name, kind, p.family, model, edges, nodes, dead, p, made.words, made.outputs, made.numeric)


def _pairs(program: Program, words: Sequence[str], n: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = random.Random(f"{program.name} {seed}")
    number = {word: i for i, word in enumerate(words)}
    found: list[tuple[Sequence[Any], Sequence[Any]]] = []
    for _ in range(200):
        found += [
            (base, source)
            for base, source in zip(program.draw(n, rng), program.draw(n, rng))
            if program.outputs(base)[-1] != program.outputs(source)[-1]
        ]
        if len(found) >= n:
            break
    if len(found) < n:
        raise HookeError(f"{program.name} gives nearly the same output for all inputs; there are no pairs to compare")
    base, source = (
        torch.tensor([[0, *(number[word_of(token)] for token in text)] for text in texts]) for texts in zip(*found[:n])
    )
    return base, source
