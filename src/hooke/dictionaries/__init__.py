"""Dictionaries of features: the protocol, and the neuron basis that every model has."""

from hooke.dictionaries.codes import Codes
from hooke.dictionaries.direction import Direction
from hooke.dictionaries.neurons import Neurons, neurons
from hooke.dictionaries.protocol import Dictionary, check_dictionary, check_edits

__all__ = ["Codes", "Dictionary", "Direction", "Neurons", "check_dictionary", "check_edits", "neurons"]
