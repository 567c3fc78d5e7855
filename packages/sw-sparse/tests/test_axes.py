"""Groups of axes, on small networks of every kind of operation, against brute force."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from networks import UnitNet
from torch import nn

from sw_sparse.axes import trace_axes


class Net(nn.Module):
    """``[B, 4, 6, 6]``: a convolution to 8 channels, something between, and a convolution from them."""

    def __init__(self, between=None, channels=8, **modules):
        super().__init__()
        self.first, self.last = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(channels, 5, 1)
        self.extra = nn.ModuleDict(modules)
        self._between = between or (lambda x, modules: x)

    def forward(self, x):
        return self.last(self._between(self.first(x), self.extra))


FREE = {
    "nothing": lambda: Net(),
    "pointwise": lambda: Net(lambda x, _: F.gelu(x) * 2 + x.sigmoid()),
    "batch norm": lambda: Net(lambda x, m: m["norm"](x).relu(), norm=nn.BatchNorm2d(8)),
    "in place": lambda: Net(lambda x, m: F.gelu(x).mul_(3).relu_()),
    "depthwise": lambda: Net(lambda x, m: m["conv"](x), conv=nn.Conv2d(8, 8, 3, groups=8)),
    "pooling": lambda: Net(lambda x, _: F.max_pool2d(F.avg_pool2d(x, 2), 2)),
    "channels last": lambda: Net(lambda x, _: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2)),
    "squeeze and excite": lambda: Net(
        lambda x, m: x * m["up"](m["down"](x.mean((2, 3))).relu()).sigmoid()[:, :, None, None],
        down=nn.Linear(8, 3), up=nn.Linear(3, 8),
    ),
    "tokens": lambda: Net(lambda x, _: x.flatten(2).transpose(1, 2).relu().transpose(1, 2).unflatten(2, (6, 6))),
    "residual": lambda: Net(lambda x, m: x + m["conv"](x), conv=nn.Conv2d(8, 8, 3, padding=1)),
}  # fmt: skip
MIXED = {
    "layer norm": (lambda: Net(lambda x, m: m["n"](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), n=nn.LayerNorm(8)),
                   r"native_layer_norm of extra\.n\.weight"),
    "group norm": (lambda: Net(lambda x, m: m["n"](x), n=nn.GroupNorm(2, 8)), "native_group_norm"),
    "softmax": (lambda: Net(lambda x, _: x.softmax(1)), "softmax"),
    "normalize": (lambda: Net(lambda x, _: F.normalize(x, dim=1)), "linalg_vector_norm"),
    "groups": (lambda: Net(lambda x, m: m["conv"](x), conv=nn.Conv2d(8, 8, 1, groups=2)), "convolution"),
    "cat": (lambda: Net(lambda x, _: torch.cat([x, x.relu()], 1), channels=16), "cat"),
    "gate": (lambda: Net(lambda x, _: x[:, :4] * x[:, 4:].sigmoid(), channels=4), "slice"),
    "chunk": (lambda: Net(lambda x, _: torch.add(*x.chunk(2, 1)), channels=4), "split"),
    "shuffle": (lambda: Net(lambda x, _: F.pixel_shuffle(x, 2), channels=2), "pixel_shuffle|view"),
    "flip": (lambda: Net(lambda x, _: x.flip(1)), "flip"),
    "roll": (lambda: Net(lambda x, _: x.roll(1, 1)), "roll"),
    "cumsum": (lambda: Net(lambda x, _: x.cumsum(1)), "cumsum"),
    "largest": (lambda: Net(lambda x, _: x * x.amax(1, keepdim=True)), "amax"),
    "attention": (lambda: Net(lambda x, _: ((y := x.flatten(2)) @ y.transpose(1, 2) @ y).unflatten(2, (6, 6))), "bmm"),
    "constant": (lambda: Net(lambda x, _: x * torch.linspace(0, 1, 8)[:, None, None].to(x)), "constant|linspace"),
    "output": (lambda: nn.Conv2d(4, 8, 1), "the model's outputs"),
}  # fmt: skip
X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def group_of(model, name="first.weight"):
    return next(group for group in trace_axes(model, (X,)) if (name, 0) in group.producers)


def at(model, place, unit):
    name, dim = place
    return dict([*model.named_parameters(), *model.named_buffers()])[name].data.select(dim, unit)


@pytest.mark.parametrize("kind", FREE)
def test_a_unit_whose_consumers_are_zero_does_nothing(kind):
    model = FREE[kind]().eval()
    group = group_of(model)
    assert (group.blocked, group.means, group.size) == (None, 0, 8)
    assert group.consumers
    for unit in (0, 5):
        for place in group.consumers:
            at(model, place, unit).zero_()
        before = model(X)
        for place in set(group.places) - set(group.consumers):
            at(model, place, unit).uniform_(1, 2)
        torch.testing.assert_close(model(X), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", MIXED)
def test_what_mixes_units_is_named(kind):
    model, reason = MIXED[kind]
    group = group_of(model(), "weight" if kind == "output" else "first.weight")
    assert group.blocked
    assert re.search(reason, group.blocked)


def test_nothing_is_free_by_chance():
    """Brute force over all networks: where a group is called free, taking a unit out may not matter elsewhere."""
    for make in [*FREE.values(), *(make for make, _ in MIXED.values())]:
        model = make().eval()
        for group in trace_axes(model, (X,)):
            if group.blocked or not group.consumers or group.means:
                continue
            twin = copy.deepcopy(model)
            for place in group.consumers:
                at(twin, place, 1).zero_()
            before = twin(X)
            for place in set(group.places) - set(group.consumers):
                at(twin, place, 1).uniform_(1, 2)
            torch.testing.assert_close(twin(X), before, rtol=0, atol=1e-6)


def test_means_over_units_are_counted():
    groups = {group.producers[0]: group for group in trace_axes(UnitNet(), (torch.zeros(2, 4, 5, 5),))}
    assert groups[("expand.weight", 0)].means == 1
    assert groups[("stem.weight", 0)].means == 0


def test_a_residual_and_a_layer_that_feeds_itself_are_one_group():
    group = group_of(UnitNet(), "stem.weight")
    assert {("project.weight", 0), ("mix.weight", 0), ("mix.weight", 1), ("head.weight", 1), ("norm.running_var", 0),
            ("depthwise.weight", 0), ("expand.weight", 1)} <= set(group.places)  # fmt: skip
    assert set(group.consumers) == {("expand.weight", 1), ("mix.weight", 1), ("head.weight", 1)}


def test_tracing_changes_nothing():
    model = UnitNet().train()
    model.norm.eval()
    before = copy.deepcopy(model.state_dict())
    trace_axes(model, (torch.zeros(2, 4, 5, 5),))
    assert model.training
    assert not model.norm.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_that_cannot_be_traced_is_named():
    class Branching(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    with pytest.raises(ValueError, match="model: Branching cannot be traced"):
        trace_axes(Branching(4, 4), (torch.zeros(2, 4),))
