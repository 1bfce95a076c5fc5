"""The kinds of sparse dictionaries that train; each file is one.

base.py        what a kind is: its codes, what its loss adds, the gate it is saved with
relu.py        ReLU with an L1 penalty
gated.py       one set of directions decides what fires and how strongly
topk.py        the k largest of each token, and AuxK
batchtopk.py   the k · batch largest of a batch
jumprelu.py    a learned threshold a feature: with an L0 penalty, and with tanh
matryoshka.py  BatchTopK whose first features have to do alone
record.py      the recipe with the best known score on a synthetic world
"""

from hooke.dictionaries.kinds.base import Block, Code, Kind, When
from hooke.dictionaries.kinds.batchtopk import BatchTopK
from hooke.dictionaries.kinds.gated import Gated
from hooke.dictionaries.kinds.jumprelu import JumpRelu, TanhJumpRelu
from hooke.dictionaries.kinds.matryoshka import Matryoshka
from hooke.dictionaries.kinds.record import Record
from hooke.dictionaries.kinds.relu import Relu
from hooke.dictionaries.kinds.topk import TopK

KINDS: dict[str, type[Kind]] = {
    kind.name: kind for kind in (Relu, Gated, TopK, BatchTopK, JumpRelu, TanhJumpRelu, Matryoshka, Record)
}

__all__ = ["KINDS", "Block", "Code", "Kind", "When"]
