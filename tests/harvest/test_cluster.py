"""Shards over the workers of a Ray cluster on this machine. Each test has its own process, which ends with its cluster.

Without Ray (`pip install 'hooke-microscope[ray]'`) they are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from hooke import HookeError, Model
from hooke.harvest import open_store, plan, store
from hooke.harvest.cluster import shares

ROOT = Path(__file__).resolve().parents[2]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'ray[data]'")

WORK = """
import json, os, sys, tempfile
import ray
import hooke
from hooke.harvest import cluster, plan, store
from hooke.harvest.cluster import Worker

folder, book, what = sys.argv[1:]
flag = folder + ".died"


class Dying(Worker):
    def __call__(self, batch):
        if int(batch["shard"][0]) >= 3 and not os.path.exists(flag):
            open(flag, "w").close()
            os._exit(1)
        return super().__call__(batch)


class Other(Worker):
    def __init__(self, asked, place, spec):
        super().__init__(asked, place, {**spec, "model": {**spec["model"], "weights_sha256": "0" * 64}})


model = hooke.load("glassllm", device="cpu")
made = plan(model, [book], n_tokens=1200, context=64, shard_tokens=200)
with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as temp:  # sockets lie in it, whose paths are short
    ray.init(
        num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="error", _temp_dir=temp,
        object_store_memory=100 * 2**20,
    )
    try:
        cluster.Worker = {"dies": Dying, "other": Other}.get(what, Worker)
        told = []
        found = store(model, made, ["mlp_in.1", "resid_post.2"], folder, engine="ray", workers=2, progress=told.append)
        said = {"hash": found.hash, "told": told, "died": os.path.exists(flag)}
    except hooke.HookeError as error:
        said = {"error": str(error)}
    finally:
        ray.shutdown()
open(folder + ".said", "w").write(json.dumps(said))  # Ray has things to say on the way
"""


def worked(folder: Path, book: str, what: str) -> dict:
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(folder), book, what],
        capture_output=True,
        text=True,
        env=environment,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(Path(f"{folder}.said").read_text(encoding="utf-8"))


@pytest.mark.slow
@needs_ray
def test_a_cluster_writes_what_one_process_writes(glass: Model, book: str, tmp_path: Path) -> None:
    made = plan(glass, [book], n_tokens=1200, context=64, shard_tokens=200)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = store(glass, made, ["mlp_in.1", "resid_post.2"], tmp_path / "alone")
    finally:
        torch.set_num_threads(threads)
    found = worked(tmp_path / "many", book, "works")
    assert found["hash"] == whole.hash and found["told"] == sorted(found["told"]) and found["told"][-1] == 1
    for path in (tmp_path / "alone").iterdir():
        assert path.read_bytes() == (tmp_path / "many" / path.name).read_bytes(), path.name
    (tmp_path / "died").mkdir()
    found = worked(tmp_path / "died", book, "dies")
    assert found["died"] and found["hash"] == whole.hash and not open_store(tmp_path / "died").missing


@pytest.mark.slow
@needs_ray
def test_a_worker_with_another_model_is_refused(book: str, tmp_path: Path) -> None:
    found = worked(tmp_path, book, "other")
    assert found["error"].startswith("a worker failed: a worker has another glassllm: weights (000000000000 there")
    assert open_store(tmp_path).missing == list(range(6))


def test_a_folder_in_memory_reaches_no_worker(glass: Model, book: str) -> None:
    made = plan(glass, [book], n_tokens=100, context=64)
    with pytest.raises(HookeError, match="lies in the memory of this process"):
        store(glass, made, ["resid_post.2"], "memory://alone", engine="ray")


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("workers", [None, 1, 2, 5])
def test_a_core_stays_free_for_what_feeds_the_workers(cores: int, threads: int, workers: int | None) -> None:
    count, each = shares({"CPU": float(cores)}, torch.device("cpu"), threads, workers or 100, workers is not None)
    assert count == workers or workers is None
    assert count >= 1 and count * each["num_cpus"] <= max(0, cores - 1) and "num_gpus" not in each
    assert each["num_cpus"] <= threads and (each["num_cpus"] < 1 or each["num_cpus"] == int(each["num_cpus"]))
    if workers is None and cores > threads:
        assert each["num_cpus"] == threads and (count + 1) * threads > cores - 1


def test_each_accelerator_has_a_worker() -> None:
    count, each = shares({"CPU": 16.0, "GPU": 4.0}, torch.device("cuda"), 8, 100)
    assert count == 4 and each["num_gpus"] == 1 and 4 * each["num_cpus"] <= 15
