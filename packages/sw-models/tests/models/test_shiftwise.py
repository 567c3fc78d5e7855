import pytest
import timm
import torch
from timm.utils import reparameterize_model

from sw_models import load_published_checkpoint
from sw_models.export import export_model
from sw_models.models.shiftwise import GlobalResponseNorm

PUBLISHED_COUNTS = {"tiny": 31_790_260, "small": 57_312_892, "base": 100_250_380, "large": 221_808_628}


@torch.no_grad()
def test_golden_network_is_reproduced(golden, backend, relative_error):
    state, expected = golden("D_model_v2")
    model = load_published_checkpoint(state)
    last, maps = model.forward_intermediates(expected["input"])
    for i, stage_map in enumerate(maps):
        assert relative_error(stage_map, expected[f"stage{i}"]) < 1e-5
    assert relative_error(model.forward_head(last, pre_logits=True), expected["pooled_features"]) < 1e-5
    assert relative_error(model(expected["input"]), expected["logits"]) < 1e-5
    deployed = reparameterize_model(model)
    assert relative_error(deployed(expected["input"]), expected["logits_merged"]) < 1e-5


@pytest.mark.parametrize("size", PUBLISHED_COUNTS)
def test_sizes_have_the_published_parameter_counts(size):
    with torch.device("meta"):
        model = timm.create_model(f"shiftwise_{size}")
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED_COUNTS[size]


def test_nano_has_under_two_million_parameters():
    with torch.device("meta"):
        model = timm.create_model("shiftwise_nano")
    assert sum(p.numel() for p in model.parameters()) < 2_000_000


def test_global_response_norm_is_its_formula(seeded):
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    layer = GlobalResponseNorm(6, dtype=torch.float64)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    for b in range(2):
        norms = [x[b, c].square().sum().sqrt() for c in range(6)]
        for c in range(6):
            n = norms[c] / (sum(norms) / 6 + 1e-6)
            torch.testing.assert_close(layer(x)[b, c], (layer.weight[c] * n + 1) * x[b, c] + layer.bias[c])


def test_global_response_norm_of_an_empty_map_has_a_finite_gradient():
    x = torch.zeros(1, 2, 3, 3)
    x[0, 1] = 1
    layer = GlobalResponseNorm(2)
    torch.nn.init.ones_(layer.weight)
    (gradient,) = torch.autograd.grad(layer(x.requires_grad_()).sum(), x)
    assert gradient.isfinite().all()


def test_weights_depend_on_the_users_seed():
    torch.manual_seed(1)
    first, second = (timm.create_model("shiftwise_nano").stem.conv1.weight for _ in range(2))
    torch.manual_seed(1)
    again = timm.create_model("shiftwise_nano").stem.conv1.weight
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["shiftwise_pico", "shiftwise_v1_tiny", "shiftwise_tiny_coordatt"])
def test_layers_share_the_published_shuffles_or_have_their_own(name):
    def shuffles(table_seed):
        model = timm.create_model(name, depths=(1, 1, 3, 1), dims=(8, 8, 16, 16), table_seed=table_seed)
        return [block.conv.slots_horizontal for block in model.stages[2].blocks]

    first, second, third = shuffles(None)
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    first, second, third = shuffles(0)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert torch.equal(third, shuffles(0)[2])
    assert not torch.equal(third, shuffles(5)[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_stride": 16}, "output_stride: got 16, want 32"),
        ({"kernel_sizes": (51, 49)}, "kernel_sizes: got 2 values, want 4"),
        ({"kernel_sizes": (51, 49, 47, 1)}, "kernel_size: got 1, want at least"),
        ({"small_kernel": 4}, "small_kernel: got 4, want a positive odd"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        timm.create_model("shiftwise_nano", **arguments)


@pytest.mark.parametrize("size", [(64, 64), (33, 65), (20, 20)])
def test_trains_in_bfloat16_on_maps_smaller_than_the_kernel(size, seeded):
    model = timm.create_model("shiftwise_nano", num_classes=4).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, *size).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(model(images), torch.tensor([0, 1]))
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def deployed_pico():
    model = timm.create_model("shiftwise_pico", num_classes=4, layer_scale_init=0.5).eval()
    return model, reparameterize_model(model)


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("size", [(64, 64), (33, 65)])
def test_deployed_form_is_the_same_function(batch, size, seeded, monkeypatch):
    monkeypatch.setattr(
        "sw_models.models._deployed._CACHED_BYTES", 2 * 64 * 16 * 16 * 4
    )  # two images at a time, then one
    model, deployed = deployed_pico()
    model, deployed = model.double(), deployed.double()
    images = torch.randn(batch, 3, *size, dtype=torch.float64)
    expected = model(images)
    torch.testing.assert_close(deployed(images), expected)
    with torch.no_grad():
        torch.testing.assert_close(deployed(images), expected)


def test_blocks_that_process_fewer_channels_than_their_stage_are_deployed(seeded, tmp_path):
    model = timm.create_model("shiftwise_pico", num_classes=5, depths=(1, 2, 1, 1), layer_scale_init=0.5)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for number, block in enumerate(model.stages[1].blocks):
            channels = len(block.conv.rep_channels)
            silent = torch.arange(channels) % (2 + number) == 1
            for weight in block.conv.weights:
                weight.unflatten(0, (channels, -1))[silent] = 0
            for norm in (block.conv.norm_horizontal, block.conv.norm_vertical, block.conv.norm_identity):
                norm.weight[silent], norm.bias[silent] = 0, 0
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    deployed = reparameterize_model(model)
    widths = [len(block.bias) for block in deployed.stages[1].blocks]
    assert widths[0] < widths[1] < len(model.stages[1].blocks[0].conv.rep_channels)
    expected = model(images)
    torch.testing.assert_close(deployed(images), expected)
    with torch.no_grad():
        torch.testing.assert_close(deployed(images), expected)
    torch.testing.assert_close(torch.jit.script(deployed)(images), expected)
    assert export_model(deployed.float(), tmp_path / "deployed.pt2", "exported", size=64) < 1e-5


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@torch.no_grad()
def test_deployed_form_in_float32_is_the_same_function_through_every_backend(layout, seeded, backend, relative_error):
    model, deployed = deployed_pico()
    images = torch.randn(3, 3, 64, 80).contiguous(memory_format=layout)
    assert relative_error(deployed(images), model(images)) < 1e-5
    assert deployed(images[:0]).shape == (0, 4)


@torch.no_grad()
def test_quantization_reaches_every_product_of_the_deployed_form(seeded, relative_error):
    _, deployed = deployed_pico()
    quantized = torch.ao.quantization.quantize_dynamic(deployed, {torch.nn.Linear}, dtype=torch.qint8)
    assert not [layer for layer in quantized.modules() if type(layer) is torch.nn.Linear]
    blocks = sum(len(stage.blocks) for stage in deployed.stages)
    assert sum(type(layer) is torch.nn.Linear for layer in deployed.modules()) == 4 * blocks + 1
    images = torch.randn(2, 3, 64, 64)
    assert relative_error(quantized(images), deployed(images)) < 0.1


@torch.no_grad()
def test_changed_weights_change_what_the_deployed_form_says(seeded):
    _, deployed = deployed_pico()
    images = torch.randn(1, 3, 64, 64)
    before = deployed(images)
    deployed.stages[2].blocks[0].project.weight.data.mul_(2)
    assert not torch.equal(deployed(images), before)


def test_deployed_form_passes_gradients_to_the_image(seeded):
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    expected, actual = (torch.autograd.grad(net.double()(images).sum(), images)[0] for net in deployed_pico())
    torch.testing.assert_close(actual, expected)


@torch.no_grad()
def test_deployed_form_runs_under_autocast(seeded):
    model, deployed = deployed_pico()
    images = torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(deployed(images), model(images), rtol=0.1, atol=0.1)
