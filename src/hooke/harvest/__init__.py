"""Running a model over text and keeping its activations.

plans.py        which tokens, in which order; `own.py`: the model's own text as a source
stream.py       one shard of a plan from one pass, the same each time
stored.py       shards in a folder with a table of what they hold: `places.py`, where; `tensors.py`, the files
storing.py      filling such a folder; `cluster.py`: over many machines, with Ray
batches.py      rows of different lengths in batches
activations.py  pooled activations of labelled texts, in memory
"""

from hooke.harvest.activations import POOLS, Wanted, harvest, prompts
from hooke.harvest.batches import batches
from hooke.harvest.plans import Plan, load_plan, plan, save_plan, subset
from hooke.harvest.shards import Harvest, Prompt
from hooke.harvest.stored import Stored, open_store
from hooke.harvest.storing import Estimate, estimate, store
from hooke.harvest.stream import Activations, shard, widths

__all__ = [
    "POOLS",
    "Activations",
    "Estimate",
    "Harvest",
    "Plan",
    "Prompt",
    "Stored",
    "Wanted",
    "batches",
    "estimate",
    "harvest",
    "load_plan",
    "open_store",
    "plan",
    "prompts",
    "save_plan",
    "shard",
    "store",
    "subset",
    "widths",
]
