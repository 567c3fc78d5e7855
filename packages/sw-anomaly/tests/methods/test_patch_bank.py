"""The patch bank: exactly the distance to the nearest good patch near the place, within its memory."""

import numpy as np
import pytest
import torch

from sw_anomaly.methods import base
from sw_anomaly.methods import patch_bank as bank
from sw_anomaly.methods.patch_bank import PatchBank


@pytest.fixture
def views():
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (48, 40, 3))
    return np.clip(scene + rng.normal(0, 4, (5, 48, 40, 3)), 0, 255).astype(np.uint8)


def components(view, filters):
    """Of each second patch, with the image reflected beyond its border: [H, W, K]."""
    padded = np.pad(view.astype(np.float64) / 255, ((8, 8), (8, 8), (0, 0)), mode="reflect")
    weights = filters.numpy().transpose(0, 2, 3, 1)
    return np.array(
        [[(weights * padded[r : r + 17, c : c + 17]).sum((1, 2, 3)) for c in range(0, 40, 2)] for r in range(0, 48, 2)]
    )


def test_heat_is_the_distance_to_the_nearest_good_patch_near_the_place(views, monkeypatch):
    monkeypatch.setattr(bank, "TILE", 1)  # larger ones look a little farther
    monkeypatch.setattr(bank, "COMPARED", 1)
    monkeypatch.setattr(base, "smooth_map", lambda maps, size: maps)
    fitted = PatchBank.fit(views[:3], 48, seed=0)
    good = np.stack([components(view, fitted.filters) for view in views[:3]])
    seen = components(views[4], fitted.filters)
    expected = np.empty(seen.shape[:2])
    for row, column in np.ndindex(expected.shape):
        near = good[:, max(row - 4, 0) : row + 5, max(column - 1, 0) : column + 2].reshape(-1, bank.COMPONENTS)
        expected[row, column] = np.linalg.norm(near - seen[row, column], axis=1).min()
    full = torch.nn.functional.interpolate(
        torch.from_numpy(expected)[None, None], scale_factor=2, mode="bilinear", align_corners=False
    )
    heat = fitted.inspect(views[4]).map
    assert heat.dtype == np.float32
    np.testing.assert_allclose(heat, full[0, 0].numpy(), atol=5e-3)


def test_larger_tiles_look_farther_but_never_find_less(views, monkeypatch):
    fitted = PatchBank.fit(views[:3], 48, seed=0)
    wide = fitted.inspect(views[4]).map
    monkeypatch.setattr(bank, "TILE", 1)
    assert (wide <= PatchBank.fit(views[:3], 48, seed=0).inspect(views[4]).map + 1e-4).all()


def test_what_is_odd_is_hot_and_what_was_seen_is_cold(views):
    fitted = PatchBank.fit(views, 48, seed=0)
    odd = views[0].copy()
    odd[20:30, 10:20] = 255
    heat = fitted.inspect(odd).map
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (row, column) == pytest.approx((25, 15), abs=5)
    assert fitted.inspect(views[0]).map.max() < 0.1 * heat.max()


def test_a_view_left_out_is_judged_as_if_it_had_not_been_seen(views):
    fitted = PatchBank.fit(views, 48, seed=0)
    patches = fitted.patches[fitted.origins != 3]
    others = PatchBank(fitted.filters, patches, 48)
    with fitted.leaving_out(3):
        held_out = fitted.inspect(views[3]).map
    np.testing.assert_allclose(held_out, others.inspect(views[3]).map, rtol=1e-4, atol=1e-4)
    assert fitted.inspect(views[3]).map.max() < 0.1 * held_out.max()


def test_the_bank_keeps_within_its_memory(views, monkeypatch):
    one = 24 * 20 * bank.COMPONENTS * 2
    monkeypatch.setattr(bank, "MEMORY", 3 * one + 1)
    assert PatchBank.fit(views, 48, seed=0).patches.numel() * 2 == 3 * one
    monkeypatch.setattr(bank, "MEMORY", 0)
    assert len(PatchBank.fit(views, 48, seed=0).patches) == 1


def test_odd_sizes_and_loading(views):
    fitted = PatchBank.fit(views[:, :47, :39], 48, seed=0)
    heat = fitted.inspect(views[4, :47, :39]).map
    assert heat.shape == (47, 39)
    np.testing.assert_array_equal(
        PatchBank.from_state(fitted.state(), "none", 48).inspect(views[4, :47, :39]).map, heat
    )


def test_what_is_forgotten_is_as_if_it_had_not_been_seen(views):
    fitted = PatchBank.fit(views, 48, seed=0)
    seen = fitted.inspect(views[2])
    fitted.forget([2])
    with fitted.leaving_out(None):
        np.testing.assert_array_equal(
            fitted.inspect(views[1]).map, PatchBank.fit(views, 48, seed=0).inspect(views[1]).map
        )
    assert fitted.inspect(views[2]).score > 2 * seen.score
    assert len(fitted.state()["patches"]) == 4
    restored = PatchBank.from_state(fitted.state(), "none", 48)
    np.testing.assert_array_equal(restored.inspect(views[2]).map, fitted.inspect(views[2]).map)
