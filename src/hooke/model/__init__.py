"""Models: loading, the adapter table, reads and edits at sites, the frozen linear view."""

from hooke.model.checks import check_model
from hooke.model.edits import Edit
from hooke.model.frozen import Frozen, Rows, freeze
from hooke.model.load import load
from hooke.model.model import Model
from hooke.model.run import Tokens

__all__ = ["Edit", "Frozen", "Model", "Rows", "Tokens", "check_model", "freeze", "load"]
