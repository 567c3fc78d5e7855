"""Bad numbers, sparse gradients, other default devices, and states that come at the wrong moment."""

import copy

import pytest
import torch
from networks import SmallNet, batch, loss_of
from torch import nn

from sw_sparse import Sparsifier, SparsityConfig

TARGETS = ("weights.*", "expand.*", "project.*")


def sparse(model=None, **settings):
    model = model or SmallNet()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    config = SparsityConfig(**{"sparsity": 0.5, "targets": TARGETS, "update_every": 1, **settings})
    return model, optimizer, Sparsifier(model, optimizer, config, loss=loss_of)


def train(model, optimizer, sparsifier, steps):
    for number in steps:
        optimizer.zero_grad()
        loss_of(model, number).backward()
        optimizer.step()
        sparsifier.step()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("granularity", ["element", "filter", "shared_filter", "2:4"])
@pytest.mark.parametrize(
    "rule",
    [
        {"update": "rigl"},
        {"update": "rigl", "regrow_dropped": True},
        {"update": "set", "importance": "gradient"},
        {"update": "set", "importance": "snip"},
        {"update": "set", "importance": "movement"},
    ],
)
def test_gradients_that_are_no_numbers_leave_the_density_exact(value, granularity, rule):
    settings = {"granularity": granularity, **rule, **({"sparsity": None} if ":" in granularity else {})}
    model, optimizer, sparsifier = sparse(**settings)
    loss_of(model).backward()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad[torch.rand(parameter.shape, generator=generator) < 0.3] = value
    optimizer.step()
    assert sparsifier.step()
    for layer in sparsifier.layers:
        for active in layer.active:
            assert torch.equal(active.sum(1), layer.counts)


@pytest.mark.parametrize("initialisation", ["top", "random"])
def test_weights_that_are_no_numbers_leave_the_density_exact(initialisation):
    model = SmallNet()
    with torch.no_grad():
        model.expand.weight[:, :3] = float("nan")
    _, _, sparsifier = sparse(model, initialisation=initialisation)
    assert all(density == 0.5 for density in sparsifier.densities().values())


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 8, sparse=True)
        self.head = nn.Linear(8, 6)

    def forward(self, words):
        return self.head(self.embedding(words))


def test_embeddings_with_sparse_gradients_are_refused_by_name():
    model = Words()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"embedding\.weight: its gradients are sparse tensors"):
        Sparsifier(model, optimizer, SparsityConfig(targets="embedding.*"))
    sparsifier = Sparsifier(model, optimizer, SparsityConfig(sparsity=0.5, update_every=1))
    assert "sparse=True" in sparsifier.skipped["embedding.weight"]
    model(torch.arange(5)).sum().backward()
    optimizer.step()
    assert sparsifier.step()
    assert sparsifier.densities() == {"head.weight": 0.5}


def test_sparse_gradients_that_no_module_announces_are_named():
    weight = nn.Parameter(torch.randn(12, 8))
    model = nn.ParameterDict({"words": weight})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Sparsifier(model, optimizer, SparsityConfig())
    nn.functional.embedding(torch.arange(5), weight, sparse=True).sum().backward()
    with pytest.raises(RuntimeError, match="the gradient of words is a sparse tensor"):
        optimizer.step()


@pytest.mark.parametrize(
    "settings",
    [
        {"update": "set", "initialisation": "random"},
        {"update": "rigl", "distribution": "snip"},
        {"update": "gradual", "total_steps": 4},
        {"granularity": "2:4", "sparsity": None},
        {"granularity": "shared_filter", "distribution": "erk", "importance": "movement"},
        {"granularity": "shared_filter", "distribution": "snip", "published": True},
        {"initialisation": "nonzero"},
    ],
)
def test_another_default_device_changes_nothing(settings):
    batches, model = [batch(number) for number in range(3)], SmallNet()

    def on_the_cpu(network, step=0):
        return nn.functional.cross_entropy(network(batches[0][0]), batches[0][1])

    masks = []
    for device in (None, "meta"):
        twin = copy.deepcopy(model)
        torch.set_default_device(device)
        try:
            optimized = [p for p in twin.parameters() if p.requires_grad]
            optimizer = torch.optim.SGD(optimized, lr=0.1, momentum=0.9)  # AdamW of torch 2.6 counts on that device
            config = SparsityConfig(**{"sparsity": 0.5, "targets": TARGETS, "update_every": 1, **settings})
            sparsifier = Sparsifier(twin, optimizer, config, loss=on_the_cpu)
            for images, labels in batches:
                optimizer.zero_grad()
                nn.functional.cross_entropy(twin(images), labels).backward()
                optimizer.step()
                sparsifier.step()
            state = sparsifier.state_dict()
            sparsifier.load_state_dict(state)
        finally:
            torch.set_default_device(None)
        masks.append([mask for layer in sparsifier.layers for mask in layer.active])
    assert all(torch.equal(a, b) for a, b in zip(*masks, strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        {"initialisation": "random"},
        {"distribution": "snip", "update": "rigl"},
        {"granularity": "shared_filter", "distribution": "snip", "published": True},
    ],
)
def test_a_state_given_at_construction_costs_no_weight_and_training_goes_on_as_if_unbroken(settings):
    straight = sparse(**settings)
    train(*straight, range(6))
    first = sparse(**settings)
    train(*first, range(3))
    saved = copy.deepcopy([part.state_dict() for part in first])

    model = SmallNet()
    model.load_state_dict(saved[0])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    optimizer.load_state_dict(saved[1])
    sparsifier = Sparsifier(model, optimizer, straight[2].config, state=saved[2])
    assert all(torch.equal(value, saved[0][name]) for name, value in model.state_dict().items())
    train(model, optimizer, sparsifier, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), straight[0].state_dict().values(),
                                                 strict=True))  # fmt: skip
    assert sparsifier.densities() == straight[2].densities()


def test_a_state_whose_weights_construction_has_zeroed_is_refused():
    first = sparse(initialisation="random")
    train(*first, range(3))
    model = SmallNet()
    model.load_state_dict(first[0].state_dict())
    _, _, second = sparse(model, initialisation="random", seed=1)
    state = {**first[2].state_dict(), "config": second.config.described()}
    with pytest.raises(ValueError, match=r"state: \d+ weights of weights\.0 that are on in it were set to 0 at"):
        second.load_state_dict(state)
    model.load_state_dict(first[0].state_dict())
    second.load_state_dict(state)
    assert all(torch.equal(value, first[0].state_dict()[name]) for name, value in model.state_dict().items())
