"""Threads: as many as there are free cores, what a person set stays, and a result says how many it had."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

import hooke
from hooke import threads

PROMPT = "Alice was beginning to get very tired"


def never() -> float:
    raise AssertionError("nobody was to look")


@pytest.mark.parametrize(
    "now, allowed, free, count",
    [(2, 2, 2.0, 2), (2, 2, 1.0, 1), (2, 2, 0.1, 1), (2, 2, 1.7, 2), (16, 16, 11.2, 11), (8, 16, 11.2, 8), (1, 1, 0.0, 1)],
)  # fmt: skip
def test_as_many_as_there_are_free_cores(now, allowed, free, count):
    assert threads.wanted(now, allowed, {}, lambda: free)[0] == count


@pytest.mark.parametrize("name", threads.COUNTS)
def test_what_the_environment_says_stays(name):
    assert threads.wanted(2, 2, {name: "2"}, never) == (2, f"as {name} says")


@pytest.mark.parametrize("now", [1, 3, 40])
def test_what_torch_was_told_stays(now):
    """Of 16 cores torch takes 16 by itself, or 8 where two share one; everything else was somebody's wish."""
    assert threads.wanted(now, 16, {}, never)[0] == now


def test_waiting_is_left_to_whoever_has_a_say():
    assert threads.calm({}) == {"GOMP_SPINCOUNT": str(threads.SPINS), "KMP_BLOCKTIME": "0"}
    for name in threads.WAITING:
        assert threads.calm({name: "1"}) == {}


@pytest.mark.parametrize("first, told", [("", str(threads.SPINS)), ("import torch", "None")])
def test_importing_hooke_sets_it_before_torch_is_there_and_not_after(first, told):
    code = f"import os\n{first}\nimport hooke\nprint(os.environ.get('GOMP_SPINCOUNT'))"
    kept = {k: v for k, v in os.environ.items() if k not in threads.WAITING}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept, check=True)
    assert done.stdout.strip() == told


def fake_times(monkeypatch, steps):
    """psutil that tells these steps of (busy, nice, idle) seconds for each core."""
    import psutil

    told = iter(steps)
    fields = ("user", "nice", "idle")

    def times(percpu):
        return [SimpleNamespace(_fields=fields, **dict(zip(fields, row))) for row in next(told)]

    monkeypatch.setattr(psutil, "cpu_times", times)
    monkeypatch.setattr(threads, "cores", lambda: [0, 1])
    monkeypatch.setattr(threads, "cpu_quota", lambda: None)
    monkeypatch.setattr(time, "sleep", lambda _: None)


def test_a_core_is_free_as_far_as_it_was_idle_or_ran_what_makes_room(monkeypatch):
    fake_times(monkeypatch, [[(0, 0, 0), (0, 0, 0), (5, 5, 5)], [(1, 0, 3), (1, 1, 2), (9, 5, 5)]])
    assert threads.free_cores() == pytest.approx(0.75 + 0.75)  # and the third is not ours


def test_a_busy_process_is_seen():
    """Where this process may run on one core only, and another one counts there, less is free than before."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity here")
    mine = os.sched_getaffinity(0)
    core = max(mine)
    code = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    other = subprocess.Popen([sys.executable, "-c", code])
    try:
        os.sched_setaffinity(0, [core])
        time.sleep(0.5)
        assert threads.free_cores(0.3) < 0.2
    finally:
        os.sched_setaffinity(0, mine)
        other.kill()
        other.wait()


@pytest.mark.parametrize(
    "files, quota, used",
    [
        ({"cpu.max": "150000 100000\n", "cpu.stat": "usage_usec 2500000\nuser_usec 1\n"}, 1.5, 2.5),
        ({"cpu.max": "max 100000\n"}, None, None),
        ({"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}, 0.5, None),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, None, None),
        ({"cpu.max": "nonsense\n"}, None, None),
        ({}, None, None),
    ],
)
def test_the_quota_of_a_container(tmp_path, files, quota, used):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for name, text in files.items():
        (inner.parent / name).write_text(text)
    groups = [inner, inner.parent, tmp_path]
    assert threads.cpu_quota(groups) == quota and threads.cpu_used(groups) == used


def test_the_groups_of_a_process(tmp_path):
    (tmp_path / "own").write_text("12:cpu,cpuacct:/pod/one\n4:memory:/pod\n0::/pod/one\n")
    found = threads._groups(tmp_path / "fs", tmp_path / "own")
    root = tmp_path / "fs"
    assert found == [root / "cpu,cpuacct/pod/one", root / "cpu,cpuacct/pod", root / "cpu,cpuacct",
                     root / "pod/one", root / "pod", root]  # fmt: skip
    assert threads._groups(tmp_path / "fs", tmp_path / "absent") == []


def test_a_quota_limits_what_is_free(monkeypatch):
    fake_times(monkeypatch, [[(0, 0, 0), (0, 0, 0)], [(0, 0, 1), (0, 0, 1)]])
    used = iter([3.0, 3.0 + 0.4 * threads.WINDOW])
    monkeypatch.setattr(threads, "cpu_quota", lambda: 1.5)
    monkeypatch.setattr(threads, "cpu_used", lambda: next(used))
    assert threads.free_cores() == pytest.approx(1.1)


@pytest.fixture
def four(monkeypatch):
    """Torch with four threads, as if on four cores of which two are free."""
    before = torch.get_num_threads()
    for name in threads.COUNTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "cores", lambda: [0, 1, 2, 3])
    free = [2.2]
    monkeypatch.setattr(threads, "_look", lambda: free[0])
    torch.set_num_threads(4)
    yield free
    torch.set_num_threads(before)


def test_a_verb_takes_them_and_gives_them_back_whatever_happens(four):
    seen = []

    @threads.fitting
    def verb(fail):
        seen.append(torch.get_num_threads())
        four[0] = 3.1  # another verb inside looks for itself, and may take more
        with threads.fitted() as inner:
            seen.append((torch.get_num_threads(), inner["used"]))
        seen.append(torch.get_num_threads())
        if fail:
            raise ValueError
        return None

    verb(False)
    assert seen == [2, (3, 3), 2] and torch.get_num_threads() == 4
    with pytest.raises(ValueError):
        verb(True)
    assert torch.get_num_threads() == 4


def test_a_result_says_how_many_it_had_and_its_id_does_not_depend_on_it(four, glass):
    first = hooke.lens(glass, PROMPT)
    assert first.provenance["threads"] | {"products": ""} == {
        "used": 2,
        "why": "2.2 of 4 cores were free",
        "products": "",
    }
    four[0] = 1.0
    again = hooke.lens(glass, PROMPT)
    assert again.provenance["threads"]["used"] == 1
    for result in (first, again):
        assert result.id == result.content_id()
    changed = first.model_copy(deep=True)
    changed.provenance["threads"]["used"] = 64
    assert changed.content_id() == first.id
    changed.provenance["model"] = "another"
    assert changed.content_id() != first.id


def test_the_long_verbs_all_look():
    from hooke.truth.toys.check import toys

    verbs = ("trace", "lens", "patch", "attribute", "circuit", "intervene", "probe", "probe_test", "tasks", "assess",
             "scoreboard")  # fmt: skip
    for verb in [*(getattr(hooke, name) for name in verbs), toys]:
        assert hasattr(verb, "__wrapped__"), verb.__name__
