"""Hooks of MMEngine's runner, in its registry once this is imported: checkpoints, curves, progress, sparsity."""

from sw_sparse.openmmlab.hooks.checkpoint import AtomicLocalBackend, PlainCheckpointHook
from sw_sparse.openmmlab.hooks.curves import CurvesHook
from sw_sparse.openmmlab.hooks.progress import ProgressHook
from sw_sparse.openmmlab.hooks.sparsifier import SparsifierHook

__all__ = ["AtomicLocalBackend", "CurvesHook", "PlainCheckpointHook", "ProgressHook", "SparsifierHook"]
