import pytest
import timm
import torch

from sw_models import load_published_checkpoint
from sw_models.checkpoints.keys import convert_published, is_published, published_family


@pytest.mark.parametrize(
    ("name", "family"), [("D_model_v1", "v1"), ("D_model_v2", "v2"), ("D_model_mvtec", "coordatt")]
)
def test_published_networks_are_told_apart(name, family, golden):
    state = golden(name)[0]
    assert is_published(state)
    assert published_family(state) == family


def test_our_own_names_are_not_published_ones():
    assert not is_published(timm.create_model("shiftwise_pico").state_dict())


@pytest.mark.parametrize(
    ("depth", "message"), [(3, r"lacks stages\.2\.blocks\.2, "), (1, r"has stages\.2\.blocks\.1, ")]
)
def test_another_depth_is_an_error_that_names_the_blocks(depth, message, golden):
    model = timm.create_model("shiftwise_tiny", depths=(1, 1, depth, 1), dims=(16, 32, 64, 128), num_classes=10)
    with pytest.raises(ValueError, match=message):
        convert_published(golden("D_model_v2")[0], model)


DEPTHS, DIMS = (1, 1, 2, 1), (8, 16, 24, 32)
SMALL = {"depths": DEPTHS, "dims": DIMS, "num_classes": 7}


def shapes_of(name, kind, channels):
    """Return the published tensors of a batch norm, a layer norm or a layer with a bias of this weight."""
    if kind == "batch norm":
        vectors = ("weight", "bias", "running_mean", "running_var")
        return {f"{name}.{leaf}": (channels,) for leaf in vectors} | {f"{name}.num_batches_tracked": ()}
    if kind == "layer norm":
        return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}
    return {f"{name}.weight": kind, f"{name}.bias": (channels,)}


def unireplknet_shapes():
    """Return the tensors of AILab-CVC/UniRepLKNet, unireplknet.py, as its modules name them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, dim in enumerate(DIMS):
        convs = {f"{i}.0": ((dim // 2, 3, 3, 3), dim // 2), f"{i}.3": ((dim, dim // 2, 3, 3), dim)} if i == 0 else {
            f"{i}.0": ((dim, DIMS[i - 1], 3, 3), dim)
        }  # fmt: skip
        for place, (shape, channels) in convs.items():
            shapes |= shapes_of(f"downsample_layers.{place}", shape, channels)
            norm = f"{place[:-1]}{int(place[-1]) + 1}"
            shapes |= shapes_of(f"downsample_layers.{norm}", "layer norm", channels)
        for j in range(DEPTHS[i]):
            block = f"stages.{i}.{j}"
            if i and not (i == 2 and j % 2):
                shapes[f"{block}.dwconv.lk_origin.weight"] = (dim, 1, 13, 13)
                shapes |= shapes_of(f"{block}.dwconv.origin_bn", "batch norm", dim)
                for width, dilation in ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)):
                    shapes[f"{block}.dwconv.dil_conv_k{width}_{dilation}.weight"] = (dim, 1, width, width)
                    shapes |= shapes_of(f"{block}.dwconv.dil_bn_k{width}_{dilation}", "batch norm", dim)
            else:
                shapes[f"{block}.dwconv.weight"] = (dim, 1, 3, 3)
            shapes |= shapes_of(f"{block}.norm", "batch norm", dim)
            shapes |= shapes_of(f"{block}.se.down", (dim // 4, dim, 1, 1), dim // 4)
            shapes |= shapes_of(f"{block}.se.up", (dim, dim // 4, 1, 1), dim)
            shapes |= shapes_of(f"{block}.pwconv1.1", (4 * dim, dim), 4 * dim)
            shapes |= {f"{block}.act.1.{leaf}": (1, 1, 1, 4 * dim) for leaf in ("gamma", "beta")}
            shapes[f"{block}.pwconv2.0.weight"], shapes[f"{block}.gamma"] = (dim, 4 * dim), (dim,)
            shapes |= shapes_of(f"{block}.pwconv2.2", "batch norm", dim)
    return shapes | shapes_of("norm", "layer norm", DIMS[-1]) | shapes_of("head", (7, DIMS[-1]), 7)


def slak_shapes(wide="LoRA2", tall="LoRA1"):
    """Return the tensors of VITA-Group/SLaK, models/SLaK.py, as its modules name them."""
    shapes = shapes_of("downsample_layers.0.0", (DIMS[0], 3, 4, 4), DIMS[0])
    shapes |= shapes_of("downsample_layers.0.1", "layer norm", DIMS[0])
    for i, (dim, kernel) in enumerate(zip(DIMS, (51, 49, 47, 13), strict=True)):
        if i:
            shapes |= shapes_of(f"downsample_layers.{i}.0", "layer norm", DIMS[i - 1])
            shapes |= shapes_of(f"downsample_layers.{i}.1", (dim, DIMS[i - 1], 2, 2), dim)
        for j in range(DEPTHS[i]):
            block = f"stages.{i}.{j}"
            for part, size in ((tall, (kernel, 5)), (wide, (5, kernel)), ("small_conv", (5, 5))):
                shapes[f"{block}.large_kernel.{part}.conv.weight"] = (dim, 1, *size)
                shapes |= shapes_of(f"{block}.large_kernel.{part}.bn", "batch norm", dim)
            shapes |= shapes_of(f"{block}.norm", "layer norm", dim) | {f"{block}.gamma": (dim,)}
            shapes |= shapes_of(f"{block}.pwconv1", (4 * dim, dim), 4 * dim)
            shapes |= shapes_of(f"{block}.pwconv2", (dim, 4 * dim), dim)
    return shapes | shapes_of("norm", "layer norm", DIMS[-1]) | shapes_of("head", (7, DIMS[-1]), 7)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("unireplknet_tiny", unireplknet_shapes()), ("slak_tiny", slak_shapes()),
     ("slak_tiny", slak_shapes("Decom2", "Decom1"))],
)  # fmt: skip
def test_official_checkpoints_of_the_baselines_load(name, shapes, tmp_path):
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}
    state |= {key: torch.tensor(5) for key in state if key.endswith("num_batches_tracked")}
    torch.save({"model": state}, tmp_path / "official.pth")
    model = timm.create_model(name, checkpoint_path=str(tmp_path / "official.pth"), **SMALL)
    loaded, expected = (
        sorted(t.flatten().tolist() for t in tensors.values()) for tensors in (model.state_dict(), state)
    )
    assert loaded == expected
    block = model.stages[2].blocks[0]
    if name == "slak_tiny":
        tall = next(
            value for key, value in state.items() if key.startswith("stages.2.0.") and key.endswith("1.conv.weight")
        )
        assert torch.equal(block.conv.vertical, tall[:, 0])
    else:
        assert torch.equal(block.conv.branches[4][0].weight, state["stages.2.0.dwconv.dil_conv_k3_4.weight"])
        assert torch.equal(block.conv.branches[0][1].running_var, state["stages.2.0.dwconv.origin_bn.running_var"])
    assert torch.equal(
        block.expand.bias, state[next(k for k in state if k.startswith("stages.2.0.pwconv1") and "bias" in k)]
    )
    assert torch.equal(model.head.fc.weight, state["head.weight"])
    with pytest.raises(ValueError, match=rf"want timm\.create_model\('{name}', checkpoint_path="):
        load_published_checkpoint(state)
