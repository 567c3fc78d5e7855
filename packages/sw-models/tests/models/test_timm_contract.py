"""The checks of timm's own tests/test_models.py, under their names.

What depends on a model's size is checked for every registered model, on the meta device; what depends on its code
alone, for one narrow model of each architecture.
"""

import copy
import importlib
import pickle

import pytest
import timm
import torch
from timm.models import create_model, get_notrace_functions, get_notrace_modules
from timm.optim import create_optimizer_v2
from timm.utils import reparameterize_model
from torch.utils._python_dispatch import TorchDispatchMode

MODULES = ("shiftwise", "shiftwise_v1", "shiftwise_coordatt", "slak", "unireplknet")
MODELS = [name for module in MODULES for name in timm.list_models(module=module)]
NARROW = {"depths": (1, 1, 2, 1), "dims": (8, 16, 32, 64)}

ARCHITECTURES = ("shiftwise_tiny", "shiftwise_v1_tiny", "shiftwise_tiny_coordatt", "slak_tiny", "unireplknet_tiny")

every_model = pytest.mark.parametrize("model_name", MODELS)
every_architecture = pytest.mark.parametrize("model_name", ARCHITECTURES)
every_scripted = pytest.mark.parametrize("model_name", [*ARCHITECTURES, "shiftwise_pico", "shiftwise_nano"])


def images(size=64, batch=1, channels=3, **kwargs):
    return torch.randn(batch, channels, size, size, **kwargs)


def test_every_model_is_registered():
    expected = {f"shiftwise_{size}" for size in ("pico", "nano", "tiny", "small", "base", "large", "tiny_coordatt")}
    expected |= {f"shiftwise_v1_{size}" for size in ("tiny", "small", "base", "large")}
    expected |= {f"{baseline}_{size}" for baseline in ("unireplknet", "slak") for size in ("tiny", "small")}
    assert set(MODELS) == expected


@every_architecture
def test_model_forward(model_name):
    model = create_model(model_name, **NARROW).eval()
    outputs = model(images())
    assert outputs.shape == (1, 1000)
    assert not torch.isnan(outputs).any()


@every_architecture
def test_model_backward(model_name):
    model = create_model(model_name, num_classes=42, **NARROW).train()
    outputs = model(images(batch=2))
    assert outputs.shape[-1] == 42
    outputs.mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"no gradient for {name}"
    assert not torch.isnan(outputs).any()


@pytest.fixture
def shapes_only():
    """Compute shapes alone, so that the largest models cost nothing."""
    with torch.device("meta"):
        yield


@every_model
@pytest.mark.usefixtures("shapes_only")
def test_model_default_cfgs(model_name):
    model = create_model(model_name).eval()
    state_dict = model.state_dict()
    cfg = model.default_cfg
    assert cfg["license"] == "apache-2.0"
    inputs = torch.randn(1, *cfg["input_size"])
    features = model.forward_features(inputs)
    assert features.shape[-2:] == cfg["pool_size"]
    assert model.forward_head(features, pre_logits=True).shape == (1, model.head_hidden_size)
    assert isinstance(model.get_classifier(), torch.nn.Linear)

    model.reset_classifier(0)
    assert model(inputs).shape == (1, model.num_features)
    model.reset_classifier(0, "")
    assert model(inputs).shape == (1, model.num_features, *cfg["pool_size"])
    model.reset_classifier(5, "avg")
    assert model(inputs).shape == (1, 5)
    for name in (cfg["classifier"], cfg["first_conv"]):
        assert f"{name}.weight" in state_dict


@every_architecture
@pytest.mark.parametrize("in_chans", [1, 4])
def test_model_load_pretrained(model_name, in_chans, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(create_model(model_name, **NARROW).state_dict(), file)
    overlay = {"file": str(file)}
    model = create_model(
        model_name, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=in_chans, num_classes=5, **NARROW
    )
    assert model.eval()(images(channels=in_chans)).shape == (1, 5)


@every_architecture
def test_headless_checkpoint_reload(model_name):
    model, reloaded = (create_model(model_name, num_classes=0, **NARROW).eval() for _ in range(2))
    filter_fn = importlib.import_module(type(model).__module__).checkpoint_filter_fn
    reloaded.load_state_dict(filter_fn(dict(sorted(model.state_dict().items())), reloaded))
    inputs = images()
    with torch.no_grad():
        torch.testing.assert_close(reloaded(inputs), model(inputs), rtol=0, atol=0)


def poisoned(model_name, dtype=None):
    """Return a model in memory that no constructor has written."""
    model = create_model(model_name, num_classes=5, device="meta", dtype=dtype, **NARROW).to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.fill_(float("nan") if tensor.is_floating_point() else 99)
    return model


@every_architecture
def test_model_init_weights_after_to_empty(model_name):
    torch.manual_seed(0)
    model = poisoned(model_name, torch.float64).eval()
    model.init_weights()
    constructed = create_model(model_name, num_classes=5, dtype=torch.float64, **NARROW)
    for (name, tensor), other in zip(model.state_dict().items(), constructed.state_dict().values(), strict=True):
        if torch.is_floating_point(tensor) and other.std() > 0:  # drawn
            assert tensor.isfinite().all(), name
            assert 0.5 < tensor.std() / other.std() < 2, name
        else:
            torch.testing.assert_close(tensor, other, msg=lambda text, name=name: f"{name}: {text}")
    assert model(images(dtype=torch.float64)).isfinite().all()


@every_architecture
def test_every_module_resets_the_parameters_that_are_its_own(model_name):
    model = poisoned(model_name)
    for name, module in model.named_modules():  # as FSDP does, one by one
        if own := [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            module.reset_parameters()
            assert all(tensor.isfinite().all() for tensor in own), name
    assert model.eval()(images()).isfinite().all()


@every_architecture
def test_weights_in_16_bits_start_with_the_standard_deviation_of_those_in_32(model_name):
    def deviation(dtype):
        weights = create_model(model_name, dtype=dtype, **NARROW | {"dims": (64, 64, 64, 64)}).parameters()
        return torch.cat([w.detach().float().flatten() for w in weights if w.ndim > 1]).std().item()

    assert deviation(torch.bfloat16) == pytest.approx(deviation(torch.float32), rel=0.05)
    assert deviation(torch.bfloat16) < 0.05


@every_architecture
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_model_trace(model_name):
    model = create_model(model_name, **NARROW).eval()
    inputs = images()
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.trace(model, inputs)(inputs), model(inputs))


@every_scripted
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_model_forward_torchscript(model_name, tmp_path):
    inputs = images()
    for model in deep(model_name):
        torch.jit.script(model).save(tmp_path / "scripted.pt")
        with torch.no_grad():
            torch.testing.assert_close(torch.jit.load(tmp_path / "scripted.pt")(inputs), model(inputs))


@every_scripted
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_model_forward_fx_torchscript(model_name):
    tracer = {
        "leaf_modules": get_notrace_modules(),
        "autowrap_functions": get_notrace_functions(),
        "param_shapes_constant": True,
    }
    inputs = images()
    for model in deep(model_name):
        scripted = torch.jit.script(whole_graph(model, tracer))
        with torch.inference_mode():
            torch.testing.assert_close(scripted(inputs)["out"], model(inputs))


@every_architecture
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_model_scripted_for_training_has_the_gradients_of_the_model(model_name):
    model = create_model(model_name, layer_scale_init=0.5, **NARROW).train()
    scripted, inputs = torch.jit.script(copy.deepcopy(model)), images(batch=2)
    scripted(inputs).square().sum().backward()
    model(inputs).square().sum().backward()
    gradients = dict(scripted.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name].grad, parameter.grad, rtol=1e-3, atol=1e-4)


@every_architecture
def test_features_are_extracted_without_naming_leaf_modules(model_name):
    feature_extraction = pytest.importorskip("torchvision.models.feature_extraction")
    inputs = images()
    for model in deep(model_name):
        with torch.no_grad():
            extracted = feature_extraction.create_feature_extractor(model, ["stages.1", "head"])(inputs)
            stage = model.stages[1](model.stages[0](model.stem(inputs)))
            torch.testing.assert_close(extracted["stages.1"], stage)
            torch.testing.assert_close(extracted["head"], model(inputs))


@every_architecture
@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 3), (2,), (-1,)])
def test_model_forward_features(model_name, out_indices):
    model = create_model(model_name, features_only=True, out_indices=out_indices, **NARROW).eval()
    channels, reduction = model.feature_info.channels(), model.feature_info.reduction()
    outputs = model(images(96))
    assert [o.shape[1] for o in outputs] == channels
    assert [96 // o.shape[2] for o in outputs] == reduction
    assert not any(torch.isnan(o).any() for o in outputs)


@every_architecture
def test_model_forward_intermediates_features(model_name):
    model = create_model(model_name, features_only=True, feature_cls="getter", **NARROW).eval()
    outputs = model(images(96))
    assert [o.shape[1] for o in outputs] == model.feature_info.channels()


@every_architecture
def test_model_forward_intermediates(model_name):
    model = create_model(model_name, **NARROW).eval()
    inputs = images(96)
    channels = [info["num_chs"] for info in model.feature_info]
    final, maps = model.forward_intermediates(inputs)
    assert [m.shape[1] for m in maps] == channels
    torch.testing.assert_close(final, model.forward_features(inputs))
    last_two = model.forward_intermediates(inputs, indices=2, intermediates_only=True)
    torch.testing.assert_close(last_two, maps[2:])
    early, first = model.forward_intermediates(inputs, indices=[0], stop_early=True)
    torch.testing.assert_close((early, first[0]), (maps[0], maps[0]))
    with pytest.raises(ValueError, match="output_fmt: got 'NLC'"):
        model.forward_intermediates(inputs, output_fmt="NLC")


@every_architecture
def test_model_prune_intermediate_layers(model_name):
    model = create_model(model_name, **NARROW).eval()
    assert model.prune_intermediate_layers([1]) == [1]
    assert model(images()).shape == (1, 16, 8, 8)


def whole_graph(model, tracer):
    """Return a model as one graph, which gives its output as "out"."""
    feature_extraction = pytest.importorskip("torchvision.models.feature_extraction")
    names, _ = feature_extraction.get_graph_node_names(model, tracer_kwargs=tracer)
    return feature_extraction.create_feature_extractor(model, {names[-1]: "out"}, tracer_kwargs=tracer)


@every_architecture
def test_model_forward_fx(model_name):
    model = create_model(model_name, **NARROW).eval()
    tracer = {"leaf_modules": get_notrace_modules(), "autowrap_functions": get_notrace_functions()}
    traced = whole_graph(model, tracer)
    inputs = images()
    torch.testing.assert_close(traced(inputs)["out"], model(inputs))


@every_architecture
def test_model_grad_checkpointing(model_name):
    torch.manual_seed(0)
    model = create_model(model_name, **NARROW).train()
    inputs = images(batch=2)
    expected = torch.autograd.grad(model(inputs).square().sum(), model.stem[0].weight)
    model.set_grad_checkpointing()
    torch.testing.assert_close(torch.autograd.grad(model(inputs).square().sum(), model.stem[0].weight), expected)


@every_model
def test_model_layer_decay(model_name):
    model = create_model(model_name, device="meta")
    groups = create_optimizer_v2(model, opt="adamw", lr=1.0, layer_decay=0.5, weight_decay=0.05).param_groups
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    scale = {id(p): g["lr_scale"] for g in groups for p in g["params"]}
    depth = sum(len(stage.blocks) for stage in model.stages)
    assert scale[id(model.head.fc.weight)] == 1.0
    assert scale[id(model.stem[0].weight)] == min(scale.values()) == 0.5 ** (depth + 1)
    for stage in model.stages:
        of_blocks = [scale[id(block.expand.weight)] for block in stage.blocks]
        assert of_blocks == sorted(set(of_blocks))
    coarse = model.group_matcher(coarse=True)
    assert set(coarse) == {"stem", "blocks"}


@every_model
def test_model_device_dtype(model_name):
    model = create_model(model_name, device="meta", dtype=torch.bfloat16, **NARROW)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {p.device.type for p in model.parameters()} == {"meta"}
    half = model(torch.randn(1, 3, 64, 64, device="meta", dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16


@every_architecture
def test_model_reparameterize(model_name):
    torch.manual_seed(0)
    model = create_model(model_name, **NARROW).double().eval()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and "weights" not in name and tensor.ndim == 1:
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    inputs = images(dtype=torch.float64)
    deployed = reparameterize_model(model)
    with torch.no_grad():
        torch.testing.assert_close(deployed(inputs), model(inputs), rtol=1e-10, atol=1e-10)
    features = create_model(model_name, features_only=True, **NARROW).double().eval()
    with torch.no_grad():
        torch.testing.assert_close(reparameterize_model(features)(inputs), features(inputs), rtol=1e-10, atol=1e-10)


def deep(model_name):
    """Return a model in which the layers within the residuals count, and its deployed form."""
    torch.manual_seed(0)
    model = create_model(model_name, layer_scale_init=0.5, **NARROW).eval()
    return model, reparameterize_model(model)


def group_norm_has_tangents():
    """Torch 2.6 and 2.7 have none where channels are last."""
    x = torch.ones(2, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    try:
        torch.func.jvp(torch.nn.GroupNorm(1, 4), (x,), (x,))
    except RuntimeError:
        return False
    return True


@every_architecture
@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("grad", [False, True])
def test_model_under_transforms(model_name, grad):
    if "coordatt" in model_name and not group_norm_has_tangents():
        pytest.skip("this torch has no tangents of group_norm on channels-last maps")
    inputs = images(32, batch=2)
    for model in deep(model_name):
        model.double()
        with torch.set_grad_enabled(grad):
            expected = model(inputs.double())
            mapped = torch.func.vmap(lambda image, net=model: net(image[None])[0])(inputs.double())
            torch.testing.assert_close(mapped, expected)
            step = torch.ones_like(inputs, dtype=torch.float64)
            _, tangent = torch.func.jvp(model, (inputs.double(),), (step,))
            difference = (model(inputs + 1e-5 * step) - model(inputs - 1e-5 * step)) / 2e-5
            torch.testing.assert_close(tangent, difference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model_name", [name for name in ARCHITECTURES if not name.startswith("unirep")])
def test_exact_layers_stay_exact_in_the_deployed_form(model_name):
    model = create_model(model_name, small_kernel=3, kernel_sizes=(13, 13, 13, 3), **NARROW).eval()
    for layer in model.modules():
        if hasattr(layer, "exact"):
            layer.exact = True
    for network in (model, reparameterize_model(model)):
        asked = []
        with torch.no_grad(), Watch(asked):
            network(images())
        assert len(asked) == sum(NARROW["depths"])
        assert all(asked)


class Watch(TorchDispatchMode):
    """Notes for each call of the operator whether it was asked to be exact."""

    def __init__(self, asked):
        super().__init__()
        self.asked = asked

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "stripe_conv2d" in str(function):
            self.asked.append((*args[5:], *(kwargs or {}).values()) == (True,))
        return function(*args, **(kwargs or {}))


@every_architecture
def test_model_copies(model_name):
    model = create_model(model_name, **NARROW).eval()
    inputs = images()
    with torch.no_grad():
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            torch.testing.assert_close(twin(inputs), model(inputs), rtol=0, atol=0)


@every_architecture
def test_model_compiles_without_graph_breaks(model_name):
    model = create_model(model_name, **NARROW).eval()
    inputs = images()
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(inputs), model(inputs), rtol=1e-4, atol=1e-5)


@every_architecture
def test_model_drop_rates(model_name):
    model = create_model(model_name, drop_rate=0.1, drop_path_rate=0.3, **NARROW)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in model.stages for block in stage.blocks]
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.3, 5))
    assert model.head.drop.p == 0.1


@every_model
@pytest.mark.parametrize("output_stride", [8, 16])
def test_model_output_stride_is_refused(model_name, output_stride):
    with pytest.raises(ValueError, match=f"output_stride: got {output_stride}, want 32"):
        create_model(model_name, output_stride=output_stride, device="meta")
