"""Dynamic sparse training for any PyTorch model and loop."""

from importlib.metadata import version

from sw_sparse.config import SparsityConfig
from sw_sparse.sparsifier import Sparsifier

__all__ = ["Sparsifier", "SparsityConfig"]
__version__ = version("sw-sparse")
