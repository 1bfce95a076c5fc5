"""Dictionaries as other tools save them. What is read is Hooke's own `Coder`, and nothing below knows where it is from.

| file | holds |
| --- | --- |
| `read.py` | `read_dictionary`, which recognises what a file or folder is |
| `write.py` | `write_dictionary`: SAELens, sparsify and circuit-tracer |
| `saelens.py`, `sparsify.py`, `circuit_tracer.py`, `dictionary_learning.py` | readers of what a tool writes |
| `gemma_scope.py`, `qwen_scope.py`, `llama_scope.py` | readers of what was published |
| `hooks.py` | names of places in a model, and the sites that they mean |
| `fold.py` | what a tool computes, as a `Coder`: scales, centres and norms folded in |
| `tensors.py`, `pickles.py`, `said.py` | the doors: tensors, pickles of weights, configs |
"""

from hooke.dictionaries.formats.read import FORMATS, read_dictionary, recognise
from hooke.dictionaries.formats.write import WRITERS, write_dictionary

__all__ = ["FORMATS", "WRITERS", "read_dictionary", "recognise", "write_dictionary"]
