import pytest
import torch

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from sw_models.errors import InputError
from sw_sparse.openmmlab import settings
from sw_sparse.openmmlab.config import load_config


@pytest.fixture
def cfg(task):
    return load_config(task, "toy")


def test_every_run_gets_what_a_run_needs_and_keeps_what_it_asked_for(cfg):
    cfg.custom_hooks = [{"type": "CurvesHook"}, {"type": "EMAHook"}]
    cfg = settings.settle(cfg)
    assert [hook["type"] for hook in cfg.custom_hooks] == ["EMAHook"]  # curves are drawn in every run
    assert cfg.default_hooks.checkpoint.backend_args == {"backend": "atomic_local"}
    assert cfg.default_hooks.checkpoint.interval == 2
    assert {backend["type"] for backend in cfg.visualizer.vis_backends} == {"LocalVisBackend", "TensorboardVisBackend"}
    assert cfg.auto_scale_lr == {"base_batch_size": 2, "enable": True}
    assert cfg.launcher == "none"


def test_sparsity_is_kept_or_made(cfg):
    settings.use_sparsity(cfg, "keep")
    assert cfg.custom_hooks == [{"type": "SparsifierHook"}]
    settings.use_sparsity(cfg, "0.5")
    assert cfg.custom_hooks[1].sparsity == 0.5


@pytest.mark.parametrize("sparse", ["1.5", "0", "kept"])
def test_other_words_for_sparsity_are_refused(cfg, sparse):
    with pytest.raises(InputError, match="want 'keep' or a share"):
        settings.use_sparsity(cfg, sparse)


def test_mixed_precision_is_chosen_by_the_device(cfg, monkeypatch):
    settings.use_mixed_precision(cfg)
    assert cfg.optim_wrapper.type == "BFloat16OptimWrapper"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    settings.use_mixed_precision(cfg)
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"


def test_a_backbone_checkpoint_must_exist(cfg, tmp_path):
    with pytest.raises(InputError, match="no file"):
        settings.use_pretrained(cfg, tmp_path / "absent.pth")


def test_augmented_tests_need_a_configuration_that_has_some(cfg):
    with pytest.raises(InputError, match="no tta_pipeline"):
        settings.use_augmented_tests(cfg)
    cfg.tta_pipeline, cfg.tta_model = [{"type": "TestTimeAug"}], {"type": "Averaging"}
    settings.use_augmented_tests(cfg)
    assert cfg.model.type == "Averaging"
    assert cfg.model.module.type == "ToyModel"
    assert cfg.test_dataloader.dataset.pipeline == [{"type": "TestTimeAug"}]
