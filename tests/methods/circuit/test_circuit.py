"""`circuit`: fast runs are the plain ones, a known circuit is found, and what is reported is measured on other pairs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from circuits import OBJECTIVE, difference, known_pairs, tiny_pairs
from families import CONFIGS, close, logits_of, model_of, random_tokens
from hooke import HookeError
from hooke.data.prompts.circuit_tasks import Example
from hooke.methods.circuit import circuit, measure
from hooke.methods.circuit.find import DEFAULT
from hooke.methods.circuit.levels import Edges, Nodes, default_of, level_of
from hooke.methods.circuit.pairs import Pairs, ask, read, read_file
from hooke.methods.circuit.run import gains
from hooke.methods.computation_graph import ComputationGraph
from hooke.methods.objective import Objective
from hooke.model import Edit, Model, Tokens
from hooke.results.drawn import graph_of
from hooke.sites import Site
from hooke.truth.known import Known, known
from slow_cuts import values_of

SHARES = (0.0, 0.02, 0.1, 0.5, 0.9, 0.99, 1.0)


# ---- runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_fast_runs_are_the_plain_ones(family: str) -> None:
    model = model_of(family)
    computation = ComputationGraph.of(model.parts)
    clean, corrupt = random_tokens(3, 7), random_tokens(3, 7, seed=1)
    for row, begin in enumerate((0, 3, 6)):
        corrupt.ids[row, :begin] = clean.ids[row, :begin]
    generator = torch.Generator().manual_seed(0)
    masks = [computation.edges & (torch.rand(computation.edges.shape, generator=generator) < share) for share in SHARES]
    close(gains(model, clean, corrupt, OBJECTIVE, masks), values_of(model, clean, corrupt, OBJECTIVE, masks))


def test_padding_changes_nothing() -> None:
    model = model_of("llama")
    pairs = read(model, tiny_pairs(2), "logit-difference")
    assert not bool(pairs.clean.mask.all())
    space = Edges(model)
    keeps = [torch.rand(space.n, generator=torch.Generator().manual_seed(s)) < 0.5 for s in range(3)]
    found = space.gains(pairs, keeps)
    for row in range(2):
        at = pairs.clean.mask[row]
        one, other = (Tokens(t.ids[row : row + 1, at], t.mask[row : row + 1, at]) for t in (pairs.clean, pairs.corrupt))
        close(found[:, row : row + 1], values_of(model, one, other, OBJECTIVE, [space.matrix(k) for k in keeps]))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "neox"])
@pytest.mark.parametrize("level", ["nodes", "neurons"])
def test_circuits_of_nodes_are_edits(level: str, family: str) -> None:
    model = model_of(family)
    pairs = read(model, tiny_pairs(2, begin=1), "logit-difference")
    space = Nodes(model, level)
    keep = torch.rand(space.n, generator=torch.Generator().manual_seed(1)) < 0.5
    found = space.gains(pairs, [keep, ~keep])
    for row, given in enumerate(tiny_pairs(2, begin=1)):
        sites = [site for place in space.places for site in place.sites]
        other = model.run(given.corrupt, read=sites).acts  # type: ignore[arg-type]
        edits = []
        for unit in (~keep).nonzero()[:, 0].tolist():
            layer, at = divmod(unit, space.n_heads + space.width)
            if at < space.n_heads:
                edits.append(Edit(Site("z", layer), "set", other[Site("z", layer)][:, :, [at]], index=[at]))
            elif level == "nodes":
                edits.append(Edit(Site("mlp_out", layer), "set", other[Site("mlp_out", layer)]))
            else:
                own = at - space.n_heads
                edits.append(
                    Edit(Site("mlp_act", layer), "set", other[Site("mlp_act", layer)][:, :, [own]], index=[own])
                )
        logits = logits_of(model, given.clean, edits=edits, logits="last")
        close(found[:1, row], difference(logits))


@pytest.mark.parametrize("method", ["eap", "eap-ig", "eap-ig-activations", "relp"])
def test_scores_of_nodes_come_near_their_patches(method: str) -> None:
    model = model_of("gpt2")
    pairs = read(model, tiny_pairs(3), "logit-difference")
    space = Nodes(model, "nodes")
    found = space.score(pairs, method, seed=0, tick=lambda done: None).effects
    true = space.score(pairs, "exact", seed=0, tick=lambda done: None).effects
    assert float(torch.corrcoef(torch.stack([found.flatten(), true.flatten()]))[0, 1]) > 0.7
    whole = torch.ones(space.n, dtype=torch.bool)
    cut = whole.clone()
    cut[3] = False
    values = space.gains(pairs, [whole, cut])
    close(true[:, 3], values[1] - values[0])


# ---- pairs ---------------------------------------------------------------------------------------------


def test_the_metric_of_many_pairs_is_that_of_each(smol: Model) -> None:
    for name in ("ioi", "greater-than"):
        asked = ask(smol, name, None, 3, 0)
        assert len(asked.find) == len(asked.report) == 3
        texts = ["".join(t["clean"]) for t in [*asked.find.texts, *asked.report.texts]]
        assert len(set(texts)) == 6  # nobody is on both sides
        from hooke.methods.tasks import examples, find_task, metric_of

        for i, made in enumerate(examples(smol, name, 6)[3:]):
            logits = logits_of(smol, made.clean, logits="last")
            close(asked.report.ends[0, i : i + 1].float(), metric_of(smol, find_task(name), made)(logits))
            own = asked.report.objective.gain(logits, torch.tensor([i]))
            close(own, metric_of(smol, find_task(name), made)(logits))
            assert float(asked.report.objective.distance(logits, torch.tensor([i]))) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "guess"}, "no circuit method called 'guess'; there are sieve"),
        ({"level": "atoms"}, "no level called 'atoms'; there are edges, nodes, neurons"),
        ({"level": "neurons", "method": "acdc"}, "acdc orders edges and says nothing of neurons"),
        ({"size": 0}, "a size is a whole number from 1 to"),
        ({"size": 10**9}, "a size is a whole number from 1 to"),
        ({"size": 1.5}, "lies between 0 and 1"),
        ({"n_pairs": 1}, "at least 2 pairs"),
        ({"n_pairs": 5}, "there are 6 pairs"),
        ({"ablation": "zero"}, "no ablation called 'zero' for circuits"),
        ({"metric": "kl"}, "logit-difference or probability"),
        ({"metric": lambda x: x[:, 5] * math.nan}, "not finite"),
        ({"metric": lambda x: x[:, 5] * 0}, "is 0 on the clean and on the corrupt prompt"),
        ({"metric": lambda x: x[:, :2]}, "one number a row"),
        ({"tests": 0}, "at least one edge"),
        ({"seed": 10**20}, "a seed is a whole number"),
        ({"seed": -1}, "a seed is a whole number"),
        ({"source": "no-such.json"}, "no file no-such.json"),
        ({"source": "x.json", "method": "eap"}, "leave the method and the level out"),
    ],
)
def test_bad_arguments_are_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(HookeError) as caught:
        circuit(
            model_of("llama"), tiny_pairs(6), **{"method": "eap", **options} if "source" not in options else options
        )
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_pairs_that_cannot_be_divided() -> None:
    """One that would be on both sides, and pairs that cancel on one side."""
    pairs = tiny_pairs(6)
    with pytest.raises(HookeError, match="pairs 2 and 6 have the same prompts"):
        circuit(model_of("llama"), [*pairs[:5], pairs[1]], method="eap")
    turned = [p._replace(clean=p.corrupt, corrupt=p.clean) for p in pairs[:2]]
    even = [x for both in zip(pairs[:2], turned, strict=True) for x in both]
    with pytest.raises(HookeError, match="on the clean and on the corrupt prompt"):
        for seed in range(20):  # until a pair and its mirror are on one side
            ask(model_of("llama"), [*even, *pairs[2:4]], None, 4, seed)


def test_what_are_no_pairs() -> None:
    model = model_of("llama")
    with pytest.raises(HookeError, match="the name of a task, or a list of"):
        ask(model, 3, None, None, 0)  # type: ignore[arg-type]
    with pytest.raises(HookeError, match="pair 1 is not \\(clean, corrupt, target, contrast\\)"):
        ask(model, [1, 2, 3, 4], None, None, 0)  # type: ignore[list-item]


def test_pairs_that_do_not_line_up(smol: Model, tmp_path: Path) -> None:
    good = Example("The dog is", "The cat is", (" here",), (" there",))
    with pytest.raises(
        HookeError, match=r"pair 2: the clean prompt has 3 tokens and the corrupt one 4: they differ at "
    ):
        circuit(smol, [good, Example("The dog is", "The red cat is", (" a",), (" b",)), good, good])
    with pytest.raises(HookeError, match="pair 1: a token is both target and contrast"):
        read(smol, [good._replace(contrast=(" here",))], "logit-difference")
    with pytest.raises(HookeError, match="pairs 1 and 4 have the same prompts"):
        others = [
            Example(f"The {a} is", f"The {b} is", (" here",), (" there",)) for a, b in (("man", "boy"), ("sun", "sea"))
        ]
        circuit(smol, [good, *others, good])
    with pytest.raises(HookeError, match=r"pair 1: ' nosuchtoken' is \d tokens"):
        read(smol, [good._replace(target=(" nosuchtoken",))], "logit-difference")
    with pytest.raises(HookeError, match="cannot do addition"):
        circuit(smol, "addition")
    with pytest.raises(HookeError, match="no task called 'ioj'"):
        circuit(smol, "ioj")
    with pytest.raises(HookeError, match="a task has its own metric"):
        circuit(smol, "ioi", metric="probability")
    path = tmp_path / "pairs.jsonl"
    for text, said in (
        ("", "has no pairs"),
        ("{", "line 1 is not JSON"),
        ('{"clean": "a"}', "line 1: a pair is an object with clean, corrupt, target, contrast"),
        ('{"clean": "a", "corrupt": "b", "target": 3.5, "contrast": "x"}', "target is a token or a list of tokens"),
        ('{"clean": "", "corrupt": "b", "target": "y", "contrast": "x"}', "clean and corrupt are texts"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(HookeError, match=said):
            read_file(path)
    path.write_text(json.dumps(good._asdict()) + "\n\n" + json.dumps(good._asdict() | {"target": " on"}), "utf-8")
    assert read_file(path) == [good, good._replace(target=(" on",))]


# ---- measures ------------------------------------------------------------------------------------------


def parts_of(model: Model) -> tuple[Edges, Pairs, Tensor]:
    pairs = read(model, tiny_pairs(4), "logit-difference")
    space = Edges(model)
    return space, pairs, space.score(pairs, "exact", seed=0, tick=lambda done: None).effects


def test_tests_are_exact_cuts() -> None:
    model = model_of("llama")
    space, pairs, effects = parts_of(model)
    size = effects.abs().mean(0)
    found = measure.cuts(space, pairs, measure.top(size, 30), size, 10, 0)
    assert [row["number"] for row in found["rows"]] == size.argsort(descending=True)[:10].tolist()
    for row in found["rows"]:
        cut = torch.arange(space.n) != row["number"]
        values = space.gains(pairs, [cut, torch.ones_like(cut)]).mean(1)
        assert row["effect"] == pytest.approx(float(values[0] - values[1]), abs=1e-4)
        assert row["verdict"] == ("matters" if abs(row["effect"]) > found["threshold"] else "no-effect")
        assert row["unit"] in space.computation.edge_names(space.matrix(torch.arange(space.n) == row["number"]))


class _Drawn:
    """A level of which nothing is known but the gains of its circuits."""

    n = 10

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def prune(self, keep: Tensor) -> Tensor:
        return keep

    def gains(self, pairs: Pairs, keeps: Any, *, tick: Any) -> Tensor:
        return self.values.expand(len(keeps), -1)


@pytest.mark.parametrize("n", [6, 8])
def test_intervals_of_a_few_pairs_cover_the_truth(n: int) -> None:
    """Simulated: a circuit that keeps 0.8 of an effect that differs from pair to pair. Plain percentiles cover 85 of
    100 at 6 pairs and 88 at 8."""
    covered = 0
    for seed in range(300):
        noise = torch.Generator().manual_seed(seed)
        whole, none, kept = torch.randn(3, n, dtype=torch.float64, generator=noise)
        ends = torch.stack([3 + whole, 0.5 * none])
        values = 0.8 * (3 + whole) + 0.5 * kept
        tokens = random_tokens(n, 2)
        pairs = Pairs(tokens, tokens, OBJECTIVE, [], ends)
        low, high = measure.at_size(_Drawn(values), pairs, torch.ones(10) > 0, seed)["interval"]  # type: ignore[arg-type]
        covered += low <= 0.8 <= high
    assert 0.92 <= covered / 300 <= 0.99


def test_random_circuits_are_as_large_and_carry_something() -> None:
    space = Edges(model_of("gpt2"))
    for count in (5, 40, 200, space.n):
        drawn = [measure.random_like(space, count, seed) for seed in range(3)]
        for keep in drawn:
            assert count <= int(keep.sum()) <= count + 12
            assert torch.equal(space.prune(keep), keep)
        assert count == space.n or not torch.equal(drawn[0], drawn[1])


def test_near_edges_join_what_is_there() -> None:
    space = Edges(model_of("gpt2"))
    keep = space.computation.mask(["input->a0.h1<v>", "a0.h1->logits"])[space.computation.edges]
    near = space.computation.edge_names(space.matrix(space.near(keep)))
    assert near == ["input->a0.h1<q>", "input->a0.h1<k>", "input->logits"]
    nodes = space.nodes(keep)
    assert [space.computation.writers[i] for i in nodes.nonzero()[:, 0]] == ["input", "a0.h1"]


def test_overlaps_by_hand() -> None:
    space = Edges(model_of("gpt2"))
    a, b = (
        space.computation.mask(names)[space.computation.edges]
        for names in (["input->m0", "m0->logits"], ["input->m0", "m0->m1", "m1->logits"])
    )
    assert measure.overlap(space, a, b) == (1 / 4, 2 / 3)
    effects = torch.zeros(4, space.n)
    effects[:, :7] = torch.arange(7.0)
    half = measure.by_half(space, effects, 3, 0)
    assert half is not None and half["mean_edges"] == 1.0
    assert measure.by_half(space, effects[:1], 3, 0) is None


def test_the_smallest_circuit_that_is_enough() -> None:
    """By a slow look at every size, one of the sizes that are tried is the first that is enough."""
    space, pairs, effects = parts_of(model_of("gpt2"))
    size = effects.abs().mean(0)
    count = measure.smallest(space, pairs, size)
    clean, corrupt = pairs.ends.mean(1).tolist()
    every = [measure.top(size, n) for n in (count, *[c for c in measure.counts_of(space.n) if c < count])]
    f = ((space.gains(pairs, every).mean(1) - corrupt) / (clean - corrupt)).tolist()
    assert f[0] >= measure.ENOUGH - 1e-6 and all(x < measure.ENOUGH for x in f[1:])


# ---- the verb ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled() -> Known:
    """A compiled program whose circuit is known."""
    return next(iter(known("compiled", ["indirect-object"])))


def test_a_known_circuit_is_found(compiled: Known) -> None:
    """At the true size the circuit of a compiled program is its true edges, and it does all that the model does."""
    computation = ComputationGraph.of(compiled.model.parts)
    true = computation.mask(sorted(compiled.edges))
    result = circuit(compiled.model, known_pairs(compiled, 24), method="exact", size=int(true.sum()))
    kept = torch.from_numpy(result.tensors["kept"])
    p = result.payload
    assert set(computation.edge_names(kept)) <= set(compiled.edges)
    assert p["circuit"]["faithfulness"] == pytest.approx(1, abs=0.02) and p["circuit"]["random"] < 0.5
    assert all(row["verdict"] == "matters" for row in p["tests"]["rows"])
    assert p["minimality"]["share"] == 1.0
    assert p["stability"]["by_half"]["mean_edges"] > 0.9 > p["stability"]["random"]["mean_edges"]
    assert result.claims[0].verdict == "tested"


def test_what_is_reported(compiled: Known) -> None:
    seen: list[str] = []
    result = circuit(
        compiled.model,
        known_pairs(compiled, 12),
        method="eap-ig",
        tests=6,
        progress=lambda stage, done: seen.append(stage),
    )
    p = result.payload
    assert result.kind == "circuit" and p["pairs"] == {"find": 6, "report": 6}
    curve = p["faithfulness"]
    n = len(curve["shares"])
    names = ("edges", "circuit", "random", "random_low", "random_high", "complement", "helpful")
    assert all(len(curve[name]) == n for name in names) and curve["shares"][-1] == 1.0
    assert curve["circuit"][-1] == pytest.approx(1, abs=1e-4) and curve["complement"][-1] == pytest.approx(0, abs=1e-4)
    assert p["size"] == int(result.tensors["kept"].sum()) <= p["first"]
    graph = graph_of(result.typed().graph, dense=True)
    computation = ComputationGraph.of(compiled.model.parts)
    names_kept = set(computation.edge_names(torch.from_numpy(result.tensors["kept"])))
    drawn = set()
    effects = torch.from_numpy(result.tensors["effects"]).clone()
    for cut in p["tests"]["rows"]:  # what was measured stands for what was estimated
        effects[computation.mask([cut["unit"]])] = cut["effect"]
    for row, target in enumerate(graph.targets.tolist()):
        part = f"<{graph.part(row)}>" if graph.part(row) else ""
        for source in graph.weights[row].nonzero()[0].tolist():
            ends = [_name(graph.nodes[i]) for i in (source, target)]
            drawn.add(f"{ends[0]}->{ends[1]}{part}")
            cut = effects[computation.mask([f"{ends[0]}->{ends[1]}{part}"])]
            assert float(graph.weights[row, source]) == pytest.approx(float(cut), rel=1e-3), "below 0 is support"
    assert drawn <= names_kept
    assert bool((effects[computation.mask(sorted(names_kept - drawn))].abs() < 1e-9).all())  # too small for a link
    assert set(seen) == {"answers", "edges", "size", "curve", "stability", "cuts"}
    again = circuit(compiled.model, known_pairs(compiled, 12), method="eap-ig", tests=6)
    assert again.id == result.id
    assert "keep" in p["sentence"] and "random" in p["sentence"]


def _name(node: Any) -> str:
    if node.kind == "head":
        return f"a{node.layer}.h{node.index}"
    return {"token": "input", "logit": "logits", "mlp": f"m{node.layer}"}[node.kind]


def test_numbers_that_are_not_finite_are_refused() -> None:
    """A model that overflows only where edges are cut."""
    space, pairs, _ = parts_of(model_of("gpt2"))
    whole = torch.ones(space.n, dtype=torch.bool)
    gain = pairs.objective.gain
    broken = replace(pairs, objective=Objective(lambda x, p: gain(x, p) / 0, gain, gain))
    with pytest.raises(HookeError, match="not finite where edges or nodes are cut"):
        space.gains(broken, [whole])


def test_work_can_be_stopped(compiled: Known) -> None:
    def stop(stage: str, done: float) -> None:
        if stage == "curve" and done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        circuit(compiled.model, known_pairs(compiled, 8), method="eap", progress=stop)


@pytest.mark.parametrize("method", ["acdc", "masks", "ifr", "random"])
def test_methods_without_a_sign(compiled: Known, method: str) -> None:
    result = circuit(compiled.model, known_pairs(compiled, 8), method=method, size=0.3, tests=3)
    p = result.payload
    assert p["signed"] is False and p["faithfulness"]["helpful"] is None
    stable = p["stability"]
    assert (stable["by_order"] is not None) == (method == "acdc")
    assert (stable["by_seed"] is not None) == (method in ("masks", "random"))
    if method != "random":
        assert stable["by_half"] is not None
    if stable["by_order"]:
        assert len(stable["by_order"]["edges"]) == 3 and max(stable["by_order"]["edges"]) <= 1


@pytest.mark.parametrize("level", ["nodes", "neurons"])
def test_circuits_of_nodes(compiled: Known, level: str) -> None:
    result = circuit(compiled.model, known_pairs(compiled, 12), level=level, tests=5)
    p = result.payload
    assert p["units"] == "nodes" and p["method"] == "eap-ig" and p["circuit"]["faithfulness"] > 0.6
    kinds = {n["kind"] for n in p["graph"]["nodes"]}
    assert "head" in kinds and ("feature" in kinds) == (level == "neurons") and not p["graph"]["links"]["weight"]
    with pytest.raises(HookeError, match="sieve orders edges and says nothing of nodes"):
        circuit(compiled.model, known_pairs(compiled, 8), level="nodes", method="sieve")


def test_the_whole_model_has_nothing_to_compare_with() -> None:
    result = circuit(model_of("gpt2"), tiny_pairs(4), method="eap", size=1.0, tests=2)
    p = result.payload
    assert p["minimality"]["controls"] == p["tests"]["controls"] == 0
    assert result.claims[-1].text.endswith("none are left outside to compare with")
    assert result.claims[0].verdict == "refuted"


def test_metric_of_ones_own(compiled: Known) -> None:
    pairs = [p for p in known_pairs(compiled, 32) if p.target[0] != p.contrast[0]]
    a, b = pairs[0].target[0], pairs[0].contrast[0]
    given = [p for p in pairs if a in (p.target[0], p.contrast[0])]  # where the metric differs at all
    result = circuit(
        compiled.model, given, metric=lambda x: x[:, int(a)] - x[:, int(b)], method="eap", size=0.3, tests=2
    )
    assert result.payload["metric"]["name"] == "<lambda>" and result.payload["first"] == round(
        0.3 * result.payload["n_edges"]
    )


def test_levels_by_name() -> None:
    model = model_of("gpt2")
    assert default_of(level_of(model, "edges")) == DEFAULT and default_of(level_of(model, "nodes")) == "eap-ig"
    assert level_of(model, "nodes").n == 3 * 5 and level_of(model, "neurons").n == 3 * (4 + 128)
    assert Nodes(model, "neurons").called(4) == "m0.n0" and Nodes(model, "nodes").called(9) == "m1"
