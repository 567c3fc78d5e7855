"""Hooks of MMEngine's runner, in its registry once this is imported: checkpoints, curves, progress, sparsity.

Imported with them is what else a configuration may name: the optimizer wrapper for bfloat16, learning rates by layer,
the loader of images.
"""

import sw_sparse.openmmlab.amp
import sw_sparse.openmmlab.layer_decay
import sw_sparse.openmmlab.loading  # noqa: F401
from sw_sparse.openmmlab.hooks.checkpoint import AtomicLocalBackend, PlainCheckpointHook
from sw_sparse.openmmlab.hooks.curves import CurvesHook
from sw_sparse.openmmlab.hooks.patience import PatienceHook
from sw_sparse.openmmlab.hooks.progress import ProgressHook
from sw_sparse.openmmlab.hooks.resume import ResumableHook
from sw_sparse.openmmlab.hooks.sparsifier import SparsifierHook

__all__ = [
    "AtomicLocalBackend",
    "CurvesHook",
    "PatienceHook",
    "PlainCheckpointHook",
    "ProgressHook",
    "ResumableHook",
    "SparsifierHook",
]
