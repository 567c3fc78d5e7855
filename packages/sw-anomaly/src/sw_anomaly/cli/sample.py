"""``sw-anomaly sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw_anomaly.cli.common import app, progress_bars


@app.command()
def sample(folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")]) -> None:
    """Write the embedded SYNTHETIC sample, to look at or to use as --data."""
    from sw_anomaly.sample.write import write_sample

    with progress_bars() as progress:
        write_sample(folder, progress=progress)
    print(f"SYNTHETIC sample: {folder}")
