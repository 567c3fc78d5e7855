import pytest
import torch

mmengine = pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from sw_models.openmmlab import ShiftwiseBackbone  # noqa: E402

TINY = {"depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128)}


def build(**kwargs):
    return mmengine.registry.MODELS.build({"type": "ShiftwiseBackbone", "model": "shiftwise_tiny", **TINY, **kwargs})


def test_is_built_from_a_configuration():
    model = build(out_indices=[1, 3])
    assert isinstance(model, ShiftwiseBackbone)
    assert [m.shape[1] for m in model(torch.randn(1, 3, 64, 64))] == [32, 128]


def test_frozen_stages_stay_frozen_in_training():
    model = build(frozen_stages=1).train()
    frozen = (model.backbone.stem, model.backbone.stages[0])
    assert not any(m.training for part in frozen for m in part.modules())
    assert not any(p.requires_grad for part in frozen for p in part.parameters())
    assert model.backbone.stages[1].training


def test_batch_norms_become_synchronised():
    kinds = {type(m) for m in build(sync_bn=True).modules()}
    assert torch.nn.SyncBatchNorm in kinds
    assert torch.nn.BatchNorm2d not in kinds


def test_a_published_checkpoint_is_loaded(golden, tmp_path, relative_error):
    state, expected = golden("D_model_v2")
    torch.save({"model": state}, tmp_path / "c.pth")
    model = build(pretrained=str(tmp_path / "c.pth")).eval()
    with torch.no_grad():
        maps = model.backbone.forward_intermediates(expected["input"], intermediates_only=True)
    assert relative_error(maps[3], expected["stage3"]) < 1e-5


def test_a_published_checkpoint_of_another_depth_is_refused(golden, tmp_path):
    torch.save(golden("D_model_v2")[0], tmp_path / "c.pth")
    with pytest.raises(ValueError, match=r"lacks stages\.2\.blocks\.2"):
        build(pretrained=str(tmp_path / "c.pth"), depths=(1, 1, 3, 1))


def test_a_checkpoint_of_this_package_is_loaded_without_what_is_around_the_backbone(tmp_path):
    segmenter = {f"backbone.{key}": value for key, value in build().state_dict().items()}
    torch.save({"state_dict": segmenter | {"decode_head.weight": torch.ones(1)}}, tmp_path / "c.pth")
    model = build(pretrained=str(tmp_path / "c.pth"))
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, segmenter[f"backbone.backbone.{key}"])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"depths": (1, 1, 3, 1)}, r"has stages\.2\.blocks\.2, which the model lacks"),
        ({"depths": (1, 1, 1, 1)}, r"lacks stages\.2\.blocks\.1, which the model has"),
        ({"dims": (8, 32, 64, 128)}, r"of shape .* wants"),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused_with_what_differs(tmp_path, other, message):
    torch.save(build(**other).state_dict(), tmp_path / "c.pth")
    with pytest.raises(ValueError, match=message):
        build(pretrained=str(tmp_path / "c.pth"))


def test_gradient_checkpointing_changes_memory_and_not_results():
    torch.manual_seed(0)
    model = build().train()
    images = torch.randn(2, 3, 64, 64)
    gradients = []
    for enabled in (False, True):
        model.backbone.set_grad_checkpointing(enabled)
        model.zero_grad()
        sum(m.square().mean() for m in model(images)).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))
    assert build(grad_checkpointing=True).backbone.stages[0].grad_checkpointing
