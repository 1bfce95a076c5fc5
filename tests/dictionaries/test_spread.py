"""Several processes train what one does, within rounding; one that ends, ends all, in one line."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import spread_cases
from hooke.dictionaries.processes import joined, spread_over
from hooke.dictionaries.spread import ALONE, WHOLE, Axis
from hooke.errors import HookeError
from spread_cases import BATCH, CASES, FEATURES, STEPS, launched, ran

CPU = torch.device("cpu")
Told = list[dict[str, float]]


@cache
def alone(name: str, *, half: bool = False) -> tuple[Told, dict[str, Tensor]]:
    """A case on one process, with one thread as those of several have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return spread_cases.trained(CASES[name], half=half)
    finally:
        torch.set_num_threads(before)


def apart(one: Told, other: Told) -> dict[str, float]:
    """By how much what is told differs at most, of a loss by its size where it is above one."""
    assert len(one) == len(other) == STEPS
    return {key: max(abs(a[key] - b[key]) / max(1.0, abs(a[key])) for a, b in zip(one, other)) for key in one[0]}


def check_alike(folder: Path, name: str, spread: str, n: int) -> None:
    one, tensors = alone(name)
    told = [json.loads((folder / f"told {rank}.json").read_text())[f"{spread} {name}"] for rank in range(n)]
    assert all(each == told[0] for each in told)  # all processes say the same, to the last bit
    found = apart(one, told[0])
    assert found["loss"] <= 1e-6 and found["explained"] <= 1e-6 and found["l0"] == found["dead"] == 0, found
    made = load_file(folder / f"{spread} {name}.safetensors")
    assert made.keys() == tensors.keys()
    for key, x in tensors.items():  # Adam makes steps of what is hardly more than rounding, so a few entries may differ
        assert float((made[key] - x).norm()) <= 1e-4 * float(x.norm()) and made[key].shape == x.shape, key


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases on two processes, along either axis."""
    folder = tmp_path_factory.mktemp("two")
    ran(2, "train", str(folder), "", "data", "dictionary")
    return folder


@pytest.mark.parametrize("spread", ["data", "dictionary"])
@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(name: str, spread: str, two: Path) -> None:
    check_alike(two, name, spread, 2)


def test_features_that_begin_dead_come_back_in_some_case() -> None:
    """So that what dead features learn is part of what is compared."""
    told = alone("topk, many dead")[0]
    assert max(each["dead"] for each in told) > told[-1]["dead"] + 0.2


@pytest.mark.slow
@pytest.mark.parametrize(("n", "spread"), [(4, "2x2"), (3, "data"), (4, "dictionary")])
def test_more_processes_train_as_one(n: int, spread: str, tmp_path: Path) -> None:
    names = ["topk, many dead", "batchtopk", "jumprelu", "record", "skip transcoder", "cross-layer"]
    ran(n, "train", str(tmp_path), ";".join(names), spread)
    for name in names:
        check_alike(tmp_path, name, spread, n)


def test_sums_that_are_left_out_are_seen(tmp_path: Path) -> None:
    """The test above fails where gradients are not added up, and where half of the rows are all."""
    ran(2, "without sums", str(tmp_path), "data", "dictionary")
    told = json.loads((tmp_path / "told 0.json").read_text())
    for name in ("topk", "record"):
        one = alone(name)[0]
        assert apart(one, told[f"data {name}"])["loss"] > 1e-3
        assert apart(one, told[f"dictionary {name}"])["loss"] > 1e-5  # of the offset alone
        assert apart(one, alone(name, half=True)[0])["loss"] > 1e-3


# ---- the model's passes ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_all_get_the_same_rows_and_nobody_runs_all(n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydoc_data.topics import topics

    text = tmp_path / "topics.txt"
    text.write_text("\n\n".join(topics[name] for name in sorted(topics)[:40]), encoding="utf-8")
    monkeypatch.setenv("SPREAD_TEXT", str(text))
    for size in (1, n):
        ran(size, "feed", str(tmp_path))
    for room in (0, 2**40):
        whole = load_file(tmp_path / f"room {room} of 1 0.safetensors")
        parts = [load_file(tmp_path / f"room {room} of {n} {rank}.safetensors") for rank in range(n)]
        assert len(whole) > 40 and all(part.keys() == whole.keys() for part in parts)
        for key, x in whole.items():
            rows = [part[key] for part in parts]
            made = rows[0] if key.startswith("first") else torch.cat(rows)
            assert torch.equal(made, x) and all(len(each) == len(rows[0]) for each in rows), key
        about = [about_of(tmp_path / f"room {room} of {n} {rank}.safetensors") for rank in range(n)]
        shards = int(about[0]["shards"])
        made_by = [json.loads(each["made"]) for each in about]
        assert shards >= 5 and set().union(*made_by) == set(range(shards))
        assert all({number % n for number in made} == {rank} for rank, made in enumerate(made_by))
        if room:  # each once in all
            assert sorted(number for made in made_by for number in made) == list(range(shards))
        else:  # each once an epoch, of two and a half
            assert sum(map(len, made_by)) <= 4 * shards + n


def about_of(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return file.metadata()


# ---- what cannot be ----------------------------------------------------------------------------


@pytest.mark.parametrize("who", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_one_that_is_killed_ends_all_in_a_clear_line(who: int) -> None:
    ends = launched([spread_cases.__file__, "killed", str(who)], 2)
    assert [end.returncode for end in ends] == [2 if rank != who else -9 for rank in range(2)]
    (line,) = [line for end in ends for line in end.stderr.splitlines()]
    assert line.startswith("hooke: another process of this training ended; the last checkpoint stands")


def test_what_cannot_be_divided_is_one_line() -> None:
    both = Axis(2, 0)
    for spread, batch, features, says in [
        ("data", 97, 64, "a batch of 97 rows does not divide over 2 processes"),
        ("dictionary", 96, 63, "63 features do not divide over 2 processes"),
        ("2x2", 96, 64, "over 4 processes and there are 2; start it with torchrun --nproc-per-node 4"),
        ("2x0", 96, 64, "no spread '2x0'"),
        ("rows", 96, 64, "no spread 'rows'; there are data, dictionary"),
    ]:
        with pytest.raises(HookeError, match=says):
            spread_over(spread, both, CPU, batch=batch, n_features=features)
    with pytest.raises(HookeError, match="over 2 processes and there is 1"):
        spread_over("2x1", ALONE, CPU, batch=BATCH, n_features=FEATURES)
    for spread in ("data", "dictionary", "1x1"):
        assert spread_over(spread, ALONE, CPU, batch=97, n_features=63) is WHOLE


def test_one_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with joined() as world:
        assert world is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")  # without the rest, as some clusters set it
    with joined() as world:
        assert world is ALONE
    for name, value in (("RANK", "1"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "no port")):
        monkeypatch.setenv(name, value)
    with pytest.raises(HookeError, match=r"cannot meet the other processes at 127.0.0.1:no port"), joined():
        pass
