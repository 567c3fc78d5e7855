"""Augmentation moves image and mask together and draws from its own generator only."""

import torch

from sw_anomaly.methods.unet.augment import augment


def generator(seed):
    return torch.Generator().manual_seed(seed)


def marked(batch=16, size=48):
    """Dark images with a bright, off-centre rectangle that is also their mask."""
    masks = torch.zeros(batch, 1, size, size)
    masks[:, :, 10:20, 24:40] = 1
    return 0.2 + 0.6 * masks.expand(-1, 3, -1, -1).contiguous(), masks


def overlap(one, other):
    return torch.minimum(one, other).sum((1, 2, 3)) / torch.maximum(one, other).sum((1, 2, 3))


def test_the_mask_follows_the_image():
    images, masks = marked()
    moved, _, moved_masks = augment(images, images, masks, generator(0))
    bright = (moved.mean(dim=1, keepdim=True) > 0.5).float()
    assert overlap(bright, moved_masks).min() > 0.9
    assert len({tuple(mask.flatten().tolist()) for mask in moved_masks}) > 8


def test_the_reference_lies_beside_the_image_but_not_far():
    images, masks = marked()
    _, references, moved_masks = augment(images, images, masks, generator(0))
    common = overlap((references.mean(dim=1, keepdim=True) > 0.5).float(), moved_masks)
    assert common.min() > 0.4
    assert common.median() < 0.95


def test_values_and_shapes_stay_in_bounds():
    images, masks = marked(4, 32)
    moved, references, moved_masks = augment(images, images, masks, generator(1))
    assert moved.shape == references.shape == images.shape
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert set(moved_masks.unique().tolist()) <= {0.0, 1.0}


def test_half_of_the_masks_keep_their_pixels():
    images, masks = marked(64, 32)
    _, _, moved_masks = augment(images, images, masks, generator(2))

    def turns(mask):
        return [torch.rot90(side, turn, (1, 2)) for side in (mask, mask.flip(2)) for turn in range(4)]

    kept = [any(map(moved.equal, turns(mask))) for mask, moved in zip(masks, moved_masks, strict=True)]
    assert 16 < sum(kept) < 48


def test_equal_generators_give_equal_batches_and_the_global_one_is_left_alone():
    images, masks = marked(4, 32)
    state = torch.get_rng_state()
    one, other = (augment(images, images, masks, generator(3)) for _ in range(2))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_aligned_views_keep_their_pose_and_need_not_be_square():
    images, masks = marked(32, 96)
    images, masks = images[..., :48], masks[..., :48]
    moved, references, moved_masks = augment(images, images, masks, generator(4), aligned=True)
    assert overlap(moved_masks, masks).min() > 0.6
    assert overlap((references.mean(dim=1, keepdim=True) > 0.5).float(), masks).min() > 0.5
    assert overlap((moved.mean(dim=1, keepdim=True) > 0.5).float(), moved_masks).min() > 0.9


def test_turning_a_view_that_is_not_square_does_not_shear_it():
    from sw_anomaly.methods.unet.augment import _move

    image = torch.zeros(1, 1, 200, 100)
    image[:, :, 60:140, 45:55] = 1
    moved = _move(image, torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([[torch.pi / 2, 0, 0, 0]]))
    rows, columns = torch.nonzero(moved[0, 0, 60:140] > 0.5).T  # beyond these rows the image is reflected
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (10, 80)
