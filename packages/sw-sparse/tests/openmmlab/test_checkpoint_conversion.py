import pytest
import torch

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from mmengine.logging import HistoryBuffer

from sw_models import load_published_checkpoint
from sw_models.errors import InputError
from sw_sparse.openmmlab.checkpoint import convert_foreign, load_model
from sw_sparse.openmmlab.config import load_config


@pytest.fixture
def cfg(task):
    return load_config(task, "toy")


def test_objects_around_the_weights_stay_behind(cfg, tmp_path):
    state = load_model(cfg).state_dict()
    torch.save({"state_dict": state, "message_hub": {"loss": HistoryBuffer([1.0], [1])}}, tmp_path / "old.pth")
    convert_foreign(tmp_path / "old.pth", tmp_path / "new.pth", cfg)
    for name in ("old.pth", "new.pth"):
        loaded = load_model(cfg, tmp_path / name).state_dict()
        assert all(torch.equal(state[key], loaded[key]) for key in state)
    assert torch.load(tmp_path / "new.pth", weights_only=True).keys() == {"state_dict", "meta"}


def test_a_published_backbone_gets_this_projects_names(task, published_state, tmp_path):
    dims = (16, 32, 64, 128)
    norms = {f"norm{i}.{key}": torch.full((dim,), 2.0) for i, dim in enumerate(dims) for key in ("weight", "bias")}
    inside = {key: value for key, value in published_state.items() if not key.startswith(("norm.", "head."))} | norms
    around = {"head.weight": torch.ones(1, 32), "head.bias": torch.ones(1)}
    torch.save({"state_dict": {f"backbone.{k}": v for k, v in inside.items()} | around}, tmp_path / "old.pth")
    cfg = load_config(task, "toy", ["model.backbone.depths=(1, 1, 2, 1)", f"model.backbone.dims={dims}"])
    convert_foreign(tmp_path / "old.pth", tmp_path / "new.pth", cfg)
    model = load_model(cfg, tmp_path / "new.pth")
    reference, images = load_published_checkpoint(published_state), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps, expected = (net.forward_intermediates(images)[1] for net in (model.backbone.backbone, reference))
    assert torch.equal(maps[3], expected[3])
    assert torch.equal(model.backbone.norms["2"].bias, torch.full((64,), 2.0))


def test_another_model_is_refused_and_nothing_written(cfg, tmp_path):
    torch.save({"state_dict": {"weight": torch.ones(1)}}, tmp_path / "old.pth")
    with pytest.raises(InputError, match="is of another model"):
        convert_foreign(tmp_path / "old.pth", tmp_path / "new.pth", cfg)
    assert not (tmp_path / "new.pth").exists()
