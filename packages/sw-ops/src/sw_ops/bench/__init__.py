"""The benchmark: the operator beside a dense convolution and the published algorithm."""
