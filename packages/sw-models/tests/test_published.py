import argparse

import pytest
import timm
import torch
from safetensors.torch import save_file

from sw_models import NormedFeatures, load_published_checkpoint


@pytest.fixture
def state(golden):
    return golden("D_model_v2")[0]


def merged(state):
    """Sum the paths, as the published code does before it exports."""
    out = {k: v for k, v in state.items() if ".LoRAs." not in k}
    for key in state:
        if key.endswith(".LoRAs.0.weight"):
            out[key.replace("LoRAs.0", "LoRA")] = state[key] + state[key.replace("LoRAs.0", "LoRAs.1")]
    return out


def for_dense_prediction(state):
    """Give the checkpoint the form in which detectors and segmenters save it."""
    out = {k: v for k, v in state.items() if not k.startswith(("norm.", "head."))}
    for i, dim in enumerate((16, 32, 64, 128)):
        out |= {f"norm{i}.weight": torch.rand(dim), f"norm{i}.bias": torch.rand(dim)}
    return out


def with_prefix(state, prefix):
    return {prefix + k: v for k, v in state.items()}


@pytest.mark.parametrize(
    "form",
    [
        lambda s: s,
        merged,
        lambda s: {"model": s, "epoch": 3},
        lambda s: {"state_dict": with_prefix(s, "module."), "meta": {}},
        lambda s: with_prefix(s, "backbone."),
        lambda s: {"state_dict": with_prefix(s, "module.backbone.") | {"module.neck.weight": torch.ones(1)}},
    ],
    ids=["bare", "merged", "model", "state_dict-module", "backbone", "detector"],
)
@torch.no_grad()
def test_every_published_form_is_read(form, golden, relative_error):
    state, expected = golden("D_model_v2")
    model = load_published_checkpoint(form(state))
    assert relative_error(model(expected["input"]), expected["logits"]) < 1e-5
    assert not model.training


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@torch.no_grad()
def test_files_are_read(name, tmp_path, golden, relative_error):
    state, expected = golden("D_model_v2")
    if name.endswith(".pth"):
        torch.save({"model": state, "args": argparse.Namespace(lr=4e-3), "epoch": 299}, tmp_path / name)
    else:
        save_file(state, tmp_path / name)
    model = load_published_checkpoint(tmp_path / name)
    assert relative_error(model(expected["input"]), expected["logits"]) < 1e-5


@torch.no_grad()
def test_checkpoints_with_stage_norms_become_feature_models(golden, relative_error):
    state, expected = golden("D_model_v2")
    dense = for_dense_prediction(state)
    model = load_published_checkpoint({"state_dict": with_prefix(dense, "backbone.")})
    assert isinstance(model, NormedFeatures)
    for i, actual in enumerate(model(expected["input"])):
        stage_map = expected[f"stage{i}"].permute(0, 2, 3, 1)
        normed = torch.nn.functional.layer_norm(
            stage_map, stage_map.shape[-1:], dense[f"norm{i}.weight"], dense[f"norm{i}.bias"], 1e-6
        )
        assert relative_error(actual, normed.permute(0, 3, 1, 2)) < 1e-5


@pytest.mark.parametrize("name", ["v2_tiny", "v2_small", "v1_tiny", "v1_small", "v2_tiny_mvtec"])
def test_full_size_key_lists_are_read_completely(name, published_keys):
    name = f"ShiftWise_{name}"
    kernel_sizes = (51, 49, 45, 13) if name.endswith("mvtec") else (51, 49, 47, 13)
    with torch.device("meta"):
        model = load_published_checkpoint(zeros(published_keys["keys"][name]), kernel_sizes)
    assert sum(p.numel() for p in model.parameters()) == published_keys["counts"][name]["n_params"]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_merged_key_lists_are_read_completely(version, published_keys):
    name = f"ShiftWise_{version}_tiny"
    with torch.device("meta"):
        state = merged(zeros(published_keys["keys"][name]))
        model = load_published_checkpoint(state)
    assert set(state) == set(published_keys["merged"][f"{name}__merged"])
    assert sum(p.numel() for p in model.parameters()) == published_keys["counts"][name]["n_params_after_merge"]


@pytest.mark.parametrize(("name", "third"), [("swtiny", 47), ("swtiny_pp", 45)])
def test_encoders_of_the_published_unets_are_read(name, third, published_keys):
    with torch.device("meta"):
        model = load_published_checkpoint(zeros(published_keys["keys"][f"anomaly/{name}"]), (51, 49, third, 13))
    assert isinstance(model.get_classifier(), torch.nn.Identity)
    assert model.num_features == 640


def zeros(key_list):
    return {key: torch.zeros(shape, dtype=getattr(torch, dtype)) for key, (shape, dtype) in key_list.items()}


def test_stored_index_tables_are_accepted_if_they_are_the_regenerated_ones(state):
    layer = load_published_checkpoint(state).stages[0].blocks[0].conv
    pad_hv, idx_identit = layer.table.to_published()
    prefix = "stages.0.0.large_kernel."
    tables = {prefix + "pad_hv": pad_hv, prefix + "idx_identit1": idx_identit, prefix + "ghost": layer.ghost_channels}
    load_published_checkpoint(state | tables)
    with pytest.raises(ValueError, match=r"stages\.0\.0\.large_kernel\.pad_hv.* is not the published table"):
        load_published_checkpoint(state | tables | {prefix + "pad_hv": pad_hv.flip(0)})


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda s: s, {"kernel_sizes": (51, 49, 41, 13)}, "kernel_sizes: 41 in stage 2 makes 14 slots"),
        (lambda s: s, {"kernel_sizes": (51, 49)}, "kernel_sizes: got 2 values, want 4"),
        (lambda s: s, {"small_kernel": 5}, "small_kernel: got 5, but 'stages.0.0.large_kernel.LoRAs.0.weight' has"),
        (lambda s: {k: v for k, v in s.items() if "stages.2.0." not in k}, {}, r"lacks stages\.2\.0"),
        (lambda s: {k: v for k, v in s.items() if k != "norm.bias"}, {}, r"lacks head\.norm\.bias"),
        (lambda s: s | {"stages.1.0.se.mid.weight": s["norm.bias"]}, {}, "'stages.1.0.se.mid.weight' is no key"),
        (lambda s: s | {"head.weight": s["head.weight"].T}, {}, "'head.bias' has shape"),
        (lambda s: {"conv1.weight": s["norm.bias"]}, {}, "'conv1.weight' is no key of a published"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(change, arguments, message, state):
    with pytest.raises(ValueError, match=message) as raised:
        load_published_checkpoint(change(state), **arguments)
    assert "\n" not in str(raised.value)


def test_timm_loads_published_checkpoints_by_itself(state, golden, tmp_path, relative_error):
    torch.save(state, tmp_path / "published.pth")
    shape = {"depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128), "num_classes": 10}
    cfg = {"file": str(tmp_path / "published.pth"), "num_classes": 10}
    model = timm.create_model("shiftwise_tiny", pretrained=True, pretrained_cfg_overlay=cfg, **shape).eval()
    expected = golden("D_model_v2")[1]
    with torch.no_grad():
        assert relative_error(model(expected["input"]), expected["logits"]) < 1e-5
