import torch

from sw_sparse.scores import SCORES

WEIGHT, GRADIENT = torch.tensor([2.0, -3.0]), torch.tensor([-0.5, -1.0])


def test_scores():
    values = {name: score(WEIGHT, GRADIENT).tolist() for name, score in SCORES.items()}
    assert values == {"magnitude": [2, 3], "gradient": [0.5, 1], "snip": [1, 3], "movement": [1, -3]}
