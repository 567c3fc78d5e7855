"""The published engine's decisions, against what it decided (golden data)."""

import math

import pytest
import torch
import torch.nn.functional as F

from sw_sparse import Sparsifier, SparsityConfig
from sw_sparse.published import bernoulli_mask, grow, prune, snip_sparsities
from sw_sparse.scores import snip

FIRST_PATH, SECOND_PATH = "LoRAs.0.weight", "LoRAs.1.weight"


@pytest.fixture(scope="module")
def names(golden):
    return [name for name in golden.json["lora_names"] if name.endswith(FIRST_PATH)]


def scores_of(golden, names, state):
    """SNIP score of every filter, ``[filters, paths]``, from the stored gradients."""
    paths = {n: (n, n.replace(FIRST_PATH, SECOND_PATH)) for n in names}
    return {
        name: torch.stack([snip(state[p], golden.tensors[f"grad/{p}"]).mean((1, 2, 3)) for p in both], dim=1)
        for name, both in paths.items()
    }


def test_snip_scores_and_layer_sparsities(golden, names, published_state):
    scores = scores_of(golden, names, published_state)
    for name in names:
        torch.testing.assert_close(scores[name], golden.tensors[f"snip_score/{name}"], rtol=1e-6, atol=0)
    expected = golden.json["snip"]
    assert snip_sparsities(scores, 0.7) == pytest.approx(expected["keep0.7_cat_rep_only_L_True"], abs=1e-12)
    first_path_only = {name: score[:, 0] for name, score in scores.items()}
    assert snip_sparsities(first_path_only, 0.7) == pytest.approx(expected["keep0.7_sum_rep_only_L_True"], abs=1e-12)


def test_first_masks(golden, names):
    generator = torch.Generator().manual_seed(501)
    for name in names:
        sparsity = golden.json["snip"]["keep0.7_cat_rep_only_L_True"][name]
        expected = golden.tensors[f"init_mask/{name}"].flatten().bool()
        assert torch.equal(bernoulli_mask(len(expected), sparsity, generator), expected)


@pytest.mark.parametrize(("round_", "seed", "aligned"), [("S1_aligned", 601, True), ("S2_unaligned", 602, False)])
def test_a_round_of_pruning_and_growing(golden, round_, seed, aligned):
    order = golden.json["prune_grow"][round_]["growth_order"]
    pruned, removed = {}, {}
    for name in order:
        mask = golden.tensors[f"{round_}/mask_before/{name}"].flatten().bool()
        paths = [name, name.replace(FIRST_PATH, SECOND_PATH)] if aligned else [name]
        magnitude = sum(golden.tensors[f"{round_}/weight_before/{p}"].abs().flatten(1).sum(1) for p in paths)
        pruned[name] = prune(mask, magnitude, 0.3)
        removed[name] = int(mask.sum() - pruned[name].sum())
        expected = golden.tensors[f"{round_}/mask_after_prune/{name}"].flatten().bool()
        assert torch.equal(pruned[name], expected)
    generator = torch.Generator().manual_seed(seed)
    for name in order:
        expected = golden.tensors[f"{round_}/mask_after_grow/{name}"].flatten().bool()
        assert torch.equal(grow(pruned[name], removed[name], generator), expected)


def test_nothing_to_remove_takes_the_mask_from_the_weights():
    assert prune(torch.tensor([True, True]), torch.tensor([0.0, 1.0]), 0.0).tolist() == [False, True]


def test_a_filter_that_another_path_holds_may_cost_one_more():
    mask = torch.tensor([True, True, True, False])
    magnitude = torch.tensor([1.0, 2.0, 3.0, 9.0])  # the last one is alive in another path
    pruned = prune(mask, magnitude, 0.3)
    assert int(mask.sum() - pruned.sum()) == 2 > math.ceil(0.3 * 3)


def test_growth_into_a_full_mask_changes_nothing():
    full = torch.ones(3, dtype=torch.bool)
    assert torch.equal(grow(full, 0, torch.Generator()), full)


def test_the_whole_start_on_the_published_model(golden, published_state):
    from sw_models import load_published_checkpoint

    model = load_published_checkpoint(published_state).train()
    config = SparsityConfig(
        sparsity=0.3, targets="*.conv.weights.*", granularity="shared_filter", distribution="snip", seed=501,
        published=True,
    )  # fmt: skip
    sparsifier = Sparsifier(
        model,
        torch.optim.AdamW(model.parameters()),
        config,
        loss=lambda net: F.cross_entropy(net(golden.tensors["images"]), golden.tensors["labels"]),
    )
    ours = [mask[0] for layer in sparsifier.layers for mask in layer.active]
    published = [golden.tensors[f"init_mask/{name}"].flatten().bool() for name in golden.json["lora_names"]]
    assert all(torch.equal(a, b) for a, b in zip(ours, published, strict=True))
