"""Dynamic sparse training for any PyTorch model and loop."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sw_sparse.callback import SparsifierCallback
    from sw_sparse.compaction import compact, load_compact, save_compact
    from sw_sparse.config import SparsityConfig
    from sw_sparse.sparsifier import Sparsifier

__all__ = ["Sparsifier", "SparsifierCallback", "SparsityConfig", "compact", "load_compact", "save_compact"]
__version__ = version("sw-sparse")

_MODULES = {
    "Sparsifier": "sw_sparse.sparsifier",
    "SparsifierCallback": "sw_sparse.callback",
    "SparsityConfig": "sw_sparse.config",
    "compact": "sw_sparse.compaction",
    "load_compact": "sw_sparse.compaction",
    "save_compact": "sw_sparse.compaction",
}


def __getattr__(name: str) -> Any:
    """Import PyTorch when it is needed: the commands' ``--help`` need not wait for it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
