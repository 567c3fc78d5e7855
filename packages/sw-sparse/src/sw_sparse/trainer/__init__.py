"""Training and evaluating image classifiers with the sparse engine: ``sw-sparse train`` and ``sw-sparse eval``."""
