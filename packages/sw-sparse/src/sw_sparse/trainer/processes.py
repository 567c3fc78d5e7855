"""Continuing a run on another number of processes."""

from __future__ import annotations

import dataclasses

from sw_models.errors import InputError
from sw_sparse.trainer.recipe import Recipe


def keep_global_batch(recipe: Recipe, images_per_step: int, world: int) -> Recipe:
    """Return the recipe with ``batch_size`` and ``accumulate`` such that a step takes as many images as before.

    Args:
        recipe: as the user gave it.
        images_per_step: of all processes together, when the run started.
        world: number of processes now.

    Raises:
        InputError: where the images cannot be shared out.
    """
    share, rest = divmod(images_per_step, world)
    passes = range(-(-share // recipe.batch_size), share + 1) if share and not rest else ()
    for accumulate in passes:
        batch_size, rest = divmod(share, accumulate)
        if not rest and not (recipe.mixes and batch_size % 2):
            return dataclasses.replace(recipe, batch_size=batch_size, accumulate=accumulate)
    raise InputError(
        f"processes: a step of this run takes {images_per_step} images, which {world} processes cannot share equally"
    )
