"""A world of known features that a dictionary is trained on, and how much of it the dictionary found.

sizes       what a world is made of: a small one for two cores, and SynthSAEBench-16k
make        a world: directions, how often and how strongly features fire, what hangs together
samples     samples of it, with their true codes
scoring     a dictionary against the truth: matching, detection, reconstruction
references  what needs no training: the truth itself, principal components, random directions; and supervised probes
"""

from hooke.truth.world.make import World, make_world, overlap, rates
from hooke.truth.world.references import (
    Coded,
    matched,
    oracle_scores,
    principal,
    probes,
    random_directions,
)
from hooke.truth.world.samples import Drawn, batches, draw, sample
from hooke.truth.world.scoring import scores
from hooke.truth.world.sizes import SIZES, Size

__all__ = [
    "Coded",
    "Drawn",
    "SIZES",
    "Size",
    "World",
    "batches",
    "draw",
    "make_world",
    "matched",
    "oracle_scores",
    "overlap",
    "principal",
    "probes",
    "random_directions",
    "rates",
    "sample",
    "scores",
]
