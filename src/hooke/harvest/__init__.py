"""Running a model over text and keeping its activations."""

from hooke.harvest.activations import POOLS, Harvest, harvest, prompts

__all__ = ["POOLS", "Harvest", "harvest", "prompts"]
