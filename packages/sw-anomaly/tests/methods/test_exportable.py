"""What is exported of a method says of a view what the method says."""

import numpy as np
import pytest
import torch

from sw_anomaly.methods.correction import Correction
from sw_anomaly.methods.patch_bank import PatchBank
from sw_anomaly.methods.patchcore import PatchCore, create_backbone
from sw_anomaly.methods.unet.method import IN_CHANNELS, UNetMethod
from sw_anomaly.methods.unet.networks import create_model


def unet(views):
    model = create_model("swnano", IN_CHANNELS, 0)
    model.head.weight.data *= 120
    return UNetMethod(model, views[0], 64)


def bank(views):
    return PatchBank.fit(views, 64, seed=0)


def patchcore(views):
    return PatchCore.fit(create_backbone("shiftwise_nano", None, 0), views, 64, 0)


@pytest.mark.parametrize("fit", [unet, bank, patchcore])
@pytest.mark.parametrize(("shape", "is_corrected"), [((64, 64), False), ((80, 48), False), ((64, 64), True)])
def test_a_module_says_what_the_method_says(fit, shape, is_corrected):
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (5, *shape, 3), dtype=np.uint8)
    method = fit(views[:4])
    if is_corrected:
        seen = torch.from_numpy(views[4]).permute(2, 0, 1)[None].float()
        places = method.describe(seen)[0].flatten(1).T[::9].detach()
        scale, reach = places.std(), torch.full((len(places),), places.shape[1] ** 0.5)
        method.correction = Correction(places / scale, scale, reach, torch.linspace(-1, 1, len(places)))
        before = fit(views[:4]).inspect(views[4]).map
        assert np.abs(method.inspect(views[4]).map / before - 1).max() > 0.1
    module = method.exportable()
    seen = np.where(rng.random((*shape, 1)) < 0.1, views[4], views[3])  # partly like one that is known
    with torch.no_grad():
        score, heat = module(torch.from_numpy(seen).permute(2, 0, 1)[None].float())
    wanted = method.inspect(seen)
    assert score.item() == pytest.approx(wanted.score, rel=1e-3)
    np.testing.assert_allclose(heat.numpy(), wanted.map, atol=1e-3 * wanted.map.max())
    assert wanted.map.max() > 1.1 * wanted.map.min()
