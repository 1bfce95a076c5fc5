"""Every kind of file that Hooke reads, damaged in every way that comes to mind: one line or a good result, nothing else.

Bytes are flipped, cut and repeated; values of JSON are put in place of others that nobody expects there.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import resource
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hooke
from families import CONFIGS
from gguf_files import write_gguf
from graph_files import neuronpedia_file, tracer_file
from hooke.data.labelled.readers import read_rows
from hooke.errors import HookeError
from hooke.methods.circuit.file import circuit_json, read_circuit
from hooke.methods.circuit.pairs import read_file as read_pairs
from hooke.methods.computation_graph import ComputationGraph
from hooke.methods.probe.score import load_probe
from hooke.model.adapter import read_adapter, save_adapter
from hooke.model.bounds import check_config
from hooke.model.store import check, require_loadable, weights_hash
from hooke.model.zoo import resolve
from hooke.results import Result, load_result
from hooke.results.formats.graph_file import file_of, graph_from_file
from hooke.safety.report import read_report
from hooke.server.store import Store
from hooke.truth.programs.text import read_program
from hooke.viewer import page_bytes, read_file
from made_up import filled, unknown
from reports import evidence_of, write_folder

SLOWEST = 30.0  # seconds of the processor for one file, on any machine
EXAMPLES = int(os.environ.get("HOOKE_EXAMPLES", "60"))  # of each kind; more find more
MOST = 400  # MB that the whole of one kind may take beyond what was taken before
NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 1.5, -0.0, 2**31, 2**53 + 1, -(2**63), 2**64 - 1, 10**30, 1e308, float("nan"), float("inf"), "",
    "a", "\x1b[2J\n", "\ud800", "😀\u202e", "1", "-1", "NaN", "../../x", "/etc/passwd", "a" * 5000, [], [[]], [None], ["a", 1],
    [1e308] * 3, {}, {"": None}, {"a": {"a": {}}}, {"\ud800": 1}, {"name": []}, {"id": {}, "kind": []}, [{"node_id": "a"}],
]  # fmt: skip


def fails_well(read: Callable[[], Any]) -> None:
    """A result, or one line."""
    begin = time.process_time()
    try:
        read()
    except HookeError as error:
        text = str(error)
        assert text.strip() and text.isprintable() and len(text) < 3000, text[:500]
    assert time.process_time() - begin < SLOWEST


@pytest.fixture(scope="module", autouse=True)
def memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10 < MOST


# ---- damage ----------------------------------------------------------------------------------------

bytes_changed = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "drop", "again", "put"]), st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4
)  # fmt: skip
values_changed = st.lists(
    st.tuples(st.sampled_from(["set", "delete", "twice"]), st.integers(0, 10**6), st.integers(0, len(NASTY) - 1)), min_size=1, max_size=3
)  # fmt: skip


def damaged(data: bytes, how: list[tuple[str, float, int]]) -> bytes:
    for what, where, value in how:
        at = int(where * len(data))
        if what == "flip" and data:
            data = data[:at] + bytes([data[at] ^ (value or 1)]) + data[at + 1 :]
        elif what == "cut":
            data = data[:at]
        elif what == "drop":
            data = data[:at] + data[at + value :]
        elif what == "again":
            data = data[:at] + data[max(0, at - value) :]
        else:
            data = data[:at] + bytes([value]) * (1 + value % 9) + data[at:]
    return data


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a value."""
    inside = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [(value, key) for key, _ in inside] + [place for _, x in inside for place in places(x)]


def altered(value: Any, how: list[tuple[str, int, int]]) -> Any:
    value = copy.deepcopy(value)
    for what, number, nasty in how:
        there = places(value)
        if not there:
            return NASTY[nasty]
        inside, key = there[number % len(there)]
        if what == "delete":
            del inside[key]
        elif what == "twice" and isinstance(inside, list):
            inside.append(inside[key])
        else:
            inside[key] = copy.deepcopy(NASTY[nasty])
    return value


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


often = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
seldom = settings(parent=often, max_examples=EXAMPLES // 3)


# ---- what is read without a model ------------------------------------------------------------------


def small_trace(glass: Any) -> Result:
    return hooke.trace(glass, "Alice was", nodes=4, verify=False)


@pytest.fixture(scope="module")
def samples(glass, tmp_path_factory) -> dict[str, Any]:
    """One good file of each kind, as JSON values."""
    trace = small_trace(glass)
    node = next(n["id"] for n in trace.payload["graph"]["nodes"] if n["kind"] == "feature")
    results = {
        "trace": trace,
        "lens": hooke.lens(glass, "Alice was", top=2),
        "intervention": hooke.intervene(glass, trace, [node]),
        "patch": hooke.patch(glass, "Alice was here", "Alice was there", sites=["resid_post"], target=" a"),
        "attribution": hooke.attribute(
            glass, "Alice was here", "Alice was there", sites=["z"], target=" a", contrast=" b"
        ),
        "note": unknown("note", tensors={"x": np.ones((2, 3))}, payload={"series": [1, 2], "rows": [{"a": 1}]}),
    }
    made = {name: json.loads(result.to_json()) for name, result in results.items()}
    return {**made, "graph": file_of(trace, "t"), "neuronpedia": neuronpedia_file(), "tracer": tracer_file()}


def with_id(data: Any) -> Any:
    """The same with the id of its content, where it has one: else it would be refused for its id, and never be shown."""
    try:
        return {**data, "id": Result.model_validate(data).content_id()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return data


KINDS = ["trace", "lens", "intervention", "patch", "attribution", "note", "graph", "neuronpedia", "tracer"]


@pytest.mark.parametrize("kind", KINDS)
@often
@given(how=values_changed)
def test_results_and_graphs_with_values_that_nobody_expects(samples, tmp_path_factory, kind, how):
    path = tmp_path_factory.getbasetemp() / f"{kind}.json"
    path.write_bytes(dumped(with_id(altered(samples[kind], how))))
    fails_well(lambda: page_bytes([read_file(path)]))


@pytest.mark.parametrize("kind", ["lens", "note", "graph"])
@seldom
@given(how=bytes_changed)
def test_results_and_graphs_with_damaged_bytes(samples, tmp_path_factory, kind, how):
    path = tmp_path_factory.getbasetemp() / f"{kind}.json"
    path.write_bytes(damaged(dumped(samples[kind]), how))
    fails_well(lambda: page_bytes([read_file(path)]))


@seldom
@given(how=values_changed)
def test_graphs_as_arrays(samples, tmp_path_factory, how):
    fails_well(lambda: graph_from_file(altered(samples["graph"], how)))
    path = tmp_path_factory.getbasetemp() / "g.json"
    path.write_bytes(dumped(altered(samples["graph"], how)))
    fails_well(lambda: graph_from_file(path).to_dict())


@pytest.mark.parametrize("info", [[], ["a"], "x", 7, {"generator": []}, {"generator": "me"}, {"generator": {"name": ["me"]}}, {"generator": {"name": "a" * 9999}}])  # fmt: skip
def test_a_graph_that_says_oddly_who_wrote_it(samples, tmp_path, info):
    """A list was a traceback."""
    data = copy.deepcopy(samples["neuronpedia"])
    data["metadata"]["info"] = info
    (tmp_path / "g.json").write_bytes(dumped(data))
    assert page_bytes([read_file(tmp_path / "g.json")])


@pytest.mark.parametrize("kind", KINDS)
@seldom
@given(how=values_changed, state=values_changed)
def test_a_store_keeps_what_it_opens_and_lists_it(samples, tmp_path_factory, kind, how, state):
    folder = tmp_path_factory.mktemp("store")
    (folder / "in").mkdir()
    (folder / "in" / "r.json").write_bytes(dumped(with_id(altered(samples[kind], how))))
    store = Store(folder / "results")

    def read() -> None:
        name = store.open(folder / "in" / "r.json")
        assert store.page(name)
        for beside in ("state", "info"):
            (folder / "results" / f"{name}.{beside}.json").write_bytes(
                dumped(altered({"a": {"b": [1]}, "version": 2}, state))
            )
        fresh = Store(folder / "results")
        assert [info.id for info in fresh.listing()] == [name]
        assert fresh.page(name)

    fails_well(read)


@often
@given(header=values_changed, how=st.one_of(st.none(), bytes_changed))
def test_arrays_beside_a_result(tmp_path_factory, header, how):
    folder = tmp_path_factory.getbasetemp()
    made = unknown("note", tensors={"x": np.ones((2, 3)), "y": np.zeros(4, "f4")}, payload={})
    made.save(folder / "beside.json")
    data = (folder / "beside.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    text = dumped(altered(json.loads(data[8 : 8 + length]), header))
    whole = struct.pack("<Q", len(text)) + text + data[8 + length :]
    (folder / "beside.safetensors").write_bytes(whole if how is None else damaged(whole, how))
    fails_well(lambda: load_result(folder / "beside.json"))


@pytest.fixture(scope="module")
def parts(glass) -> dict[str, Result]:
    return evidence_of(glass)


@seldom
@given(how=values_changed)
def test_reports(parts, tmp_path_factory, how):
    folder = tmp_path_factory.mktemp("report")
    write_folder(folder, parts)
    path = folder / "assessment.json"
    path.write_bytes(dumped(altered(json.loads(path.read_bytes()), how)))
    fails_well(lambda: read_report(folder))
    fails_well(lambda: Store(folder / "results").open(folder))


# ---- rows, pairs, programs --------------------------------------------------------------------------

ROWS = [{"text": f"text {k}", "label": k % 2, "group": f"g{k // 2}"} for k in range(6)]
PAIRS = [{"clean": f"a {k}", "corrupt": f"b {k}", "target": " x", "contrast": [" y", " z"]} for k in range(4)]


@often
@given(
    rows=values_changed, how=st.one_of(st.none(), bytes_changed), suffix=st.sampled_from([".jsonl", ".csv", ".parquet"])
)
def test_rows(tmp_path_factory, rows, how, suffix):
    path = tmp_path_factory.getbasetemp() / f"rows{suffix}"
    made = altered(ROWS, rows)
    made = [row for row in made if isinstance(row, dict)] if isinstance(made, list) and suffix != ".jsonl" else made
    if suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(made[0]) if made else ["text"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(made)
        data = text.getvalue().encode(errors="replace")
    elif suffix == ".jsonl":
        data = b"\n".join(dumped(row) for row in (made if isinstance(made, list) else [made]))
    else:
        import pyarrow
        from pyarrow.parquet import write_table

        try:
            write_table(pyarrow.Table.from_pylist(made or [{"text": "a"}]), path)
        except (pyarrow.ArrowException, UnicodeEncodeError, OverflowError):
            return  # nobody can write that
        data = path.read_bytes()
    path.write_bytes(data if how is None else damaged(data, how))
    fails_well(lambda: read_rows(path))


@often
@given(rows=values_changed, how=st.one_of(st.none(), bytes_changed))
def test_pairs(tmp_path_factory, rows, how):
    path = tmp_path_factory.getbasetemp() / "pairs.jsonl"
    made = altered(PAIRS, rows)
    data = b"\n".join(dumped(row) for row in (made if isinstance(made, list) else [made]))
    path.write_bytes(data if how is None else damaged(data, how))
    fails_well(lambda: read_pairs(path))


@seldom
@given(how=bytes_changed)
def test_programs(tmp_path_factory, how):
    path = tmp_path_factory.getbasetemp() / "program.rasp"
    path.write_bytes(damaged(b"tokens a b c\nx = tokens == 'a'\noutput x\n" * 3, how))
    fails_well(lambda: read_program(path))


# ---- models -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import transformers

    made = tmp_path_factory.mktemp("model")
    transformers.AutoModelForCausalLM.from_config(CONFIGS["llama"]()).save_pretrained(made, max_shard_size="40KB")
    return made


@often
@given(config=values_changed, index=values_changed, which=st.booleans())
def test_folders_of_models(folder, config, index, which):
    kept = {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors.index.json")}
    name, how = ("config.json", config) if which else ("model.safetensors.index.json", index)
    (folder / name).write_bytes(dumped(altered(json.loads(kept[name]), how)))
    try:
        fails_well(lambda: require_loadable(folder))
        fails_well(lambda: check_config(str(folder)))
        fails_well(lambda: weights_hash(folder))
    finally:
        (folder / name).write_bytes(kept[name])


@seldom
@given(how=values_changed)
def test_manifests_of_folders(tmp_path_factory, how):
    made = tmp_path_factory.mktemp("ours")
    about = {
        "format": 1,
        "name": "a",
        "weights_hash": "1",
        "files": {"a.json": {"size": 2, "mtime_ns": 1, "sha256": "2"}},
    }
    (made / "a.json").write_text("{}")
    (made / "hooke.json").write_bytes(dumped(altered(about, how)))
    problem = check(made, full=True)
    assert problem is None or (isinstance(problem, str) and problem.strip())


@often
@given(config=values_changed, weights=st.one_of(st.none(), bytes_changed))
def test_adapters(tmp_path_factory, config, weights):
    import torch

    made = tmp_path_factory.getbasetemp() / "lora"
    save_adapter(made, {"a.b": (torch.ones(2, 3), torch.ones(3, 2))}, alpha=2.0, base="x")
    path = made / "adapter_config.json"
    path.write_bytes(dumped(altered(json.loads(path.read_bytes()), config)))
    (made / "hooke.json").unlink()
    if weights is not None:
        path = made / "adapter_model.safetensors"
        path.write_bytes(damaged(path.read_bytes(), weights))
    fails_well(lambda: read_adapter(made))


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return path.read_bytes()


@often
@given(how=bytes_changed)
def test_gguf_headers(gguf, tmp_path_factory, how):
    from hooke.model.gguf_file import read_file as read_gguf

    path = tmp_path_factory.getbasetemp() / "bad.gguf"
    head = 12_000  # where keys and the places of tensors stand
    path.write_bytes(damaged(gguf[:head], how) + gguf[head:])
    fails_well(lambda: read_gguf(path))


@often
@given(name=st.text(max_size=60), twice=st.integers(1, 30))
def test_names_of_models(name, twice):
    fails_well(lambda: resolve(name * twice))


@often
@given(how=values_changed)
def test_circuits_of_other_tools(glass, tmp_path_factory, how):
    import torch

    computation = ComputationGraph.of(glass.parts)
    scores = torch.ones(computation.edges.shape)
    made = circuit_json(glass, scores, computation.edges)
    made["edges"] = dict(list(made["edges"].items())[:6])
    path = tmp_path_factory.getbasetemp() / "circuit.json"
    path.write_bytes(dumped(altered(made, how)))
    fails_well(lambda: read_circuit(glass, path))


@seldom
@given(how=values_changed)
def test_probes(tmp_path_factory, how):
    made = tmp_path_factory.mktemp("probe")
    payload = {"blocks": [{"site": "resid_post.1", "pool": "last"}], "dataset": {"sha256": "1"}}
    tensors = {"probe.direction": np.ones(4, "f4"), "probe.bias": np.ones(1, "f4")}
    fitted = Result.make("probe", tensors=tensors, payload=filled("probe", payload))
    fitted.save(made / "probe.json")
    (made / "probe.json").write_bytes(dumped(with_id(altered(json.loads(fitted.to_json()), how))))
    fails_well(lambda: load_probe(made))
