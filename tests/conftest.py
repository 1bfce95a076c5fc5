"""What all tests share: no hub, a few threads, and two models loaded once.

The models lie in HOOKE_HOME, by default where Hooke keeps them anyway, so they are downloaded once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", str(min(4, os.cpu_count() or 1)))  # before torch is imported

import pytest

if TYPE_CHECKING:
    from hooke import Model

HOME = os.environ.get("HOOKE_HOME")
# files that take minutes come first, so that no core waits for one of them at the end
LONG = ("test_organisms_retrain.py", "test_docs.py", "test_memory.py", "test_circuit_file.py", "test_organisms.py")


# files, and tests of files, that `make test` leaves to `make test-all`
SLOW = (
    "test_cluster.py",
    "test_spread.py",
    "test_train_spread.py",
    "test_world_bench.py",
    "test_organisms_retrain.py",
    "test_memory.py",
    "test_docs.py::test_examples_run",
    "test_organisms.py::test_what_clean_fine_tunes_give_is_recorded",
    "test_dtypes.py::test_every_verb_in_every_type_agrees_with_float32",
    "test_lens_and_select.py::test_indirect_object_on_real_weights",
    "test_circuit_file.py::test_the_command_on_the_default_model",
    "test_circuit.py::test_methods_without_a_sign",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; otherwise the order is kept. What is slow is marked."""
    for item in items:
        if item.path.name in SLOW or f"{item.path.name}::{item.name.partition('[')[0]}" in SLOW:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@contextmanager
def _shared_home() -> Iterator[None]:
    """The session's home, whatever a test has set for itself."""
    with pytest.MonkeyPatch.context() as patch:
        if HOME is None:
            patch.delenv("HOOKE_HOME", raising=False)
        else:
            patch.setenv("HOOKE_HOME", HOME)
        yield


@pytest.fixture(scope="session")
def glass() -> Model:
    """The tiny Llama (4 layers, context 128), fp32."""
    import hooke

    with _shared_home():
        return hooke.load("glassllm", device="cpu")


@pytest.fixture(scope="session")
def smol() -> Model:
    """The default model, fp32."""
    import hooke

    with _shared_home():
        return hooke.load(device="cpu")


@pytest.fixture
def exact_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms of transformers compute in single precision, which differences magnify: here in that of the model."""
    import torch

    plain = torch.Tensor.to

    def to(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        single = x.dtype == torch.float64 and args == (torch.float32,) and not kwargs
        return x if single else plain(x, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "float", lambda x: to(x, torch.float32))
