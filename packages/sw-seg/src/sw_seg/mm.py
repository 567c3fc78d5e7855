"""MMSegmentation's own programs, with this package known: ``python -m sw_seg.mm tools/test.py CONFIG WEIGHTS``."""

from sw_models.openmmlab.programs import run_program

if __name__ == "__main__":
    run_program("sw_seg", "MMSegmentation")
