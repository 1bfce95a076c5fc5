"""Labels of edges against all sets of cuts by the model itself; the known hard cases; pairs that exercise every edge."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from families import one_thread  # noqa: F401
from hooke.errors import HookeError
from hooke.truth import labels as module
from hooke.truth.known import compiled, known, labelled
from hooke.truth.labels import Labels, beside, label
from hooke.truth.mixed import computation, mixed_logits
from hooke.truth.programs import all_programs, program
from hooke.truth.programs.compiler import Compiled, compile_program, word_of
from hooke.truth.programs.cuts import Cuts
from hooke.truth.programs.text import parse_program

A = 'selector_width(select(tokens, "a", ==))'
TEXTS = {
    "a difference that is never there": f'same = {A} == {A}\nout = (tokens == "b") and same',
    "the same twice": f"out = {A} > 1 or {A} > 1",
    "one input of eight": f'all = {A} > 2\nout = all or (tokens == "b")',
    "a way round": f"n = {A}\nout = (n > 0) == (n > 1)",
}
SHORT = {"two-of-three": 2, "chain-of-three": 3, "either-of-two": 3, "plus-minus": 2, "never-both": 2, "eight-a": 3}


def made_of(text: str, head: str = "vocabulary = a b\nlength = 3") -> Compiled:
    return compile_program(parse_program(f"{head}\n{text}", name="x"))


TINY = [made_of(text) for text in TEXTS.values()] + [
    compile_program(replace(program(name), vocabulary=("a", "b"), length=length)) for name, length in SHORT.items()
]


def null_sets(made: Compiled, free: frozenset[str]) -> set[frozenset[str]]:
    """The sets of edges that change nothing when they are cut: all sets, on all pairs of inputs, by the model."""
    hf, parts, texts = made.hf, computation(made.hf), made.program.inputs()
    base, source = (made.ids(x) for x in zip(*itertools.product(texts, texts), strict=True))
    n, found = len(base), set()
    sets = [frozenset(some) for k in range(len(free) + 1) for some in itertools.combinations(sorted(free), k)]
    with torch.no_grad():
        clean = hf(input_ids=base).logits
        for start in range(0, len(sets), 64):
            here = sets[start : start + 64]
            masks = torch.stack([parts.mask(sorted(one)) for one in here]).float()
            ids = torch.cat([source, base.repeat(len(here), 1)])
            logits = mixed_logits(hf, ids, masks.transpose(0, 1).repeat_interleave(n, 1))[n:]
            moved = (logits - clean.repeat(len(here), 1, 1))[:, 1:].abs().amax((1, 2)) > 1e-3
            found |= {one for one, any_ in zip(here, moved.view(len(here), n).any(1).tolist(), strict=True) if not any_}
    return found


@pytest.mark.parametrize("made", TINY, ids=[*TEXTS, *SHORT])
def test_labels_are_those_of_all_sets_by_brute_force(made: Compiled) -> None:
    """Minimal circuits, and from them the labels, by definition."""
    free = frozenset(made.edges - set(made.idle))
    found, null = label(made)[0], null_sets(made, free)
    _check(made, free, null, found)
    assert found.exhaustive


@pytest.mark.parametrize("made", TINY, ids=[*TEXTS, *SHORT])
def test_the_search_of_large_programs_finds_the_same(made: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = label(made)[0]
    monkeypatch.setattr(module, "EVERY_SET", 0)
    assert replace(label(made)[0], exhaustive=True) == whole


def _check(made: Compiled, free: frozenset[str], null: set[frozenset[str]], found: Labels) -> None:
    enough = {free - cut for cut in null}
    minimal = {one for one in enough if not any(other < one for other in enough)}
    assert set(found.circuits) == minimal
    assert found.true == frozenset.intersection(*minimal)
    assert found.redundant == frozenset.union(*minimal) - found.true
    rest = free - found.living
    dead = found.dead & free
    assert dead in null and dead <= rest and found.cancelling == rest - dead
    assert all(dead | {edge} not in null for edge in found.cancelling)
    assert found.alone == {edge for edge in free if frozenset([edge]) not in null}
    assert found.enumerated and found.inputs == len(made.program.inputs())


@pytest.mark.parametrize("name", all_programs())
def test_a_program_with_cuts_is_its_model_with_cuts(name: str) -> None:
    made, rng = compiled(name), np.random.default_rng(1)
    cuts = Cuts(made, made.program.inputs())
    base, source = rng.integers(len(cuts.texts), size=(2, 60))
    cut = rng.random((60, len(cuts.edges))) < rng.choice([0.15, 0.5], (60, 1))
    acts = cuts.acts(base, source, cut)
    assert np.array_equal(acts, cuts.by_model(base, source, cut)) and 0 < acts.mean() < 1


def test_parts_that_stand_in_for_each_other_are_not_dead() -> None:
    """Three ways of which two suffice: none is needed alone, none is dead, and two of them make a circuit."""
    found = labelled("two-of-three")[0]
    ways = {edge for edge in found.redundant if edge.endswith("->m0")}
    assert len(ways) == 3 and not ways & (found.true | found.dead | found.alone)
    assert sorted(len(ways & one) for one in found.circuits) == [2, 2, 2]
    assert {"m0->m1", "m1->m2", "m2->logits"} == found.true


def test_what_never_acts_is_dead_though_mixed_inputs_set_it_off() -> None:
    found = labelled("never-both")[0]
    assert len(found.true) == 5 and len(found.dead & found.alone) == 4 and not found.redundant | found.cancelling


def test_what_cancels_is_neither_true_nor_dead() -> None:
    found = labelled("plus-minus")[0]
    assert len(found.cancelling) == 5 and found.cancelling <= found.alone and found.circuits == (found.true,)


def test_an_edge_that_acts_on_one_input_of_thousands_is_true() -> None:
    made = made_of(f'fires = {A} > 11\nout = fires or tokens == "b"', "vocabulary = a b\nlength = 12")
    found, pool = label(made)
    assert (found.inputs, found.enumerated) == (4096, True)
    assert found.true == made.edges - set(made.idle) and not found.redundant
    rare = next(edge for edge in found.true if edge.startswith("a1."))
    assert 0 < pool.acts[rare].sum() < 100


def test_long_chains_through_redundant_parts() -> None:
    vote = "{0} = (p and q) or (p and r) or (q and r)"
    back = "aggregate(select(indices, indices - 1, ==), x)"
    lines = [*(f"{way} = {A} > 0" for way in "pqr"), vote.format("x")]
    for _ in range(2):
        lines += [*(f"{way} = {back}" for way in "pqr"), vote.format("x")]
    made = made_of("\n".join(lines), "vocabulary = a b\nlength = 4")
    found = label(made)[0]
    assert not found.exhaustive and found.enumerated
    ways = [edge for edge in found.redundant if "h" in edge.partition("->")[0]]
    assert len(ways) == 9 and not found.cancelling
    of_layers = [
        {edge.partition(".")[0] for edge in ways},
        *({e.partition(".")[0] for e in ways if e in one} for one in found.circuits),
    ]
    assert all(len(layers) == 3 for layers in of_layers) and all(len(one & set(ways)) == 6 for one in found.circuits)
    assert found.true == found.alone and {edge for edge in found.true if "h" in edge} == set()


def test_inputs_too_many_to_list_are_sampled_and_that_is_said() -> None:
    made = made_of('out = tokens == "a"', "vocabulary = a b c d\nlength = 10")
    found = label(made)[0]
    assert not found.enumerated and 30_000 < found.inputs < 33_000 and found.pairs >= 100_000
    assert found.true == {"input->m0", "m0->logits"}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["eight-a", "two-of-three", "pattern-aba", "indirect-object"])
def test_pairs_exercise_every_edge(name: str, seed: int) -> None:
    one = next(known("compiled", [name]))
    base, source = one.pairs(24, seed)
    number = {text: i for i, text in enumerate(one.program.inputs())}
    of = {word: token for token, word in zip(one.program.vocabulary, map(word_of, one.program.vocabulary), strict=True)}
    rows = [np.array([number[tuple(of[one.words[i]] for i in row[1:])] for row in x.tolist()]) for x in (base, source)]
    cuts = Cuts(compiled(name), one.program.inputs())
    for edge in one.edges:
        cut = {edge} | beside(one.labels, edge)
        assert cuts.acts(*rows, np.array([[e in cut for e in cuts.edges]])).any(), edge


def test_a_program_without_output_or_with_one_for_all_is_refused() -> None:
    with pytest.raises(HookeError, match="same output for all inputs"):
        label(made_of("x = indices"))
    with pytest.raises(HookeError, match="selects several values"):
        label(made_of("x = aggregate(select(tokens, tokens != tokens, !=), tokens)"))
