"""What can be measured of a model: operations, receptive field, coverage, sparsity, speed."""
