"""RASP programs with known circuits: the table of all of them by name.

definition  what a program is
rasp       the operations that programs are written in
values, order, redundant   the programs
text       programs as text
compiler   from a program to the weights of a transformer
cuts       a program run with some of its edges cut

Families are those of the published benchmark of trained-in circuits (2407.14494), in causal form: what a position
gives depends on it and on what comes before; and one of programs with parts that stand in for each other.
"""

from __future__ import annotations

import difflib
from functools import cache

from hooke.errors import HookeError
from hooke.truth.programs import order, redundant, values
from hooke.truth.programs.definition import Program

__all__ = ["Program", "all_programs", "program"]


@cache
def all_programs() -> dict[str, Program]:
    """Every program of the project by its name."""
    found = [*values.PROGRAMS, *order.PROGRAMS, *redundant.PROGRAMS]
    return {program.name: program for program in found}


def program(name: str) -> Program:
    """One program. Raises HookeError, with the nearest name."""
    known = all_programs()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    guess = f"; did you mean {near[0]}?" if near else f". There are: {', '.join(known)}"
    raise HookeError(f"no program called {name!r}{guess}")
