"""RASP programs against plain Python, compiled models against the interpreter, and their edges one by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from families import close, logits_of, one_thread  # noqa: F401
from hooke.errors import HookeError
from hooke.methods.computation_graph import node_named
from hooke.model import Edit, Model, check_model
from hooke.sites import Site
from hooke.truth.known import Known, compile_file, compiled, known, labelled, random_twin
from hooke.truth.labels import beside
from hooke.truth.mixed import computation, effects, mixed_logits
from hooke.truth.plain import Shape, new_gpt2
from hooke.truth.programs import Program, all_programs, program
from hooke.truth.programs.compiler import NUMBER, compile_program
from hooke.truth.programs.rasp import (
    INDICES,
    TOKENS,
    Map,
    Select,
    SequenceMap,
    aggregate,
    number,
    selector_width,
    value_sets,
)
from hooke.truth.programs.text import parse_program

NAMES = list(all_programs())
NAMES_OF_PEOPLE = ("Ann", "Bob", "Cat", "Dan")
TREES = ("oak", "elm")
VOWELS = ("a", "e")


def before(p: Sequence[Any], steps: int = 1) -> Any:
    return p[-1 - steps] if len(p) > steps else None


def unless_none(f: Callable[..., Any], *values: Any) -> Any:
    return None if None in values else f(*values)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def smaller(p: Sequence[Any]) -> int:
    return sum(x < p[-1] for x in p)


def larger(p: Sequence[Any]) -> int:
    return sum(x > p[-1] for x in p)


def after_it(p: Sequence[Any]) -> Any:
    return next((p[i + 1] for i in range(len(p) - 1) if p[i] == p[-1]), None)


def not_twice(p: Sequence[Any]) -> Any:
    if p[-1] != "to":
        return None
    twice = next(x for x in p if p.count(x) > 1 and x in NAMES_OF_PEOPLE)
    return next(x for x in p if x in NAMES_OF_PEOPLE and x != twice)


def sum_of_three(p: Sequence[int]) -> Any:
    """The third before the last lies two back of what the sum of two was two steps on: a + (b + c)."""
    return sum(p[-3:]) % 3 if len(p) > 2 else None


# what each program gives at the end of a prefix, in plain Python
PLAIN: dict[str, Callable[[list[Any]], Any]] = {
    "histogram": lambda p: p.count(p[-1]),
    "count-a": lambda p: p.count("a"),
    "count-before-b": lambda p: p.count("a") if p[-1] == "b" else 0,
    "rarer-than-twice": lambda p: p[-1] not in p[:-1],
    "count-unlike": lambda p: len(p) - p.count(p[-1]),
    "parity": lambda p: p.count("a") % 2,
    "fraction-a": lambda p: p.count("a") / len(p),
    "fraction-early": lambda p: mean([float(i < 2) for i, x in enumerate(p) if (x in VOWELS) == (p[-1] in VOWELS)]),
    "mean-digit": mean,
    "mean-of-smaller": lambda p: mean([x for x in p if x < p[-1]]) / 2,
    "double-plus-previous": lambda p: unless_none(lambda b: 2 * p[-1] + b, before(p)),
    "square-minus-first": lambda p: abs(p[-1] ** 2 % 5 - p[0] ** 2 % 5),
    "sum-of-two": lambda p: unless_none(lambda b: (p[-1] + b) % 4, before(p)),
    "larger-of-two": lambda p: unless_none(lambda b: max(p[-1], b), before(p)),
    "sum-of-three": sum_of_three,
    "rising": lambda p: unless_none(lambda b: p[-1] > b, before(p)),
    "trend": lambda p: unless_none(lambda b: "up" if p[-1] > b else "down" if p[-1] < b else "level", before(p)),
    "peak": lambda p: unless_none(lambda b, c: p[-1] < b > c, before(p), before(p, 2)),
    "more-a-than-b": lambda p: p.count("a") > p.count("b"),
    "large-in-small": lambda p: p[-1] >= 2 and mean(p) <= 1.4,
    "kind-of-word": lambda p: unless_none(
        lambda b: "mixed" if (b in TREES) != (p[-1] in TREES) else "tree" if b in TREES else "animal", before(p)
    ),
    "count-trees": lambda p: sum(x in TREES for x in p),
    "all-of-one-kind": lambda p: len({x in TREES for x in p}) == 1,
    "after-marked-word": lambda p: unless_none(lambda b: p[-1] if b in ("oak", "cat") else "other", before(p)),
    "rank": smaller,
    "largest-so-far": lambda p: larger(p) == 0,
    "place-in-order": lambda p: "first" if larger(p) == 0 else "last" if larger(p) == len(p) - 1 else "between",
    "middle": lambda p: smaller(p) == larger(p),
    "shift-one": before,
    "shift-two": lambda p: before(p, 2),
    "first-token": lambda p: p[0],
    "mirrored": lambda p: p[-1] == p[4 - (len(p) - 1)] if len(p) > 2 else None,
    "mirror": lambda p: p[4 - (len(p) - 1)] if len(p) > 2 else None,
    "balance": lambda p: "open" if p.count("(") > p.count(")") else "closed" if p.count("(") < p.count(")") else "even",
    "bracket-pair": lambda p: unless_none(lambda b: (b, p[-1]) == ("(", ")"), before(p)),
    "never-closed-first": lambda p: all(p[:i].count("(") >= p[:i].count(")") for i in range(len(p) + 1)),
    "pattern-aba": lambda p: p[-3:] == ["a", "b", "a"] if len(p) > 2 else None,
    "seen-before": lambda p: p[-1] in p[:-1],
    "repeated-at-once": lambda p: unless_none(lambda b: b == p[-1], before(p)),
    "first-again": lambda p: p[-1] == p[0],
    "any-repeat": lambda p: len(set(p)) < len(p),
    "count-new": lambda p: len(set(p)),
    "induction": after_it,
    "indirect-object": not_twice,
    "two-of-three": lambda p: "a" in p,
    "chain-of-three": lambda p: before(p, 2),
    "either-of-two": lambda p: p.count("a") >= 2,
    "plus-minus": lambda p: p.count(p[-1]),
    "never-both": lambda p: p.count(p[-1]),
    "eight-a": lambda p: "all" if p.count("a") == 8 else p[-1],
}


def test_there_are_enough_programs() -> None:
    assert set(PLAIN) == set(NAMES) and len(NAMES) >= 40
    families = {p.family for p in all_programs().values()}
    assert len(families) >= 9
    assert all(p.description and p.name == name for name, p in all_programs().items())


@pytest.mark.parametrize("name", NAMES)
def test_the_interpreter_gives_what_plain_python_gives(name: str) -> None:
    made = program(name)
    for length in range(1, made.length + 1):
        for text in made.inputs(length):
            expected = [PLAIN[name](list(text[: i + 1])) for i in range(length)]
            assert made.outputs(text) == pytest.approx(expected, abs=1e-12) if name in NUMERIC else expected, text


NUMERIC = [name for name in NAMES if compiled(name).numeric]


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_model_equals_the_interpreter_on_every_input(name: str) -> None:
    made = compiled(name)
    values, ids = list(made.outputs), list(made.outputs.values())
    for length in range(1, made.program.length + 1):
        texts = made.program.inputs(length)
        wanted = [made.program.outputs(text) for text in texts]
        with torch.no_grad():
            logits = made.hf(input_ids=made.ids(texts)).logits[:, 1:]
        if made.numeric:
            close(logits[..., made.outputs[NUMBER]], torch.tensor(wanted))
        else:
            got = [[values[i] for i in row] for row in logits[..., ids].argmax(-1).tolist()]
            assert got == wanted


@pytest.mark.parametrize("name", NAMES)
def test_true_edges_are_exactly_those_that_matter(name: str) -> None:
    """All edges outside a circuit together change nothing on any input, in the model itself; each edge of a circuit
    changes an output of some scored pair, cut alone or beside what can stand in for it."""
    made, one = compiled(name), next(known("compiled", [name]))
    labels, parts = labelled(name)[0], computation(made.hf)
    every = parts.places
    assert labels.living | labels.cancelling | labels.dead == made.edges <= set(every)
    base = made.ids(made.program.inputs())
    source = base[torch.randperm(len(base), generator=torch.Generator().manual_seed(0))]
    for kept in {labels.living | labels.cancelling, *labels.circuits}:
        assert not bool(moves(made.hf, base, source, set(every) - kept).any())
    pairs = one.pairs(128, seed=7)
    for edge in labels.living:
        assert bool(moves(made.hf, *pairs, {edge} | beside(labels, edge)).any()), edge
    if labels.living == labels.true == labels.alone:
        moved = effects(made.hf, *pairs, sorted(labels.true))[:, :, 1:]
        assert bool((moved.amax((1, 2)) > 0.05).all())
        always = {edge for edge in labels.dead if name == "indirect-object" and "->a2" in edge and "<q>" in edge}
        assert labels.dead == set(made.idle) | always  # every such input has `to` at its end and nowhere else
        assert not labels.dead or effects(made.hf, *pairs, sorted(labels.dead))[:, :, 1:].max() < 1e-3
    assert one.nodes == {node_named(end) for edge in labels.living for end in edge.split("->")}


def moves(hf: Any, base: torch.Tensor, source: torch.Tensor, edges: set[str] | frozenset[str]) -> torch.Tensor:
    """(rows,): whether the model's outputs change when edges are cut together, whatever the program says."""
    parts = computation(hf)
    mask = torch.zeros(len(parts.readers), len(base), len(parts.writers))
    for edge in edges:
        reader, writer = parts.places[edge]
        mask[reader, :, writer] = 1
    with torch.no_grad():
        logits = mixed_logits(hf, torch.cat([source, base]), mask)[len(base) :]
        return (logits - hf(input_ids=base).logits)[:, 1:].abs().amax((1, 2)) > 1e-3


def test_why_edges_are_dead() -> None:
    idle = compiled("count-trees").idle
    assert list(idle.values()) == ["the predicate is the same for all values"] and "<q>" in next(iter(idle))
    idle = compiled("shift-one").idle
    assert set(idle.values()) == {"the same in all inputs of a length"}
    assert sorted(edge[-3:] for edge in idle) == ["<k>", "<q>"]
    assert not compiled("histogram").idle


def test_the_compiler_refuses_what_it_cannot_do() -> None:
    mixture = Program("x", "x", "", lambda: aggregate(Select(TOKENS, TOKENS, lambda k, q: True), TOKENS))
    with pytest.raises(HookeError, match="selects several values"):
        mixture.outputs(("a", "b"))
    share = aggregate(Select(TOKENS, TOKENS, lambda k, q: True), number(lambda t: float(t == "a"), TOKENS))
    with pytest.raises(HookeError, match="takes categorical"):
        value_sets(SequenceMap(lambda a, b: a, share, TOKENS), ("a", "b"), 3)
    with pytest.raises(HookeError, match="takes categorical"):
        value_sets(selector_width(Select(share, TOKENS, lambda k, q: True)), ("a", "b"), 3)
    odd = number(lambda t: {"a": 0.123, "b": 0.377, "c": 0.511, "d": 0.9, "e": 1.7}[t], TOKENS)
    with pytest.raises(HookeError, match="so many different numbers"):
        value_sets(aggregate(Select(TOKENS, TOKENS, lambda k, q: True), odd), tuple("abcde"), 9)
    long = Program("x", "x", "", lambda: Map(lambda i: i, INDICES), length=20)
    with pytest.raises(HookeError, match="inputs of 20 tokens"):
        long.inputs()
    with pytest.raises(HookeError, match="use fewer tokens or positions"):
        compile_program(Program("x", "x", "", lambda: SequenceMap(lambda a, b: a, INDICES, TOKENS), length=700))
    with pytest.raises(HookeError, match="did you mean histogram"):
        program("histogran")


@pytest.mark.parametrize("name", ["histogram", "fraction-a", "never-closed-first", "indirect-object"])
def test_compiled_models_are_ordinary_models(name: str) -> None:
    one = next(known("compiled", [name]))
    check_model(one.model)
    base, source = one.pairs(40, seed=3)
    assert base.shape == source.shape == (40, one.program.length + 1)
    assert bool((base[:, 0] == 0).all())
    text = " ".join(one.model.text(base[0, 1:]))
    assert torch.equal(one.model.tokens(text).ids[0], base[0])
    again = one.pairs(40, seed=3)
    assert torch.equal(again[0], base) and not torch.equal(one.pairs(40, seed=4)[0], base)
    assert bool((one.answers(base)[:, -1] != one.answers(source)[:, -1]).all())
    logits, other = logits_of(one.model, base), logits_of(one.model, source)
    close(one.metric(logits, logits), torch.zeros(40))
    assert bool((one.metric(other[:, -1], logits[:, -1]) > 1e-2).all())
    if one.numeric:
        close(one.metric(other, logits), (one.answers(base) - one.answers(source)).abs().mean(1), 1e-3)


def test_what_a_tokenizer_does_not_know_is_the_beginning() -> None:
    one = next(known("compiled", ["histogram"]))
    assert one.model.tokens("a zebra").ids.tolist() == [[0, one.words.index("a"), 0]]


def test_a_mixed_run_equals_one_edge_patched_by_hand() -> None:
    """Each edge of a GPT-2 with norms, by edits at the sites of its reader."""
    hf = new_gpt2(Shape(d_vocab=9, n_pos=6, n_layers=2, n_heads=3, d_head=4, d_mlp=10), seed=3)
    with torch.no_grad():
        for parameter in hf.parameters():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            parameter.add_(0.3 * noise)
    model = Model(hf, None, name="random")
    base, source = torch.randint(9, (2, 1, 6), generator=torch.Generator().manual_seed(1))
    names = list(computation(hf).places)
    assert len(names) == len(set(names)) == sum(9 * (1 + 4 * layer) + 4 + 4 * layer for layer in range(2)) + 9
    moved = effects(hf, base, source, names)
    clean = logits_of(model, base)
    for name, found in zip(names, moved):
        close(found[0], (by_hand(model, base, source, name) - clean).abs().amax(-1)[0])


def by_hand(model: Model, base: torch.Tensor, source: torch.Tensor, name: str) -> torch.Tensor:
    """The logits of one edge from the source: its reader's input is computed and put in by an edit."""
    writer, _, reader = name.partition("->")
    delta = written(model, source, writer) - written(model, base, writer)
    if reader == "logits":
        stream = model.run(base, read=["resid_post.1"]).acts["resid_post.1"] + delta
        return model.hf.lm_head(model.hf.transformer.ln_f(stream))  # type: ignore[operator, union-attr]
    layer = int(reader[1])
    block: Any = model.parts.blocks[layer].module
    if reader.startswith("m"):
        stream = model.run(base, read=[f"resid_mid.{layer}"]).acts[f"resid_mid.{layer}"] + delta
        edit = Edit(Site("mlp_in", layer), value=block.ln_2(stream))
    else:
        head, part = int(reader[4]), reader[-2]
        stream = model.run(base, read=[f"resid_pre.{layer}"]).acts[f"resid_pre.{layer}"] + delta
        linear = getattr(model.parts.blocks[layer], part)
        value = linear.apply(block.ln_1(stream)).unflatten(-1, (3, 4))[:, :, head : head + 1]
        edit = Edit(Site(part, layer), value=value, index=[head])
    return logits_of(model, base, edits=[edit])


def written(model: Model, ids: torch.Tensor, node: str) -> torch.Tensor:
    """What a node writes to the stream."""
    if node == "input":
        return model.run(ids, read=["resid_pre.0"]).acts["resid_pre.0"]
    layer = int(node[1])
    if node.startswith("m"):
        return model.run(ids, read=[f"mlp_out.{layer}"]).acts[f"mlp_out.{layer}"]
    head = int(node[4])
    z = model.run(ids, read=[f"z.{layer}"]).acts[f"z.{layer}"][:, :, head]
    return z @ model.parts.blocks[layer].o.weight[:, head * 4 : (head + 1) * 4].T


def test_a_random_twin_is_the_same_architecture_without_the_program() -> None:
    one = next(known("compiled", ["histogram"]))
    twin = random_twin(one, seed=1)
    check_model(twin.model)
    assert twin.edges == one.edges and twin.model.parts.d_mlp == one.model.parts.d_mlp
    base = one.pairs(200, seed=0)[0]
    logits = logits_of(twin.model, base)
    share = (logits[:, 1:].argmax(-1) == one.answers(base)).float().mean()
    assert float(share) < 0.6
    assert torch.equal(logits_of(random_twin(one, seed=1).model, base), logits)


def test_kinds_and_names_of_known_models() -> None:
    found = [(k.name, k.kind) for k in known("compiled", ["rank", "peak"])]
    assert found == [("rank", "compiled"), ("peak", "compiled")]
    with pytest.raises(HookeError, match="compiled, siit or nodes"):
        next(known("trained"))


# ---- programs as text --------------------------------------------------------------------------

TEXT = """
# again: how often this token has come so far
vocabulary = a b c
length = 4
same = select(tokens, tokens, ==)
counts = selector_width(same)   # 1 at the first
"""


def test_a_program_file_is_the_program_that_it_says(tmp_path: Path) -> None:
    file = tmp_path / "again.rasp"
    file.write_text(TEXT)
    made = compile_file(file)
    assert isinstance(made, Known) and made.name == "again" and made.family == "file"
    histogram = next(known("compiled", ["histogram"]))
    assert len(made.edges) == len(histogram.edges)
    check_model(made.model)
    for text in made.program.inputs(4):
        assert made.program.outputs(text) == program("histogram").outputs(text)


LINES: list[tuple[str, Callable[[list[str]], list[Any]]]] = [
    ("x = indices * 2 + 1", lambda t: [2 * i + 1 for i in range(len(t))]),
    ("x = 1 + 2 * 3 - indices", lambda t: [7 - i for i in range(len(t))]),
    ('x = tokens == "a" or tokens == "b"', lambda t: [x in "ab" for x in t]),
    ('x = not tokens == "a" and indices > 1', lambda t: [x != "a" and i > 1 for i, x in enumerate(t)]),
    ('x = mean(select(tokens, "a", !=), indices)', lambda t: [mean([float(i) for i in range(j + 1) if t[i] != "a"]) for j in range(len(t))]),
    ('x = mean(select(tokens, tokens, ==), tokens == "a") >= 0.5', lambda t: [x == "a" for x in t]),
    ("p = aggregate(select(indices, indices - 1, ==), tokens)\nx = p == tokens", lambda t: [None, *(t[i] == t[i - 1] for i in range(1, len(t)))]),
    ("x = (selector_width(select(indices, indices, <)) + -1) % 2", lambda t: [(i - 1) % 2 for i in range(len(t))]),
    ("x = indices < 2 == true", lambda t: [i < 2 for i in range(len(t))]),
    ("x = tokens != 1", lambda t: [True] * len(t)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "plain"), LINES, ids=[text for text, _ in LINES])
def test_expressions(text: str, plain: Callable[[list[str]], list[Any]]) -> None:
    made = parse_program(text, name="x")
    for tokens in made.draw(30, random.Random(0)):
        assert made.outputs(tokens) == plain(list(tokens))
    compile_program(made)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "last line must give"),
        ("x = select(tokens, tokens, ==)", "last line must give"),
        ("x", "write `name = expression`"),
        ("x = tokens +", "ends too early"),
        ("x = tokens tokens", "did not expect 'tokens'"),
        ("x = y", "'y' has no value"),
        ("tokens = indices", "cannot be a name"),
        ("x = __import__(1)", "'__import__' has no value"),
        ("x = tokens.upper", "cannot read '.upper'"),
        ("x = select(tokens, tokens, 3)", "third argument of select"),
        ("x = aggregate(tokens, tokens)", "first argument of aggregate"),
        ("x = select(tokens, tokens, ==) + 1", "selector stands where a value"),
        ("x = aggregate(select(tokens, tokens, ==), select(tokens, tokens, ==))", "selector stands where"),
        ("x = " + "(" * 100 + "1" + ")" * 100, "nested too deeply"),
        ("vocabulary = a\nx = tokens", "2 to 12 different words"),
        ("vocabulary = a 1\nx = tokens", "all words or all whole numbers"),
        ("length = 90\nx = tokens", "from 2 to 12"),
        ("\n\nx = $", ":3: cannot read"),
        ("vocabulary = a none\nx = tokens", "use other words"),
        ("x = indices + " + "9" * 5000, "a number beyond"),
        ('x = "a" * 99999', "cannot compute with"),
        ('x = "%99999d" % 1', "cannot compute with"),
        ("x = indices" + " + 1" * 500, "more than 60 operations"),
    ],
)
def test_bad_programs_are_refused_with_their_line(text: str, says: str) -> None:
    with pytest.raises(HookeError, match=says) as caught:
        parse_program(text, name="x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = tokens + 1", "cannot compute with"),
        ("x = tokens < 1", "no order"),
        ("x = mean(select(tokens, tokens, ==), tokens)", "a mean needs numbers"),
        ("x = mean(select(tokens, tokens, ==), indices) + tokens", "takes categorical s-ops only"),
        ("x = indices % 0", "cannot compute with"),
        ("x = indices + 2\n" + "x = x * x\n" * 12, "a map of two s-ops of so many values"),
    ],
)
def test_programs_that_mean_nothing_are_refused(text: str, says: str) -> None:
    with pytest.raises(HookeError, match=says):
        compile_program(parse_program(text, name="x"))


def test_files_that_are_no_programs(tmp_path: Path) -> None:
    with pytest.raises(HookeError, match="no file"):
        compile_file(tmp_path / "nothing")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HookeError, match="is not text"):
        compile_file(tmp_path / "bytes")
    (tmp_path / "long").write_text("#" * 100_000)
    with pytest.raises(HookeError, match="files over 64,000 bytes are not read"):
        compile_file(tmp_path / "long")
    with pytest.raises(HookeError, match="/dev/zero is a device"):
        compile_file("/dev/zero")
    (tmp_path / "constant").write_text("x = indices")
    with pytest.raises(HookeError, match="constant: constant gives nearly the same output"):
        compile_file(tmp_path / "constant")
