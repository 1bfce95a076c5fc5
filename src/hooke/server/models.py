"""The one model behind the page: loaded when it is first needed, kept, and swapped when another is asked for."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hooke.errors import HookeError
from hooke.results import Result

if TYPE_CHECKING:
    from hooke.methods.intervene import Prepared
    from hooke.model.model import Model

MOST_PREPARED = 2  # traces whose activations are kept ready for interventions


class Models:
    """Used by the worker and by the threads that answer requests."""

    def __init__(self, default: str | None = None) -> None:
        self.default = canonical(default)
        self.loading = False
        self.busy = False  # a job uses the model, so that it must not be swapped
        self._model: Model | None = None
        self._name: str | None = None
        self._lock = threading.Lock()  # held while a model loads
        self._cache = threading.Lock()  # of what follows, and of the change of a model
        self._ready: OrderedDict[str, Prepared] = OrderedDict()

    @property
    def name(self) -> str | None:
        """Of the model that is loaded."""
        return self._name

    def get(self, name: str | None = None) -> Model:
        """The model of this name, loaded if it is not. Raises HookeError if that fails."""
        from hooke.model.load import load

        wanted = canonical(name, self.default)
        with self._lock:
            if self._model is not None and self._name == wanted:
                return self._model
            with self._cache:
                self._ready.clear()
                self._model, self._name = None, None  # before the next one takes its place in memory
            gc.collect()
            self.loading = True
            try:
                self._model = load(wanted)
            finally:
                self.loading = False
            self._name = wanted
            return self._model

    def rows(self) -> list[dict[str, Any]]:
        """Known models as the page lists them, the default one first."""
        from hooke.model.zoo import known_models

        rows = [{"name": r["name"], "fetched": r["fetched"], "note": str(r["note"])} for r in known_models()]
        if self.default not in {r["name"] for r in rows}:
            rows.append({"name": self.default, "fetched": True, "note": "given with --model"})
        return sorted(rows, key=lambda r: r["name"] != self.default)

    def intervene(self, trace: str, read: Callable[[], Result], nodes: Sequence[str], op: str) -> Result:
        """Change neurons of a trace, which is read if it is not prepared yet, in the model that made it.

        Raises HookeError, also if that model may not be loaded: a file from elsewhere must not choose what is fetched.
        """
        from hooke.methods.intervene import change, prepare

        with self._cache:
            ready = self._ready.get(trace)
            if ready is not None:
                self._ready.move_to_end(trace)
        if ready is None:  # a swapped model takes what was prepared along
            traced = read()
            ready = prepare(self._of(traced), traced)
            with self._cache:
                if ready.model is self._model:
                    self._ready[trace] = ready
                    self._ready.move_to_end(trace)
                    while len(self._ready) > MOST_PREPARED:  # the one that was used longest ago goes
                        self._ready.popitem(last=False)
        return change(ready, nodes, op=op)

    def forget(self, trace: str) -> None:
        """Let go of what is prepared for a trace that was deleted."""
        with self._cache:
            self._ready.pop(trace, None)

    def _of(self, traced: Result) -> Model:
        model, made = self._model, traced.provenance
        digest = made.get("weights_sha256")
        if model is not None and digest is not None and model.info.get("weights_sha256") == digest:
            return model
        name = made.get("model")
        if not isinstance(name, str) or traced.kind != "trace":
            raise HookeError(f"this is a {traced.kind} without a model of its own; only a trace can be changed in one")
        if name == self._name and model is not None:
            return model  # intervene says what differs
        if name not in {row["name"] for row in self.rows() if row["fetched"]}:
            raise HookeError(f"this trace was made with {name[:100]!r}; start the app with --model to change it there")
        if self.busy:
            raise HookeError(f"this needs {name}, and a job is using {self._name}; wait for the job or cancel it")
        return self.get(name)


def canonical(name: str | None, default: str | None = None) -> str:
    """What a name means, as results record it. Raises HookeError for one that means nothing."""
    from hooke.model.zoo import resolve

    return default if name is None and default is not None else str(resolve(name)[1])
