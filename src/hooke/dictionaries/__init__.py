"""Dictionaries of features: the protocol, and the neuron basis that every model has."""

from hooke.dictionaries.direction import Direction
from hooke.dictionaries.neurons import Neurons, neurons
from hooke.dictionaries.protocol import Codes, Dictionary, check_dictionary

__all__ = ["Codes", "Dictionary", "Direction", "Neurons", "check_dictionary", "neurons"]
