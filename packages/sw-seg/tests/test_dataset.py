import numpy as np
import pytest

from sw_seg.task import TASK
from sw_sparse.openmmlab.config import load_config

from conftest import SMALL


@pytest.mark.parametrize("name", ["upernet_nano", "upernet_nano_shapes", "upernet_small", "upernet_tiny"])
def test_every_configuration_can_be_adapted_to_a_folder(ade_folder, name):
    cfg = load_config(TASK, name, data=ade_folder)
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 2
    splits = [cfg[f"{part}_dataloader"].dataset.split for part in ("train", "val", "test")]
    assert splits == ["training", "validation", "validation"]


def test_labels_arrive_as_class_indices_with_255_for_none(ade_folder):
    cfg = load_config(TASK, "upernet_nano_shapes", SMALL, ade_folder)
    from mmengine.registry import init_default_scope
    from mmseg.registry import DATASETS

    init_default_scope("mmseg")
    cfg.val_dataloader.dataset.pipeline.insert(-1, {"type": "Resize", "scale": (64, 48)})
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    labels = dataset[0]["data_samples"].gt_sem_seg.data[0].numpy()
    assert dataset.metainfo["classes"] == ["class 1", "class 2"]
    assert (labels[:8, :8] == 255).all()
    assert (labels[8:, :32] == 0).all()
    assert (labels[:, 32:] == 1).all()
    assert np.isin(labels, (0, 1, 255)).all()
