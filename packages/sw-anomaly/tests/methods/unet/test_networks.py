"""The U-Nets reproduce the published ones, number by number, and keep their promises on sizes and parameters."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sw_anomaly.methods.unet.networks import MODELS, UNet, create_model, swtiny, swtiny_pp, vanilla
from sw_models import load_published_checkpoint

DATA = Path(__file__).parents[2] / "golden"
SMALL = {"depths": (1, 1, 1, 1), "dims": (8, 16, 32, 64)}
GOLDEN = {
    "vanilla": (lambda: vanilla(channels=(8, 16, 32, 64)), None),
    "swtiny": (lambda: swtiny(**SMALL), (51, 49, 47, 13)),
    "swtiny_pp": (lambda: swtiny_pp(**SMALL), (51, 49, 45, 13)),
}
# Published names of everything but the encoders, as patterns, and ours. `bn2` is in the files but never applied.
RENAMES = {
    r"enc(\d)\.net\.": lambda m: f"encoder.levels.{int(m[1]) - 1}.",
    r"se(\d)\.fc\.0\.": lambda m: f"gates.{int(m[1]) - 1}.squeeze.",
    r"se(\d)\.fc\.2\.": lambda m: f"gates.{int(m[1]) - 1}.excite.",
    r"up(\d)\.": lambda m: f"ups.{int(m[1]) - 1}.",
    r"dec(\d)\.net\.": lambda m: f"joins.{int(m[1]) - 1}.",
    r"dec(\d)\.bn1\.": lambda m: f"joins.{int(m[1]) - 1}.norm1.",
    r"dec(\d)\.shortcut\.0\.": lambda m: f"joins.{int(m[1]) - 1}.shortcut.",
    r"dec(\d)\.shortcut\.1\.": lambda m: f"joins.{int(m[1]) - 1}.shortcut_norm.",
    r"dec(\d)\.(conv\d)\.": lambda m: f"joins.{int(m[1]) - 1}.{m[2]}.",
    r"(out_conv|final)\.": lambda m: "head.",
}


def rename(key):
    for pattern, ours in RENAMES.items():
        name, found = re.subn("^" + pattern, ours, key)
        if found:
            return name
    raise AssertionError(f"no rule for {key}")


def load_published_unet(model: UNet, state, kernel_sizes):
    ours = {rename(k): v for k, v in state.items() if not k.startswith("encoder.") and ".bn2." not in k}
    if kernel_sizes:
        encoder = load_published_checkpoint(state, kernel_sizes).state_dict()
        flat = {re.sub(r"^(stem|stages)\.", r"\1_", name): value for name, value in encoder.items()}
        ours |= {f"encoder.{name}": value for name, value in flat.items()}
    model.load_state_dict(ours)


@pytest.mark.parametrize("name", GOLDEN)
def test_published_logits_are_reproduced(name):
    build, kernel_sizes = GOLDEN[name]
    golden = load_file(DATA / f"D_unet_{name}.safetensors")
    model = build()
    load_published_unet(model, {k[6:]: v for k, v in golden.items() if k.startswith("state/")}, kernel_sizes)
    with torch.no_grad():
        logits = model.eval()(golden["64x64/input"])
    expected = golden["64x64/logits"]
    assert logits.shape == expected.shape
    assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "published"), [("vanilla", 3_789_761), ("swtiny", 34_644_141), ("swtiny_pp", 35_517_265)]
)
def test_parameter_counts_are_the_published_ones(name, published):
    with torch.device("meta"):
        model = create_model(name)
    unused = sum(2 * width for width in (320, 160, 80)) if name == "swtiny_pp" else 0  # its norms never applied
    assert sum(parameter.numel() for parameter in model.parameters()) == published - unused


@pytest.mark.parametrize(("name", "stride"), [("swnano", 2), ("vanilla", 1)])
@pytest.mark.parametrize(("channels", "size"), [(3, (64, 64)), (6, (32, 96)), (3, (48, 112))])
def test_logits_come_at_the_models_stride(name, stride, channels, size):
    model = create_model(name, channels).eval()
    with torch.no_grad():
        logits = model(torch.rand(2, channels, *size))
    assert logits.shape == (2, 1, size[0] // stride, size[1] // stride)


def test_maps_need_not_halve_evenly():
    model = swtiny(**SMALL).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 80, 112)).shape == (1, 1, 20, 28)


@pytest.mark.parametrize("name", ["swnano", "vanilla"])
def test_every_parameter_learns(name):
    model = create_model(name)
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    silent = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    # before a batch or instance norm nothing passes to a bias; GRN's scale starts at a stationary point of its own
    assert [name for name in silent if not name.endswith("bias")] == []


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_other_numbers_of_channels(name):
    with torch.device("meta"):
        assert create_model(name, 5)(torch.empty(1, 5, 64, 64)).shape[:2] == (1, 1)


def test_weights_follow_from_the_seed_alone():
    state = torch.get_rng_state()
    one, same, other = (create_model("swnano", seed=seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
