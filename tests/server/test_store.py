"""Results in the folder of the app: listed, damaged, deleted, shared with interventions on them."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import pytest

import hooke
from hooke.errors import HookeError
from hooke.results import Result
from hooke.server.serve import listen
from hooke.server.store import Store
from made_up import filled, unknown
from serving import PROMPT, Answer, ask, features, model, page_of, server, traced  # noqa: F401


def test_a_listing_reads_small_files_only_and_names_damaged_ones(tmp_path, monkeypatch):
    store = Store(tmp_path)
    names = [store.save(unknown("note", payload={"text": f"{k}" * 1000})) for k in range(5)]
    (tmp_path / ("a" * 32 + ".json")).write_text("{ half")
    (tmp_path / ("b" * 32 + ".json")).write_text(unknown("note", payload={}).to_json())  # of another id
    (tmp_path / "notes.json").write_text("{}")  # not ours
    (tmp_path / f".{names[0]}.json.tmp").write_text("left by a killed run")
    fresh = Store(tmp_path)
    (tmp_path / f"{names[1]}.info.json").write_text('{"version":1}')  # made again
    (tmp_path / f"{names[2]}.info.json").unlink()
    assert {info.id for info in fresh.listing()} == set(names)
    assert set(fresh.damaged) == {"a" * 32 + ".json", "b" * 32 + ".json"}
    assert "is not JSON" in fresh.damaged["a" * 32 + ".json"]
    monkeypatch.setattr("hooke.server.store.load_result", lambda _: pytest.fail("a large file was read"))
    assert {info.id for info in fresh.listing()} == set(names)
    created = [info.created for info in fresh.listing()]
    assert created == sorted(created, reverse=True)


def test_a_result_that_was_damaged_later(ask, server):
    name = server.store.save(unknown("note", payload={"text": "a"}))
    assert ask.get(f"/api/results/{name}").status == 200
    (server.store.folder / f"{name}.json").write_text("{ half")
    answer = ask.get(f"/api/results/{name}")
    assert answer.status == 400 and "is not JSON" in answer.json["error"]
    listed = ask.get("/api/results").json
    assert name not in [row["id"] for row in listed["results"]] and any(name in line for line in listed["damaged"])
    (server.store.folder / f"{name}.json").unlink()


def test_a_damaged_file_that_is_gone_is_not_named_any_more(tmp_path):
    store = Store(tmp_path)
    path = tmp_path / ("a" * 32 + ".json")
    path.write_text("{ half")
    assert store.listing() == [] and list(store.damaged) == [path.name]
    path.unlink()
    assert store.listing() == [] and store.damaged == {}


def intervention(name: str, seed: int = 0, **more: Any) -> Result:
    """One on a trace, as `hooke.intervene` makes them."""
    target = {"token": " a", "id": 1}
    payload = {
        "nodes": ["1_2_3"], "op": "off", "trace": name, "target": target, "rows": [], "change": float(seed),
        "control_change": None, "control_least": None, "control_greatest": None, "controls": 0, "sentence": "So.",
    }  # fmt: skip
    return Result.make("intervention", parents=[name], payload=filled("intervention", payload | more))


@pytest.fixture
def kept(tmp_path, glass):
    """A store with a trace, and the trace's id."""
    store = Store(tmp_path)
    return store, store.save(hooke.trace(glass, PROMPT, nodes=5, verify=False))


def test_a_damaged_intervention_is_left_out_and_named(kept):
    store, name = kept
    good = store.save(intervention(name))
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    bad = [intervention(name, seed=1), intervention(name, seed=2)]
    bad[0].payload["rows"] = 7
    bad[1].arguments["deep"] = deep
    for result in bad:
        (store.folder / f"{result.id}.json").write_text(json.dumps(result.__dict__, default=vars))
    (store.folder / ("c" * 32 + ".json")).write_text('{"kind": "intervention", "payl')
    page = page_of(store.page(name))
    assert [r["id"] for r in page["results"]] == [name, good]
    assert [info.id for info in store.listing()] == [name]
    assert set(store.damaged) == {f"{result.id}.json" for result in bad} | {"c" * 32 + ".json"}
    why = store.damaged[f"{bad[0].id}.json"]
    assert "does not read (rows" in why and "make it again (hooke intervene)" in why


def test_the_page_says_how_many_interventions_it_leaves_out(kept, monkeypatch):
    store, name = kept
    monkeypatch.setattr("hooke.server.store.MAX_CHILDREN", 3)
    children = []
    for seed in range(5):
        children.append(store.save(intervention(name, seed)))
        stamp = 10**9 + seed
        os.utime(store.folder / f"{children[-1]}.json", (stamp, stamp))
    page = page_of(store.page(name))
    assert [r["id"] for r in page["results"]] == [name, *children[2:]]
    assert page["results"][0]["view"]["notes"][-1].startswith(
        "2 older interventions on this trace are not in this page"
    )
    store.delete(name)  # with those that are not in the page
    assert not list(store.folder.iterdir())


def test_an_intervention_from_a_file_belongs_to_no_trace(kept, tmp_path):
    store, name = kept
    mine = store.save(intervention(name))
    (tmp_path / "elsewhere").mkdir()
    forged = intervention(name, seed=9, sentence="Forged.").save(tmp_path / "elsewhere" / "forged.json")
    opened = store.open(forged)
    assert store.open(forged) == opened  # the same file is the same result
    assert [r["id"] for r in page_of(store.page(name))["results"]] == [name, mine]
    assert {info.id for info in store.listing()} == {name, opened}  # it is a result of its own
    assert page_of(store.page(opened))["results"][0]["view"]["sentence"] == "Forged."
    # one that was made here is found again, as it was
    again = store.result(mine).save(tmp_path / "elsewhere" / "mine.json")
    assert store.open(again) == mine and store.children(name) == [mine]
    store.delete(name)
    assert [info.id for info in store.listing()] == [opened]


def test_a_trace_that_is_deleted_while_it_is_changed_leaves_nothing(ask, server, monkeypatch):
    name = ask.until(ask.job(nodes=9, seed=5))["result"]
    nodes = features(page_of(ask.get(f"/api/results/{name}").body))[:1]
    real, inside, go_on = server.models.intervene, threading.Event(), threading.Event()

    def slow(*given):
        done = real(*given)
        inside.set()
        assert go_on.wait(20)
        return done

    monkeypatch.setattr(server.models, "intervene", slow)
    answers: list[Answer] = []
    body = {"nodes": nodes, "op": "off"}
    asking = threading.Thread(target=lambda: answers.append(ask.post(f"/api/results/{name}/intervene", body)))
    asking.start()
    assert inside.wait(20)
    before = {p.name for p in server.store.folder.iterdir() if not p.name.startswith(name)}
    assert ask("DELETE", f"/api/results/{name}").status == 200
    go_on.set()
    asking.join(20)
    assert answers[0].status == 400 and "deleted" in answers[0].json["error"]
    assert {p.name for p in server.store.folder.iterdir()} == before


def test_the_trace_that_was_changed_longest_ago_is_prepared_again(model, monkeypatch):
    from hooke.methods import intervene as steps
    from hooke.server.models import Models

    models, prepared = Models("glassllm"), []
    models.get()
    real = steps.prepare
    monkeypatch.setattr(steps, "prepare", lambda m, traced: (prepared.append(traced.id), real(m, traced))[1])
    traces = [hooke.trace(model, PROMPT, nodes=n, verify=False) for n in (5, 6, 7)]
    for k in (0, 1, 0, 2, 0, 1):
        graph = traces[k].payload["graph"]
        node = next(n["id"] for n in graph["nodes"] if n["kind"] == "feature")
        assert models.intervene(traces[k].id, lambda k=k: traces[k], [node], "off").parents == [traces[k].id]
    assert prepared == [traces[k].id for k in (0, 1, 2, 1)]
    models.forget(traces[1].id)
    models.intervene(traces[1].id, lambda: traces[1], [node], "off")
    assert prepared[-1] == traces[1].id and len(prepared) == 5


def test_places_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HookeError, match="choose another folder with --results"):
        Store(tmp_path / "file" / "results")
    taken = listen(0)
    with pytest.raises(HookeError, match=r"cannot use port \d+ .*choose another with --port"):
        listen(taken.getsockname()[1])
    taken.close()
