import copy
import math
from typing import Any

import pytest
import timm.optim
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks import SmallNet, loss_of
from timm.utils import ModelEmaV3
from torch import nn

from sw_sparse import Sparsifier, SparsityConfig

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adam with amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.1),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.001, momentum=0.9, centered=True),
    # Steps of one length may lead back to exactly zero; with decay they do not.
    "lion": lambda p: timm.optim.create_optimizer_v2(p, "lion", lr=0.001, weight_decay=0.01),
    "lookahead": lambda p: timm.optim.create_optimizer_v2(p, "lookahead_adamw", lr=0.01),
    "muon": lambda p: timm.optim.create_optimizer_v2(p, "muon", lr=0.01),
}
BIG = ["weights.*", "expand.weight", "project.weight"]
EVERYTHING = st.fixed_dictionaries(
    {
        "sparsity": st.sampled_from([None, 0.1, 0.5, 0.83]),
        "granularity": st.sampled_from(["element", "filter", "shared_filter", "1:2", "2:4"]),
        "align_every": st.sampled_from([1, 3]),
        "distribution": st.sampled_from(["uniform", "erk", "snip"]),
        "initialisation": st.sampled_from(["top", "random"]),
        "importance": st.sampled_from(["magnitude", "gradient", "snip", "movement"]),
        "update": st.sampled_from(["set", "rigl", "static", "gradual"]),
        "schedule": st.sampled_from(["constant", "cosine", "cubic"]),
        "drop_fraction": st.sampled_from([0.0, 0.3, 1.0]),
        "update_every": st.sampled_from([1, 2, 3]),
        "seed": st.integers(0, 5),
    }
)


# After two steps of Lion without decay, the GRN of this one is where it started.
THERE_AND_BACK = {
    "sparsity": 0.83,
    "granularity": "shared_filter",
    "align_every": 1,
    "distribution": "uniform",
    "initialisation": "random",
    "importance": "magnitude",
    "update": "set",
    "schedule": "constant",
    "drop_fraction": 0.0,
    "update_every": 1,
    "seed": 0,
}


def config_of(settings_, steps=12):
    if ":" in settings_["granularity"]:
        # Paths have one input channel, which no group of M fits into.
        settings_ = {**settings_, "sparsity": None}
    return SparsityConfig(**settings_, targets=("weights.*", "expand.*", "project.*"), total_steps=steps)


def check_invariants(sparsifier, optimizer, model, ema=None):
    config = sparsifier.config
    if config.update != "gradual":
        for layer in sparsifier.layers:
            for active in layer.active:
                assert torch.equal(active.sum(1).cpu(), layer.counts)
        total = sum(layer.active[0].numel() for layer in sparsifier.layers)
        assert sum(int(layer.counts.sum()) for layer in sparsifier.layers) == round((1 - config.off) * total)
    state = optimizer.state or optimizer._base_optimizer.state
    for layer in sparsifier.layers:
        for path, (name, weight) in enumerate(layer.weights.items()):
            off = ~layer.granularity.mask(layer.active[path], weight.shape).expand(weight.shape)
            assert not weight[off].any(), name
            for key, value in state.get(weight, {}).items():
                if torch.is_tensor(value) and value.shape == weight.shape:
                    assert not value[off].any(), f"{key} of {name}"
            if ema is not None:
                assert not ema.module.get_parameter(name)[off].any(), f"average of {name}"
    assert model.grn.abs().sum() > 0  # it started at zero and has moved


@settings(max_examples=60, deadline=None)
@given(EVERYTHING, st.sampled_from(sorted(OPTIMIZERS)))
@example(THERE_AND_BACK, "lion")
def test_invariants_hold_after_every_step(chosen, optimizer_name):
    model = SmallNet()
    frozen = model.frozen.weight.clone()
    optimizer = OPTIMIZERS[optimizer_name](p for p in model.parameters() if p.requires_grad)
    ema = ModelEmaV3(model, decay=0.5)
    sparsifier = Sparsifier(model, optimizer, config_of(chosen), loss=loss_of, ema=ema.module)
    for step in range(12):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        before = [[mask.clone() for mask in layer.active] for layer in sparsifier.layers]
        weights = {name: w.clone() for layer in sparsifier.layers for name, w in layer.weights.items()}
        changed = sparsifier.step()
        ema.update(model)
        check_invariants(sparsifier, optimizer, model, ema)
        for layer, masks in zip(sparsifier.layers, before, strict=True):
            for path, (name, weight) in enumerate(layer.weights.items()):
                now, was = (layer.granularity.mask(m, weight.shape) for m in (layer.active[path], masks[path]))
                assert changed or torch.equal(now, was)
                grown = (now & ~was).expand(weight.shape)
                assert not weight[grown].any(), f"{name}: regrown weights start from 0"
                stayed = (now & was & (weight != 0)).expand(weight.shape)
                assert torch.equal(weight[stayed], weights[name][stayed])
                if config_of(chosen).align_every == 1:
                    assert torch.equal(layer.active[path], layer.active[0])
    assert torch.equal(model.frozen.weight, frozen)
    sparsifier.squash()
    check_invariants(sparsifier, optimizer, model, ema)


def sparse(config=None, optimizer="sgd", **kwargs):
    model = SmallNet()
    optimizer = OPTIMIZERS[optimizer](p for p in model.parameters() if p.requires_grad)
    config = config or SparsityConfig(sparsity=0.5, targets=("weights.*", "expand.*"), update_every=2)
    return model, optimizer, Sparsifier(model, optimizer, config, **kwargs)


def train(model, optimizer, sparsifier, steps):
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        sparsifier.step()


def everything(model, optimizer, sparsifier):
    flat, _ = torch.utils._pytree.tree_flatten([model.state_dict(), optimizer.state_dict(), sparsifier.state_dict()])
    return flat


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, y) if torch.is_tensor(x) else x == y for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("update", ["set", "rigl", "gradual"])
@pytest.mark.parametrize("importance", ["magnitude", "movement"])
def test_resumed_training_is_bitwise_equal(tmp_path, update, importance):
    config = SparsityConfig(
        sparsity=0.5, granularity="shared_filter", align_every=2, update=update, importance=importance,
        update_every=2, total_steps=20, schedule="cosine", distribution="snip",
    )  # fmt: skip
    straight = sparse(config, "adamw", loss=loss_of)
    train(*straight, range(20))

    first = sparse(config, "adamw", loss=loss_of)
    train(*first, range(9))
    torch.save([part.state_dict() for part in first], tmp_path / "state.pt")
    second = sparse(config, "adamw", loss=lambda model: loss_of(model, 77))  # another batch, other first masks
    for part, state in zip(second, torch.load(tmp_path / "state.pt", weights_only=True), strict=True):
        part.load_state_dict(state)
    train(*second, range(9, 20))
    assert same(everything(*straight), everything(*second))


def test_masks_are_stored_as_bits():
    _, _, sparsifier = sparse(SparsityConfig(targets="project.weight"))
    (bits,) = sparsifier.state_dict()["active"]["project.weight"]
    assert bits.dtype == torch.uint8
    assert bits.numel() == 16 * 16 // 8


def test_a_state_that_does_not_fit_is_refused_by_name():
    _, _, sparsifier = sparse()
    state = sparsifier.state_dict()
    with pytest.raises(ValueError, match="sparsity is 0.5 in it, and 0.25 here"):
        sparse(SparsityConfig(sparsity=0.25, targets=("weights.*", "expand.*"), update_every=2))[2].load_state_dict(
            state
        )
    moved = copy.deepcopy(state)
    moved["active"]["elsewhere"] = moved["active"].pop("expand.weight")
    with pytest.raises(ValueError, match="the layer e"):
        sparsifier.load_state_dict(moved)
    state["active"]["expand.weight"] = [torch.zeros(3, dtype=torch.uint8)]
    with pytest.raises(ValueError, match=r"mask of expand\.weight has 3 bytes for 192 units"):
        sparsifier.load_state_dict(state)


def test_global_random_numbers_are_left_alone():
    before = torch.get_rng_state()
    train(*sparse(SparsityConfig(update_every=1, initialisation="random", distribution="snip"), loss=loss_of), range(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_snip_needs_a_loss_and_leaves_the_model_as_it_was():
    with pytest.raises(ValueError, match="loss: distribution='snip'"):
        sparse(SparsityConfig(distribution="snip"))
    model, _, _ = sparse(SparsityConfig(sparsity=0.0, distribution="snip"), loss=loss_of)
    assert all(p.grad is None for p in model.parameters())
    assert same(list(model.state_dict().values()), list(SmallNet().state_dict().values()))


def test_a_step_the_optimizer_did_not_take_does_not_count():
    _, _, sparsifier = sparse()
    assert sparsifier.step() is False
    assert sparsifier.steps == 0


@pytest.mark.parametrize("optimizer", ["sgd", "fused"])
def test_steps_skipped_by_a_gradient_scaler_do_not_count(optimizer):
    model, optimizer, sparsifier = sparse(SparsityConfig(update="rigl", update_every=1), optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    counted = []
    for step in range(4):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, step)
        scaler.scale(loss).backward()
        if step == 1:
            model.head.weight.grad[0, 0] = math.inf
        scaler.step(optimizer)
        scaler.update()
        sparsifier.step()
        check_zero(sparsifier)
        counted.append(sparsifier.steps)
    assert counted == [1, 1, 2, 3]


def check_zero(sparsifier):
    for layer in sparsifier.layers:
        for weight, off in zip(layer.parameters, layer.off(), strict=True):
            assert not weight[off.expand(weight.shape)].any()


def test_gradient_accumulation_grows_by_the_sum_of_the_gradients():
    config = SparsityConfig(sparsity=0.5, targets="expand.weight", update="rigl", update_every=1, drop_fraction=0.5)
    halves, whole = sparse(config), sparse(config)
    for model, _, _ in (halves, whole):
        model.norm.eval()  # batch statistics would tell the halves apart
    (loss_of(halves[0], 0) / 2).backward()
    (loss_of(halves[0], 1) / 2).backward()
    ((loss_of(whole[0], 0) + loss_of(whole[0], 1)) / 2).backward()
    for _, optimizer, sparsifier in (halves, whole):
        optimizer.step()
        assert sparsifier.step()
    assert torch.equal(halves[2].layers[0].active[0], whole[2].layers[0].active[0])


def test_rigl_grows_where_the_dense_gradient_is_largest():
    config = SparsityConfig(sparsity=0.5, targets="expand.weight", update="rigl", update_every=1, drop_fraction=0.25)
    model, optimizer, sparsifier = sparse(config)
    before = sparsifier.layers[0].active[0].clone()
    loss_of(model).backward()
    dense = model.expand.weight.grad.clone().flatten().abs()
    sparsifier.mask_gradients()  # as before clipping: the dense gradient must survive it
    assert not model.expand.weight.grad.flatten()[~before[0]].any()
    optimizer.step()
    sparsifier.step()
    grown = sparsifier.layers[0].active[0][0] & ~before[0]
    outside = ~before[0] & ~grown
    assert grown.sum() == 24
    assert dense[grown].min() >= dense[outside].max()


def test_clipping_counts_only_what_is_on():
    model, optimizer, sparsifier = sparse()
    loss_of(model).backward()
    off = {id(w): o for layer in sparsifier.layers for w, o in zip(layer.parameters, layer.off(), strict=True)}
    gradients = [p.grad.masked_fill(off[id(p)], 0) if id(p) in off else p.grad for p in model.parameters()
                 if p.grad is not None]  # fmt: skip
    expected = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    sparsifier.mask_gradients()
    torch.testing.assert_close(nn.utils.clip_grad_norm_(model.parameters(), 0.01), expected)
    optimizer.step()
    sparsifier.step()
    check_zero(sparsifier)


def test_compiled_models_follow_the_masks():
    model, optimizer, sparsifier = sparse(SparsityConfig(sparsity=0.5, targets="expand.*", update_every=1))
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    train(compiled, optimizer, sparsifier, range(4))
    torch.testing.assert_close(loss_of(compiled.eval(), 9), loss_of(model.eval(), 9))
    check_zero(sparsifier)


def test_a_compiled_model_can_be_given():
    model: Any = torch.compile(SmallNet(), backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = Sparsifier(
        model, optimizer, SparsityConfig(targets="expand.weight", distribution="snip"), loss=loss_of
    )
    assert sparsifier.layers[0].name == "expand.weight"


def test_the_mask_of_sparse_weights_can_be_kept():
    model, optimizer, sparsifier = sparse(SparsityConfig(sparsity=0.7, targets=("weights.*", "expand.*")))
    train(model, optimizer, sparsifier, range(3))
    sparsifier.squash()
    again = Sparsifier(
        model, optimizer, SparsityConfig(targets=("weights.*", "expand.*"), initialisation="nonzero", update="static")
    )
    zeros = {name: w == 0 for layer in again.layers for name, w in layer.weights.items()}
    train(model, optimizer, again, range(3, 8))
    assert all(torch.equal(w == 0, zeros[n]) for layer in again.layers for n, w in layer.weights.items())
    assert again.densities() == pytest.approx(sparsifier.densities(), abs=0.02)


def test_gradual_ends_at_the_density_asked():
    config = SparsityConfig(sparsity=0.75, targets="expand.*", update="gradual", schedule="cubic",
                            update_every=3, total_steps=10)  # fmt: skip
    model, optimizer, sparsifier = sparse(config)
    seen = [sparsifier.densities()["expand.weight"]]
    for step in range(12):
        train(model, optimizer, sparsifier, [step])
        seen.append(sparsifier.densities()["expand.weight"])
    assert seen[0] == 1
    assert seen[-1] == 0.25
    assert seen == sorted(seen, reverse=True)


def test_exploration_counts_every_unit_that_was_ever_on():
    model, optimizer, sparsifier = sparse(SparsityConfig(sparsity=0.5, targets="expand.*", update_every=1))
    ever = sparsifier.layers[0].active[0].clone()
    for step in range(6):
        train(model, optimizer, sparsifier, [step])
        ever |= sparsifier.layers[0].active[0]
    assert sparsifier.exploration_rates()["expand.weight"] == pytest.approx(float(ever.float().mean()))
    assert ever.float().mean() > 0.5


def test_paths_go_their_own_ways_between_alignments():
    config = SparsityConfig(
        sparsity=0.5, targets="weights.*", granularity="shared_filter", align_every=2, update_every=1
    )
    model, optimizer, sparsifier = sparse(config)
    (layer,) = sparsifier.layers
    apart = []
    for step in range(6):
        train(model, optimizer, sparsifier, [step])
        apart.append(not torch.equal(*layer.active))
        assert [int(mask.sum()) for mask in layer.active] == [6, 6]
    assert apart == [True, False] * 3


def test_after_squash_the_optimizer_is_free_and_steps_are_refused():
    _, optimizer, sparsifier = sparse()
    sparsifier.squash()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    with pytest.raises(RuntimeError, match="squashed"):
        sparsifier.step()


def test_an_average_of_another_model_is_refused():
    with pytest.raises(ValueError, match=r"ema: it has no parameter weights\.0"):
        sparse(ema=nn.Linear(2, 2))


def test_wrapped_optimizers_are_found():
    class Wrapper(torch.optim.SGD):  # as accelerate and Fabric wrap, without ever running hooks of their own
        def __init__(self, optimizer):
            self.optimizer = optimizer

    model = SmallNet()
    inner = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    sparsifier = Sparsifier(model, Wrapper(inner), SparsityConfig(targets="expand.*"))
    loss_of(model).backward()
    inner.step()
    sparsifier.step()
    assert sparsifier.steps == 1


def test_published_mode_is_right_on_average_and_keeps_moments():
    config = SparsityConfig(
        sparsity=0.4, targets=("weights.*", "expand.*"), granularity="shared_filter", distribution="snip",
        update_every=5, published=True,
    )  # fmt: skip
    model, optimizer, sparsifier = sparse(config, "adamw", loss=loss_of)
    counts = []
    for step in range(31):
        train(model, optimizer, sparsifier, [step])
        check_zero(sparsifier)
        counts.append(sum(int(layer.active[0].sum()) for layer in sparsifier.layers))
    assert len(set(counts)) > 1  # ours would stay at one value
    layer = next(layer for layer in sparsifier.layers if layer.density() < 1)
    moments = optimizer.state[layer.parameters[0]]["exp_avg"]
    assert moments[layer.off()[0].expand(moments.shape)].any()
