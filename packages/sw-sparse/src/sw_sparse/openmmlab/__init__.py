"""Training with OpenMMLab's runner: what ``sw-det`` and ``sw-seg`` share. Needs the extra ``sw-sparse[openmmlab]``.

Nothing is imported here, so that ``--help`` of the programs built on :mod:`.app` need not wait for PyTorch. A
configuration of one's own says ``custom_imports = dict(imports=["sw_sparse.openmmlab.hooks"])``.
"""
