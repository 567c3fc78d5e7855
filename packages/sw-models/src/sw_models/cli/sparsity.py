"""``sw-models sparsity``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from sw_models.cli.common import AsJson, Kernels, Picture, kernels_of
from sw_models.console import print_rows
from sw_models.files import want_new_file
from sw_models.published import load_published_checkpoint


def sparsity(
    checkpoint: Path, kernel_sizes: Kernels = "51,49,47,13", picture: Picture = None, as_json: AsJson = False
) -> None:
    """Show which share of the small kernels of a published checkpoint is zero, by layer, path and slot."""
    from sw_models.analysis.sparsity import kernel_sparsity

    with Console(stderr=True).status("reading"):
        if picture:
            want_new_file("--picture", picture)
        layers = kernel_sparsity(load_published_checkpoint(checkpoint, kernels_of(kernel_sizes)))
    if picture:
        from sw_models.analysis.plots import draw_sparsity

        draw_sparsity(layers, picture)
    rows = [
        {"layer": x.name, **{f"path {i}": round(s, 4) for i, s in enumerate(x.per_path)}, "all": round(x.merged, 4)}
        for x in layers
    ]
    print_rows(rows, as_json, "share of zero kernels")
