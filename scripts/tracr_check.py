"""Compile Hooke's programs with Tracr and compare what both compiled models say. For development only.

    python -m venv tracr && tracr/bin/pip install tracr-pypi && PYTHONPATH=src tracr/bin/python scripts/tracr_check.py

Tracr runs in an environment of its own, which needs neither torch nor anything else of Hooke's. The interpreter is
`truth/programs/rasp.py`; the tests compare Hooke's own compiled models with it on every input.
"""

from __future__ import annotations

import sys
from typing import Any

from tracr.compiler import compiling
from tracr.rasp import rasp as tracr

from hooke.truth.programs import Program, all_programs, rasp

MOST = 300  # inputs of a program that are compared


def translated(op: Any, known: dict[int, Any]) -> Any:
    """An s-op or a selector of ours as Tracr's."""
    if id(op) not in known:
        known[id(op)] = _translated(op, known)
    return known[id(op)]


def _translated(op: Any, known: dict[int, Any]) -> Any:
    if isinstance(op, rasp.Tokens):
        return tracr.tokens
    if isinstance(op, rasp.Indices):
        return tracr.indices
    if isinstance(op, rasp.Select):
        keys, queries = translated(op.keys, known), translated(op.queries, known)
        return tracr.Select(keys, queries, lambda k, q: op.predicate(k, q))
    if isinstance(op, rasp.Map):
        if isinstance(op.x, rasp.Inverse):  # how many positions a selector selects is one operation in Tracr
            made = tracr.SelectorWidth(translated(op.x.select, known))
            made = tracr.Map(lambda n: op.f(1 / (1 + n)), made)
        else:
            made = tracr.Map(op.f, translated(op.x, known))
    elif isinstance(op, rasp.SequenceMap):
        made = tracr.SequenceMap(op.f, translated(op.x, known), translated(op.y, known))
    elif isinstance(op, rasp.Aggregate):
        default = 0 if op.numeric else None
        made = tracr.Aggregate(translated(op.select, known), translated(op.x, known), default=default)
    else:
        raise NotImplementedError(type(op).__name__)
    return tracr.numerical(made) if op.numeric else tracr.categorical(made)


def compare(program: Program) -> str:
    output = program.build()
    model = compiling.compile_rasp_to_model(
        translated(output, {}),
        vocab=set(program.vocabulary),
        max_seq_len=program.length,
        causal=True,
        compiler_bos="BOS",
    )
    inputs = program.inputs()
    inputs = inputs[:: max(1, len(inputs) // MOST)]
    wrong = count = 0
    for tokens in inputs:
        ours = rasp.evaluate(output, tokens)
        theirs = model.apply(["BOS", *tokens]).decoded[1:]
        for a, b in zip(ours, theirs):
            if a is None:  # nothing was selected: Tracr says something there all the same
                continue
            count += 1
            wrong += abs(float(a) - float(b)) > 1e-3 if output.numeric else a != b
    return f"{len(inputs)} inputs, {wrong} of {count} outputs differ"


def main() -> None:
    for name, program in all_programs().items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        try:
            found = compare(program)
        except Exception as error:  # what Tracr does not compile, and why
            found = f"not compiled: {type(error).__name__}: {str(error).splitlines()[0][:100]}"
        print(f"{name}: {found}", flush=True)


if __name__ == "__main__":
    main()
