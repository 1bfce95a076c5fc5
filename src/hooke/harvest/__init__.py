"""Running a model over text and keeping its activations."""

from hooke.harvest.activations import POOLS, Wanted, batches, harvest, prompts
from hooke.harvest.shards import Harvest, Prompt

__all__ = ["POOLS", "Harvest", "Prompt", "Wanted", "batches", "harvest", "prompts"]
