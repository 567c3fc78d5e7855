import pytest
import torch
from torch import nn

from sw_sparse import SparsityConfig
from sw_sparse.targets import find_layers, plain_name


class Paths(nn.Module):
    """Two parallel paths, in the two ways that networks hold them, and a chain of layers, which is none."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(4, 1, 3, 3)) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3) for _ in range(2))
        self.chain = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.grn = nn.Parameter(torch.zeros(1, 1, 1, 8))
        self.zero = nn.Parameter(torch.zeros(4, 4))


def find(model, config, parameters=None):
    return find_layers(model, torch.optim.SGD(parameters or model.parameters(), lr=0.1), config)


def test_parallel_paths_are_one_layer_and_a_chain_is_not():
    layers, _ = find(Paths(), SparsityConfig(granularity="shared_filter"))
    assert {layer.name: list(layer.weights) for layer in layers} == {
        "weights.*": ["weights.0", "weights.1"],
        "convs.*.weight": ["convs.0.weight", "convs.1.weight"],
        "chain.0.weight": ["chain.0.weight"],
        "chain.1.weight": ["chain.1.weight"],
    }


def test_other_granularities_keep_paths_apart():
    layers, _ = find(Paths(), SparsityConfig(granularity="filter", targets="weights.*"))
    assert [layer.name for layer in layers] == ["weights.0", "weights.1"]


def test_vectors_and_zeros_are_left_alone_with_the_reason():
    _, skipped = find(Paths(), SparsityConfig())
    assert skipped["grn"] == "a vector"
    assert skipped["convs.0.bias"] == "a vector"
    assert skipped["zero"].startswith("all zero")


def test_frozen_and_unoptimized_parameters_are_left_alone():
    model = Paths()
    model.weights[0].requires_grad_(False)
    layers, skipped = find(model, SparsityConfig(), [model.weights[0], model.weights[1]])
    assert [layer.name for layer in layers] == ["weights.1"]
    assert skipped["weights.0"] == "frozen"
    assert skipped["chain.0.weight"] == "not in the optimizer"


def test_tied_weights_appear_once_and_match_by_any_name():
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "output": nn.Linear(4, 5, bias=False)})
    model["output"].weight = model["embedding"].weight
    layers, _ = find(model, SparsityConfig(targets="output.*"))
    assert [layer.name for layer in layers] == ["embedding.weight"]


def test_targets_by_predicate_and_by_several_patterns():
    layers, _ = find(Paths(), SparsityConfig(targets=lambda name, p: p.ndim == 4))
    assert {layer.shape for layer in layers} == {torch.Size((4, 1, 3, 3)), torch.Size((4, 4, 3, 3))}
    layers, _ = find(Paths(), SparsityConfig(targets=("chain.0.*", "weights.1")))
    assert [layer.name for layer in layers] == ["weights.1", "chain.0.weight"]


def test_nothing_to_make_sparse_is_an_error_that_says_why():
    with pytest.raises(ValueError, match=r"targets: nothing .*grn: a vector"):
        find(Paths(), SparsityConfig(targets="grn"))
    with pytest.raises(ValueError, match="no parameter matches"):
        find(Paths(), SparsityConfig(targets="nowhere"))


def test_paths_of_different_shapes_are_an_error():
    model = nn.Module()
    model.paths = nn.ParameterList([torch.randn(4, 4), torch.randn(4, 5)])
    with pytest.raises(ValueError, match=r"paths\.1 is a parallel path of paths\.0"):
        find(model, SparsityConfig(granularity="shared_filter"))


@pytest.mark.parametrize("name", ["module._orig_mod.a.weight", "_orig_mod.a.weight", "module.a.weight", "a.weight"])
def test_names_lose_their_wrappers(name):
    assert plain_name(name) == "a.weight"
